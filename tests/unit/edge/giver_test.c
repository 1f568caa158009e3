/*
 * Shows the edge's end of Context/Give between a client as buildx is one and a real gateway's Push: the root that is told
 * is committed there, and its tree is the client's directory; what was read once is not read again, nor what was committed sent
 * again, and what was edited is told by what it was; calls side by side read a file once, and what a
 * sibling sends is left to it; times come for the entries asked for;
 * what the gateway or the edge's store lost is brought again; ahead of the root, what the executor waits for comes first; a store
 * smaller than the context is enough; and a gateway that is not there makes the context unfit.
 */
#include "gateway/edge/giver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/context/download.h"
#include "proto/recipe.h"
#include "proto/sluice_context.h"
#include "proto/sluice_v1.h"
#include "proto/tree.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/session/session_rig.h"

static struct rig rig;
static struct rig_tree tree;
static struct gateway_thread *gateway;
static struct upstream upstream;
static struct pusher pusher;
static struct giver_service service;

/* A gateway's question, and what came of it. */
struct give {
	struct call call;
	bool rooted, closed;
	unsigned roots;
	struct digest root;
	struct context_root told;
	char unfit[512];
	int64_t times[RIG_FILES_MAX];
	size_t times_count;
	int64_t time;
	bool ahead;                      /* to be asked for */
	uint32_t entries, names;         /* that came ahead of the root */
	bool entries_ended;
	bool named[RIG_FILES_MAX];
	uint32_t place[RIG_FILES_MAX];   /* among the names */
	enum grpc_status status;
};

static void give_take_entries(struct give *give, struct span list)
{
	struct fsutil_stat stat;
	struct span bytes;

	assert_false(give->rooted);
	assert_false(give->entries_ended);
	give->entries_ended = list.size == 0;
	while (entry_list_next(&list, &bytes)) {
		const struct rig_file *file = &tree.files[give->entries++];

		assert_true(fsutil_stat_decode(bytes, &stat));
		assert_true(span_is(stat.path, file->path));
		assert_true(stat.mod_time_ns == file->mtime_ns);
		assert_int_equal(fsutil_stat_has_data(&stat), !file->directory);
		assert_int_equal(stat.size, file->directory ? 0 : file->size);
	}
	assert_int_equal(list.size, 0);
}

static void give_take_names(struct give *give, struct span list)
{
	struct named_entry entry;
	uint64_t previous = 0;

	assert_false(give->rooted);
	assert_true(give->entries_ended);
	while (name_list_next(&list, &previous, &entry)) {
		assert_true(entry.number < tree.count && !tree.files[entry.number].directory);
		assert_int_equal(entry.file_size, tree.files[entry.number].size);
		assert_false(give->named[entry.number]);
		give->named[entry.number] = true;
		give->place[entry.number] = give->names++;
	}
	assert_int_equal(list.size, 0);
}

static void give_on_message(struct call *call, struct span message)
{
	struct give *give = container_of(call, struct give, call);
	struct context_response response;
	struct span root;

	assert_true(message_decode(&context_response_type, message, &response));
	if (response.root.data) {
		assert_true(message_decode(&context_root_type, response.root, &give->told));
		root = give->told.root;
		assert_true(digest_list_next(&root, &give->root));
		assert_int_equal(root.size, 0);
		give->rooted = true;
		give->roots++;
	}
	if (response.entries.data)
		give_take_entries(give, response.entries);
	if (response.named.data)
		give_take_names(give, response.named);
	if (response.unfit.data) {
		snprintf(give->unfit, sizeof(give->unfit), "%.*s", (int)response.unfit.size, (const char *)response.unfit.data);
		give->rooted = true;
	}
	while (response.times.size && time_list_next(&response.times, &give->time))
		give->times[give->times_count++] = give->time;
}

static void give_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct give *give = container_of(call, struct give, call);

	give->closed = give->rooted = true;
	give->status = status;
	call_fini(call);
}

static const struct call_events give_events = { .on_message = give_on_message, .on_closed = give_on_closed };

static void give_ask(struct give *give, const struct context_request *request)
{
	struct buffer out = buffer_heap(1 << 20);

	message_encode(&context_request_type, &out, request);
	assert_int_equal(call_send(&give->call, buffer_span(&out), 0), CALL_SENT);
	buffer_fini(&out);
}

static void give_start(struct give *give, struct rig_daemon *daemon, const struct digest *known, bool times)
{
	const struct header metadata[] = { { span_text("dir-name"), span_text("context"), false },
		                           { span_text("exclude-patterns"), span_text("*.tmp"), false } };
	uint8_t bytes[64];
	struct buffer list = buffer_over(bytes, sizeof(bytes)), nested = buffer_heap(4096);
	struct context_ask ask = { .times = times, .ahead = give->ahead };
	struct context_request request = { 0 };

	*give = (struct give){ .ahead = give->ahead };
	assert_int_equal(call_start(&give->call, daemon->nest.h2, SLUICE_GIVE, span_text("localhost"), 0, metadata, 2, 4 << 20,
	                            &give_events, give), 0);
	if (known)
		digest_list_put(&list, known);
	ask.known = buffer_span(&list);
	message_encode(&context_ask_type, &nested, &ask);
	request.ask = span_make(nested.data ? nested.data : (const uint8_t *)"", nested.size);
	give_ask(give, &request);
	buffer_fini(&nested);
}

static void give_end(struct give *give)
{
	call_end(&give->call);
	rig_until(&rig, &give->closed);
	assert_int_equal(give->status, GRPC_OK);
}

/* One context from start to end, of a session of its own. */
static struct give give_once_as(const char *shared_key, struct rig_tree *of, const struct digest *known, uint64_t *bytes_sent)
{
	struct rig_client *client = rig_client_start(&rig, of, shared_key);
	static struct give give;

	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[rig.daemons_count - 1], known, true);
	rig_until(&rig, &give.rooted);
	assert_string_equal(give.unfit, "");
	give_end(&give);
	*bytes_sent = client->bytes_sent;
	rig_client_end(client);
	assert_int_equal(client->status, GRPC_OK);
	return give;
}

static struct give give_once(struct rig_tree *of, const struct digest *known, uint64_t *bytes_sent)
{
	return give_once_as("app:1", of, known, bytes_sent);
}

/* ---- what the gateway has ---- */

struct check {
	struct source *source;
	char path[128];
	uint32_t files, directories;
};

static void check_file(struct check *check, const struct tree_node *node)
{
	char path[256];

	snprintf(path, sizeof(path), "%s%.*s", check->path, (int)node->name.size, (const char *)node->name.data);
	for (uint32_t i = 0; i < tree.count; i++) {
		const struct rig_file *file = &tree.files[i];
		uint8_t hash[DIGEST_HASH_BYTES], *content;

		if (strcmp(file->path, path) != 0)
			continue;
		assert_int_equal(node->file_size, file->size);
		assert_int_equal(node->recipe, file->size > RECIPE_WHOLE_MAX);
		check->files++;
		if (node->recipe)
			return;                          /* its chunks were verified by the commit */
		content = malloc(file->size + 1);
		rig_content(file->seed, 0, content, file->size);
		sha256_once(content, file->size, hash);
		free(content);
		assert_memory_equal(node->digest.hash, hash, sizeof(hash));
		return;
	}
	fail_msg("%s is not in the client's directory", path);
}

static int check_directory(void *context, size_t index, struct span blob)
{
	struct check *check = context;
	struct tree_reader reader;
	struct tree_node node;
	struct { struct digest digest; char name[64]; } below[256];
	size_t count = 0, length = strlen(check->path);

	assert_true(tree_open(&reader, blob));
	while (tree_next(&reader, &node)) {
		if (node.kind == TREE_FILE)
			check_file(check, &node);
		if (node.kind != TREE_DIRECTORY)
			continue;
		below[count].digest = node.digest;
		snprintf(below[count++].name, 64, "%.*s/", (int)node.name.size, (const char *)node.name.data);
	}
	assert_false(reader.failed);
	tree_close(&reader);
	for (size_t i = 0; i < count; i++) {
		char why[256];

		check->directories++;
		strcat(check->path, below[i].name);
		if (below[i].digest.size)
			assert_int_equal(check->source->fetch(check->source, &below[i].digest, 1, check_directory, check, why,
			                                      sizeof(why)), 0);
		check->path[length] = '\0';
	}
	return 0;
}

static void assert_committed(const struct give *give)
{
	struct client *client = gateway_thread_client(gateway, NULL);
	uint32_t files = 0, directories = 0;
	struct check check = { 0 };
	struct download *download;
	char why[256];

	for (uint32_t i = 0; i < tree.count; i++) {
		files += !tree.files[i].directory;
		directories += tree.files[i].directory;
	}
	assert_int_equal(give->told.entries, tree.count);
	assert_int_equal(give->told.files, files);
	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	check.source = download_source(download);
	assert_int_equal(check.source->fetch(check.source, &give->root, 1, check_directory, &check, why, sizeof(why)), 0);
	assert_int_equal(check.files, files);
	assert_int_equal(check.directories, directories);
	download_destroy(download);
	client_close(client);
}

static uint64_t tree_bytes(void)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < tree.count; i++)
		bytes += tree.files[i].directory ? 0 : tree.files[i].size;
	return bytes;
}

/* ---- cases ---- */

static void what_is_given_is_committed(void **state)
{
	struct give give;
	uint64_t sent;

	rig_tree_make(&tree, 300, 1);
	give = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_int_equal(give.told.bytes_read, sent);
	assert_true(give.told.bytes_sent > 0);
	assert_committed(&give);
	assert_int_equal(give.times_count, tree.count);
	for (uint32_t i = 0; i < tree.count; i++)
		assert_true(give.times[i] == tree.files[i].mtime_ns);
}

static void what_is_known_is_neither_read_nor_sent(void **state)
{
	struct give first, again, unchanged, edited;
	uint64_t sent, edited_at = 7;

	rig_tree_make(&tree, 300, 2);
	first = give_once(&tree, NULL, &sent);
	again = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, 0);
	assert_int_equal(again.told.bytes_sent, 0);
	assert_true(digest_equal(&first.root, &again.root));
	unchanged = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, 0);
	assert_true(digest_equal(&first.root, &unchanged.root));
	assert_int_equal(service.counters.gives_unchanged, 1);
	while (tree.files[edited_at].directory || tree.files[edited_at].size == 0)
		edited_at++;
	tree.files[edited_at].seed += 77777;
	tree.files[edited_at].mtime_ns++;
	rig_reopen_memory(&rig);
	service.memory = rig.memory;
	edited = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, tree.files[edited_at].size);
	assert_int_equal(edited.told.files_read, 1);
	assert_false(digest_equal(&first.root, &edited.root));
	assert_committed(&edited);
}

/*
 * Another edge pushed the directory. This one has looked at one file of it before, as BuildKit looks at a .dockerignore, and knows
 * of nothing else: it asks about a few contents, whether the gateway knows the root or not.
 */
static void what_others_pushed_is_not_asked_about(void **state)
{
	static struct rig_tree look;
	struct give first, other;
	uint64_t sent, asked;

	rig_tree_make(&tree, 1000, 11);
	first = give_once_as("app:other", &tree, NULL, &sent);
	rig_tree_make(&look, 1, 12);
	(void)give_once(&look, NULL, &sent);
	asked = service.counters.blobs_asked;
	other = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_int_equal(other.told.bytes_sent, 0);
	assert_true(service.counters.blobs_asked - asked <= GIVER_SAMPLE);
	rig_tree_make(&look, 1, 13);
	(void)give_once_as("app:third", &look, NULL, &sent);
	asked = service.counters.blobs_asked;
	other = give_once_as("app:third", &tree, NULL, &sent);
	assert_true(digest_equal(&first.root, &other.root));
	assert_int_equal(other.told.bytes_sent, 0);
	assert_true(service.counters.blobs_asked - asked <= GIVER_SAMPLE + 1);   /* and the root */
}

/* Of files that were edited a little goes to the gateway what differs, also by an edge that was started anew. */
static void what_was_edited_is_told_by_what_it_was(void **state)
{
	struct give first, edited;
	uint64_t sent, bytes = 0, bytes_sent;

	rig_tree_make(&tree, 300, 20);
	first = give_once(&tree, NULL, &sent);
	for (uint32_t i = 0; i < tree.count; i++) {
		if (tree.files[i].directory || tree.files[i].size < 256)
			continue;
		tree.files[i].seed |= RIG_EDITED;
		tree.files[i].mtime_ns++;
		bytes += tree.files[i].size;
	}
	rig_reopen_memory(&rig);
	service.memory = rig.memory;
	known_fini(&service.known);
	known_init(&service.known);
	bytes_sent = service.counters.bytes_sent;
	edited = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, bytes);
	assert_committed(&edited);
	bytes_sent = service.counters.bytes_sent - bytes_sent;
	assert_int_equal(edited.told.bytes_sent, bytes_sent);
	if (bytes_sent * 50 > bytes)
		fail_msg("%lu bytes were sent for %lu that were edited", (unsigned long)bytes_sent, (unsigned long)bytes);
}

/* More than the window of what the gateway has: it is asked about a little of each window, and what it lacks all the same is sent. */
static void a_full_window_is_no_reason_to_ask_about_all(void **state)
{
	struct give first, other;
	uint64_t sent, asked;

	rig_tree_make(&tree, 1000, 16);
	first = give_once_as("app:other", &tree, NULL, &sent);
	service.window_bytes = 8 << 20;
	asked = service.counters.blobs_asked;
	other = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_true(digest_equal(&first.root, &other.root));
	assert_int_equal(other.told.bytes_sent, 0);
	assert_true(service.counters.blobs_asked > asked && service.counters.blobs_asked - asked <= 10 * GIVER_SAMPLE_AGAIN);
	for (uint32_t i = 0; i < tree.count; i += 250)
		tree.files[i].seed += 88888;
	other = give_once_as("app:third", &tree, &first.root, &sent);
	assert_false(digest_equal(&first.root, &other.root));
	assert_committed(&other);
}

/* All was touched: it is read again, and nothing of it is new. No answer of the gateway's wakes who waits for the window. */
static void what_is_known_does_not_fill_the_window(void **state)
{
	struct give first, touched;
	uint64_t sent;

	rig_tree_make(&tree, 1000, 19);
	first = give_once(&tree, NULL, &sent);
	service.window_bytes = 1 << 20;
	for (uint32_t i = 0; i < tree.count; i++)
		tree.files[i].mtime_ns++;
	touched = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_true(digest_equal(&first.root, &touched.root));
	assert_int_equal(touched.told.bytes_sent, 0);
}

static void count_received(struct gateway_parts *parts, void *context)
{
	*(uint64_t *)context = parts->cas.counters.blobs_received;
}

static uint64_t blobs_received(void)
{
	uint64_t count;

	gateway_thread_call(gateway, count_received, &count);
	return count;
}

/* Two machines with the same tree, the second when the first is well under way: it sends little more than its sample. */
static void what_a_sibling_sends_is_left_to_it(void **state)
{
	static struct give gives[2];
	struct rig_client *clients[2];

	rig_tree_make(&tree, 1000, 21);
	for (int i = 0; i < 2; i++) {
		clients[i] = rig_client_start(&rig, &tree, i ? "app:2" : "app:1");
		rig_carry(clients[i], rig_daemon_start(&rig));
		give_start(&gives[i], &rig.daemons[rig.daemons_count - 1], NULL, false);
		if (i == 0)
			rig_wait(&rig, blobs_received() > 4 * GIVER_SAMPLE);
	}
	for (int i = 0; i < 2; i++) {
		rig_until(&rig, &gives[i].rooted);
		assert_string_equal(gives[i].unfit, "");
		give_end(&gives[i]);
		assert_committed(&gives[i]);
		rig_client_end(clients[i]);
	}
	assert_true(digest_equal(&gives[0].root, &gives[1].root));
	assert_true(gives[1].told.bytes_sent < gives[0].told.bytes_sent / 4);
}

static void a_file_is_read_once(void **state)
{
	struct rig_client *clients[3];
	static struct give gives[3];
	uint64_t bytes = 0;

	rig_tree_make(&tree, 500, 3);
	for (int i = 0; i < 3; i++) {
		clients[i] = rig_client_start(&rig, &tree, "app:1");
		rig_carry(clients[i], rig_daemon_start(&rig));
	}
	for (int i = 0; i < 3; i++)
		give_start(&gives[i], &rig.daemons[i], NULL, false);
	for (int i = 0; i < 3; i++) {
		rig_until(&rig, &gives[i].rooted);
		assert_string_equal(gives[i].unfit, "");
	}
	for (int i = 0; i < 3; i++) {
		give_end(&gives[i]);
		assert_true(digest_equal(&gives[i].root, &gives[0].root));
		bytes += clients[i]->bytes_sent;
		rig_client_end(clients[i]);
	}
	assert_int_equal(bytes, tree_bytes());
	assert_committed(&gives[0]);
}

static void times_of_some(void **state)
{
	struct rig_client *client;
	struct context_request request = { 0 };
	struct buffer list = buffer_heap(4096);
	uint64_t previous = ENTRY_NUMBER_BEFORE;
	static struct give give;

	rig_tree_make(&tree, 50, 4);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, false);
	rig_until(&rig, &give.rooted);
	assert_int_equal(give.times_count, 0);
	number_list_put(&list, &previous, 0);
	number_list_put(&list, &previous, 17);
	number_list_put(&list, &previous, tree.count - 1);
	request.times = buffer_span(&list);
	give_ask(&give, &request);
	rig_wait(&rig, give.times_count == 3);
	assert_true(give.times[0] == tree.files[0].mtime_ns);
	assert_true(give.times[1] == tree.files[17].mtime_ns);
	assert_true(give.times[2] == tree.files[tree.count - 1].mtime_ns);
	number_list_put(&list, &previous, tree.count);   /* there is none */
	request.times = buffer_span(&list);
	give_ask(&give, &request);
	rig_until(&rig, &give.closed);
	assert_int_equal(give.status, GRPC_INVALID_ARGUMENT);
	buffer_fini(&list);
	rig_client_end(client);
}

/* Other bytes under the same size and time: only who distrusts times sees them. */
static void times_may_be_distrusted(void **state)
{
	struct give first, trusted, other;
	uint64_t sent, at = 3;

	rig_tree_make(&tree, 50, 10);
	first = give_once(&tree, NULL, &sent);
	while (tree.files[at].directory || tree.files[at].size == 0)
		at++;
	tree.files[at].seed += 77777;
	trusted = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, 0);
	assert_true(digest_equal(&first.root, &trusted.root));
	service.mtime_distrust = true;
	other = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_false(digest_equal(&first.root, &other.root));
	assert_committed(&other);
	assert_true(other.told.bytes_sent < 2 * tree.files[at].size + 20000);
}

/* The gateway is another one now, and the edge's store has nothing either: all is read again, and the root is the same. */
static void what_was_lost_is_brought_again(void **state)
{
	struct rig_client *client;
	struct context_request request = { 0 };
	uint8_t bytes[64];
	struct buffer list = buffer_over(bytes, sizeof(bytes));
	struct give first, again;
	static struct give give;
	uint64_t sent;

	rig_tree_make(&tree, 200, 5);
	first = give_once(&tree, NULL, &sent);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[rig.daemons_count - 1], &first.root, false);
	rig_until(&rig, &give.rooted);
	assert_int_equal(give.roots, 1);
	digest_list_put(&list, &first.root);
	request.missing = buffer_span(&list);
	give_ask(&give, &request);
	rig_wait(&rig, give.roots == 2);
	assert_true(digest_equal(&give.root, &first.root));
	give_end(&give);
	rig_client_end(client);

	pusher_close(&pusher);
	rig_wait(&rig, pusher_idle(&pusher));
	rig_lose_store(&rig);                    /* and its ring */
	upstream.ring = pusher.ring = rig.fixture.ring;
	service.memory = rig.memory;
	service.scope = rig.fixture.a;
	gateway_thread_stop(gateway, true);
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	snprintf(upstream.address.host, sizeof(upstream.address.host), "%s/sock", gateway_thread_path(gateway));
	again = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_true(digest_equal(&first.root, &again.root));
	assert_true(service.counters.files_read_again > 0);
	assert_committed(&again);
}

static void a_small_window_is_enough(void **state)
{
	struct give give;
	uint64_t sent;

	service.window_bytes = 1 << 20;
	rig_tree_make(&tree, 1000, 6);
	assert_true(tree_bytes() > 8 * service.window_bytes);
	give = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_committed(&give);
}

static void without_a_gateway_it_is_unfit(void **state)
{
	struct rig_client *client;
	static struct give give;

	rig_tree_make(&tree, 20, 7);
	snprintf(upstream.address.host, sizeof(upstream.address.host), "/nowhere/at/all");
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, false);
	rig_until(&rig, &give.closed);
	assert_int_equal(give.status, GRPC_OK);
	assert_int_equal(give.roots, 0);
	assert_non_null(strstr(give.unfit, "push"));
	assert_int_equal(service.counters.gives_unfit, 1);
	rig_client_end(client);
}

/* Entries before anything was pushed, each name once; contents that nobody else has. */
static void what_is_lacking_comes_ahead(void **state)
{
	struct rig_client *client;
	static struct give give;
	uint32_t files = 0;

	rig_tree_make(&tree, 1000, 9);
	give.ahead = true;
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, true);
	rig_wait(&rig, give.entries_ended && give.names > 0);
	rig_until(&rig, &give.rooted);
	assert_string_equal(give.unfit, "");
	assert_int_equal(give.entries, tree.count);
	for (uint32_t i = 0; i < tree.count; i++)
		files += !tree.files[i].directory;
	assert_int_equal(give.names, files);
	assert_int_equal(give.times_count, 0);
	give_end(&give);
	assert_committed(&give);
	rig_client_end(client);
	/* And the next time it has them: nothing goes ahead, but for the root. */
	client = rig_client_start(&rig, &tree, "app:2");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[1], NULL, true);
	rig_until(&rig, &give.rooted);
	assert_int_equal(give.entries, 0);
	assert_int_equal(give.names, 0);
	assert_int_equal(give.told.bytes_sent, 0);
	give_end(&give);
	rig_client_end(client);
}

static void give_urge(struct give *give, const uint32_t *numbers, size_t count)
{
	struct context_request request = { 0 };
	struct buffer list = buffer_heap(4096);
	uint64_t previous = ENTRY_NUMBER_BEFORE;

	for (size_t i = 0; i < count; i++)
		number_list_put(&list, &previous, numbers[i]);
	request.files = buffer_span(&list);
	give_ask(give, &request);
	buffer_fini(&list);
}

static uint32_t last_file(void)
{
	uint32_t i = tree.count;

	while (tree.files[--i].directory || tree.files[i].size == 0)
		;
	return i;
}

/*
 * What the executor waits for: a file at the end of the directory, which is read before others; and one whose content the edge
 * has from an earlier build, and would have sent last, with the root. The gateway has nothing of either.
 */
static void what_is_waited_for_comes_first(void **state)
{
	static struct rig_tree small;
	struct rig_client *client;
	static struct give give;
	uint32_t urgent[2] = { 0 };
	uint64_t sent;

	rig_tree_make(&tree, 1000, 14);
	(void)give_once(&tree, NULL, &sent);
	pusher_close(&pusher);
	rig_wait(&rig, pusher_idle(&pusher));
	gateway_thread_stop(gateway, true);
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	snprintf(upstream.address.host, sizeof(upstream.address.host), "%s/sock", gateway_thread_path(gateway));
	rig_tree_make(&small, 5, 18);
	(void)give_once_as("app:warm", &small, NULL, &sent);     /* the new gateway is connected */
	known_fini(&service.known);
	known_init(&service.known);
	/* Of the first files each is as it was, the others have changed; one of those that have not is waited for. */
	for (uint32_t i = 100; i < tree.count; i++)
		if (!tree.files[i].directory) {
			tree.files[i].seed += 77777;
			tree.files[i].mtime_ns++;
		}
	while (tree.files[urgent[0]].directory || tree.files[urgent[0]].size == 0)
		urgent[0]++;
	urgent[1] = last_file();
	give.ahead = true;
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[rig.daemons_count - 1], NULL, true);
	rig_wait(&rig, give.entries_ended);
	give_urge(&give, urgent, 2);
	rig_until(&rig, &give.rooted);
	assert_string_equal(give.unfit, "");
	assert_true(give.named[urgent[0]] && give.named[urgent[1]]);
	assert_true(give.place[urgent[0]] < 700 && give.place[urgent[1]] < 700);
	assert_int_equal(service.counters.files_urged, 2);
	give_end(&give);
	assert_committed(&give);
	rig_client_end(client);
}

/* Nor is a wrong number taken. */
static void what_is_no_entry_is_not_waited_for(void **state)
{
	struct rig_client *client;
	static struct give give;
	uint32_t beyond;

	rig_tree_make(&tree, 1000, 15);
	beyond = tree.count;
	give.ahead = true;
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, true);
	rig_wait(&rig, give.entries_ended);
	give_urge(&give, &beyond, 1);
	rig_until(&rig, &give.closed);
	assert_int_equal(give.status, GRPC_INVALID_ARGUMENT);
	rig_client_end(client);
}

/* Either end goes away in the middle: nothing is left. */
static void ends_that_vanish_leave_nothing(void **state)
{
	struct rig_client *client;
	static struct give give;

	rig_tree_make(&tree, 1000, 8);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, false);
	rig_wait(&rig, client->bytes_sent > 100000);
	call_cancel(&give.call);
	rig_until(&rig, &give.closed);
	rig_wait(&rig, service.open == 0);
	give_start(&give, &rig.daemons[0], NULL, false);
	rig_wait(&rig, service.open == 1);
	rig_client_vanish(client);
	rig_until(&rig, &give.closed);
	rig_wait(&rig, service.open == 0);
}

/* ---- set-up ---- */

static int on_call(struct rig *of, struct session *session, struct stream *stream, const struct grpc_request *head)
{
	return span_is(head->path, SLUICE_GIVE) ? giver_open(&service, session, 1000, stream, head) : SESSION_PASS;
}

static int setup(void **state)
{
	struct client_config config = { .fd = -1, .address.local = true };
	char why[256];

	rig_init(&rig);
	rig.on_call = on_call;
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	snprintf(config.address.host, sizeof(config.address.host), "%s/sock", gateway_thread_path(gateway));
	assert_int_equal(upstream_init(&upstream, rig.fixture.ring, &config, why, sizeof(why)), 0);
	pusher = (struct pusher){ .ring = rig.fixture.ring, .upstream = &upstream };
	pusher_init(&pusher);
	service = (struct giver_service){
		.cas = &rig.cas, .scope = rig.fixture.a, .memory = rig.memory, .pusher = &pusher, .directory = "/var/tmp",
		.window_bytes = 64u << 20,
	};
	known_init(&service.known);
	sames_init(&service.sames, 7);
	list_init(&service.givers);
	return 0;
}

static int teardown(void **state)
{
	rig_wait(&rig, service.open == 0);
	pusher_close(&pusher);
	rig_wait(&rig, pusher_idle(&pusher));
	known_fini(&service.known);
	sames_fini(&service.sames);
	upstream_close(&upstream);
	rig_wait(&rig, upstream_idle(&upstream));
	upstream_fini(&upstream);
	rig_fini(&rig);
	gateway_thread_stop(gateway, true);
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_given_is_committed),
		TEST(what_is_known_is_neither_read_nor_sent),
		TEST(what_others_pushed_is_not_asked_about),
		TEST(what_was_edited_is_told_by_what_it_was),
		TEST(a_full_window_is_no_reason_to_ask_about_all),
		TEST(what_is_known_does_not_fill_the_window),
		TEST(what_a_sibling_sends_is_left_to_it),
		TEST(a_file_is_read_once),
		TEST(times_of_some),
		TEST(times_may_be_distrusted),
		TEST(what_was_lost_is_brought_again),
		TEST(a_small_window_is_enough),
		TEST(without_a_gateway_it_is_unfit),
		TEST(what_is_lacking_comes_ahead),
		TEST(what_is_waited_for_comes_first),
		TEST(what_is_no_entry_is_not_waited_for),
		TEST(ends_that_vanish_leave_nothing),
	};

	if (argc > 1)
		fixture_choose_ring(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
