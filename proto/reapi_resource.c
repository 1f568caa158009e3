/* Resource names, segment by segment. */
#include "proto/reapi_resource.h"

/* Takes the next segment off the front. False: there is none left. */
static bool segment_next(struct span *rest, struct span *segment)
{
	const uint8_t *slash;

	if (!rest->data || rest->size == 0)
		return false;
	slash = memchr(rest->data, '/', rest->size);
	segment->data = rest->data;
	segment->size = slash ? (size_t)(slash - rest->data) : rest->size;
	rest->data += segment->size + (slash != NULL);
	rest->size -= segment->size + (slash != NULL);
	return true;
}

static bool is_begin(struct span segment, bool upload)
{
	if (upload)
		return span_is(segment, "uploads");
	return span_is(segment, "blobs") || span_is(segment, "compressed-blobs") || span_is(segment, "operations");
}

static bool is_other_keyword(struct span segment)
{
	static const char *const words[] = { "uploads", "actions", "actionResults", "operations", "capabilities", "blobs",
	                                     "compressed-blobs" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (span_is(segment, words[i]))
			return true;
	return false;
}

static bool size_parse(struct span text, uint64_t *size)
{
	*size = 0;
	if (text.size == 0 || text.size > 19)
		return false;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		*size = *size * 10 + (text.data[i] - '0');
	}
	return *size <= INT64_MAX;
}

static bool is_other_function(struct span segment)
{
	return span_is(segment, "blake3") || span_is(segment, "sha256tree") || span_is(segment, "gitsha1");
}

/* What follows "blobs" or "compressed-blobs/COMPRESSOR". */
static const char *digest_parse(struct reapi_resource *resource, struct span *rest)
{
	struct span hash, size;

	if (!segment_next(rest, &hash))
		return "the resource name ends before the hash";
	if (is_other_function(hash) || (hash.size && hash.size < DIGEST_HEX_BYTES && segment_next(rest, &size)))
		return "a digest function other than SHA-256 is not served here";
	if (!digest_from_hex(&resource->digest, hash))
		return "the hash in the resource name is not 64 lower-case hex digits of SHA-256";
	if (!segment_next(rest, &size) || !size_parse(size, &resource->digest.size))
		return "the size in the resource name is no number";
	return NULL;
}

/* `rest` begins with the segment after the keyword. */
static const char *blob_parse(struct reapi_resource *resource, struct span keyword, struct span *rest)
{
	struct span compressor;

	if (span_is(keyword, "compressed-blobs")) {
		if (!segment_next(rest, &compressor) || !span_is(compressor, "zstd"))
			return "a compressor other than zstd is not served here";
		resource->zstd = true;
	} else if (!span_is(keyword, "blobs")) {
		return "the resource name has neither blobs nor compressed-blobs where it should";
	}
	return digest_parse(resource, rest);
}

/* `rest` begins behind "operations". */
static const char *stream_parse(struct reapi_resource *resource, struct span name, struct span *rest)
{
	struct span id, stream;

	if (!segment_next(rest, &id) || id.size == 0 || !segment_next(rest, &stream) ||
	    stream.data + stream.size != name.data + name.size ||
	    (!span_is(stream, "stdout") && !span_is(stream, "stderr")))
		return "the resource name of an operation's output is not [INSTANCE/]operations/ID/stdout or stderr";
	resource->operation = span_make(name.data, (size_t)(id.data + id.size - name.data));
	resource->stream = span_is(stream, "stderr");
	return NULL;
}

const char *reapi_resource_parse(struct reapi_resource *resource, struct span name, bool upload)
{
	struct span rest = name, segment;
	const char *fault;

	*resource = (struct reapi_resource){ 0 };
	if (name.size > REAPI_RESOURCE_BYTES_MAX)
		return "the resource name is longer than 1024 bytes";
	while (segment_next(&rest, &segment)) {
		if (!is_begin(segment, upload)) {
			if (is_other_keyword(segment))
				break;
			continue;
		}
		if (segment.data != name.data)
			resource->instance = span_make(name.data, (size_t)(segment.data - name.data) - 1);
		if (upload && (!segment_next(&rest, &resource->uuid) || resource->uuid.size == 0 || !segment_next(&rest, &segment)))
			return "the resource name ends before the blob";
		if (!upload && span_is(segment, "operations"))
			return stream_parse(resource, name, &rest);
		fault = blob_parse(resource, segment, &rest);
		if (!fault && !upload && rest.size)
			return "the resource name goes on after the size";
		return fault;
	}
	return upload ? "the resource name is not [INSTANCE/]uploads/UUID/blobs/HASH/SIZE" :
	       "the resource name is not [INSTANCE/]blobs/HASH/SIZE";
}
