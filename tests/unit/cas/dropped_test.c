/*
 * Shows what comes of a content that was fed, is of no tree in the end, and was left to a sibling that did not send it: a push goes
 * on without it, on the real gateway; and it ends with a gateway that does not stop asking for it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/context/upload.h"
#include "gateway_thread.h"
#include "requests.h"
#include "tests/unit/context/place.h"
#include "tests/unit/upload/shelf.h"

/* As of a file that was rewritten while it was cut. */
static const char torn[] = "the former half, which no manifest has";

static struct gateway_thread *gateway;
static struct client *client;

static struct digest torn_digest(void)
{
	return digest_of(span_text(torn));
}

/* ---- the gateway ---- */

struct pushing {
	struct place *place;
	struct client_call *sibling;     /* who promised; NULL: gone */
	struct manifest *manifest;
};

static bool someone_waits(struct gateway_parts *parts, void *context)
{
	return parts->cas.promises.awaited == 1;
}

static void give(const struct digester_taker *taker)
{
	struct sha256_job content = { .size = strlen(torn) };
	uint8_t *bytes = malloc(DIGESTER_BATCH_BYTES);

	free(taker->room(taker->context));
	memcpy(bytes, torn, content.size);
	content.data = bytes;
	sha256_once(bytes, content.size, content.digest);
	taker->give(taker->context, bytes, &content, 1);
}

/* As a scan does that found another content at its second look. */
static struct manifest *build(void *context, const struct digester_taker *taker)
{
	struct pushing *pushing = context;

	give(taker);
	gateway_thread_until(gateway, someone_waits, NULL);
	pushing->manifest = place_build(pushing->place);
	return pushing->manifest;
}

static void leave_at_commit(void *context, enum upload_phase phase, uint64_t bytes_done, uint64_t bytes_total)
{
	struct pushing *pushing = context;

	if (phase == UPLOAD_COMMITTING && pushing->sibling) {
		client_call_close(pushing->sibling);
		pushing->sibling = NULL;
	}
}

static void a_push_goes_on_without_it(void **state)
{
	struct pushing pushing = { .place = *state };
	struct upload_options options = { .build = build, .progress = leave_at_commit, .context = &pushing };
	const struct digest digest = torn_digest();
	struct client *other;
	struct upload_totals totals;
	struct push_response response;
	struct buffer request = request_list(2, &digest, 1, false);
	enum grpc_status status;
	char why[1024];

	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	other = gateway_thread_client(gateway, NULL);
	options.client = client = gateway_thread_client(gateway, NULL);
	place_make_small(pushing.place);
	pushing.sibling = push_open(other);
	assert_true(ask(pushing.sibling, &request, &response));
	assert_false(answered_bit(&response, 0));
	if (upload(&options, &totals, &status, why, sizeof(why)) != UPLOAD_OK)
		fail_msg("upload: %s", why);
	manifest_destroy(pushing.manifest);
	assert_int_equal(totals.commits, 2);
	assert_int_equal(totals.blobs_sent, 51 + 6);
	client_close(client);
	client_close(other);
	gateway_thread_stop(gateway, true);
}

/* ---- one that does not stop ---- */

#define STUBBORN_PUSH "/test.Stubborn/Push"

static void answer(struct call *call, const struct message_type *type, uint32_t number, const void *message)
{
	struct buffer response = buffer_heap(4096);

	message_nest(type, &response, number, message);
	call_send(call, buffer_span(&response), 0);
	buffer_fini(&response);
}

static void answer_missing(struct call *call)
{
	const struct digest digest = torn_digest();
	struct buffer list = buffer_heap(256);

	digest_list_put(&list, &digest);
	answer(call, &push_missing_type, 4, &(struct push_missing){ .blobs = buffer_span(&list), .count = 1 });
	buffer_fini(&list);
}

/* The first of each list is promised, and nothing is there. */
static void stubborn_on_message(struct call *call, struct span message)
{
	static const uint8_t first = 1;
	struct push_answer promised = { .present = span_make(&first, 1), .promised = span_make(&first, 1) };
	struct push_request request;

	if (!message_decode(&push_request_type, message, &request))
		call_finish(call, GRPC_INVALID_ARGUMENT, "malformed");
	else if (request.offer.data)
		answer(call, &push_answer_type, 1, &(struct push_answer){ 0 });
	else if (request.query.data)
		answer(call, &push_answer_type, 1, &promised);
	else if (request.commit.data)
		answer_missing(call);
	else
		answer(call, &push_stored_type, 2, &(struct push_stored){ 0 });
}

static void stubborn_on_end(struct call *call)
{
	call_finish(call, GRPC_OK, NULL);
}

static void stubborn_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	call_fini(call);
	free(call);
}

static int stubborn_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	static const struct call_events events = {
		.on_message = stubborn_on_message, .on_end = stubborn_on_end, .on_closed = stubborn_on_closed,
	};
	struct call *call = calloc(1, sizeof(*call));

	call_accept(call, request->stream, request->head, SLUICE_MESSAGE_BYTES_MAX, &events, call);
	return 0;
}

struct ended {
	bool done, closed;
	int outcome;
	char why[UPLOADER_WHY_MAX];
};

static void on_done(struct uploader *uploader, int outcome, enum grpc_status status, const char *why)
{
	struct ended *ended = uploader_owner(uploader);

	ended->done = true;
	ended->outcome = outcome;
	snprintf(ended->why, sizeof(ended->why), "%s", why);
}

static void on_closed(void *owner)
{
	((struct ended *)owner)->closed = true;
}

static int open_stubborn(void *owner, struct call *call, const char *path, size_t message_bytes_max,
                         const struct call_events *events, void *call_owner)
{
	return client_call_start(client, call, STUBBORN_PUSH, message_bytes_max, events, call_owner);
}

static void a_gateway_that_does_not_stop_is_given_up_on(void **state)
{
	static const struct server_method more[] = { { STUBBORN_PUSH, stubborn_start }, { NULL, NULL } };
	static const struct uploader_events events = { .on_done = on_done, .on_closed = on_closed };
	struct shelf *shelf = calloc(1, sizeof(*shelf));
	const struct digest digest = torn_digest();
	struct ended ended = { 0 };
	struct uploader *uploader;
	uint64_t commits;

	gateway = gateway_thread_start(&(struct gateway_thread_options){ .more = more });
	client = gateway_thread_client(gateway, NULL);
	shelf_make(shelf, client_ring(client), 1);
	assert_int_equal(uploader_create(&uploader, &(struct uploader_config){
		.ring = client_ring(client), .source = &shelf->source, .events = &events, .owner = &ended, .open = open_stubborn,
	}), 0);
	assert_int_equal(uploader_feed(uploader, &digest, 1), 0);
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	while (!ended.done)
		assert_int_equal(client_run(client), CLIENT_OK);
	commits = uploader_totals(uploader)->commits;
	uploader_close(uploader);
	while (!ended.closed)
		assert_int_equal(client_run(client), CLIENT_OK);
	if (ended.outcome != -EAGAIN)
		fail_msg("%d: %s", ended.outcome, ended.why);
	assert_int_equal(commits, 1 + UPLOADER_COMMITS_MAX);
	shelf_fini(shelf);
	free(shelf);
	client_close(client);
	gateway_thread_stop(gateway, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_push_goes_on_without_it, place_setup, place_teardown),
		cmocka_unit_test(a_gateway_that_does_not_stop_is_given_up_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
