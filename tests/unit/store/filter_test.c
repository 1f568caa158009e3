/*
 * Shows that a filter never forgets, seldom says "may" of what was not added, and says when it is full; and that an index, which
 * asks one first, finds every name that it had: when it is opened anew, while its filter fills, and after names came and went.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/ring/ring.h"
#include "gateway/store/filter.h"
#include "gateway/store/index.h"

#define KEYS       8192u
#define KEY_BYTES  32u
#define NAMES      5000u                 /* more than the filter takes in at a time */
#define ASKED      700u

static void make_key(uint8_t key[static KEY_BYTES], uint64_t number)
{
	uint64_t state = (number + 1) * 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < KEY_BYTES / 8; i++) {
		state = (state ^ state >> 30) * 0xbf58476d1ce4e5b9ull;
		state = (state ^ state >> 27) * 0x94d049bb133111ebull;
		memcpy(key + 8 * i, &state, 8);
	}
}

static void a_filter_never_forgets(void **state)
{
	uint8_t key[KEY_BYTES];
	struct filter filter;
	unsigned wrong = 0;

	assert_int_equal(filter_init(&filter, KEYS), 0);
	for (uint64_t i = 0; i < KEYS; i++) {
		make_key(key, i);
		filter_prefetch(&filter, key);
		filter_add(&filter, key);
		assert_true(filter_may(&filter, key));
	}
	for (uint64_t i = 0; i < 2 * KEYS; i++) {
		make_key(key, i);
		if (i < KEYS)
			assert_true(filter_may(&filter, key));
		else
			wrong += filter_may(&filter, key);
	}
	assert_in_range(wrong, 1, KEYS / 20);
	assert_false(filter_full(&filter));
	/* Adding the same again fills nothing. */
	for (uint64_t i = 0; i < 3 * KEYS; i++) {
		make_key(key, i % KEYS);
		filter_add(&filter, key);
	}
	assert_false(filter_full(&filter));
	for (uint64_t i = KEYS; i < 4 * KEYS; i++) {
		make_key(key, i);
		filter_add(&filter, key);
	}
	assert_true(filter_full(&filter));
	filter_fini(&filter);
}

static void one_that_knows_nothing_says_may(void **state)
{
	struct filter filter = { 0 };
	uint8_t key[KEY_BYTES] = { 0 };

	assert_true(filter_may(&filter, key));
	filter_add(&filter, key);
	filter_prefetch(&filter, key);
	assert_false(filter_full(&filter));
	filter_fini(&filter);
}

/* ---- the index ---- */

struct changes {
	struct index_apply apply;
	uint64_t next, end;
	enum index_change_kind kind;
};

static bool changes_next(struct index_apply *apply, struct index_change *change)
{
	struct changes *changes = container_of(apply, struct changes, apply);

	if (changes->next == changes->end)
		return false;
	*change = (struct index_change){ .kind = changes->kind, .table = INDEX_BLOBS, .key_size = KEY_BYTES };
	make_key(change->key, changes->next++);
	change->value = span_make(change->key, 24);
	return true;
}

static void change(struct index *index, enum index_change_kind kind, uint64_t from, uint64_t to)
{
	struct changes changes = { .apply.next = changes_next, .next = from, .end = to, .kind = kind };

	assert_int_equal(index_lmdb.apply_now(index, &changes.apply), 0);
}

static void on_get(struct index_get *get)
{
}

/* Names are asked for together, and one at a time. */
static void ask(struct index *index, struct index_get *get, bool together)
{
	size_t count = get->count;

	if (together) {
		index_lmdb.get(index, get);
		assert_int_equal(get->result, 0);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		struct index_get one = *get;

		one.keys += i * one.key_stride;
		one.values += i * one.value_stride;
		one.sizes += i;
		one.count = 1;
		index_lmdb.get(index, &one);
		assert_int_equal(one.result, 0);
	}
}

/* Every second name asked for is one that there never was. */
static void expect_asked(struct index *index, uint64_t from, bool there, bool together)
{
	static uint8_t keys[ASKED * KEY_BYTES], values[ASKED * 24];
	static int32_t sizes[ASKED];
	struct index_get get = {
		.table = INDEX_BLOBS, .keys = keys, .key_size = KEY_BYTES, .key_stride = KEY_BYTES, .count = ASKED, .values = values,
		.value_stride = 24, .sizes = sizes, .fn = on_get,
	};

	for (uint64_t i = 0; i < ASKED; i++)
		make_key(keys + i * KEY_BYTES, i % 2 ? 1000000 + from + i : from + i);
	memset(values, 0, sizeof(values));
	memset(sizes, 0, sizeof(sizes));
	ask(index, &get, together);
	for (uint64_t i = 0; i < ASKED; i++) {
		assert_int_equal(sizes[i], i % 2 == 0 && there ? 24 : -1);
		if (sizes[i] >= 0)
			assert_memory_equal(values + i * 24, keys + i * KEY_BYTES, 24);
	}
}

static void expect(struct index *index, uint64_t from, bool there)
{
	expect_asked(index, from, there, true);
	expect_asked(index, from, there, false);
}

static void an_index_finds_what_it_had(void **state)
{
	char path[] = "/var/tmp/sluice-filter-XXXXXX", command[128];
	struct index_config config = { .map_bytes = 16 << 20, .create = true, .sparse = true };
	struct index *index;

	assert_non_null(mkdtemp(path));
	config.dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(config.dir_fd >= 0);
	assert_int_equal(ring_create(&config.ring, &(struct ring_config){ .engine = RING_ENGINE_EPOLL }), 0);
	assert_int_equal(index_lmdb.open(&index, &config), 0);
	expect(index, 0, false);
	change(index, INDEX_PUT, 0, NAMES);
	expect(index, 0, true);
	index_lmdb.close(index);

	/* Opened anew: the first look-ups come before the filter has seen all rows, and between them rows come and go. */
	assert_int_equal(index_lmdb.open(&index, &config), 0);
	for (uint64_t round = 0; round < 8; round++) {
		expect(index, round * 500, true);
		change(index, INDEX_PUT, NAMES + round * 1000, NAMES + (round + 1) * 1000);
		expect(index, NAMES + round * 1000, true);
	}
	change(index, INDEX_DELETE, 0, ASKED);
	expect(index, 0, false);
	expect(index, ASKED, true);
	expect(index, NAMES + 7000, true);
	index_lmdb.close(index);
	ring_destroy(config.ring);
	close(config.dir_fd);
	snprintf(command, sizeof(command), "rm -rf %s", path);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_filter_never_forgets),
		cmocka_unit_test(one_that_knows_nothing_says_may),
		cmocka_unit_test(an_index_finds_what_it_had),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
