/* The memory in which bytes wait: blocks, counted by who uses them. Small files share the one that is being filled. */
#include "gateway/cas/ingest_private.h"

#include <stdlib.h>

#include "gateway/base/check.h"

struct ingest_block *ingest_block_take(struct ingest *ingest)
{
	struct list *link = list_take(&ingest->blocks_free);
	struct ingest_block *block;

	if (!link && ingest->filling && ingest->filling->refs == 1) {
		ingest_block_leave(ingest);
		link = list_take(&ingest->blocks_free);
	}
	if (link) {
		block = container_of(link, struct ingest_block, link);
	} else {
		if (ingest->blocks_count == INGEST_BLOCKS_MAX)
			return NULL;
		block = malloc(sizeof(*block));
		if (!block)
			return NULL;
		ingest->blocks_count++;
		block->link = (struct list){ 0 };
	}
	block->refs = 1;
	block->used = 0;
	return block;
}

void ingest_block_unref(struct ingest *ingest, struct ingest_block *block)
{
	if (!block)
		return;
	CHECK(block->refs > 0);
	if (--block->refs == 0)
		list_append(&ingest->blocks_free, &block->link);
}

void ingest_block_leave(struct ingest *ingest)
{
	ingest_block_unref(ingest, ingest->filling);
	ingest->filling = NULL;
}

void ingest_blocks_trim(struct ingest *ingest, unsigned keep)
{
	while (ingest->blocks_count > keep && !list_empty(&ingest->blocks_free)) {
		free(container_of(list_take(&ingest->blocks_free), struct ingest_block, link));
		ingest->blocks_count--;
	}
}
