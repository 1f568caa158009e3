/*
 * Shows what the account says of each way in which a build ends: result, whose fault, the status that the client read;
 * times, also with a clock that was set back; that a build which ended is found in the ledger; and, with a whole daemon in
 * a process of its own between a client and a stand-in for buildkitd, that it gets there by itself and is listed.
 */
#include "tests/unit/ledger/fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gateway/client/client.h"
#include "gateway/daemon/account.h"
#include "gateway/daemon/daemon.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"
#include "tests/unit/buildkit/builder.h"

static struct build build_make(enum build_result result, enum grpc_status status)
{
	return (struct build){
		.tenant = "acme", .subject = "ci", .ref = "ref1", .session = "s", .directory = "web", .executor = "tcp://a:1",
		.asked_wall_ns = 1000, .begun_wall_ns = 1700, .ended_wall_ns = 9000, .steps = 11, .steps_cached = 9,
		.steps_failed = 1, .result = result, .status = status, .text = "what the client read",
	};
}

static void expect_end(enum build_result result, enum grpc_status status, enum ledger_result wanted,
                       enum ledger_fault fault, enum grpc_status told)
{
	struct build build = build_make(result, status);
	struct ledger_build line;

	account_line(&build, &line);
	assert_int_equal(line.result, wanted);
	assert_int_equal(line.fault, fault);
	assert_int_equal(line.status, told);
	assert_string_equal(line.error, wanted == LEDGER_RESULT_OK ? "" : "what the client read");
}

static void each_end_has_its_fault(void **state)
{
	expect_end(BUILD_DONE, GRPC_OK, LEDGER_RESULT_OK, LEDGER_FAULT_NONE, GRPC_OK);
	expect_end(BUILD_FAILED, GRPC_UNKNOWN, LEDGER_RESULT_FAILED, LEDGER_FAULT_USER, GRPC_UNKNOWN);
	expect_end(BUILD_FAILED, GRPC_INVALID_ARGUMENT, LEDGER_RESULT_FAILED, LEDGER_FAULT_USER, GRPC_INVALID_ARGUMENT);
	expect_end(BUILD_FAILED, GRPC_UNAVAILABLE, LEDGER_RESULT_FAILED, LEDGER_FAULT_PLATFORM, GRPC_UNAVAILABLE);
	expect_end(BUILD_FAILED, GRPC_INTERNAL, LEDGER_RESULT_FAILED, LEDGER_FAULT_PLATFORM, GRPC_INTERNAL);
	expect_end(BUILD_FAILED, GRPC_CANCELLED, LEDGER_RESULT_CANCELLED, LEDGER_FAULT_CLIENT_GONE, GRPC_CANCELLED);
	expect_end(BUILD_CANCELLED, GRPC_OK, LEDGER_RESULT_CANCELLED, LEDGER_FAULT_CLIENT_GONE, GRPC_CANCELLED);
	expect_end(BUILD_LOST, GRPC_OK, LEDGER_RESULT_LOST, LEDGER_FAULT_PLATFORM, GRPC_UNAVAILABLE);
	expect_end(BUILD_REFUSED, GRPC_UNAVAILABLE, LEDGER_RESULT_FAILED, LEDGER_FAULT_PLATFORM, GRPC_UNAVAILABLE);
	expect_end(BUILD_RUNNING, GRPC_OK, LEDGER_RESULT_LOST, LEDGER_FAULT_PLATFORM, GRPC_UNAVAILABLE);
}

static void waiting_in_a_replay_counts(void **state)
{
	struct build build = build_make(BUILD_DONE, GRPC_OK);
	struct ledger_build line;

	(void)state;
	build.replays = 2;
	build.rewaited_ns = 50;
	account_line(&build, &line);
	assert_int_equal(line.replays, 2);
	assert_int_equal(line.queue_ns, 750);
}

static void an_end_without_words_gets_some(void **state)
{
	struct build build = build_make(BUILD_FAILED, GRPC_OK);
	struct ledger_build line;

	build.text[0] = '\0';
	account_line(&build, &line);
	assert_int_equal(line.result, LEDGER_RESULT_FAILED);
	assert_int_equal(line.fault, LEDGER_FAULT_PLATFORM);
	assert_int_equal(line.status, GRPC_INTERNAL);
	assert_non_null(strstr(line.error, "without an answer"));
	build.result = BUILD_LOST;
	account_line(&build, &line);
	assert_non_null(strstr(line.error, "was lost"));
}

static void times_and_steps_are_counted(void **state)
{
	struct build build = build_make(BUILD_DONE, GRPC_OK);
	struct ledger_build line;

	account_line(&build, &line);
	assert_int_equal(line.queued_wall_ns, 1000);
	assert_int_equal(line.started_wall_ns, 1700);
	assert_int_equal(line.ended_wall_ns, 9000);
	assert_int_equal(line.queue_ns, 700);
	assert_int_equal(line.steps_cached, 9);
	assert_int_equal(line.steps_executed, 2);
	/* It never got an executor, and waited to its end. */
	build.begun_wall_ns = 0;
	build.executor[0] = '\0';
	account_line(&build, &line);
	assert_int_equal(line.started_wall_ns, 0);
	assert_int_equal(line.queue_ns, 8000);
	assert_string_equal(line.executor, "");
	build.ended_wall_ns = 500;
	account_line(&build, &line);
	assert_int_equal(line.queue_ns, 0);
}

static void an_ended_build_is_in_the_ledger(void **state)
{
	struct build build = build_make(BUILD_FAILED, GRPC_UNKNOWN);
	struct ledger_build found;
	struct ledger_list list = { .tenant = "acme", .builds = &found, .limit = 1 };
	struct account account = { 0 };
	struct fixture fixture;

	fixture_init(&fixture, "sqlite", "auto");
	fixture_open(&fixture);
	account.ledger = fixture.ledger;
	account_on_ended(&account, &build);
	memset(&build, 0x5a, sizeof(build));     /* it is freed after the return */
	assert_int_equal(list_lines(&fixture, &list), LEDGER_OK);
	assert_int_equal(list.count, 1);
	assert_string_equal(found.tenant, "acme");
	assert_string_equal(found.subject, "ci");
	assert_string_equal(found.ref, "ref1");
	assert_string_equal(found.directory, "web");
	assert_string_equal(found.executor, "tcp://a:1");
	assert_string_equal(found.error, "what the client read");
	/* One that ends just before the ledger does. */
	build = build_make(BUILD_DONE, GRPC_OK);
	account_on_ended(&account, &build);
	fixture_close(&fixture);
	fixture_open(&fixture);
	assert_int_equal(count_lines(&fixture, "acme"), 2);
	fixture_fini(&fixture);
}

/* ---- a whole daemon ---- */

#define CONTROL "/moby.buildkit.v1.Control/"

static char directory[64];

/* The daemon's process, which begins before any thread does: it hears of the builder's address by `address_fd`. */
static void run_daemon(int address_fd)
{
	char listen_address[112], store_path[80], address[ADDRESS_TEXT_MAX] = "", why[1024] = "";
	const char *listen[] = { listen_address }, *buildkit[] = { address };
	struct daemon_config config = {
		.listen = listen, .listen_count = 1, .store_path = store_path, .ceiling = "100MB", .user = "nobody",
		.drain_timeout_ns = 1000000000u, .buildkit = buildkit, .buildkit_count = 1,
	};

	alarm(60);
	snprintf(store_path, sizeof(store_path), "%s/store", directory);
	snprintf(listen_address, sizeof(listen_address), "unix://%s/store/s", directory);
	if (read(address_fd, address, sizeof(address) - 1) <= 0)
		_exit(1);
	if (daemon_run(&config, why, sizeof(why)) < 0) {
		fprintf(stderr, "%s\n", why);
		_exit(1);
	}
	/* Who has changed its ids cannot be looked at, not by LeakSanitizer either. */
	prctl(PR_SET_DUMPABLE, 1);
	exit(0);
}

static struct client *connect_client(void)
{
	struct client_config config = { .fd = -1, .address.local = true };
	struct client *client;
	char why[512];
	int r = -1;

	snprintf(config.address.host, sizeof(config.address.host), "%s/store/s", directory);
	/* There is no event to wait for: another process has to open its socket first. */
	for (int i = 0; i < 10000 && r < 0; i++) {
		r = client_open(&client, &config, why, sizeof(why));
		if (r < 0)
			usleep(2000);
	}
	assert_int_equal(r, 0);
	return client;
}

/* A Solve, and whatever its end is. */
static void build_once(struct client *client, struct builder *builder, const char *ref, enum grpc_status status)
{
	struct buffer out = buffer_heap(256);
	struct client_call *call;
	struct span message;

	pb_put_text(&out, 1, ref);
	pb_put_text(&out, 5, "session");
	pb_put_text(&out, 6, "dockerfile.v0");
	assert_int_equal(client_call_open(&call, client, CONTROL "Solve", NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&out), 0), CLIENT_OK);
	client_send_end(call);
	client_wait(client, NULL, 0, NULL, 1000000);
	builder_until_open(builder, "Solve", 1);
	builder_finish(builder, ref, status, status ? "exit code: 2" : NULL);
	while (client_receive(call, &message, UINT64_MAX) == CLIENT_OK)
		;
	client_call_close(call);
	buffer_fini(&out);
}

static uint32_t list_builds(struct client *client, struct client_call **call, struct builds_response *response)
{
	struct span bytes;

	client_call_close(*call);
	*call = NULL;
	assert_int_equal(client_unary(client, SLUICE_BUILDS, (struct span){ 0 }, call, &bytes), CLIENT_OK);
	assert_true(message_decode(&builds_response_type, bytes, response));
	return response->builds.count;
}

static void expect_builds(struct client *client, const char *executor)
{
	struct message_cursor cursor = { 0 };
	struct builds_response response;
	struct client_call *call = NULL;
	struct build_line line;
	struct span element;

	/* A build may end a little after its client has the answer. */
	for (int i = 0; i < 10000 && list_builds(client, &call, &response) < 2; i++)
		usleep(1000);
	assert_int_equal(response.builds.count, 2);
	assert_true(message_list_next(&response.builds, &cursor, &element));
	assert_true(message_decode(&build_line_type, element, &line));
	assert_true(span_is(line.ref, "second"));
	assert_int_equal(line.result, LEDGER_RESULT_FAILED);
	assert_int_equal(line.fault, LEDGER_FAULT_USER);
	assert_int_equal(line.status, GRPC_UNKNOWN);
	assert_true(span_is(line.error, "exit code: 2"));
	assert_true(message_list_next(&response.builds, &cursor, &element));
	assert_true(message_decode(&build_line_type, element, &line));
	assert_true(span_is(line.ref, "first"));
	assert_int_equal(line.result, LEDGER_RESULT_OK);
	assert_true(span_is(line.executor, executor));
	assert_true(line.started_unix_ns >= line.queued_unix_ns && line.ended_unix_ns >= line.started_unix_ns);
	client_call_close(call);
}

static void builds_come_to_be_listed_by_themselves(void **state)
{
	struct builder builder = { .name = "one" };
	struct client *client;
	char command[128];
	int fds[2], status;
	pid_t pid;

	snprintf(directory, sizeof(directory), "/tmp/sluice-account-XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chmod(directory, 0755), 0);
	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		run_daemon(fds[0]);
	builder_start(&builder);
	assert_int_equal(write(fds[1], builder.address, strlen(builder.address)), (ssize_t)strlen(builder.address));
	client = connect_client();
	build_once(client, &builder, "first", GRPC_OK);
	build_once(client, &builder, "second", GRPC_UNKNOWN);
	expect_builds(client, builder.address);
	client_close(client);
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	builder_stop(&builder);
	close(fds[0]);
	close(fds[1]);
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(builds_come_to_be_listed_by_themselves),
		cmocka_unit_test(each_end_has_its_fault),
		cmocka_unit_test(waiting_in_a_replay_counts),
		cmocka_unit_test(an_end_without_words_gets_some),
		cmocka_unit_test(times_and_steps_are_counted),
		cmocka_unit_test(an_ended_build_is_in_the_ledger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
