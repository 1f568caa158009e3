/* blobs: made from a number: pseudo-random bytes with their SHA-256; and directories that name others. For tests. */
#pragma once

#include "gateway/store/store.h"

struct blob {
	struct digest digest;
	uint8_t *data;
};

/* A name that no other number has, and that is no blob's. */
void blob_name(uint8_t hash[static DIGEST_HASH_BYTES], uint64_t number);
/* A blob of `size` bytes, the same for the same number. */
struct blob blob_make(uint64_t number, size_t size);
/* Sets the digest of its first `size` bytes. */
void blob_digest(struct blob *blob, size_t size);
void blob_free(struct blob *blob);

/*
 * The `references` of tests: a directory is "dir\n", then lines of 64 hex digits, a blank, the size, a blank, and 'd'
 * or 'f'.
 */
bool test_references(enum store_kind kind, struct span blob,
                     void (*visit)(void *context, const struct store_reference *reference), void *context);
/* A directory blob in that form. */
struct blob directory_make(const struct blob *files, size_t files_count, const struct blob *directories,
                           size_t directories_count);
