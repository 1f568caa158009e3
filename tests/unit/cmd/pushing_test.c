/*
 * Shows, against a gateway in a thread, that the connection is kept while a directory with a snapshot is scanned, and that a file
 * that changes before it is sent costs a scan, but not that all is read again, unless the snapshot proves to be wrong; that what is
 * ignored is the same in each attempt; and that a new snapshot tidies up among the old ones. When the scan, or the sending, opens a
 * certain file is this test's to tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/cmd/commands.h"
#include "gateway/cmd/pushing.h"
#include "gateway/context/snapshot_file.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/context/place.h"

#define IDLE_NS    3000000000u
#define PATIENCE_S 10

const struct command *const command_table[] = { NULL };
static const struct command command = { .name = "push" };

static struct place *place;
static struct gateway_thread *gateway;
static struct client *client;

/* ---- opening ---- */

static struct {
	const char *name;                /* NULL: none */
	unsigned number;                 /* at which of the times that it is opened */
	void (*then)(void);
	atomic_uint times;
} opening;

static void at_opening(const char *name, unsigned number, void (*then)(void))
{
	atomic_store(&opening.times, 0);
	opening.number = number;
	opening.then = then;
	opening.name = name;
}

int openat(int dir_fd, const char *name, int flags, ...)
{
	mode_t mode = 0;

	if (flags & O_CREAT) {
		va_list arguments;

		va_start(arguments, flags);
		mode = va_arg(arguments, mode_t);
		va_end(arguments);
	}
	if (opening.name && strcmp(name, opening.name) == 0 && atomic_fetch_add(&opening.times, 1) + 1 == opening.number)
		opening.then();
	return (int)syscall(SYS_openat, dir_fd, name, flags, mode);
}

/* ---- set-up ---- */

static void connect_to_gateway(uint64_t idle_timeout_ns)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .idle_timeout_ns = idle_timeout_ns });
	client = gateway_thread_client(gateway, NULL);
}

static void disconnect(void)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
}

static int setup(void **state)
{
	if (place_setup(state))
		return -1;
	place = *state;
	opening.name = NULL;
	setenv("XDG_CACHE_HOME", place->base, 1);
	place_make_small(place);
	grow_old();
	connect_to_gateway(0);
	return 0;
}

static int teardown(void **state)
{
	disconnect();
	return place_teardown(state);
}

/* How many files the last attempt read. */
static uint64_t push(struct pushing *pushing)
{
	int status;

	pushing->command = &command;
	pushing->client = client;
	pushing->gateway = gateway_thread_path(gateway);
	if (!pushing->directory)
		pushing->directory = place->tree;
	pushing->progress = progress_create(&(struct progress_config){ .mode = PROGRESS_QUIET, .title = "sluice push" });
	status = pushing_run(pushing);
	progress_destroy(pushing->progress);
	explain_destroy(pushing->explained);
	assert_int_equal(status, STATUS_OK);
	return pushing->scanned.files_read;
}

/* ---- the connection ---- */

static struct post turned_post;
static sem_t turned;
static bool has_turned;

static void on_turned(struct post *post)
{
	sem_post(&turned);
}

/* In the scan: whether the ring's thread hears of it, and then longer than the connection may be idle. */
static void scan_slowly(void)
{
	struct timespec until;
	int r;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	turned_post.fn = on_turned;
	ring_post(client_ring(client), &turned_post);
	while ((r = sem_timedwait(&turned, &until)) < 0 && errno == EINTR)
		;
	has_turned = r == 0;
	usleep(IDLE_NS / 1000 * 3 / 2);
}

static void the_connection_is_kept_during_a_scan(void **state)
{
	disconnect();
	connect_to_gateway(IDLE_NS);
	sem_init(&turned, 0, 0);
	push(&(struct pushing){ 0 });
	place_write_text(place, "changed", "changed");
	at_opening("changed", 1, scan_slowly);
	push(&(struct pushing){ 0 });
	assert_true(has_turned);
	sem_destroy(&turned);
}

/* ---- files that change ---- */

static void change_file(void)
{
	place_write_text(place, "top", "changed");
}

/* It is opened by the scan, and then to be sent. An explanation is of a tree, so nothing goes ahead of that. */
static void a_changed_file_is_read_again_alone(void **state)
{
	struct pushing pushing = { .explain = true };

	at_opening("top", 2, change_file);
	assert_int_equal(push(&pushing), 1);
	assert_true(atomic_load(&opening.times) > 2);
}

/* A pipe gives its bytes once. */
static void rules_from_a_pipe_are_those_of_each_attempt(void **state)
{
	char path[32];
	struct pushing pushing = { .explain = true, .ignore_path = path };
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "d*\n", 3), 3);
	close(ends[1]);
	snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
	at_opening("top", 2, change_file);
	push(&pushing);
	close(ends[0]);
	assert_true(atomic_load(&opening.times) > 2);
	assert_int_equal(pushing.scanned.files, 1);
}

/* As a change that no stat shows: the snapshot gets the stat that the file has now. */
static void make_snapshot_wrong(const char *name)
{
	char path[PATH_MAX], real[PATH_MAX];
	struct snapshot_file file;
	struct snapshot wrong;
	struct stat st;
	bool found = false;

	assert_int_equal(fstatat(place->fd, name, &st, 0), 0);
	assert_true(pushing_snapshot_path(place->tree, path, sizeof(path)));
	assert_non_null(realpath(place->tree, real));
	assert_true(snapshot_file_open(&file, path, span_text(real)));
	wrong = file.snapshot;
	wrong.table.rows = malloc(wrong.table.rows_count * sizeof(wrong.table.rows[0]));
	memcpy(wrong.table.rows, file.snapshot.table.rows, wrong.table.rows_count * sizeof(wrong.table.rows[0]));
	for (uint32_t i = 0; i < wrong.table.rows_count; i++)
		if (span_is(table_name(&wrong.table, &wrong.table.rows[i]), name)) {
			digester_stat(&wrong.table.rows[i], &st, INT64_MAX);
			found = true;
		}
	assert_true(found);
	assert_int_equal(snapshot_file_save(path, &wrong), 0);
	free(wrong.table.rows);
	snapshot_file_close(&file);
}

static void a_wrong_snapshot_is_not_believed_again(void **state)
{
	push(&(struct pushing){ 0 });
	place_write_text(place, "top", "TOP");
	grow_old();
	make_snapshot_wrong("top");
	disconnect();
	connect_to_gateway(0);
	/* It is asked for there, and read: that shows what is wrong. */
	assert_int_equal(push(&(struct pushing){ 0 }), 51);
	assert_int_equal(push(&(struct pushing){ 0 }), 0);
}

static void a_new_snapshot_tidies_up(void **state)
{
	const struct timespec times[2] = { 0 };
	char path[PATH_MAX];
	int fd;

	assert_true(pushing_snapshot_path(place->tree, path, sizeof(path)));
	strcat(path, ".123456");
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	push(&(struct pushing){ 0 });
	assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_connection_is_kept_during_a_scan, setup, teardown),
		cmocka_unit_test_setup_teardown(a_changed_file_is_read_again_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(rules_from_a_pipe_are_those_of_each_attempt, setup, teardown),
		cmocka_unit_test_setup_teardown(a_wrong_snapshot_is_not_believed_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_new_snapshot_tidies_up, setup, teardown),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
