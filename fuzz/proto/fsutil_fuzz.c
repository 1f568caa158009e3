/*
 * Property: arbitrary bytes are decoded as a Packet, and as a Stat, without reading past them; what was decoded is
 * written again, and that decodes to an equal one. Clean paths never lead out of the root.
 */
#include <stdlib.h>

#include "proto/fsutil.h"

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The packet as its writers put it: the head, then the payload. */
static void put_packet(struct buffer *out, const struct fsutil_packet *packet)
{
	uint8_t head[FSUTIL_HEAD_BYTES_MAX];
	struct span payload = { 0 };
	size_t size = 0;

	switch (packet->type) {
	case FSUTIL_STAT:
		if (packet->has_stat)
			size = fsutil_write_stat_head(head, packet->stat.size);
		payload = packet->stat;
		break;
	case FSUTIL_REQ:
		size = fsutil_write_req(head, packet->id);
		break;
	case FSUTIL_DATA:
		payload = packet->data;
		size = payload.size ? fsutil_write_data_head(head, packet->id, payload.size) :
		                      fsutil_write_data_end(head, packet->id);
		break;
	case FSUTIL_FIN:
		size = fsutil_write_fin(head);
		break;
	case FSUTIL_ERR:
		payload = packet->data;
		size = fsutil_write_error_head(head, payload.size);
		break;
	}
	REQUIRE(size <= sizeof(head));
	buffer_put(out, head, size);
	buffer_put(out, payload.data, payload.size);
}

/* What is told of a packet by its beginning holds of the whole; what our writers write is told. */
static void check_beginning(struct span message)
{
	struct fsutil_packet packet;
	uint8_t head[FSUTIL_HEAD_BYTES_MAX];
	struct span data;
	uint32_t id;

	for (size_t size = 0; size <= message.size && size <= 64; size++) {
		if (!fsutil_data_begins(span_make(message.data, size), message.size - size, &id, &data))
			continue;
		REQUIRE(fsutil_packet_decode(message, &packet) && packet.type == FSUTIL_DATA && packet.id == id);
		REQUIRE(packet.data.data == data.data && packet.data.size == data.size + message.size - size);
	}
	id = message.size > 4 ? message.data[0] | (uint32_t)message.data[3] << 24 : 0;
	REQUIRE(fsutil_data_begins(span_make(head, fsutil_write_data_head(head, id, 1 + message.size)), 1 + message.size, &id, &data));
}

/* As far as the type gives a field a meaning. */
static bool packet_equal(const struct fsutil_packet *a, const struct fsutil_packet *b)
{
	bool has_id = a->type == FSUTIL_REQ || a->type == FSUTIL_DATA;
	bool has_data = a->type == FSUTIL_DATA || a->type == FSUTIL_ERR;

	if (a->type != b->type || (has_id && a->id != b->id) || (has_data && !span_equal(a->data, b->data)))
		return false;
	return a->type != FSUTIL_STAT || (a->has_stat == b->has_stat && span_equal(a->stat, b->stat));
}

static bool xattrs_equal(const struct fsutil_stat *a, const struct fsutil_stat *b)
{
	struct message_cursor at_a = { 0 }, at_b = { 0 };
	struct message_pair one, other;
	uint32_t count = 0;

	while (message_map_next(&a->xattrs, &at_a, &one)) {
		if (!message_map_next(&b->xattrs, &at_b, &other) || !span_equal(one.key, other.key) ||
		    !span_equal(one.value, other.value))
			return false;
		count++;
	}
	return count == a->xattrs.count && count == b->xattrs.count;
}

static bool stat_equal(const struct fsutil_stat *a, const struct fsutil_stat *b)
{
	return span_equal(a->path, b->path) && span_equal(a->linkname, b->linkname) && a->mode == b->mode &&
	       a->uid == b->uid && a->gid == b->gid && a->size == b->size && a->mod_time_ns == b->mod_time_ns &&
	       a->device_major == b->device_major && a->device_minor == b->device_minor && xattrs_equal(a, b);
}

static void look_at_paths(struct span a, struct span b)
{
	int order = fsutil_path_compare(a, b);

	REQUIRE(order == -fsutil_path_compare(b, a));
	REQUIRE((order == 0) == span_equal(a, b));
	if (fsutil_path_is_clean(a)) {
		REQUIRE(a.size > 0 && a.data[0] != '/' && a.data[a.size - 1] != '/');
		REQUIRE(!span_is(a, "..") && !(a.size > 2 && memcmp(a.data, "../", 3) == 0));
		REQUIRE(!memmem(a.data, a.size, "/../", 4));
	}
}

static void round_trip_packet(struct span bytes)
{
	struct buffer again = buffer_heap(bytes.size + FSUTIL_HEAD_BYTES_MAX);
	struct fsutil_packet packet, second;

	if (fsutil_packet_decode(bytes, &packet) && packet.type <= FSUTIL_ERR) {
		put_packet(&again, &packet);
		REQUIRE(!again.failed);
		REQUIRE(fsutil_packet_decode(buffer_span(&again), &second));
		REQUIRE(packet_equal(&packet, &second));
	}
	buffer_fini(&again);
}

static void round_trip_stat(struct span bytes)
{
	/* A number may be written with more bytes than it needs, never with fewer: what comes back is no longer. */
	struct buffer again = buffer_heap(bytes.size + 1);
	struct fsutil_stat stat, second;

	if (fsutil_stat_decode(bytes, &stat)) {
		fsutil_stat_put(&again, &stat);
		REQUIRE(!again.failed && again.size <= bytes.size);
		REQUIRE(fsutil_stat_decode(buffer_span(&again), &second));
		REQUIRE(stat_equal(&stat, &second));
		look_at_paths(stat.path, stat.linkname);
	}
	buffer_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span bytes = span_make(data, size);
	struct fsutil_packet packet;

	round_trip_packet(bytes);
	check_beginning(bytes);
	round_trip_stat(bytes);
	if (fsutil_packet_decode(bytes, &packet) && packet.has_stat)
		round_trip_stat(packet.stat);
	return 0;
}
