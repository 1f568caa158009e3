/*
 * tokens: the lines of a tokens file. Pure: text in, rows or a sentence about the first bad line out.
 */
#pragma once

#include "gateway/tenant/tenant.h"

#define TOKEN_HASH_BYTES 32

struct token_row {
	uint8_t hash[TOKEN_HASH_BYTES];
	char tenant[129];
	uint32_t rights;
};

/*
 * Rows of `text`, on the heap, the caller's to free. 0; -EINVAL with `why` ("line 3: …"), -ENOMEM. At most
 * TENANT_TOKENS_MAX rows, in the order of their hashes; twice the same hash is refused.
 */
int tokens_parse(struct token_row **rows, size_t *count, struct span text, char *why, size_t why_size);
