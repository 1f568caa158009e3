/*
 * Any bytes as a segment's file: the walk ends, offsets grow, each record lies inside, says its own place, and those
 * called whole have the digest they claim; and a header that is accepted is the one that would be written.
 */
#include <assert.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "gateway/store/salvage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEGMENT    3
#define GENERATION 1

struct walk {
	const uint8_t *data;
	size_t size;
	uint64_t last;
};

static int on_record(void *context, const struct record *record, bool whole)
{
	struct walk *walk = context;
	uint8_t header[RECORD_HEADER_BYTES], hash[DIGEST_HASH_BYTES];

	assert(record->offset > walk->last && record->offset >= RECORD_BLOCK_BYTES);
	assert(record->offset + record_bytes(record->digest.size) <= walk->size);
	assert(record->segment == SEGMENT && record->generation == GENERATION);
	walk->last = record->offset;
	record_encode(header, record, 0);
	/* The reserved word is not looked at beyond its checksum. */
	if (memcmp(walk->data + record->offset + 80, header + 80, 8) == 0)
		assert(memcmp(walk->data + record->offset, header, sizeof(header)) == 0);
	if (!whole)
		return 0;
	assert(EVP_Digest(walk->data + record->offset + RECORD_HEADER_BYTES, record->digest.size, hash, NULL, EVP_sha256(),
	                  NULL));
	assert(memcmp(hash, record->digest.hash, sizeof(hash)) == 0);
	return 0;
}

static void on_unreadable(void *context, uint64_t offset, int error)
{
	assert(!"a memfd can be read");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("segment", MFD_CLOEXEC);
	struct walk walk = { .data = data, .size = size };
	struct salvage salvage = {
		.fd = fd,
		.segment = SEGMENT,
		.generation = GENERATION,
		.segment_bytes = size,
		.visit = on_record,
		.unreadable = on_unreadable,
		.context = &walk,
	};
	uint32_t generation;

	assert(fd >= 0);
	assert(write(fd, data, size) == (ssize_t)size);
	salvage_generation(fd, SEGMENT, 0, &generation);
	assert(salvage_walk(&salvage) == 0);
	close(fd);
	return 0;
}
