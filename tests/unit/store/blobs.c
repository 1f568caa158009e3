/* Blobs for tests. */
#include "tests/unit/store/blobs.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"

void blob_digest(struct blob *blob, size_t size)
{
	blob->digest.size = size;
	CHECK(EVP_Digest(blob->data, size, blob->digest.hash, NULL, EVP_sha256(), NULL));
}

void blob_name(uint8_t hash[static DIGEST_HASH_BYTES], uint64_t number)
{
	uint64_t state = (number + 1) * 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < DIGEST_HASH_BYTES / 8; i++) {
		state = (state ^ state >> 30) * 0xbf58476d1ce4e5b9ull;
		state = (state ^ state >> 27) * 0x94d049bb133111ebull;
		memcpy(hash + 8 * i, &state, 8);
	}
}

struct blob blob_make(uint64_t number, size_t size)
{
	struct blob blob = { .data = malloc(size ? size : 1) };
	uint64_t state = number * 0x9e3779b97f4a7c15ull + size + 1;

	for (size_t i = 0; i < size; i += 8) {
		size_t piece = size - i < 8 ? size - i : 8;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		memcpy(blob.data + i, &state, piece);
	}
	blob_digest(&blob, size);
	return blob;
}

void blob_free(struct blob *blob)
{
	free(blob->data);
	blob->data = NULL;
}

static size_t directory_line(char *out, const struct blob *blob, char kind)
{
	digest_hex(&blob->digest, out);
	return 64 + (size_t)sprintf(out + 64, " %" PRIu64 " %c\n", blob->digest.size, kind);
}

struct blob directory_make(const struct blob *files, size_t files_count, const struct blob *directories,
                           size_t directories_count)
{
	struct blob blob = { .data = malloc(16 + 100 * (files_count + directories_count)) };
	size_t size = 4;

	memcpy(blob.data, "dir\n", 4);
	for (size_t i = 0; i < files_count; i++)
		size += directory_line((char *)blob.data + size, &files[i], 'f');
	for (size_t i = 0; i < directories_count; i++)
		size += directory_line((char *)blob.data + size, &directories[i], 'd');
	blob_digest(&blob, size);
	return blob;
}

bool test_references(enum store_kind kind, struct span blob,
                     void (*visit)(void *context, const struct store_reference *reference), void *context)
{
	CLEANUP(free_p) char *text = NULL;
	char *line, *save = NULL;

	if (kind != STORE_DIRECTORY || blob.size < 4 || memcmp(blob.data, "dir\n", 4) != 0)
		return false;
	text = strndup((const char *)blob.data + 4, blob.size - 4);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct store_reference reference = { .kind = STORE_DATA };
		char what;

		CHECK(digest_from_hex(&reference.digest, span_make(line, 64)));
		CHECK(sscanf(line + 64, " %" SCNu64 " %c", &reference.digest.size, &what) == 2);
		if (what == 'd')
			reference.kind = STORE_DIRECTORY;
		visit(context, &reference);
	}
	return true;
}
