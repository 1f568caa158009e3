/*
 * salvage: finds every record of one generation in a segment's file, whatever state the file is in. For fsck. Behind a
 * damaged stretch it finds the next header by its magic, checksum (seeded: uploads cannot forge it) and own place.
 */
#pragma once

#include "gateway/store/record.h"

struct salvage {
	int fd;
	uint32_t segment, generation;
	uint64_t segment_bytes, secret;
	/* `whole`: checksum and SHA-256 are right. In order of offset. Not 0 ends the walk. */
	int (*visit)(void *context, const struct record *record, bool whole);
	/* A stretch could not be read: `error` is a negative errno. */
	void (*unreadable)(void *context, uint64_t offset, int error);
	void *context;
};

/* Blocking. 0, what visit returned, or -ENOMEM. */
int salvage_walk(const struct salvage *salvage);
/* Whether the file begins as a segment of this store; then its generation. */
bool salvage_generation(int fd, uint32_t segment, uint64_t secret, uint32_t *generation);
