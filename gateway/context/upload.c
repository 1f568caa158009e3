/* A manifest, or what is to be one, as the source of an uploader, and a client's ring run until it is done. */
#include "gateway/context/upload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chunker/sha256.h"
#include "gateway/base/list.h"
#include "gateway/base/err.h"
#include "gateway/context/ahead.h"
#include "gateway/context/manifest_source.h"
#include "gateway/upload/uploader.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"

struct upload {
	const struct upload_options *options;
	struct manifest *manifest;       /* NULL: it is being built, or its source is not there yet */
	struct manifest *built;          /* a worker's, until `building` has landed */
	struct manifest_source source;   /* of the manifest, when it is there */
	struct ahead *ahead;             /* NULL: nothing goes before the manifest is there */
	struct uploader *uploader;
	struct op building;
	struct call *call;               /* the uploader's; for what it counts */
	bool done, closed;
	int outcome;
	enum grpc_status status;
	char *why;
	size_t why_size;
};

/* ---- events ---- */

static void upload_note(struct upload *upload, int outcome, enum grpc_status status, const char *why)
{
	if (upload->done)
		return;                          /* the first outcome is the outcome */
	upload->done = true;
	upload->outcome = outcome;
	upload->status = status;
	snprintf(upload->why, upload->why_size, "%s", why);
}

static void upload_on_progress(struct uploader *uploader, enum uploader_phase phase, uint64_t done, uint64_t total)
{
	static const enum upload_phase phases[] = {
		[UPLOADER_PHASE_NEGOTIATE] = UPLOAD_NEGOTIATING,
		[UPLOADER_PHASE_SEND] = UPLOAD_SENDING,
		[UPLOADER_PHASE_COMMIT] = UPLOAD_COMMITTING,
	};
	const struct upload_options *options = ((struct upload *)uploader_owner(uploader))->options;

	if (options->progress)
		options->progress(options->context, phases[phase], done, total);
}

/* What is not at hand during the scan is read after it. */
static void upload_on_stale(struct uploader *uploader, const struct digest *digests, size_t count, const char *why)
{
	struct upload *upload = uploader_owner(uploader);

	(void)digests, (void)count;
	if (upload->manifest)
		upload_note(upload, UPLOAD_STALE, GRPC_OK, why);
}

static void upload_on_stored(struct uploader *uploader, const struct digest *digests, size_t count)
{
	struct upload *upload = uploader_owner(uploader);

	if (upload->ahead)
		ahead_settled(upload->ahead, digests, count);
}

static void upload_on_answered(struct uploader *uploader)
{
	const struct uploader_totals *totals = uploader_totals(uploader);
	struct upload *upload = uploader_owner(uploader);

	if (upload->ahead)
		ahead_answered(upload->ahead, totals->blobs_answered, totals->blobs_lacking);
}

static void upload_on_done(struct uploader *uploader, int outcome, enum grpc_status status, const char *why)
{
	upload_note(uploader_owner(uploader), outcome == UPLOADER_REFUSED ? UPLOAD_REFUSED : outcome, status, why);
}

static void upload_on_closed(void *owner)
{
	struct upload *upload = owner;

	upload->closed = true;
}

/* Its observers know nothing of the uploader's pieces. */
static void upload_on_pack(struct uploader *uploader, const struct uploader_piece *pieces, size_t count, uint64_t wire_bytes)
{
	const struct upload_options *options = ((struct upload *)uploader_owner(uploader))->options;
	struct upload_piece *blobs = options->on_pack ? malloc((count + 1) * sizeof(*blobs)) : NULL;

	for (size_t i = 0; blobs && i < count; i++)
		blobs[i] = (struct upload_piece){
			.digest = pieces[i].digest, .delta = pieces[i].delta,
			.bytes = pieces[i].delta ? pieces[i].edits : span_make(pieces[i].buffer, (size_t)pieces[i].digest.size),
		};
	if (blobs)
		options->on_pack(options->on_pack_context, blobs, count, wire_bytes);
	free(blobs);
}

static const struct uploader_events upload_events = {
	.on_stored = upload_on_stored,
	.on_promised = upload_on_stored,
	.on_answered = upload_on_answered,
	.on_pack = upload_on_pack,
	.on_progress = upload_on_progress,
	.on_stale = upload_on_stale,
	.on_done = upload_on_done,
	.on_closed = upload_on_closed,
};

static int upload_open(void *owner, struct call *call, const char *path, size_t message_bytes_max,
                       const struct call_events *events, void *call_owner)
{
	struct upload *upload = owner;

	upload->call = call;
	return client_call_start(upload->options->client, call, path, message_bytes_max, events, call_owner);
}

static uint64_t upload_line_rate(void *owner)
{
	return client_line_rate(((struct upload *)owner)->options->client);
}

/* ---- the loop ---- */

/* A connection that broke has a better sentence than the call that broke with it. */
static void upload_explain(struct upload *upload)
{
	const char *error = client_error(upload->options->client);

	if (upload->outcome == UPLOAD_REFUSED && upload->status == GRPC_UNAVAILABLE && error[0])
		snprintf(upload->why, upload->why_size, "%s", error);
}

static void upload_turn(struct upload *upload)
{
	if (client_run(upload->options->client) == CLIENT_INTERRUPTED)
		upload_note(upload, UPLOAD_INTERRUPTED, GRPC_OK, "interrupted");
}

static void upload_run(struct upload *upload, struct upload_totals *totals)
{
	struct client *client = upload->options->client;
	struct uploader *uploader = upload->uploader;
	const struct uploader_totals *counted = uploader_totals(uploader);

	if (!upload->done)
		uploader_commit(uploader, manifest_root(upload->manifest));
	while (!upload->done)
		upload_turn(upload);
	*totals = (struct upload_totals){
		.blobs_asked = counted->blobs_asked, .blobs_sent = counted->blobs_sent, .bytes_packed = counted->bytes_packed,
		.packs = counted->packs, .commits = counted->commits, .negotiate_ns = counted->negotiate_ns,
		.send_ns = counted->send_ns, .commit_ns = counted->commit_ns, .unchanged = counted->unchanged,
		.messages_sent = upload->call->bytes_sent, .messages_received = upload->call->bytes_received,
		.messages_predicted = upload->options->predict ? counted->bytes_sent : 0,
	};
	uploader_close(uploader);
	/* What interrupts here finds nothing left to be interrupted. */
	while (!upload->closed || (upload->ahead && !ahead_is_idle(upload->ahead)))
		client_run(client);
	upload_explain(upload);
}

/* ---- a manifest that is being built ---- */

static int32_t upload_build(struct op *op)
{
	struct upload *upload = container_of(op, struct upload, building);
	struct digester_taker taker;

	if (upload->ahead)
		taker = ahead_taker(upload->ahead);
	upload->built = upload->options->build(upload->options->context, upload->ahead ? &taker : NULL);
	return 0;
}

static void upload_on_built(struct op *op, int32_t res)
{
	struct upload *upload = container_of(op, struct upload, building);

	if (!upload->built)
		upload_note(upload, UPLOAD_UNBUILT, GRPC_OK, "");
}

/* The scan is not ended by an upload that has ended: whoever called for it has it to say what is wrong with the directory. */
static void upload_meanwhile(struct upload *upload)
{
	upload->building.fn = upload_on_built;
	ring_work(client_ring(upload->options->client), &upload->building, upload_build);
	while (op_in_flight(&upload->building)) {
		upload_turn(upload);
		if (upload->done && upload->ahead)
			ahead_stop(upload->ahead);
	}
}

static void upload_feed(void *owner, const struct digest *digests, size_t count)
{
	struct upload *upload = owner;
	int r = uploader_feed(upload->uploader, digests, count);

	if (r < 0)
		upload_note(upload, r, GRPC_OK, err_text(r));
}

static bool upload_answer_says_present(struct span message)
{
	struct push_response response;
	struct push_answer answer;

	return message_decode(&push_response_type, message, &response) && response.answer.data &&
	       message_decode(&push_answer_type, response.answer, &answer) && bit_list_get(answer.present, 0);
}

/* Whether the gateway still has the tree of the last scan whole. An upload learns that from its own commit. */
static bool upload_former_is_whole(const struct upload_options *options, struct manifest *manifest)
{
	const struct table *former = manifest_former_table(manifest);
	struct digest root = table_directory_digest(&former->directories[0]);
	struct buffer list = buffer_heap(256), request = buffer_heap(256);
	struct client_call *call = NULL;
	struct span message;
	size_t mark = pb_begin(&request, 1);
	bool whole;

	digest_list_put(&list, &root);
	pb_put_bytes(&request, 1, buffer_span(&list));
	pb_end(&request, mark);
	/* A failure is the upload's to tell: the same will meet it. */
	whole = client_call_open(&call, options->client, SLUICE_PUSH, NULL, 0) == 0 &&
	        client_send(call, buffer_span(&request), 0) == CLIENT_OK &&
	        client_receive(call, &message, UINT64_MAX) == CLIENT_OK && upload_answer_says_present(message);
	client_call_close(call);
	buffer_fini(&list);
	buffer_fini(&request);
	return whole;
}

static bool upload_may_assume(const struct upload_options *options, struct manifest *manifest)
{
	return manifest_committed_to(manifest, options->gateway_id) &&
	       (!options->predict || upload_former_is_whole(options, manifest));
}

static void upload_source(struct upload *upload, struct manifest *manifest)
{
	const struct upload_options *options = upload->options;

	manifest_source_init(&upload->source, client_ring(options->client), manifest, options->gateway_id,
	                     upload_may_assume(options, manifest));
	upload->manifest = manifest;
}

static int upload_open_uploader(struct upload *upload)
{
	const struct upload_options *options = upload->options;

	return uploader_create(&upload->uploader, &(struct uploader_config){
		.ring = client_ring(options->client), .source = upload->ahead ? ahead_source(upload->ahead) : &upload->source.source,
		.events = &upload_events, .owner = upload, .level = options->level, .predict = options->predict, .open = upload_open,
		.line_rate = upload_line_rate,
	});
}

/* Also when the upload is over: what waits for the scan's end may not be left waiting. */
static void upload_take_built(struct upload *upload)
{
	upload_meanwhile(upload);
	if (!upload->built)
		return;
	upload_source(upload, upload->built);
	if (!upload->ahead)
		return;
	ahead_scanned(upload->ahead, &upload->source);
	uploader_retry(upload->uploader);
}

int upload(const struct upload_options *options, struct upload_totals *totals, enum grpc_status *status, char *why,
           size_t why_size)
{
	struct upload upload = { .options = options, .why = why, .why_size = why_size };
	int r = 0;

	*totals = (struct upload_totals){ 0 };
	*status = GRPC_OK;
	if (options->manifest)
		upload_source(&upload, options->manifest);
	else if (options->build_first)
		manifest_source_init(&upload.source, client_ring(options->client), NULL, options->gateway_id, false);
	else
		r = ahead_create(&upload.ahead, client_ring(options->client), upload_feed, &upload);
	if (r == 0)
		r = upload_open_uploader(&upload);
	if (r < 0) {
		ahead_destroy(upload.ahead);
		snprintf(why, why_size, "%s", client_error(options->client));
		return r;
	}
	if (!options->manifest)
		upload_take_built(&upload);
	upload_run(&upload, totals);
	if (upload.manifest)
		manifest_source_fini(&upload.source);
	ahead_destroy(upload.ahead);
	*status = upload.status;
	return upload.outcome;
}

/* ---- loose blobs ---- */

static int loose_ended(struct client_call *call, int outcome, enum grpc_status *status, char *why, size_t why_size)
{
	const char *text;

	if (outcome == CLIENT_INTERRUPTED) {
		snprintf(why, why_size, "interrupted");
		return UPLOAD_INTERRUPTED;
	}
	*status = client_call_status(call, &text);
	snprintf(why, why_size, "%s", text);
	return UPLOAD_REFUSED;
}

static int loose_stored(struct span message, char *why, size_t why_size)
{
	struct push_response response;
	struct push_stored stored;

	if (!message_decode(&push_response_type, message, &response) || !response.stored.data ||
	    !message_decode(&push_stored_type, response.stored, &stored)) {
		snprintf(why, why_size, "the gateway sent an answer to something else");
		return ERR_RAISE(-EPROTO);
	}
	if (stored.rejected.count) {
		snprintf(why, why_size, "the gateway received %u blobs with other bytes than their digests say: bad memory or a "
		                        "bad link", stored.rejected.count);
		return ERR_RAISE(-EBADMSG);
	}
	return 0;
}

static int loose_send(struct client *client, struct span request, enum grpc_status *status, char *why, size_t why_size)
{
	struct client_call *call;
	struct span message;
	int r = client_call_open(&call, client, SLUICE_PUSH, NULL, 0);

	if (r < 0) {
		snprintf(why, why_size, "%s", client_error(client));
		return r;
	}
	r = client_send(call, request, 0);
	if (r == CLIENT_OK)
		r = client_receive(call, &message, UINT64_MAX);
	r = r == CLIENT_OK ? loose_stored(message, why, why_size) : loose_ended(call, r, status, why, why_size);
	client_call_close(call);
	return r;
}

int upload_hashed_blobs(struct client *client, const struct span *blobs, const struct digest *digests, size_t count,
                        enum grpc_status *status, char *why, size_t why_size)
{
	struct buffer request = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	size_t mark = pb_begin(&request, 3);
	int r = 0;

	*status = GRPC_OK;
	for (size_t i = 0; i < count; i++)
		pack_put(&request, &digests[i], blobs[i]);
	pb_end(&request, mark);
	if (request.failed) {
		r = ERR_RAISE(-ENOMEM);
		snprintf(why, why_size, "out of memory");
	}
	if (r == 0)
		r = loose_send(client, buffer_span(&request), status, why, why_size);
	buffer_fini(&request);
	return r;
}

int upload_blobs(struct client *client, const struct span *blobs, struct digest *digests, size_t count,
                 enum grpc_status *status, char *why, size_t why_size)
{
	for (size_t i = 0; i < count; i++) {
		digests[i].size = blobs[i].size;
		sha256_once(blobs[i].data, blobs[i].size, digests[i].hash);
	}
	return upload_hashed_blobs(client, blobs, digests, count, status, why, why_size);
}
