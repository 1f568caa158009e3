/*
 * Shows that each kind of node survives the way to bytes and back, that the bytes do not depend on the order of the
 * nodes and are those of docs/tree.md, that every hostile directory is refused with its reason, that what other REAPI
 * clients write is read, and that they are told names as these are.
 */
#include "proto/escape.h"
#include "proto/pb.h"
#include "proto/tree.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/sha.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TEXT(text)   { (const uint8_t *)(text), sizeof(text) - 1 }
#define HELLO_HEX    "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static const struct tree_directory plain = { .mode = 0755 };

static struct digest digest_of(char fill, uint64_t size)
{
	struct digest digest = { .size = size };

	memset(digest.hash, fill, sizeof(digest.hash));
	return digest;
}

static struct tree_node file(const char *name, uint32_t mode)
{
	struct tree_node node = { .kind = TREE_FILE, .name = span_text(name), .mode = mode, .file_size = 5 };

	assert_true(digest_from_hex(&node.digest, span_text(HELLO_HEX)));
	node.digest.size = 5;
	return node;
}

static void assert_span(struct span a, struct span b)
{
	assert_int_equal(a.size, b.size);
	if (a.size)
		assert_memory_equal(a.data, b.data, a.size);
}

static void assert_xattrs(const struct tree_xattr *a, size_t a_count, const struct tree_xattr *b, size_t b_count)
{
	assert_int_equal(a_count, b_count);
	for (size_t i = 0; i < a_count; i++) {
		assert_span(a[i].name, b[i].name);
		assert_span(a[i].value, b[i].value);
	}
}

static void assert_node(const struct tree_node *a, const struct tree_node *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_span(a->name, b->name);
	assert_int_equal(a->mode, b->mode);
	assert_true(digest_equal(&a->digest, &b->digest));
	assert_int_equal(a->recipe, b->recipe);
	assert_int_equal(a->file_size, b->file_size);
	assert_span(a->target, b->target);
	assert_span(a->hardlink, b->hardlink);
	assert_int_equal(a->major, b->major);
	assert_int_equal(a->minor, b->minor);
	assert_xattrs(a->xattrs, a->xattrs_count, b->xattrs, b->xattrs_count);
}

static void test_round_trip(void **state)
{
	static const struct tree_xattr xattrs[] = {
	    {TEXT("user.a"), TEXT("")},
	    {TEXT("user.b"), TEXT("\x00\xff z")},
	    {TEXT("user.\xc3\xa9"), TEXT("12")},
	};
	static const uint8_t long_name[255] = { [0 ... 254] = 0xfe };
	struct tree_directory directory = { .mode = 01777, .xattrs = xattrs, .xattrs_count = 2 };
	struct tree_node nodes[] = {
	    file("plain", 0644),
	    file("script", 0755),
	    file("mode0", 0),
	    file("setuid", 04755),
	    file("half-executable", 0655),
	    file("x", 0644),
	    {.kind = TREE_FILE,
	     .name = span_text("big"),
	     .mode = 0640,
	     .digest = digest_of('r', 400),
	     .recipe = true,
	     .file_size = 9000000,
	     .hardlink = span_text("a/\xff/100%FF")},
	    file("\xff\xfe%41", 0644),
	    file("%FF%FE%2541", 0600),
	    {.kind = TREE_FILE, .name = span_make(long_name, sizeof(long_name)), .mode = 0644, .digest = digest_empty},
	    {.kind = TREE_DIRECTORY, .name = span_text("d"), .digest = digest_of('d', 77)},
	    {.kind = TREE_DIRECTORY, .name = span_text("\x80"), .digest = digest_of('e', 78)},
	    {.kind = TREE_SYMLINK, .name = span_text("loop"), .target = span_text("loop")},
	    {.kind = TREE_SYMLINK, .name = span_text("abs"), .target = span_text("/etc/../passwd")},
	    {.kind = TREE_SYMLINK, .name = span_text("\xe9t\xe9"), .target = span_text("../\xe9")},
	    {.kind = TREE_FIFO, .name = span_text("pipe"), .mode = 0644, .digest = digest_empty},
	    {.kind = TREE_CHAR_DEVICE,
	     .name = span_text("null"),
	     .mode = 0666,
	     .major = 1,
	     .minor = 3,
	     .digest = digest_empty},
	    {.kind = TREE_BLOCK_DEVICE,
	     .name = span_text("disk"),
	     .mode = 0,
	     .major = UINT32_MAX,
	     .digest = digest_empty},
	    file(".wh.whiteout", 0644),
	    file("100%", 0644),
	};
	struct buffer blob = buffer_heap(1 << 20);
	struct tree_reader reader;
	struct tree_node node;
	size_t count = 0;

	nodes[5].xattrs = xattrs;
	nodes[5].xattrs_count = 3;
	assert_int_equal(tree_encode(&blob, &directory, nodes, COUNT(nodes)), 0);
	assert_true(tree_open(&reader, buffer_span(&blob)));
	assert_int_equal(reader.directory.mode, 01777);
	assert_xattrs(reader.directory.xattrs, reader.directory.xattrs_count, xattrs, 2);
	/* tree_encode has sorted `nodes` by wire name; the reader gives files, directories, symlinks. */
	for (int list = 0; list < 3; list++) {
		for (size_t i = 0; i < COUNT(nodes); i++) {
			int of = nodes[i].kind == TREE_DIRECTORY ? 1 : nodes[i].kind == TREE_SYMLINK ? 2 : 0;

			if (of != list)
				continue;
			assert_true(tree_next(&reader, &node));
			assert_node(&nodes[i], &node);
			count++;
		}
	}
	assert_false(tree_next(&reader, &node));
	assert_false(reader.failed);
	assert_int_equal(count, COUNT(nodes));
	tree_close(&reader);
	buffer_fini(&blob);
}

static void test_order_does_not_matter(void **state)
{
	struct tree_node nodes[] = {
	    file("a", 0644),
	    file("B", 0644),
	    file("a.c", 0644),
	    file("\xff", 0644),
	    file("%", 0644),
	    file("%FF", 0755),
	    {.kind = TREE_DIRECTORY, .name = span_text("aa"), .digest = digest_of('d', 7)},
	    {.kind = TREE_DIRECTORY, .name = span_text("AA"), .digest = digest_of('d', 7)},
	    {.kind = TREE_SYMLINK, .name = span_text("l"), .target = span_text("a")},
	};
	struct buffer first = buffer_heap(1 << 20), again = buffer_heap(1 << 20);

	assert_int_equal(tree_encode(&first, &plain, nodes, COUNT(nodes)), 0);
	srand(1);
	for (int round = 0; round < 50; round++) {
		for (size_t i = COUNT(nodes) - 1; i > 0; i--) {
			size_t j = (size_t)rand() % (i + 1);
			struct tree_node swap = nodes[i];

			nodes[i] = nodes[j];
			nodes[j] = swap;
		}
		buffer_clear(&again);
		assert_int_equal(tree_encode(&again, &plain, nodes, COUNT(nodes)), 0);
		assert_span(buffer_span(&first), buffer_span(&again));
	}
	buffer_fini(&first);
	buffer_fini(&again);
}

static void test_encode_refuses(void **state)
{
	static const struct tree_xattr trusted[] = { { TEXT("trusted.overlay.opaque"), TEXT("y") } };
	static const struct tree_xattr overlay[] = { { TEXT("user.overlay.opaque"), TEXT("y") } };
	static const struct tree_xattr unsorted[] = { { TEXT("user.b"), TEXT("") }, { TEXT("user.a"), TEXT("") } };
	static const uint8_t value[TREE_XATTR_BYTES_MAX];
	static const struct tree_xattr fitting[] = { { TEXT("user.a"), { value, sizeof(value) - 12 } },
	                                             { TEXT("user.b"), TEXT("") } };
	static const struct tree_xattr too_long[] = { { TEXT("user.a"), { value, sizeof(value) - 12 } },
	                                              { TEXT("user.b"), TEXT("x") } };
	static const struct tree_directory bad_directories[] = {
		{ .mode = 010000 }, { .mode = 0755, .xattrs = trusted, .xattrs_count = 1 },
		{ .mode = 0755, .xattrs = too_long, .xattrs_count = 2 },
	};
	static const struct tree_directory largest = { .mode = 07777, .xattrs = fitting, .xattrs_count = 2 };
	struct tree_node most = file("f", 07777);
	static const char long_name[] = { [0 ... 255] = 'n', 0 };
	struct tree_node bad[] = {
		file("", 0644), file(".", 0644), file("..", 0644), file("a/b", 0644), file(long_name, 0644),
		file("mode", 010000),
		{ .kind = TREE_FILE, .name = TEXT("a\0b"), .mode = 0644 },
		{ .kind = TREE_SYMLINK, .name = span_text("l") },
		{ .kind = TREE_SYMLINK, .name = span_text("l"), .target = TEXT("a\0b") },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .file_size = 9 },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .recipe = true, .file_size = 65536 },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .hardlink = span_text("/a") },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .hardlink = span_text("a/../b") },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .hardlink = span_text("a//b") },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .hardlink = span_text("a/") },
		{ .kind = TREE_FIFO, .name = span_text("f"), .hardlink = span_text("a") },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .xattrs = trusted, .xattrs_count = 1 },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .xattrs = overlay, .xattrs_count = 1 },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .xattrs = unsorted, .xattrs_count = 2 },
		{ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .xattrs = too_long, .xattrs_count = 2 },
	};
	struct tree_node twice[] = {file("a", 0644),
				    {.kind = TREE_DIRECTORY, .name = span_text("a"), .digest = digest_empty}};
	struct buffer blob = buffer_heap(1 << 20);

	for (size_t i = 0; i < COUNT(bad); i++) {
		buffer_put_text(&blob, "kept");
		if (tree_encode(&blob, &plain, &bad[i], 1) != -EINVAL)
			fail_msg("row %zu is accepted", i);
		assert_int_equal(blob.size, 4);
		buffer_clear(&blob);
	}
	most.xattrs = fitting;
	most.xattrs_count = 2;
	for (size_t i = 0; i < COUNT(bad_directories); i++)
		assert_int_equal(tree_encode(&blob, &bad_directories[i], NULL, 0), -EINVAL);
	assert_int_equal(tree_encode(&blob, &largest, &most, 1), 0);
	assert_int_equal(tree_encode(&blob, &plain, twice, 2), -EEXIST);
	buffer_fini(&blob);
	blob = buffer_heap(64);
	assert_int_equal(tree_encode(&blob, &plain, twice, 1), -EFBIG);
	buffer_fini(&blob);
}

static void test_directory_bytes_max(void **state)
{
	enum { COUNT_OVER = TREE_DIRECTORY_BYTES_MAX / 80 + 1 };
	struct tree_node *nodes = calloc(COUNT_OVER, sizeof(*nodes));
	struct buffer blob = buffer_heap(64 << 20);
	char (*names)[16] = calloc(COUNT_OVER, sizeof(*names));

	for (int i = 0; i < COUNT_OVER; i++) {
		snprintf(names[i], sizeof(names[i]), "%08d", i);
		nodes[i] = file(names[i], 0644);
	}
	assert_int_equal(tree_encode(&blob, &plain, nodes, COUNT_OVER), -EFBIG);
	assert_int_equal(tree_encode(&blob, &plain, nodes, COUNT_OVER / 2), 0);
	buffer_fini(&blob);
	free(names);
	free(nodes);
}

/* Directories written field by field, as somebody hostile could. */
struct hostile {
	struct buffer blob;
	size_t marks[8];
	size_t depth;
};

static void enter(struct hostile *h, uint32_t number)
{
	h->marks[h->depth++] = pb_begin(&h->blob, number);
}

static void leave(struct hostile *h)
{
	pb_end(&h->blob, h->marks[--h->depth]);
}

static void put_digest_text(struct hostile *h, const char *hex, uint64_t size)
{
	enter(h, 2);
	pb_put_text(&h->blob, 1, hex);
	pb_put_varint(&h->blob, 2, size);
	leave(h);
}

static void put_property_at(struct hostile *h, uint32_t properties, const char *name, const char *value)
{
	enter(h, properties);
	enter(h, 1);
	pb_put_text(&h->blob, 1, name);
	pb_put_text(&h->blob, 2, value);
	leave(h);
	leave(h);
}

/* A file node with at most one property. */
static void put_file(struct hostile *h, const char *name, const char *property, const char *value)
{
	enter(h, 1);
	pb_put_text(&h->blob, 1, name);
	put_digest_text(h, HELLO_HEX, 5);
	if (property)
		put_property_at(h, 6, property, value);
	leave(h);
}

static void put_directory(struct hostile *h, const char *name)
{
	enter(h, 2);
	pb_put_text(&h->blob, 1, name);
	put_digest_text(h, HELLO_HEX, 5);
	leave(h);
}

static void put_symlink(struct hostile *h, const char *name, const char *target)
{
	enter(h, 3);
	pb_put_text(&h->blob, 1, name);
	pb_put_text(&h->blob, 2, target);
	leave(h);
}

static void put_head(struct hostile *h, const char *name, const char *value)
{
	put_property_at(h, 5, name, value);
}

/* NULL: all of it is accepted. */
static const char *read_all(struct span blob)
{
	struct tree_reader reader;
	struct tree_node node;
	const char *fault;

	if (tree_open(&reader, blob)) {
		while (tree_next(&reader, &node))
			;
	}
	fault = reader.failed ? reader.fault : NULL;
	assert_true(reader.failed == (fault != NULL));
	tree_close(&reader);
	return fault;
}

static void expect(struct hostile *h, const char *fault)
{
	const char *found;

	assert_false(h->blob.failed);
	assert_int_equal(h->depth, 0);
	found = read_all(buffer_span(&h->blob));
	if (!found != !fault || (found && strcmp(found, fault) != 0))
		fail_msg("expected \"%s\", found \"%s\"", fault ? fault : "(none)", found ? found : "(none)");
	buffer_clear(&h->blob);
}

static void test_names_refused(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "/", "../x" };
	static const char long_name[] = { [0 ... 255] = 'n', 0 };
	struct hostile h = { .blob = buffer_heap(1 << 20) };

	for (size_t i = 0; i < COUNT(bad); i++) {
		put_file(&h, bad[i], NULL, NULL);
		expect(&h, i ? "bad name" : "names not sorted");
		put_directory(&h, bad[i]);
		expect(&h, i ? "bad name" : "names not sorted");
		put_symlink(&h, bad[i], "t");
		expect(&h, i ? "bad name" : "names not sorted");
	}
	put_file(&h, long_name, NULL, NULL);
	expect(&h, "bad name");
	put_file(&h, "a\xff", NULL, NULL);
	expect(&h, "text is not UTF-8");
	enter(&h, 1);
	pb_put_bytes(&h.blob, 1, span_make("a\0b", 3));
	put_digest_text(&h, HELLO_HEX, 5);
	leave(&h);
	expect(&h, "bad name");
	buffer_fini(&h.blob);
}

static void test_order_refused(void **state)
{
	struct hostile h = { .blob = buffer_heap(1 << 20) };

	put_file(&h, "b", NULL, NULL);
	put_file(&h, "a", NULL, NULL);
	expect(&h, "names not sorted");
	put_file(&h, "a", NULL, NULL);
	put_file(&h, "a", NULL, NULL);
	expect(&h, "names not sorted");
	put_file(&h, "a", NULL, NULL);
	put_directory(&h, "0");
	put_directory(&h, "a");
	expect(&h, "name twice");
	put_file(&h, "a", NULL, NULL);
	put_directory(&h, "b");
	put_symlink(&h, "a", "t");
	expect(&h, "name twice");
	put_directory(&h, "x");
	put_symlink(&h, "x", "t");
	expect(&h, "name twice");
	put_directory(&h, "x");
	put_file(&h, "a", NULL, NULL);
	expect(&h, "lists not in order");
	put_head(&h, "other", "x");
	put_head(&h, "other", "x");
	expect(&h, "properties twice");
	buffer_fini(&h.blob);
}

static void test_escaped_names(void **state)
{
	struct hostile h = { .blob = buffer_heap(1 << 20) };

	put_file(&h, "%FF", NULL, NULL);                 /* another client's own name */
	put_directory(&h, "%FE");
	expect(&h, NULL);
	put_file(&h, "%FF", "sluice.name", "/w==");
	put_head(&h, "sluice.names", "escaped");
	expect(&h, NULL);
	put_file(&h, "%FF", NULL, NULL);                 /* would be a second spelling of the byte FF */
	put_head(&h, "sluice.names", "escaped");
	expect(&h, "escaped name and its property differ");
	put_file(&h, "%FF", "sluice.name", "/w==");
	expect(&h, "escaped name and its property differ");
	put_file(&h, "a", "sluice.name", "YQ==");
	put_head(&h, "sluice.names", "escaped");
	expect(&h, "escaped name and its property differ");
	put_file(&h, "%FE", "sluice.name", "/w==");
	put_head(&h, "sluice.names", "escaped");
	expect(&h, "escaped text and its property differ");
	put_file(&h, "%FF", "sluice.name", "/x==");
	put_head(&h, "sluice.names", "escaped");
	expect(&h, "escaped text and its property differ");
	put_directory(&h, "%C3%A9");                     /* U+00E9 needs no escaping */
	put_head(&h, "sluice.names", "escaped");
	expect(&h, "bad escaped name");
	put_directory(&h, "%FF%2F");                     /* would hold a '/' */
	put_head(&h, "sluice.names", "escaped");
	expect(&h, "bad escaped name");
	put_head(&h, "sluice.names", "yes");
	expect(&h, "property is not known");
	buffer_fini(&h.blob);
}

/* For other clients: no escapes, and nothing that only sluice reads. */
static void test_plain(void **state)
{
	struct tree_node nodes[] = {
		{ .kind = TREE_SYMLINK, .name = span_text("to%FF"), .target = span_text("%E4") }, file("%FF", 0700), file("%25FF", 0644),
		{ .kind = TREE_DIRECTORY, .name = span_text("d%C3%A9"), .digest = digest_of('d', 9) },
	};
	static const char *const sorted[] = { "%25FF", "%FF", "d%C3%A9", "to%FF" };
	struct tree_node refused[] = { file("caf\xe9", 0644) };
	struct buffer blob = buffer_heap(1 << 16);
	struct tree_reader reader;
	struct tree_node node;

	assert_int_equal(tree_encode_plain(&blob, 0700, nodes, COUNT(nodes)), 0);
	assert_null(memmem(blob.data, blob.size, "sluice.", strlen("sluice.")));
	assert_true(tree_open(&reader, buffer_span(&blob)));
	assert_int_equal(reader.directory.mode, 0700);
	for (size_t i = 0; i < COUNT(sorted); i++)
		assert_true(tree_next(&reader, &node) && span_is(node.name, sorted[i]));
	assert_true(span_is(node.target, "%E4"));
	assert_false(tree_next(&reader, &node) || reader.failed);
	tree_close(&reader);
	buffer_clear(&blob);
	assert_int_equal(tree_encode_plain(&blob, 0755, refused, 1), -EILSEQ);
	refused[0] = (struct tree_node){ .kind = TREE_SYMLINK, .name = span_text("s"), .target = span_text("\xff") };
	assert_int_equal(tree_encode_plain(&blob, 0755, refused, 1), -EILSEQ);
	refused[0] = (struct tree_node){ .kind = TREE_FIFO, .name = span_text("p"), .mode = 0644 };
	assert_int_equal(tree_encode_plain(&blob, 0755, refused, 1), -EINVAL);
	refused[0] = file("h", 0644);
	refused[0].hardlink = span_text("g");
	assert_int_equal(tree_encode_plain(&blob, 0755, refused, 1), -EINVAL);
	assert_int_equal(blob.size, 0);
	buffer_fini(&blob);
}

static void test_properties_refused(void **state)
{
	static const struct {
		const char *name, *value, *fault;
	} rows[] = {
		{ "sluice.xattr.trusted.overlay.opaque", "eQ==", "xattr is not allowed" },
		{ "sluice.xattr.user.overlay.opaque", "eQ==", "xattr is not allowed" },
		{ "sluice.xattr.security.capability", "eQ==", "xattr is not allowed" },
		{ "sluice.xattr.user.", "eQ==", "xattr is not allowed" },
		{ "sluice.xattr.user.a", "eQ=", "xattr value is not base64" },
		{ "sluice.xattr.user.a", "eR==", "xattr value is not base64" },
		{ "sluice.recipe", "2:100000", "recipe version is not known" },
		{ "sluice.recipe", "1:", "malformed recipe size" },
		{ "sluice.recipe", "1:0100000", "malformed recipe size" },
		{ "sluice.recipe", "1:99999999999999999999", "malformed recipe size" },
		{ "sluice.recipe", "1:65536", "recipe of a wrong size" },
		{ "sluice.recipe", "1:65537", NULL },
		{ "sluice.hardlink", "/etc/passwd", "bad path of a hardlink" },
		{ "sluice.hardlink", "a/../b", "bad path of a hardlink" },
		{ "sluice.hardlink", "a//b", "bad path of a hardlink" },
		{ "sluice.hardlink", "a/", "bad path of a hardlink" },
		{ "sluice.hardlink", "a/%C3%A9", "bad path of a hardlink" },
		{ "sluice.hardlink", "a/%FF", NULL },
		{ "sluice.hardlink", "", "property without a value" },
		{ "sluice.type", "socket", "type of node is not known" },
		{ "sluice.type", "char:1", "type of node is not known" },
		{ "sluice.type", "char:1:4294967296", "type of node is not known" },
		{ "sluice.type", "fifo", "special node with content" },
		{ "sluice.target", "eQ==", "property where it does not belong" },
		{ "sluice.names", "escaped", "property where it does not belong" },
		{ "sluice.mtime", "1", "property is not known" },
		{ "other.client", "", NULL },
		{ "", "x", "malformed property" },
	};
	static const char *const of_files[][2] = {
		{ "sluice.recipe", "1:65537" }, { "sluice.hardlink", "a" }, { "sluice.type", "fifo" },
		{ "sluice.xattr.user.a", "eQ==" },
	};
	static char value[TREE_XATTR_BYTES_MAX * 2];
	struct hostile h = { .blob = buffer_heap(1 << 20) };

	for (size_t i = 0; i < COUNT(rows); i++) {
		put_file(&h, "f", rows[i].name, rows[i].value);
		expect(&h, rows[i].fault);
	}
	put_head(&h, "sluice.hardlink", "a");
	expect(&h, "property where it does not belong");
	enter(&h, 1);
	pb_put_text(&h.blob, 1, "f");
	leave(&h);
	expect(&h, "file without a digest");
	enter(&h, 1);
	pb_put_text(&h.blob, 1, "f");
	put_digest_text(&h, "abc", 3);
	leave(&h);
	expect(&h, "malformed digest");
	put_symlink(&h, "l", "");
	expect(&h, "bad target of a symlink");
	for (size_t i = 0; i < COUNT(of_files); i++) {
		enter(&h, 3);
		pb_put_text(&h.blob, 1, "l");
		pb_put_text(&h.blob, 2, "t");
		put_property_at(&h, 4, of_files[i][0], of_files[i][1]);
		leave(&h);
		expect(&h, "symlink with properties of a file");
	}
	/* Twice the same, with two meanings. */
	enter(&h, 1);
	pb_put_text(&h.blob, 1, "f");
	put_digest_text(&h, HELLO_HEX, 5);
	enter(&h, 6);
	for (int i = 0; i < 2; i++) {
		enter(&h, 1);
		pb_put_text(&h.blob, 1, "sluice.hardlink");
		pb_put_text(&h.blob, 2, i ? "b" : "a");
		leave(&h);
	}
	leave(&h);
	leave(&h);
	expect(&h, "properties not sorted");
	/* Base64 of all that an entry's xattrs may have together, and of three bytes more. */
	memset(value, 'A', sizeof(value));
	for (size_t over = 0; over < 2; over++) {
		value[TREE_XATTR_BYTES_MAX / 3 * 4 + 4 * over - 8] = 0;
		put_file(&h, "f", "sluice.xattr.user.a", value);
		expect(&h, over ? "xattrs too long" : NULL);
		memset(value, 'A', sizeof(value));
	}
	buffer_fini(&h.blob);
}

/* As Bazel writes it: no modes, mtimes here and there, a property of its own, an unknown field. */
static void test_other_clients(void **state)
{
	struct hostile h = { .blob = buffer_heap(1 << 20) };
	struct tree_reader reader;
	struct tree_node node;

	enter(&h, 1);
	pb_put_text(&h.blob, 1, "tool");
	put_digest_text(&h, HELLO_HEX, 100000);
	pb_put_bool(&h.blob, 4, true);
	enter(&h, 6);
	enter(&h, 2);
	pb_put_varint(&h.blob, 1, 1700000000);
	leave(&h);
	leave(&h);
	pb_put_text(&h.blob, 99, "new");
	leave(&h);
	put_directory(&h, "sub");
	pb_put_text(&h.blob, 77, "new");
	assert_true(tree_open(&reader, buffer_span(&h.blob)));
	assert_int_equal(reader.directory.mode, 0755);
	assert_true(tree_next(&reader, &node));
	assert_int_equal(node.mode, 0755);
	assert_false(node.recipe);
	assert_int_equal(node.file_size, 100000);
	assert_true(tree_next(&reader, &node));
	assert_int_equal(node.kind, TREE_DIRECTORY);
	assert_false(tree_next(&reader, &node));
	assert_false(reader.failed);
	tree_close(&reader);
	buffer_fini(&h.blob);
}

/* Cut short anywhere, a directory is refused or is a shorter one; never read past. */
static void test_truncated(void **state)
{
	struct tree_node nodes[] = { file("a", 0600), file("\xff", 0644),
		{ .kind = TREE_SYMLINK, .name = span_text("l"), .target = span_text("a") } };
	struct buffer blob = buffer_heap(1 << 20);

	assert_int_equal(tree_encode(&blob, &plain, nodes, COUNT(nodes)), 0);
	assert_null(read_all(buffer_span(&blob)));
	for (size_t size = 0; size < blob.size; size++) {
		uint8_t *exact = malloc(size ? size : 1);

		memcpy(exact, blob.data, size);
		read_all(span_make(exact, size));
		free(exact);
	}
	buffer_fini(&blob);
}

/* docs/tree.md, "Vectors": the same rows. */
static void check_vector(const char *name, const struct tree_directory *directory, struct tree_node *nodes,
			 size_t count, const char *expected)
{
	struct buffer blob = buffer_heap(1 << 20);
	struct digest digest = { 0 };
	char text[DIGEST_TEXT_MAX];

	assert_int_equal(tree_encode(&blob, directory, nodes, count), 0);
	SHA256(blob.data ? blob.data : (const uint8_t *)"", blob.size, digest.hash);
	digest.size = blob.size;
	digest_text(&digest, text);
	if (getenv("TREE_VECTORS")) {
		printf("%s %s\n  ", name, text);
		for (size_t i = 0; i < blob.size; i++)
			printf("%02x", blob.data[i]);
		printf("\n");
	} else if (strcmp(text, expected) != 0) {
		fail_msg("%s: %s, expected %s", name, text, expected);
	}
	buffer_fini(&blob);
}

static void test_vectors(void **state)
{
	static const struct tree_xattr xattrs[] = { { TEXT("user.a"), TEXT("x") }, { TEXT("user.b"), TEXT("") } };
	struct tree_directory sticky = { .mode = 01777, .xattrs = xattrs, .xattrs_count = 1 };
	struct tree_node files[] = { file("hello", 0644), file("run", 0755), file("secret", 0600), file("none", 0) };
	struct tree_node kinds[] = {
		{ .kind = TREE_FILE, .name = span_text("big"), .mode = 0644, .recipe = true, .file_size = 200000 },
		file("second", 0644),
		{ .kind = TREE_FIFO, .name = span_text("pipe"), .mode = 0644 },
		{ .kind = TREE_CHAR_DEVICE, .name = span_text("null"), .mode = 0666, .major = 1, .minor = 3 },
		{ .kind = TREE_DIRECTORY, .name = span_text("empty"), .digest = digest_empty },
		{ .kind = TREE_SYMLINK, .name = span_text("link"), .target = span_text("hello") },
	};
	struct tree_node names[] = { file("\xff", 0644), file("%FF", 0644), file("100%", 0644),
		{ .kind = TREE_DIRECTORY, .name = span_text("\xfe"), .digest = digest_empty },
		{ .kind = TREE_SYMLINK, .name = span_text("l"), .target = span_text("\xff") } };
	struct tree_node with_xattrs[] = { file("f", 0644) };

	kinds[0].digest = files[0].digest;
	kinds[1].hardlink = span_text("sub/\xff/first");
	with_xattrs[0].xattrs = xattrs;
	with_xattrs[0].xattrs_count = 2;
	check_vector("empty", &plain, NULL, 0,
	             "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0");
	check_vector("files", &plain, files, COUNT(files),
	             "sha256:59bc0e14f7406ab213b4aca77a9081ecc411ef5b3607649c976d9b2e00805241/327");
	check_vector("kinds", &plain, kinds, COUNT(kinds),
	             "sha256:fac157f867c115b82632fb16daf45080ad8973fabd29cdca686a25cac80a3a3f/521");
	check_vector("names", &plain, names, COUNT(names),
	             "sha256:cb298eacd15f146896f2e8fd3949105d22222964ec00ffbadb257f37aab79222/417");
	check_vector("xattrs", &sticky, with_xattrs, 1,
	             "sha256:0e52e31bfa5db30571eba080d2baf70156c16f0c4842ef43bed0204ba6316116/165");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_order_does_not_matter),
		cmocka_unit_test(test_encode_refuses),
		cmocka_unit_test(test_directory_bytes_max),
		cmocka_unit_test(test_names_refused),
		cmocka_unit_test(test_order_refused),
		cmocka_unit_test(test_escaped_names),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_properties_refused),
		cmocka_unit_test(test_other_clients),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_vectors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
