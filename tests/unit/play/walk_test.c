/*
 * Shows the walk of a tree in the store: entries in fsutil's order with the fields that fsutil's sender makes of the same
 * files, at every width and depth; what is missing is told, and found again once it is there; memory stays within its bound
 * however large the directories are.
 */
#include "gateway/play/walk.h"
#include "tests/unit/store/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cas/references.h"

static struct fixture fixture;
static struct cas cas;
static bool more;

/* ---- a tree ---- */

static struct digest put(struct span data)
{
	struct blob blob = { .data = malloc(data.size + 1) };
	struct digest digest;

	if (data.size)
		memcpy(blob.data, data.data, data.size);
	blob_digest(&blob, data.size);
	assert_int_equal(put_blob(&fixture, &fixture.a, &blob), STORE_OK);
	digest = blob.digest;
	blob_free(&blob);
	return digest;
}

static struct digest make_directory(struct tree_node *nodes, size_t count, uint32_t mode, const struct tree_xattr *xattrs,
                                    size_t xattrs_count, struct buffer *encoded)
{
	struct tree_directory head = { .mode = mode, .xattrs = xattrs, .xattrs_count = xattrs_count };

	buffer_clear(encoded);
	assert_int_equal(tree_encode(encoded, &head, nodes, count), 0);
	return put(buffer_span(encoded));
}

static void on_more(void *owner)
{
	more = true;
}

static struct walk *walk_begin(const struct digest *root)
{
	struct walk *walk;

	assert_int_equal(walk_create(&walk, &cas, &fixture.a, root, on_more, NULL), 0);
	return walk;
}

static int next(struct walk *walk, struct walk_entry *entry)
{
	int r;

	for (;;) {
		more = false;
		r = walk_next(walk, entry);
		if (r != WALK_WAIT)
			return r;
		run_until(&fixture, &more);
	}
}

static void end(struct walk *walk)
{
	walk_destroy(walk);
	while (!cas_idle(&cas))
		ring_run(fixture.ring, 1000000);
}

/* ---- tests ---- */

struct expected {
	const char *path, *link;
	uint32_t mode;
	int64_t size;
	bool data;
};

static void fields_are_those_of_fsutil(void **state)
{
	static const struct expected wanted[] = {
		{ "a", "", FSUTIL_MODE_DIRECTORY | FSUTIL_MODE_STICKY | 0777, 0, false },
		{ "a/run", "", FSUTIL_MODE_SETUID | FSUTIL_MODE_SETGID | 0755, 5, true },
		{ "a.b", "", 0644, 200000, true },
		{ "b", "", FSUTIL_MODE_DIRECTORY | 0755, 0, false },
		{ "empty", "", 0, 0, true },
		{ "link", "a/run", FSUTIL_MODE_SYMLINK | 0777, 5, false },
		{ "pipe", "", FSUTIL_MODE_FIFO | 0600, 0, false },
		{ "second", "a/run", FSUTIL_MODE_SETUID | FSUTIL_MODE_SETGID | 0755, 5, false },
		{ "\xff", "", 0644, 5, true },
	};
	struct buffer encoded = buffer_heap(SIZE_MAX);
	const struct tree_xattr xattr = { .name = span_text("user.a"), .value = span_text("x") };
	struct digest hello = put(span_text("hello"));
	struct tree_node below[] = { { .kind = TREE_FILE, .name = span_text("run"), .mode = 06755, .digest = hello, .file_size = 5,
		                       .xattrs = &xattr, .xattrs_count = 1 } };
	struct tree_node top[] = {
		{ .kind = TREE_DIRECTORY, .name = span_text("a") },
		{ .kind = TREE_DIRECTORY, .name = span_text("b"), .digest = digest_empty },
		{ .kind = TREE_FILE, .name = span_text("a.b"), .mode = 0644, .digest = hello, .recipe = true, .file_size = 200000 },
		{ .kind = TREE_FILE, .name = span_text("empty"), .mode = 0, .digest = digest_empty },
		{ .kind = TREE_SYMLINK, .name = span_text("link"), .target = span_text("a/run") },
		{ .kind = TREE_FIFO, .name = span_text("pipe"), .mode = 0600, .digest = digest_empty },
		{ .kind = TREE_FILE, .name = span_text("second"), .mode = 06755, .digest = hello, .file_size = 5,
		  .hardlink = span_text("a/run") },
		{ .kind = TREE_FILE, .name = span_text("\xff"), .mode = 0644, .digest = hello, .file_size = 5 },
	};
	struct walk_entry entry;
	struct digest root;
	struct walk *walk;
	struct span value;

	top[0].digest = make_directory(below, 1, 01777, &xattr, 1, &encoded);
	root = make_directory(top, sizeof(top) / sizeof(top[0]), 0755, NULL, 0, &encoded);
	walk = walk_begin(&root);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		assert_int_equal(next(walk, &entry), WALK_ENTRY);
		assert_true(span_is(entry.stat.path, wanted[i].path));
		assert_true(span_is(entry.stat.linkname, wanted[i].link));
		assert_int_equal(entry.stat.mode, wanted[i].mode);
		assert_int_equal(entry.stat.size, wanted[i].size);
		assert_int_equal(entry.data, wanted[i].data);
		assert_int_equal(message_map_find(&entry.stat.xattrs, "user.a", &value), i < 2);
		if (i < 2)
			assert_true(span_is(value, "x"));
		if (i == 2)
			assert_true(entry.name.recipe && entry.name.size == 200000 && digest_equal(&entry.name.digest, &hello));
	}
	assert_int_equal(next(walk, &entry), WALK_END);
	assert_int_equal(walk_next(walk, &entry), WALK_END);
	end(walk);
	buffer_fini(&encoded);
}

/* `width` directories and files in each directory, `depth` below each other. */
static struct digest make_deep(unsigned width, unsigned depth, struct buffer *encoded)
{
	struct digest digest = digest_empty, leaf = put(span_text("leaf"));
	struct tree_node *nodes = calloc(2 * width, sizeof(*nodes));
	char (*names)[16] = calloc(2 * width, sizeof(*names));

	for (unsigned level = 0; level < depth; level++) {
		for (unsigned i = 0; i < 2 * width; i++) {
			snprintf(names[i], sizeof(names[i]), "%c%05u", i % 2 ? 'd' : 'f', (i * 7919) % (2 * width));
			nodes[i] = (struct tree_node){ .kind = i % 2 ? TREE_DIRECTORY : TREE_FILE, .name = span_text(names[i]),
				                       .mode = 0644, .digest = i % 2 ? digest : leaf, .file_size = 4 };
		}
		digest = make_directory(nodes, 2 * width, 0755, NULL, 0, encoded);
	}
	free(nodes);
	free(names);
	return digest;
}

static uint64_t walk_count(const struct digest *root, size_t *memory)
{
	struct buffer before = buffer_heap(SIZE_MAX);
	struct walk *walk = walk_begin(root);
	struct walk_entry entry;
	uint64_t count = 0;
	int r;

	*memory = 0;
	while ((r = next(walk, &entry)) == WALK_ENTRY) {
		assert_true(count == 0 || fsutil_path_compare(buffer_span(&before), entry.stat.path) < 0);
		buffer_clear(&before);
		buffer_put(&before, entry.stat.path.data, entry.stat.path.size);
		*memory = walk_memory(walk) > *memory ? walk_memory(walk) : *memory;
		count++;
	}
	assert_int_equal(r, WALK_END);
	end(walk);
	buffer_fini(&before);
	return count;
}

static void all_is_walked_in_order(void **state)
{
	static const struct { unsigned width, depth; uint64_t entries; } shapes[] = {
		{ 1, 1, 2 }, { 3, 3, 78 }, { 1, 250, 500 }, { 40, 2, 3280 }, { 20, 3, 16840 },
	};
	struct buffer encoded = buffer_heap(SIZE_MAX);
	size_t memory;

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct digest root = make_deep(shapes[i].width, shapes[i].depth, &encoded);

		assert_int_equal(walk_count(&root, &memory), shapes[i].entries);
	}
	assert_int_equal(walk_count(&digest_empty, &memory), 0);
	buffer_fini(&encoded);
}

enum { CHAIN_FILES = 20000, CHAIN_LEVELS = 20 };

/* A chain of directories of some 2 MB each, each in the middle of its parent or behind all else: far more than the bound. */
static struct digest make_chain(bool behind, struct buffer *encoded)
{
	struct digest digest = digest_empty, leaf = put(span_text("leaf"));
	struct tree_node *nodes = calloc(CHAIN_FILES + 1, sizeof(*nodes));
	char (*names)[16] = calloc(CHAIN_FILES, sizeof(*names));

	for (unsigned level = 0; level < CHAIN_LEVELS; level++) {
		for (unsigned i = 0; i < CHAIN_FILES; i++) {
			snprintf(names[i], sizeof(names[i]), "%c%02u-%06u", i < CHAIN_FILES / 2 || behind ? 'f' : 'h', level, i);
			nodes[i] = (struct tree_node){ .kind = TREE_FILE, .name = span_text(names[i]), .mode = 0644, .digest = leaf,
				                       .file_size = 4 };
		}
		nodes[CHAIN_FILES] = (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text("g"), .digest = digest };
		digest = make_directory(nodes, CHAIN_FILES + 1, 0755, NULL, 0, encoded);
	}
	free(nodes);
	free(names);
	return digest;
}

static void memory_is_bounded(void **state)
{
	struct buffer encoded = buffer_heap(SIZE_MAX);
	size_t memory;

	for (int behind = 0; behind < 2; behind++) {
		struct digest root = make_chain(behind, &encoded);

		assert_int_equal(walk_count(&root, &memory), (uint64_t)CHAIN_LEVELS * (CHAIN_FILES + 1));
		assert_true(memory < WALK_BYTES_MAX + 4 * TREE_DIRECTORY_BYTES_MAX);
	}
	buffer_fini(&encoded);
}

static void what_is_missing_is_found_later(void **state)
{
	struct buffer encoded = buffer_heap(SIZE_MAX);
	struct digest leaf = put(span_text("leaf"));
	struct tree_node file = { .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .digest = leaf, .file_size = 4 };
	struct tree_node top = { .kind = TREE_DIRECTORY, .name = span_text("d") };
	struct tree_directory head = { .mode = 0755 };
	struct blob below = { 0 };
	struct walk_entry entry;
	struct digest root;
	struct walk *walk;

	assert_int_equal(tree_encode(&encoded, &head, &file, 1), 0);
	below.data = malloc(encoded.size);
	memcpy(below.data, encoded.data, encoded.size);
	blob_digest(&below, encoded.size);
	top.digest = below.digest;
	root = make_directory(&top, 1, 0755, NULL, 0, &encoded);
	walk = walk_begin(&root);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(next(walk, &entry), WALK_MISSING);
		more = false;
		walk_retry(walk);
		run_until(&fixture, &more);
	}
	assert_int_equal(put_blob(&fixture, &fixture.a, &below), STORE_OK);
	more = false;
	walk_retry(walk);
	run_until(&fixture, &more);
	assert_int_equal(next(walk, &entry), WALK_ENTRY);
	assert_int_equal(next(walk, &entry), WALK_ENTRY);
	assert_true(span_is(entry.stat.path, "d/f"));
	assert_int_equal(next(walk, &entry), WALK_END);
	end(walk);
	/* Nor does another tenant see any of it. */
	assert_int_equal(walk_create(&walk, &cas, &fixture.b, &root, on_more, NULL), 0);
	assert_int_equal(next(walk, &entry), WALK_MISSING);
	end(walk);
	blob_free(&below);
	buffer_fini(&encoded);
}

static void what_is_no_directory_is_told(void **state)
{
	struct buffer encoded = buffer_heap(SIZE_MAX);
	struct digest root = put(span_text("no directory at all"));
	struct walk_entry entry;
	struct walk *walk = walk_begin(&root);

	assert_int_equal(next(walk, &entry), WALK_MALFORMED);
	end(walk);
	root = make_deep(1, TREE_DEPTH_MAX + 2, &encoded);
	walk = walk_begin(&root);
	while (next(walk, &entry) == WALK_ENTRY)
		continue;
	assert_int_equal(next(walk, &entry), WALK_MALFORMED);
	end(walk);
	/* Left in the middle of its reads. */
	root = make_deep(30, 3, &encoded);
	walk = walk_begin(&root);
	assert_int_equal(next(walk, &entry), WALK_ENTRY);
	end(walk);
	walk = walk_begin(&root);
	end(walk);
	buffer_fini(&encoded);
}

static int setup(void **state)
{
	static struct sha256 hasher;

	fixture_init(&fixture);
	fixture.config.references = closure_references;
	fixture.config.ceiling_bytes = 256u << 20;
	fixture_open(&fixture);
	sha256_init(&hasher, SHA256_AUTO);
	cas = (struct cas){ .ring = fixture.ring, .store = fixture.store, .hasher = &hasher };
	cas_init(&cas);
	return 0;
}

static int teardown(void **state)
{
	fixture_close(&fixture);
	fixture_fini(&fixture);
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(fields_are_those_of_fsutil),
		TEST(all_is_walked_in_order),
		TEST(memory_is_bounded),
		TEST(what_is_missing_is_found_later),
		TEST(what_is_no_directory_is_told),
	};

	if (argc > 1)
		fixture_choose_ring(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
