/*
 * Shows that what was learned is there after it was saved and loaded by another memory, and while saves go on under its users; that
 * concurrent users of one key share a table, and other keys do not; that a damaged, cut, foreign or open-to-others file is an empty
 * table; and that of idle tables and files the longest unused go. Both ring engines.
 */
#include "tests/unit/broker/stat_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/broker/stat_file.h"

/* Until nothing is under way any more. */
static void run_saved(uint64_t saves)
{
	for (unsigned turns = 0; rig_status().saves + rig_status().saves_failed < saves; turns++) {
		assert_true(turns < 100000);
		ring_run(rig_ring, 1000000000);
	}
}

static void a_table_outlives_its_memory(void **state)
{
	struct stat_table *table = rig_get(1), *other = rig_get(2);
	char path[256], name[STAT_FILE_NAME_BYTES];
	uint8_t key[STAT_KEY_BYTES];
	struct stat st;

	rig_learn(table, 0, 7000);
	rig_learn(other, 7000, 7010);
	stat_table_unref(other);
	stat_table_unref(table);
	rig_close_memory();
	rig_trust_key(1, key);
	stat_file_name(key, name);
	snprintf(path, sizeof(path), "%s/%s", rig_snapshots, name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 64 + 7000 * 64 + 24);
	rig_open_memory();
	table = rig_get(1);
	other = rig_get(2);
	assert_int_equal(rig_status().loads, 2);
	assert_int_equal(stat_table_count(table), 7000);
	rig_assert_knows(table, 0, 7000);
	assert_false(rig_knows(table, 7001));
	assert_false(rig_knows(other, 0));
	rig_assert_knows(other, 7000, 7010);
	stat_table_unref(table);
	stat_table_unref(other);
	/* Nothing was learned: nothing is written. */
	ring_run(rig_ring, 0);
	assert_int_equal(rig_status().saves, 0);
}

static void users_of_a_key_share_a_table(void **state)
{
	struct rig_asking askings[5] = { 0 };
	uint8_t key[STAT_KEY_BYTES];
	struct stat_table *table, *other;

	rig_trust_key(3, key);
	for (unsigned i = 0; i < 5; i++) {
		askings[i].request.fn = rig_on_table;
		stat_memory_get(rig_memory, &askings[i].request, key);
	}
	stat_request_cancel(&askings[2].request);
	stat_request_cancel(&askings[2].request);
	rig_run_until(&askings[4].done);
	assert_false(askings[2].done);
	table = askings[0].request.table;
	for (unsigned i = 0; i < 5; i++)
		if (i != 2)
			assert_ptr_equal(askings[i].request.table, table);
	other = rig_get(4);
	assert_ptr_not_equal(other, table);
	rig_learn(table, 0, 10);
	for (unsigned i = 0; i < 3; i++)
		stat_table_unref(table);
	assert_int_equal(rig_status().saves, 0);
	/* One still uses it. */
	stat_table_save(table);
	rig_learn(table, 10, 20);
	run_saved(1);
	rig_assert_knows(table, 0, 20);
	stat_table_unref(table);
	run_saved(2);
	assert_int_equal(rig_status().tables_used, 1);
	assert_int_equal(rig_status().tables, 2);
	stat_table_unref(other);
	assert_int_equal(rig_status().tables_used, 0);
}

static void saves_go_on_under_its_users(void **state)
{
	struct stat_table *table = rig_get(1);
	unsigned learned = 0;

	while (learned < 40000) {
		rig_learn(table, learned, learned + 500);
		learned += 500;
		stat_table_save(table);
		ring_run(rig_ring, 0);
		rig_assert_knows(table, learned - 500, learned);
	}
	stat_table_unref(table);
	rig_close_memory();
	rig_open_memory();
	table = rig_get(1);
	assert_int_equal(stat_table_count(table), 40000);
	rig_assert_knows(table, 0, 40000);
	stat_table_unref(table);
}

static void file_path(unsigned number, char path[256])
{
	char name[STAT_FILE_NAME_BYTES];
	uint8_t key[STAT_KEY_BYTES];

	rig_trust_key(number, key);
	stat_file_name(key, name);
	snprintf(path, 256, "%s/%s", rig_snapshots, name);
}

static void write_file(const char *path, const uint8_t *data, size_t size, mode_t mode)
{
	int fd;

	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static size_t count_loaded(void)
{
	struct stat_table *table;
	size_t count;

	rig_open_memory();
	table = rig_get(1);
	count = stat_table_count(table);
	stat_table_unref(table);
	rig_close_memory();
	return count;
}

static void a_damaged_or_foreign_file_is_an_empty_table(void **state)
{
	struct stat_table *table = rig_get(1);
	uint8_t data[8192];
	char path[256], other[256];
	ssize_t size;
	int fd;

	rig_learn(table, 0, 20);
	stat_table_unref(table);
	rig_close_memory();
	file_path(1, path);
	file_path(2, other);
	fd = open(path, O_RDONLY);
	size = read(fd, data, sizeof(data));
	close(fd);
	assert_int_equal(size, 64 + 20 * 64 + 24);
	write_file(path, data, (size_t)size, 0600);
	assert_int_equal(count_loaded(), 20);
	for (ssize_t at = 0; at < size; at += 37) {
		data[at] ^= 0x10;
		write_file(path, data, (size_t)size, 0600);
		assert_int_equal(count_loaded(), 0);
		data[at] ^= 0x10;
	}
	for (ssize_t cut = 0; cut < size; cut += 41) {
		write_file(path, data, (size_t)cut, 0600);
		assert_int_equal(count_loaded(), 0);
	}
	write_file(path, data, (size_t)size, 0660);
	assert_int_equal(count_loaded(), 0);
	write_file(other, data, (size_t)size, 0600);     /* another key's */
	unlink(path);
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(count_loaded(), 20);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(count_loaded(), 0);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(count_loaded(), 0);
	rig_open_memory();
	table = rig_get(2);
	assert_int_equal(stat_table_count(table), 0);
	assert_int_equal(rig_status().loads_refused, 1);
	stat_table_unref(table);
	/* A table that cannot be saved is no worse. */
	table = rig_get(1);
	rig_learn(table, 0, 5);
	stat_table_unref(table);
	run_saved(1);
	assert_int_equal(rig_status().saves_failed, 1);
}

static void the_longest_unused_go(void **state)
{
	struct stat_table *table;
	int fd = open(rig_snapshots, O_RDONLY | O_DIRECTORY);
	char path[256];

	for (unsigned i = 0; i < STAT_MEMORY_IDLE_TABLES_MAX + 10; i++) {
		table = rig_get(i);
		rig_learn(table, i, i + 1);
		stat_table_unref(table);
		run_saved(i + 1);
	}
	assert_int_equal(rig_status().tables, STAT_MEMORY_IDLE_TABLES_MAX);
	assert_int_equal(stat_files_prune(fd, 1000, 1 << 20), 0);
	table = rig_get(3);                  /* was dropped; now used again, also in the eyes of prune */
	assert_true(rig_knows(table, 3));
	stat_table_unref(table);
	assert_int_equal(stat_files_prune(fd, 10, 1 << 20), STAT_MEMORY_IDLE_TABLES_MAX);
	file_path(3, path);
	assert_int_equal(access(path, F_OK), 0);
	file_path(4, path);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(stat_files_prune(fd, 10, 500), 7);      /* 152 bytes each */
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(a_table_outlives_its_memory),
		RIG_TEST(users_of_a_key_share_a_table),
		RIG_TEST(saves_go_on_under_its_users),
		RIG_TEST(a_damaged_or_foreign_file_is_an_empty_table),
		RIG_TEST(the_longest_unused_go),
	};

	return rig_run(argc, argv, tests);
}
