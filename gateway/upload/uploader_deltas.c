/* Blobs told by bases that the gateway has: proto/delta.h, docs/delta.md. */
#include "gateway/upload/uploader_private.h"

#include <stdlib.h>
#include "gateway/base/check.h"
#include "proto/delta.h"
#include "proto/pb.h"

#define DELTA_LEAST         256          /* shorter blobs: naming the base costs as much */
#define DELTA_SAVES_PERCENT 10           /* before compression, or it goes whole */
#define SIGN_LEAST_BYTES    (256u << 10) /* in a pack: less is sent whole sooner than a question is answered */

_Static_assert(UPLOADER_BASES_MAX == SLUICE_BASES_MAX, "one bound in two headers");

/* ---- choosing ---- */

static bool is_whole(const struct uploader *uploader, const struct digest *blob)
{
	return uploader->distrust || blob->size < DELTA_LEAST || digest_set_has(&uploader->whole, blob);
}

/* How many of `bases` are worth having; 0 also when they are more than a pack may name. */
static size_t usable(const struct digest *blob, const struct digest *bases, size_t count, uint64_t room, uint64_t *bytes)
{
	*bytes = 0;
	for (size_t i = 0; i < count; i++) {
		if (bases[i].size > SLUICE_PACK_BYTES || digest_equal(&bases[i], blob))
			return 0;
		*bytes += bases[i].size;
	}
	return *bytes <= room && *bytes ? count : 0;
}

/* Told by a base already, by the comparison. */
static bool name_based(struct uploader *uploader, struct uploader_pack *pack, struct uploader_piece *piece, uint64_t room)
{
	const struct based_blob *of = based_find(&uploader->comparison.based, &piece->digest);

	if (!of || of->base.size > room)
		return false;
	piece->edits = based_edits(&uploader->comparison.based, of);
	piece->made = true;
	piece->base = (uint32_t)pack->read.bases_count;
	piece->bases = 1;
	pack->pieces[pack->read.count + pack->read.bases_count++] = (struct uploader_piece){ .digest = of->base };
	return true;
}

/* In the order of the pieces; returns their bytes together. */
static uint64_t name_bases(struct uploader *uploader, struct uploader_pack *pack)
{
	struct uploader_source *source = uploader->config.source;
	struct uploader_piece *bases = pack->pieces + pack->read.count;
	uint64_t bytes = 0;

	for (size_t i = 0; i < pack->read.count; i++) {
		struct uploader_piece *piece = &pack->pieces[i];
		struct digest found[UPLOADER_BASES_MAX];
		uint64_t more;

		if (is_whole(uploader, &piece->digest))
			continue;
		if (name_based(uploader, pack, piece, SLUICE_BASES_BYTES - bytes)) {
			bytes += bases[piece->base].digest.size;
			continue;
		}
		piece->base = (uint32_t)pack->read.bases_count;
		piece->bases = (uint32_t)usable(&piece->digest, found, source->ops->bases(source, &piece->digest, found),
		                                SLUICE_BASES_BYTES - bytes, &more);
		for (uint32_t j = 0; j < piece->bases; j++)
			bases[pack->read.bases_count++] = (struct uploader_piece){ .digest = found[j] };
		bytes += piece->bases ? more : 0;
	}
	return bytes;
}

bool pack_choose_bases(struct uploader *uploader, struct uploader_pack *pack)
{
	uint64_t at = 0;

	pack->read.bases = pack->pieces + pack->read.count;
	pack->read.bases_count = 0;
	pack->bases_bytes = 0;
	if (!uploader->config.source->ops->bases)
		return true;
	pack->bases_bytes = (size_t)name_bases(uploader, pack);
	if (pack->read.bases_count == 0)
		return true;
	pack->bases = malloc(pack->bases_bytes);
	if (!pack->bases)
		return false;
	/* Those of a piece lie one behind the other: together they are its base. */
	for (size_t i = 0; i < pack->read.bases_count; i++) {
		pack->read.bases[i].buffer = pack->bases + at;
		at += pack->read.bases[i].digest.size;
	}
	return true;
}

void pack_forget_bases(struct uploader_pack *pack)
{
	free(pack->bases);
	pack->bases = NULL;
}

/* ---- bases without bytes ---- */

static bool all_stale(const struct uploader_pack *pack, const struct uploader_piece *piece)
{
	for (uint32_t i = 0; i < piece->bases; i++)
		if (!pack->read.bases[piece->base + i].stale)
			return false;
	return piece->bases > 0 && !piece->made;
}

bool pack_wants_signatures(const struct uploader_pack *pack)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < pack->read.count; i++)
		if (all_stale(pack, &pack->pieces[i]))
			bytes += pack->pieces[i].digest.size;
	return bytes >= SIGN_LEAST_BYTES;
}

bool pack_ask_signatures(struct uploader *uploader, struct uploader_pack *pack)
{
	uploader->told.count = 0;
	for (size_t i = 0; i < pack->read.bases_count; i++)
		if (pack->read.bases[i].stale && digest_vector_add(&uploader->told, &pack->read.bases[i].digest) < 0) {
			uploader_fail_memory(uploader);
			return false;
		}
	return uploader_send_list(uploader, 5, uploader->told.items, uploader->told.count, false);
}

bool pack_take_signatures(struct uploader_pack *pack, struct span message)
{
	struct push_signed answer;
	size_t at = 0, asked = 0;

	if (!message_decode(&push_signed_type, message, &answer))
		return false;
	pack->hashes = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	buffer_put(&pack->hashes, answer.hashes.data, answer.hashes.size);
	for (size_t i = 0; i < pack->read.bases_count && !pack->hashes.failed; i++) {
		struct uploader_piece *base = &pack->read.bases[i];
		size_t size = delta_signature_size(base->digest.size);

		if (!base->stale || !bit_list_get(answer.present, asked++))
			continue;
		if (size > pack->hashes.size - at)
			return false;
		base->delta = true;
		base->edits = span_make(size ? pack->hashes.data + at : NULL, size);
		at += size;
	}
	/* Without memory for them all is sent whole. */
	return pack->hashes.failed || at == pack->hashes.size;
}

/* ---- telling ---- */

/* The whole base of a piece; no data: not to be had. */
static struct span base_of(const struct uploader_pack *pack, const struct uploader_piece *piece)
{
	const struct uploader_piece *bases = &pack->read.bases[piece->base];
	struct span base = { 0 };

	for (uint32_t i = 0; i < piece->bases; i++) {
		if (bases[i].stale)
			return (struct span){ 0 };
		base.size += bases[i].digest.size;
	}
	base.data = piece->bases ? bases->buffer : NULL;
	return base;
}

/* False: of one there is none. */
static bool signatures_of(const struct uploader_pack *pack, const struct uploader_piece *piece,
                          struct delta_signature signatures[static UPLOADER_BASES_MAX])
{
	for (uint32_t i = 0; i < piece->bases; i++) {
		const struct uploader_piece *base = &pack->read.bases[piece->base + i];

		if (!base->stale || !base->delta)
			return false;
		signatures[i] = (struct delta_signature){ .hashes = base->edits, .size = base->digest.size };
	}
	return piece->bases > 0;
}

static void tell_made(struct uploader_pack *pack, struct uploader_piece *piece)
{
	piece->delta = buffer_reserve(&pack->edits, piece->edits.size) != NULL;
	if (piece->delta)
		buffer_put(&pack->edits, piece->edits.data, piece->edits.size);
	pack->edits.failed = false;
}

/* Edits go behind each other into one buffer, which moves as it grows: `edits.data` is set at the end. */
static void tell_piece(struct uploader_pack *pack, struct uploader_piece *piece)
{
	struct delta_signature signatures[UPLOADER_BASES_MAX];
	struct span base = base_of(pack, piece), target = span_make(piece->buffer, (size_t)piece->digest.size);
	size_t before = pack->edits.size;

	piece->delta = false;
	if (piece->made) {
		tell_made(pack, piece);
		return;
	}
	if (base.data ? !delta_encode(&pack->edits, base, target) :
	    !signatures_of(pack, piece, signatures) || !delta_encode_signed(&pack->edits, signatures, piece->bases, target))
		return;
	piece->edits.size = pack->edits.size - before;
	piece->delta = piece->edits.size <= target.size - target.size * DELTA_SAVES_PERCENT / 100;
	if (!piece->delta)
		pack->edits.size = before;
}

static bool tell_pieces(struct uploader_pack *pack)
{
	size_t at = 0;
	bool any = false;

	for (size_t i = 0; i < pack->read.count; i++)
		tell_piece(pack, &pack->pieces[i]);
	for (size_t i = 0; i < pack->read.count; i++) {
		struct uploader_piece *piece = &pack->pieces[i];

		if (!piece->delta)
			continue;
		piece->edits.data = pack->edits.data + at;
		at += piece->edits.size;
		any = true;
	}
	return any;
}

static void put_piece(struct buffer *out, const struct uploader_pack *pack, const struct uploader_piece *piece)
{
	struct digest bases[UPLOADER_BASES_MAX];

	if (!piece->delta) {
		pack_put(out, &piece->digest, span_make(piece->buffer, (size_t)piece->digest.size));
		return;
	}
	for (uint32_t i = 0; i < piece->bases; i++)
		bases[i] = pack->read.bases[piece->base + i].digest;
	delta_put(out, &piece->digest, bases, piece->bases, piece->edits);
}

void pack_tell(struct uploader_pack *pack)
{
	size_t mark;

	buffer_fini(&pack->edits);
	buffer_fini(&pack->told);
	pack->edits = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	pack->told = buffer_heap(2 * (size_t)SLUICE_MESSAGE_BYTES_MAX);
	if (!tell_pieces(pack))
		return;
	mark = pb_begin(&pack->told, 3);
	for (size_t i = 0; i < pack->read.count; i++)
		put_piece(&pack->told, pack, &pack->pieces[i]);
	pb_end(&pack->told, mark);
	if (!pack->told.failed) {
		pack->message = buffer_span(&pack->told);
		return;
	}
	for (size_t i = 0; i < pack->read.count; i++)
		pack->pieces[i].delta = false;
}

/* ---- the answer ---- */

void pack_take_whole(struct uploader *uploader, struct uploader_pack *pack, struct span whole)
{
	size_t delta = 0;

	for (size_t i = 0; i < pack->read.count && uploader->state < UPLOADER_OVER; i++) {
		struct uploader_piece *piece = &pack->pieces[i];

		piece->stale = piece->delta && bit_list_get(whole, delta);
		delta += piece->delta;
		if (!piece->stale)
			continue;
		uploader->totals.blobs_again++;
		if (digest_set_add(&uploader->whole, &piece->digest) < 0)
			uploader_fail_memory(uploader);
		else if (uploader->state < UPLOADER_ENDING)      /* from then on the root is whole without it */
			uploader_miss(uploader, &piece->digest);
	}
}
