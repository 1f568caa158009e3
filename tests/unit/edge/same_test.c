/*
 * Shows that each thing that makes an entry another one is seen, and that nothing else is; that what was given is found by its
 * root as long as others do not need the room, whoever still uses it; and that what is short or long is not kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway/edge/same.h"

struct wish {
	uint32_t number;                 /* the file that is another one; UINT32_MAX: none is */
	const char *name, *target, *first, *xattr;
	uint32_t mode;
	int64_t mtime_ns;
	uint8_t content;
	uint64_t size;
	bool recipe;
};

#define FILES (SAME_STEP + 10)

static void add_xattr(struct buffer *pairs, struct fsutil_stat *stat, const char *value)
{
	message_put_pair(pairs, FSUTIL_STAT_FIELD_XATTRS,
	                 &(struct message_pair){ .key = span_text("user.a"), .value = span_text(value) });
	stat->xattrs = (struct message_list){ .message = buffer_span(pairs), .number = FSUTIL_STAT_FIELD_XATTRS, .count = 1 };
}

static void add(struct listing *listing, uint32_t number, const struct wish *wish)
{
	struct buffer pairs = buffer_heap(100);
	struct content_name name = { .digest.size = 10, .size = 10 };
	struct fsutil_stat stat = { .mode = 0644, .size = 10, .mod_time_ns = number };
	char path[40];

	snprintf(path, sizeof(path), "f%06u", number);
	name.digest.hash[5] = (uint8_t)number;
	if (number == wish->number) {
		snprintf(path, sizeof(path), "f%06u%s", number, wish->name ? wish->name : "");
		stat.mode = wish->target ? FSUTIL_MODE_SYMLINK | 0777 : 0644 ^ wish->mode;
		stat.linkname = span_text(wish->target ? wish->target : wish->first ? wish->first : "");
		stat.mod_time_ns += wish->mtime_ns;
		if (wish->xattr)
			add_xattr(&pairs, &stat, wish->xattr);
		name.digest.hash[0] = wish->content;
		name.size += wish->size;
		name.digest.size += wish->recipe ? 90 : wish->size;
		name.recipe = wish->recipe;
	}
	stat.path = span_text(path);
	if (listing_add(listing, &stat) < 0)
		fail_msg("%s: %s", path, listing->fault);
	if (listing_at(listing, listing->count - 1)->flags & LISTING_DATA)
		listing_set_content(listing, listing->count - 1, &name);
	buffer_fini(&pairs);
}

static void make(struct listing *listing, uint32_t files, const struct wish *wish)
{
	struct sha256 hasher;

	sha256_init(&hasher, SHA256_AUTO);
	listing_init(listing, "/var/tmp");
	for (uint32_t i = 0; i < files; i++)
		add(listing, i, wish);
	listing_end(listing);
	assert_int_equal(listing_seal(listing, &hasher), 0);
}

static const struct wish nothing = { .number = UINT32_MAX };

static void what_is_another_entry(void **state)
{
	static const struct wish wishes[] = {
		{ .number = UINT32_MAX },
		{ .number = 7, .mtime_ns = 5 },
		{ .number = 7, .name = "x" },
		{ .number = 7, .mode = 0100 },
		{ .number = 7, .target = "f000001" },
		{ .number = 7, .first = "f000001" },
		{ .number = 7, .first = "f000002" },
		{ .number = 7, .xattr = "b" },
		{ .number = 7, .content = 1 },
		{ .number = 7, .size = 1 },
		{ .number = 7, .recipe = true, .size = 9000000 },
		{ .number = 7, .recipe = true, .size = 9000001 },
	};
	enum { WISHES = sizeof(wishes) / sizeof(wishes[0]) };
	struct same_entries *given[WISHES];
	struct listing listings[WISHES];
	struct sames sames;

	sames_init(&sames, 77);
	for (size_t i = 0; i < WISHES; i++) {
		make(&listings[i], FILES, &wishes[i]);
		given[i] = same_make(&sames, &listings[i]);
		assert_non_null(given[i]);
	}
	for (size_t i = 0; i < WISHES; i++)
		for (size_t j = 0; j < WISHES; j++) {
			assert_true(same_is(&sames, given[i], &listings[j], 6));
			assert_true(same_is(&sames, given[i], &listings[j], 8));
			/* Times are not of a tree. */
			assert_int_equal(same_is(&sames, given[i], &listings[j], 7), i == j || (i <= 1 && j <= 1));
		}
	for (size_t i = 0; i < WISHES; i++) {
		sames_put(given[i]);
		listing_fini(&listings[i]);
	}
	sames_fini(&sames);
}

static void what_was_given_is_found(void **state)
{
	struct same_entries *used, *again;
	struct listing listing;
	struct sames sames;
	struct digest root;

	sames_init(&sames, 1);
	sames_keep(&sames, NULL);
	make(&listing, FILES, &nothing);
	root = listing.root;
	assert_null(sames_get(&sames, &root));
	sames_keep(&sames, same_make(&sames, &listing));
	sames_keep(&sames, same_make(&sames, &listing));         /* given twice, kept once */
	assert_int_equal(sames.count, 1);
	used = sames_get(&sames, &root);
	assert_non_null(used);
	assert_true(same_is(&sames, used, &listing, FILES - 1));
	for (unsigned i = 0; i < SAME_LISTINGS_MAX; i++) {
		struct listing other;

		make(&other, FILES, &(struct wish){ .number = i, .content = 9 });
		sames_keep(&sames, same_make(&sames, &other));
		listing_fini(&other);
	}
	assert_int_equal(sames.count, SAME_LISTINGS_MAX);
	assert_int_equal(sames.bytes, SAME_LISTINGS_MAX * FILES * sizeof(uint64_t));
	again = sames_get(&sames, &root);
	assert_null(again);
	assert_true(same_is(&sames, used, &listing, 0));         /* its user still has it */
	sames_put(used);
	sames_fini(&sames);
	listing_fini(&listing);
}

static void what_is_short_is_not_kept(void **state)
{
	struct listing listing;
	struct sames sames;

	sames_init(&sames, 1);
	make(&listing, SAME_STEP - 1, &nothing);
	assert_null(same_make(&sames, &listing));
	listing_fini(&listing);
	sames_fini(&sames);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_another_entry),
		cmocka_unit_test(what_was_given_is_found),
		cmocka_unit_test(what_is_short_is_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
