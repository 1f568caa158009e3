/*
 * digest: the name of a blob (REAPI `Digest`): SHA-256 of its bytes, and its size.
 * Text form is `sha256:HEX/SIZE`; REAPI's hash field is the 64 lower-case hex digits alone.
 */
#pragma once

#include "proto/span.h"

#define DIGEST_HASH_BYTES 32
#define DIGEST_HEX_BYTES  64
#define DIGEST_TEXT_MAX   (7 + DIGEST_HEX_BYTES + 1 + 20 + 1)

struct digest {
	uint8_t hash[DIGEST_HASH_BYTES];
	uint64_t size;
};

/* The digest of the empty blob; every store has it without being asked to keep it. */
extern const struct digest digest_empty;

static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
	return a->size == b->size && memcmp(a->hash, b->hash, DIGEST_HASH_BYTES) == 0;
}

/* Writes 64 hex digits, no NUL. */
void digest_hex(const struct digest *digest, char hex[static DIGEST_HEX_BYTES]);

/* Reads 64 lower-case hex digits into `digest->hash`; false when they are not that. */
bool digest_from_hex(struct digest *digest, struct span hex);

/* `sha256:HEX/SIZE` with a NUL; returns `text`. */
char *digest_text(const struct digest *digest, char text[static DIGEST_TEXT_MAX]);

/* Reads `sha256:HEX/SIZE` or `HEX/SIZE`; false when it is neither. */
bool digest_from_text(struct digest *digest, struct span text);
