/* fsutil's send.go, without files. */
#include "perf/builds_core/context.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/list.h"
#include "proto/fsutil.h"

#define DIRECTORY_FILES   64u            /* files a directory */
#define MESSAGE_MAX       65536u
#define PATH_BYTES_MAX    32u
#define STAT_BYTES_MAX    128u
#define TIME_NS           1700000000000000000ll
#define MODE_FILE         0644u
#define MODE_DIRECTORY    (FSUTIL_MODE_DIRECTORY | 0755u)

static const char dockerfile[] = "FROM scratch\nCOPY . /ctx\n";

struct sending {
	struct call call;
	struct context context;
	unsigned *open;
	bool recipe;                     /* a Dockerfile, and nothing else */
	uint32_t entries, told;          /* STATs; told == entries: the end of them comes next */
	bool all_told, finished;         /* finished: the other side has said FIN */
	uint32_t *wanted;                /* ids, as asked for */
	uint32_t wanted_count, wanted_taken;
	uint32_t offset;                 /* of the first that is not yet taken */
};

/* ---- what there is ---- */

static uint32_t entries_of(const struct context *context)
{
	return context->files + (context->files + DIRECTORY_FILES - 1) / DIRECTORY_FILES;
}

static bool is_directory(uint32_t entry)
{
	return entry % (DIRECTORY_FILES + 1) == 0;
}

static void entry_stat(const struct sending *sending, uint32_t entry, char path[static PATH_BYTES_MAX], struct fsutil_stat *stat)
{
	uint32_t directory = entry / (DIRECTORY_FILES + 1), file = entry % (DIRECTORY_FILES + 1);

	*stat = (struct fsutil_stat){ .mode = MODE_FILE, .size = sending->context.file_bytes, .mod_time_ns = TIME_NS };
	if (sending->recipe) {
		snprintf(path, PATH_BYTES_MAX, "Dockerfile");
		stat->size = sizeof(dockerfile) - 1;
	} else if (is_directory(entry)) {
		snprintf(path, PATH_BYTES_MAX, "d%05u", directory);
		stat->mode = MODE_DIRECTORY;
		stat->size = 0;
	} else {
		snprintf(path, PATH_BYTES_MAX, "d%05u/f%03u", directory, file);
		stat->mod_time_ns += (int64_t)(sending->context.seed % 1000000007u);
	}
	stat->path = span_text(path);
}

/* No two files have the same bytes, whatever their context; within one they differ from block to block. */
static struct span content(const struct sending *sending, uint32_t entry, uint32_t offset, uint8_t block[static FSUTIL_DATA_BYTES_MAX])
{
	uint32_t left = sending->context.file_bytes - offset;
	uint32_t size = left < FSUTIL_DATA_BYTES_MAX ? left : FSUTIL_DATA_BYTES_MAX;
	uint64_t state = (sending->context.seed + 1) * 0x9e3779b97f4a7c15u ^ ((uint64_t)entry << 32 | offset);

	if (sending->recipe)
		return offset ? (struct span){ 0 } : span_make(dockerfile, sizeof(dockerfile) - 1);
	for (uint32_t i = 0; i < size; i += 8) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		memcpy(block + i, &state, 8);
	}
	return span_make(block, size);
}

/* ---- saying it ---- */

/* False: nothing more fits now. */
static bool send_stat(struct sending *sending)
{
	char path[PATH_BYTES_MAX];
	uint8_t storage[STAT_BYTES_MAX], head[FSUTIL_HEAD_BYTES_MAX];
	struct buffer encoded = buffer_over(storage, sizeof(storage));
	struct fsutil_stat stat;
	struct span parts[2];

	if (sending->told == sending->entries)
		return call_send(&sending->call, span_make("", 0), 0) == CALL_SENT;
	entry_stat(sending, sending->told, path, &stat);
	fsutil_stat_put(&encoded, &stat);
	CHECK(!encoded.failed);
	parts[0] = span_make(head, fsutil_write_stat_head(head, encoded.size));
	parts[1] = buffer_span(&encoded);
	return call_send_parts(&sending->call, parts, 2) == CALL_SENT;
}

static bool send_data(struct sending *sending)
{
	uint32_t entry = sending->wanted[sending->wanted_taken];
	uint8_t block[FSUTIL_DATA_BYTES_MAX + 8], head[FSUTIL_HEAD_BYTES_MAX];
	struct span data = { 0 }, parts[2];

	if (sending->recipe || sending->offset < sending->context.file_bytes)
		data = content(sending, entry, sending->offset, block);
	if (data.size == 0) {
		if (call_send(&sending->call, span_make(head, fsutil_write_data_end(head, entry)), 0) != CALL_SENT)
			return false;
		sending->wanted_taken++;
		sending->offset = 0;
		return true;
	}
	parts[0] = span_make(head, fsutil_write_data_head(head, entry, data.size));
	parts[1] = data;
	if (call_send_parts(&sending->call, parts, 2) != CALL_SENT)
		return false;
	sending->offset += (uint32_t)data.size;
	return true;
}

static void sending_step(struct sending *sending)
{
	uint8_t fin[FSUTIL_HEAD_BYTES_MAX];

	while (call_has_room(&sending->call)) {
		if (!sending->all_told) {
			if (!send_stat(sending))
				return;
			sending->all_told = sending->told == sending->entries;
			sending->told += !sending->all_told;
		} else if (sending->wanted_taken < sending->wanted_count) {
			if (!send_data(sending))
				return;
		} else if (sending->finished) {
			call_send(&sending->call, span_make(fin, fsutil_write_fin(fin)), 0);
			call_finish(&sending->call, GRPC_OK, NULL);
			return;
		} else {
			return;
		}
	}
}

/* ---- the call ---- */

static void sending_on_message(struct call *call, struct span message)
{
	struct sending *sending = container_of(call, struct sending, call);
	struct fsutil_packet packet;

	if (!fsutil_packet_decode(message, &packet)) {
		call_finish(call, GRPC_INVALID_ARGUMENT, "malformed packet");
		return;
	}
	if (packet.type == FSUTIL_FIN)
		sending->finished = true;
	else if (packet.type == FSUTIL_REQ && packet.id < sending->entries && sending->wanted_count < sending->entries)
		sending->wanted[sending->wanted_count++] = packet.id;
	else
		call_finish(call, GRPC_INVALID_ARGUMENT, "a packet that makes no sense");
	sending_step(sending);
}

static void sending_on_writable(struct call *call)
{
	sending_step(container_of(call, struct sending, call));
}

static void sending_on_end(struct call *call)
{
}

static void sending_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct sending *sending = container_of(call, struct sending, call);

	(*sending->open)--;
	call_fini(call);
	free(sending->wanted);
	free(sending);
}

static const struct call_events sending_events = { .on_message = sending_on_message, .on_end = sending_on_end,
	                                           .on_writable = sending_on_writable, .on_closed = sending_on_closed };

int context_send(const struct context *context, struct stream *stream, const struct grpc_request *head, unsigned *open)
{
	struct sending *sending = calloc(1, sizeof(*sending));

	if (!sending)
		return -ENOMEM;
	sending->context = *context;
	sending->open = open;
	sending->entries = entries_of(context);
	for (size_t i = 0; i < head->headers_count; i++) {
		const struct header *header = &head->headers[i];

		sending->recipe |= span_is(header->name, "dir-name") && span_is(header->value, "dockerfile");
		if (span_is(header->name, "followpaths") && span_is(header->value, ".dockerignore"))
			sending->entries = 0;
	}
	if (sending->recipe)
		sending->entries = 1;
	sending->wanted = malloc((sending->entries + 1) * sizeof(*sending->wanted));
	if (!sending->wanted) {
		free(sending);
		return -ENOMEM;
	}
	(*open)++;
	call_accept(&sending->call, stream, head, MESSAGE_MAX, &sending_events, sending);
	sending_step(sending);
	return 0;
}
