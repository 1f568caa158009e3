/* A tree of a rig as blobs, and the edge's side of Context/Give. */
#include "tests/unit/session/edge_stand_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/recipe.h"
#include "proto/tree.h"

#define CHUNK_BYTES 100000u
#define TIMES_A_MESSAGE 300              /* several messages, so that each begins anew */

/* ---- blobs ---- */

static struct digest add_blob(struct stand_in *edge, const void *data, size_t size)
{
	struct blob *blob = &edge->blobs[edge->blobs_count++];

	assert_true(edge->blobs_count <= STAND_IN_BLOBS_MAX);
	blob->data = malloc(size + 1);
	if (size)
		memcpy(blob->data, data, size);
	blob_digest(blob, size);
	return blob->digest;
}

static void add_file(struct stand_in *edge, const struct rig_file *file, struct tree_node *node)
{
	const uint64_t size = file->odd ? file->sent_size : file->size;
	uint8_t *bytes = malloc(size + 1);
	struct buffer recipe = buffer_heap(RECIPE_BYTES_MAX);

	rig_content(file->seed, 0, bytes, size);
	node->file_size = size;
	edge->files++;
	if (size <= RECIPE_WHOLE_MAX) {
		node->digest = add_blob(edge, bytes, size);
	} else {
		recipe_begin(&recipe, &(struct recipe_head){ .profile = 1, .file_size = size });
		for (uint64_t at = 0; at < size; at += CHUNK_BYTES) {
			uint64_t rest = size - at;
			struct digest chunk = add_blob(edge, bytes + at, rest < CHUNK_BYTES ? rest : CHUNK_BYTES);

			recipe_add(&recipe, &chunk);
		}
		node->recipe = true;
		node->digest = add_blob(edge, recipe.data, recipe.size);
	}
	buffer_fini(&recipe);
	free(bytes);
}

static struct digest add_directory(struct stand_in *edge, struct tree_node *nodes, size_t count)
{
	struct tree_directory head = { .mode = 0755 };
	struct buffer encoded = buffer_heap(TREE_DIRECTORY_BYTES_MAX);
	struct digest digest;

	assert_int_equal(tree_encode(&encoded, &head, nodes, count), 0);
	digest = add_blob(edge, encoded.data, encoded.size);
	buffer_fini(&encoded);
	return digest;
}

/* A rig's tree has files at the top, and directories of files. */
void stand_in_init(struct stand_in *edge, struct rig *rig, const struct rig_tree *tree)
{
	static struct tree_node top[RIG_FILES_MAX], below[RIG_FILES_MAX];
	size_t top_count = 0, below_count = 0;

	memset(edge, 0, sizeof(*edge));
	edge->rig = rig;
	edge->tree = tree;
	edge->missing = buffer_heap(SIZE_MAX);
	for (uint32_t i = 0; i < tree->count; i++) {
		const struct rig_file *file = &tree->files[i];
		const char *slash = strchr(file->path, '/');
		struct tree_node node = { .kind = file->directory ? TREE_DIRECTORY : TREE_FILE, .mode = 0644,
			                  .name = span_text(slash ? slash + 1 : file->path), .hardlink = span_text(file->link) };

		if (!file->directory)
			add_file(edge, file, &node);
		edge->names[i] = (struct named_entry){ .number = i, .digest = node.digest, .recipe = node.recipe,
			                               .file_size = node.file_size };
		if (slash)
			below[below_count++] = node;
		else
			top[top_count++] = node;
		if (below_count && (i + 1 == tree->count || !strchr(tree->files[i + 1].path, '/'))) {
			top[top_count - 1].digest = add_directory(edge, below, below_count);
			below_count = 0;
		}
	}
	edge->root = add_directory(edge, top, top_count);
}

void stand_in_fini(struct stand_in *edge)
{
	assert_false(edge->open);
	for (uint32_t i = 0; i < edge->blobs_count; i++)
		free(edge->blobs[i].data);
	buffer_fini(&edge->missing);
	call_fini(&edge->call);
}

void stand_in_push(struct stand_in *edge, bool (*wants)(const struct stand_in *edge, uint32_t blob))
{
	for (uint32_t i = 0; i < edge->blobs_count; i++)
		if (!wants || wants(edge, i))
			assert_int_equal(put_blob(&edge->rig->fixture, &edge->rig->fixture.a, &edge->blobs[i]), STORE_OK);
}

void stand_in_push_missing(struct stand_in *edge)
{
	struct span rest = buffer_span(&edge->missing);
	struct digest digest;

	while (digest_list_next(&rest, &digest))
		for (uint32_t i = 0; i < edge->blobs_count; i++)
			if (digest_equal(&edge->blobs[i].digest, &digest))
				assert_int_equal(put_blob(&edge->rig->fixture, &edge->rig->fixture.a, &edge->blobs[i]), STORE_OK);
	assert_int_equal(rest.size, 0);
	buffer_clear(&edge->missing);
}

/* ---- Context/Give ---- */

static int try_say(struct stand_in *edge, const struct context_response *response)
{
	struct buffer message = buffer_heap(CONTEXT_MESSAGE_BYTES_MAX);
	int r;

	message_encode(&context_response_type, &message, response);
	assert_false(message.failed);
	r = call_send(&edge->call, buffer_span(&message), 1);
	buffer_fini(&message);
	return r;
}

static void say(struct stand_in *edge, const struct context_response *response)
{
	assert_int_equal(try_say(edge, response), CALL_SENT);
}

bool stand_in_try_times(struct stand_in *edge, struct span times)
{
	return try_say(edge, &(struct context_response){ .times = times }) == CALL_SENT;
}

void stand_in_say_root(struct stand_in *edge)
{
	uint8_t storage[128], list_storage[64];
	struct buffer encoded = buffer_over(storage, sizeof(storage)), list = buffer_over(list_storage, sizeof(list_storage));
	struct context_root root = { .entries = edge->tree->count + edge->lies, .files = edge->files,
		                     .files_read = edge->files_read, .bytes_sent = edge->bytes_sent };

	digest_list_put(&list, &edge->root);
	root.root = buffer_span(&list);
	message_encode(&context_root_type, &encoded, &root);
	say(edge, &(struct context_response){ .root = buffer_span(&encoded) });
}

void stand_in_say_times(struct stand_in *edge)
{
	struct buffer list = buffer_heap(CONTEXT_MESSAGE_BYTES_MAX);
	struct time_list times;

	for (uint32_t i = 0; i < edge->tree->count; i++) {
		if (i % TIMES_A_MESSAGE == 0)
			time_list_begin(&list, &times, 1);
		time_list_put(&list, &times, edge->tree->files[i].mtime_ns);
		if ((i + 1) % TIMES_A_MESSAGE && i + 1 < edge->tree->count)
			continue;
		say(edge, &(struct context_response){ .times = buffer_span(&list) });
		buffer_clear(&list);
	}
	buffer_fini(&list);
}

#define ENTRIES_A_MESSAGE 100

static void say_entries(struct stand_in *edge)
{
	struct buffer list = buffer_heap(CONTEXT_MESSAGE_BYTES_MAX), encoded = buffer_heap(SIZE_MAX);

	for (uint32_t i = 0; i < edge->tree->count; i++) {
		const struct rig_file *file = &edge->tree->files[i];
		struct fsutil_stat stat = {
			.path = span_text(file->path), .linkname = span_text(file->link),
			.size = file->directory ? 0 : (int64_t)file->size, .mod_time_ns = file->mtime_ns,
			.mode = file->directory ? FSUTIL_MODE_DIRECTORY | 0755 : 0644,
		};

		buffer_clear(&encoded);
		fsutil_stat_put(&encoded, &stat);
		entry_list_put(&list, buffer_span(&encoded));
		if ((i + 1) % ENTRIES_A_MESSAGE && i + 1 < edge->tree->count)
			continue;
		say(edge, &(struct context_response){ .entries = buffer_span(&list) });
		buffer_clear(&list);
	}
	say(edge, &(struct context_response){ .entries = span_text("") });
	buffer_fini(&list);
	buffer_fini(&encoded);
}

void stand_in_name(struct stand_in *edge, uint32_t first, uint32_t count)
{
	struct buffer list = buffer_heap(CONTEXT_MESSAGE_BYTES_MAX);
	uint64_t previous = 0;

	for (uint32_t i = first; i < first + count && i < edge->tree->count; i++)
		if (!edge->tree->files[i].directory && (!edge->tree->files[i].link[0] || edge->names_links))
			name_list_put(&list, &previous, &edge->names[i]);
	say(edge, &(struct context_response){ .named = buffer_span(&list) });
	buffer_fini(&list);
}

void stand_in_say_same(struct stand_in *edge, uint32_t count)
{
	say(edge, &(struct context_response){ .same = count });
}

void stand_in_say_unfit(struct stand_in *edge)
{
	say(edge, &(struct context_response){ .unfit = span_text(edge->unfit), .passing = edge->passing });
	call_finish(&edge->call, GRPC_OK, NULL);
}

static void take_ask(struct stand_in *edge, struct span message)
{
	struct context_ask ask;

	assert_true(message_decode(&context_ask_type, message, &ask));
	edge->asks++;
	edge->asked_times = ask.times;
	edge->asked_ahead = ask.ahead;
	edge->asked_same = ask.same;
	edge->known = (struct digest){ 0 };
	if (ask.known.size)
		assert_true(digest_list_next(&ask.known, &edge->known));
	if (edge->refuses) {
		stream_reset(edge->call.stream, 7);      /* REFUSED_STREAM */
	} else if (edge->same && ask.same) {
		stand_in_say_same(edge, edge->same);
	} else if (edge->unfit) {
		stand_in_say_unfit(edge);
	} else if (edge->ahead && ask.ahead) {
		say_entries(edge);
	} else if (!edge->silent) {
		stand_in_say_root(edge);
		if (ask.times && !edge->slow_times)
			stand_in_say_times(edge);
	}
}

static void take_wanted(struct stand_in *edge, struct span numbers)
{
	struct buffer list = buffer_heap(CONTEXT_MESSAGE_BYTES_MAX);
	uint64_t number = ENTRY_NUMBER_BEFORE;
	struct time_list times;

	time_list_begin(&list, &times, 1);
	while (number_list_next(&numbers, &number)) {
		assert_true(number < edge->tree->count);
		time_list_put(&list, &times, edge->tree->files[number].mtime_ns);
		edge->wanted++;
	}
	assert_int_equal(numbers.size, 0);
	say(edge, &(struct context_response){ .times = buffer_span(&list) });
	buffer_fini(&list);
}

static void take_urged(struct stand_in *edge, struct span numbers)
{
	uint64_t number = ENTRY_NUMBER_BEFORE;

	while (number_list_next(&numbers, &number)) {
		assert_true(number < edge->tree->count && !edge->tree->files[number].directory);
		edge->urged++;
		edge->urged_last = number;
	}
	assert_int_equal(numbers.size, 0);
}

static void edge_on_message(struct call *call, struct span message)
{
	struct stand_in *edge = call->owner;
	struct context_request request;

	assert_true(message_decode(&context_request_type, message, &request));
	if (request.ask.data)
		take_ask(edge, request.ask);
	if (request.times.data)
		take_wanted(edge, request.times);
	if (request.files.data)
		take_urged(edge, request.files);
	if (request.missing.data)
		buffer_put(&edge->missing, request.missing.data, request.missing.size);
}

static void edge_on_end(struct call *call)
{
	struct stand_in *edge = call->owner;

	edge->ended = true;
	call_finish(call, GRPC_OK, NULL);
}

static void edge_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct stand_in *edge = call->owner;

	edge->open = false;
}

static const struct call_events edge_events = { .on_message = edge_on_message, .on_end = edge_on_end, .on_closed = edge_on_closed };

static void copy_header(char *to, size_t to_size, struct span value)
{
	snprintf(to, to_size, "%.*s", (int)value.size, (const char *)value.data);
}

void stand_in_give(struct rig_client *client, struct stream *stream, const struct grpc_request *head)
{
	struct stand_in *edge = client->giver;

	assert_false(edge->open);
	call_fini(&edge->call);
	edge->open = true;
	edge->ended = false;
	for (size_t i = 0; i < head->headers_count; i++) {
		if (span_is(head->headers[i].name, "dir-name"))
			copy_header(edge->directory, sizeof(edge->directory), head->headers[i].value);
		if (span_is(head->headers[i].name, "exclude-patterns"))
			copy_header(edge->pattern, sizeof(edge->pattern), head->headers[i].value);
	}
	call_accept(&edge->call, stream, head, CONTEXT_MESSAGE_BYTES_MAX, &edge_events, edge);
}
