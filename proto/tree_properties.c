/* Reads node properties. */
#include "proto/tree_properties.h"

#include "proto/escape.h"
#include "proto/tree_wire.h"

bool tree_decode_base64(struct buffer *scratch, struct span text, struct span *bytes)
{
	size_t start = scratch->size;

	if (!base64_take(scratch, text))
		return false;
	*bytes = span_make(scratch->data + start, scratch->size - start);
	return true;
}

static bool take_xattr(struct tree_reader *reader, struct tree_properties *properties, struct buffer *scratch,
                       struct span name, struct span value)
{
	struct tree_xattr xattr = { .name = name };

	if (!tree_xattr_name_valid(name))
		return tree_fail(reader, "xattr is not allowed");
	if (properties->xattrs_count == TREE_XATTRS_MAX)
		return tree_fail(reader, "too many xattrs");
	if (!tree_decode_base64(scratch, value, &xattr.value))
		return tree_fail(reader, "xattr value is not base64");
	properties->xattrs_bytes += name.size + xattr.value.size;
	if (properties->xattrs_bytes > TREE_XATTR_BYTES_MAX)
		return tree_fail(reader, "xattrs too long");
	properties->xattrs[properties->xattrs_count++] = xattr;
	return true;
}

/* A property of ours that we do not know could change what the node means: refused, unlike those of others. */
static bool take_property(struct tree_reader *reader, struct tree_properties *properties, struct buffer *scratch,
                          struct span name, struct span value)
{
	const struct {
		const char *name;
		struct span *value;
	} known[] = {
		{ TREE_PROPERTY_HARDLINK, &properties->hardlink },
		{ TREE_PROPERTY_NAME, &properties->name },
		{ TREE_PROPERTY_NAMES, &properties->names },
		{ TREE_PROPERTY_RECIPE, &properties->recipe },
		{ TREE_PROPERTY_TARGET, &properties->target },
		{ TREE_PROPERTY_TYPE, &properties->type },
	};
	size_t prefix = strlen(TREE_PROPERTY_XATTR);

	if (!tree_has_prefix(name, TREE_PROPERTY_PREFIX))
		return true;
	if (tree_has_prefix(name, TREE_PROPERTY_XATTR)) {
		name = span_make(name.data + prefix, name.size - prefix);
		return take_xattr(reader, properties, scratch, name, value);
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!span_is(name, known[i].name))
			continue;
		if (value.size == 0)
			return tree_fail(reader, "property without a value");
		*known[i].value = value;
		return true;
	}
	return tree_fail(reader, "property is not known");
}

static bool read_property(struct tree_reader *reader, struct tree_properties *properties, struct buffer *scratch,
                          struct pb_reader property)
{
	struct span name = { 0 }, value = { 0 };
	struct pb_field field;

	while (pb_next(&property, &field)) {
		if (field.number == PROPERTY_NAME && !pb_as_bytes(&property, &field, &name))
			break;
		if (field.number == PROPERTY_VALUE && !pb_as_bytes(&property, &field, &value))
			break;
	}
	if (property.failed || name.size == 0)
		return tree_fail(reader, "malformed property");
	if (properties->last.size && span_compare(properties->last, name) >= 0)
		return tree_fail(reader, "properties not sorted");
	properties->last = name;
	return take_property(reader, properties, scratch, name, value);
}

static bool read_mode(struct tree_reader *reader, struct tree_properties *properties, struct pb_reader value)
{
	struct pb_field field;
	uint32_t mode = 0;

	while (pb_next(&value, &field)) {
		if (field.number == UINT32_VALUE && !pb_as_uint32(&value, &field, &mode))
			break;
	}
	if (value.failed)
		return tree_fail(reader, "malformed mode");
	if (properties->has_mode)
		return tree_fail(reader, "mode twice");
	properties->has_mode = true;
	properties->mode = mode & TREE_MODE_MAX; /* others put the type of the file above */
	return true;
}

bool tree_properties_read(struct tree_reader *reader, struct tree_properties *properties, struct buffer *scratch,
                          struct pb_reader message)
{
	struct pb_field field;

	while (pb_next(&message, &field)) {
		struct pb_reader nested;

		if (field.number != PROPERTIES_PROPERTY && field.number != PROPERTIES_UNIX_MODE)
			continue;
		nested = pb_enter(&message, &field);
		if (field.number == PROPERTIES_PROPERTY && !read_property(reader, properties, scratch, nested))
			return false;
		if (field.number == PROPERTIES_UNIX_MODE && !read_mode(reader, properties, nested))
			return false;
	}
	return !message.failed || tree_fail(reader, "malformed properties");
}
