/*
 * One blob on its way in. upload_step() decides what comes next and is the only place that starts store operations; they
 * may land inline, so it is a loop.
 */
#include "gateway/reapi/upload.h"

#include <errno.h>
#include <stdlib.h>

#include "chunker/profile.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"

static void upload_step(struct upload *upload);
static size_t upload_jobs(struct verification *verification, struct sha256_job *jobs);
static void upload_on_hash(struct verification *verification, const struct sha256_job *jobs);

static void upload_free(struct upload *upload)
{
	struct reapi *reapi = upload->reapi;

	budget_leave(&reapi->uploads, &upload->share);
	store_hold_release(upload->hold);
	recipe_maker_fini(&upload->maker);
	for (size_t i = 0; i < upload->parts_count; i++)
		buffer_fini(&upload->parts[i]);
	free(upload->data);
	free(upload);
	reapi->open--;
}

static bool is_cut(const struct upload *upload)
{
	return pair_wanted(&upload->digest);
}

static void upload_on_memory(struct budget_share *share)
{
	struct upload *upload = container_of(share, struct upload, share);

	upload->granted = true;
	upload->data = malloc(upload->capacity ? upload->capacity : 1);
	if (!upload->data)
		upload->result = ERR_RAISE(-ENOMEM);
	upload->on_room(upload);
}

struct upload *upload_create(struct reapi *reapi, const struct scope *scope, const struct digest *digest,
                             void (*on_room)(struct upload *upload), void (*on_done)(struct upload *upload), void *owner)
{
	struct upload *upload = calloc(1, sizeof(*upload));

	if (!upload)
		return NULL;
	upload->reapi = reapi;
	upload->scope = *scope;
	upload->digest = *digest;
	upload->on_room = on_room;
	upload->on_done = on_done;
	upload->owner = owner;
	upload->capacity_max = upload_memory(digest, true);
	upload->share.fn = upload_on_memory;
	upload->verification.jobs = upload_jobs;
	upload->verification.fn = upload_on_hash;
	if (is_cut(upload)) {
		upload->hold = store_hold_create(reapi->cas->store, scope);
		if (!upload->hold) {
			free(upload);
			return NULL;
		}
		sha256_stream_init(&upload->whole);
		cutter_init(&upload->cutter, profile_fastcdc(PROFILE_REAPI));
		recipe_maker_init(&upload->maker, PROFILE_REAPI);
	}
	reapi->open++;
	return upload;
}

void upload_start(struct upload *upload, bool whole)
{
	upload->capacity = upload_memory(&upload->digest, whole);
	budget_enter(&upload->reapi->uploads, &upload->share, upload->capacity);
}

void upload_destroy(struct upload *upload)
{
	if (!upload)
		return;
	upload->destroyed = true;
	verifier_drop(&upload->reapi->verifier, &upload->verification);
	if (!upload->busy && !upload->stepping)
		upload_free(upload);
}

/* Where what can be hashed ends: the chunk that has not ended may yet end one byte before what the cutter has seen. */
static size_t upload_settled(const struct upload *upload)
{
	return upload->cut_bytes + (upload->fed ? upload->fed - 1 : 0);
}

/* All that there are digests of, as far as it has come. */
static bool upload_is_hashed(const struct upload *upload)
{
	if (!is_cut(upload))
		return upload->stage >= UPLOAD_HASHED;
	return upload->named == upload->cut && upload->hashed == upload_settled(upload);
}

/* Bytes that have come in wait for their digests. */
static void upload_ask(struct upload *upload, size_t bytes, bool urgent)
{
	verifier_add(&upload->reapi->verifier, &upload->verification, bytes, urgent);
}

/* ---- cutting ---- */

static void upload_cut(struct upload *upload)
{
	size_t length;

	while (upload->cut < UPLOAD_CHUNKS_MAX &&
	       (length = cutter_feed(&upload->cutter, upload->data + upload->cut_bytes + upload->fed,
	                             upload->have - upload->cut_bytes - upload->fed))) {
		upload->lengths[upload->cut++] = (uint32_t)length;
		upload->cut_bytes += length;
		upload->fed = 0;
	}
	upload->fed = upload->have - upload->cut_bytes;
}

/* Room for `size` more bytes, as far as there ever is. What is being put does not move. */
static void upload_make_room(struct upload *upload, size_t size)
{
	size_t wanted = upload->capacity * 2;
	uint8_t *grown;

	if (size <= upload->capacity - upload->have || upload->capacity == upload->capacity_max || upload->busy)
		return;
	if (wanted < upload->have + size)
		wanted = upload->have + size;
	if (wanted > upload->capacity_max)
		wanted = upload->capacity_max;
	if (!budget_grow(&upload->reapi->uploads, &upload->share, wanted)) {
		upload->result = UPLOAD_CROWDED;
		return;
	}
	grown = realloc(upload->data, wanted);
	if (!grown) {
		upload->result = ERR_RAISE(-ENOMEM);
		return;
	}
	upload->data = grown;
	upload->capacity = wanted;
}

size_t upload_write(struct upload *upload, struct span data)
{
	size_t room, size;

	CHECK(!upload->finishing);
	if (!upload->granted) {
		upload->refused = true;
		return 0;
	}
	if (upload->result == STORE_OK && data.size > upload->digest.size - upload->bytes)
		upload->result = UPLOAD_TOO_LONG;
	if (upload->result == STORE_OK)
		upload_make_room(upload, data.size);
	if (upload->result != STORE_OK)
		return data.size;
	room = upload->capacity - upload->have;
	size = data.size < room ? data.size : room;
	if (size) {
		memcpy(upload->data + upload->have, data.data, size);
		upload->have += size;
		upload->bytes += size;
	}
	upload->refused = size < data.size;
	if (is_cut(upload)) {
		upload_cut(upload);
		if (!upload_is_hashed(upload))
			upload_ask(upload, size, upload->refused);
		upload_step(upload);
	}
	return size;
}

/* ---- digests ---- */

/*
 * The blob's own digest goes on over the same bytes, in a lane beside them. Behind it comes a job for each chunk that has
 * ended, and one for the chunk that has not.
 */
static size_t upload_jobs(struct verification *verification, struct sha256_job *jobs)
{
	struct upload *upload = container_of(verification, struct upload, verification);
	size_t end = upload_settled(upload), at = upload->named_bytes, from = upload->hashed, count = 1;
	const uint8_t *data = upload->data;

	upload->hashing = end;
	upload->naming = upload->cut;
	if (!is_cut(upload)) {
		jobs[0] = (struct sha256_job){ .data = data, .size = upload->have };
		return 1;
	}
	jobs[0] = (struct sha256_job){ .data = data + from, .size = end - from, .stream = &upload->whole };
	for (size_t i = upload->named; i < upload->cut; i++) {
		struct sha256_stream *stream = from > at ? &upload->parts_open[upload->part_open] : NULL;

		at += upload->lengths[i];
		CHECK(at >= from);
		jobs[count++] = (struct sha256_job){ .data = data + from, .size = at - from, .stream = stream };
		from = at;
	}
	if (from == end)
		return count;
	if (from == at)
		sha256_stream_init(&upload->parts_open[upload->part_open ^= count > 1]);
	jobs[count++] = (struct sha256_job){
		.data = data + from, .size = end - from, .stream = &upload->parts_open[upload->part_open],
	};
	return count;
}

/* `jobs` are those of the chunks. */
static void upload_name_chunks(struct upload *upload, const struct sha256_job *jobs)
{
	for (; upload->named < upload->naming; upload->named++, jobs++) {
		uint8_t *name = upload->names[upload->named];

		if (jobs->stream)
			sha256_stream_final(jobs->stream, name);
		else
			memcpy(name, jobs->digest, SHA256_BYTES);
		upload->named_bytes += upload->lengths[upload->named];
	}
	upload->hashed = upload->hashing;
}

static void upload_on_hash(struct verification *verification, const struct sha256_job *jobs)
{
	struct upload *upload = container_of(verification, struct upload, verification);

	if (is_cut(upload)) {
		upload_name_chunks(upload, jobs + 1);
	} else {
		memcpy(upload->actual.hash, jobs[0].digest, sizeof(upload->actual.hash));
		upload->stage = UPLOAD_HASHED;
	}
	upload_step(upload);
}

/* ---- putting ---- */

/* The first chunks leave the buffer. */
static void upload_drop_put(struct upload *upload)
{
	memmove(upload->data, upload->data + upload->putting_bytes, upload->have - upload->putting_bytes);
	upload->have -= upload->putting_bytes;
	upload->cut_bytes -= upload->putting_bytes;
	upload->hashed -= upload->putting_bytes;
	upload->named_bytes -= upload->putting_bytes;
	upload->cut -= upload->putting;
	upload->named -= upload->putting;
	memmove(upload->lengths, upload->lengths + upload->putting, upload->cut * sizeof(*upload->lengths));
	memmove(upload->names, upload->names + upload->putting, upload->named * sizeof(*upload->names));
	for (size_t i = 0; i < upload->parts_count; i++)
		buffer_fini(&upload->parts[i]);
	upload->parts_count = upload->putting = upload->putting_bytes = 0;
}

static int upload_hold_items(struct upload *upload)
{
	struct digest digests[2 * UPLOAD_CHUNKS_MAX];

	for (size_t i = 0; i < upload->put.count; i++)
		digests[i] = upload->items[i].digest;
	return upload->hold ? store_hold_blobs(upload->hold, digests, upload->put.count) : 0;
}

static void upload_on_put(struct store_put *put)
{
	struct upload *upload = container_of(put, struct upload, put);

	upload->busy = false;
	if (upload->result == STORE_OK)
		upload->result = put->result;
	if (upload->result == STORE_OK)
		upload->result = upload_hold_items(upload);
	upload_drop_put(upload);
	upload_step(upload);
}

static void upload_put(struct upload *upload, size_t count)
{
	upload->put = (struct store_put){
		.scope = upload->scope, .items = upload->items, .count = count, .fn = upload_on_put,
	};
	upload->busy = true;
	store_put(upload->reapi->cas->store, &upload->put);
}

/* A part of the recipe, or the recipe, goes along. */
static void upload_add_blob(struct upload *upload, size_t *count, const struct buffer *blob, const struct digest *digest)
{
	upload->parts[upload->parts_count++] = *blob;
	upload->items[(*count)++] = (struct store_item){ .digest = *digest, .data = buffer_span(blob) };
}

static void upload_put_chunks(struct upload *upload)
{
	const uint8_t *at = upload->data;
	size_t count = 0;

	upload->putting = upload->named;
	upload->putting_bytes = upload->named_bytes;
	for (size_t i = 0; i < upload->putting; i++) {
		struct store_item item = { .digest.size = upload->lengths[i], .data = span_make(at, upload->lengths[i]) };
		struct digest part_digest;
		struct buffer part;
		int r;

		at += upload->lengths[i];
		memcpy(item.digest.hash, upload->names[i], sizeof(item.digest.hash));
		upload->items[count++] = item;
		r = recipe_maker_add(&upload->maker, &item.digest, &part, &part_digest);
		if (r == RECIPE_MAKER_PART)
			upload_add_blob(upload, &count, &part, &part_digest);
		else if (r < 0 && upload->result == STORE_OK)
			upload->result = r;
	}
	upload_put(upload, count);
}

/* ---- the end ---- */

static void upload_on_pair(struct pair *pair)
{
	struct upload *upload = container_of(pair, struct upload, pair);

	upload->busy = false;
	upload->result = pair->result;
	upload->stage = UPLOAD_KEPT;
	upload_step(upload);
}

static void upload_keep_pair(struct upload *upload)
{
	upload->pair.scope = upload->scope;
	upload->pair.blob = upload->digest;
	upload->pair.fn = upload_on_pair;
	upload->busy = true;
	pair_keep(upload->reapi->cas->store, &upload->pair);
}

/* What is left of the recipe, step by step. */
static void upload_put_recipe(struct upload *upload)
{
	struct digest digest;
	struct buffer blob;
	size_t count = 0;
	int r = recipe_maker_finish(&upload->maker, &blob, &digest);

	if (r < 0) {
		upload->result = r;
		return;
	}
	upload_add_blob(upload, &count, &blob, &digest);
	if (r == RECIPE_MAKER_DONE) {
		upload->pair.recipe = digest;
		upload->stage = UPLOAD_LISTED;
	}
	upload_put(upload, count);
}

/* Everything has come and is hashed: is it what was said? */
static void upload_verify(struct upload *upload)
{
	if (is_cut(upload))
		sha256_stream_final(&upload->whole, upload->actual.hash);
	upload->actual.size = upload->bytes;
	upload->stage = UPLOAD_VERIFIED;
	if (upload->unnamed && upload->actual.size == upload->digest.size)
		upload->digest = upload->actual;
	if (!digest_equal(&upload->actual, &upload->digest))
		upload->result = UPLOAD_WRONG;
}

static void upload_put_small(struct upload *upload)
{
	upload->items[0] = (struct store_item){ .digest = upload->digest, .data = span_make(upload->data, upload->have) };
	upload->stage = UPLOAD_KEPT;
	upload_put(upload, upload->have > 0);
}

/* All chunks are put; what is next? */
static void upload_conclude(struct upload *upload)
{
	if (upload->stage < UPLOAD_VERIFIED)
		upload_verify(upload);
	else if (!is_cut(upload))
		upload_put_small(upload);
	else if (upload->stage == UPLOAD_VERIFIED)
		upload_put_recipe(upload);
	else
		upload_keep_pair(upload);
}

/* Are there chunks to put, and enough of them? */
static bool upload_can_put(const struct upload *upload)
{
	return upload->named && (upload->named_bytes >= UPLOAD_BATCH_BYTES || upload->refused ||
	                         (upload->finishing && upload_is_hashed(upload)));
}

/* False: there is nothing to do now. */
static bool upload_go_on(struct upload *upload)
{
	bool good = upload->result == STORE_OK;

	if (good && upload_can_put(upload)) {
		upload_put_chunks(upload);
	} else if (upload->refused && (!good || upload->have < upload->capacity || upload->capacity < upload->capacity_max)) {
		upload->refused = false;
		upload->on_room(upload);
	} else if (!upload->finishing || (good && !upload_is_hashed(upload))) {
		return false;
	} else if (good && upload->stage != UPLOAD_KEPT) {
		upload_conclude(upload);
	} else {
		upload->finishing = false;
		upload->on_done(upload);
	}
	return true;
}

static void upload_step(struct upload *upload)
{
	if (upload->stepping)
		return;
	upload->stepping = true;
	while (!upload->busy && !upload->destroyed && upload_go_on(upload))
		;
	upload->stepping = false;
	if (upload->destroyed && !upload->busy)
		upload_free(upload);
}

void upload_finish(struct upload *upload)
{
	size_t last;

	CHECK(upload->granted && !upload->finishing);
	upload->finishing = true;
	if (upload->result == STORE_OK && is_cut(upload)) {
		last = cutter_finish(&upload->cutter);
		if (last) {
			CHECK(upload->cut < UPLOAD_CHUNKS_MAX);
			upload->lengths[upload->cut++] = (uint32_t)last;
			upload->cut_bytes += last;
			upload->fed = 0;
		}
	}
	if (upload->result == STORE_OK && !upload_is_hashed(upload))
		upload_ask(upload, is_cut(upload) ? 0 : upload->have, true);
	upload_step(upload);
}
