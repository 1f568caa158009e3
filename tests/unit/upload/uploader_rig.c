#include "tests/unit/upload/uploader_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gateway_thread *gateway;
struct client *client;
struct shelf *shelf;
struct seen seen;

static int engine;

static void on_stored(struct uploader *uploader, const struct digest *digests, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_true(digest_set_add(&seen.stored, &digests[i]) >= 0);
	if (seen.close_on_stored)
		uploader_close(uploader);
}

static void on_pack(struct uploader *uploader, const struct uploader_piece *pieces, size_t count, uint64_t wire_bytes)
{
	for (size_t i = 0; i < count; i++)
		if (seen.hurried && digest_equal(&pieces[i].digest, seen.hurried))
			seen.hurried_at = seen.sent + i;
	seen.sent += count;
	if (seen.hurry)
		uploader_hurry(uploader, seen.hurried, 1);
}

static void on_progress(struct uploader *uploader, enum uploader_phase phase, uint64_t bytes_done, uint64_t bytes_total)
{
	assert_true(bytes_done >= seen.bytes_done && bytes_done <= bytes_total);
	seen.bytes_done = bytes_done;
	seen.bytes_total = bytes_total;
}

static void on_stale(struct uploader *uploader, const struct digest *digests, size_t count, const char *why)
{
	assert_int_equal(count, 1);
	assert_string_equal(why, "it has gone");
	seen.stale_digest = digests[0];
	seen.stale++;
}

static void on_done(struct uploader *uploader, int outcome, enum grpc_status status, const char *why)
{
	seen.done++;
	seen.outcome = outcome;
	seen.status = status;
	snprintf(seen.why, sizeof(seen.why), "%s", why);
	if (seen.close_on_done)
		uploader_close(uploader);
}

static void on_closed(void *owner)
{
	((struct seen *)owner)->closed++;
}

static const struct uploader_events events = {
	.on_stored = on_stored, .on_pack = on_pack, .on_progress = on_progress, .on_stale = on_stale, .on_done = on_done, .on_closed = on_closed,
};

static int open_call(void *owner, struct call *call, const char *path, size_t message_bytes_max,
                     const struct call_events *call_events, void *call_owner)
{
	return client_call_start(client, call, path, message_bytes_max, call_events, call_owner);
}

struct client *uploader_connect(struct gateway_thread *to, const char *token)
{
	struct client_config config = { .fd = -1, .address.local = true, .token = token, .engine = engine };
	struct client *connected = NULL;
	char why[512] = "";

	snprintf(config.address.host, sizeof(config.address.host), "%s/sock", gateway_thread_path(to));
	if (client_open(&connected, &config, why, sizeof(why)))
		fail_msg("client: %s", why);
	return connected;
}

struct uploader *uploader_begin(int level)
{
	struct uploader_config config = {
		.ring = client_ring(client), .source = &shelf->source, .events = &events, .owner = &seen, .level = level,
		.open = open_call,
	};

	digest_set_fini(&seen.stored);
	seen = (struct seen){ 0 };
	assert_int_equal(uploader_create(&seen.uploader, &config), 0);
	assert_ptr_equal(uploader_owner(seen.uploader), &seen);
	return seen.uploader;
}

void uploader_run_until(unsigned *counter, unsigned wanted)
{
	while (*counter < wanted)
		assert_int_equal(client_run(client), CLIENT_OK);
	assert_int_equal(*counter, wanted);
}

void uploader_expect_ok(unsigned times)
{
	uploader_run_until(&seen.done, times);
	if (seen.outcome != UPLOADER_OK)
		fail_msg("outcome %d: %s", seen.outcome, seen.why);
}

void uploader_end(void)
{
	uploader_close(seen.uploader);
	uploader_run_until(&seen.closed, 1);
}

int uploader_setup(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	client = uploader_connect(gateway, NULL);
	shelf = calloc(1, sizeof(*shelf));
	shelf_make(shelf, client_ring(client), 1);
	return 0;
}

int uploader_teardown(void **state)
{
	shelf_fini(shelf);
	free(shelf);
	client_close(client);
	gateway_thread_stop(gateway, true);
	digest_set_fini(&seen.stored);
	return 0;
}

void uploader_choose(int argc, char **argv)
{
	engine = argc > 1 && strcmp(argv[1], "epoll") == 0 ? RING_ENGINE_EPOLL : RING_ENGINE_AUTO;
}
