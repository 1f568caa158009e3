/*
 * What an ActionResult names.
 *
 *	names of the result -> are they there? -> each Tree: read it, its files' names -> are they there? -> each root's closure
 *
 * One loop makes the steps; what it waits for may land inline.
 */
#include "gateway/cas/result_check.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/err.h"
#include "proto/reapi.h"
#include "proto/sluice_v1.h"

static void check_run(struct result_check *check);

static void check_fail(struct result_check *check, int outcome, const char *why)
{
	if (check->outcome != RESULT_WHOLE && check->outcome != RESULT_HOLES)
		return;
	check->outcome = outcome;
	check->why = why;
}

static void check_miss(struct result_check *check, const struct digest *digest)
{
	if (check->outcome == RESULT_WHOLE)
		check->outcome = RESULT_HOLES;
	if (check->missing_count < RESULT_MISSING_MAX)
		check->missing[check->missing_count++] = *digest;
}

static void drop_lists(struct result_check *check)
{
	free(check->names);
	free(check->present);
	free(check->trees);
	free(check->roots);
	check->names = check->trees = check->roots = NULL;
	check->present = NULL;
}

static void check_landed(struct result_check *check)
{
	check->waiting = false;
	check_run(check);
}

/* ---- names ---- */

static void add_name(struct result_check *check, const struct digest *digest)
{
	size_t capacity = check->names_capacity ? 2 * check->names_capacity : 64;
	struct digest *grown;

	if (digest->size == 0 && digest_equal(digest, &digest_empty))
		return;
	if (check->names_count == RESULT_NAMES_MAX) {
		check_fail(check, RESULT_TOO_LARGE, "the result names more than 1048576 blobs");
		return;
	}
	if (check->names_count == check->names_capacity) {
		grown = realloc(check->names, capacity * sizeof(*grown));
		if (!grown) {
			check_fail(check, ERR_RAISE(-ENOMEM), NULL);
			return;
		}
		check->names = grown;
		check->names_capacity = capacity;
	}
	check->names[check->names_count++] = *digest;
}

static bool is_named(const struct digest *digest)
{
	static const struct digest none;

	return !digest_equal(digest, &none);
}

/* OutputFile and FileNode have path or name, and digest, as the same fields. */
static bool add_files(struct result_check *check, const struct message_list *files)
{
	struct message_cursor cursor = { 0 };
	struct reapi_node file;
	struct span element;

	while (message_list_next(files, &cursor, &element)) {
		if (!message_decode(&reapi_node_type, element, &file) || !is_named(&file.digest))
			return false;
		add_name(check, &file.digest);
	}
	return true;
}

static bool add_directories(struct result_check *check, const struct message_list *directories)
{
	struct message_cursor cursor = { 0 };
	struct reapi_output_directory directory;
	struct span element;

	while (message_list_next(directories, &cursor, &element)) {
		if (!message_decode(&reapi_output_directory_type, element, &directory))
			return false;
		if (!is_named(&directory.tree_digest) && !is_named(&directory.root_directory_digest))
			return false;
		if (is_named(&directory.tree_digest)) {
			add_name(check, &directory.tree_digest);
			check->trees[check->trees_count++] = directory.tree_digest;
		}
		if (is_named(&directory.root_directory_digest))
			check->roots[check->roots_count++] = directory.root_directory_digest;
	}
	return true;
}

static void check_begin(struct result_check *check)
{
	struct reapi_result_names names;

	if (!message_decode(&reapi_result_names_type, check->result, &names)) {
		check_fail(check, RESULT_MALFORMED, "malformed ActionResult");
		return;
	}
	if (names.output_directories.count > RESULT_TREES_MAX) {
		check_fail(check, RESULT_TOO_LARGE, "the result has more than 1024 output directories");
		return;
	}
	check->hold = store_hold_create(check->cas->store, &check->scope);
	check->trees = calloc(names.output_directories.count + 1, sizeof(*check->trees));
	check->roots = calloc(names.output_directories.count + 1, sizeof(*check->roots));
	if (!check->hold || !check->trees || !check->roots) {
		check_fail(check, ERR_RAISE(-ENOMEM), NULL);
		return;
	}
	if (!add_files(check, &names.output_files) ||
	    !add_directories(check, &names.output_directories)) {
		check_fail(check, RESULT_MALFORMED, "malformed ActionResult: an output without a digest");
		return;
	}
	if (is_named(&names.stdout_digest))
		add_name(check, &names.stdout_digest);
	if (is_named(&names.stderr_digest))
		add_name(check, &names.stderr_digest);
}

/* ---- steps ---- */

static void on_presence(struct presence *presence)
{
	struct result_check *check = container_of(presence, struct result_check, presence);

	if (presence->result < 0)
		check_fail(check, presence->result, NULL);
	for (size_t i = 0; i < presence->count && !presence->result; i++)
		if (!check->present[i])
			check_miss(check, &presence->digests[i]);
	free(check->present);
	check->present = NULL;
	check_landed(check);
}

static void look(struct result_check *check)
{
	size_t count = check->names_count - check->looked;
	const struct digest *names = check->names + check->looked;
	int r = store_hold_blobs(check->hold, names, count);

	check->looked = check->names_count;
	check->present = calloc(count, sizeof(*check->present));
	if (r < 0 || !check->present) {
		check_fail(check, r < 0 ? r : ERR_RAISE(-ENOMEM), NULL);
		return;
	}
	check->waiting = true;
	check->presence = (struct presence){
		.cas = check->cas, .scope = check->scope, .digests = names, .count = count, .present = check->present,
		.hold = check->hold, .fn = on_presence,
	};
	presence_look(&check->presence);
}

static bool take_directory(struct result_check *check, struct span bytes)
{
	struct reapi_directory directory;

	return message_decode(&reapi_directory_type, bytes, &directory) &&
	       add_files(check, &directory.files);
}

static void take_tree(struct result_check *check, struct span bytes)
{
	struct message_cursor cursor = { 0 };
	struct reapi_tree tree;
	struct span child;
	bool good = message_decode(&reapi_tree_type, bytes, &tree) && take_directory(check, tree.root);

	while (good && message_list_next(&tree.children, &cursor, &child))
		good = take_directory(check, child);
	if (!good)
		check_fail(check, RESULT_MALFORMED, "an output directory's Tree is malformed");
}

static void on_tree(struct blob_get *get)
{
	struct result_check *check = container_of(get, struct result_check, get);

	if (get->result == STORE_OK)
		take_tree(check, get->blob);
	else if (get->result == STORE_MISSING)
		check_miss(check, &get->digest);
	else if (get->result == -EMSGSIZE)
		check_fail(check, RESULT_TOO_LARGE, "an output directory's Tree is longer than 32 MiB");
	else
		check_fail(check, get->result, NULL);
	blob_get_fini(get);
	check_landed(check);
}

static void get_tree(struct result_check *check)
{
	check->get = (struct blob_get){
		.cas = check->cas, .scope = check->scope, .digest = check->trees[check->trees_at++],
		.bytes_max = RESULT_TREE_BYTES_MAX, .fn = on_tree,
	};
	blob_get(&check->get);
}

static void on_turn(struct gate_pass *pass)
{
	struct result_check *check = container_of(pass, struct result_check, pass);

	check->passed = true;
	get_tree(check);
}

/* A Tree of 32 MiB names half a million blobs, so it is not the Tree alone that few may have in memory at a time. */
static void read_tree(struct result_check *check)
{
	check->waiting = true;
	if (check->passed) {
		get_tree(check);
		return;
	}
	check->pass.fn = on_turn;
	gate_enter(&check->cas->trees, &check->pass);
}

/* What a closure does not find may be kept as a pair. */
static void take_holes(struct result_check *check, const struct closure *closure)
{
	struct span rest = buffer_span(&closure->missing);
	struct digest digest;

	if (closure->nodes_too_long) {
		check_fail(check, RESULT_TOO_LARGE, "a directory in an output directory is longer than 4 MiB");
		return;
	}
	while (digest_list_next(&rest, &digest)) {
		if (pair_wanted(&digest))
			add_name(check, &digest);
		else
			check_miss(check, &digest);
	}
	if (closure->missing_count > CLOSURE_MISSING_MAX && check->outcome == RESULT_WHOLE)
		check_fail(check, RESULT_TOO_LARGE, "an output directory has too many files of more than 4 MiB");
}

static void on_closure(struct closure *closure)
{
	struct result_check *check = closure->owner;

	if (closure->result < 0)
		check_fail(check, closure->result, NULL);
	else if (closure->result == CLOSURE_HOLES)
		take_holes(check, closure);
	else if (closure->result != CLOSURE_WHOLE)
		check_fail(check, RESULT_MALFORMED, "an output directory is malformed or too large");
	closure_fini(closure);
	check_landed(check);
}

static void verify_root(struct result_check *check)
{
	const struct digest *root = &check->roots[check->roots_at++];
	int r = store_hold_root(check->hold, root);

	if (r < 0) {
		check_fail(check, r, NULL);
		return;
	}
	check->waiting = true;
	check->closure = (struct closure){
		.store = check->cas->store, .gate = &check->cas->closures, .scope = check->scope, .root = *root,
		.fn = on_closure, .owner = check,
	};
	closure_verify(&check->closure);
}

/* The lists go before anybody is told, who may be long in hearing it. */
static void check_end(struct result_check *check)
{
	struct gate *trees = check->passed ? &check->cas->trees : NULL;

	drop_lists(check);
	check->passed = false;
	check->fn(check);                /* it may be gone then */
	if (trees)
		gate_leave(trees);
}

static void check_run(struct result_check *check)
{
	if (check->running)
		return;
	check->running = true;
	while (!check->waiting) {
		if (check->outcome != RESULT_WHOLE)
			break;
		if (check->looked < check->names_count)
			look(check);
		else if (check->trees_at < check->trees_count)
			read_tree(check);
		else if (check->roots_at < check->roots_count)
			verify_root(check);
		else
			break;
	}
	check->running = false;
	if (!check->waiting)
		check_end(check);
}

void result_check(struct result_check *check)
{
	check_begin(check);
	check_run(check);
}

void result_check_fini(struct result_check *check)
{
	store_hold_release(check->hold);
	drop_lists(check);
	*check = (struct result_check){ 0 };
}
