/*
 * Shows that the account keeps what it is told: lines come back whole, newest first, filtered, and only to their tenant;
 * after a reopening, too; lines wait while the disk refuses and are dropped when too many wait; what was not written at
 * the end is told; a damaged or foreign file is refused with what to do; old lines go.
 *
 * With SQLite and with an engine that answers late (first argument), on both ring engines (second).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/ledger/fixture.h"
#include "tests/unit/ledger/ledger_slow.h"

static const char *engine_name = "sqlite", *ring_name = "auto";
static struct fixture fixture;

static int setup(void **state)
{
	fixture_init(&fixture, engine_name, ring_name);
	fixture_open(&fixture);
	return 0;
}

static int teardown(void **state)
{
	fixture_fini(&fixture);
	return 0;
}

static struct ledger_build found[LEDGER_LIST_MAX];

static size_t find(const char *tenant, uint64_t since_wall_ns, bool only_failed, size_t limit)
{
	struct ledger_list list = { .since_wall_ns = since_wall_ns, .only_failed = only_failed, .builds = found, .limit = limit };

	ledger_text(list.tenant, sizeof(list.tenant), span_text(tenant));
	assert_int_equal(list_lines(&fixture, &list), LEDGER_OK);
	return list.count;
}

static void expect_line(const struct ledger_build *got, const struct ledger_build *wanted)
{
	assert_string_equal(got->tenant, wanted->tenant);
	assert_string_equal(got->subject, wanted->subject);
	assert_string_equal(got->ref, wanted->ref);
	assert_string_equal(got->directory, wanted->directory);
	assert_string_equal(got->executor, wanted->executor);
	assert_int_equal(got->queued_wall_ns, wanted->queued_wall_ns);
	assert_int_equal(got->started_wall_ns, wanted->started_wall_ns);
	assert_int_equal(got->ended_wall_ns, wanted->ended_wall_ns);
	assert_int_equal(got->queue_ns, wanted->queue_ns);
	assert_int_equal(got->files, wanted->files);
	assert_int_equal(got->files_changed, wanted->files_changed);
	assert_int_equal(got->bytes_from_client, wanted->bytes_from_client);
	assert_int_equal(got->bytes_from_store, wanted->bytes_from_store);
	assert_int_equal(got->bytes_to_executor, wanted->bytes_to_executor);
	assert_int_equal(got->steps_cached, wanted->steps_cached);
	assert_int_equal(got->steps_executed, wanted->steps_executed);
	assert_int_equal(got->replays, wanted->replays);
	assert_int_equal(got->status, wanted->status);
	assert_int_equal(got->result, wanted->result);
	assert_int_equal(got->fault, wanted->fault);
	assert_string_equal(got->error, wanted->error);
}

static void append_numbers(const char *tenant, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i <= to; i++) {
		struct ledger_build build = line_make(tenant, i);

		assert_int_equal(append_line(&fixture, &build), LEDGER_OK);
	}
}

static void lines_come_back_whole_and_newest_first(void **state)
{
	static const uint32_t order[] = { 3, 9, 1, 5, 4 }, wanted[] = { 9, 5, 4, 3, 1 };
	struct ledger_build build;

	for (size_t i = 0; i < 5; i++)
		append_numbers("acme", order[i], order[i]);
	assert_int_equal(find("acme", 0, false, 100), 5);
	for (size_t i = 0; i < 5; i++) {
		build = line_make("acme", wanted[i]);
		expect_line(&found[i], &build);
	}
	/* Of two that ended at one time the one that was told last is the newer one. */
	build = line_make("acme", 9);
	snprintf(build.ref, sizeof(build.ref), "later");
	assert_int_equal(append_line(&fixture, &build), LEDGER_OK);
	assert_int_equal(find("acme", 0, false, 1), 1);
	assert_string_equal(found[0].ref, "later");
	assert_int_equal(status_of(&fixture).lines_written, 6);
	assert_int_equal(status_of(&fixture).lines_waiting, 0);
}

static void the_longest_line_fits(void **state)
{
	struct ledger_build build = line_make("t", 7);

	memset(build.tenant, 'T', sizeof(build.tenant) - 1);
	memset(build.subject, 'S', sizeof(build.subject) - 1);
	memset(build.ref, 'R', sizeof(build.ref) - 1);
	memset(build.directory, '\xff', sizeof(build.directory) - 1);
	memset(build.executor, 'E', sizeof(build.executor) - 1);
	memset(build.error, '\'', sizeof(build.error) - 1);
	build.bytes_from_client = UINT64_MAX;    /* more than a row can hold: kept as the most that it can */
	build.steps_cached = build.steps_executed = build.replays = build.status = UINT32_MAX;
	assert_int_equal(append_line(&fixture, &build), LEDGER_OK);
	assert_int_equal(find(build.tenant, 0, false, 2), 1);
	build.bytes_from_client = INT64_MAX;
	expect_line(&found[0], &build);
}

static void lists_are_filtered(void **state)
{
	append_numbers("acme", 1, 40);
	assert_int_equal(find("acme", 0, false, LEDGER_LIST_MAX), 40);
	assert_int_equal(find("acme", 0, false, 7), 7);
	assert_int_equal(found[6].ended_wall_ns, 34000000000ull);
	assert_int_equal(find("acme", 31000000000ull, false, 100), 10);
	assert_int_equal(find("acme", 31000000001ull, false, 100), 9);
	assert_int_equal(find("acme", UINT64_MAX, false, 100), 0);
	/* Numbers of failed and lost ones: 1 and 3 modulo 4. */
	assert_int_equal(find("acme", 0, true, 100), 20);
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(found[i].ended_wall_ns, (39 - 2 * i) * 1000000000ull);
	assert_int_equal(find("acme", 31000000000ull, true, 3), 3);
	assert_int_equal(found[2].ended_wall_ns, 35000000000ull);
}

static void tenants_see_their_own_lines(void **state)
{
	static const char *const names[] = { "acme", "Acme", "acme2", "acm", "a%", "acme'", "a_me" };

	for (uint32_t i = 0; i < 7; i++)
		append_numbers(names[i], 1, i + 1);
	for (uint32_t i = 0; i < 7; i++)
		assert_int_equal(count_lines(&fixture, names[i]), i + 1);
	assert_int_equal(count_lines(&fixture, "nobody"), 0);
}

static void expect_private(const char *suffix)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s%s", fixture_path(&fixture), suffix);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void lines_survive_a_reopening(void **state)
{
	struct ledger_build build = line_make("acme", 2);
	mode_t mask = umask(0);

	fixture_close(&fixture);
	assert_int_equal(unlink(fixture_path(&fixture)), 0);
	fixture_open(&fixture);
	append_numbers("acme", 1, 2);
	expect_private("");
	expect_private("-wal");
	expect_private("-shm");
	umask(mask);
	fixture_close(&fixture);
	fixture_open(&fixture);
	append_numbers("acme", 3, 3);
	assert_int_equal(find("acme", 0, false, 10), 3);
	expect_line(&found[1], &build);
}

/* What a reader sees of a file that its writer did not close: the log is read, too. */
static void written_lines_survive_a_crash(void **state)
{
	char command[256];

	append_numbers("acme", 1, 3);
	snprintf(command, sizeof(command), "mkdir %s/copy && cp %s* %s/copy", fixture.directory, fixture_path(&fixture),
	         fixture.directory);
	assert_int_equal(system(command), 0);
	fixture_close(&fixture);
	snprintf(command, sizeof(command), "mv %s/copy/* %s", fixture.directory, fixture.directory);
	assert_int_equal(system(command), 0);
	fixture_open(&fixture);
	assert_int_equal(count_lines(&fixture, "acme"), 3);
}

/* ---- waiting, and being dropped ---- */

static unsigned landed[4];               /* by result: OK, dropped, -, negative */

static void count_result(struct ledger_append *append)
{
	landed[append->result < 0 ? 3 : append->result]++;
}

static struct ledger_append *append_many(uint32_t count)
{
	struct ledger_append *appends = calloc(count, sizeof(*appends));

	memset(landed, 0, sizeof(landed));
	assert_non_null(appends);
	for (uint32_t i = 0; i < count; i++) {
		appends[i].build = line_make("acme", i + 1);
		appends[i].fn = count_result;
		ledger_append(fixture.ledger, &appends[i]);
	}
	return appends;
}

static void run_until_landed(unsigned count)
{
	uint64_t end_ns = ring_now_ns(fixture.ring) + 20000000000u;

	while (landed[0] + landed[1] + landed[3] < count) {
		ring_run(fixture.ring, 100000000);
		assert_true(ring_now_ns(fixture.ring) < end_ns);
	}
}

static void append_all(uint32_t count)
{
	struct ledger_append *appends = append_many(count);

	run_until_landed(count);
	assert_int_equal(landed[LEDGER_OK], count);
	free(appends);
}

static void a_list_sees_what_was_appended_before(void **state)
{
	struct ledger_append *appends = append_many(700);

	/* Three batches, and none of them has gathered long enough. */
	assert_int_equal(find("acme", 0, false, LEDGER_LIST_MAX), 700);
	assert_int_equal(found[0].ended_wall_ns, 700000000000ull);
	assert_int_equal(landed[LEDGER_OK], 700);
	free(appends);
}

static void lines_are_dropped_when_too_many_wait(void **state)
{
	struct ledger_append *appends = append_many(LEDGER_WAITING_MAX + 5);

	assert_int_equal(landed[LEDGER_DROPPED], 5);
	assert_int_equal(appends[LEDGER_WAITING_MAX].result, LEDGER_DROPPED);
	assert_int_equal(status_of(&fixture).lines_dropped, 5);
	assert_int_equal(status_of(&fixture).lines_waiting, LEDGER_WAITING_MAX);
	run_until_landed(LEDGER_WAITING_MAX + 5);
	assert_int_equal(landed[LEDGER_OK], LEDGER_WAITING_MAX);
	assert_int_equal(status_of(&fixture).lines_written, LEDGER_WAITING_MAX);
	free(appends);
	append_all(1);
	assert_int_equal(status_of(&fixture).lines_dropped, 5);
}

/* Somebody writes with sqlite3, for longer than we wait: lines are kept, lists answered, and written in their order. */
static void lines_wait_while_the_file_is_locked(void **state)
{
	struct ledger_append *appends;
	sqlite3 *other;

	append_numbers("acme", 500, 500);
	assert_int_equal(sqlite3_open(fixture_path(&fixture), &other), SQLITE_OK);
	sqlite3_busy_timeout(other, 20000);      /* the ledger itself may be writing still */
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	appends = append_many(3);
	while (status_of(&fixture).errors == 0)
		ring_run(fixture.ring, 100000000);
	assert_int_equal(landed[0] + landed[3], 0);
	assert_int_equal(find("acme", 0, false, 10), 1);
	assert_int_equal(status_of(&fixture).lines_waiting, 3);
	assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(other);
	run_until_landed(3);
	assert_int_equal(landed[LEDGER_OK], 3);
	assert_int_equal(find("acme", 0, false, 10), 4);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(found[i + 1].ended_wall_ns, (3 - i) * 1000000000ull);
	free(appends);
}

/* Somebody keeps the whole file to himself while the gateway starts: it starts, and the ledger follows. */
static void it_is_opened_when_it_can_be(void **state)
{
	struct ledger_append *appends;
	sqlite3 *other;

	append_numbers("acme", 500, 500);
	fixture_close(&fixture);
	assert_int_equal(sqlite3_open(fixture_path(&fixture), &other), SQLITE_OK);
	sqlite3_busy_timeout(other, 20000);      /* the ledger itself may be writing still */
	assert_int_equal(sqlite3_exec(other, "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM builds", NULL, NULL, NULL),
	                 SQLITE_OK);
	fixture_open(&fixture);
	appends = append_many(3);
	while (status_of(&fixture).errors < 2)
		ring_run(fixture.ring, 100000000);
	assert_int_equal(landed[0] + landed[3], 0);
	sqlite3_close(other);
	run_until_landed(3);
	assert_int_equal(landed[LEDGER_OK], 3);
	assert_int_equal(count_lines(&fixture, "acme"), 4);
	free(appends);
}

/* The ledger is not open yet; then the lines that came meanwhile are written. */
static void expect_late_lines(void (*mend)(void))
{
	struct ledger_append *appends = append_many(3);
	uint64_t errors = status_of(&fixture).errors;

	while (status_of(&fixture).errors < errors + 2)
		ring_run(fixture.ring, 100000000);
	assert_int_equal(landed[LEDGER_OK], 0);
	mend();
	run_until_landed(3);
	assert_int_equal(landed[LEDGER_OK], 3);
	free(appends);
}

static struct rlimit descriptors;

static void give_descriptors(void)
{
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
}

static void lines_wait_for_descriptors(void **state)
{
	struct ring_config config = { .engine = fixture.ring_engine };
	struct rlimit none;
	char why[1024];
	int r;

	fixture_close(&fixture);
	assert_int_equal(ring_create(&fixture.ring, &config), 0);
	fixture.config.ring = fixture.ring;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &descriptors), 0);
	none = descriptors;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	r = ledger_open(&fixture.ledger, &fixture.config, why, sizeof(why));
	if (r)
		give_descriptors();
	assert_int_equal(r, 0);
	expect_late_lines(give_descriptors);
}

static void remove_fillers(void)
{
	char path[96];
	int r = 0;

	for (unsigned i = 0; r == 0; i++) {
		snprintf(path, sizeof(path), "%s/filler-%u", fixture.directory, i);
		r = unlink(path);
	}
}

/* A disk with room for bytes and none for files, which needs root. */
static void lines_wait_for_inodes(void **state)
{
	char path[96];
	int fd = 0;

	if (geteuid() != 0)
		skip();
	fixture_close(&fixture);
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("none", fixture.directory, "tmpfs", 0, "size=4m,nr_inodes=6"), 0);
	for (int made = 0; made < 2; made++) {
		if (made) {
			fixture_open(&fixture);
			fixture_close(&fixture);
		}
		for (unsigned i = 0; fd >= 0; i++) {
			snprintf(path, sizeof(path), "%s/filler-%u", fixture.directory, i);
			fd = open(path, O_WRONLY | O_CREAT, 0600);
			if (fd >= 0)
				close(fd);
		}
		assert_int_equal(errno, ENOSPC);
		fd = 0;
		fixture_open(&fixture);
		expect_late_lines(remove_fillers);
		fixture_close(&fixture);
	}
	assert_int_equal(umount(fixture.directory), 0);
	fixture_open(&fixture);
}

static void fill_disk(const char *path)
{
	static const uint8_t zeros[4096];
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	close(fd);
}

/* On a disk of its own, which needs root: full while it runs, full when it starts, and full when it is made. */
static void lines_wait_while_the_disk_is_full(void **state)
{
	struct ledger_append *appends;
	char filler[96];

	if (geteuid() != 0)
		skip();
	snprintf(filler, sizeof(filler), "%s/filler", fixture.directory);
	fixture_close(&fixture);
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("none", fixture.directory, "tmpfs", 0, "size=1m"), 0);
	fill_disk(filler);
	fixture_open(&fixture);
	appends = append_many(300);
	while (status_of(&fixture).errors < 2)
		ring_run(fixture.ring, 100000000);
	assert_int_equal(unlink(filler), 0);
	run_until_landed(300);
	assert_int_equal(landed[LEDGER_OK], 300);
	free(appends);
	fill_disk(filler);
	appends = append_many(300);
	while (status_of(&fixture).errors < 3)
		ring_run(fixture.ring, 100000000);
	assert_int_equal(count_lines(&fixture, "acme"), 300);    /* what is there can be read */
	fixture_close(&fixture);
	assert_int_equal(landed[3], 300);
	assert_int_equal(appends[0].result, -ENOSPC);
	free(appends);
	fixture_open(&fixture);
	assert_int_equal(unlink(filler), 0);
	append_all(10);
	assert_int_equal(count_lines(&fixture, "acme"), 310);
	fixture_close(&fixture);
	assert_int_equal(umount(fixture.directory), 0);
	fixture_open(&fixture);
}

/* A reader that keeps its view open does not keep us from writing. */
static void readers_do_not_hinder(void **state)
{
	sqlite3_stmt *statement;
	sqlite3 *other;

	append_numbers("acme", 1, 1);
	assert_int_equal(sqlite3_open(fixture_path(&fixture), &other), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(other, "SELECT * FROM builds", -1, &statement, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
	append_numbers("acme", 2, 3);
	assert_int_equal(status_of(&fixture).errors, 0);
	sqlite3_finalize(statement);
	sqlite3_close(other);
}

static void a_refused_batch_is_written_later(void **state)
{
	struct ledger_append *appends;

	if (fixture.config.engine != &ledger_slow)
		skip();
	ledger_slow_refusals = 1;
	appends = append_many(LEDGER_BATCH_MAX + 10);
	run_until_landed(LEDGER_BATCH_MAX + 10);
	assert_int_equal(landed[LEDGER_OK], LEDGER_BATCH_MAX + 10);
	assert_int_equal(status_of(&fixture).errors, 1);
	assert_int_equal(count_lines(&fixture, "acme"), LEDGER_BATCH_MAX + 10);
	free(appends);
}

/* ---- the end ---- */

static void the_end_writes_what_waits(void **state)
{
	struct ledger_append *appends = append_many(600);

	fixture_close(&fixture);
	assert_int_equal(landed[LEDGER_OK], 600);
	free(appends);
	fixture_open(&fixture);
	assert_int_equal(count_lines(&fixture, "acme"), 600);
	/* With a write running, a list waiting, and nothing at all. */
	appends = append_many(1);
	ring_run(fixture.ring, 0);
	fixture_close(&fixture);
	assert_int_equal(landed[LEDGER_OK], 1);
	free(appends);
	fixture_open(&fixture);
	fixture_close(&fixture);
	fixture_open(&fixture);
}

static void the_end_tells_what_it_could_not_write(void **state)
{
	struct ledger_append *appends;
	sqlite3 *other;

	assert_int_equal(sqlite3_open(fixture_path(&fixture), &other), SQLITE_OK);
	sqlite3_busy_timeout(other, 20000);      /* the ledger itself may be writing still */
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	appends = append_many(LEDGER_BATCH_MAX + 1);
	fixture_close(&fixture);
	assert_int_equal(landed[3], LEDGER_BATCH_MAX + 1);
	assert_int_equal(appends[0].result, -EBUSY);
	sqlite3_close(other);
	free(appends);
}

static unsigned lists_answered, lists_busy;

static void count_list(struct ledger_list *list)
{
	lists_busy += list->result == LEDGER_BUSY;
	lists_answered += list->result == LEDGER_OK && list->count == 1;
}

static void too_many_lists_are_refused(void **state)
{
	static struct ledger_list lists[LEDGER_LISTS_MAX + 2];

	append_numbers("acme", 1, 1);
	lists_answered = lists_busy = 0;
	for (size_t i = 0; i < LEDGER_LISTS_MAX + 2; i++) {
		lists[i] = (struct ledger_list){ .tenant = "acme", .builds = &found[i], .limit = 1, .fn = count_list };
		ledger_list(fixture.ledger, &lists[i]);
	}
	assert_int_equal(lists_busy, 2);
	/* Those that wait are answered also when the end comes first. */
	fixture_close(&fixture);
	assert_int_equal(lists_answered, LEDGER_LISTS_MAX);
	ledger_close(NULL, free, NULL);
}

/* ---- files that are not ours, or no longer whole ---- */

static void write_at(off_t offset, const void *data, size_t size)
{
	int fd = open(fixture_path(&fixture), O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, size, offset), (ssize_t)size);
	close(fd);
}

static void expect_refused(int error, const char *says)
{
	char why[1024];

	assert_int_equal(fixture_open_fails(&fixture, why), error);
	if (!strstr(why, says) || !strstr(why, fixture_path(&fixture)))
		fail_msg("\"%s\" does not say \"%s\"", why, says);
}

static void execute(const char *text)
{
	sqlite3 *other;

	assert_int_equal(sqlite3_open(fixture_path(&fixture), &other), SQLITE_OK);
	sqlite3_busy_timeout(other, 20000);      /* the ledger itself may be writing still */
	if (sqlite3_exec(other, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", text, sqlite3_errmsg(other));
	sqlite3_close(other);
}

static void what_is_no_ledger_is_refused(void **state)
{
	uint8_t garbage[4096];

	memset(garbage, 0x5a, sizeof(garbage));
	fixture_close(&fixture);
	execute("PRAGMA user_version = 2");
	expect_refused(-EPROTONOSUPPORT, "has format 2");
	execute("PRAGMA application_id = 17");
	expect_refused(-EPROTONOSUPPORT, "another program");
	write_at(0, garbage, sizeof(garbage));
	expect_refused(-EUCLEAN, "is damaged");
	write_at(0, "SQLite format 3", 16);
	expect_refused(-EUCLEAN, ".recover");
	assert_int_equal(unlink(fixture_path(&fixture)), 0);
	assert_int_equal(mkdir(fixture_path(&fixture), 0700), 0);
	expect_refused(-EISDIR, "cannot be opened");
	assert_int_equal(rmdir(fixture_path(&fixture)), 0);
	assert_int_equal(symlink("/etc/passwd", fixture_path(&fixture)), 0);
	expect_refused(-ELOOP, "cannot be opened");
	assert_int_equal(unlink(fixture_path(&fixture)), 0);
	fixture_open(&fixture);
}

/* Damage that shows only when a page is read: that call fails, is counted, and the ledger goes on as far as it can. */
static void damage_inside_fails_what_meets_it(void **state)
{
	struct ledger_list list = { .tenant = "acme", .builds = found, .limit = LEDGER_LIST_MAX };
	uint8_t garbage[4096];
	struct stat st;

	append_all(900);
	fixture_close(&fixture);
	assert_int_equal(stat(fixture_path(&fixture), &st), 0);
	memset(garbage, 0xa5, sizeof(garbage));
	for (off_t at = 8 * 4096; at < st.st_size; at += 4096)
		write_at(at, garbage, sizeof(garbage));
	fixture_open(&fixture);
	assert_int_equal(list_lines(&fixture, &list), -EUCLEAN);
	assert_int_equal(list.count, 0);
	assert_true(status_of(&fixture).errors > 0);
}

/* Whoever writes into the file may write what he likes; it is data. */
static void foreign_rows_do_no_harm(void **state)
{
	append_numbers("acme", 1, 1);
	execute("INSERT INTO builds VALUES (NULL, 'acme', 's', 'r', 'd', 'e', -1, -1, 9223372036854775807, -1, -1, -1, -1, -1, "
	        "-1, 5000000000, -1, -1, 'splendid', '', 99999999999, hex(zeroblob(9000)))");
	execute("INSERT INTO builds SELECT NULL, 'acme', CAST(x'61006200' AS TEXT), ref, directory, executor, 0, 0, 1, 0, 0, 0, 0, "
	        "0, 0, 0, 0, 0, result, fault, 0, '' FROM builds LIMIT 1");
	assert_int_equal(find("acme", 0, false, 10), 3);
	assert_int_equal(found[0].result, LEDGER_RESULTS);
	assert_int_equal(found[0].fault, LEDGER_FAULTS);
	assert_int_equal(found[0].steps_cached, UINT32_MAX);
	assert_int_equal(found[0].queue_ns, 0);
	assert_int_equal(strlen(found[0].error), LEDGER_ERROR_BYTES - 1);
	assert_string_equal(found[2].subject, "a?b?");
}

/* ---- retention ---- */

static void old_lines_are_deleted(void **state)
{
	uint64_t now;

	append_all(1000);                        /* three trims; they ended in 1970 */
	now = ring_wall_ns(fixture.ring);
	for (uint64_t i = 0; i < 3; i++) {
		struct ledger_build build = line_make("acme", 1);

		build.ended_wall_ns = now - i * 3600000000000u;
		assert_int_equal(append_line(&fixture, &build), LEDGER_OK);
	}
	assert_int_equal(status_of(&fixture).lines_deleted, 0);
	fixture_close(&fixture);
	fixture.config.keep_ns = 5400000000000u;         /* 1.5 h */
	fixture_open(&fixture);
	while (status_of(&fixture).lines_deleted < 1001)
		ring_run(fixture.ring, 100000000);
	assert_int_equal(find("acme", 0, false, 10), 2);
	assert_int_equal(found[1].ended_wall_ns, now - 3600000000000u);
	assert_int_equal(status_of(&fixture).lines_deleted, 1001);
}

static bool task_done;

static void on_task(struct ledger_task *task)
{
	task_done = true;
}

static struct ledger_task run_task(struct ledger_backend *backend, struct ledger_task task)
{
	task_done = false;
	task.fn = on_task;
	fixture.config.engine = fixture.config.engine ? fixture.config.engine : &ledger_sqlite;
	fixture.config.engine->run(backend, &task);
	run_until(&fixture, &task_done);
	assert_int_equal(task.result, 0);
	return task;
}

/* Beyond a number of lines the oldest go, whosever they are; at the engine, since the ledger's own number is too many. */
static void the_oldest_lines_make_room(void **state)
{
	struct ledger_build builds[10];
	const struct ledger_build *lines[10];
	struct ledger_backend *backend;
	struct ledger_list list = { .tenant = "b", .builds = found, .limit = 10 };
	struct ledger_task task;
	char why[512];

	if (fixture.config.engine)
		skip();
	assert_int_equal(ledger_sqlite.open(&backend, &fixture.config, why, sizeof(why)), 0);
	for (uint32_t i = 0; i < 10; i++) {
		builds[i] = line_make(i % 2 ? "a" : "b", i);
		lines[i] = &builds[i];
	}
	run_task(backend, (struct ledger_task){ .kind = LEDGER_TASK_WRITE, .lines = lines, .count = 10 });
	task = run_task(backend, (struct ledger_task){ .kind = LEDGER_TASK_TRIM, .lines_max = 3 });
	assert_int_equal(task.deleted, 7);
	run_task(backend, (struct ledger_task){ .kind = LEDGER_TASK_LIST, .list = &list });
	assert_int_equal(list.count, 1);
	assert_int_equal(found[0].ended_wall_ns, 8000000000ull);
	task = run_task(backend, (struct ledger_task){ .kind = LEDGER_TASK_TRIM, .lines_max = 3 });
	assert_int_equal(task.deleted, 0);
	run_task(backend, (struct ledger_task){ .kind = LEDGER_TASK_CLOSE });
}

/* ---- words and texts ---- */

static void expect_text(const char *text, size_t text_size, size_t size, const char *wanted)
{
	char out[16];

	memset(out, 'x', sizeof(out));
	ledger_text(out, size, span_make(text, text_size));
	assert_string_equal(out, wanted);
	assert_true(out[size] == 'x');
}

static void texts_are_cut_between_characters(void **state)
{
	expect_text("", 0, 1, "");
	expect_text("abc", 3, 1, "");
	expect_text("abc", 3, 4, "abc");
	expect_text("abcd", 4, 4, "abc");
	expect_text("a\0c", 3, 8, "a?c");
	expect_text("ab\xc3\xa9", 4, 4, "ab");
	expect_text("ab\xc3\xa9", 4, 5, "ab\xc3\xa9");
	expect_text("\xf0\x9f\x8e\x89z", 5, 4, "");
	expect_text("\xf0\x9f\x8e\x89z", 5, 5, "\xf0\x9f\x8e\x89");
	expect_text("\x80\x80\x80\x80", 4, 3, "");
}

static void words_go_both_ways(void **state)
{
	for (uint32_t i = 0; i < LEDGER_RESULTS; i++)
		assert_int_equal(ledger_result_find(ledger_result_name(i)), i);
	for (uint32_t i = 0; i < LEDGER_FAULTS; i++)
		assert_int_equal(ledger_fault_find(ledger_fault_name(i)), i);
	assert_string_equal(ledger_result_name(LEDGER_RESULTS), "unknown");
	assert_string_equal(ledger_fault_name(UINT32_MAX), "unknown");
	assert_int_equal(ledger_result_find("unknown"), LEDGER_RESULTS);
	assert_int_equal(ledger_fault_find(""), LEDGER_FAULTS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(lines_come_back_whole_and_newest_first),
		TEST(the_longest_line_fits),
		TEST(lists_are_filtered),
		TEST(tenants_see_their_own_lines),
		TEST(lines_survive_a_reopening),
		TEST(written_lines_survive_a_crash),
		TEST(a_list_sees_what_was_appended_before),
		TEST(lines_are_dropped_when_too_many_wait),
		TEST(lines_wait_while_the_file_is_locked),
		TEST(it_is_opened_when_it_can_be),
		TEST(lines_wait_for_descriptors),
		TEST(lines_wait_for_inodes),
		TEST(lines_wait_while_the_disk_is_full),
		TEST(readers_do_not_hinder),
		TEST(a_refused_batch_is_written_later),
		TEST(the_end_writes_what_waits),
		TEST(the_end_tells_what_it_could_not_write),
		TEST(too_many_lists_are_refused),
		TEST(what_is_no_ledger_is_refused),
		TEST(damage_inside_fails_what_meets_it),
		TEST(foreign_rows_do_no_harm),
		TEST(old_lines_are_deleted),
		TEST(the_oldest_lines_make_room),
		cmocka_unit_test(texts_are_cut_between_characters),
		cmocka_unit_test(words_go_both_ways),
	};

	if (argc > 1)
		engine_name = argv[1];
	if (argc > 2)
		ring_name = argv[2];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
