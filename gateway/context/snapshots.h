/*
 * snapshots: the folder with the snapshots of a client's directories, one file each, so that it does not grow with every directory
 * that was ever pushed. Blocking; other processes may write there at the same time.
 */
#pragma once

#define SNAPSHOTS_MAX         256
#define SNAPSHOTS_BYTES_MAX   (4ull << 30)
#define SNAPSHOTS_NAME_DIGITS 32         /* of a file's name, in hex */
#define SNAPSHOTS_ASIDE_S     86400      /* what is written aside (snapshot_file.h) for longer was left by a kill */

/*
 * After one was added, `path`, which stays: those used longest ago go until the rest is within the bounds, and so does what was
 * left aside. Other names are nobody's business. What cannot be removed stays.
 */
void snapshots_trim(const char *path);
