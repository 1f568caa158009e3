/* cleanup: scope-bound release. CLEANUP(free_p) char *s = …; fd_close via CLEANUP(fd_closep) int fd = -1. */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void free_p(void *pointer)
{
	free(*(void **)pointer);
}

static inline void fd_closep(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* Moves the descriptor out of a CLEANUP variable. */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}
