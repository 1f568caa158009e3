/*
 * comparison: the input is answers, each behind a byte that says how long it is: whatever a gateway says of a tree that has
 * three files and three directories in each directory, a comparison takes it or refuses it, and comes to an end.
 */
#include "gateway/upload/comparison.h"

#include <errno.h>
#include <stdlib.h>
#include "proto/sluice_v1.h"
#include "proto/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define CHILDREN 3
#define BASE_BYTES 1024

static struct digest child(const struct digest *of, unsigned i)
{
	struct digest digest = { .size = 300 + i };

	memset(digest.hash, of->hash[0] * CHILDREN + (int)i + 1, sizeof(digest.hash));
	return digest;
}

static int encode(void *owner, const struct digest *directory, struct buffer *out)
{
	static const char *const names[2 * CHILDREN] = { "a", "b", "c", "x", "y", "z" };
	struct tree_node nodes[2 * CHILDREN];

	for (unsigned i = 0; i < 2 * CHILDREN; i++)
		nodes[i] = (struct tree_node){
			.kind = i < CHILDREN ? TREE_FILE : TREE_DIRECTORY, .name = span_text(names[i]), .mode = 0644,
			.digest = child(directory, i), .file_size = 300 + i,
		};
	return tree_encode(out, &(struct tree_directory){ .mode = 0755 }, nodes, 2 * CHILDREN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct digest base = { .size = BASE_BYTES }, root = { .size = 200 };
	struct buffer request = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	struct comparison comparison;
	int r = 0;

	REQUIRE(comparison_begin(&comparison, &base, &root) == 0);
	while (r == 0 && size && !comparison_over(&comparison)) {
		size_t length = data[0] < size ? data[0] : size - 1;

		buffer_clear(&request);
		comparison_ask(&comparison, &request);
		REQUIRE(!request.failed && comparison.asked > comparison.first && comparison.asked <= comparison.count);
		r = comparison_take(&comparison, span_make(data + 1, length), encode, NULL);
		REQUIRE(r == 0 || r == -EPROTO);
		data += 1 + length;
		size -= 1 + length;
	}
	comparison_fini(&comparison);
	buffer_fini(&request);
	return 0;
}
