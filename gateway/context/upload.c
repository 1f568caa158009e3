/*
 * One push, seen from the client: offer the root; when it is not whole, find out what is missing, send it in packs,
 * commit. Requests are answered in their order, so several may be under way at once (UPLOAD_IN_FLIGHT).
 */
#include "gateway/context/upload.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/digest_set.h"
#include "gateway/base/err.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"

#define UPLOAD_IN_FLIGHT   4             /* packs or lists that wait for their answer */
#define UPLOAD_COMMITS_MAX 16            /* a gateway that evicts faster than this is given up on */
#define UPLOAD_LIST        4096          /* digests a list: several small ones overlap, one large one does not */
#define UPLOAD_BLOB_HEAD   64            /* of a blob in a pack, before its data: at most this */
#define UPLOAD_PACK_ROOM   (SLUICE_MESSAGE_BYTES_MAX - 64)

struct upload {
	const struct upload_options *options;
	struct upload_totals *totals;
	struct client_call *call;
	struct digest_set seen;                  /* wanted at some time */
	struct digest_set reached;               /* directories that were candidates at some time */
	struct digest_vector level, next;        /* directories that the gateway lacks; candidates below them */
	struct digest_vector wanted;             /* blobs to ask about */
	struct digest_vector missing;            /* blobs to send */
	struct buffer request, body;
	struct buffer pack;
	struct blob_piece *pieces;               /* of the pack: read together, straight into place */
	size_t pieces_count;
	unsigned in_flight;
	size_t asked, answered;                  /* entries of a list */
	bool assume;                             /* what the last commit held is there */
	bool committed;
	uint64_t bytes_total, bytes_done;
	enum grpc_status *status;
	char *why;
	size_t why_size;
};

__attribute__((format(printf, 3, 4))) static int upload_fail(struct upload *upload, int r, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(upload->why, upload->why_size, format, arguments);
	va_end(arguments);
	return r;
}

static void upload_progress(struct upload *upload, enum upload_phase phase)
{
	if (upload->options->progress)
		upload->options->progress(upload->options->context, phase, upload->bytes_done, upload->bytes_total);
}

/* ---- messages ---- */

static int upload_ended(struct upload *upload, int outcome)
{
	const char *text;

	if (outcome == CLIENT_INTERRUPTED)
		return upload_fail(upload, UPLOAD_INTERRUPTED, "interrupted");
	*upload->status = client_call_status(upload->call, &text);
	return upload_fail(upload, UPLOAD_REFUSED, "%s", text && *text ? text : grpc_status_name(*upload->status));
}

static int upload_send(struct upload *upload, int level)
{
	int r;

	if (upload->request.failed)
		return upload_fail(upload, ERR_RAISE(-ENOMEM), "out of memory");
	r = client_send(upload->call, buffer_span(&upload->request), level);
	if (r != CLIENT_OK)
		return upload_ended(upload, r);
	upload->in_flight++;
	return 0;
}

static int upload_receive(struct upload *upload, struct push_response *response)
{
	struct span message;
	int r = client_receive(upload->call, &message, UINT64_MAX);

	if (r != CLIENT_OK)
		return upload_ended(upload, r);
	upload->in_flight--;
	if (!message_decode(&push_response_type, message, response))
		return upload_fail(upload, ERR_RAISE(-EPROTO), "the gateway sent a malformed answer");
	return 0;
}

static int upload_send_list(struct upload *upload, uint32_t number, const struct digest *digests, size_t count, bool commit)
{
	size_t mark;

	upload->request.size = upload->body.size = 0;
	for (size_t i = 0; i < count; i++)
		digest_list_put(&upload->body, &digests[i]);
	mark = pb_begin(&upload->request, number);
	pb_put_bytes(&upload->request, 1, buffer_span(&upload->body));
	pb_put_bool(&upload->request, 2, commit);
	pb_end(&upload->request, mark);
	return upload_send(upload, 0);
}

/* ---- lists of digests, asked in pieces, several at a time ---- */

/* Takes one answer: what is not present goes to `absent`. */
static int upload_take_answer(struct upload *upload, const struct digest_vector *list, struct digest_vector *absent)
{
	struct push_response response;
	struct push_answer answer;
	size_t count = list->count - upload->answered;
	int r = upload_receive(upload, &response);

	if (r)
		return r;
	if (response.committed.data) {
		upload->committed = true;
		upload->answered = list->count;
		return 0;
	}
	if (!response.answer.data || !message_decode(&push_answer_type, response.answer, &answer))
		return upload_fail(upload, ERR_RAISE(-EPROTO), "the gateway sent an answer to something else");
	if (count > UPLOAD_LIST)
		count = UPLOAD_LIST;
	for (size_t i = 0; i < count; i++)
		if (!bit_list_get(answer.present, i) && digest_vector_add(absent, &list->items[upload->answered + i]) < 0)
			return upload_fail(upload, ERR_RAISE(-ENOMEM), "out of memory");
	upload->answered += count;
	return 0;
}

/* `number`: the field of PushRequest: 1 offer, 2 query. */
static int upload_ask(struct upload *upload, uint32_t number, const struct digest_vector *list,
                      struct digest_vector *absent, bool commit)
{
	int r = 0;

	upload->asked = upload->answered = 0;
	while (r == 0 && upload->answered < list->count) {
		size_t count = list->count - upload->asked;

		if (count > UPLOAD_LIST)
			count = UPLOAD_LIST;
		if (count && upload->in_flight < UPLOAD_IN_FLIGHT) {
			r = upload_send_list(upload, number, list->items + upload->asked, count, commit);
			upload->asked += count;
		} else {
			r = upload_take_answer(upload, list, absent);
		}
	}
	upload->totals->blobs_asked += list->count;
	return r;
}

/* ---- what is missing ---- */

static int upload_want(struct upload *upload, const struct digest *digest)
{
	int added;

	if (digest->size == 0)
		return 0;
	added = digest_set_add(&upload->seen, digest);
	if (added <= 0)
		return added;
	return digest_vector_add(&upload->wanted, digest);
}

static int upload_want_recipe(struct upload *upload, const struct digest *recipe)
{
	struct digest_vector parts = { 0 };
	const struct digest *blobs;
	bool are_recipes;
	size_t count;
	int r = manifest_recipe_children(upload->options->manifest, recipe, &blobs, &are_recipes, &count);

	for (size_t i = 0; r == 0 && i < count; i++) {
		if (upload->assume && manifest_known(upload->options->manifest, upload->options->gateway_id, &blobs[i]))
			continue;
		r = are_recipes ? digest_vector_add(&parts, &blobs[i]) : upload_want(upload, &blobs[i]);
	}
	for (size_t i = 0; r >= 0 && i < parts.count; i++) {
		r = upload_want(upload, &parts.items[i]);
		if (r >= 0)
			r = upload_want_recipe(upload, &parts.items[i]);
	}
	digest_vector_fini(&parts);
	return r < 0 ? r : 0;
}

/* Takes the children of a directory: they are lent until the manifest is asked again, so recipes are put aside. */
static int upload_take_children(struct upload *upload, const struct manifest_children *children,
                                struct digest_vector *recipes)
{
	const struct upload_options *options = upload->options;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < children->directories_count; i++) {
		const struct digest *child = &children->directories[i];

		if (child->size == 0 || (upload->assume && manifest_known(options->manifest, options->gateway_id, child)))
			continue;
		/* Once each: a tree that repeats itself at every level would double at every level. */
		r = digest_set_add(&upload->reached, child);
		if (r > 0)
			r = digest_vector_add(&upload->next, child);
	}
	for (size_t i = 0; r >= 0 && i < children->contents_count; i++) {
		const struct digest *content = &children->contents[i];

		if (upload->assume && manifest_known(options->manifest, options->gateway_id, content))
			continue;
		if (digest_set_has(&upload->seen, content))
			continue;
		r = upload_want(upload, content);
		if (r >= 0 && children->recipes[i])
			r = digest_vector_add(recipes, content);
	}
	return r < 0 ? r : 0;
}

static int upload_descend(struct upload *upload, const struct digest *directory)
{
	struct digest_vector recipes = { 0 };
	struct manifest_children children;
	int r = upload_want(upload, directory);

	if (r >= 0)
		r = manifest_children(upload->options->manifest, directory, &children);
	if (r >= 0)
		r = upload_take_children(upload, &children, &recipes);
	for (size_t i = 0; r >= 0 && i < recipes.count; i++)
		r = upload_want_recipe(upload, &recipes.items[i]);
	digest_vector_fini(&recipes);
	return r < 0 ? r : 0;
}

/* From the directories in `level`, which the gateway lacks, down to all blobs to ask about. */
static int upload_walk(struct upload *upload)
{
	int r = 0;

	while (r == 0 && upload->level.count) {
		struct digest_vector swap;

		upload->next.count = 0;
		for (size_t i = 0; r == 0 && i < upload->level.count; i++) {
			r = upload_descend(upload, &upload->level.items[i]);
			if (r < 0)
				return upload_fail(upload, r, "the tree cannot be read back: %s", err_text(r));
		}
		upload->level.count = 0;
		if (r == 0 && !upload->assume) {
			r = upload_ask(upload, 1, &upload->next, &upload->level, false);
			continue;
		}
		swap = upload->level;
		upload->level = upload->next;
		upload->next = swap;
	}
	return r;
}

static int upload_negotiate(struct upload *upload)
{
	int r;

	digest_set_fini(&upload->seen);
	digest_set_fini(&upload->reached);
	upload->wanted.count = upload->missing.count = upload->level.count = 0;
	if (digest_vector_add(&upload->level, manifest_root(upload->options->manifest)) < 0)
		return upload_fail(upload, ERR_RAISE(-ENOMEM), "out of memory");
	r = upload_walk(upload);
	if (r == 0)
		r = upload_ask(upload, 2, &upload->wanted, &upload->missing, false);
	return r;
}

/* ---- sending ---- */

static int upload_take_stored(struct upload *upload)
{
	struct push_response response;
	struct push_stored stored;
	int r = upload_receive(upload, &response);

	if (r)
		return r;
	if (!response.stored.data || !message_decode(&push_stored_type, response.stored, &stored))
		return upload_fail(upload, ERR_RAISE(-EPROTO), "the gateway sent an answer to something else");
	if (stored.rejected.count)
		return upload_fail(upload, ERR_RAISE(-EBADMSG),
		                   "the gateway received %u blobs with other bytes than their digests say: bad memory or a bad link",
		                   stored.rejected.count);
	return 0;
}

/* Reads what the pack holds into it, and sends it. */
static int upload_send_pack(struct upload *upload)
{
	size_t mark;
	int r = manifest_read_many(upload->options->manifest, upload->pieces, upload->pieces_count, upload->why, upload->why_size);

	if (r == -ENOENT)
		return upload_fail(upload, r, "the gateway asks for a blob that this tree does not have");
	if (r < 0)
		return r == -ESTALE ? UPLOAD_STALE : r;
	while (r == 0 && upload->in_flight >= UPLOAD_IN_FLIGHT)
		r = upload_take_stored(upload);
	if (r)
		return r;
	buffer_clear(&upload->request);
	mark = pb_begin(&upload->request, 3);
	buffer_put(&upload->request, upload->pack.data, upload->pack.size);
	pb_end(&upload->request, mark);
	upload->totals->packs++;
	upload->totals->blobs_sent += upload->pieces_count;
	for (size_t i = 0; i < upload->pieces_count; i++) {
		upload->totals->bytes_packed += upload->pieces[i].digest.size;
		upload->bytes_done += upload->pieces[i].digest.size;
	}
	buffer_clear(&upload->pack);
	upload->pieces_count = 0;
	upload_progress(upload, UPLOAD_SENDING);
	return upload_send(upload, upload->options->level);
}

/* Appends a blob to the pack and leaves room for its bytes. All lengths are known, so nothing moves afterwards. */
static void upload_pack_blob(struct upload *upload, const struct digest *digest)
{
	uint8_t list_storage[48], head_storage[UPLOAD_BLOB_HEAD], tag[PB_VARINT_BYTES_MAX + 1] = { 1 << 3 | PB_BYTES };
	struct buffer list = buffer_over(list_storage, sizeof(list_storage));
	struct buffer head = buffer_over(head_storage, sizeof(head_storage));

	digest_list_put(&list, digest);
	pb_put_bytes(&head, 1, buffer_span(&list));
	if (digest->size) {
		uint8_t data[PB_VARINT_BYTES_MAX + 1] = { 2 << 3 | PB_BYTES };

		buffer_put(&head, data, (size_t)(pb_varint_write(data + 1, digest->size) - data));
	}
	buffer_put(&upload->pack, tag, (size_t)(pb_varint_write(tag + 1, head.size + digest->size) - tag));
	buffer_put(&upload->pack, head.data, head.size);
	upload->pieces[upload->pieces_count++] = (struct blob_piece){
		.digest = *digest, .buffer = upload->pack.data + upload->pack.size,
	};
	upload->pack.size += digest->size;
	CHECK(upload->pack.size <= UPLOAD_PACK_ROOM);
}

static bool upload_pack_begin(struct upload *upload)
{
	buffer_clear(&upload->pack);
	upload->pieces_count = 0;
	if (!upload->pieces)
		upload->pieces = calloc(SLUICE_LIST_MAX, sizeof(*upload->pieces));
	/* All of it now, so that pieces may point into it. */
	return upload->pieces && buffer_reserve(&upload->pack, UPLOAD_PACK_ROOM);
}

static bool upload_pack_full(const struct upload *upload, const struct digest *next)
{
	return upload->pieces_count == SLUICE_LIST_MAX ||
	       (upload->pieces_count && upload->pack.size + UPLOAD_BLOB_HEAD + next->size > SLUICE_PACK_BYTES);
}

static int upload_send_missing(struct upload *upload, const struct digest_vector *missing)
{
	int r = 0;

	if (!upload_pack_begin(upload))
		return upload_fail(upload, ERR_RAISE(-ENOMEM), "out of memory");
	for (size_t i = 0; i < missing->count; i++)
		upload->bytes_total += missing->items[i].size;
	for (size_t i = 0; r == 0 && i < missing->count; i++) {
		if (missing->items[i].size > SLUICE_PACK_BYTES)
			return upload_fail(upload, ERR_RAISE(-EFBIG), "a blob of this tree is longer than 4 MiB");
		if (upload_pack_full(upload, &missing->items[i]))
			r = upload_send_pack(upload);
		if (r == 0)
			upload_pack_blob(upload, &missing->items[i]);
	}
	if (r == 0 && upload->pieces_count)
		r = upload_send_pack(upload);
	while (r == 0 && upload->in_flight)
		r = upload_take_stored(upload);
	return r;
}

/* ---- commit ---- */

static int upload_take_missing(struct upload *upload, struct span bytes)
{
	struct push_missing missing;
	struct digest digest;

	if (!message_decode(&push_missing_type, bytes, &missing))
		return upload_fail(upload, ERR_RAISE(-EPROTO), "the gateway sent a malformed answer");
	upload->missing.count = 0;
	while (digest_list_next(&missing.blobs, &digest))
		if (digest_vector_add(&upload->missing, &digest) < 0)
			return upload_fail(upload, ERR_RAISE(-ENOMEM), "out of memory");
	return 0;
}

static int upload_commit(struct upload *upload)
{
	struct push_response response;
	int r;

	upload_progress(upload, UPLOAD_COMMITTING);
	upload->totals->commits++;
	r = upload_send_list(upload, 4, manifest_root(upload->options->manifest), 1, false);
	if (r == 0)
		r = upload_receive(upload, &response);
	if (r)
		return r;
	if (response.committed.data)
		upload->committed = true;
	else if (response.missing.data)
		return upload_take_missing(upload, response.missing);
	else
		return upload_fail(upload, ERR_RAISE(-EPROTO), "the gateway sent an answer to something else");
	return 0;
}

static int upload_round(struct upload *upload, bool negotiate)
{
	uint64_t begin = clock_now_ns(), negotiated, sent;
	int r = negotiate ? upload_negotiate(upload) : 0;

	negotiated = clock_now_ns();
	if (r == 0)
		r = upload_send_missing(upload, &upload->missing);
	sent = clock_now_ns();
	if (r == 0)
		r = upload_commit(upload);
	upload->totals->negotiate_ns += negotiated - begin;
	upload->totals->send_ns += sent - negotiated;
	upload->totals->commit_ns += clock_now_ns() - sent;
	return r;
}

static int upload_run(struct upload *upload)
{
	struct manifest *manifest = upload->options->manifest;
	struct digest_vector root = { 0 };
	bool negotiate = true;
	int r;

	upload_progress(upload, UPLOAD_NEGOTIATING);
	if (digest_vector_add(&root, manifest_root(manifest)) < 0)
		return upload_fail(upload, ERR_RAISE(-ENOMEM), "out of memory");
	r = upload_ask(upload, 1, &root, &upload->level, true);
	digest_vector_fini(&root);
	upload->totals->unchanged = upload->committed;
	upload->assume = manifest_committed_to(manifest, upload->options->gateway_id);
	for (unsigned commits = 0; r == 0 && !upload->committed; commits++) {
		if (commits == UPLOAD_COMMITS_MAX)
			return upload_fail(upload, ERR_RAISE(-EAGAIN),
			                   "the gateway loses blobs faster than they can be sent: its --ceiling is too small for this tree");
		/* Later rounds send what the gateway listed; but a hole in what was assumed means to ask about everything. */
		r = upload_round(upload, negotiate);
		negotiate = upload->assume;
		upload->assume = false;
	}
	return r;
}

int upload(const struct upload_options *options, struct upload_totals *totals, enum grpc_status *status, char *why,
           size_t why_size)
{
	struct upload state = {
		.options = options, .totals = totals, .status = status, .why = why, .why_size = why_size,
		.request = buffer_heap(SLUICE_MESSAGE_BYTES_MAX), .body = buffer_heap(SLUICE_MESSAGE_BYTES_MAX),
		.pack = buffer_heap(SLUICE_MESSAGE_BYTES_MAX),
	};
	int r = client_call_open(&state.call, options->client, SLUICE_PUSH, NULL, 0);

	*totals = (struct upload_totals){ 0 };
	*status = GRPC_OK;
	if (r < 0)
		snprintf(why, why_size, "%s", client_error(options->client));
	else
		r = upload_run(&state);
	client_call_close(state.call);
	digest_set_fini(&state.seen);
	digest_set_fini(&state.reached);
	free(state.pieces);
	digest_vector_fini(&state.level);
	digest_vector_fini(&state.next);
	digest_vector_fini(&state.wanted);
	digest_vector_fini(&state.missing);
	buffer_fini(&state.request);
	buffer_fini(&state.body);
	buffer_fini(&state.pack);
	return r;
}

int upload_blobs(struct client *client, const struct span *blobs, struct digest *digests, size_t count,
                 enum grpc_status *status, char *why, size_t why_size)
{
	struct upload_totals totals = { 0 };
	struct upload state = {
		.totals = &totals, .status = status, .why = why, .why_size = why_size,
		.request = buffer_heap(SLUICE_MESSAGE_BYTES_MAX),
	};
	size_t mark;
	int r;

	*status = GRPC_OK;
	mark = pb_begin(&state.request, 3);
	for (size_t i = 0; i < count; i++) {
		digests[i].size = blobs[i].size;
		sha256_once(blobs[i].data, blobs[i].size, digests[i].hash);
		pack_put(&state.request, &digests[i], blobs[i]);
	}
	pb_end(&state.request, mark);
	r = client_call_open(&state.call, client, SLUICE_PUSH, NULL, 0);
	if (r < 0)
		snprintf(why, why_size, "%s", client_error(client));
	else
		r = upload_send(&state, 0);
	if (r == 0)
		r = upload_take_stored(&state);
	client_call_close(state.call);
	buffer_fini(&state.request);
	return r;
}
