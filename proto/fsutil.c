/* fsutil Packets and Stats over pb.h: a packet has three fields, a stat eight or so, and nothing is allocated. */
#include "proto/fsutil.h"

#include <assert.h>

#include "proto/pb.h"

enum { PACKET_FIELD_TYPE = 1, PACKET_FIELD_STAT = 2, PACKET_FIELD_ID = 3, PACKET_FIELD_DATA = 4 };
enum {
	STAT_FIELD_PATH = 1,
	STAT_FIELD_MODE = 2,
	STAT_FIELD_UID = 3,
	STAT_FIELD_GID = 4,
	STAT_FIELD_SIZE = 5,
	STAT_FIELD_MOD_TIME = 6,
	STAT_FIELD_LINKNAME = 7,
	STAT_FIELD_DEVICE_MAJOR = 8,
	STAT_FIELD_DEVICE_MINOR = 9,
	STAT_FIELD_XATTRS = FSUTIL_STAT_FIELD_XATTRS,
};

static bool packet_stat(struct pb_reader *reader, const struct pb_field *field, struct fsutil_packet *packet)
{
	if (packet->has_stat)
		return false;
	packet->has_stat = true;
	return pb_as_bytes(reader, field, &packet->stat);
}

static bool packet_field(struct pb_reader *reader, const struct pb_field *field, struct fsutil_packet *packet)
{
	switch (field->number) {
	case PACKET_FIELD_TYPE:
		return pb_as_uint32(reader, field, &packet->type);
	case PACKET_FIELD_STAT:
		return packet_stat(reader, field, packet);
	case PACKET_FIELD_ID:
		return pb_as_uint32(reader, field, &packet->id);
	case PACKET_FIELD_DATA:
		return pb_as_bytes(reader, field, &packet->data);
	default:
		return true;
	}
}

bool fsutil_packet_decode(struct span message, struct fsutil_packet *packet)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	*packet = (struct fsutil_packet){ 0 };
	while (pb_next(&reader, &field))
		if (!packet_field(&reader, &field, packet))
			return false;
	return !reader.failed;
}

/* Every field number here is below 16, so that a tag is one byte. */
static uint8_t *write_tag(uint8_t *p, uint32_t number, enum pb_wire wire)
{
	*p++ = (uint8_t)(number << 3 | wire);
	return p;
}

static uint8_t *write_number(uint8_t *p, uint32_t number, uint64_t value)
{
	if (!value)
		return p;
	return pb_varint_write(write_tag(p, number, PB_VARINT), value);
}

static uint8_t *write_length(uint8_t *p, uint32_t number, size_t size)
{
	assert(size <= UINT32_MAX);      /* what a head has room for; a message is far smaller */
	return pb_varint_write(write_tag(p, number, PB_BYTES), size);
}

size_t fsutil_write_req(uint8_t *out, uint32_t id)
{
	uint8_t *p = write_number(out, PACKET_FIELD_TYPE, FSUTIL_REQ);

	return (size_t)(write_number(p, PACKET_FIELD_ID, id) - out);
}

size_t fsutil_write_fin(uint8_t *out)
{
	return (size_t)(write_number(out, PACKET_FIELD_TYPE, FSUTIL_FIN) - out);
}

size_t fsutil_write_data_end(uint8_t *out, uint32_t id)
{
	uint8_t *p = write_number(out, PACKET_FIELD_TYPE, FSUTIL_DATA);

	return (size_t)(write_number(p, PACKET_FIELD_ID, id) - out);
}

size_t fsutil_write_data_head(uint8_t *out, uint32_t id, size_t payload_bytes)
{
	size_t size = fsutil_write_data_end(out, id);

	assert(payload_bytes > 0);       /* else the receiver takes it as the file's end */
	return (size_t)(write_length(out + size, PACKET_FIELD_DATA, payload_bytes) - out);
}

/* A number of at most 32 bits at `at`, which moves behind it. False: there is none, or not all of it. */
static bool read_number(struct span part, size_t *at, uint64_t *value)
{
	*value = 0;
	for (unsigned shift = 0; shift < 35 && *at < part.size; shift += 7) {
		uint8_t byte = part.data[(*at)++];

		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return *value <= UINT32_MAX;
	}
	return false;
}

bool fsutil_data_begins(struct span part, size_t left, uint32_t *id, struct span *data)
{
	uint64_t number = 0, size;
	size_t at = 2;

	if (part.size < 4 || part.data[0] != (PACKET_FIELD_TYPE << 3 | PB_VARINT) || part.data[1] != FSUTIL_DATA)
		return false;
	if (part.data[at] == (PACKET_FIELD_ID << 3 | PB_VARINT) && (at++, !read_number(part, &at, &number)))
		return false;
	if (at == part.size || part.data[at] != (PACKET_FIELD_DATA << 3 | PB_BYTES) || (at++, !read_number(part, &at, &size)))
		return false;
	if (size == 0 || size != part.size - at + left)
		return false;
	*id = (uint32_t)number;
	*data = span_make(part.data + at, part.size - at);
	return true;
}

size_t fsutil_write_error_head(uint8_t *out, size_t payload_bytes)
{
	uint8_t *p = write_number(out, PACKET_FIELD_TYPE, FSUTIL_ERR);

	return (size_t)(write_length(p, PACKET_FIELD_DATA, payload_bytes) - out);
}

size_t fsutil_write_stat_head(uint8_t *out, size_t payload_bytes)
{
	return (size_t)(write_length(out, PACKET_FIELD_STAT, payload_bytes) - out);
}

/* Each is decoded here once, so that whoever walks them later has no malformed one to deal with. */
static bool stat_xattr(struct pb_reader *reader, const struct pb_field *field, struct fsutil_stat *stat)
{
	struct message_pair xattr;
	struct span entry;

	if (!pb_as_bytes(reader, field, &entry) || !message_pair_decode(entry, &xattr))
		return false;
	stat->xattrs.count++;
	return true;
}

static bool stat_field(struct pb_reader *reader, const struct pb_field *field, struct fsutil_stat *stat)
{
	switch (field->number) {
	case STAT_FIELD_PATH:
		return pb_as_bytes(reader, field, &stat->path);
	case STAT_FIELD_MODE:
		return pb_as_uint32(reader, field, &stat->mode);
	case STAT_FIELD_UID:
		return pb_as_uint32(reader, field, &stat->uid);
	case STAT_FIELD_GID:
		return pb_as_uint32(reader, field, &stat->gid);
	case STAT_FIELD_SIZE:
		return pb_as_int64(reader, field, &stat->size);
	case STAT_FIELD_MOD_TIME:
		return pb_as_int64(reader, field, &stat->mod_time_ns);
	case STAT_FIELD_LINKNAME:
		return pb_as_bytes(reader, field, &stat->linkname);
	case STAT_FIELD_DEVICE_MAJOR:
		return pb_as_int64(reader, field, &stat->device_major);
	case STAT_FIELD_DEVICE_MINOR:
		return pb_as_int64(reader, field, &stat->device_minor);
	case STAT_FIELD_XATTRS:
		return stat_xattr(reader, field, stat);
	default:
		return true;
	}
}

bool fsutil_stat_decode(struct span message, struct fsutil_stat *stat)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	*stat = (struct fsutil_stat){ .xattrs = { .message = message, .number = STAT_FIELD_XATTRS } };
	while (pb_next(&reader, &field))
		if (!stat_field(&reader, &field, stat))
			return false;
	return !reader.failed;
}

void fsutil_stat_put(struct buffer *out, const struct fsutil_stat *stat)
{
	struct message_cursor cursor = { 0 };
	struct span entry;

	pb_put_bytes(out, STAT_FIELD_PATH, stat->path);
	pb_put_varint(out, STAT_FIELD_MODE, stat->mode);
	pb_put_varint(out, STAT_FIELD_UID, stat->uid);
	pb_put_varint(out, STAT_FIELD_GID, stat->gid);
	pb_put_int64(out, STAT_FIELD_SIZE, stat->size);
	pb_put_int64(out, STAT_FIELD_MOD_TIME, stat->mod_time_ns);
	pb_put_bytes(out, STAT_FIELD_LINKNAME, stat->linkname);
	pb_put_int64(out, STAT_FIELD_DEVICE_MAJOR, stat->device_major);
	pb_put_int64(out, STAT_FIELD_DEVICE_MINOR, stat->device_minor);
	while (message_list_next(&stat->xattrs, &cursor, &entry))
		pb_put_bytes_always(out, STAT_FIELD_XATTRS, entry);
}

static bool name_is_clean(struct span name)
{
	return name.size > 0 && !span_is(name, ".") && !span_is(name, "..") && !memchr(name.data, 0, name.size);
}

bool fsutil_path_is_clean(struct span path)
{
	struct span rest = path;

	while (rest.size) {
		const uint8_t *slash = memchr(rest.data, '/', rest.size);
		size_t size = slash ? (size_t)(slash - rest.data) : rest.size;

		if (!name_is_clean(span_make(rest.data, size)))
			return false;
		if (!slash)
			return true;
		rest = span_make(slash + 1, rest.size - size - 1);
	}
	return false;                    /* empty, or it ends with a slash */
}

static int path_rank(uint8_t byte)
{
	return byte == '/' ? -1 : byte;
}

int fsutil_path_compare(struct span a, struct span b)
{
	size_t common = a.size < b.size ? a.size : b.size;

	for (size_t i = 0; i < common; i++)
		if (a.data[i] != b.data[i])
			return path_rank(a.data[i]) < path_rank(b.data[i]) ? -1 : 1;
	return (a.size > b.size) - (a.size < b.size);
}
