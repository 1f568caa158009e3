/* glibc's allocator, told once. */
#include "gateway/base/heap.h"

#include <malloc.h>

#define HEAP_BLOCK_BYTES (8 << 20)       /* longer blocks are mapped, and go back at once */
#define HEAP_KEPT_BYTES  (32 << 20)

void heap_keep(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES);
	(void)mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
}

void heap_give_back(void)
{
	(void)malloc_trim(0);
}
