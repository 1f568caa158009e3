/*
 * Shows on real directories that with a snapshot only what has changed, or could have changed unseen, is read again; and that
 * a snapshot that is damaged, or another directory's, counts for nothing; the same directory's, however it is called, does.
 */
#include "tests/unit/context/place.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* As before, but all of it comes from the snapshot now. */
static void test_everything_from_the_snapshot(void **state)
{
	struct place *place = *state;
	unsigned count = place_make_everything(place);
	struct digest root, again;
	struct manifest *manifest;

	grow_old();
	place_build_and_save(place, &root);
	assert_int_equal(place_build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
	manifest = place_build(place);
	assert_int_equal(place_compare(manifest, place->fd, manifest_root(manifest)), count);
	assert_int_equal(manifest_totals(manifest)->files_read, 0);
	manifest_destroy(manifest);
}

static void touch(struct place *place, const char *name)
{
	const struct timespec times[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000, .tv_nsec = 1 } };

	assert_int_equal(utimensat(place->fd, name, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void test_nothing_changed(void **state)
{
	struct place *place = *state;
	struct digest root, again;
	struct stat before, after;

	place_make_small(place);
	grow_old();
	assert_int_equal(place_build_and_save(place, &root), 51);
	assert_int_equal(stat(place->snapshot, &before), 0);
	assert_int_equal(place_build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
	assert_int_equal(stat(place->snapshot, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);           /* nothing was written */
}

static void test_touched(void **state)
{
	struct place *place = *state;
	struct digest root, again;
	char name[32];

	place_make_small(place);
	grow_old();
	place_build_and_save(place, &root);
	for (int f = 0; f < 10; f++) {
		snprintf(name, sizeof(name), "d3/f%d", f);
		touch(place, name);
	}
	touch(place, "d2");
	assert_int_equal(place_build_and_save(place, &again), 10);
	assert_true(digest_equal(&root, &again));
	grow_old();
	assert_int_equal(place_build_and_save(place, &again), 10);     /* their ctimes were too fresh then */
	assert_int_equal(place_build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
}

static void test_edits(void **state)
{
	struct place *place = *state;
	struct digest root, edited, fresh;
	struct manifest *manifest;
	char snapshot[sizeof(place->snapshot)];

	place_make_small(place);
	grow_old();
	place_build_and_save(place, &root);
	place_write_text(place, "d1/f1", "D1/f1");                     /* the size stays */
	place_write_text(place, "d2/new", "new");
	assert_int_equal(unlinkat(place->fd, "d3/f3", 0), 0);
	assert_int_equal(renameat(place->fd, "d4/f4", place->fd, "d4/moved"), 0);
	place_make_directory(place, "d5");
	manifest = place_build(place);
	assert_int_equal(manifest_totals(manifest)->files_read, 3);     /* moved ones are found by name only */
	place_compare(manifest, place->fd, manifest_root(manifest));
	assert_false(place_holds(manifest, "d3/f3"));
	assert_true(place_holds(manifest, "d4/moved") && !place_holds(manifest, "d4/f4") && place_holds(manifest, "d2/new"));
	edited = *manifest_root(manifest);
	assert_false(digest_equal(&root, &edited));
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);

	/* Without a snapshot the same comes out. */
	strcpy(snapshot, place->snapshot);
	strcat(place->snapshot, "-2");
	place_build_and_save(place, &fresh);
	assert_true(digest_equal(&edited, &fresh));
	strcpy(place->snapshot, snapshot);

	place_write_text(place, "d1/f1", "d1/f1");
	assert_int_equal(unlinkat(place->fd, "d2/new", 0), 0);
	place_write_text(place, "d3/f3", "d3/f3");
	assert_int_equal(renameat(place->fd, "d4/moved", place->fd, "d4/f4"), 0);
	assert_int_equal(unlinkat(place->fd, "d5", AT_REMOVEDIR), 0);
	place_build_and_save(place, &edited);
	assert_true(digest_equal(&root, &edited));
}

static void test_kind_changes(void **state)
{
	struct place *place = *state;
	struct manifest *manifest;
	struct digest root;

	place_make_small(place);
	grow_old();
	place_build_and_save(place, &root);
	assert_int_equal(unlinkat(place->fd, "d0/f0", 0), 0);
	place_make_directory(place, "d0/f0");
	place_write_text(place, "d0/f0/x", "x");
	assert_int_equal(unlinkat(place->fd, "d1/f1", 0), 0);
	assert_int_equal(symlinkat("f2", place->fd, "d1/f1"), 0);
	assert_int_equal(fchmodat(place->fd, "d1/f2", 0600, 0), 0);
	assert_int_equal(fchmodat(place->fd, "d2", 0700, 0), 0);
	manifest = place_build(place);
	place_compare(manifest, place->fd, manifest_root(manifest));
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	grow_old();
	place_build_and_save(place, &root);
	manifest = place_build(place);
	place_compare(manifest, place->fd, manifest_root(manifest));
	assert_int_equal(manifest_totals(manifest)->files_read, 0);
	manifest_destroy(manifest);
}

/* A file that is written right before the scan could be written again within the same clock tick, unseen. */
static void test_too_fresh(void **state)
{
	struct place *place = *state;
	struct digest root;

	place_write_text(place, "old", "old");
	grow_old();
	place_write_text(place, "fresh", "fresh");
	assert_int_equal(place_build_and_save(place, &root), 2);
	grow_old();
	assert_int_equal(place_build_and_save(place, &root), 1);
	assert_int_equal(place_build_and_save(place, &root), 0);
}

static void test_bad_snapshots(void **state)
{
	struct place *place = *state;
	struct digest root, again;
	struct stat st;

	place_make_small(place);
	grow_old();
	place_build_and_save(place, &root);
	assert_int_equal(stat(place->snapshot, &st), 0);
	for (off_t at = 0; at < st.st_size; at += 397) {
		int fd = open(place->snapshot, O_RDWR);
		uint8_t byte;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 1;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
		assert_int_equal(place_build_and_save(place, &again), 51);     /* all is read, and a good one written */
		assert_true(digest_equal(&root, &again));
	}
	assert_int_equal(truncate(place->snapshot, st.st_size / 2), 0);
	assert_int_equal(place_build_and_save(place, &again), 51);
	assert_int_equal(truncate(place->snapshot, 0), 0);
	assert_int_equal(place_build_and_save(place, &again), 51);
}

static void test_another_directory(void **state)
{
	struct place *place = *state;
	char before[sizeof(place->tree)];
	struct digest root, again;

	place_make_small(place);
	grow_old();
	place_build_and_save(place, &root);
	strcpy(before, place->tree);
	strcat(place->tree, "-2");
	assert_int_equal(rename(before, place->tree), 0);
	assert_int_equal(place_build_and_save(place, &again), 51);
	assert_true(digest_equal(&root, &again));
}

static void test_other_spellings(void **state)
{
	struct place *place = *state;
	char path[sizeof(place->tree)];
	struct digest root, again;

	place_make_small(place);
	grow_old();
	place_build_and_save(place, &root);
	strcat(place->tree, "/");
	assert_int_equal(place_build_and_save(place, &again), 0);
	strcpy(path, place->tree);
	strcpy(place->tree, ".");
	assert_int_equal(chdir(path), 0);
	assert_int_equal(place_build_and_save(place, &again), 0);
	assert_int_equal(chdir("/"), 0);
	snprintf(place->tree, sizeof(place->tree), "%s/link", place->base);
	assert_int_equal(symlink("tree", place->tree), 0);
	assert_int_equal(place_build_and_save(place, &again), 0);
	assert_true(digest_equal(&root, &again));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_everything_from_the_snapshot),
		TEST(test_nothing_changed),
		TEST(test_touched),
		TEST(test_edits),
		TEST(test_kind_changes),
		TEST(test_too_fresh),
		TEST(test_bad_snapshots),
		TEST(test_another_directory),
		TEST(test_other_spellings),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
