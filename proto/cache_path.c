/* From the end: the hash, the kind, and what is left is the instance. */
#include "proto/cache_path.h"

#include <string.h>

#define CACHE_FOLDERS 3
#define CACHE_CHECK   ".sccache_check"

static bool take_end(struct span *path, const char *end)
{
	size_t size = strlen(end);

	if (path->size < size || memcmp(path->data + path->size - size, end, size) != 0)
		return false;
	path->size -= size;
	return true;
}

static bool is_hex(uint8_t digit)
{
	return (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f');
}

/* Folders of one digit each, and the slash that comes twice. */
static void take_folders(struct span *path)
{
	const uint8_t *end = path->data + path->size;

	for (int i = 0; i < CACHE_FOLDERS && path->size >= 3 && end[-1] == '/' && is_hex(end[-2]) && end[-3] == '/'; i++) {
		path->size -= 2;
		end -= 2;
	}
	if (path->size >= 2 && end[-1] == '/' && end[-2] == '/')
		path->size--;
}

/* No digest has this name: its bytes, and zeros. */
static bool take_check(struct cache_path *parsed, struct span *path)
{
	_Static_assert(sizeof(CACHE_CHECK) <= DIGEST_HASH_BYTES, "it fits");
	if (!take_end(path, CACHE_CHECK))
		return false;
	memcpy(parsed->digest.hash, CACHE_CHECK, sizeof(CACHE_CHECK));
	return true;
}

static bool take_key(struct cache_path *parsed, struct span *path)
{
	if (path->size <= DIGEST_HEX_BYTES)
		return false;
	path->size -= DIGEST_HEX_BYTES;
	return digest_from_hex(&parsed->digest, span_make(path->data + path->size, DIGEST_HEX_BYTES));
}

/* What is left of the path is the kind's, and the instance before it. */
static bool take_kind(struct cache_path *parsed, struct span *path, bool check)
{
	if (!check && !parsed->folder && take_end(path, "/cas/"))
		return true;
	if (!take_end(path, "/ac/")) {
		take_folders(path);
		if (!take_end(path, "/ac/"))
			return false;
	}
	parsed->result = true;
	return true;
}

bool cache_path_parse(struct cache_path *parsed, struct span path)
{
	bool check;

	*parsed = (struct cache_path){ 0 };
	check = take_check(parsed, &path);
	parsed->folder = !check && path.size && path.data[path.size - 1] == '/';
	if (!check && !parsed->folder && !take_key(parsed, &path))
		return false;
	if (!take_kind(parsed, &path, check))
		return false;
	if (path.size == 0)
		return true;
	if (path.data[0] != '/' || path.size == 1)
		return false;
	parsed->instance = span_make(path.data + 1, path.size - 1);
	return true;
}
