/*
 * Shows that entries in fsutil's order make the same Directory messages as the tree encoder gives for the same nodes, with
 * hard links, xattrs, symlinks and empty directories; that numbers, ends and paths are those of the walk, also when it is
 * long enough to spill; that a directory which may be too much for a tree is told from others; that an entry is told as it
 * came; that hard links find their first names, however many there are; and that what a tree cannot hold, and what is out of
 * order, is refused by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <cmocka.h>

#include "gateway/edge/listing.h"

static struct fsutil_stat file(const char *path, int64_t size)
{
	return (struct fsutil_stat){ .path = span_text(path), .mode = 0644, .size = size, .mod_time_ns = size + 1 };
}

static struct fsutil_stat directory(const char *path)
{
	return (struct fsutil_stat){ .path = span_text(path), .mode = FSUTIL_MODE_DIRECTORY | 0755 };
}

static void add(struct listing *listing, struct fsutil_stat stat)
{
	assert_int_equal(listing_add(listing, &stat), 0);
}

static void refused(struct listing *listing, struct fsutil_stat stat, const char *words)
{
	assert_int_equal(listing_add(listing, &stat), -EINVAL);
	assert_non_null(listing->fault);
	if (!strstr(listing->fault, words))
		fail_msg("\"%s\" is not in \"%s\"", words, listing->fault);
}

static struct content_name content(uint8_t byte, uint64_t size)
{
	struct content_name name = { .digest.size = size, .size = size };

	memset(name.digest.hash, byte, sizeof(name.digest.hash));
	return name;
}

static struct digest digest_of(const struct tree_directory *head, struct tree_node *nodes, size_t count)
{
	struct buffer out = buffer_heap(1 << 20);
	struct digest digest;

	assert_int_equal(tree_encode(&out, head, nodes, count), 0);
	digest.size = out.size;
	sha256_once(out.data, out.size, digest.hash);
	buffer_fini(&out);
	return digest;
}

static void seal(struct listing *listing)
{
	struct sha256 hasher;

	sha256_init(&hasher, SHA256_AUTO);
	listing_end(listing);
	assert_int_equal(listing_seal(listing, &hasher), 0);
}

static void is_the_tree(void **state)
{
	struct tree_directory head = { .mode = 0755 };
	struct content_name one = content(1, 5), two = content(2, 90);
	struct tree_xattr xattr = { span_text("user.b"), span_text("v") };
	struct buffer pairs = buffer_heap(4096);
	struct listing listing;
	struct tree_node nodes[3];
	struct digest below, empty;
	uint32_t number;

	two.recipe = true;
	two.size = 100000;
	message_put_pair(&pairs, FSUTIL_STAT_FIELD_XATTRS, &(struct message_pair){ span_text("user.b"), span_text("v") });
	listing_init(&listing, NULL);
	add(&listing, directory("a"));
	{
		struct fsutil_stat stat = file("a/x", 5);

		stat.xattrs = (struct message_list){ .message = buffer_span(&pairs), .number = FSUTIL_STAT_FIELD_XATTRS, .count = 1 };
		add(&listing, stat);
	}
	{
		struct fsutil_stat stat = file("a/y", 0);

		stat.linkname = span_text("a/x");
		add(&listing, stat);
	}
	add(&listing, file("a.c", 100000));      /* behind all of a/, though '.' is less than '/' */
	add(&listing, directory("b"));
	add(&listing, (struct fsutil_stat){ .path = span_text("c"), .mode = FSUTIL_MODE_SYMLINK | 0777,
	                                    .linkname = span_text("a/x") });
	assert_int_equal(listing.unnamed, 2);
	listing_set_content(&listing, 1, &one);
	listing_set_content(&listing, 3, &two);
	assert_int_equal(listing.unnamed, 0);
	assert_int_equal(listing.files, 2);
	seal(&listing);

	nodes[0] = (struct tree_node){ .kind = TREE_FILE, .name = span_text("x"), .mode = 0644, .digest = one.digest,
	                               .file_size = 5, .xattrs = &xattr, .xattrs_count = 1 };
	nodes[1] = (struct tree_node){ .kind = TREE_FILE, .name = span_text("y"), .mode = 0644, .digest = one.digest,
	                               .file_size = 5, .hardlink = span_text("a/x") };
	below = digest_of(&head, nodes, 2);
	empty = digest_of(&head, nodes, 0);
	assert_true(listing_find(&listing, &below, &number));
	assert_int_equal(number, 0);
	assert_true(listing_find(&listing, &empty, &number));
	assert_int_equal(number, 4);
	below.size++;
	assert_false(listing_find(&listing, &below, &number));
	below.size--;
	{
		struct tree_node top[4] = {
			{ .kind = TREE_DIRECTORY, .name = span_text("a"), .digest = below },
			{ .kind = TREE_FILE, .name = span_text("a.c"), .mode = 0644, .digest = two.digest, .recipe = true,
			  .file_size = 100000 },
			{ .kind = TREE_DIRECTORY, .name = span_text("b"), .digest = empty },
			{ .kind = TREE_SYMLINK, .name = span_text("c"), .mode = 0777, .target = span_text("a/x") },
		};
		struct digest root = digest_of(&head, top, 4);

		assert_true(digest_equal(&root, &listing.root));
		assert_true(listing_find(&listing, &root, &number));
		assert_int_equal(number, LISTING_NONE);
	}
	assert_int_equal(listing_at(&listing, 0)->end, 3);
	assert_int_equal(listing_first(&listing, LISTING_NONE), 0);
	assert_int_equal(listing_next(&listing, LISTING_NONE, 0), 3);
	assert_int_equal(listing_first(&listing, 4), LISTING_NONE);
	buffer_fini(&pairs);
	listing_fini(&listing);
}

static void add_told(struct listing *listing, struct fsutil_stat stat)
{
	struct buffer given = buffer_heap(4096), told = buffer_heap(4096);

	fsutil_stat_put(&given, &stat);
	add(listing, stat);
	listing_stat(listing, listing->count - 1, &told);
	assert_false(told.failed);
	assert_int_equal(told.size, given.size);
	assert_memory_equal(told.data, given.data, given.size);
	buffer_fini(&given);
	buffer_fini(&told);
}

/* An executor that has an entry compares: what it is told ahead of the root is, to the byte, what the client says. */
static void entries_are_told_as_they_came(void **state)
{
	struct fsutil_stat with_xattrs = file("a/x", 5), link = file("a/y", 5);
	struct buffer pairs = buffer_heap(4096);
	struct listing listing;

	message_put_pair(&pairs, FSUTIL_STAT_FIELD_XATTRS, &(struct message_pair){ span_text("user.a"), span_text("") });
	message_put_pair(&pairs, FSUTIL_STAT_FIELD_XATTRS, &(struct message_pair){ span_text("user.b"), span_text("v") });
	with_xattrs.xattrs = (struct message_list){ .message = buffer_span(&pairs), .number = FSUTIL_STAT_FIELD_XATTRS, .count = 2 };
	link.linkname = span_text("a/x");
	listing_init(&listing, NULL);
	add_told(&listing, directory("a"));
	add_told(&listing, with_xattrs);
	add_told(&listing, link);
	add_told(&listing, file("a/z", 0));
	add_told(&listing, (struct fsutil_stat){ .path = span_text("b"), .mode = FSUTIL_MODE_FIFO | 0600, .mod_time_ns = 7 });
	add_told(&listing, (struct fsutil_stat){ .path = span_text("c"), .mode = FSUTIL_MODE_SYMLINK | 0777, .size = 3,
	                                         .linkname = span_text("a/x"), .mod_time_ns = 8 });
	add_told(&listing, (struct fsutil_stat){ .path = span_text("d"), .mode = FSUTIL_MODE_SETUID | 0755, .size = 1ll << 40 });
	listing_end(&listing);
	listing_fini(&listing);
	buffer_fini(&pairs);
}

static void is_long(void **state)
{
	struct buffer path = buffer_heap(4096);
	struct listing listing;
	char text[64];

	listing_init(&listing, "/var/tmp");
	for (int i = 0; i < 500; i++) {
		snprintf(text, sizeof(text), "d%03d", i);
		add(&listing, directory(text));
		for (int k = 0; k < 400; k++) {
			struct content_name name = content((uint8_t)(i + k), 7);

			snprintf(text, sizeof(text), "d%03d/f%03d", i, k);
			add(&listing, file(text, 7));
			listing_set_content(&listing, listing.count - 1, &name);
		}
	}
	seal(&listing);
	assert_true(listing.entries.mapped);
	assert_int_equal(listing.count, 500 * 401);
	listing_path(&listing, 401 * 77 + 5, &path);
	assert_true(span_is(buffer_span(&path), "d077/f004"));
	assert_int_equal(listing_at(&listing, 401 * 77)->end, 401 * 78);
	buffer_fini(&path);
	listing_fini(&listing);
}

/* Files in a directory `d`, with names of so many bytes more. Whether it is too much for a tree. */
static bool is_too_broad(int files, size_t extra, char filler, bool *broad)
{
	char text[300], more[256] = { 0 };
	struct listing listing;
	struct sha256 hasher;
	bool refused;

	sha256_init(&hasher, SHA256_AUTO);
	memset(more, filler, extra);
	listing_init(&listing, "/var/tmp");
	add(&listing, file("a", 7));
	listing_set_content(&listing, 0, &(struct content_name){ .size = 7, .digest.size = 7 });
	for (int d = 0; d < 2; d++) {
		snprintf(text, sizeof(text), "d%d", d);
		add(&listing, directory(text));
		for (int i = 0; i < files; i++) {
			struct content_name name = content((uint8_t)i, 1u << 20);

			name.recipe = true;
			snprintf(text, sizeof(text), "d%d/f%07d%s", d, i, more);
			add(&listing, file(text, 1 << 20));
			listing_set_content(&listing, listing.count - 1, &name);
		}
	}
	listing_end(&listing);
	*broad = listing.broad;
	refused = listing_seal(&listing, &hasher) < 0;
	listing_fini(&listing);
	return refused;
}

/* What would turn out to be too much once all contents are known is known before. */
static void is_broad(void **state)
{
	bool broad;

	assert_true(is_too_broad(60000, 0, 0, &broad));
	assert_true(broad);
	assert_true(is_too_broad(14000, 200, 'x', &broad));
	assert_true(broad);
	assert_true(is_too_broad(6000, 200, '\xff', &broad));
	assert_true(broad);
	assert_false(is_too_broad(20000, 0, 0, &broad));
	assert_false(broad);
}

static void add_link(struct listing *listing, const char *path, const char *to, uint32_t first)
{
	struct fsutil_stat stat = file(path, 0);

	stat.linkname = span_text(to);
	add(listing, stat);
	assert_int_equal(listing_at(listing, listing->count - 1)->hardlink, first);
}

static void add_many(struct listing *listing, char letter, uint32_t count, bool links)
{
	char path[32], first[32];

	for (uint32_t i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "d/%c%05u", letter, i);
		snprintf(first, sizeof(first), "d/f%05u", i);
		if (links)
			add_link(listing, path, first, 1 + i);
		else
			add(listing, file(path, 1));
	}
}

/* In closed directories and in open ones, beside names that begin alike; as many as there may be take no longer for each. */
static void links_are_found(void **state)
{
	const uint32_t count = 50000;
	struct listing listing;
	clock_t since;

	listing_init(&listing, NULL);
	add(&listing, directory("a"));
	add(&listing, directory("a/b"));
	add(&listing, file("a/b/c", 1));
	add(&listing, file("a/b.c", 1));
	add_link(&listing, "a/c", "a/b/c", 2);
	add(&listing, file("a.b", 1));
	add(&listing, directory("d"));
	add(&listing, file("d/a", 1));
	add(&listing, directory("d/b"));
	add_link(&listing, "d/b/a", "d/a", 7);
	add_link(&listing, "d/b/b", "a/b.c", 3);
	add_link(&listing, "d/b/c", "a.b", 5);
	for (const char *const *nowhere = (const char *const[]){ "a/b", "a/b/d", "a/a", "d/b/a", "e", NULL }; *nowhere; nowhere++) {
		struct fsutil_stat stat = file("e", 0);

		stat.linkname = span_text(*nowhere);
		refused(&listing, stat, "hard link");
	}
	listing_fini(&listing);

	listing_init(&listing, NULL);
	add(&listing, directory("d"));
	add_many(&listing, 'f', count, false);
	since = clock();
	add_many(&listing, 'g', count, true);
	assert_true(clock() - since < 3 * CLOCKS_PER_SEC);
	listing_fini(&listing);
}

static void is_refused(void **state)
{
	struct buffer pairs = buffer_heap(4096);
	struct fsutil_stat owned = file("z", 1), link = file("z", 0), foreign = file("z", 1);
	struct listing listing;

	message_put_pair(&pairs, FSUTIL_STAT_FIELD_XATTRS, &(struct message_pair){ span_text("security.x"), span_text("v") });
	foreign.xattrs = (struct message_list){ .message = buffer_span(&pairs), .number = FSUTIL_STAT_FIELD_XATTRS, .count = 1 };
	owned.uid = 1;
	link.linkname = span_text("nowhere");
	listing_init(&listing, NULL);
	add(&listing, directory("a"));
	add(&listing, file("a/k", 1));
	refused(&listing, file("a/k", 1), "not in order");
	refused(&listing, file("a/b", 1), "not in order");
	refused(&listing, file("b/c", 1), "not in order");
	refused(&listing, file("a/k/l", 1), "not in order");
	refused(&listing, file("../a", 1), "no path");
	refused(&listing, file("", 1), "no path");
	refused(&listing, owned, "owner");
	refused(&listing, foreign, "xattr");
	refused(&listing, link, "hard link");
	refused(&listing, file("z", -1), "negative");
	refused(&listing, (struct fsutil_stat){ .path = span_text("z"), .mode = FSUTIL_MODE_DEVICE }, "device");
	refused(&listing, (struct fsutil_stat){ .path = span_text("z"), .mode = FSUTIL_MODE_SYMLINK }, "symlink");
	add(&listing, file("z", 1));
	refused(&listing, directory("a"), "not in order");
	refused(&listing, directory("a/q"), "not in order");
	buffer_fini(&pairs);
	listing_fini(&listing);
}

static void is_empty(void **state)
{
	struct listing listing;

	listing_init(&listing, NULL);
	seal(&listing);
	assert_true(digest_equal(&listing.root, &digest_empty));
	assert_int_equal(listing_first(&listing, LISTING_NONE), LISTING_NONE);
	listing_fini(&listing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_the_tree), cmocka_unit_test(entries_are_told_as_they_came), cmocka_unit_test(is_long),
		cmocka_unit_test(is_broad), cmocka_unit_test(links_are_found), cmocka_unit_test(is_refused), cmocka_unit_test(is_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
