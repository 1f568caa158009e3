/* The client's side of Execute. */
#include "gateway/cmd/executing.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "chunker/sha256.h"
#include "gateway/cmd/session.h"
#include "gateway/context/upload.h"

#define EXECUTING_ACTION_BYTES_MAX (1u << 20)

int executing_upload(struct client *client, const struct command *command_of, const struct action_wish *wish, struct digest *digest)
{
	struct buffer command = buffer_heap(EXECUTING_ACTION_BYTES_MAX), action = buffer_heap(EXECUTING_ACTION_BYTES_MAX);
	struct digest command_digest = { 0 }, digests[2];
	enum grpc_status code = GRPC_OK;
	int status = STATUS_OK, r = -E2BIG;
	struct span blobs[2];
	char why[1024] = "the command and its variables are longer than 1 MiB";

	if (action_command(wish, &command)) {
		command_digest.size = command.size;
		sha256_once(command.data, command.size, command_digest.hash);
		if (action_encode(wish, &command_digest, &action)) {
			blobs[0] = buffer_span(&command);
			blobs[1] = buffer_span(&action);
			r = upload_blobs(client, blobs, digests, 2, &code, why, sizeof(why));
		}
	}
	if (r == UPLOAD_INTERRUPTED)
		status = STATUS_INTERRUPTED;
	else if (r)
		status = session_failed(command_of, r, code, why);
	else
		*digest = digests[1];
	buffer_fini(&command);
	buffer_fini(&action);
	return status;
}

/* A path has any bytes, a header field has not, nor a space at its end: what is no plain character, and `%`, is `%XX`. */
static void put_field(struct buffer *out, const char *text)
{
	char escaped[4];

	for (; *text; text++) {
		if (*text > ' ' && *text < 0x7f && *text != '%') {
			buffer_put(out, text, 1);
		} else {
			snprintf(escaped, sizeof(escaped), "%%%02X", (unsigned char)*text);
			buffer_put_text(out, escaped);
		}
	}
}

int executing_open(struct client_call **call, struct client *client, const struct command *command, const struct executing_wish *wish)
{
	struct reapi_execute_request request = { .action_digest = wish->action, .skip_cache_lookup = wish->skip_cache };
	struct header metadata[2];
	size_t count = 0;
	uint8_t storage[256], directory_storage[3 * PATH_MAX];
	struct buffer bytes = buffer_over(storage, sizeof(storage));
	struct buffer directory = buffer_over(directory_storage, sizeof(directory_storage));
	int r;

	message_encode(&reapi_execute_request_type, &bytes, &request);
	if (wish->stream)
		metadata[count++] = (struct header){ .name = span_text("sluice-output"), .value = span_text("stream") };
	if (wish->directory) {
		put_field(&directory, wish->directory);
		metadata[count++] = (struct header){ .name = span_text("sluice-directory"), .value = buffer_span(&directory) };
	}
	r = client_call_open(call, client, REAPI_EXECUTE, metadata, count);
	if (r < 0)
		return session_failed(command, r, GRPC_OK, client_error(client));
	r = client_send(*call, buffer_span(&bytes), 0);
	if (r == CLIENT_OK)
		client_send_end(*call);
	return r == CLIENT_INTERRUPTED ? STATUS_INTERRUPTED : STATUS_OK;         /* another end shows when it is read */
}

/* The one output directory without a path is the tree of all that changed. */
static void read_changes(struct executing_news *news)
{
	struct reapi_output_directory directory;
	struct message_cursor cursor = { 0 };
	struct span element;

	while (message_list_next(&news->result.output_directories, &cursor, &element))
		if (message_decode(&reapi_output_directory_type, element, &directory) && directory.path.size == 0) {
			news->changes = directory.root_directory_digest;
			news->changed = true;
		}
}

static bool read_response(struct executing_news *news, struct span bytes)
{
	struct reapi_execute_response response;
	struct reapi_status status = { 0 };

	if (!message_decode(&reapi_execute_response_type, bytes, &response) ||
	    (response.status.data && !message_decode(&reapi_status_type, response.status, &status)))
		return false;
	news->done = true;
	news->cached = response.cached_result;
	news->status = status.code > GRPC_UNAUTHENTICATED ? GRPC_UNKNOWN : (enum grpc_status)status.code;
	news->why = span_is(status.message, REAPI_TEXT_TIMED_OUT) ? span_text("the action ran longer than its time-out") : status.message;
	news->has_result = response.result.data;
	if (news->has_result && !message_decode(&reapi_action_result_type, response.result, &news->result))
		return false;
	read_changes(news);
	return news->has_result || news->status != GRPC_OK;
}

/* Output is written to our own descriptor of that number. */
static bool read_output(struct executing_news *news, struct span bytes)
{
	struct execute_output *output = &news->output;

	return message_decode(&execute_output_type, bytes, output) &&
	       (output->data.size == 0 || output->stream == STDOUT_FILENO || output->stream == STDERR_FILENO);
}

bool executing_read(struct executing_news *news, struct span message)
{
	struct reapi_execute_metadata metadata;
	struct reapi_operation operation;
	struct reapi_any any;

	*news = (struct executing_news){ 0 };
	if (!message_decode(&reapi_operation_type, message, &operation))
		return false;
	if (operation.metadata.data && message_decode(&reapi_any_type, operation.metadata, &any) &&
	    message_decode(&reapi_execute_metadata_type, any.value, &metadata)) {
		news->stage = metadata.stage;
		if (metadata.sluice_output.data && !read_output(news, metadata.sluice_output))
			return false;
	}
	if (!operation.done)
		return true;
	return message_decode(&reapi_any_type, operation.response, &any) && read_response(news, any.value);
}
