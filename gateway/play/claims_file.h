/*
 * claims_file: the claims made under one stable key, as an append-only file `<id in hex>`, 0600. In the machine's byte
 * order, which the magic shows:
 *
 *	8   magic "sluiclms" as a number       4  version     4  bytes a record      16  id      32  owner
 *	56  a claim (48), and 8 of XXH3 of it, seeded with its place in the file and the id; any number of them
 *
 * The id is random and part of the key that an executor sees: a file that is gone takes its key along. Zeros and a part of
 * a record at the end are a write that a crash cut short: no executor was told of them. Anything else that is not as
 * above is damage: the file is of no use any more, and neither is its key.
 *
 * All calls but claims_file_parse() block, and are for ring_work.
 */
#pragma once

#include "gateway/play/claims.h"

#define CLAIMS_FILE_VERSION      2       /* in 1 a hardlink's content was that of a file of its own: such files are not read */
#define CLAIMS_FILE_ID_BYTES     16
#define CLAIMS_FILE_OWNER_BYTES  32
#define CLAIMS_FILE_HEAD_BYTES   64
#define CLAIMS_FILE_RECORD_BYTES 56
#define CLAIMS_FILE_NAME_BYTES   (2 * CLAIMS_FILE_ID_BYTES + 1)

struct claims_file_head {
	uint8_t id[CLAIMS_FILE_ID_BYTES];
	uint8_t owner[CLAIMS_FILE_OWNER_BYTES];  /* whose it is: tenant and directory, hashed */
};

enum claims_file_outcome {
	CLAIMS_FILE_OK = 0,
	CLAIMS_FILE_DAMAGED = 1,         /* also: of another version, id or owner, or with more than CLAIMS_MAX claims */
};                                       /* -ENOMEM, or errno of the disk */

/* Replays all claims in `bytes`. `end`: where the next record goes. */
int claims_file_parse(struct claims *claims, struct span bytes, const struct claims_file_head *head, uint64_t *end);
void claims_file_name(const uint8_t id[static CLAIMS_FILE_ID_BYTES], char name[static CLAIMS_FILE_NAME_BYTES]);

/* Only the head, to know whose it is. CLAIMS_FILE_OK, CLAIMS_FILE_DAMAGED or -errno. */
int claims_file_peek(int dir_fd, const char *name, struct claims_file_head *head);
/* Makes it, or opens it with all its claims; one that should be there and is not is CLAIMS_FILE_DAMAGED. */
int claims_file_open(int dir_fd, const struct claims_file_head *head, bool make, struct claims *claims, int *fd, uint64_t *end);
/* Writes claims from `at` on, and waits until they are on the disk. 0 or -errno. */
int claims_file_append(int fd, uint64_t at, const struct claims_file_head *head, const struct claim *claims, size_t count);
