/* The files of a client's directory, and their bytes. */
#include "tests/unit/session/rig_private.h"

#include <stdio.h>
#include <string.h>

uint8_t rig_byte(uint32_t seed, uint64_t offset)
{
	uint64_t x = (offset >> 3) * 0x9e3779b97f4a7c15ull + seed * 0xc2b2ae3d27d4eb4full;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return (uint8_t)(x >> (8 * (offset & 7)));
}

#define RIG_EDITED_AT 70

void rig_content(uint32_t seed, uint64_t offset, uint8_t *out, size_t size)
{
	for (size_t i = 0; i < size; i++)
		out[i] = rig_byte(seed & ~RIG_EDITED, offset + i);
	if (seed & RIG_EDITED && offset <= RIG_EDITED_AT && RIG_EDITED_AT < offset + size)
		out[RIG_EDITED_AT - offset] ^= 1;
}

void rig_tree_make(struct rig_tree *tree, uint32_t files, uint32_t seed)
{
	static const uint64_t sizes[] = { 0, 1, 100, 4000, 32768, 32769, 65535, 65536, 65537, 70000, 300000, 20, 7, 900 };

	tree->count = 0;
	for (uint32_t i = 0; i < files; i++) {
		struct rig_file *file;

		if (i % 100 == 0) {
			file = &tree->files[tree->count++];
			*file = (struct rig_file){ .directory = true, .mtime_ns = 5 };
			snprintf(file->path, sizeof(file->path), "d%04u", (unsigned)(i / 100));
		}
		file = &tree->files[tree->count++];
		*file = (struct rig_file){ .size = sizes[i % (sizeof(sizes) / sizeof(sizes[0]))], .mtime_ns = 1000 + i,
			                   .seed = seed + i };
		snprintf(file->path, sizeof(file->path), "d%04u/f%06u", (unsigned)(i / 100), (unsigned)i);
	}
}

void rig_tree_link(struct rig_tree *tree, uint32_t further, uint32_t first)
{
	struct rig_file *file = &tree->files[further];
	char path[sizeof(file->path)];

	assert_true(first < further && !file->directory && !tree->files[first].directory && !tree->files[first].link[0]);
	memcpy(path, file->path, sizeof(path));
	*file = tree->files[first];
	memcpy(file->link, file->path, sizeof(file->link));
	memcpy(file->path, path, sizeof(file->path));
}
