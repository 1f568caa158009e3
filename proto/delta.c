/* Edits applied, and written. */
#include "proto/delta.h"

#include <assert.h>
#include "proto/delta_writer.h"
#include "proto/pb.h"

/* ---- applying ---- */

struct delta_reader {
	const uint8_t *next, *end;
	uint64_t expected;
};

static bool read_count(struct delta_reader *reader, uint64_t *count)
{
	reader->next = pb_varint_read(reader->next, reader->end, count);
	return reader->next != NULL;
}

/* Where the next copy begins; false also when it is not inside the base. */
static bool read_offset(struct delta_reader *reader, size_t base_size, uint64_t count, uint64_t *offset)
{
	uint64_t zigzag;

	if (!read_count(reader, &zigzag))
		return false;
	/* Wraps as it likes: what counts is whether it ends inside. */
	*offset = reader->expected + ((zigzag >> 1) ^ (0 - (zigzag & 1)));
	return *offset <= base_size && count <= base_size - *offset;
}

bool delta_apply(struct span base, struct span edits, uint8_t *out, size_t size)
{
	struct delta_reader reader = { .next = edits.data, .end = edits.data ? edits.data + edits.size : NULL };
	size_t made = 0;

	while (reader.next != reader.end) {
		uint64_t given, copied, offset;

		if (!read_count(&reader, &given) || given > size - made || given > (uint64_t)(reader.end - reader.next))
			return false;
		if (given)
			memcpy(out + made, reader.next, (size_t)given);
		made += (size_t)given;
		reader.next += given;
		if (reader.next == reader.end)
			return given && made == size;
		if (!read_count(&reader, &copied) || copied == 0 || copied > size - made ||
		    !read_offset(&reader, base.size, copied, &offset))
			return false;
		memcpy(out + made, base.data + offset, (size_t)copied);
		made += (size_t)copied;
		reader.expected = offset + copied;
	}
	return made == size;
}

/* ---- reading what is copied ---- */

bool delta_copies_next(struct delta_copies *copies)
{
	const struct span rest = copies->rest;
	struct delta_reader reader = { .next = rest.data, .end = rest.data ? rest.data + rest.size : NULL };
	uint64_t given, copied, offset;

	if (reader.next == reader.end || !read_count(&reader, &given) || given > (uint64_t)(reader.end - reader.next))
		return false;
	reader.next += given;
	if (reader.next == reader.end || !read_count(&reader, &copied) || copied > DELTA_BASE_BYTES_MAX ||
	    !read_count(&reader, &offset))
		return false;
	copies->begin = copies->end + given;
	copies->end = copies->begin + copied;
	copies->rest = span_make(reader.next, (size_t)(reader.end - reader.next));
	return true;
}

/* ---- writing ---- */

static void put_count(struct buffer *out, uint64_t count)
{
	uint8_t varint[PB_VARINT_BYTES_MAX];

	buffer_put(out, varint, (size_t)(pb_varint_write(varint, count) - varint));
}

static uint64_t zigzag(uint64_t difference)
{
	return difference << 1 ^ (0 - (difference >> 63));
}

struct delta_writer delta_writer_make(struct buffer *out, const uint8_t *target)
{
	assert(!out->failed);
	return (struct delta_writer){ .out = out, .mark = out->size, .given = target };
}

static void flush(struct delta_writer *writer)
{
	if (!writer->copy_bytes)
		return;
	put_count(writer->out, writer->given_bytes);
	buffer_put(writer->out, writer->given, writer->given_bytes);
	put_count(writer->out, writer->copy_bytes);
	put_count(writer->out, zigzag(writer->copy - writer->expected));
	writer->expected = writer->copy + writer->copy_bytes;
	writer->given += writer->given_bytes + writer->copy_bytes;
	writer->given_bytes = writer->copy_bytes = 0;
}

void delta_writer_put(struct delta_writer *writer, size_t given, uint64_t offset, uint64_t copied)
{
	assert(copied > 0 && copied <= DELTA_BASE_BYTES_MAX && offset <= DELTA_BASE_BYTES_MAX);
	if (given == 0 && writer->copy_bytes && writer->copy + writer->copy_bytes == offset) {
		writer->copy_bytes += copied;
		return;
	}
	flush(writer);
	writer->given_bytes = given;
	writer->copy = offset;
	writer->copy_bytes = copied;
}

bool delta_writer_end(struct delta_writer *writer, size_t given)
{
	flush(writer);
	if (given) {
		put_count(writer->out, given);
		buffer_put(writer->out, writer->given, given);
	}
	if (!writer->out->failed)
		return true;
	writer->out->failed = false;
	writer->out->size = writer->mark;
	return false;
}
