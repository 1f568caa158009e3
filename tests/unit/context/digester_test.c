/*
 * Shows that what is recorded of a file is what it held when it held still: a file that is changed between the reading
 * and the look at its stat (by a hook that the digester calls there) is read again, and given up at the fourth time. And
 * that a large file has one name, whether its former recipe guides the cuts or not.
 */
#include "gateway/context/digester.h"

#include "chunker/profile.h"
#include "proto/recipe.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
	char path[32];
	int fd;
	struct sha256 hasher;
	struct table table;
	struct digester *digester;
	char why[256];
	unsigned changes;                /* how many times the file is yet to be changed after it was read */
	unsigned reads;
	size_t size;                     /* what it then becomes */
};

static void write_file(struct fixture *fixture, size_t size, char fill)
{
	char *data = malloc(size + 1);
	int fd = openat(fixture->fd, "f", O_WRONLY | O_CREAT | O_TRUNC, 0644);

	memset(data, fill, size);
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	close(fd);
	free(data);
}

static void after_read(void *context, unsigned reads)
{
	struct fixture *fixture = context;

	fixture->reads = reads;
	if (fixture->changes == 0)
		return;
	fixture->changes--;
	write_file(fixture, fixture->size, (char)('a' + reads));
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	uint32_t row, directory;

	strcpy(fixture->path, "/tmp/digester-test-XXXXXX");
	if (!mkdtemp(fixture->path))
		return -1;
	fixture->fd = open(fixture->path, O_RDONLY | O_DIRECTORY);
	sha256_init(&fixture->hasher, SHA256_AUTO);
	fixture->table = table_make(NULL);
	assert_int_equal(table_add_row(&fixture->table, span_text(""), &row), 0);
	fixture->table.rows[0].mode = S_IFDIR;
	assert_int_equal(table_add_directory(&fixture->table, 0, row, &directory), 0);
	assert_int_equal(table_add_row(&fixture->table, span_text("f"), &row), 0);
	fixture->digester = digester_create(&(struct digester_options){
		.table = &fixture->table, .hasher = &fixture->hasher, .why = { fixture->why, sizeof(fixture->why) },
		.after_read = after_read, .after_read_context = fixture });
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	digester_destroy(fixture->digester);
	table_fini(&fixture->table);
	unlinkat(fixture->fd, "f", 0);
	close(fixture->fd);
	rmdir(fixture->path);
	free(fixture);
	return 0;
}

static void assert_named(struct fixture *fixture, size_t size, char fill)
{
	const struct table_row *row = &fixture->table.rows[1];
	uint8_t hash[SHA256_BYTES];
	char *data = malloc(size + 1);
	struct stat st;

	digester_flush(fixture->digester);
	memset(data, fill, size);
	sha256_once((const uint8_t *)data, size, hash);
	assert_memory_equal(row->hash, hash, sizeof(hash));
	free(data);
	assert_int_equal(fstatat(fixture->fd, "f", &st, 0), 0);
	assert_true(digester_same(row, &st));
}

static void test_still(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, 100, 'x');
	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), 0);
	assert_named(fixture, 100, 'x');
	assert_int_equal(fixture->reads, 1);
	assert_int_equal(digester_totals(fixture->digester)->changed_during_read, 0);
}

static void test_changes_twice(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, 100, 'x');
	fixture->changes = 2;
	fixture->size = 200;
	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), 0);
	assert_named(fixture, 200, 'c');
	assert_int_equal(fixture->reads, 3);
	assert_int_equal(digester_totals(fixture->digester)->changed_during_read, 2);
	assert_int_equal(digester_totals(fixture->digester)->files, 1);
}

/* The size stays, and only the times tell. */
static void test_same_size(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, 100, 'x');
	fixture->changes = 1;
	fixture->size = 100;
	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), 0);
	assert_named(fixture, 100, 'b');
}

static void test_never_still(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, 100, 'x');
	fixture->changes = DIGESTER_READS;
	fixture->size = 90;
	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), -EBUSY);
	assert_string_equal(fixture->why, "f: changes while it is read");
	assert_int_equal(fixture->reads, DIGESTER_READS);
}

static void assert_recipe(struct fixture *fixture, size_t size)
{
	const struct table_row *row = &fixture->table.rows[1];
	const struct table_recipe *recipe;
	uint64_t sum = 0;

	assert_true(row->flags & TABLE_ROW_RECIPE);
	recipe = &fixture->table.recipes[row->link];
	assert_int_equal(recipe->file_size, size);
	assert_int_equal(recipe->profile, PROFILE_NATIVE);
	for (uint32_t i = 0; i < recipe->count; i++)
		sum += table_chunk_digest(&fixture->table, recipe, i).size;
	assert_int_equal(sum, size);
	assert_int_equal(fixture->table.chunks_count, recipe->count);    /* nothing is left of what was read in vain */
}

static void test_large_changes(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, 10000000, 'x');
	fixture->changes = 1;
	fixture->size = 9000000;
	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), 0);
	digester_flush(fixture->digester);
	assert_recipe(fixture, 9000000);
}

static void test_large_becomes_small(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, 10000000, 'x');
	fixture->changes = 1;
	fixture->size = 3;
	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), 0);
	assert_false(fixture->table.rows[1].flags & TABLE_ROW_RECIPE);
	assert_int_equal(fixture->table.chunks_count, 0);
	assert_named(fixture, 3, 'b');
}

static void test_small_becomes_large(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, 3, 'x');
	fixture->changes = 1;
	fixture->size = 5000000;
	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), 0);
	assert_recipe(fixture, 5000000);
}

static void test_gone(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), DIGESTER_GONE);
	assert_int_equal(symlinkat("x", fixture->fd, "f"), 0);
	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), DIGESTER_GONE);
	unlinkat(fixture->fd, "f", 0);
	assert_int_equal(mkfifoat(fixture->fd, "f", 0600), 0);           /* and does not wait for a writer */
	assert_int_equal(digester_add(fixture->digester, fixture->fd, "f", 1), DIGESTER_GONE);
}

/* Times near the scan are fresh; where they have no part below a second, two seconds are near. */
static void test_freshness(void **state)
{
	static const struct {
		int64_t seconds, nanoseconds;
		bool fresh;
	} rows[] = {
	    {100, 5, false}, {100, 499999999, false}, {100, 500000000, true},
	    {101, 1, true},  {99, 0, true},	      {98, 0, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stat st = { .st_mode = S_IFREG, .st_mtim = { rows[i].seconds, rows[i].nanoseconds } };
		struct table_row row = { 0 };

		digester_stat(&row, &st, INT64_C(100500000000));
		assert_int_equal((row.flags & TABLE_ROW_FRESH) != 0, rows[i].fresh);
		st.st_ctim = st.st_mtim;
		st.st_mtim = (struct timespec){ 1, 1 };
		st.st_ctim.tv_nsec += st.st_ctim.tv_nsec == 0;
		digester_stat(&row, &st, INT64_C(100500000000));
		assert_int_equal((row.flags & TABLE_ROW_FRESH) != 0, rows[i].seconds == 99 ? false : rows[i].fresh);
	}
}

/* Digests `data` as the file of a new table. `former`: of the same file before, or NULL. */
static struct table digest_into(struct fixture *fixture, const struct table *former, const uint8_t *data, size_t size,
                                uint64_t *guided)
{
	int fd = openat(fixture->fd, "f", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	struct table table = table_make(former);
	struct digester *digester = digester_create(
	    &(struct digester_options){.table = &table, .hasher = &fixture->hasher, .why = { fixture->why, 256 } });
	uint32_t row, directory;

	assert_int_equal(write(fd, data, size), (ssize_t)size);
	close(fd);
	assert_int_equal(table_add_row(&table, span_text(""), &row), 0);
	assert_int_equal(table_add_directory(&table, 0, row, &directory), 0);
	assert_int_equal(table_add_row(&table, span_text("f"), &row), 0);
	table.rows[row].former = former ? row + 1 : 0;
	assert_int_equal(digester_add(digester, fixture->fd, "f", row), 0);
	digester_flush(digester);
	*guided = digester_totals(digester)->guided;
	digester_destroy(digester);
	return table;
}

static void assert_same_recipe(const struct table *a, const struct table *b)
{
	assert_true(a->rows[1].flags & TABLE_ROW_RECIPE);
	assert_memory_equal(a->rows[1].hash, b->rows[1].hash, DIGEST_HASH_BYTES);
	assert_int_equal(a->chunks_count, b->chunks_count);
	for (uint64_t i = 0; i < a->chunks_count; i++) {
		assert_int_equal(a->chunks[i].offset, b->chunks[i].offset);
		assert_memory_equal(a->chunks[i].hash, b->chunks[i].hash, DIGEST_HASH_BYTES);
	}
}

static void fill(uint8_t *data, size_t size, uint64_t random)
{
	for (size_t i = 0; i < size; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		data[i] = (uint8_t)(random >> 56);
	}
}

/* Bytes inserted, overwritten and appended, a stretch of zeros, and a head that asks for another profile. */
static void test_guided(void **state)
{
	enum { SIZE = 20000000, MORE = 1000000 };
	struct fixture *fixture = *state;
	uint8_t *data = malloc(SIZE + MORE);
	uint64_t guided, none;
	struct table before, after, alone;

	assert_non_null(data);
	fill(data, SIZE, 1);
	before = digest_into(fixture, NULL, data, SIZE, &guided);
	assert_int_equal(guided, 0);
	assert_true(before.chunks_count > 200);

	memmove(data + 5000100, data + 5000000, SIZE - 5000000);
	data[9000000] ^= 1;
	memset(data + 12000000, 0, 1500000);
	fill(data + SIZE + 100, MORE - 100, 2);
	after = digest_into(fixture, &before, data, SIZE + MORE, &guided);
	alone = digest_into(fixture, NULL, data, SIZE + MORE, &none);
	assert_same_recipe(&after, &alone);
	assert_true(guided + 45 > before.chunks_count); /* but for some 20 under the zeros, and some at the edits */
	table_fini(&after);
	table_fini(&alone);

	memcpy(data, "PK\3\4", 4);
	after = digest_into(fixture, &before, data, SIZE, &guided);
	alone = digest_into(fixture, NULL, data, SIZE, &none);
	assert_same_recipe(&after, &alone);
	assert_int_equal(guided, 0);
	table_fini(&after);
	table_fini(&alone);
	table_fini(&before);
	free(data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_still),
	    TEST(test_changes_twice),
	    TEST(test_same_size),
	    TEST(test_never_still),
	    TEST(test_large_changes),
	    TEST(test_large_becomes_small),
	    TEST(test_small_becomes_large),
	    TEST(test_gone),
	    TEST(test_guided),
	    cmocka_unit_test(test_freshness),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
