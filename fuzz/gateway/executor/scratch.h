/* scratch: a directory of a fuzz target's own, which is removed when the process exits. */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gateway/context/beneath.h"

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static char scratch_path[256];
static int scratch_fd = -1;
static pid_t scratch_owner;

static void scratch_remove(void)
{
	if (getpid() == scratch_owner && beneath_clear(scratch_fd) == 0)
		rmdir(scratch_path);
}

/* Empty. Borrowed. */
static int scratch_open(void)
{
	const char *base = getenv("TMPDIR");

	if (scratch_fd < 0) {
		snprintf(scratch_path, sizeof(scratch_path), "%s/sluice-fuzz-XXXXXX", base ? base : "/tmp");
		REQUIRE(mkdtemp(scratch_path));
		scratch_fd = open(scratch_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		REQUIRE(scratch_fd >= 0);
		scratch_owner = getpid();
		atexit(scratch_remove);
	}
	REQUIRE(beneath_clear(scratch_fd) == 0);
	return scratch_fd;
}
