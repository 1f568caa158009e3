/* The files of a DiffCopy call that are under way: from the client, from a sibling's fetch, or from the store. */
#include "gateway/broker/diffcopy_private.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

/* Larger packets than fsutil's own 32 KiB: each costs the daemon a turn of its one receiving loop. */
#define PLAY_BYTES (128u << 10)

static void transfer_claim(struct transfer *transfer);

static struct entry *transfer_entry(const struct transfer *transfer)
{
	return diffcopy_entry(transfer->diffcopy, transfer->id);
}

/* ---- the end of a transfer ---- */

static void transfer_release(struct transfer *transfer)
{
	struct diffcopy *diffcopy = transfer->diffcopy;

	diffcopy->naming -= transfer->state == TRANSFER_NAMING;
	if (diffcopy->passing == transfer)
		diffcopy->passing = NULL;        /* the calls end: no more parts come */
	stat_claim_end(&transfer->claim);
	ingest_file_abandon(&transfer->file);
	playback_stop(&transfer->playback);
	list_remove(&transfer->link);
	*transfer = (struct transfer){ .diffcopy = diffcopy, .state = TRANSFER_FREE };
	list_insert_before(diffcopy->free.next, &transfer->link);        /* its memory is the warmest */
}

static void transfer_done(struct transfer *transfer)
{
	struct diffcopy *diffcopy = transfer->diffcopy;

	transfer_entry(transfer)->state = ENTRY_DELIVERED;
	transfer_release(transfer);
	if (diffcopy->daemon_closed)
		diffcopy_join(diffcopy);
	else
		transfers_start(diffcopy);
}

/* ---- to the daemon ---- */

static void transfer_send(struct transfer *transfer, const struct span *parts, size_t count, size_t content)
{
	struct diffcopy *diffcopy = transfer->diffcopy;
	bool first = transfer->state == TRANSFER_PLAYING || packet_queue_empty(&diffcopy->waiting);

	if (first && call_send_parts(&diffcopy->daemon, parts, count) != CALL_FULL)
		return;
	transfer->queued = diffcopy->content_queued += content;
	if (packet_queue_push_content(&diffcopy->waiting, parts, count, content) < 0)
		diffcopy_fail(diffcopy, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
}

static void transfer_deliver(struct transfer *transfer, struct span data)
{
	struct diffcopy *diffcopy = transfer->diffcopy;
	uint8_t head[FSUTIL_HEAD_BYTES_MAX];
	struct span parts[2] = { span_make(head, fsutil_write_data_head(head, transfer->id, data.size)), data };

	transfer_send(transfer, parts, 2, data.size);
	transfer->delivered += data.size;
	diffcopy->service->counters.bytes_to_executor += data.size;
	diffcopy->session->totals.bytes_to_executor += data.size;
}

static void transfer_deliver_end(struct transfer *transfer)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];
	struct span part = span_make(packet, fsutil_write_data_end(packet, transfer->id));

	transfer_send(transfer, &part, 1, 0);
}

/* ---- from the store ---- */

static void transfer_play(struct transfer *transfer, const struct content_name *name)
{
	transfer->state = TRANSFER_PLAYING;
	transfer->diffcopy->service->counters.files_played++;
	playback_start(transfer->diffcopy->playbacks, &transfer->playback, name, transfer->delivered);
}

/* The store does not have it after all. Then the client has to send it, if it has not yet. */
static void transfer_unplayable(struct transfer *transfer)
{
	struct diffcopy *diffcopy = transfer->diffcopy;

	playback_stop(&transfer->playback);
	list_remove(&transfer->link);
	stat_table_forget(diffcopy->table, &transfer_entry(transfer)->key);
	if (transfer->requested)
		diffcopy_fail(diffcopy, GRPC_UNAVAILABLE, "the gateway's store lost a file of the context: start the build again");
	else
		transfer_claim(transfer);
}

static void playback_on_ready(struct playback *playback, int result)
{
	struct transfer *transfer = container_of(playback, struct transfer, playback);

	if (result != STORE_OK) {
		transfer_unplayable(transfer);
		return;
	}
	list_append(&transfer->diffcopy->plays, &transfer->link);
	diffcopy_pump(transfer->diffcopy);
}

static void playback_on_data(struct playback *playback)
{
	struct transfer *transfer = container_of(playback, struct transfer, playback);

	list_append(&transfer->diffcopy->plays, &transfer->link);
	diffcopy_pump(transfer->diffcopy);
}

static void playback_on_failed(struct playback *playback, int result)
{
	transfer_unplayable(container_of(playback, struct transfer, playback));
}

static const struct playback_events play_events = {
	.on_ready = playback_on_ready, .on_data = playback_on_data, .on_failed = playback_on_failed,
};

/* In the order in which they became ready, each as far as it has data. */
bool transfers_play(struct diffcopy *diffcopy)
{
	struct transfer *transfer;
	struct span data;

	if (list_empty(&diffcopy->plays))
		return false;
	transfer = container_of(diffcopy->plays.next, struct transfer, link);
	if (transfer->queued > diffcopy->content_queued - diffcopy->waiting.content)
		return false;                    /* its beginning still waits */
	data = playback_data(&transfer->playback);
	if (data.size) {
		data.size = data.size < PLAY_BYTES ? data.size : PLAY_BYTES;
		transfer_deliver(transfer, data);
		playback_taken(&transfer->playback, data.size);
		diffcopy->service->counters.bytes_from_store += data.size;
		diffcopy->session->totals.bytes_from_store += data.size;
	} else if (playback_ended(&transfer->playback)) {
		transfer_deliver_end(transfer);
		transfer_done(transfer);
	} else {
		list_remove(&transfer->link);    /* until on_data */
	}
	return true;
}

/* ---- from the client ---- */

static void transfer_fetch(struct transfer *transfer)
{
	struct diffcopy *diffcopy = transfer->diffcopy;
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	transfer->state = TRANSFER_FETCHING;
	transfer->requested = true;
	if (diffcopy->ingest) {
		transfer->storing = true;
		ingest_file_begin(diffcopy->ingest, &transfer->file, transfer_entry(transfer)->size);
	}
	diffcopy->service->counters.files_fetched++;
	diffcopy->session->totals.files_changed += diffcopy->counted;
	diffcopy_ask_client(diffcopy, span_make(packet, fsutil_write_req(packet, transfer->id)));
}

static void transfer_store(struct transfer *transfer, struct span data)
{
	struct diffcopy *diffcopy = transfer->diffcopy;
	size_t taken;

	if (!transfer->storing)
		return;
	taken = ingest_file_write(&transfer->file, data);
	diffcopy->service->counters.copied_bytes_broker += data.size;
	if (taken == data.size)
		return;
	CHECK(!diffcopy->unstored_of);
	buffer_clear(&diffcopy->unstored);
	buffer_put(&diffcopy->unstored, data.data + taken, data.size - taken);
	if (diffcopy->unstored.failed) {
		diffcopy_fail(diffcopy, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
		return;
	}
	diffcopy->unstored_of = transfer;
	diffcopy->held_by_store = true;
	call_hold(&diffcopy->client);
}

/* What the daemon does not take now it can have from the store later, if it gets there. */
static bool transfer_defer(struct transfer *transfer)
{
	struct diffcopy *diffcopy = transfer->diffcopy;

	if (!transfer->storing || transfer->file.result != STORE_OK)
		return false;
	if (!diffcopy->hold) {
		diffcopy->hold = store_hold_create(diffcopy->service->cas->store, &diffcopy->session->scope);
		if (!diffcopy->hold)
			return false;
		ingest_set_hold(diffcopy->ingest, diffcopy->hold);
	}
	transfer->state = TRANSFER_DEFERRED;
	diffcopy->service->counters.files_deferred++;
	return true;
}

static void transfers_go_on(struct diffcopy *diffcopy)
{
	diffcopy->held_by_daemon = false;
	if (!diffcopy->held_by_store)
		call_release(&diffcopy->client);
}

/* How long the daemon has taken nothing, as far as it is to blame: entries are work for it as well. */
static uint64_t diffcopy_waited_ns(const struct diffcopy *diffcopy)
{
	uint64_t waited_ns = ring_now_ns(diffcopy->service->cas->ring) - diffcopy->held_since_ns;
	uint64_t worked_ns = diffcopy->entries_taken * DIFFCOPY_ENTRY_NS;

	return waited_ns > worked_ns ? waited_ns - worked_ns : 0;
}

/* One timer for many short waits: it is not stopped, but looks how long the present one lasts. */
static void diffcopy_on_patience(struct op *op, int32_t res)
{
	struct diffcopy *diffcopy = container_of(op, struct diffcopy, patience);
	struct ring *ring = diffcopy->service->cas->ring;
	uint64_t waited_ns = diffcopy_waited_ns(diffcopy);

	if (diffcopy->daemon_closed) {
		diffcopy_join(diffcopy);
	} else if (diffcopy->held_by_daemon && waited_ns < DIFFCOPY_PATIENCE_NS) {
		ring_timer(ring, op, DIFFCOPY_PATIENCE_NS - waited_ns);
	} else if (diffcopy->held_by_daemon) {
		diffcopy->impatient = true;
		transfers_go_on(diffcopy);
	}
}

/* When patience did not help and nothing can be deferred, the client waits as long as it takes. */
static void transfers_wait(struct diffcopy *diffcopy)
{
	struct ring *ring = diffcopy->service->cas->ring;

	if (diffcopy->held_by_daemon)
		return;
	diffcopy->held_by_daemon = true;
	diffcopy->held_since_ns = ring_now_ns(ring);
	diffcopy->entries_taken = 0;
	call_shut(&diffcopy->client);
	if (diffcopy->impatient || op_in_flight(&diffcopy->patience))
		return;
	diffcopy->patience.fn = diffcopy_on_patience;
	ring_timer(ring, &diffcopy->patience, DIFFCOPY_PATIENCE_NS);
}

/* Whether the daemon gets more of this now; else it has been deferred. */
static bool transfer_may_pass(struct transfer *transfer)
{
	struct diffcopy *diffcopy = transfer->diffcopy;

	if (diffcopy->waiting.content < DIFFCOPY_WAITING_BYTES)
		return true;
	if (diffcopy->impatient && transfer_defer(transfer))
		return false;
	transfers_wait(diffcopy);
	return true;
}

static void transfer_take_in(struct transfer *transfer, struct span data)
{
	struct diffcopy *diffcopy = transfer->diffcopy;

	diffcopy->service->counters.bytes_from_client += data.size;
	diffcopy->session->totals.bytes_from_client += data.size;
	transfer->received += data.size;
	transfer_store(transfer, data);
}

static void transfer_data(struct transfer *transfer, struct span data)
{
	uint64_t known = transfer->received;

	transfer_take_in(transfer, data);
	if (transfer->state != TRANSFER_FETCHING || transfer->received <= transfer->delivered)
		return;
	/* What was played before the store failed is not sent twice. */
	if (known < transfer->delivered) {
		size_t skip = transfer->delivered - known;

		data = span_make(data.data + skip, data.size - skip);
	}
	if (transfer_may_pass(transfer))
		transfer_deliver(transfer, data);
}

static void transfer_complete(struct transfer *transfer)
{
	transfer->complete = true;
	if (transfer->state == TRANSFER_FETCHING) {
		transfer_deliver_end(transfer);
		transfer_entry(transfer)->state = ENTRY_DELIVERED;
		transfer->state = TRANSFER_NAMING;
		transfer->diffcopy->naming++;
	}
	if (transfer->storing)
		ingest_file_end(&transfer->file);
	else
		transfer_done(transfer);
}

/* The one that the client was asked for; NULL: there is none. */
static struct transfer *transfer_asked(struct diffcopy *diffcopy, uint32_t id)
{
	struct transfer *transfer;

	if (id >= diffcopy->entries_count || diffcopy_entry(diffcopy, id)->state != ENTRY_UNDER_WAY)
		return NULL;
	transfer = &diffcopy->transfers[diffcopy_entry(diffcopy, id)->next];
	return transfer->requested && !transfer->complete ? transfer : NULL;
}

/* The head of a packet of so much content goes to the daemon, or where it will have it from. */
static void transfer_begin_packet(struct transfer *transfer, size_t size)
{
	struct diffcopy *diffcopy = transfer->diffcopy;
	uint8_t bytes[FSUTIL_HEAD_BYTES_MAX];
	struct span head = span_make(bytes, fsutil_write_data_head(bytes, transfer->id, size));
	enum call_outcome outcome = CALL_FULL;

	diffcopy->passing_to = PASS_NOWHERE;
	transfer->delivered += size;
	diffcopy->service->counters.bytes_to_executor += size;
	diffcopy->session->totals.bytes_to_executor += size;
	if (packet_queue_empty(&diffcopy->waiting))
		outcome = call_send_begin(&diffcopy->daemon, head.size + size);
	if (outcome == CALL_SENT) {
		diffcopy->passing_to = PASS_TO_DAEMON;
		diffcopy->passing_left = size;
		call_send_more(&diffcopy->daemon, head);
	} else if (outcome == CALL_FULL && packet_queue_begin(&diffcopy->waiting, head.size + size, size) < 0) {
		diffcopy_fail(diffcopy, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	} else if (outcome == CALL_FULL) {
		diffcopy->passing_to = PASS_TO_QUEUE;
		transfer->queued = diffcopy->content_queued += size;
		packet_queue_more(&diffcopy->waiting, head);
	}
}

bool transfer_take_begin(struct diffcopy *diffcopy, uint32_t id, size_t size)
{
	struct transfer *transfer = transfer_asked(diffcopy, id);

	/* What was played of it before the store failed would have to be left out. */
	if (!transfer || diffcopy->daemon_closed || transfer->received < transfer->delivered)
		return false;
	diffcopy->passing = transfer;
	diffcopy->passing_to = PASS_NOWHERE;
	if (transfer->state == TRANSFER_FETCHING && transfer_may_pass(transfer))
		transfer_begin_packet(transfer, size);
	return true;
}

void transfer_take_part(struct diffcopy *diffcopy, struct span part, size_t left)
{
	struct transfer *transfer = diffcopy->passing;

	if (!transfer)
		return;                          /* there was no memory for it, and the calls end */
	transfer_take_in(transfer, part);
	if (diffcopy->passing_to == PASS_TO_DAEMON) {
		diffcopy->passing_left -= part.size;
		call_send_more(&diffcopy->daemon, part);
	} else if (diffcopy->passing_to == PASS_TO_QUEUE) {
		packet_queue_more(&diffcopy->waiting, part);
	}
	if (left)
		return;
	diffcopy->passing = NULL;
	/* What could not be sent in the middle of it may be now. */
	if (!packet_queue_empty(&diffcopy->waiting) || !list_empty(&diffcopy->plays))
		diffcopy_pump(diffcopy);
}

bool transfer_take(struct diffcopy *diffcopy, uint32_t id, struct span data)
{
	struct transfer *transfer = transfer_asked(diffcopy, id);

	if (!transfer)
		return false;
	if (data.size)
		transfer_data(transfer, data);
	else
		transfer_complete(transfer);
	return true;
}

void transfers_resume(struct diffcopy *diffcopy)
{
	struct span packet;

	/* One that is not whole yet is not the daemon's to take. */
	if (diffcopy->waiting.content > DIFFCOPY_WAITING_BYTES / 2 && packet_queue_front(&diffcopy->waiting, &packet))
		return;
	diffcopy->impatient = false;
	if (diffcopy->held_by_daemon)
		transfers_go_on(diffcopy);
}

/* ---- into the store ---- */

/* A file that changed while the client read it has another length than its STAT: its name is nobody else's business. */
static void file_on_named(struct ingest_file *file)
{
	struct transfer *transfer = container_of(file, struct transfer, file);
	struct content_name name = file->name;
	bool stored = file->result == STORE_OK;

	transfer->storing = false;
	if (stored && transfer->received == transfer_entry(transfer)->size)
		stat_claim_named(&transfer->claim, &name);
	else
		stat_claim_end(&transfer->claim);
	if (transfer->state != TRANSFER_DEFERRED)
		transfer_done(transfer);
	else if (stored)
		transfer_play(transfer, &name);
	else
		diffcopy_fail(transfer->diffcopy, GRPC_RESOURCE_EXHAUSTED,
		              "the gateway's store is full, and the executor does not keep up: raise --ceiling");
}

static void ingest_on_room(struct ingest *ingest)
{
	struct diffcopy *diffcopy = ingest_owner(ingest);
	struct buffer *rest = &diffcopy->unstored;
	size_t taken;

	if (!diffcopy->unstored_of)
		return;
	taken = ingest_file_write(&diffcopy->unstored_of->file, buffer_span(rest));
	memmove(rest->data, rest->data + taken, rest->size - taken);
	rest->size -= taken;
	if (rest->size)
		return;
	buffer_fini(rest);
	*rest = buffer_heap(SIZE_MAX);
	diffcopy->unstored_of = NULL;
	diffcopy->held_by_store = false;
	if (!diffcopy->held_by_daemon)
		call_release(&diffcopy->client);
}

static const struct ingest_events store_events = { .on_named = file_on_named, .on_room = ingest_on_room };

/* ---- the beginning ---- */

static void claim_on_named(struct stat_claim *claim, const struct content_name *name)
{
	transfer_play(container_of(claim, struct transfer, claim), name);
}

static void claim_on_lost(struct stat_claim *claim)
{
	transfer_fetch(container_of(claim, struct transfer, claim));
}

static void transfer_claim(struct transfer *transfer)
{
	struct diffcopy *diffcopy = transfer->diffcopy;

	if (!diffcopy->table) {
		transfer_fetch(transfer);
		return;
	}
	transfer->claim = (struct stat_claim){
		.table = diffcopy->table, .key = transfer_entry(transfer)->key, .on_named = claim_on_named, .on_lost = claim_on_lost,
	};
	if (stat_table_claim(&transfer->claim) == STAT_CLAIM_FETCH) {
		transfer_fetch(transfer);
		return;
	}
	transfer->state = TRANSFER_JOINED;
	diffcopy->service->counters.files_joined++;
}

static void transfer_begin(struct transfer *transfer)
{
	struct diffcopy *diffcopy = transfer->diffcopy;
	const struct entry *entry = transfer_entry(transfer);
	struct content_name name;

	if (diffcopy->table && stat_table_find(diffcopy->table, &entry->key, &name) && name.size == entry->size)
		transfer_play(transfer, &name);
	else
		transfer_claim(transfer);
}

static bool transfers_make(struct diffcopy *diffcopy)
{
	diffcopy->transfers = calloc(DIFFCOPY_TRANSFERS_MAX, sizeof(*diffcopy->transfers));
	if (!diffcopy->transfers)
		return false;
	for (size_t i = 0; i < DIFFCOPY_TRANSFERS_MAX; i++) {
		diffcopy->transfers[i].diffcopy = diffcopy;
		list_append(&diffcopy->free, &diffcopy->transfers[i].link);
	}
	return true;
}

void transfers_start(struct diffcopy *diffcopy)
{
	if (diffcopy->table_pending || diffcopy->daemon_closed)
		return;
	if (!diffcopy->transfers && !transfers_make(diffcopy)) {
		diffcopy_fail(diffcopy, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
		return;
	}
	while (diffcopy->asked_first != ENTRY_NONE && !list_empty(&diffcopy->free)) {
		struct transfer *transfer = container_of(list_take(&diffcopy->free), struct transfer, link);
		struct entry *entry = diffcopy_entry(diffcopy, diffcopy->asked_first);

		transfer->id = diffcopy->asked_first;
		diffcopy->asked_first = entry->next;
		entry->state = ENTRY_UNDER_WAY;
		entry->next = (uint32_t)(transfer - diffcopy->transfers);
		transfer_begin(transfer);
	}
}

int transfers_open(struct diffcopy *diffcopy)
{
	struct cas *cas = diffcopy->service->cas;
	const struct scope *scope = &diffcopy->session->scope;

	if (!diffcopy->table)
		return 0;
	diffcopy->unstored = buffer_heap(SIZE_MAX);
	diffcopy->ingest = ingest_create(cas, scope, &store_events, diffcopy);
	diffcopy->playbacks = playbacks_create(cas, scope, &play_events, diffcopy);
	return diffcopy->ingest && diffcopy->playbacks ? 0 : ERR_RAISE(-ENOMEM);
}

/* ---- the end ---- */

void transfers_close(struct diffcopy *diffcopy)
{
	if (diffcopy->table_pending)
		stat_request_cancel(&diffcopy->request);
	diffcopy->table_pending = false;
	for (size_t i = 0; diffcopy->transfers && i < DIFFCOPY_TRANSFERS_MAX; i++) {
		struct transfer *transfer = &diffcopy->transfers[i];

		if (transfer->state != TRANSFER_FREE && transfer->state != TRANSFER_NAMING)
			transfer_release(transfer);
	}
	diffcopy->unstored_of = NULL;
	ring_cancel(diffcopy->service->cas->ring, &diffcopy->patience);
	if (diffcopy->naming)
		ingest_flush(diffcopy->ingest);
}

void transfers_fini(struct diffcopy *diffcopy)
{
	ingest_destroy(diffcopy->ingest);
	playbacks_destroy(diffcopy->playbacks);
	if (diffcopy->hold)
		store_hold_release(diffcopy->hold);
	if (diffcopy->table)
		stat_table_save(diffcopy->table);
	stat_table_unref(diffcopy->table);
	buffer_fini(&diffcopy->unstored);
	free(diffcopy->transfers);
}
