/*
 * walk_directory: any bytes as a directory of a context. What is accepted gives entries in the order of fsutil's
 * validator, whose Stats survive being written and read, and whose regular ones alone have a content to ask for.
 */
#include "gateway/play/walk_directory.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static void check_entry(const struct walk_node *node, const struct walk_node *self)
{
	struct buffer encoded = buffer_heap(SIZE_MAX);
	struct fsutil_stat again;
	struct walk_entry entry;

	walk_node_entry(node, node->kind == TREE_DIRECTORY ? self : NULL, walk_node_name(node), &entry);
	REQUIRE(fsutil_path_is_clean(entry.stat.path));
	REQUIRE(!entry.data || fsutil_stat_has_data(&entry.stat));
	REQUIRE(entry.stat.size >= 0);
	fsutil_stat_put(&encoded, &entry.stat);
	REQUIRE(!encoded.failed && fsutil_stat_decode(buffer_span(&encoded), &again));
	REQUIRE(span_equal(again.path, entry.stat.path) && span_equal(again.linkname, entry.stat.linkname));
	REQUIRE(again.mode == entry.stat.mode && again.size == entry.stat.size);
	buffer_fini(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct walk_directory directory;

	if (walk_directory_read(&directory, span_make(data, size)))
		return 0;
	for (uint32_t i = 0; i < directory.count; i++) {
		const struct walk_node *node = walk_directory_node(&directory, i);

		REQUIRE(i == 0 || fsutil_path_compare(walk_node_name(walk_directory_node(&directory, i - 1)), walk_node_name(node)) < 0);
		check_entry(node, walk_directory_self(&directory));
	}
	walk_directory_fini(&directory);
	return 0;
}
