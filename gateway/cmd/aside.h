/*
 * aside: where an output is made before it is moved to its place: beside that, as `.sluice-output-` and 16 digits. It is
 * locked as long as whoever makes it lives; what somebody left who was killed is not, and is removed by the next one.
 * Blocking; any thread.
 */
#pragma once

#include "gateway/context/aside_name.h"

struct aside {
	char name[ASIDE_NAME_BYTES];
	int fd;                          /* the file, to be written, or the directory. The lock goes when it is closed */
};

/* Makes an empty one in the directory that is open as `parent_fd`. 0 or -errno. */
int aside_make_file(struct aside *aside, int parent_fd);
int aside_make_directory(struct aside *aside, int parent_fd);

/* Removes what was left there. What cannot be removed stays. */
void aside_sweep(int parent_fd);
