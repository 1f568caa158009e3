/*
 * Shows, against a gateway in a thread: a tree of some hundred files (small, large by recipe, very small, hardlinks,
 * symlinks, directories that repeat) goes up and comes down the same; what did not change costs one question; what
 * changed is all that is asked about; a gateway that lost what the snapshot says it has gets it again; a file that
 * changes between scan and sending is told as stale; a tree that repeats itself twice a level is not asked about
 * exponentially often. And of a download: after a request that was given up in its middle the next one gets its own
 * answers, and one after a long silence gets them in another call. And of looking into trees: files by recipe, files of
 * other clients, and recipes that go too deep.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/base/list.h"
#include "gateway/cas/open_call.h"
#include "gateway/context/browse.h"
#include "gateway/context/content.h"
#include "gateway/context/download.h"
#include "gateway/context/manifest.h"
#include "gateway/context/materialise.h"
#include "gateway/context/upload.h"
#include "gateway/context/whole_blob.h"
#include "gateway_thread.h"
#include "proto/recipe.h"
#include "requests.h"

#define GATEWAY_ID "unix:///the-gateway"

static struct gateway_thread *gateway;
static struct client *client;
static char directory[64], snapshot[96];

static void write_file(const char *path, uint32_t seed, size_t size)
{
	char whole[256];
	FILE *file;

	snprintf(whole, sizeof(whole), "%s/%s", directory, path);
	file = fopen(whole, "w");
	assert_non_null(file);
	for (size_t i = 0; i < size; i += 4) {
		seed = seed * 1664525u + 1013904223u;
		fwrite(&seed, 1, size - i < 4 ? size - i : 4, file);
	}
	fclose(file);
}

static void make_directory(const char *path)
{
	char whole[256];

	snprintf(whole, sizeof(whole), "%s/%s", directory, path);
	assert_int_equal(mkdir(whole, 0755), 0);
}

static void make_tree(void)
{
	char path[128], to[128];

	for (uint32_t i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "d%02u", i);
		make_directory(path);
		for (uint32_t j = 0; j < 15; j++) {
			snprintf(path, sizeof(path), "d%02u/f%02u", i, j);
			write_file(path, i < 18 ? i * 100 + j : j, j == 0 ? 0 : j * 900);
		}
	}
	make_directory("d00/empty");
	write_file("large", 7, 1500000);
	snprintf(path, sizeof(path), "%s/large", directory);
	snprintf(to, sizeof(to), "%s/zlink", directory);
	assert_int_equal(link(path, to), 0);
	snprintf(to, sizeof(to), "%s/symlink", directory);
	assert_int_equal(symlink("d00/f01", to), 0);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int setup(void **state)
{
	snprintf(directory, sizeof(directory), "/tmp/sluice-upload-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(snapshot, sizeof(snapshot), "%s.snapshot", directory);
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

static int teardown(void **state)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
	nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	unlink(snapshot);
	return 0;
}

static struct manifest *scan(const char *path, const char *with)
{
	struct manifest_options options = { .path = path, .snapshot_path = with };
	struct manifest *manifest;
	char why[1024] = "";

	if (manifest_build(&manifest, &options, why, sizeof(why)) < 0)
		fail_msg("scan: %s", why);
	return manifest;
}

static int upload_to(struct client *to, struct manifest *manifest, struct upload_totals *totals, char why[static 1024])
{
	struct upload_options options = {
		.client = to, .manifest = manifest, .gateway_id = span_text(GATEWAY_ID), .level = 1,
	};
	enum grpc_status status;
	int r = upload(&options, totals, &status, why, 1024);

	if (r == UPLOAD_OK) {
		manifest_committed(manifest, span_text(GATEWAY_ID));
		assert_int_equal(manifest_save(manifest), 0);
	}
	return r;
}

/* Scans and sends, which must go well. */
static struct upload_totals push_to(struct client *to, struct digest *root)
{
	struct manifest *manifest = scan(directory, snapshot);
	struct upload_totals totals;
	char why[1024] = "";

	if (upload_to(to, manifest, &totals, why) != UPLOAD_OK)
		fail_msg("upload: %s", why);
	*root = *manifest_root(manifest);
	manifest_destroy(manifest);
	return totals;
}

static void expect_same_tree_back(const struct digest *root)
{
	struct materialise_options options = { .root = *root, .allow_special_modes = true };
	struct materialise_totals totals;
	struct download *download;
	struct manifest *manifest;
	char back[96], why[1024] = "";

	snprintf(back, sizeof(back), "%s.back", directory);
	assert_int_equal(mkdir(back, 0755), 0);
	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	options.source = download_source(download);
	options.dir_fd = open(back, O_RDONLY | O_DIRECTORY);
	if (materialise(&options, &totals, why, sizeof(why)))
		fail_msg("materialise: %s", why);
	manifest = scan(back, NULL);
	assert_true(digest_equal(manifest_root(manifest), root));
	manifest_destroy(manifest);
	close(options.dir_fd);
	download_destroy(download);
	nftw(back, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void up_and_down_again(void **state)
{
	struct upload_totals totals;
	struct digest root, again;

	make_tree();
	totals = push_to(client, &root);
	assert_false(totals.unchanged);
	assert_int_equal(totals.commits, 1);
	/* d18 and d19 hold the same: their blobs go once. */
	assert_true(totals.blobs_sent > 19 * 14 && totals.blobs_sent < 19 * 14 + 80);
	expect_same_tree_back(&root);
	totals = push_to(client, &again);
	assert_true(totals.unchanged);
	assert_true(digest_equal(&root, &again));
	assert_int_equal(totals.blobs_asked, 1);
	assert_int_equal(totals.blobs_sent, 0);
}

static void what_changed_is_all_that_is_asked(void **state)
{
	struct upload_totals totals;
	struct digest root;

	make_tree();
	push_to(client, &root);
	write_file("d05/f03", 12345, 2000);
	totals = push_to(client, &root);
	assert_int_equal(totals.blobs_sent, 3);          /* the file, its directory, the root */
	assert_true(totals.blobs_asked <= 4);
	assert_int_equal(totals.commits, 1);
	expect_same_tree_back(&root);
}

static void a_gateway_that_lost_it_gets_it_again(void **state)
{
	struct gateway_thread *other;
	struct upload_totals totals;
	struct digest root;

	make_tree();
	push_to(client, &root);
	client_close(client);
	other = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	client = gateway_thread_client(other, NULL);
	write_file("d05/f03", 54321, 2000);
	totals = push_to(client, &root);
	assert_int_equal(totals.commits, 2);             /* refused, asked about everything, taken */
	assert_true(totals.blobs_sent > 19 * 14);
	expect_same_tree_back(&root);
	client_close(client);
	gateway_thread_stop(other, true);
	client = gateway_thread_client(gateway, NULL);
}

/* Only one blob is not there: all of the tree but one file was pushed to that gateway, by somebody else. */
static void one_lost_blob_is_found(void **state)
{
	struct gateway_thread *other = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	struct client *to = gateway_thread_client(other, NULL);
	struct manifest *manifest;
	struct upload_totals totals;
	char why[1024], path[128], aside[128];
	struct digest root;

	make_tree();
	push_to(client, &root);
	snprintf(path, sizeof(path), "%s/d07/f07", directory);
	snprintf(aside, sizeof(aside), "%s-aside", directory);
	assert_int_equal(rename(path, aside), 0);
	manifest = scan(directory, NULL);
	assert_int_equal(upload(&(struct upload_options){ .client = to, .manifest = manifest }, &totals,
	                        &(enum grpc_status){ 0 }, why, sizeof(why)), UPLOAD_OK);
	manifest_destroy(manifest);
	assert_int_equal(rename(aside, path), 0);
	totals = push_to(to, &root);
	assert_int_equal(totals.commits, 2);
	assert_int_equal(totals.blobs_sent, 1 + 2);      /* the root for the first commit; then the file and d07 */
	client_close(to);
	gateway_thread_stop(other, true);
}

static void a_file_that_changed_is_stale(void **state)
{
	struct upload_totals totals;
	struct manifest *manifest;
	char why[1024] = "";
	struct digest root;

	make_tree();
	manifest = scan(directory, snapshot);
	write_file("d11/f14", 999, 14 * 900);
	assert_int_equal(upload_to(client, manifest, &totals, why), UPLOAD_STALE);
	assert_non_null(strstr(why, "d11/f14"));
	manifest_destroy(manifest);
	push_to(client, &root);
	expect_same_tree_back(&root);
}

/* Each level holds the one below twice. On disk it is 2^11 files; as a tree twelve directories. */
static void make_doubling(char *path, int depth)
{
	size_t size = strlen(path);

	make_directory(path);
	if (depth == 0) {
		strcpy(path + size, "/f");
		write_file(path, 1, 10);
	} else {
		strcpy(path + size, "/l");
		make_doubling(path, depth - 1);
		strcpy(path + size, "/r");
		make_doubling(path, depth - 1);
	}
	path[size] = 0;
}

static void what_repeats_itself_is_asked_once(void **state)
{
	struct upload_totals totals;
	char path[256] = "top";
	struct digest root;

	make_doubling(path, 10);
	totals = push_to(client, &root);
	assert_int_equal(totals.blobs_sent, 13);
	assert_true(totals.blobs_asked <= 2 * 13);
	expect_same_tree_back(&root);
}

static void rights_are_told(void **state)
{
	/* SHA-256 of "token-a", who may only read. */
	struct gateway_thread *strict = gateway_thread_start(&(struct gateway_thread_options){
		.tokens = "a70bf50e531ce1a817561f2f5d5b6645d4e806becf58ccc5e8cf6b8045a090a8 acme read\n" });
	struct client *reader = gateway_thread_client(strict, "token-a");
	struct upload_options options = { .client = reader };
	struct upload_totals totals;
	enum grpc_status status;
	char why[1024] = "";

	make_tree();
	options.manifest = scan(directory, NULL);
	assert_int_equal(upload(&options, &totals, &status, why, sizeof(why)), UPLOAD_REFUSED);
	assert_int_equal(status, GRPC_PERMISSION_DENIED);
	assert_non_null(strstr(why, "right to write"));
	manifest_destroy(options.manifest);
	client_close(reader);
	gateway_thread_stop(strict, true);
}

/* ---- downloads ---- */

static int give_up(void *context, size_t index, struct span blob)
{
	return 17;
}

struct expected {
	const struct span *blobs;
	size_t seen;
};

static int expect_blob(void *context, size_t index, struct span blob)
{
	struct expected *expected = context;

	assert_true(span_equal(blob, expected->blobs[index]));
	expected->seen++;
	return 0;
}

static void a_request_that_was_given_up_is_not_answered_later(void **state)
{
	enum { BLOBS = 12, BYTES = 1 << 20 };
	struct span blobs[BLOBS];
	struct digest digests[BLOBS + 1];
	struct download *download;
	enum grpc_status status;
	char why[1024] = "";

	for (uint32_t i = 0; i < BLOBS; i++) {
		uint8_t *bytes = malloc(BYTES);

		memset(bytes, (int)i + 1, BYTES);
		blobs[i] = span_make(bytes, BYTES);
		assert_int_equal(upload_blobs(client, &blobs[i], &digests[i], 1, &status, why, sizeof(why)), UPLOAD_OK);
	}
	digests[BLOBS] = digest_of(span_text("nobody has this one"));
	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	for (int round = 0; round < 3; round++) {
		struct source *source = download_source(download);
		struct expected expected = { .blobs = blobs + 3 };
		struct digest asked[BLOBS] = { digests[BLOBS] };

		/* Twelve MiB come in several messages; the first one is all that is looked at. */
		assert_int_equal(source->fetch(source, digests, BLOBS, give_up, NULL, why, sizeof(why)), 17);
		assert_int_equal(source->fetch(source, digests + 3, 2, expect_blob, &expected, why, sizeof(why)), 0);
		assert_int_equal(expected.seen, 2);
		/* Likewise when the first of many is missing. */
		memcpy(asked + 1, digests, (BLOBS - 1) * sizeof(*asked));
		assert_int_equal(source->fetch(source, asked, BLOBS, expect_blob, &expected, why, sizeof(why)), -ENOENT);
		expected = (struct expected){ .blobs = blobs };
		assert_int_equal(source->fetch(source, digests, BLOBS, expect_blob, &expected, why, sizeof(why)), 0);
		assert_int_equal(expected.seen, BLOBS);
	}
	download_destroy(download);
	for (int i = 0; i < BLOBS; i++)
		free((void *)blobs[i].data);
}

static void long_silence(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	open_calls_sweep(&parts->cas, now);      /* what has moved until now is seen here */
	open_calls_sweep(&parts->cas, now + CAS_FETCH_SILENT_NS);
}

static bool has_no_fetch(struct gateway_parts *parts, void *context)
{
	return parts->cas.fetches_open == 0;
}

/* As `sluice cat` in front of a pager that nobody looks at for a while. */
static void who_was_silent_for_long_asks_in_another_call(void **state)
{
	struct span blobs[] = { span_text("said before"), span_text("said after") };
	struct download *download;
	struct digest digests[2];
	enum grpc_status status;
	char why[1024] = "";

	for (size_t i = 0; i < 2; i++)
		assert_int_equal(upload_blobs(client, &blobs[i], &digests[i], 1, &status, why, sizeof(why)), UPLOAD_OK);
	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	for (size_t i = 0; i < 4; i++) {
		struct source *source = download_source(download);
		struct expected expected = { .blobs = blobs };

		assert_int_equal(source->fetch(source, digests, 2, expect_blob, &expected, why, sizeof(why)), 0);
		assert_int_equal(expected.seen, 2);
		if (i % 2)               /* that of a request that was given up is no different */
			assert_int_equal(source->fetch(source, digests, 2, give_up, NULL, why, sizeof(why)), 17);
		gateway_thread_call(gateway, long_silence, NULL);
		gateway_thread_until(gateway, has_no_fetch, NULL);
	}
	assert_int_equal(download_status(download), GRPC_OK);
	download_destroy(download);
}

/* ---- looking into trees ---- */

struct reading {
	struct buffer bytes;
};

static int take_bytes(void *context, struct span data)
{
	struct reading *reading = context;

	buffer_put(&reading->bytes, data.data, data.size);
	return 0;
}

static void files_are_read_by_path(void **state)
{
	struct reading reading = { .bytes = buffer_heap(4 << 20) };
	struct browse_target target;
	struct download *download;
	struct tree_node node;
	char why[1024] = "", path[128];
	uint8_t *content = malloc(1500000);
	struct digest root;
	FILE *file;

	make_tree();
	push_to(client, &root);
	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	assert_int_equal(browse_find(download_source(download), &root, "./d03//f04/", &node, NULL, why, sizeof(why)), 0);
	assert_int_equal(node.file_size, 4 * 900);
	assert_int_equal(browse_find(download_source(download), &root, "large", &node, NULL, why, sizeof(why)), 0);
	assert_true(node.recipe);
	assert_int_equal(browse_read(download_source(download), &node, take_bytes, &reading, why, sizeof(why)), 0);
	snprintf(path, sizeof(path), "%s/large", directory);
	file = fopen(path, "r");
	assert_int_equal(fread(content, 1, 1500000, file), 1500000);
	fclose(file);
	assert_true(span_equal(buffer_span(&reading.bytes), span_make(content, 1500000)));
	assert_int_equal(browse_find(download_source(download), &root, "symlink", &node, &target, why, sizeof(why)), 0);
	assert_true(node.kind == TREE_SYMLINK && span_is(node.target, "d00/f01"));
	assert_int_equal(browse_find(download_source(download), &root, "d03/nothing", &node, NULL, why, sizeof(why)), -ENOENT);
	assert_int_equal(browse_find(download_source(download), &root, "large/x", &node, NULL, why, sizeof(why)), -ENOTDIR);
	assert_int_equal(browse_find(download_source(download), &root, "d03/../d04", &node, NULL, why, sizeof(why)), -ENOENT);
	root.hash[0] ^= 1;
	assert_int_equal(browse_find(download_source(download), &root, "large", &node, NULL, why, sizeof(why)), -ESTALE);
	download_destroy(download);
	buffer_fini(&reading.bytes);
	free(content);
}

/* As other clients upload it: one blob without a recipe, and more than one fetch brings. */
static void a_long_blob_is_read_in_pieces(void **state)
{
	size_t size = CONTENT_BATCH_BYTES + 70001;
	struct reading reading = { .bytes = buffer_heap(8 << 20) };
	uint8_t *bytes = malloc(size);
	struct tree_node node = { .kind = TREE_FILE, .file_size = size };
	struct download *download;
	enum grpc_status status;
	char why[1024] = "", path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/blob", directory);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 13);
	assert_int_equal(write(fd, bytes, size), size);
	node.digest = digest_of(span_make(bytes, size));
	assert_int_equal(whole_blob_write(client, &node.digest, fd, &status, why, sizeof(why)), 0);
	close(fd);
	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	assert_int_equal(browse_read(download_source(download), &node, take_bytes, &reading, why, sizeof(why)), 0);
	assert_true(span_equal(buffer_span(&reading.bytes), span_make(bytes, size)));
	download_destroy(download);
	buffer_fini(&reading.bytes);
	free(bytes);
}

/* Blobs that a test made up. */
struct blob_table {
	struct source source;
	struct span blobs[8];
	size_t count;
};

static int table_fetch(struct source *source, const struct digest *digests, size_t count,
                       int (*visit)(void *context, size_t index, struct span blob), void *context, char *why,
                       size_t why_size)
{
	struct blob_table *table = container_of(source, struct blob_table, source);
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = -ENOENT;
		for (size_t j = 0; j < table->count; j++) {
			struct digest digest = digest_of(table->blobs[j]);

			if (!digest_equal(&digest, &digests[i]))
				continue;
			r = visit(context, i, table->blobs[j]);
			break;
		}
	}
	return r;
}

static void recipes_go_two_levels_deep(void **state)
{
	struct blob_table table = { .source.fetch = table_fetch, .blobs = { span_text("0123456789") }, .count = 1 };
	struct reading reading = { .bytes = buffer_heap(4096) };
	struct tree_node node = { .kind = TREE_FILE, .recipe = true, .file_size = 10 };
	struct buffer recipes[4];
	char why[1024];

	for (uint32_t level = 0; level < 4; level++) {
		recipes[level] = buffer_heap(4096);
		recipe_begin(&recipes[level], &(struct recipe_head){ .profile = 1, .level = level ? 1 : 0, .file_size = 10 });
		node.digest = digest_of(table.blobs[level]);
		recipe_add(&recipes[level], &node.digest);
		table.blobs[table.count++] = buffer_span(&recipes[level]);
	}
	for (size_t i = 1; i < 5; i++) {
		node.digest = digest_of(table.blobs[i]);
		buffer_clear(&reading.bytes);
		assert_int_equal(browse_read(&table.source, &node, take_bytes, &reading, why, sizeof(why)), i <= 2 ? 0 : -EBADMSG);
		assert_int_equal(reading.bytes.size, i <= 2 ? 10 : 0);
	}
	for (int i = 0; i < 4; i++)
		buffer_fini(&recipes[i]);
	buffer_fini(&reading.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(up_and_down_again, setup, teardown),
		cmocka_unit_test_setup_teardown(what_changed_is_all_that_is_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(a_gateway_that_lost_it_gets_it_again, setup, teardown),
		cmocka_unit_test_setup_teardown(one_lost_blob_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_that_changed_is_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(what_repeats_itself_is_asked_once, setup, teardown),
		cmocka_unit_test_setup_teardown(rights_are_told, setup, teardown),
		cmocka_unit_test_setup_teardown(a_request_that_was_given_up_is_not_answered_later, setup, teardown),
		cmocka_unit_test_setup_teardown(who_was_silent_for_long_asks_in_another_call, setup, teardown),
		cmocka_unit_test_setup_teardown(files_are_read_by_path, setup, teardown),
		cmocka_unit_test_setup_teardown(a_long_blob_is_read_in_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(recipes_go_two_levels_deep, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
