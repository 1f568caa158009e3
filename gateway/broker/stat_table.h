/*
 * stat_table: what one directory of a client's looked like, (path, size, mtime) -> content; of a stat_memory's, which gives it out.
 * Past STAT_TABLE_MAPPED_ENTRIES it is a mapped, unlinked file in the memory's directory.
 *
 * All on the ring's thread; nothing waits.
 */
#pragma once

#include "gateway/broker/stat_slots.h"

#define STAT_TABLE_ENTRIES_MAX    (1u << 20)
#define STAT_TABLE_MAPPED_ENTRIES 100000u
#define STAT_TABLE_BUILDS_KEPT    32             /* full, a table forgets what this many builds did not see */

struct stat_table;

/* The user's claims have ended. NULL is accepted. With the last user what was learned is saved. */
void stat_table_unref(struct stat_table *table);
/* Saves, also while others use it; at the end of a build. Does not wait. */
void stat_table_save(struct stat_table *table);

/*
 * Its place is made of all three; but of the path alone where the mtime is a whole second. Such times are set (SOURCE_DATE_EPOCH,
 * what an archive has): other content may have the size and time that the path had earlier, with a third one in between. So of these
 * only the last one is known. A clock's own time does not come again.
 */
struct stat_entry_key stat_entry_key(struct span path, uint64_t size, int64_t mtime_ns);

/*
 * False: not known. Counts as seen: what is known under another key of that place was so earlier, and is forgotten. Whether the
 * store still has it is to be found out.
 */
bool stat_table_find(struct stat_table *table, const struct stat_entry_key *key, struct content_name *name);
/* Seen by this build, as by stat_table_find(). False: not known. */
bool stat_table_touch(struct stat_table *table, const struct stat_entry_key *key);
/* A later content under a key of the same place takes that of the earlier. May be dropped: when full, or out of memory. */
void stat_table_learn(struct stat_table *table, const struct stat_entry_key *key, const struct content_name *name);
/* What was remembered proved wrong: it is asked of the client again. */
void stat_table_forget(struct stat_table *table, const struct stat_entry_key *key);

/* For tests. */
size_t stat_table_count(const struct stat_table *table);
