/* fsutil's receive.go, without a disk. */
#include "perf/builds_core/receiving.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/list.h"
#include "proto/fsutil.h"

#define PATH        "/moby.filesync.v1.FileSync/DiffCopy"
#define MESSAGE_MAX (16u << 20)

static void receiving_step(struct receiving *receiving)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	while (receiving->waiting_taken < receiving->waiting_count) {
		uint32_t id = receiving->waiting[receiving->waiting_taken];

		if (call_send(&receiving->call, span_make(packet, fsutil_write_req(packet, id)), 0) != CALL_SENT)
			return;
		receiving->waiting_taken++;
	}
	if (!receiving->told || receiving->come < receiving->asked || receiving->finished)
		return;
	if (call_send(&receiving->call, span_make(packet, fsutil_write_fin(packet)), 0) == CALL_SENT)
		receiving->finished = true;
}

static void want(struct receiving *receiving, uint32_t id)
{
	if (receiving->waiting_count == receiving->waiting_room) {
		receiving->waiting_room = receiving->waiting_room ? 2 * receiving->waiting_room : 64;
		receiving->waiting = realloc(receiving->waiting, receiving->waiting_room * sizeof(*receiving->waiting));
		CHECK(receiving->waiting);
	}
	receiving->waiting[receiving->waiting_count++] = id;
	receiving->asked++;
}

static void receiving_on_message(struct call *call, struct span message)
{
	struct receiving *receiving = container_of(call, struct receiving, call);
	struct fsutil_packet packet;
	struct fsutil_stat stat;

	if (!fsutil_packet_decode(message, &packet)) {
		call_cancel(call);
		return;
	}
	if (packet.type == FSUTIL_STAT && !packet.has_stat) {
		receiving->told = true;
	} else if (packet.type == FSUTIL_STAT) {
		if (!fsutil_stat_decode(packet.stat, &stat)) {
			call_cancel(call);
			return;
		}
		if (fsutil_stat_has_data(&stat))
			want(receiving, receiving->entries);
		receiving->entries++;
	} else if (packet.type == FSUTIL_DATA) {
		receiving->bytes += packet.data.size;
		receiving->come += packet.data.size == 0;
	} else if (packet.type == FSUTIL_FIN) {
		call_end(call);
		return;
	} else {
		call_cancel(call);
		return;
	}
	receiving_step(receiving);
}

static void receiving_on_writable(struct call *call)
{
	receiving_step(container_of(call, struct receiving, call));
}

static void receiving_on_end(struct call *call)
{
}

static void receiving_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct receiving *receiving = container_of(call, struct receiving, call);
	const char *failure = NULL;

	if (status != GRPC_OK)
		failure = "the context's transfer broke";
	else if (!receiving->finished)
		failure = "the context's transfer ended early";
	call_fini(call);
	free(receiving->waiting);
	receiving->waiting = NULL;
	receiving->open = false;
	receiving->on_done(receiving, failure);
}

static const struct call_events receiving_events = { .on_message = receiving_on_message, .on_end = receiving_on_end,
	                                             .on_writable = receiving_on_writable, .on_closed = receiving_on_closed };

int receiving_start(struct receiving *receiving, struct h2 *h2, const struct receiving_request *request)
{
	void (*on_done)(struct receiving *receiving, const char *failure) = receiving->on_done;
	struct header fields[6] = { { .name = span_text("dir-name"), .value = span_text(request->directory) } };
	size_t count = 1;
	int r;

	for (size_t i = 0; i < 4 && request->follow[i]; i++)
		fields[count++] = (struct header){ .name = span_text("followpaths"), .value = span_text(request->follow[i]) };
	fields[count++] = (struct header){ .name = span_text("traceparent"),
		                           .value = span_text("00-74c33c4a0afe8e2863821275377a8d28-41f1a5ac46d65203-01") };
	*receiving = (struct receiving){ .on_done = on_done };
	r = call_start(&receiving->call, h2, PATH, span_text("localhost"), 0, fields, count, MESSAGE_MAX, &receiving_events, receiving);
	receiving->open = r == 0;
	return r;
}
