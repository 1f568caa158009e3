/*
 * Shows what becomes of named outputs, in a directory and with a gateway in a thread: directories that lead to them are
 * made; files, directories and symlinks are said as REAPI has it, and what they name is at the gateway; what is not there is
 * left out; a path that leads out of the tree, or through a symlink, is refused, and a directory in place of a file; and a name
 * that is no UTF-8, while others are said as they are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/context/download.h"
#include "gateway/context/whole_blob.h"
#include "gateway/executor/outputs.h"
#include "proto/reapi.h"
#include "proto/reapi_cas.h"
#include "proto/tree.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/cas/requests.h"

static struct gateway_thread *gateway;
static struct client *client;
static char top[64], why[512];
static const char *const nothing[] = { NULL };

static int setup(void **state)
{
	snprintf(top, sizeof(top), "/tmp/sluice-outputs-XXXXXX");
	assert_non_null(mkdtemp(top));
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	client_close(client);
	gateway_thread_stop(gateway, true);
	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	return system(command);
}

static const char *place(const char *path)
{
	static char full[512];

	snprintf(full, sizeof(full), "%s/%s", top, path);
	return full;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *file = fopen(place(path), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(place(path), mode), 0);
}

static struct outputs outputs_of(const char *const *files, const char *const *directories, const char *const *paths)
{
	return (struct outputs){
		.root_fd = open(top, O_RDONLY | O_DIRECTORY), .working_directory = "work", .files = files, .directories = directories,
		.paths = paths, .uid = getuid(), .gid = getgid(), .client = client,
	};
}

static int prepare(const char *const *paths)
{
	struct outputs outputs = outputs_of(nothing, nothing, paths);
	int r = outputs_prepare(&outputs, why, sizeof(why));

	close(outputs.root_fd);
	return r;
}

static int collect(const char *const *files, const char *const *directories, const char *const *paths, bool unix_modes, struct buffer *fields)
{
	struct outputs outputs = outputs_of(files, directories, paths);
	enum grpc_status status;
	int r;

	outputs.unix_modes = unix_modes;
	r = outputs_collect(&outputs, fields, &status, why, sizeof(why));
	assert_int_equal(status, GRPC_OK);
	close(outputs.root_fd);
	return r;
}

static void parents_are_made_and_no_path_leads_out(void **state)
{
	const char *const good[] = { "a/b/c", "../up/x", "./d//e/f", "", NULL };
	const char *const out[] = { "../../x", NULL }, *const absolute[] = { "/x", NULL }, *const through[] = { "link/x/y", NULL };

	assert_int_equal(prepare(good), 0);
	assert_int_equal(access(place("work/a/b"), F_OK), 0);
	assert_int_equal(access(place("work/a/b/c"), F_OK), -1);
	assert_int_equal(access(place("up"), F_OK), 0);
	assert_int_equal(access(place("work/d/e"), F_OK), 0);
	assert_int_equal(prepare(out), -EINVAL);
	assert_non_null(strstr(why, "leads out of the tree"));
	assert_int_equal(prepare(absolute), -EINVAL);
	assert_int_equal(symlink("/tmp", place("work/link")), 0);
	assert_int_equal(prepare(through), -EINVAL);
	assert_non_null(strstr(why, "in its way"));
}

static int keep_blob(void *context, size_t index, struct span blob)
{
	buffer_put(context, blob.data, blob.size);
	return 0;
}

static struct buffer fetch(const struct digest *digest)
{
	struct buffer blob = buffer_heap(1 << 20);
	struct download *download;

	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	if (download_source(download)->fetch(download_source(download), digest, 1, keep_blob, &blob, why, sizeof(why)))
		fail_msg("%s", why);
	download_destroy(download);
	return blob;
}

static void expect_blob(const struct digest *digest, const char *text)
{
	struct buffer blob;

	assert_int_equal(digest->size, strlen(text));
	blob = fetch(digest);
	assert_memory_equal(blob.data, text, strlen(text));
	buffer_fini(&blob);
}

static void files_are_said_and_sent(void **state)
{
	const char *const files[] = { "one", "not-there", "sub/two", "link", NULL };
	struct buffer fields = buffer_heap(1 << 16);
	struct message_cursor cursor = { 0 };
	struct reapi_action_result result;
	struct reapi_output_symlink link;
	struct reapi_output_file file;
	struct span element;

	mkdir(place("work"), 0755);
	mkdir(place("work/sub"), 0755);
	write_file("work/one", "first", 0644);
	write_file("work/sub/two", "second", 0750);
	assert_int_equal(symlink("one", place("work/link")), 0);
	assert_int_equal(collect(files, nothing, nothing, true, &fields), 0);
	assert_true(message_decode(&reapi_action_result_type, buffer_span(&fields), &result));
	assert_int_equal(result.output_files.count, 2);
	assert_true(message_list_next(&result.output_files, &cursor, &element));
	assert_true(message_decode(&reapi_output_file_type, element, &file));
	assert_true(span_is(file.path, "one") && !file.is_executable);
	expect_blob(&file.digest, "first");
	assert_true(message_list_next(&result.output_files, &cursor, &element));
	assert_true(message_decode(&reapi_output_file_type, element, &file));
	assert_true(span_is(file.path, "sub/two") && file.is_executable);
	assert_int_equal(file.node_properties.size, 5);  /* unix_mode 0750 */
	expect_blob(&file.digest, "second");
	cursor = (struct message_cursor){ 0 };
	assert_int_equal(result.output_file_symlinks.count, 1);
	assert_true(message_list_next(&result.output_file_symlinks, &cursor, &element));
	assert_true(message_decode(&reapi_output_symlink_type, element, &link));
	assert_true(span_is(link.path, "link") && span_is(link.target, "one"));
	buffer_fini(&fields);
}

/* However the file system lists them, the directories of a Tree are in the order of their names. */
static void a_tree_is_the_same_each_time(void **state)
{
	const char *const paths[] = { "out", NULL };
	const char *const names[] = { "m", "c", "x", "a", "q", "f", "z", "b", "k" };
	struct message_cursor cursor = { 0 }, children = { 0 };
	struct reapi_output_directory directory;
	struct reapi_directory child;
	struct reapi_node node;
	struct reapi_tree tree;
	struct span element;
	struct reapi_action_result result;
	struct buffer fields = buffer_heap(1 << 16), blob;
	char path[64], before = 0;

	mkdir(place("work"), 0755);
	mkdir(place("work/out"), 0755);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "work/out/%s", names[i]);
		mkdir(place(path), 0755);
		snprintf(path, sizeof(path), "work/out/%s/%s", names[i], names[i]);
		write_file(path, names[i], 0644);
	}
	assert_int_equal(collect(nothing, nothing, paths, false, &fields), 0);
	assert_true(message_decode(&reapi_action_result_type, buffer_span(&fields), &result));
	assert_true(message_list_next(&result.output_directories, &cursor, &element));
	assert_true(message_decode(&reapi_output_directory_type, element, &directory));
	blob = fetch(&directory.tree_digest);
	assert_true(message_decode(&reapi_tree_type, buffer_span(&blob), &tree));
	assert_int_equal(tree.children.count, sizeof(names) / sizeof(names[0]));
	while (message_list_next(&tree.children, &children, &element)) {
		struct message_cursor files = { 0 };

		assert_true(message_decode(&reapi_directory_type, element, &child));
		assert_true(message_list_next(&child.files, &files, &element));
		assert_true(message_decode(&reapi_node_type, element, &node));
		assert_true((char)node.name.data[0] > before);
		before = (char)node.name.data[0];
	}
	buffer_fini(&blob);
	buffer_fini(&fields);
}

static void a_directory_is_a_tree(void **state)
{
	const char *const paths[] = { "out", "dir-link", NULL };
	struct buffer fields = buffer_heap(1 << 16), blob;
	struct message_cursor cursor = { 0 };
	struct reapi_action_result result;
	struct reapi_output_directory directory;
	struct tree_reader *reader = calloc(1, sizeof(*reader));
	struct tree_node node;
	struct reapi_tree tree;
	struct digest inner;
	struct span element;

	mkdir(place("work"), 0755);
	mkdir(place("work/out"), 0700);
	mkdir(place("work/out/in"), 0755);
	write_file("work/out/in/deep", "deep", 0600);
	write_file("work/out/top", "top", 0700);
	assert_int_equal(mkfifo(place("work/out/pipe"), 0644), 0);
	assert_int_equal(symlink("in/deep", place("work/out/to")), 0);
	assert_int_equal(symlink("out", place("work/dir-link")), 0);
	assert_int_equal(collect(nothing, nothing, paths, false, &fields), 0);
	assert_true(message_decode(&reapi_action_result_type, buffer_span(&fields), &result));
	assert_int_equal(result.output_symlinks.count, 1);
	assert_int_equal(result.output_directory_symlinks.count, 1);
	assert_int_equal(result.output_file_symlinks.count, 0);
	assert_true(message_list_next(&result.output_directories, &cursor, &element));
	assert_true(message_decode(&reapi_output_directory_type, element, &directory));
	assert_true(span_is(directory.path, "out"));
	blob = fetch(&directory.tree_digest);
	assert_true(message_decode(&reapi_tree_type, buffer_span(&blob), &tree));
	assert_int_equal(tree.children.count, 1);
	assert_true(tree_open(reader, tree.root));
	assert_int_equal(reader->directory.mode, 0755);
	assert_true(tree_next(reader, &node) && span_is(node.name, "top") && node.mode == 0755);
	expect_blob(&node.digest, "top");
	assert_true(tree_next(reader, &node) && span_is(node.name, "in"));
	inner = node.digest;
	assert_true(tree_next(reader, &node) && span_is(node.name, "to") && span_is(node.target, "in/deep"));
	assert_false(tree_next(reader, &node) || reader->failed);
	tree_close(reader);
	cursor = (struct message_cursor){ 0 };
	assert_true(message_list_next(&tree.children, &cursor, &element));
	assert_true(digest_equal(&inner, &(struct digest){ 0 }) == false && inner.size == element.size);
	assert_true(tree_open(reader, element));
	assert_true(tree_next(reader, &node) && span_is(node.name, "deep") && node.mode == 0644);
	expect_blob(&node.digest, "deep");
	tree_close(reader);
	free(reader);
	buffer_fini(&blob);
	buffer_fini(&fields);
}

/* Readers of a Tree undo no escapes and know no properties of ours. */
static void names_in_a_tree_are_as_they_are(void **state)
{
	const char *const paths[] = { "out", NULL };
	struct buffer fields = buffer_heap(1 << 16), blob;
	struct tree_reader *reader = calloc(1, sizeof(*reader));
	struct reapi_output_directory directory;
	struct message_cursor cursor = { 0 };
	struct reapi_action_result result;
	struct tree_node node;
	struct reapi_tree tree;
	struct span element;

	mkdir(place("work"), 0755);
	mkdir(place("work/out"), 0755);
	mkdir(place("work/out/d%FF"), 0755);
	write_file("work/out/a%C3%A9", "a", 0644);
	write_file("work/out/a%B", "b", 0644);
	assert_int_equal(symlink("%E4", place("work/out/to%25FF")), 0);
	assert_int_equal(collect(nothing, nothing, paths, false, &fields), 0);
	assert_true(message_decode(&reapi_action_result_type, buffer_span(&fields), &result));
	assert_true(message_list_next(&result.output_directories, &cursor, &element));
	assert_true(message_decode(&reapi_output_directory_type, element, &directory));
	blob = fetch(&directory.tree_digest);
	assert_null(memmem(blob.data, blob.size, "sluice.", strlen("sluice.")));
	assert_true(message_decode(&reapi_tree_type, buffer_span(&blob), &tree));
	assert_true(tree_open(reader, tree.root));
	assert_true(tree_next(reader, &node) && span_is(node.name, "a%B"));
	assert_true(tree_next(reader, &node) && span_is(node.name, "a%C3%A9"));
	assert_true(tree_next(reader, &node) && span_is(node.name, "d%FF"));
	assert_true(tree_next(reader, &node) && span_is(node.name, "to%25FF") && span_is(node.target, "%E4"));
	assert_false(tree_next(reader, &node) || reader->failed);
	tree_close(reader);
	free(reader);
	buffer_fini(&blob);
	buffer_fini(&fields);
}

static void what_a_tree_cannot_say_is_refused(void **state)
{
	const char *const paths[] = { "out", NULL };
	struct buffer fields = buffer_heap(1 << 16);

	mkdir(place("work"), 0755);
	mkdir(place("work/out"), 0755);
	assert_int_equal(mkfifo(place("work/out/\xff"), 0644), 0);       /* left out */
	assert_int_equal(collect(nothing, nothing, paths, false, &fields), 0);
	buffer_clear(&fields);
	write_file("work/out/caf\xe9", "x", 0644);
	assert_int_equal(collect(nothing, nothing, paths, false, &fields), -EINVAL);
	assert_string_equal(why, "out: the name of \"caf?\" in it is no UTF-8, which a Tree cannot say");
	assert_int_equal(unlink(place("work/out/caf\xe9")), 0);
	mkdir(place("work/out/in"), 0755);
	assert_int_equal(symlink("caf\xe9", place("work/out/in/link")), 0);
	assert_int_equal(collect(nothing, nothing, paths, false, &fields), -EINVAL);
	assert_string_equal(why, "out: the name or target of \"link\" in it is no UTF-8, which a Tree cannot say");
	assert_int_equal(fields.size, 0);
	buffer_fini(&fields);
}

struct long_read {
	uint64_t next;
	bool wrong;
};

static int check_long(void *context, uint64_t offset, struct span bytes)
{
	struct long_read *read = context;

	read->wrong |= offset != read->next;
	for (size_t i = 0; i < bytes.size; i++)
		read->wrong |= bytes.data[i] != (uint8_t)((offset + i) / 1000);
	read->next += bytes.size;
	return 0;
}

/* Longer than a record: by ByteStream, both ways; and one that is there already. */
static void a_long_file_goes_whole(void **state)
{
	enum { LONG_BYTES = 9 << 20 };
	const char *const files[] = { "long", NULL };
	struct buffer fields = buffer_heap(1 << 16);
	struct digest nowhere = { .size = 9 << 20, .hash = { 1 } };
	uint8_t *data = malloc(LONG_BYTES);
	struct message_cursor cursor = { 0 };
	struct reapi_action_result result;
	struct reapi_output_file file;
	struct long_read read = { 0 };
	struct span element;
	FILE *out;

	mkdir(place("work"), 0755);
	for (size_t i = 0; i < LONG_BYTES; i++)
		data[i] = (uint8_t)(i / 1000);
	out = fopen(place("work/long"), "w");
	assert_int_equal(fwrite(data, 1, LONG_BYTES, out), LONG_BYTES);
	fclose(out);
	for (int i = 0; i < 2; i++) {
		buffer_clear(&fields);
		if (collect(files, nothing, nothing, false, &fields))
			fail_msg("%s", why);
	}
	assert_true(message_decode(&reapi_action_result_type, buffer_span(&fields), &result));
	assert_true(message_list_next(&result.output_files, &cursor, &element));
	assert_true(message_decode(&reapi_output_file_type, element, &file));
	assert_int_equal(file.digest.size, LONG_BYTES);
	if (whole_blob_read(client, &file.digest, check_long, &read, why, sizeof(why)))
		fail_msg("%s", why);
	assert_true(read.next == LONG_BYTES && !read.wrong);
	assert_int_equal(whole_blob_read(client, &nowhere, check_long, &read, why, sizeof(why)), -ENOENT);
	buffer_fini(&fields);
	free(data);
}

/* All of the memory that there is for writes. */
struct crowd {
	struct budget_share share;
	struct op timer;
	struct reapi *reapi;
	uint64_t crowded_ns;             /* when somebody was refused for it */
	unsigned asked;
};

static void crowd_on_room(struct budget_share *share)
{
}

static void crowd_look(struct op *op, int32_t res)
{
	struct crowd *crowd = container_of(op, struct crowd, timer);

	crowd->crowded_ns = crowd->reapi->crowded_ns;
	if (crowd->crowded_ns)
		budget_leave(&crowd->reapi->uploads, &crowd->share);
	else
		ring_timer(crowd->reapi->cas->ring, op, 1000000);
}

static void crowd_enter(struct gateway_parts *parts, void *context)
{
	struct crowd *crowd = context;

	*crowd = (struct crowd){ .share.fn = crowd_on_room, .timer.fn = crowd_look, .reapi = &parts->reapi };
	budget_enter(&parts->reapi.uploads, &crowd->share, parts->reapi.uploads.max);
}

/* As soon as one more is refused. */
static void crowd_leave(struct gateway_parts *parts, void *context)
{
	parts->reapi.crowded_ns = 0;
	crowd_look(&((struct crowd *)context)->timer, 0);
}

static bool crowd_is_cancelled(void *context)
{
	struct crowd *crowd = context;

	return ++crowd->asked > 3;
}

/* The command has run: what it made is sent again, until there is room for it or nobody wants it. */
static void a_crowded_gateway_is_asked_again(void **state)
{
	const char *const files[] = { "long", NULL };
	struct outputs outputs = outputs_of(files, nothing, nothing);
	struct buffer fields = buffer_heap(1 << 16);
	enum grpc_status status;
	struct crowd crowd;

	mkdir(place("work"), 0755);
	write_file("work/long", "", 0644);
	assert_int_equal(truncate(place("work/long"), 9 << 20), 0);
	gateway_thread_call(gateway, crowd_enter, &crowd);
	outputs.cancelled = crowd_is_cancelled;
	outputs.context = &crowd;
	assert_int_equal(outputs_collect(&outputs, &fields, &status, why, sizeof(why)), -ECANCELED);
	assert_int_equal(status, GRPC_OK);
	assert_int_equal(crowd.asked, 4);
	outputs.cancelled = NULL;
	gateway_thread_call(gateway, crowd_leave, &crowd);
	if (outputs_collect(&outputs, &fields, &status, why, sizeof(why)))
		fail_msg("%s", why);
	assert_true(crowd.crowded_ns > 0);
	assert_true(fields.size > 0);
	close(outputs.root_fd);
	buffer_fini(&fields);
}

static void what_is_another_thing_is_refused(void **state)
{
	const char *const one[] = { "dir", NULL }, *const other[] = { "file", NULL }, *const link[] = { "link", NULL };
	struct buffer fields = buffer_heap(1 << 16);

	mkdir(place("work"), 0755);
	mkdir(place("work/dir"), 0755);
	write_file("work/file", "x", 0644);
	assert_int_equal(collect(one, nothing, nothing, false, &fields), -EISDIR);
	assert_string_equal(why, "dir: is a directory, not a file");
	assert_int_equal(collect(nothing, other, nothing, false, &fields), -ENOTDIR);
	assert_int_equal(collect(nothing, nothing, nothing, false, &fields), 0);
	/* A result's strings are UTF-8, and whoever reads one with a string that is not reads nothing of it. */
	assert_int_equal(symlink("caf\xe9", place("work/link")), 0);
	assert_int_equal(collect(link, nothing, nothing, false, &fields), -EINVAL);
	assert_string_equal(why, "link: its target is no UTF-8, which a result cannot say");
	assert_int_equal(fields.size, 0);
	buffer_fini(&fields);
}

/* What cannot even be asked about is an error, and says so; nothing is said of it. */
static void what_cannot_be_looked_for_is_an_error(void **state)
{
	char name[301];
	const char *const names[] = { name, NULL };
	struct buffer fields = buffer_heap(1 << 16);

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	mkdir(place("work"), 0755);
	assert_int_equal(collect(nothing, nothing, names, false, &fields), -ENAMETOOLONG);
	assert_non_null(strstr(why, ": cannot be looked for: "));
	assert_int_equal(fields.size, 0);
	buffer_fini(&fields);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(parents_are_made_and_no_path_leads_out, setup, teardown),
		cmocka_unit_test_setup_teardown(files_are_said_and_sent, setup, teardown),
		cmocka_unit_test_setup_teardown(a_directory_is_a_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tree_is_the_same_each_time, setup, teardown),
		cmocka_unit_test_setup_teardown(names_in_a_tree_are_as_they_are, setup, teardown),
		cmocka_unit_test_setup_teardown(what_a_tree_cannot_say_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_long_file_goes_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(a_crowded_gateway_is_asked_again, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_another_thing_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_looked_for_is_an_error, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
