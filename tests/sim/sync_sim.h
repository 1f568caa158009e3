/*
 * sync_sim: takes the place of gateway/store/sync.c in a test: knows which files and names were made durable, and takes
 * the others away when the power goes. One place may lie.
 */
#pragma once

#include <stdbool.h>
#include "gateway/store/sync.h"

/* A store that is new, or opened again after a crash. `lying` SYNC_SITES: none. */
void sync_sim_begin(enum sync_site lying);
/* `format`, `scopes` and the segments below `path` as a power loss leaves them. The store is closed. */
void sync_sim_crash(const char *path);
const char *sync_sim_name(enum sync_site site);
