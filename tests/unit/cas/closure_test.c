/*
 * Shows what the closure walk finds, with an index that answers at once, late, and late with what was true before (run
 * once with each): a whole tree is whole, and marked at every level, so that the next walk reads nothing; a hole is named
 * with its path, and what is whole beside it is marked all the same; a root of another size is a hole, whatever the mark of its hash
 * says, and a recipe is no root where the root is read; a directory that is damaged on disk is a hole, a
 * malformed one is named, also while other reads are in flight, and so is a device node; a tree that repeats itself costs what it holds, and one
 * whose names were picked no more than another; and there is an end to depth.
 */
#include "tests/unit/store/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "chunker/sha256.h"
#include "gateway/cas/closure.h"
#include "gateway/cas/references.h"
#include "proto/recipe.h"
#include "proto/sluice_v1.h"
#include "proto/tree.h"

static struct fixture fixture;

static int setup(void **state)
{
	fixture_init(&fixture);
	fixture.config.references = closure_references;
	fixture_open(&fixture);
	return 0;
}

static int teardown(void **state)
{
	fixture_fini(&fixture);
	return 0;
}

static struct blob blob_of(const void *data, size_t size)
{
	struct blob blob = { .digest.size = size, .data = malloc(size + 1) };

	memcpy(blob.data, data, size);
	sha256_once(blob.data, size, blob.digest.hash);
	return blob;
}

static void keep(const struct blob *blob)
{
	assert_int_equal(put_blob(&fixture, &fixture.a, blob), STORE_OK);
}

static struct tree_node file_node(const char *name, const struct digest *digest, bool recipe)
{
	return (struct tree_node){ .kind = TREE_FILE, .name = span_text(name), .mode = 0644, .digest = *digest, .recipe = recipe,
	                           .file_size = digest->size };
}

static struct tree_node directory_node(const char *name, const struct digest *digest)
{
	return (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text(name), .digest = *digest };
}

/* Encodes a directory and puts it into the store. */
static struct digest directory_keep(struct tree_node *nodes, size_t count)
{
	struct tree_directory directory = { .mode = 0755 };
	struct buffer bytes = buffer_heap(1 << 20);
	struct blob blob;

	assert_int_equal(tree_encode(&bytes, &directory, nodes, count), 0);
	blob = blob_of(bytes.data, bytes.size);
	keep(&blob);
	buffer_fini(&bytes);
	blob_free(&blob);
	return blob.digest;
}

struct verifying {
	struct closure closure;
	bool done;
};

static void on_closure(struct closure *closure)
{
	((struct verifying *)closure->owner)->done = true;
}

static int verify_read(struct verifying *verifying, const struct digest *root)
{
	*verifying = (struct verifying){ 0 };
	verifying->closure = (struct closure){
		.store = fixture.store, .scope = fixture.a, .root = *root, .read_root = true, .fn = on_closure, .owner = verifying,
	};
	closure_verify(&verifying->closure);
	run_until(&fixture, &verifying->done);
	return verifying->closure.result;
}

static void verify_begin(struct verifying *verifying, const struct digest *root, struct gate *gate)
{
	*verifying = (struct verifying){ 0 };
	verifying->closure = (struct closure){
		.store = fixture.store, .gate = gate, .scope = fixture.a, .root = *root, .fn = on_closure, .owner = verifying,
	};
	closure_verify(&verifying->closure);
}

static int verify(struct verifying *verifying, const struct digest *root)
{
	verify_begin(verifying, root, NULL);
	run_until(&fixture, &verifying->done);
	return verifying->closure.result;
}

/* The result alone. */
static int verified(const struct digest *root)
{
	struct verifying verifying;
	int result = verify(&verifying, root);

	closure_fini(&verifying.closure);
	return result;
}

static uint64_t directories_read(const struct digest *root)
{
	struct verifying verifying;
	uint64_t read;

	verify(&verifying, root);
	read = verifying.closure.directories_read;
	closure_fini(&verifying.closure);
	return read;
}

static void a_whole_tree_is_marked_at_every_level(void **state)
{
	struct blob a = blob_make(1, 100), b = blob_make(2, 70000);
	struct tree_node nodes[2] = { file_node("b", &b.digest, false) };
	struct digest deep, sub, root;

	keep(&a);
	keep(&b);
	deep = directory_keep(nodes, 1);
	nodes[0] = directory_node("deep", &deep);
	sub = directory_keep(nodes, 1);
	nodes[0] = file_node("a", &a.digest, false);
	nodes[1] = directory_node("sub", &sub);
	root = directory_keep(nodes, 2);
	assert_int_equal(directories_read(&root), 3);
	sync_store(&fixture);
	assert_int_equal(directories_read(&root), 0);
	assert_int_equal(directories_read(&sub), 0);
	assert_int_equal(directories_read(&deep), 0);
	assert_int_equal(verified(&root), CLOSURE_WHOLE);
	blob_free(&a);
	blob_free(&b);
}

static void a_hole_is_named_and_its_neighbour_marked(void **state)
{
	struct blob there = blob_make(3, 100), absent = blob_make(4, 200);
	struct tree_node nodes[2] = { file_node("there", &there.digest, false) };
	struct verifying verifying;
	struct digest good, bad, root, found;
	struct span missing;

	keep(&there);
	good = directory_keep(nodes, 1);
	nodes[0] = file_node("absent", &absent.digest, false);
	bad = directory_keep(nodes, 1);
	nodes[0] = directory_node("bad", &bad);
	nodes[1] = directory_node("good", &good);
	root = directory_keep(nodes, 2);
	assert_int_equal(verify(&verifying, &root), CLOSURE_HOLES);
	assert_int_equal(verifying.closure.missing_count, 1);
	missing = buffer_span(&verifying.closure.missing);
	assert_true(digest_list_next(&missing, &found) && digest_equal(&found, &absent.digest));
	assert_int_equal(verifying.closure.paths_count, 1);
	assert_string_equal((const char *)verifying.closure.paths.data, "bad/absent");
	closure_fini(&verifying.closure);
	sync_store(&fixture);
	assert_int_equal(directories_read(&good), 0);
	assert_int_equal(directories_read(&bad), 1);
	/* Mended, it is whole; and nobody has to say so but the blob itself. */
	keep(&absent);
	assert_int_equal(verified(&root), CLOSURE_WHOLE);
	blob_free(&there);
	blob_free(&absent);
}

static void a_missing_directory_is_a_hole(void **state)
{
	struct blob file = blob_make(5, 10);
	struct tree_node nodes[1] = { file_node("f", &file.digest, false) };
	struct digest nowhere = { .size = 77 }, root;
	struct verifying verifying;

	nodes[0] = directory_node("gone", &nowhere);
	root = directory_keep(nodes, 1);
	assert_int_equal(verify(&verifying, &root), CLOSURE_HOLES);
	assert_string_equal((const char *)verifying.closure.paths.data, "gone");
	closure_fini(&verifying.closure);
	assert_int_equal(verify(&verifying, &nowhere), CLOSURE_HOLES);
	assert_int_equal(verifying.closure.missing_count, 1);
	closure_fini(&verifying.closure);
	blob_free(&file);
}

/* A mark is by the hash, which somebody may name with a size that is wrong. */
static void a_root_of_another_size_is_not_there(void **state)
{
	struct blob file = blob_make(10, 10);
	struct tree_node node = file_node("f", &file.digest, false);
	struct digest root, wrong, found;
	struct verifying verifying;
	struct span missing;

	keep(&file);
	root = wrong = directory_keep(&node, 1);
	assert_int_equal(verified(&root), CLOSURE_WHOLE);
	sync_store(&fixture);
	for (int i = 0; i < 2; i++) {
		wrong.size = i ? STORE_BLOB_BYTES_MAX + 1 : root.size + 1;
		assert_int_equal(verify(&verifying, &wrong), CLOSURE_HOLES);
		assert_int_equal(verifying.closure.missing_count, 1);
		assert_int_equal(verifying.closure.nodes_too_long, i);
		missing = buffer_span(&verifying.closure.missing);
		assert_true(digest_list_next(&missing, &found) && digest_equal(&found, &wrong));
		closure_fini(&verifying.closure);
		assert_int_equal(verify_read(&verifying, &wrong), CLOSURE_HOLES);
		closure_fini(&verifying.closure);
	}
	assert_int_equal(directories_read(&root), 0);
	assert_int_equal(verify_read(&verifying, &root), CLOSURE_WHOLE);
	assert_int_equal(verifying.closure.directories_read, 1);
	closure_fini(&verifying.closure);
	blob_free(&file);
}

static void a_recipe_is_walked(void **state)
{
	struct blob chunks[2] = { blob_make(6, 60000), blob_make(7, 60000) }, recipe;
	struct buffer bytes = buffer_heap(4096);
	struct tree_node node;
	struct verifying verifying;
	struct digest root;

	recipe_begin(&bytes, &(struct recipe_head){ .profile = 1, .file_size = 120000 });
	recipe_add(&bytes, &chunks[0].digest);
	recipe_add(&bytes, &chunks[1].digest);
	recipe = blob_of(bytes.data, bytes.size);
	keep(&recipe);
	keep(&chunks[0]);
	node = file_node("large", &recipe.digest, true);
	node.file_size = 120000;
	root = directory_keep(&node, 1);
	assert_int_equal(verify(&verifying, &root), CLOSURE_HOLES);
	assert_string_equal((const char *)verifying.closure.paths.data, "large");
	closure_fini(&verifying.closure);
	keep(&chunks[1]);
	assert_int_equal(verified(&root), CLOSURE_WHOLE);
	/* It has a mark like the root. */
	sync_store(&fixture);
	assert_int_equal(verify_read(&verifying, &recipe.digest), CLOSURE_MALFORMED);
	closure_fini(&verifying.closure);
	for (int i = 0; i < 2; i++)
		blob_free(&chunks[i]);
	blob_free(&recipe);
	buffer_fini(&bytes);
}

/* Each level holds the one below twice: 2^200 paths, 201 directories. */
static void what_repeats_itself_costs_what_it_holds(void **state)
{
	struct blob file = blob_make(8, 10);
	struct tree_node nodes[2] = { file_node("f", &file.digest, false) };
	struct digest directory;

	keep(&file);
	directory = directory_keep(nodes, 1);
	for (int i = 0; i < 200; i++) {
		nodes[0] = directory_node("left", &directory);
		nodes[1] = directory_node("right", &directory);
		directory = directory_keep(nodes, 2);
	}
	assert_int_equal(directories_read(&directory), 201);
	blob_free(&file);
}

#define HOSTILE_PARENTS  16
#define HOSTILE_CHILDREN 8000            /* of each; at one place of a table each would be looked for among all before it */
#define HOSTILE_SECONDS  4               /* half of one is enough */

/* Nobody has to have what his directories name. */
static void names_that_were_picked_cost_no_more_than_others(void **state)
{
	static struct tree_node nodes[HOSTILE_CHILDREN];
	static char names[HOSTILE_CHILDREN][8];
	struct tree_node parents[HOSTILE_PARENTS];
	char parents_names[HOSTILE_PARENTS][8];
	struct verifying verifying;
	struct digest parent, root;
	clock_t began;

	for (uint32_t i = 0; i < HOSTILE_PARENTS; i++) {
		for (uint32_t j = 0; j < HOSTILE_CHILDREN; j++) {
			struct digest child = { .size = 100 };
			uint32_t number = i * HOSTILE_CHILDREN + j;

			memcpy(child.hash + 8, &number, sizeof(number));
			snprintf(names[j], sizeof(names[j]), "%05u", j);
			nodes[j] = directory_node(names[j], &child);
		}
		parent = directory_keep(nodes, HOSTILE_CHILDREN);
		snprintf(parents_names[i], sizeof(parents_names[i]), "%02u", i);
		parents[i] = directory_node(parents_names[i], &parent);
	}
	root = directory_keep(parents, HOSTILE_PARENTS);
	began = clock();
	assert_int_equal(verify(&verifying, &root), CLOSURE_HOLES);
	assert_int_equal(verifying.closure.missing_count, HOSTILE_PARENTS * HOSTILE_CHILDREN);
	assert_true(clock() - began < HOSTILE_SECONDS * CLOCKS_PER_SEC);
	closure_fini(&verifying.closure);
}

static void there_is_an_end_to_depth(void **state)
{
	struct blob file = blob_make(9, 10);
	struct tree_node node = file_node("f", &file.digest, false);
	struct verifying verifying;
	struct digest directory;

	keep(&file);
	directory = directory_keep(&node, 1);
	for (int i = 0; i < TREE_DEPTH_MAX + 10; i++) {
		node = directory_node("d", &directory);
		directory = directory_keep(&node, 1);
	}
	assert_int_equal(verify(&verifying, &directory), CLOSURE_TOO_LARGE);
	assert_non_null(strstr(verifying.closure.why, "deeper than 256"));
	closure_fini(&verifying.closure);
	blob_free(&file);
}

static void a_malformed_directory_is_named_among_reads_in_flight(void **state)
{
	struct blob bad = blob_of("this is no Directory", 20);
	struct tree_node nodes[64];
	struct verifying verifying;
	char names[64][8], text[DIGEST_TEXT_MAX];
	struct digest root;

	keep(&bad);
	for (int i = 0; i < 64; i++) {
		struct blob file = blob_make(1000 + (uint64_t)i, 10);
		struct tree_node node = file_node("f", &file.digest, false);
		struct digest child = directory_keep(&node, 1);

		snprintf(names[i], sizeof(names[i]), "d%02d", i);
		nodes[i] = directory_node(names[i], i == 3 ? &bad.digest : &child);
		blob_free(&file);
	}
	root = directory_keep(nodes, 64);
	sync_store(&fixture);
	/* From disk, so that several are in flight when the fourth turns out to be nothing. */
	fixture_close(&fixture);
	fixture_open(&fixture);
	assert_int_equal(verify(&verifying, &root), CLOSURE_MALFORMED);
	assert_non_null(strstr(verifying.closure.why, digest_text(&bad.digest, text)));
	assert_string_equal(verifying.closure.why + strlen(verifying.closure.why) - 5, ": d03");
	closure_fini(&verifying.closure);
	blob_free(&bad);
}

/* Their encoding serves another protocol: no commit takes them, and the path is named. */
static void devices_are_refused(void **state)
{
	static const enum tree_kind kinds[] = { TREE_CHAR_DEVICE, TREE_BLOCK_DEVICE };

	for (size_t i = 0; i < 2; i++) {
		struct tree_node device = { .kind = kinds[i], .name = span_text("null"), .mode = 0666, .digest = digest_empty };
		struct tree_node sub = { 0 };
		struct verifying verifying;
		struct digest child, root;

		child = directory_keep(&device, 1);
		sub = directory_node("dev", &child);
		root = directory_keep(&sub, 1);
		assert_int_equal(verify(&verifying, &root), CLOSURE_MALFORMED);
		assert_non_null(strstr(verifying.closure.why, "it has a device node: dev/null"));
		closure_fini(&verifying.closure);
	}
}

static void only_the_empty_blob_is_empty(void **state)
{
	struct digest odd = { .size = 0, .hash = { 1 } }, root;
	struct tree_node node = file_node("odd", &odd, false);

	assert_int_equal(verified(&digest_empty), CLOSURE_WHOLE);
	assert_int_equal(verified(&odd), CLOSURE_MALFORMED);
	root = directory_keep(&node, 1);
	assert_int_equal(verified(&root), CLOSURE_HOLES);
}

static void damage_on_disk_is_a_hole(void **state)
{
	struct blob file = blob_make(11, 10), sub;
	struct tree_directory directory = { .mode = 0755 };
	struct tree_node node = file_node("a file with a name that is found on disk", &file.digest, false);
	struct buffer bytes = buffer_heap(4096);
	struct verifying verifying;
	struct digest root, found;
	struct span missing;

	keep(&file);
	assert_int_equal(tree_encode(&bytes, &directory, &node, 1), 0);
	sub = blob_of(bytes.data, bytes.size);
	keep(&sub);
	node = directory_node("sub", &sub.digest);
	root = directory_keep(&node, 1);
	sync_store(&fixture);
	fixture_close(&fixture);
	assert_int_equal(damage_blob(&fixture, &sub), 1);
	fixture_open(&fixture);
	assert_int_equal(verify(&verifying, &root), CLOSURE_HOLES);
	missing = buffer_span(&verifying.closure.missing);
	assert_true(digest_list_next(&missing, &found) && digest_equal(&found, &sub.digest));
	assert_string_equal((const char *)verifying.closure.paths.data, "sub");
	closure_fini(&verifying.closure);
	keep(&sub);
	assert_int_equal(verified(&root), CLOSURE_WHOLE);
	buffer_fini(&bytes);
	blob_free(&file);
	blob_free(&sub);
}

static void walks_take_turns(void **state)
{
	struct blob file = blob_make(12, 10);
	struct tree_node node = file_node("f", &file.digest, false);
	struct verifying verifying[5];
	struct digest root;
	struct gate gate;

	keep(&file);
	root = directory_keep(&node, 1);
	gate_init(&gate, 1);
	for (int i = 0; i < 5; i++) {
		verify_begin(&verifying[i], &root, &gate);
		assert_true(gate.busy <= 1);
	}
	for (int i = 0; i < 5; i++) {
		run_until(&fixture, &verifying[i].done);
		assert_int_equal(verifying[i].closure.result, CLOSURE_WHOLE);
		closure_fini(&verifying[i].closure);
	}
	assert_int_equal(gate.busy, 0);
	blob_free(&file);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_whole_tree_is_marked_at_every_level, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hole_is_named_and_its_neighbour_marked, setup, teardown),
		cmocka_unit_test_setup_teardown(a_missing_directory_is_a_hole, setup, teardown),
		cmocka_unit_test_setup_teardown(a_root_of_another_size_is_not_there, setup, teardown),
		cmocka_unit_test_setup_teardown(a_recipe_is_walked, setup, teardown),
		cmocka_unit_test_setup_teardown(what_repeats_itself_costs_what_it_holds, setup, teardown),
		cmocka_unit_test_setup_teardown(names_that_were_picked_cost_no_more_than_others, setup, teardown),
		cmocka_unit_test_setup_teardown(there_is_an_end_to_depth, setup, teardown),
		cmocka_unit_test_setup_teardown(a_malformed_directory_is_named_among_reads_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(devices_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(only_the_empty_blob_is_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(damage_on_disk_is_a_hole, setup, teardown),
		cmocka_unit_test_setup_teardown(walks_take_turns, setup, teardown),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
