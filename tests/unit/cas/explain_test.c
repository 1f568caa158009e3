/*
 * Shows, against a gateway in a thread: every byte of the packs is some entry's, to the byte; each kind of change is
 * called by its name, and what is the same costs nothing; a blob that compresses badly pays for it though it shares a pack
 * with text; what the gateway lost is told as evicted; and a prediction is what the push then sends, and leaves nothing
 * behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/context/explain.h"
#include "gateway/context/upload.h"
#include "gateway_thread.h"

#define GATEWAY_ID "unix:///the-gateway"

static struct gateway_thread *gateway;
static struct client *client;
static char directory[64], snapshot[96];

static char *in_tree(const char *path)
{
	static char whole[2][512];
	static unsigned turn;

	turn = !turn;
	snprintf(whole[turn], sizeof(whole[turn]), "%s/%s", directory, path);
	return whole[turn];
}

static void write_bytes(const char *path, const void *data, size_t size)
{
	FILE *file = fopen(in_tree(path), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, size, file), size);
	fclose(file);
}

static void write_noise(const char *path, uint32_t seed, size_t size)
{
	uint32_t *noise = calloc(size / 4 + 1, 4);

	for (size_t i = 0; i <= size / 4; i++)
		noise[i] = seed = seed * 1664525u + 1013904223u;
	write_bytes(path, noise, size);
	free(noise);
}

static void write_text(const char *path, char letter, size_t size)
{
	char *text = malloc(size);

	memset(text, letter, size);
	write_bytes(path, text, size);
	free(text);
}

static void make_tree(void)
{
	assert_int_equal(mkdir(in_tree("sub"), 0755), 0);
	assert_int_equal(mkdir(in_tree("sub/deep"), 0755), 0);
	assert_int_equal(mkdir(in_tree("old"), 0755), 0);
	write_text("text", 't', 50000);
	write_noise("noise", 1, 50000);
	write_noise("large", 2, 1500000);
	write_text("sub/kept", 'k', 100);
	write_text("sub/deep/edited", 'a', 100);
	write_text("sub/mode", 'm', 100);
	write_text("old/gone", 'g', 100);
	write_text("retyped", 'r', 100);
	assert_int_equal(symlink("text", in_tree("link")), 0);
}

static void change_tree(void)
{
	write_text("sub/deep/edited", 'b', 100);
	write_text("new", 'n', 100);
	write_text("copied", 'k', 100);          /* as sub/kept */
	assert_int_equal(chmod(in_tree("sub/mode"), 0755), 0);
	assert_int_equal(unlink(in_tree("old/gone")), 0);
	assert_int_equal(rmdir(in_tree("old")), 0);
	assert_int_equal(unlink(in_tree("retyped")), 0);
	assert_int_equal(symlink("new", in_tree("retyped")), 0);
	assert_int_equal(unlink(in_tree("link")), 0);
	assert_int_equal(symlink("noise", in_tree("link")), 0);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int setup(void **state)
{
	snprintf(directory, sizeof(directory), "/tmp/sluice-explain-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(snapshot, sizeof(snapshot), "%s.snapshot", directory);
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	client = gateway_thread_client(gateway, NULL);
	make_tree();
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

/* One push with its explanation. */
struct explained {
	struct explain *explain;
	struct upload_totals totals;
	uint64_t packs_bytes;
	const struct explain_entry *entries;
	size_t count;
};

static void on_pack(void *context, const struct upload_piece *pieces, size_t count, uint64_t wire_bytes)
{
	struct explained *explained = context;

	explained->packs_bytes += wire_bytes;
	explain_on_pack(explained->explain, pieces, count, wire_bytes);
}

static void check_sum(const struct explained *explained)
{
	const struct explain_totals *totals = explain_totals(explained->explain);
	uint64_t files = 0, directories = 0;

	for (size_t i = 0; i < explained->count; i++) {
		if (explained->entries[i].directory)
			directories += explained->entries[i].bytes_sent;
		else
			files += explained->entries[i].bytes_sent;
		assert_true(i == 0 || explained->entries[i - 1].bytes_sent >= explained->entries[i].bytes_sent);
	}
	assert_int_equal(files, totals->files_bytes);
	assert_int_equal(directories, totals->directories_bytes);
	assert_int_equal(files + directories, explained->packs_bytes);
	assert_int_equal(totals->bytes_raw, explained->totals.bytes_packed);
	assert_true(explained->packs_bytes <= explained->totals.messages_sent + explained->totals.messages_predicted);
}

static void explain_push(struct explained *explained, bool predict)
{
	struct manifest_options scan = { .path = directory, .snapshot_path = snapshot };
	struct upload_options options = {
		.client = client, .gateway_id = span_text(GATEWAY_ID), .level = 3, .predict = predict,
		.on_pack = on_pack, .on_pack_context = explained,
	};
	enum grpc_status status;
	char why[1024] = "";

	*explained = (struct explained){ 0 };
	assert_int_equal(manifest_build(&options.manifest, &scan, why, sizeof(why)), 0);
	assert_int_equal(explain_create(&explained->explain, options.manifest, options.gateway_id), 0);
	if (upload(&options, &explained->totals, &status, why, sizeof(why)) != UPLOAD_OK)
		fail_msg("upload: %s", why);
	assert_int_equal(explain_finish(explained->explain), 0);
	explained->entries = explain_entries(explained->explain, &explained->count);
	check_sum(explained);
	if (!predict) {
		manifest_committed(options.manifest, options.gateway_id);
		assert_int_equal(manifest_save(options.manifest), 0);
	}
	manifest_destroy(options.manifest);
}

static const struct explain_entry *find(const struct explained *explained, const char *path)
{
	for (size_t i = 0; i < explained->count; i++)
		if (strcmp(explained->entries[i].path, path) == 0)
			return &explained->entries[i];
	return NULL;
}

static void expect(const struct explained *explained, const char *path, enum explain_why why, bool costs)
{
	const struct explain_entry *entry = find(explained, path);

	if (!entry)
		fail_msg("%s is not told", path);
	if (entry->why != why || (entry->bytes_sent > 0) != costs)
		fail_msg("%s: why %d, %llu bytes", path, entry->why, (unsigned long long)entry->bytes_sent);
}

static void a_first_push_was_never_seen(void **state)
{
	const struct explain_entry *large;
	struct explained explained;

	explain_push(&explained, false);
	assert_false(explain_compared(explained.explain));
	for (size_t i = 0; i < explained.count; i++)
		assert_int_equal(explained.entries[i].why, EXPLAIN_NEVER_SEEN);
	assert_non_null(find(&explained, ""));
	assert_null(find(&explained, "link"));           /* lies in its directory */
	large = find(&explained, "large");
	assert_true(large->chunks > 5 && large->chunks_sent == large->chunks && large->bytes_raw > large->bytes);
	explain_destroy(explained.explain);
}

/* However the directory is listed, the beginning of the pack is text for the most part, so the pack is compressed. */
static void noise_pays_for_itself(void **state)
{
	const struct explain_entry *text, *noise;
	struct explained explained;

	assert_int_equal(unlink(in_tree("large")), 0);
	assert_int_equal(unlink(in_tree("noise")), 0);
	write_noise("noise", 1, 20000);
	write_text("more-text", 'u', 60000);
	explain_push(&explained, false);
	text = find(&explained, "text");
	noise = find(&explained, "noise");
	assert_true(explained.packs_bytes < 25000);
	assert_true(noise->bytes_sent >= 19000 && noise->bytes_sent <= 21000);
	assert_true(text->bytes_sent < 500);
	explain_destroy(explained.explain);
}

static void each_change_has_its_name(void **state)
{
	struct explained explained;

	explain_push(&explained, false);
	explain_destroy(explained.explain);
	change_tree();
	explain_push(&explained, false);
	assert_true(explain_compared(explained.explain));
	expect(&explained, "sub/deep/edited", EXPLAIN_EDITED, true);
	expect(&explained, "new", EXPLAIN_NEW, true);
	expect(&explained, "copied", EXPLAIN_NEW, false);
	expect(&explained, "sub/mode", EXPLAIN_MODE, false);
	expect(&explained, "old", EXPLAIN_REMOVED, false);
	expect(&explained, "retyped", EXPLAIN_RETYPED, false);
	expect(&explained, "link", EXPLAIN_EDITED, false);
	expect(&explained, "", EXPLAIN_EDITED, true);
	expect(&explained, "sub", EXPLAIN_EDITED, true);
	expect(&explained, "sub/deep", EXPLAIN_EDITED, true);
	assert_int_equal(explained.count, 10);           /* old/gone is not told beside old, nor what is as it was */
	explain_destroy(explained.explain);
	explain_push(&explained, false);
	assert_int_equal(explained.count, 0);
	assert_true(explained.totals.unchanged);
	explain_destroy(explained.explain);
}

static void an_edit_of_a_large_file_costs_its_chunk(void **state)
{
	const struct explain_entry *large;
	struct explained explained;
	int fd;

	explain_push(&explained, false);
	explain_destroy(explained.explain);
	fd = open(in_tree("large"), O_WRONLY);
	assert_int_equal(pwrite(fd, "!", 1, 700000), 1);
	close(fd);
	explain_push(&explained, false);
	large = find(&explained, "large");
	assert_int_equal(large->why, EXPLAIN_EDITED);
	assert_true(large->chunks_sent >= 1 && large->chunks_sent <= 3 && large->chunks_sent < large->chunks);
	assert_true(large->bytes_sent < 800000);
	assert_int_equal(explained.count, 2);            /* and the root */
	explain_destroy(explained.explain);
}

static void what_the_gateway_lost_was_evicted(void **state)
{
	struct gateway_thread *other = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	struct explained explained;

	explain_push(&explained, false);
	explain_destroy(explained.explain);
	client_close(client);
	client = gateway_thread_client(other, NULL);
	write_text("new", 'n', 100);
	explain_push(&explained, false);
	expect(&explained, "text", EXPLAIN_EVICTED, true);
	expect(&explained, "sub/kept", EXPLAIN_EVICTED, true);
	expect(&explained, "new", EXPLAIN_NEW, true);
	/* But new, and the root, which was told by the former one first. */
	assert_int_equal(explain_totals(explained.explain)->evicted, explained.totals.blobs_sent - 3);
	explain_destroy(explained.explain);
	client_close(client);
	gateway_thread_stop(other, true);
	client = gateway_thread_client(gateway, NULL);
}

static void expect_prediction(void)
{
	struct explained predicted, again, pushed;

	explain_push(&predicted, true);
	explain_push(&again, true);
	explain_push(&pushed, false);
	assert_int_equal(predicted.packs_bytes, again.packs_bytes);      /* the first left nothing behind */
	assert_int_equal(predicted.packs_bytes, pushed.packs_bytes);
	assert_int_equal(predicted.totals.messages_predicted, pushed.packs_bytes);
	assert_int_equal(predicted.totals.commits, 0);
	assert_int_equal(predicted.count, pushed.count);
	for (size_t i = 0; i < pushed.count; i++) {
		assert_string_equal(predicted.entries[i].path, pushed.entries[i].path);
		assert_int_equal(predicted.entries[i].bytes_sent, pushed.entries[i].bytes_sent);
		assert_int_equal(predicted.entries[i].why, pushed.entries[i].why);
	}
	explain_destroy(predicted.explain);
	explain_destroy(again.explain);
	explain_destroy(pushed.explain);
}

static void a_prediction_comes_true(void **state)
{
	expect_prediction();
	change_tree();
	expect_prediction();
	expect_prediction();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_first_push_was_never_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(noise_pays_for_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(each_change_has_its_name, setup, teardown),
		cmocka_unit_test_setup_teardown(an_edit_of_a_large_file_costs_its_chunk, setup, teardown),
		cmocka_unit_test_setup_teardown(what_the_gateway_lost_was_evicted, setup, teardown),
		cmocka_unit_test_setup_teardown(a_prediction_comes_true, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
