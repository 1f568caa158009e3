/* buildx's call: entries in, and the bytes of the files that were asked for into the store. */
#include "gateway/edge/giver_private.h"

#include <errno.h>
#include <stdio.h>

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/broker/diffcopy_head.h"

#define MESSAGE_BYTES_MAX (4u << 20)             /* fsutil's DATA has 32 KiB, a STAT's xattrs a few */

/* ---- entries ---- */

static void look_up(struct giver *giver, uint32_t number, struct buffer *path)
{
	const struct listing_entry *entry = listing_at(&giver->listing, number);
	struct content_name name = { .digest = digest_empty }, found;
	bool known = entry->size == 0;
	struct stat_entry_key key;

	if (!(entry->flags & LISTING_DATA))
		return;
	if (giver->table) {
		/* Also of an empty one: what its path had before is not known any more then. */
		key = giver_fetch_key(giver, number, path);
		if (stat_table_find(giver->table, &key, &found) && found.size == entry->size) {
			name = found;
			known = true;
		}
	}
	if (known)
		listing_set_content(&giver->listing, number, &name);
	else
		giver_fetch_want(giver, number);
}

static void look_up_all(struct giver *giver)
{
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);

	if (giver->table_pending || giver->formers_pending || giver->state != GIVER_LISTING)
		return;
	while (giver->looked < giver->listing.count)
		look_up(giver, giver->looked++, &path);
	buffer_fini(&path);
	giver_same_step(giver);
	giver_fetch_start(giver);
}

static void take_stat(struct giver *giver, const struct fsutil_packet *packet)
{
	struct fsutil_stat stat;
	int r;

	if (giver->listing.ended) {
		giver_unfit(giver, "the client sent an entry behind the last one");
	} else if (!packet->has_stat) {
		listing_end(&giver->listing);
		look_up_all(giver);
		giver_step(giver);
	} else if (!fsutil_stat_decode(packet->stat, &stat)) {
		giver_unfit(giver, "malformed STAT from the client");
	} else {
		r = listing_add(&giver->listing, &stat);
		giver->service->counters.entries++;
		if (r < 0)
			giver_unfit(giver, r == -EINVAL ? giver->listing.fault : "no memory and no disk for the entries");
		else
			look_up_all(giver);
	}
}

/* ---- bytes ---- */

static void store_data(struct fetch *fetch, struct span data)
{
	struct giver *giver = fetch->giver;
	size_t taken = ingest_file_write(&fetch->file, data);

	if (taken == data.size)
		return;
	CHECK(!giver->unstored_of);
	buffer_clear(&giver->unstored);
	buffer_put(&giver->unstored, data.data + taken, data.size - taken);
	if (giver->unstored.failed) {
		giver_unfit(giver, "the edge is out of memory");
		return;
	}
	giver->unstored_of = fetch;
	giver->held_by_store = true;
	call_hold(&giver->client);
}

static void take_data(struct giver *giver, uint32_t number, struct span data)
{
	struct fetch *fetch = giver_fetch_of(giver, number);

	if (!fetch || !fetch->requested || !fetch->storing) {
		giver_unfit(giver, "the client sent a file that it was not asked for");
		return;
	}
	if (data.size) {
		fetch->received += data.size;
		giver->bytes_read += data.size;
		giver->service->counters.bytes_read += data.size;
		store_data(fetch, data);
		giver_window_check(giver);
		return;
	}
	giver_fetch_came(fetch);
	ingest_file_end(&fetch->file);
}

/* A file that changed while the client read it has another length than its STAT: its name is of what came. */
static void file_on_named(struct ingest_file *file)
{
	struct fetch *fetch = container_of(file, struct fetch, file);
	struct giver *giver = fetch->giver;
	struct content_name name = file->name;

	if (file->result != STORE_OK) {
		stat_claim_end(&fetch->claim);
		giver_unfit(giver, file->result == STORE_FULL || file->result == -ENOSPC ?
		            "the edge's store is full: raise --ceiling" : "the edge could not store a file");
		return;
	}
	giver_bases_named(fetch, &name);
	if (fetch->claim.table && name.size == listing_at(&giver->listing, fetch->number)->size)
		stat_claim_named(&fetch->claim, &name);
	else
		stat_claim_end(&fetch->claim);
	giver_fetch_done(fetch, &name);
}

static void ingest_on_room(struct ingest *ingest)
{
	struct giver *giver = ingest_owner(ingest);
	struct buffer *rest = &giver->unstored;
	size_t taken;

	if (!giver->unstored_of)
		return;
	taken = ingest_file_write(&giver->unstored_of->file, buffer_span(rest));
	memmove(rest->data, rest->data + taken, rest->size - taken);
	rest->size -= taken;
	if (rest->size)
		return;
	giver->unstored_of = NULL;
	giver->held_by_store = false;
	if (!giver->held_by_window)
		call_release(&giver->client);
}

static void ingest_on_put(struct ingest *ingest, const struct store_item *items, struct ingest_file *const *files, size_t count,
                          size_t recipes_first)
{
	struct giver *giver = ingest_owner(ingest);

	for (size_t i = 0; i < count; i++) {
		giver_feed_note(giver, &items[i].digest);
		giver->lot_bytes += items[i].digest.size;
		if (i < recipes_first && files[i])
			giver_bases_put(container_of(files[i], struct fetch, file), &items[i].digest);
		if (i >= recipes_first)
			(void)recipes_add(&giver->recipes, &items[i].digest, items[i].data);     /* read from the store then */
	}
	if (giver->state != GIVER_OVER)
		giver_wake(giver);
}

static void ingest_on_full(struct ingest *ingest)
{
	struct giver *giver = ingest_owner(ingest);

	giver_window_press(giver->service);
}

static const struct ingest_events ingest_events = {
	.on_named = file_on_named, .on_room = ingest_on_room, .on_put = ingest_on_put,
	.on_full = ingest_on_full,
};

/* ---- packets ---- */

static void client_on_message(struct call *call, struct span message)
{
	struct giver *giver = container_of(call, struct giver, client);
	struct fsutil_packet packet;
	char text[CALL_STATUS_TEXT_MAX + 1];

	if (giver->state == GIVER_OVER)
		return;
	if (!fsutil_packet_decode(message, &packet)) {
		giver_unfit(giver, "malformed packet from the client");
		return;
	}
	switch (packet.type) {
	case FSUTIL_STAT:
		take_stat(giver, &packet);
		break;
	case FSUTIL_DATA:
		take_data(giver, packet.id, packet.data);
		break;
	case FSUTIL_ERR:
		snprintf(text, sizeof(text), "the client says: %.*s", (int)(packet.data.size < 400 ? packet.data.size : 400),
		         (const char *)packet.data.data);
		giver_unfit(giver, text);
		break;
	default:                                 /* FIN, behind ours */
		break;
	}
}

static void client_on_writable(struct call *call)
{
	giver_fetch_flush(container_of(call, struct giver, client));
}

static void client_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct giver *giver = container_of(call, struct giver, client);
	char text[CALL_STATUS_TEXT_MAX + 32];

	giver->client_closed = true;
	if (giver->state != GIVER_OVER && !giver_read_done(giver)) {
		snprintf(text, sizeof(text), "the client ended the call: %.*s", (int)message.size, (const char *)message.data);
		if (call->carrier_lost)
			giver_leave(giver, text);
		else
			giver_unfit(giver, text);
	}
	giver_join(giver);
}

static const struct call_events client_events = {
	.on_message = client_on_message, .on_writable = client_on_writable, .on_closed = client_on_closed,
};

/* ---- what others ask ---- */

void giver_read_tables(struct giver *giver)
{
	look_up_all(giver);
	giver_step(giver);
}

bool giver_read_done(const struct giver *giver)
{
	return giver->listing.ended && !giver->table_pending && !giver->formers_pending && giver->looked == giver->listing.count &&
	       giver->wanted_count == 0 && giver->fetching == 0 && giver->listing.unnamed == 0;
}

void giver_read_resume(struct giver *giver)
{
	giver_window_turn(giver);
	giver_fetch_start(giver);
}

void giver_read_close(struct giver *giver)
{
	if (giver->table_pending)
		stat_request_cancel(&giver->request);
	giver->table_pending = false;
	giver_bases_close(giver);
	giver_fetch_close(giver);
	giver->unstored_of = NULL;
	if (!giver->client_closed)
		call_cancel(&giver->client);
}

void giver_read_fini(struct giver *giver)
{
	ingest_destroy(giver->ingest);
	giver_window_fini(giver);
	if (giver->table)
		stat_table_save(giver->table);
	stat_table_unref(giver->table);
	known_put(giver->known);
	buffer_fini(&giver->unstored);
	call_fini(&giver->client);
	giver_fetch_fini(giver);
}

/* ---- the beginning ---- */

static void giver_on_table(struct stat_request *request)
{
	struct giver *giver = container_of(request, struct giver, request);

	giver->table_pending = false;
	giver->table = request->table;
	giver_read_tables(giver);
}

/* Whatever part of the directory is asked for: a path's content is the same in all. */
static void remember(struct giver *giver, const struct diffcopy_head *head, uint32_t uid)
{
	struct giver_service *service = giver->service;
	struct span shared_key = session_shared_key(giver->session);
	struct sha256_stream hash;
	uint8_t key[STAT_KEY_BYTES];

	if (!shared_key.size)
		return;
	sha256_stream_init(&hash);
	sha256_stream_update(&hash, (const uint8_t *)&uid, sizeof(uid));
	stat_key_field(&hash, shared_key);
	stat_key_field(&hash, head->directory);
	sha256_stream_final(&hash, key);
	giver->known = known_get(&service->known, key);
	giver_bases_open(giver, shared_key, head->directory, uid);
	if (service->mtime_distrust || head->always_sent || !session_takes_directory(giver->session, head->directory))
		return;
	giver->table_pending = true;
	giver->request.fn = giver_on_table;
	stat_memory_get(service->memory, &giver->request, key);
}

static int start_call(struct giver *giver, const struct grpc_request *head, struct h2 *client, struct diffcopy_head *read)
{
	int r = diffcopy_head_read(read, head);

	if (r == 0)
		r = call_start(&giver->client, client, DIFFCOPY_PATH, span_text("localhost"), 0, read->metadata,
		               read->metadata_count, MESSAGE_BYTES_MAX, &client_events, giver);
	diffcopy_head_fini(read);
	return r;
}

int giver_read_open(struct giver *giver, const struct grpc_request *head, struct h2 *client, uint32_t uid)
{
	struct giver_service *service = giver->service;
	struct diffcopy_head read = { 0 };
	int r;

	giver->unstored = buffer_heap(SIZE_MAX);
	list_init(&giver->free);
	giver->ingest = ingest_create(service->cas, &service->scope, &ingest_events, giver);
	giver->hold = store_hold_create(service->cas->store, &service->scope);
	r = giver->ingest && giver->hold ? start_call(giver, head, client, &read) : ERR_RAISE(-ENOMEM);
	if (r < 0) {
		ingest_destroy(giver->ingest);
		giver_window_fini(giver);
		return r;
	}
	ingest_set_hold(giver->ingest, giver->hold);
	ingest_set_patience(giver->ingest, GIVER_FULL_NS);
	remember(giver, &read, uid);
	return 0;
}
