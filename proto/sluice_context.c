/* The messages of Context/Give as tables, and what their bytes fields hold. */
#include "proto/sluice_context.h"

#include "proto/pb.h"

MESSAGE_TYPE(context_request_type, struct context_request,
	     MESSAGE_FIELD(struct context_request, ask, 1, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct context_request, times, 2, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct context_request, missing, 3, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct context_request, files, 4, MESSAGE_PRESENT));
MESSAGE_TYPE(context_ask_type, struct context_ask,
	     MESSAGE_FIELD(struct context_ask, known, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct context_ask, times, 2, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct context_ask, ahead, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct context_ask, same, 4, MESSAGE_BOOL));
MESSAGE_TYPE(context_response_type, struct context_response,
	     MESSAGE_FIELD(struct context_response, root, 1, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct context_response, times, 2, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct context_response, entries, 3, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct context_response, named, 4, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct context_response, unfit, 5, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct context_response, same, 6, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct context_response, passing, 7, MESSAGE_BOOL));
MESSAGE_TYPE(context_root_type, struct context_root,
	     MESSAGE_FIELD(struct context_root, root, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct context_root, entries, 2, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct context_root, files, 3, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct context_root, files_read, 4, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct context_root, bytes_read, 5, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct context_root, bytes_sent, 6, MESSAGE_UINT64));

static void put_varint(struct buffer *out, uint64_t value)
{
	uint8_t bytes[PB_VARINT_BYTES_MAX];

	buffer_put(out, bytes, (size_t)(pb_varint_write(bytes, value) - bytes));
}

static bool take_varint(struct span *rest, uint64_t *value)
{
	const uint8_t *end, *next;

	if (!rest->size)
		return false;
	end = rest->data + rest->size;
	next = pb_varint_read(rest->data, end, value);
	if (!next)
		return false;
	*rest = span_make(next, (size_t)(end - next));
	return true;
}

static uint64_t zigzag(uint64_t difference)
{
	return difference << 1 ^ (difference >> 63 ? UINT64_MAX : 0);
}

static uint64_t unzigzag(uint64_t value)
{
	return value >> 1 ^ (value & 1 ? UINT64_MAX : 0);
}

/* ---- numbers ---- */

void number_list_put(struct buffer *out, uint64_t *previous, uint64_t number)
{
	put_varint(out, number - *previous);
	*previous = number;
}

bool number_list_next(struct span *rest, uint64_t *previous)
{
	uint64_t left = ENTRY_NUMBER_MAX - *previous, step;     /* ENTRY_NUMBER_BEFORE is -1, and so counts as one more */
	struct span after = *rest;

	if (!take_varint(&after, &step) || step == 0 || step > left)
		return false;
	*previous += step;
	*rest = after;
	return true;
}

/* ---- times ---- */

uint64_t time_list_unit(uint64_t unit_ns, int64_t time_ns)
{
	while (time_ns % (int64_t)unit_ns)
		unit_ns /= 1000;
	return unit_ns;
}

void time_list_begin(struct buffer *out, struct time_list *list, uint64_t unit_ns)
{
	put_varint(out, unit_ns);
	*list = (struct time_list){ .unit_ns = unit_ns };
}

void time_list_put(struct buffer *out, struct time_list *list, int64_t time_ns)
{
	uint64_t time = (uint64_t)(time_ns / (int64_t)list->unit_ns);

	put_varint(out, zigzag(time - list->previous));
	list->previous = time;
}

bool time_list_next(struct span *rest, struct time_list *list, int64_t *time_ns)
{
	struct span after = *rest;
	uint64_t unit, value;

	if (!list->unit_ns) {
		if (!take_varint(&after, &unit) || unit == 0)
			return false;
		list->unit_ns = unit;
		*rest = after;
	}
	if (!take_varint(rest, &value))
		return false;
	list->previous += unzigzag(value);
	*time_ns = (int64_t)(list->previous * list->unit_ns);
	return true;
}

/* ---- entries ---- */

void entry_list_put(struct buffer *out, struct span stat)
{
	put_varint(out, stat.size);
	buffer_put(out, stat.data, stat.size);
}

bool entry_list_next(struct span *rest, struct span *stat)
{
	struct span after = *rest;
	uint64_t size;

	if (!take_varint(&after, &size) || size > after.size)
		return false;
	*stat = span_make(after.data, (size_t)size);
	*rest = span_make(after.data + size, after.size - (size_t)size);
	return true;
}

/* ---- names ---- */

void name_list_put(struct buffer *out, uint64_t *previous, const struct named_entry *entry)
{
	put_varint(out, zigzag(entry->number - *previous));
	buffer_put(out, entry->digest.hash, DIGEST_HASH_BYTES);
	put_varint(out, entry->digest.size);
	put_varint(out, entry->recipe ? entry->file_size + 1 : 0);
	*previous = entry->number;
}

bool name_list_next(struct span *rest, uint64_t *previous, struct named_entry *entry)
{
	struct span after = *rest;
	struct named_entry taken;
	uint64_t step, size;

	if (!take_varint(&after, &step) || after.size < DIGEST_HASH_BYTES)
		return false;
	taken.number = *previous + unzigzag(step);
	memcpy(taken.digest.hash, after.data, DIGEST_HASH_BYTES);
	after = span_make(after.data + DIGEST_HASH_BYTES, after.size - DIGEST_HASH_BYTES);
	if (!take_varint(&after, &taken.digest.size) || !take_varint(&after, &size))
		return false;
	if (taken.number > ENTRY_NUMBER_MAX || taken.digest.size > INT64_MAX || size > INT64_MAX)
		return false;
	taken.recipe = size > 0;
	taken.file_size = size ? size - 1 : taken.digest.size;
	*entry = taken;
	*previous = taken.number;
	*rest = after;
	return true;
}
