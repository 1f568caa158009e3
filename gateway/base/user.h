/* user: who somebody is, for sentences about what he may not do. Blocking: asks the user database. */
#pragma once

#include <sys/types.h>

#define USER_NAME_BYTES  64
#define USER_ERROR_BYTES 192

/* "sluice", or "990" where the id has no name. Returns `name`. */
const char *user_name(uid_t uid, char name[static USER_NAME_BYTES]);

/*
 * What a -errno means; of -EACCES also to whom, since a daemon that was started as root is somebody else by now:
 * "Permission denied to the user sluice, as whom this runs". Returns `text`.
 */
const char *user_error(int r, char text[static USER_ERROR_BYTES]);
