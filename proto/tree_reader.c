/* Reads directories: what is canonical, and what other REAPI clients write; refuses what could mislead. */
#include "proto/tree.h"

#include "proto/escape.h"
#include "proto/pb.h"
#include "proto/recipe.h"
#include "proto/tree_properties.h"
#include "proto/tree_wire.h"

/* Room for all that will be decoded of a node, so that spans into the scratch stay where they are. */
static bool scratch_begin(struct tree_reader *reader, struct buffer *scratch, size_t bytes)
{
	buffer_clear(scratch);
	return buffer_reserve(scratch, bytes + 1) || tree_fail(reader, "no memory");
}

static bool decode_escaped(struct buffer *scratch, struct span wire, struct span *bytes)
{
	size_t start = scratch->size;

	if (!escape_take(scratch, wire))
		return false;
	*bytes = span_make(scratch->data + start, scratch->size - start);
	return true;
}

static bool read_digest(struct tree_reader *reader, struct digest *digest, struct pb_reader message)
{
	struct span hash = { 0 };
	struct pb_field field;

	digest->size = 0;
	while (pb_next(&message, &field)) {
		if (field.number == DIGEST_HASH && !pb_as_bytes(&message, &field, &hash))
			break;
		if (field.number == DIGEST_SIZE_BYTES && !pb_as_uint64(&message, &field, &digest->size))
			break;
	}
	if (message.failed || !digest_from_hex(digest, hash) || digest->size > INT64_MAX)
		return tree_fail(reader, "malformed digest");
	return true;
}

/* Decimal digits without leading zeros, up to the end or `stop`. */
static bool take_number(struct span *text, uint64_t max, uint64_t *number)
{
	size_t digits = 0;

	*number = 0;
	while (digits < text->size && text->data[digits] >= '0' && text->data[digits] <= '9') {
		if (__builtin_mul_overflow(*number, 10u, number) ||
		    __builtin_add_overflow(*number, (uint64_t)(text->data[digits] - '0'), number) || *number > max)
			return false;
		digits++;
	}
	if (digits == 0 || (digits > 1 && text->data[0] == '0'))
		return false;
	*text = span_make(text->data + digits, text->size - digits);
	return true;
}

static bool take_text(struct span *text, const char *expected)
{
	size_t size = strlen(expected);

	if (!tree_has_prefix(*text, expected))
		return false;
	*text = span_make(text->data + size, text->size - size);
	return true;
}

static bool decode_recipe(struct tree_reader *reader, struct tree_node *node, struct span value)
{
	uint64_t version;

	if (!take_number(&value, RECIPE_VERSION, &version) || version != RECIPE_VERSION)
		return tree_fail(reader, "recipe version is not known");
	if (!take_text(&value, ":") || !take_number(&value, INT64_MAX, &node->file_size) || value.size)
		return tree_fail(reader, "malformed recipe size");
	if (node->file_size <= RECIPE_WHOLE_MAX || node->digest.size > RECIPE_BYTES_MAX)
		return tree_fail(reader, "recipe of a wrong size");
	node->recipe = true;
	return true;
}

static bool decode_type(struct tree_reader *reader, struct tree_node *node, struct span value)
{
	uint64_t major, minor;

	if (span_is(value, "fifo")) {
		node->kind = TREE_FIFO;
	} else {
		node->kind = tree_has_prefix(value, "char:") ? TREE_CHAR_DEVICE : TREE_BLOCK_DEVICE;
		if ((!take_text(&value, "char:") && !take_text(&value, "block:")) ||
		    !take_number(&value, UINT32_MAX, &major) || !take_text(&value, ":") ||
		    !take_number(&value, UINT32_MAX, &minor) || value.size)
			return tree_fail(reader, "type of node is not known");
		node->major = (uint32_t)major;
		node->minor = (uint32_t)minor;
	}
	if (!digest_equal(&node->digest, &digest_empty))
		return tree_fail(reader, "special node with content");
	return true;
}

static bool decode_hardlink(struct tree_reader *reader, struct tree_node *node, struct span wire)
{
	struct buffer *scratch = &reader->scratch;
	size_t start = scratch->size;

	if (wire.data[wire.size - 1] == '/')
		return tree_fail(reader, "bad path of a hardlink");
	while (wire.size) {
		struct span name;
		struct span component = tree_path_component(&wire);

		if (!decode_escaped(scratch, component, &name) || !tree_name_valid(name))
			return tree_fail(reader, "bad path of a hardlink");
		if (wire.size)
			buffer_put(scratch, "/", 1);
	}
	node->hardlink = span_make(scratch->data + start, scratch->size - start);
	return tree_path_valid(node->hardlink) || tree_fail(reader, "bad path of a hardlink");
}

/*
 * `wire` with the bytes that `property` says it stands for; without a property it stands for itself. Both must agree,
 * so that no two spellings name the same file.
 */
static bool decode_name(struct tree_reader *reader, struct span *name, struct span wire, struct span property)
{
	struct span unescaped;

	*name = wire;
	if (!utf8_valid(wire))
		return tree_fail(reader, "text is not UTF-8");
	if (property.size == 0)
		return true;
	if (!tree_decode_base64(&reader->scratch, property, name) || !escape_needed(*name) ||
	    !decode_escaped(&reader->scratch, wire, &unescaped) || !span_equal(*name, unescaped))
		return tree_fail(reader, "escaped text and its property differ");
	return true;
}

/* In a directory that says so, what looks escaped is; elsewhere nothing is. */
static bool decode_node_name(struct tree_reader *reader, struct tree_node *node, struct span wire, struct span property)
{
	bool escaped = reader->escaped && escape_needed(wire);

	if (node->kind == TREE_DIRECTORY && escaped) {
		if (!decode_escaped(&reader->scratch, wire, &node->name))
			return tree_fail(reader, "bad escaped name");
	} else if ((property.size != 0) != escaped) {
		return tree_fail(reader, "escaped name and its property differ");
	} else if (!decode_name(reader, &node->name, wire, property)) {
		return false;
	}
	return tree_name_valid(node->name) || tree_fail(reader, "bad name");
}

/* One node's fields before they are understood. */
struct raw_node {
	struct span name, target;
	struct pb_reader digest, properties;
	bool has_name, has_digest, has_properties, has_target, executable;
};

static bool raw_bytes(struct pb_reader *message, const struct pb_field *field, struct span *bytes, bool *seen)
{
	bool ok = !*seen && pb_as_bytes(message, field, bytes);

	*seen = true;
	return ok;
}

static bool raw_message(struct pb_reader *message, const struct pb_field *field, struct pb_reader *nested, bool *seen)
{
	bool ok = !*seen;

	*nested = pb_enter(message, field);
	*seen = true;
	return ok && !nested->failed;
}

static bool raw_file_field(struct raw_node *raw, struct pb_reader *message, const struct pb_field *field)
{
	switch (field->number) {
	case FILE_NAME:
		return raw_bytes(message, field, &raw->name, &raw->has_name);
	case FILE_DIGEST:
		return raw_message(message, field, &raw->digest, &raw->has_digest);
	case FILE_EXECUTABLE:
		return pb_as_bool(message, field, &raw->executable);
	case FILE_PROPERTIES:
		return raw_message(message, field, &raw->properties, &raw->has_properties);
	}
	return true;
}

static bool raw_directory_field(struct raw_node *raw, struct pb_reader *message, const struct pb_field *field)
{
	switch (field->number) {
	case DIRECTORY_NODE_NAME:
		return raw_bytes(message, field, &raw->name, &raw->has_name);
	case DIRECTORY_NODE_DIGEST:
		return raw_message(message, field, &raw->digest, &raw->has_digest);
	}
	return true;
}

static bool raw_symlink_field(struct raw_node *raw, struct pb_reader *message, const struct pb_field *field)
{
	switch (field->number) {
	case SYMLINK_NAME:
		return raw_bytes(message, field, &raw->name, &raw->has_name);
	case SYMLINK_TARGET:
		return raw_bytes(message, field, &raw->target, &raw->has_target);
	case SYMLINK_PROPERTIES:
		return raw_message(message, field, &raw->properties, &raw->has_properties);
	}
	return true;
}

static bool read_raw(struct tree_reader *reader, struct raw_node *raw, uint32_t list, struct pb_reader message)
{
	struct pb_field field;
	bool ok = true;

	while (ok && pb_next(&message, &field)) {
		if (list == DIRECTORY_FILES)
			ok = raw_file_field(raw, &message, &field);
		else if (list == DIRECTORY_DIRECTORIES)
			ok = raw_directory_field(raw, &message, &field);
		else
			ok = raw_symlink_field(raw, &message, &field);
	}
	if (!ok || message.failed)
		return tree_fail(reader, "malformed node");
	return true;
}

static bool decode_file(struct tree_reader *reader, struct tree_node *node, const struct raw_node *raw,
                        const struct tree_properties *properties)
{
	if (!raw->has_digest)
		return tree_fail(reader, "file without a digest");
	if (!read_digest(reader, &node->digest, raw->digest))
		return false;
	node->file_size = node->digest.size;
	node->mode = properties->has_mode ? properties->mode : raw->executable ? TREE_MODE_DIRECTORY : TREE_MODE_FILE;
	node->xattrs = properties->xattrs;
	node->xattrs_count = properties->xattrs_count;
	if (properties->type.size) {
		if (properties->recipe.size || properties->hardlink.size || properties->xattrs_count)
			return tree_fail(reader, "special node with properties of a file");
		return decode_type(reader, node, properties->type);
	}
	if (properties->recipe.size && !decode_recipe(reader, node, properties->recipe))
		return false;
	return properties->hardlink.size == 0 || decode_hardlink(reader, node, properties->hardlink);
}

static bool decode_symlink(struct tree_reader *reader, struct tree_node *node, const struct raw_node *raw,
                           const struct tree_properties *properties)
{
	if (properties->recipe.size || properties->hardlink.size || properties->type.size || properties->xattrs_count)
		return tree_fail(reader, "symlink with properties of a file");
	if (!decode_name(reader, &node->target, raw->target, properties->target))
		return false;
	return tree_target_valid(node->target) || tree_fail(reader, "bad target of a symlink");
}

static bool decode_node(struct tree_reader *reader, struct tree_node *node, uint32_t list, const struct raw_node *raw,
                        const struct tree_properties *properties)
{
	static const enum tree_kind kinds[] = {
		[DIRECTORY_FILES] = TREE_FILE,
		[DIRECTORY_DIRECTORIES] = TREE_DIRECTORY,
		[DIRECTORY_SYMLINKS] = TREE_SYMLINK,
	};

	node->kind = kinds[list];
	if (!decode_node_name(reader, node, raw->name, properties->name))
		return false;
	if (properties->names.size || (properties->target.size && list != DIRECTORY_SYMLINKS))
		return tree_fail(reader, "property where it does not belong");
	switch (node->kind) {
	case TREE_FILE:
		return decode_file(reader, node, raw, properties);
	case TREE_SYMLINK:
		return decode_symlink(reader, node, raw, properties);
	default:
		if (!raw->has_digest)
			return tree_fail(reader, "directory without a digest");
		return read_digest(reader, &node->digest, raw->digest);
	}
}

static bool read_node(struct tree_reader *reader, struct tree_node *node, uint32_t list, struct pb_reader message)
{
	struct tree_properties properties = { .xattrs = reader->xattrs };
	struct raw_node raw = { 0 };

	*node = (struct tree_node){ 0 };
	/* Decoded text is never longer than its encoded form: the target and the name may be decoded twice over. */
	if (!scratch_begin(reader, &reader->scratch, 2 * message.rest.size))
		return false;
	if (!read_raw(reader, &raw, list, message))
		return false;
	if (raw.has_properties && !tree_properties_read(reader, &properties, &reader->scratch, raw.properties))
		return false;
	return decode_node(reader, node, list, &raw, &properties);
}

bool tree_next(struct tree_reader *reader, struct tree_node *node)
{
	struct pb_reader top = pb_reader_make(reader->rest);
	struct pb_field field;

	if (reader->failed)
		return false;
	while (pb_next(&top, &field)) {
		reader->rest = top.rest;
		if (field.number <= DIRECTORY_SYMLINKS)
			return read_node(reader, node, field.number, pb_enter(&top, &field));
	}
	return top.failed ? tree_fail(reader, "malformed directory") : false;
}

/* One list's names, in order. */
struct name_cursor {
	struct pb_reader top;
	uint32_t list;
	struct span name;
	bool end;
};

/* The name is field 1 of all three kinds of node. */
static struct span name_of(struct pb_reader message)
{
	struct span name = { 0 };
	struct pb_field field;

	while (pb_next(&message, &field)) {
		if (field.number == FILE_NAME && field.wire == PB_BYTES)
			name = field.bytes;
	}
	return name;
}

/* False: not sorted. */
static bool cursor_advance(struct name_cursor *cursor)
{
	struct span last = cursor->name;
	struct pb_field field;

	while (pb_next(&cursor->top, &field)) {
		if (field.number != cursor->list)
			continue;
		cursor->name = name_of(pb_enter(&cursor->top, &field));
		return span_compare(last, cursor->name) < 0;
	}
	cursor->end = true;
	return true;
}

/* Merges the three lists: a name may be in one of them only. Wire names are unique exactly when names are. */
static bool check_names(struct tree_reader *reader)
{
	struct name_cursor cursors[3];

	for (uint32_t i = 0; i < 3; i++) {
		cursors[i] = (struct name_cursor){ .top = pb_reader_make(reader->blob), .list = DIRECTORY_FILES + i };
		if (!cursor_advance(&cursors[i]))
			return tree_fail(reader, "names not sorted");
	}
	for (;;) {
		struct name_cursor *least = NULL;

		for (uint32_t i = 0; i < 3; i++) {
			if (cursors[i].end)
				continue;
			if (least && span_equal(least->name, cursors[i].name))
				return tree_fail(reader, "name twice");
			if (!least || span_compare(cursors[i].name, least->name) < 0)
				least = &cursors[i];
		}
		if (!least)
			return true;
		if (!cursor_advance(least))
			return tree_fail(reader, "names not sorted");
	}
}

static bool read_head(struct tree_reader *reader, struct pb_reader message)
{
	struct tree_properties properties = { .xattrs = reader->head_xattrs };

	if (!scratch_begin(reader, &reader->head_scratch, message.rest.size))
		return false;
	if (!tree_properties_read(reader, &properties, &reader->head_scratch, message))
		return false;
	if (properties.hardlink.size || properties.name.size || properties.recipe.size || properties.target.size ||
	    properties.type.size)
		return tree_fail(reader, "property where it does not belong");
	if (properties.names.size && !span_is(properties.names, TREE_NAMES_ESCAPED))
		return tree_fail(reader, "property is not known");
	reader->escaped = properties.names.size != 0;
	if (properties.has_mode)
		reader->directory.mode = properties.mode;
	reader->directory.xattrs_count = properties.xattrs_count;
	return true;
}

static bool read_top(struct tree_reader *reader)
{
	struct pb_reader top = pb_reader_make(reader->blob);
	struct pb_field field;
	uint32_t last = 0;

	while (pb_next(&top, &field)) {
		if (field.number > DIRECTORY_PROPERTIES || field.number == 4)
			continue;               /* not known */
		if (field.wire != PB_BYTES)
			return tree_fail(reader, "malformed directory");
		if (field.number < last)
			return tree_fail(reader, "lists not in order");
		if (field.number == DIRECTORY_PROPERTIES) {
			if (last == DIRECTORY_PROPERTIES)
				return tree_fail(reader, "properties twice");
			if (!read_head(reader, pb_enter(&top, &field)))
				return false;
		}
		last = field.number;
	}
	return !top.failed || tree_fail(reader, "malformed directory");
}

bool tree_open(struct tree_reader *reader, struct span blob)
{
	reader->blob = blob;
	reader->rest = blob;
	reader->directory = (struct tree_directory){ .mode = TREE_MODE_DIRECTORY, .xattrs = reader->head_xattrs };
	reader->scratch = buffer_heap(4 * (size_t)TREE_DIRECTORY_BYTES_MAX);
	reader->head_scratch = buffer_heap(4 * (size_t)TREE_DIRECTORY_BYTES_MAX);
	reader->escaped = false;
	reader->failed = false;
	reader->fault = NULL;
	if (blob.size > TREE_DIRECTORY_BYTES_MAX)
		return tree_fail(reader, "directory too long");
	return read_top(reader) && check_names(reader);
}

void tree_close(struct tree_reader *reader)
{
	buffer_fini(&reader->scratch);
	buffer_fini(&reader->head_scratch);
}
