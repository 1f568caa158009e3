/*
 * copy_past: memcpy for bytes that this core will not touch again, past its cache: what lies there is not driven out, and memory
 * that is only written over is not read before.
 */
#pragma once

#include <stddef.h>

/* Shorter copies are memcpy: they are no loss to the cache, and what is short (a directory) is likely to be read again. */
#define COPY_PAST_LEAST_BYTES 4096

/* All of it is visible to whoever is handed the memory after the return, the kernel and devices too. */
void copy_past(void *to, const void *from, size_t size);
