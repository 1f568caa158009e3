/*
 * What an upload sends: blobs are chosen in order, read by the source into the message that will carry them, compressed by
 * a helper thread, sent, and remembered until the gateway says that they are stored.
 */
#include "gateway/upload/uploader_private.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/err.h"
#include "proto/pb.h"
#include "proto/zstd_message.h"

#define PACK_HEAD         16             /* room before the blobs for the request's own head */
#define PACK_INLINE_BYTES 65536          /* compressed at once: shorter than waking a thread is worth */
#define PACK_SPARE_LEAST  (1u << 20)
#define PACK_SPARE_BYTES  (PACK_HEAD + UPLOADER_BLOB_HEAD + SLUICE_PACK_BYTES)
#define PACKS             (sizeof(((struct uploader *)0)->packs) / sizeof(struct uploader_pack))

/* Whole packs are used again: new memory of that size is zeroed by the kernel each time. */
static uint8_t *spare_take(struct uploader *uploader)
{
	for (size_t i = 0; i < UPLOADER_PACKS_MAX; i++) {
		uint8_t *spare = uploader->spare[i];

		uploader->spare[i] = NULL;
		if (spare)
			return spare;
	}
	return NULL;
}

static void spare_keep(struct uploader *uploader, uint8_t *bytes)
{
	for (size_t i = 0; i < UPLOADER_PACKS_MAX; i++) {
		if (uploader->spare[i])
			continue;
		uploader->spare[i] = bytes;
		return;
	}
	free(bytes);
}

static bool pack_take_bytes(struct uploader_pack *pack, struct uploader *uploader, size_t size)
{
	pack->bytes_capacity = size > PACK_SPARE_LEAST ? PACK_SPARE_BYTES : size;
	CHECK(size <= PACK_SPARE_BYTES);
	pack->bytes = pack->bytes_capacity == PACK_SPARE_BYTES ? spare_take(uploader) : NULL;
	if (!pack->bytes)
		pack->bytes = malloc(pack->bytes_capacity);
	return pack->bytes != NULL;
}

static void pack_forget_bytes(struct uploader_pack *pack)
{
	if (pack->bytes && pack->bytes_capacity == PACK_SPARE_BYTES)
		spare_keep(pack->uploader, pack->bytes);
	else
		free(pack->bytes);
	pack->bytes = NULL;
	buffer_fini(&pack->deflated);
	buffer_fini(&pack->told);
	buffer_fini(&pack->edits);
	buffer_fini(&pack->hashes);
	pack_forget_bases(pack);
	pack->message = (struct span){ 0 };
}

static void pack_free(struct uploader_pack *pack)
{
	pack_forget_bytes(pack);
	pack->state = PACK_FREE;
}

static bool pack_prepares(const struct uploader_pack *pack)
{
	return pack->state != PACK_FREE && pack->state != PACK_SENT;
}

static unsigned packs_preparing(const struct uploader *uploader)
{
	unsigned count = 0;

	for (size_t i = 0; i < PACKS; i++)
		count += pack_prepares(&uploader->packs[i]);
	return count;
}

static struct uploader_pack *packs_find(struct uploader *uploader, enum pack_state state)
{
	struct uploader_pack *found = NULL;

	for (size_t i = 0; i < PACKS; i++)
		if (uploader->packs[i].state == state && (!found || uploader->packs[i].number < found->number))
			found = &uploader->packs[i];
	return found;
}

static bool packs_busy(const struct uploader *uploader)
{
	for (size_t i = 0; i < PACKS; i++)
		if (uploader->packs[i].state != PACK_FREE)
			return true;
	return false;
}

bool uploader_packs_idle(const struct uploader *uploader)
{
	return uploader->missing_next == uploader->missing.count && !packs_busy(uploader);
}

bool uploader_packs_landed(const struct uploader *uploader)
{
	for (size_t i = 0; i < PACKS; i++)
		if (uploader->packs[i].state == PACK_READING || uploader->packs[i].state == PACK_COMPRESSING)
			return false;
	return true;
}

void uploader_packs_drop(struct uploader *uploader)
{
	uploader->missing.count = uploader->missing_next = 0;
	uploader->missing_bytes = 0;
	uploader->fed.digests.count = uploader->fed.asked;
	for (size_t i = 0; i < PACKS; i++) {
		struct uploader_pack *pack = &uploader->packs[i];

		if (pack->state == PACK_DUE || pack->state == PACK_STALE || pack->state == PACK_UNSIGNED || pack->state == PACK_READY)
			pack_free(pack);
	}
}

void uploader_packs_fini(struct uploader *uploader)
{
	for (size_t i = 0; i < PACKS; i++) {
		pack_forget_bytes(&uploader->packs[i]);
		free(uploader->packs[i].pieces);
	}
	for (size_t i = 0; i < UPLOADER_PACKS_MAX; i++)
		free(uploader->spare[i]);
}

/* ---- choosing ---- */

static bool pack_is_full(size_t count, uint64_t bytes, const struct digest *next)
{
	return count == SLUICE_LIST_MAX || (count && bytes + UPLOADER_BLOB_HEAD + next->size > SLUICE_PACK_BYTES);
}

/* Enough for a whole pack; or there will be no more, or nothing else to wait for. */
static bool pack_is_due(const struct uploader *uploader)
{
	size_t waiting = uploader->missing.count - uploader->missing_next;

	if (waiting == 0)
		return false;
	if (waiting >= SLUICE_LIST_MAX || uploader->missing_bytes >= SLUICE_PACK_BYTES)
		return true;
	if (uploader->state == UPLOADER_SENDING)
		return uploader_list_idle(&uploader->fed);
	return (uploader->state == UPLOADER_FEEDING || uploader->state == UPLOADER_FINISHING) &&
	       uploader_list_idle(&uploader->fed) && !packs_busy(uploader);
}

/* Room for them and their bases. */
static bool pack_reserve(struct uploader_pack *pack, size_t count)
{
	struct uploader_piece *pieces;

	if (count <= pack->pieces_capacity)
		return true;
	pieces = realloc(pack->pieces, count * (1 + UPLOADER_BASES_MAX) * sizeof(*pieces));
	if (!pieces)
		return false;
	pack->pieces = pieces;
	pack->pieces_capacity = count;
	return true;
}

/* Takes as many as fit from the front of what is missing. */
static bool pack_choose(struct uploader *uploader, struct uploader_pack *pack)
{
	const struct digest *missing = uploader->missing.items + uploader->missing_next;
	size_t count = 0, waiting = uploader->missing.count - uploader->missing_next;
	uint64_t bytes = 0;

	for (; count < waiting && !pack_is_full(count, bytes, &missing[count]); count++)
		bytes += UPLOADER_BLOB_HEAD + missing[count].size;
	if (!pack_reserve(pack, count))
		return false;
	for (size_t i = 0; i < count; i++)
		pack->pieces[i] = (struct uploader_piece){ .digest = missing[i] };
	uploader->missing_next += count;
	uploader->missing_bytes -= bytes;
	if (uploader->missing_next == uploader->missing.count)
		uploader->missing.count = uploader->missing_next = 0;
	pack->read.pieces = pack->pieces;
	pack->read.count = count;
	pack->uploader = uploader;
	pack->number = uploader->packs_number++;
	pack->state = PACK_DUE;
	return pack_take_bytes(pack, uploader, PACK_HEAD + bytes) && pack_choose_bases(uploader, pack);
}

/* ---- the message ---- */

/* Appends a blob, but for its bytes: there is only room for them. */
static void pack_place(struct buffer *out, struct uploader_piece *piece)
{
	uint8_t list_storage[48], head_storage[UPLOADER_BLOB_HEAD], tag[PB_VARINT_BYTES_MAX + 1] = { 1 << 3 | PB_BYTES };
	struct buffer list = buffer_over(list_storage, sizeof(list_storage));
	struct buffer head = buffer_over(head_storage, sizeof(head_storage));

	digest_list_put(&list, &piece->digest);
	pb_put_bytes(&head, 1, buffer_span(&list));
	if (piece->digest.size) {
		uint8_t data[PB_VARINT_BYTES_MAX + 1] = { 2 << 3 | PB_BYTES };

		buffer_put(&head, data, (size_t)(pb_varint_write(data + 1, piece->digest.size) - data));
	}
	buffer_put(out, tag, (size_t)(pb_varint_write(tag + 1, head.size + piece->digest.size) - tag));
	buffer_put(out, head.data, head.size);
	piece->buffer = out->data + out->size;
	out->size += piece->digest.size;
	CHECK(!out->failed && out->size <= out->capacity);
}

static void pack_lay_out(struct uploader_pack *pack)
{
	struct buffer blobs = buffer_over(pack->bytes + PACK_HEAD, 0);
	uint8_t tag[PB_VARINT_BYTES_MAX + 1] = { 3 << 3 | PB_BYTES };
	size_t head;

	for (size_t i = 0; i < pack->read.count; i++)
		blobs.capacity += UPLOADER_BLOB_HEAD + pack->pieces[i].digest.size;
	for (size_t i = 0; i < pack->read.count; i++)
		pack_place(&blobs, &pack->pieces[i]);
	head = (size_t)(pb_varint_write(tag + 1, blobs.size) - tag);
	memcpy(blobs.data - head, tag, head);
	pack->message = span_make(blobs.data - head, blobs.size + head);
}

/* ---- compressing ---- */

static int32_t pack_deflate(struct op *op)
{
	struct uploader_pack *pack = container_of(op, struct uploader_pack, work);

	if (pack->read.bases_count)
		pack_tell(pack);
	if (pack->level == 0)
		return 0;
	pack->deflated = buffer_heap(2 * (size_t)SLUICE_MESSAGE_BYTES_MAX);
	if (!zstd_message_deflate(&pack->deflated, pack->message, pack->level))
		buffer_fini(&pack->deflated);
	return 0;
}

static void pack_on_deflated(struct op *op, int32_t res)
{
	struct uploader_pack *pack = container_of(op, struct uploader_pack, work);
	struct uploader *uploader = pack->uploader;
	bool held = uploader_hold(uploader);

	pack->state = PACK_READY;
	if (uploader->state >= UPLOADER_ENDING)
		pack_free(pack);
	uploader_release(uploader, held);
}

static int pack_level(struct uploader *uploader)
{
	const struct uploader_config *config = &uploader->config;

	if (!call_takes_zstd(&uploader->call))
		return 0;
	return level_now(&uploader->level_next, config->line_rate ? config->line_rate(config->owner) : 0);
}

void pack_compress(struct uploader_pack *pack)
{
	struct uploader *uploader = pack->uploader;

	pack->state = PACK_READY;
	pack->level = pack_level(uploader);
	if (pack->level == 0 && pack->read.bases_count == 0)
		return;
	if (pack->message.size + pack->bases_bytes <= PACK_INLINE_BYTES) {
		pack_deflate(&pack->work);
		return;
	}
	pack->state = PACK_COMPRESSING;
	pack->work.fn = pack_on_deflated;
	ring_work(uploader->config.ring, &pack->work, pack_deflate);
}

/* ---- reading ---- */

static void pack_on_stale(struct uploader_pack *pack)
{
	struct uploader *uploader = pack->uploader;

	uploader->told.count = 0;
	for (size_t i = 0; i < pack->read.count; i++)
		if (pack->pieces[i].stale && digest_vector_add(&uploader->told, &pack->pieces[i].digest) < 0) {
			uploader_fail_memory(uploader);
			return;
		}
	pack->state = PACK_STALE;
	if (uploader->config.events->on_stale)
		uploader->config.events->on_stale(uploader, uploader->told.items, uploader->told.count, pack->read.why);
}

static void pack_on_read(struct uploader_read *read, int result)
{
	struct uploader_pack *pack = container_of(read, struct uploader_pack, read);
	struct uploader *uploader = pack->uploader;
	bool held = uploader_hold(uploader);

	CHECK(pack->state == PACK_READING);
	if (uploader->state >= UPLOADER_ENDING) {
		pack_free(pack);
	} else if (result == UPLOADER_READ_OK && pack_wants_signatures(pack)) {
		pack->state = PACK_UNSIGNED;
	} else if (result == UPLOADER_READ_OK) {
		pack_compress(pack);
	} else if (result == UPLOADER_READ_STALE) {
		pack_on_stale(pack);
	} else {
		CHECK(result < 0);
		pack_free(pack);
		if (result == -ENOENT && !read->why[0])
			uploader_fail(uploader, result, GRPC_OK, "the gateway asks for a blob that this tree does not have");
		else
			uploader_fail(uploader, result, GRPC_OK, "%s", read->why[0] ? read->why : err_text(result));
	}
	uploader_release(uploader, held);
}

static void pack_read(struct uploader_pack *pack)
{
	struct uploader_source *source = pack->uploader->config.source;

	pack_lay_out(pack);
	for (size_t i = 0; i < pack->read.count + pack->read.bases_count; i++)
		pack->pieces[i].stale = false;
	pack->read.why[0] = '\0';
	pack->read.done = pack_on_read;
	pack->state = PACK_READING;
	source->ops->read(source, &pack->read);
}

/* One pack a turn of the loop: a source that reads inside read() takes its time. */
void uploader_fill_packs(struct uploader *uploader)
{
	struct uploader_pack *pack = packs_find(uploader, PACK_DUE);

	if (uploader->turn_posted || uploader->state >= UPLOADER_ENDING)
		return;
	if (!pack) {
		if (packs_preparing(uploader) == UPLOADER_PACKS_MAX || !pack_is_due(uploader))
			return;
		pack = packs_find(uploader, PACK_FREE);
		if (!pack)
			return;
		if (!pack_choose(uploader, pack)) {
			uploader_fail_memory(uploader);
			return;
		}
	}
	pack_read(pack);
	if (uploader->state >= UPLOADER_ENDING || (!packs_find(uploader, PACK_DUE) && !pack_is_due(uploader)))
		return;
	uploader->turn_posted = true;
	ring_post(uploader->config.ring, &uploader->turn);
}

/* ---- bases that only the gateway has ---- */

void uploader_send_signs(struct uploader *uploader)
{
	struct uploader_pack *pack;

	while (uploader->state < UPLOADER_ENDING && (pack = packs_find(uploader, PACK_UNSIGNED)) && uploader_may_send(uploader)) {
		if (!pack_ask_signatures(uploader, pack))
			return;
		pack->state = PACK_SIGNING;
		uploader_flight_add(uploader, (struct uploader_flight){ .kind = UPLOADER_FLIGHT_SIGN, .pack = pack });
	}
}

void uploader_take_signed(struct uploader *uploader, struct uploader_pack *pack, struct span message)
{
	CHECK(pack->state == PACK_SIGNING);
	if (uploader->state >= UPLOADER_ENDING) {
		pack_free(pack);
	} else if (!message.data || !pack_take_signatures(pack, message)) {
		pack_free(pack);
		uploader_fail(uploader, ERR_RAISE(-EPROTO), GRPC_OK, "the gateway sent an answer to something else");
	} else {
		pack_compress(pack);
	}
}

/* ---- sending ---- */

static enum call_outcome pack_transmit(struct uploader *uploader, struct uploader_pack *pack, struct span message)
{
	enum call_outcome outcome;

	if (pack->deflated.size)
		outcome = call_send_deflated(&uploader->call, message);
	else
		outcome = call_send_parts(&uploader->call, &message, 1);
	if (outcome == CALL_SENT) {
		level_sent(&uploader->level_next, pack->message.size, uploader->flights_count);
		pack->sent_ns = clock_now_ns();
		pack->sent_bytes = message.size;
		uploader_flight_add(uploader, (struct uploader_flight){ .kind = UPLOADER_FLIGHT_PACK, .pack = pack });
	}
	return outcome;
}

/* In a prediction it is all but sent: no answer comes. */
static bool pack_send(struct uploader *uploader, struct uploader_pack *pack)
{
	struct uploader_totals *totals = &uploader->totals;
	struct span message = pack->deflated.size ? buffer_span(&pack->deflated) : pack->message;
	bool predict = uploader->config.predict;

	if (!predict && pack_transmit(uploader, pack, message) != CALL_SENT)
		return false;
	pack->state = predict ? PACK_FREE : PACK_SENT;
	if (uploader->config.events->on_pack)
		uploader->config.events->on_pack(uploader, pack->pieces, pack->read.count, message.size + GRPC_PREFIX_BYTES);
	totals->packs++;
	totals->blobs_sent += pack->read.count;
	totals->bytes_sent += message.size + GRPC_PREFIX_BYTES;
	for (size_t i = 0; i < pack->read.count; i++) {
		totals->bytes_packed += pack->pieces[i].digest.size;
		totals->blobs_delta += pack->pieces[i].delta;
		uploader->bytes_done += pack->pieces[i].digest.size;
	}
	pack_forget_bytes(pack);
	return true;
}

void uploader_send_packs(struct uploader *uploader)
{
	struct uploader_pack *pack;

	while (uploader->state < UPLOADER_ENDING && (pack = packs_find(uploader, PACK_READY)) && uploader_may_send(uploader)) {
		if (!pack_send(uploader, pack))
			return;
		uploader->again = true;          /* its place is free for the next one */
		uploader_progress(uploader, UPLOADER_PHASE_SEND);
	}
}

static void pack_answered(struct uploader *uploader, const struct uploader_pack *pack)
{
	uint64_t now = clock_now_ns(), since = pack->sent_ns > uploader->stored_ns ? pack->sent_ns : uploader->stored_ns;

	if (pack->level == 0)
		level_raw_answered(&uploader->level_next, pack->sent_bytes, now - since);
	uploader->stored_ns = now;
}

void uploader_take_stored(struct uploader *uploader, struct uploader_pack *pack, struct span message)
{
	struct push_stored stored;

	CHECK(pack->state == PACK_SENT);
	pack_answered(uploader, pack);
	pack_free(pack);
	if (!message.data || !message_decode(&push_stored_type, message, &stored)) {
		uploader_fail(uploader, ERR_RAISE(-EPROTO), GRPC_OK, "the gateway sent an answer to something else");
		return;
	}
	if (stored.rejected.count) {
		uploader_fail(uploader, ERR_RAISE(-EBADMSG), GRPC_OK, "the gateway received %u blobs with other bytes than their "
		              "digests say: bad memory or a bad link", stored.rejected.count);
		return;
	}
	pack_take_whole(uploader, pack, stored.whole);
	if (!uploader->config.events->on_stored || uploader->state >= UPLOADER_OVER)
		return;
	uploader->told.count = 0;
	for (size_t i = 0; i < pack->read.count; i++)
		if (!pack->pieces[i].stale && digest_vector_add(&uploader->told, &pack->pieces[i].digest) < 0) {
			uploader_fail_memory(uploader);
			return;
		}
	uploader->config.events->on_stored(uploader, uploader->told.items, uploader->told.count);
}
