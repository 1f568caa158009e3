/*
 * Shows that what was learned is found, also while a table grows (in memory, and into a mapped file), after it is saved
 * and loaded by another memory, and while saves go on under its users; that concurrent users of one key share a table,
 * and other keys do not; that a damaged, cut, foreign or open-to-others file is an empty table; that a table at its bound
 * forgets what no build saw lately, and nothing else; that of idle tables and files the longest unused go; and that the
 * first claim on a file fetches it, the others wait, and inherit the fetching when it is lost. Both ring engines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/broker/stat_file.h"
#include "gateway/broker/stat_memory.h"
#include "proto/recipe.h"

static char directory[64], snapshots[80];
static enum ring_engine engine = RING_ENGINE_AUTO;
static struct ring *ring;
static struct stat_memory *memory;

static void open_memory(void)
{
	assert_int_equal(stat_memory_create(&memory, ring, snapshots), 0);
}

static void set_true(void *context)
{
	*(bool *)context = true;
}

static void run_until(const bool *done)
{
	for (unsigned turns = 0; !*done; turns++) {
		assert_true(turns < 100000);
		ring_run(ring, 1000000000);
	}
}

static void close_memory(void)
{
	bool done = false;

	stat_memory_destroy(memory, set_true, &done);
	run_until(&done);
	memory = NULL;
}

static int setup(void **state)
{
	struct ring_config config = { .engine = engine };

	snprintf(directory, sizeof(directory), "/var/tmp/sluice-stat-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(snapshots, sizeof(snapshots), "%s/snapshots", directory);
	assert_int_equal(ring_create(&ring, &config), 0);
	open_memory();
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	close_memory();
	ring_destroy(ring);
	nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

struct asking {
	struct stat_request request;
	bool done;
};

static void on_table(struct stat_request *request)
{
	container_of(request, struct asking, request)->done = true;
}

static void trust_key(unsigned number, uint8_t key[STAT_KEY_BYTES])
{
	memset(key, 0x5c, STAT_KEY_BYTES);
	memcpy(key, &number, sizeof(number));
}

static struct stat_table *get(unsigned number)
{
	struct asking asking = { .request.fn = on_table };
	uint8_t key[STAT_KEY_BYTES];

	trust_key(number, key);
	stat_memory_get(memory, &asking.request, key);
	assert_false(asking.done);
	run_until(&asking.done);
	assert_non_null(asking.request.table);
	return asking.request.table;
}

static struct stat_entry_key entry_key(unsigned number)
{
	char path[32];

	return stat_entry_key(span_make(path, (size_t)snprintf(path, sizeof(path), "dir/file-%u", number)), number, number * 1000ll);
}

static struct content_name name_of(unsigned number)
{
	struct content_name name = { .recipe = number % 3 == 0 };

	memset(name.digest.hash, (int)(number % 251), sizeof(name.digest.hash));
	memcpy(name.digest.hash, &number, sizeof(number));
	name.size = name.recipe ? RECIPE_WHOLE_MAX + 1 + number : number % (RECIPE_WHOLE_MAX + 1);
	name.digest.size = name.recipe ? 75 + number % 1000 : name.size;
	return name;
}

static void learn_one(struct stat_table *table, unsigned number)
{
	struct stat_entry_key key = entry_key(number);
	struct content_name name = name_of(number);

	stat_table_learn(table, &key, &name);
}

/* Larger slots are made by a worker, which on a busy core takes its time: until then some are dropped, and learned anew. */
static void learn(struct stat_table *table, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++) {
		struct stat_entry_key key = entry_key(i);

		learn_one(table, i);
		while (!stat_table_touch(table, &key)) {
			ring_run(ring, 1000000);
			learn_one(table, i);
		}
	}
}

/* As far as there is room. */
static void try_to_learn(struct stat_table *table, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		learn_one(table, i);
}

static bool knows(struct stat_table *table, unsigned number)
{
	struct stat_entry_key key = entry_key(number);
	struct content_name found, name = name_of(number);

	if (!stat_table_find(table, &key, &found))
		return false;
	assert_true(digest_equal(&found.digest, &name.digest));
	assert_int_equal(found.size, name.size);
	assert_int_equal(found.recipe, name.recipe);
	return true;
}

static void assert_knows(struct stat_table *table, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		assert_true(knows(table, i));
}

static struct stat_memory_status status_now(void)
{
	struct stat_memory_status status;

	stat_memory_status(memory, &status);
	return status;
}

/* Until nothing is under way any more. */
static void run_saved(uint64_t saves)
{
	for (unsigned turns = 0; status_now().saves + status_now().saves_failed < saves; turns++) {
		assert_true(turns < 100000);
		ring_run(ring, 1000000000);
	}
}

/* ---- entries ---- */

static void a_key_tells_path_size_and_time_apart(void **state)
{
	struct stat_entry_key key = stat_entry_key(span_text("a/b"), 1, 2);
	struct stat_entry_key same = stat_entry_key(span_text("a/b"), 1, 2);
	struct stat_entry_key others[] = {
		stat_entry_key(span_text("a/c"), 1, 2), stat_entry_key(span_text("a/b"), 2, 2),
		stat_entry_key(span_text("a/b"), 1, 3), stat_entry_key(span_text("a/b"), 1, -2),
		stat_entry_key(span_text("a/b\0"), 2, 1), stat_entry_key(span_text(""), 1, 2),
	};

	assert_memory_equal(&key, &same, sizeof(key));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_memory_not_equal(&key, &others[i], sizeof(key));
}

static void what_is_learned_is_found(void **state)
{
	struct stat_table *table = get(1);
	struct stat_entry_key key = entry_key(5);
	struct content_name name = name_of(8), found, bad = name_of(3);

	assert_false(knows(table, 5));
	assert_false(stat_table_touch(table, &key));
	learn(table, 0, 5000);
	assert_int_equal(stat_table_count(table), 5000);
	assert_knows(table, 0, 5000);
	assert_false(knows(table, 5000));
	/* A later content takes the place. */
	stat_table_learn(table, &key, &name);
	assert_true(stat_table_find(table, &key, &found));
	assert_true(digest_equal(&found.digest, &name.digest));
	assert_true(stat_table_touch(table, &key));
	assert_int_equal(stat_table_count(table), 5000);
	stat_table_forget(table, &key);
	stat_table_forget(table, &key);
	assert_false(stat_table_find(table, &key, &found));
	assert_int_equal(stat_table_count(table), 4999);
	stat_table_learn(table, &key, &name);
	assert_true(stat_table_find(table, &key, &found));
	assert_int_equal(stat_table_count(table), 5000);
	/* What no ingest names is not learned. */
	key = entry_key(9999);
	bad.digest.size = RECIPE_BYTES_MAX + 1;
	stat_table_learn(table, &key, &bad);
	bad.digest.size = 0;
	stat_table_learn(table, &key, &bad);
	bad = name_of(4);
	bad.digest.size++;
	stat_table_learn(table, &key, &bad);
	assert_false(stat_table_find(table, &key, &found));
	stat_table_unref(table);
}

/* Learns and forgets at random beside a plain array. */
static void a_table_is_what_a_plain_model_is(void **state)
{
	enum { KEYS = 3000, STEPS = 60000 };
	static bool model[KEYS];
	struct stat_table *table = get(1);
	uint64_t random = 1;
	size_t count = 0;

	memset(model, 0, sizeof(model));
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned which;
		struct stat_entry_key key;
		struct content_name name;

		random = random * 6364136223846793005ull + 1442695040888963407ull;
		which = (unsigned)(random >> 33) % (1 + step % KEYS);
		key = entry_key(which);
		name = name_of(which);
		assert_int_equal(knows(table, which), model[which]);
		if (random >> 62) {
			stat_table_learn(table, &key, &name);
			model[which] = true;
		} else {
			stat_table_forget(table, &key);
			model[which] = false;
		}
	}
	for (unsigned i = 0; i < KEYS; i++) {
		assert_int_equal(knows(table, i), model[i]);
		count += model[i];
	}
	assert_int_equal(stat_table_count(table), count);
	stat_table_unref(table);
}

static void a_large_table_is_a_mapped_file(void **state)
{
	struct stat_table *table = get(1);
	unsigned count = 2 * STAT_TABLE_MAPPED_ENTRIES;

	learn(table, 0, 60000);
	assert_int_equal(status_now().mapped_bytes, 0);
	learn(table, 60000, count);
	assert_true(status_now().mapped_bytes >= count * 64ull);
	assert_true(status_now().memory_bytes < 1 << 20);
	assert_int_equal(stat_table_count(table), count);
	for (unsigned i = 0; i < count; i++)
		assert_true(knows(table, i));
	stat_table_unref(table);
	close_memory();
	open_memory();
	table = get(1);
	assert_true(status_now().mapped_bytes >= count * 64ull);
	assert_int_equal(stat_table_count(table), count);
	stat_table_unref(table);
}

/* ---- files ---- */

static void a_table_outlives_its_memory(void **state)
{
	struct stat_table *table = get(1), *other = get(2);
	char path[256], name[STAT_FILE_NAME_BYTES];
	uint8_t key[STAT_KEY_BYTES];
	struct stat st;

	learn(table, 0, 7000);
	learn(other, 7000, 7010);
	stat_table_unref(other);
	stat_table_unref(table);
	close_memory();
	trust_key(1, key);
	stat_file_name(key, name);
	snprintf(path, sizeof(path), "%s/%s", snapshots, name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 64 + 7000 * 64 + 24);
	open_memory();
	table = get(1);
	other = get(2);
	assert_int_equal(status_now().loads, 2);
	assert_int_equal(stat_table_count(table), 7000);
	assert_knows(table, 0, 7000);
	assert_false(knows(table, 7001));
	assert_false(knows(other, 0));
	assert_knows(other, 7000, 7010);
	stat_table_unref(table);
	stat_table_unref(other);
	/* Nothing was learned: nothing is written. */
	ring_run(ring, 0);
	assert_int_equal(status_now().saves, 0);
}

static void users_of_a_key_share_a_table(void **state)
{
	struct asking askings[5] = { 0 };
	uint8_t key[STAT_KEY_BYTES];
	struct stat_table *table, *other;

	trust_key(3, key);
	for (unsigned i = 0; i < 5; i++) {
		askings[i].request.fn = on_table;
		stat_memory_get(memory, &askings[i].request, key);
	}
	stat_request_cancel(&askings[2].request);
	stat_request_cancel(&askings[2].request);
	run_until(&askings[4].done);
	assert_false(askings[2].done);
	table = askings[0].request.table;
	for (unsigned i = 0; i < 5; i++)
		if (i != 2)
			assert_ptr_equal(askings[i].request.table, table);
	other = get(4);
	assert_ptr_not_equal(other, table);
	learn(table, 0, 10);
	for (unsigned i = 0; i < 3; i++)
		stat_table_unref(table);
	assert_int_equal(status_now().saves, 0);
	/* One still uses it. */
	stat_table_save(table);
	learn(table, 10, 20);
	run_saved(1);
	assert_knows(table, 0, 20);
	stat_table_unref(table);
	run_saved(2);
	assert_int_equal(status_now().tables_used, 1);
	assert_int_equal(status_now().tables, 2);
	stat_table_unref(other);
	assert_int_equal(status_now().tables_used, 0);
}

static void saves_go_on_under_its_users(void **state)
{
	struct stat_table *table = get(1);
	unsigned learned = 0;

	while (learned < 40000) {
		learn(table, learned, learned + 500);
		learned += 500;
		stat_table_save(table);
		ring_run(ring, 0);
		assert_knows(table, learned - 500, learned);
	}
	stat_table_unref(table);
	close_memory();
	open_memory();
	table = get(1);
	assert_int_equal(stat_table_count(table), 40000);
	assert_knows(table, 0, 40000);
	stat_table_unref(table);
}

static void file_path(unsigned number, char path[256])
{
	char name[STAT_FILE_NAME_BYTES];
	uint8_t key[STAT_KEY_BYTES];

	trust_key(number, key);
	stat_file_name(key, name);
	snprintf(path, 256, "%s/%s", snapshots, name);
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

	open_memory();
	table = get(1);
	count = stat_table_count(table);
	stat_table_unref(table);
	close_memory();
	return count;
}

static void a_damaged_or_foreign_file_is_an_empty_table(void **state)
{
	struct stat_table *table = get(1);
	uint8_t data[8192];
	char path[256], other[256];
	ssize_t size;
	int fd;

	learn(table, 0, 20);
	stat_table_unref(table);
	close_memory();
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
	open_memory();
	table = get(2);
	assert_int_equal(stat_table_count(table), 0);
	assert_int_equal(status_now().loads_refused, 1);
	stat_table_unref(table);
	/* A table that cannot be saved is no worse. */
	table = get(1);
	learn(table, 0, 5);
	stat_table_unref(table);
	run_saved(1);
	assert_int_equal(status_now().saves_failed, 1);
}

static void the_longest_unused_go(void **state)
{
	struct stat_table *table;
	int fd = open(snapshots, O_RDONLY | O_DIRECTORY);
	char path[256];

	for (unsigned i = 0; i < STAT_MEMORY_IDLE_TABLES_MAX + 10; i++) {
		table = get(i);
		learn(table, i, i + 1);
		stat_table_unref(table);
		run_saved(i + 1);
	}
	assert_int_equal(status_now().tables, STAT_MEMORY_IDLE_TABLES_MAX);
	assert_int_equal(stat_files_prune(fd, 1000, 1 << 20), 0);
	table = get(3);                  /* was dropped; now used again, also in the eyes of prune */
	assert_true(knows(table, 3));
	stat_table_unref(table);
	assert_int_equal(stat_files_prune(fd, 10, 1 << 20), STAT_MEMORY_IDLE_TABLES_MAX);
	file_path(3, path);
	assert_int_equal(access(path, F_OK), 0);
	file_path(4, path);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(stat_files_prune(fd, 10, 500), 7);      /* 152 bytes each */
	close(fd);
}

static void a_full_table_forgets_what_was_not_seen(void **state)
{
	struct stat_table *table = get(1);
	unsigned kept = 1000;

	learn(table, 0, STAT_TABLE_ENTRIES_MAX);
	while (stat_table_count(table) < STAT_TABLE_ENTRIES_MAX) {
		ring_run(ring, 1000000);
		learn(table, 0, STAT_TABLE_ENTRIES_MAX);
	}
	try_to_learn(table, STAT_TABLE_ENTRIES_MAX, STAT_TABLE_ENTRIES_MAX + 100);
	assert_int_equal(stat_table_count(table), STAT_TABLE_ENTRIES_MAX);
	assert_false(knows(table, STAT_TABLE_ENTRIES_MAX));
	/* Builds go by; only the first entries are seen. */
	for (unsigned build = 0; build <= STAT_TABLE_BUILDS_KEPT + 1; build++) {
		stat_table_unref(get(1));
		assert_knows(table, 0, kept);
	}
	for (unsigned i = 0; i < 100 && stat_table_count(table) > 2 * kept; i++)
		learn(table, STAT_TABLE_ENTRIES_MAX, STAT_TABLE_ENTRIES_MAX + 1000);
	for (unsigned i = 0; i < 100; i++)
		learn(table, STAT_TABLE_ENTRIES_MAX, STAT_TABLE_ENTRIES_MAX + 1000);
	assert_knows(table, 0, kept);
	assert_knows(table, STAT_TABLE_ENTRIES_MAX, STAT_TABLE_ENTRIES_MAX + 1000);
	assert_false(knows(table, kept));
	assert_int_equal(stat_table_count(table), kept + 1000);
	stat_table_unref(table);
}

/* ---- claims ---- */

struct claiming {
	struct stat_claim claim;
	unsigned named, lost;
	struct content_name name;
	void (*hook)(struct claiming *claiming);
};

static void on_claim_named(struct stat_claim *claim, const struct content_name *name)
{
	struct claiming *claiming = container_of(claim, struct claiming, claim);

	claiming->named++;
	claiming->name = *name;
	if (claiming->hook)
		claiming->hook(claiming);
}

static void on_claim_lost(struct stat_claim *claim)
{
	struct claiming *claiming = container_of(claim, struct claiming, claim);

	claiming->lost++;
	if (claiming->hook)
		claiming->hook(claiming);
}

static int claim(struct stat_table *table, struct claiming *claiming, unsigned number)
{
	*claiming = (struct claiming){
		.claim = { .table = table, .key = entry_key(number), .on_named = on_claim_named, .on_lost = on_claim_lost },
	};
	return stat_table_claim(&claiming->claim);
}

static void turns(void)
{
	for (unsigned i = 0; i < 3; i++)
		ring_run(ring, 0);
}

static void the_first_claim_fetches_for_all(void **state)
{
	struct stat_table *table = get(1);
	struct claiming claims[6], other;
	struct content_name name = name_of(7);

	assert_int_equal(claim(table, &claims[0], 7), STAT_CLAIM_FETCH);
	assert_int_equal(claim(table, &other, 8), STAT_CLAIM_FETCH);
	for (unsigned i = 1; i < 6; i++)
		assert_int_equal(claim(table, &claims[i], 7), STAT_CLAIM_WAIT);
	assert_int_equal(status_now().claims, 2);
	assert_int_equal(status_now().claims_waiting, 5);
	stat_claim_end(&claims[3].claim);        /* a waiter leaves */
	stat_claim_end(&claims[3].claim);
	stat_claim_end(&claims[0].claim);        /* the fetcher could not */
	assert_int_equal(claims[1].lost, 0);     /* from the loop */
	turns();
	assert_int_equal(claims[1].lost, 1);
	assert_int_equal(claims[2].lost + claims[3].lost + claims[4].lost, 0);
	assert_int_equal(claim(table, &claims[0], 7), STAT_CLAIM_WAIT);
	stat_claim_named(&claims[1].claim, &name);
	stat_claim_end(&claims[4].claim);        /* leaves before it is told */
	turns();
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(claims[i].named, i == 0 || i == 2 || i == 5);
	assert_true(digest_equal(&claims[5].name.digest, &name.digest));
	assert_true(knows(table, 7));
	/* Over: the next one is the first again. */
	assert_int_equal(claim(table, &claims[0], 7), STAT_CLAIM_FETCH);
	stat_claim_end(&claims[0].claim);
	stat_claim_end(&other.claim);
	assert_int_equal(status_now().claims + status_now().claims_waiting, 0);
	stat_table_unref(table);
}

static void give_up(struct claiming *claiming)
{
	stat_claim_end(&claiming->claim);
}

static void a_lost_claim_goes_down_the_line(void **state)
{
	struct stat_table *table = get(1);
	struct claiming claims[50];

	for (unsigned i = 0; i < 50; i++) {
		claim(table, &claims[i], 1);
		claims[i].hook = give_up;
	}
	stat_claim_end(&claims[0].claim);
	stat_claim_end(&claims[1].claim);        /* the fetcher already, though not told */
	for (unsigned i = 0; i < 100; i++)
		ring_run(ring, 0);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(claims[i].lost, i >= 2);
	assert_int_equal(status_now().claims + status_now().claims_waiting, 0);
	stat_table_unref(table);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_tells_path_size_and_time_apart),
		cmocka_unit_test_setup_teardown(what_is_learned_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(a_table_is_what_a_plain_model_is, setup, teardown),
		cmocka_unit_test_setup_teardown(a_large_table_is_a_mapped_file, setup, teardown),
		cmocka_unit_test_setup_teardown(a_table_outlives_its_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(users_of_a_key_share_a_table, setup, teardown),
		cmocka_unit_test_setup_teardown(saves_go_on_under_its_users, setup, teardown),
		cmocka_unit_test_setup_teardown(a_damaged_or_foreign_file_is_an_empty_table, setup, teardown),
		cmocka_unit_test_setup_teardown(the_longest_unused_go, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_table_forgets_what_was_not_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(the_first_claim_fetches_for_all, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lost_claim_goes_down_the_line, setup, teardown),
	};

	if (argc > 1 && strcmp(argv[1], "epoll") == 0)
		engine = RING_ENGINE_EPOLL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
