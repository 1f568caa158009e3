/* One walk over a FileDescriptorSet: names are compared on the way down. */
#include "proto/descriptors.h"

#include "proto/pb.h"

extern const unsigned char descriptor_set[];     /* made by scripts/embed */
extern const size_t descriptor_set_size;

enum element { ELEMENT_FILE, ELEMENT_MESSAGE, ELEMENT_SERVICE, ELEMENT_ENUM, ELEMENT_LEAF };

/* Which field of what holds named things, and of what kind these are. */
static const struct {
	enum element of;
	uint32_t number;
	enum element is;
} parts[] = {
	{ ELEMENT_FILE, 4, ELEMENT_MESSAGE }, { ELEMENT_FILE, 5, ELEMENT_ENUM }, { ELEMENT_FILE, 6, ELEMENT_SERVICE },
	{ ELEMENT_MESSAGE, 2, ELEMENT_LEAF }, { ELEMENT_MESSAGE, 3, ELEMENT_MESSAGE }, { ELEMENT_MESSAGE, 4, ELEMENT_ENUM },
	{ ELEMENT_SERVICE, 2, ELEMENT_LEAF }, { ELEMENT_ENUM, 2, ELEMENT_LEAF },
};

/* The first field of this number that holds bytes. */
static struct span text_of(struct pb_reader reader, uint32_t number)
{
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == number && field.wire == PB_BYTES)
			return field.bytes;
	return (struct span){ 0 };
}

/* True: `symbol` begins with `name` and a dot, which are taken off it, or it is `name`, and nothing is left. */
static bool take_name(struct span *symbol, struct span name)
{
	if (span_equal(*symbol, name)) {
		symbol->size = 0;
		return true;
	}
	if (name.size == 0 || symbol->size <= name.size + 1 || symbol->data[name.size] != '.' ||
	    memcmp(symbol->data, name.data, name.size) != 0)
		return false;
	*symbol = span_make(symbol->data + name.size + 1, symbol->size - name.size - 1);
	return true;
}

static bool defines(enum element kind, struct pb_reader reader, struct span symbol);

/* An enum's values stand beside it, not below it, as protobuf scopes names. */
static bool is_value(enum element kind, struct pb_reader reader, struct span symbol)
{
	return kind == ELEMENT_ENUM && defines(ELEMENT_ENUM, reader, symbol);
}

static bool defines(enum element kind, struct pb_reader reader, struct span symbol)
{
	struct pb_field field;

	while (pb_next(&reader, &field))
		for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
			struct pb_reader part;
			struct span rest = symbol;

			if (parts[i].of != kind || parts[i].number != field.number)
				continue;
			part = pb_enter(&reader, &field);
			if (is_value(parts[i].is, part, symbol))
				return true;
			if (take_name(&rest, text_of(part, 1)) &&
			    (rest.size == 0 || (parts[i].is != ELEMENT_ENUM && defines(parts[i].is, part, rest))))
				return true;
		}
	return false;
}

/* Calls `is` for each file until it says yes. */
static struct span find(bool (*is)(struct pb_reader file, struct span what), struct span what)
{
	struct pb_reader set = pb_reader_make(span_make(descriptor_set, descriptor_set_size));
	struct pb_field file;

	while (pb_next(&set, &file))
		if (is(pb_enter(&set, &file), what))
			return file.bytes;
	return (struct span){ 0 };
}

static bool is_named(struct pb_reader file, struct span name)
{
	return span_equal(text_of(file, 1), name);
}

static bool has_symbol(struct pb_reader file, struct span symbol)
{
	return take_name(&symbol, text_of(file, 2)) && symbol.size && defines(ELEMENT_FILE, file, symbol);
}

struct span descriptors_file(struct span name)
{
	return find(is_named, name);
}

struct span descriptors_file_of(struct span symbol)
{
	return find(has_symbol, symbol);
}
