/* Shows what a manifest knows of a gateway to which it was committed before: blobs that are there, and bases of new ones. */
#include "chunker/sha256.h"
#include "gateway/context/table.h"
#include "tests/unit/context/place.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <cmocka.h>

static void test_committed(void **state)
{
	struct place *place = *state;
	struct span gateway = span_text("gateway-1"), other = span_text("gateway-2");
	struct manifest *manifest;
	struct digest root, edited;

	place_make_small(place);
	grow_old();
	manifest = place_build(place);
	root = *manifest_root(manifest);
	assert_false(manifest_known(manifest, gateway, &root));
	manifest_committed(manifest, gateway);
	assert_false(manifest_known(manifest, gateway, &root));  /* the predecessor counts, and there is none */
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);

	place_write_text(place, "d1/f1", "edited");
	manifest = place_build(place);
	edited = *manifest_root(manifest);
	assert_true(manifest_known(manifest, gateway, &root));
	assert_false(manifest_known(manifest, gateway, &edited));
	assert_false(manifest_known(manifest, other, &root));
	assert_int_equal(manifest_save(manifest), 0);            /* scanned, but not committed */
	manifest_destroy(manifest);

	manifest = place_build(place);
	assert_false(manifest_known(manifest, gateway, &root));
	assert_false(manifest_known(manifest, gateway, &edited));
	manifest_committed(manifest, other);
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	manifest = place_build(place);
	assert_true(manifest_known(manifest, other, &edited));
	manifest_destroy(manifest);
}

static const struct span base_gateway = { (const uint8_t *)"gateway", 7 };

static struct digest row_digest(const struct manifest *manifest, const char *path)
{
	const struct table *table = manifest_table(manifest);
	struct digest digest = { 0 };

	for (uint32_t i = 1; i < table->rows_count; i++) {
		struct buffer buffer = buffer_heap(4096);

		table_path(table, i, &buffer);
		if (span_is(buffer_span(&buffer), path))
			digest = S_ISDIR(table->rows[i].mode) ? table_directory_digest(&table->directories[table->rows[i].link]) :
			                                        table_row_digest(table, &table->rows[i]);
		buffer_fini(&buffer);
	}
	assert_true(digest.size);
	return digest;
}

/* The only base of what is at `path` now. `made`: its bytes are to be had as well. */
static void expect_base(struct manifest *manifest, const char *path, const struct digest *base, bool made)
{
	struct digest blob = row_digest(manifest, path), found[4];
	uint8_t *data = malloc(base->size), hash[SHA256_BYTES];

	assert_int_equal(manifest_bases(manifest, base_gateway, &blob, found, 4), 1);
	assert_true(digest_equal(&found[0], base));
	assert_int_equal(manifest_read_base(manifest, base, data), made ? 0 : -ENOENT);
	if (made) {
		sha256_once(data, base->size, hash);
		assert_memory_equal(hash, base->hash, sizeof(hash));
	}
	free(data);
}

/* What was at the same path, the chunks that lay in the same place; of what is new there is nothing. */
static void test_bases(void **state)
{
	struct place *place = *state;
	uint8_t *data = noise(600000, 1);
	struct digest small, large, directory, blob, found[4];
	const struct digest *chunks;
	struct manifest *manifest;
	size_t count, changed = 0;
	bool recipes;

	place_make_small(place);
	place_write(place, "d2/large", data, 600000);
	grow_old();
	manifest = place_build(place);
	small = row_digest(manifest, "d1/f1");
	large = row_digest(manifest, "d2/large");
	directory = row_digest(manifest, "d2");
	assert_int_equal(manifest_bases(manifest, base_gateway, &small, found, 4), 0);
	manifest_committed(manifest, base_gateway);
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);

	place_write_text(place, "d1/f1", "edited");
	place_write_text(place, "d1/new", "new");
	data[300000] ^= 1;
	place_write(place, "d2/large", data, 600000);
	manifest = place_build(place);
	expect_base(manifest, "d1/f1", &small, false);
	expect_base(manifest, "d2/large", &large, true);
	expect_base(manifest, "d2", &directory, true);
	blob = row_digest(manifest, "d1/new");
	assert_int_equal(manifest_bases(manifest, base_gateway, &blob, found, 4), 0);
	assert_int_equal(manifest_bases(manifest, span_text("another gateway"), &small, found, 4), 0);
	blob = row_digest(manifest, "d2/large");
	assert_int_equal(manifest_recipe_children(manifest, &blob, &chunks, &recipes, &count), 0);
	for (size_t i = 0; i < count; i++) {
		if (manifest_known(manifest, base_gateway, &chunks[i]))
			continue;
		blob = chunks[i];
		assert_in_range(manifest_bases(manifest, base_gateway, &blob, found, 4), 1, 2);
		assert_true(manifest_known(manifest, base_gateway, &found[0]));
		assert_false(digest_equal(&found[0], &blob));
		changed++;
	}
	assert_in_range(changed, 1, 2);
	manifest_destroy(manifest);
	free(data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_committed),
		TEST(test_bases),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
