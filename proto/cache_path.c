/* From the end: the hash, the kind, and what is left is the instance. */
#include "proto/cache_path.h"

static bool take_end(struct span *path, const char *end)
{
	size_t size = strlen(end);

	if (path->size < size || memcmp(path->data + path->size - size, end, size) != 0)
		return false;
	path->size -= size;
	return true;
}

bool cache_path_parse(struct cache_path *parsed, struct span path)
{
	*parsed = (struct cache_path){ 0 };
	if (path.size <= DIGEST_HEX_BYTES)
		return false;
	path.size -= DIGEST_HEX_BYTES;
	if (!digest_from_hex(&parsed->digest, span_make(path.data + path.size, DIGEST_HEX_BYTES)))
		return false;
	parsed->result = take_end(&path, "/ac/");
	if (!parsed->result && !take_end(&path, "/cas/"))
		return false;
	if (path.size == 0)
		return true;
	if (path.data[0] != '/' || path.size == 1)
		return false;
	parsed->instance = span_make(path.data + 1, path.size - 1);
	return true;
}
