#include "tests/unit/edge/giver_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/context/download.h"
#include "proto/recipe.h"
#include "proto/tree.h"

struct rig rig;
struct rig_tree tree;
struct gateway_thread *gateway;
struct upstream upstream;
struct pusher pusher;
struct giver_service service;

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
	struct time_list list = { 0 };
	struct span root;
	int64_t time;

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
		give->passing = response.passing;
		give->rooted = true;
	}
	while (response.times.size && time_list_next(&response.times, &list, &time)) {
		assert_true(give->times_count < RIG_FILES_MAX);
		give->times[give->times_count++] = time;
	}
	assert_int_equal(response.times.size, 0);
}

static void give_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct give *give = container_of(call, struct give, call);

	give->closed = give->rooted = true;
	give->status = status;
	call_fini(call);
}

static const struct call_events give_events = { .on_message = give_on_message, .on_closed = give_on_closed };

void give_ask(struct give *give, const struct context_request *request)
{
	struct buffer out = buffer_heap(1 << 20);

	message_encode(&context_request_type, &out, request);
	assert_int_equal(call_send(&give->call, buffer_span(&out), 0), CALL_SENT);
	buffer_fini(&out);
}

void give_start(struct give *give, struct rig_daemon *daemon, const struct digest *known, bool times)
{
	const struct header metadata[] = { { span_text("dir-name"), span_text(give->directory ? give->directory : "context"), false },
		                           { span_text("exclude-patterns"), span_text("*.tmp"), false },
		                           { span_text("followpaths"), span_text(give->followed ? give->followed : ""), false } };
	uint8_t bytes[64];
	struct buffer list = buffer_over(bytes, sizeof(bytes)), nested = buffer_heap(4096);
	struct context_ask ask = { .times = times, .ahead = give->ahead };
	struct context_request request = { 0 };

	*give = (struct give){ .ahead = give->ahead, .directory = give->directory, .followed = give->followed };
	assert_int_equal(call_start(&give->call, daemon->nest.h2, SLUICE_GIVE, span_text("localhost"), 0, metadata,
	                            give->followed ? 3 : 2, 4 << 20, &give_events, give), 0);
	if (known)
		digest_list_put(&list, known);
	ask.known = buffer_span(&list);
	message_encode(&context_ask_type, &nested, &ask);
	request.ask = span_make(nested.data ? nested.data : (const uint8_t *)"", nested.size);
	give_ask(give, &request);
	buffer_fini(&nested);
}

void give_end(struct give *give)
{
	call_end(&give->call);
	rig_until(&rig, &give->closed);
	assert_int_equal(give->status, GRPC_OK);
}

struct give give_once_as(const char *shared_key, struct rig_tree *of, const struct digest *known, uint64_t *bytes_sent)
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

struct give give_once(struct rig_tree *of, const struct digest *known, uint64_t *bytes_sent)
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

void assert_committed(const struct give *give)
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

uint64_t tree_bytes(void)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < tree.count; i++)
		bytes += tree.files[i].directory ? 0 : tree.files[i].size;
	return bytes;
}

/* ---- set-up ---- */

static int on_call(struct rig *of, struct session *session, struct stream *stream, const struct grpc_request *head)
{
	return span_is(head->path, SLUICE_GIVE) ? giver_open(&service, session, 1000, stream, head) : SESSION_PASS;
}

int giver_setup(void **state)
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

int giver_teardown(void **state)
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

void giver_choose(int argc, char **argv)
{
	if (argc > 1)
		fixture_choose_ring(argv[1]);
}
