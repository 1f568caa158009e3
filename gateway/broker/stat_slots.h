/*
 * stat_slots: entries of a stat_memory's table, by their keys' places: open addressing in one piece of memory, which does not grow by
 * itself. Beyond a size that memory is a mapped file without a name. No I/O but for making and dropping it.
 */
#pragma once

#include "gateway/cas/content_name.h"

#define STAT_ENTRY_KEY_BYTES   16
#define STAT_ENTRY_PLACE_BYTES 8         /* of a key, the first: there is at most one entry of a place */

/* A file's path, size and mtime: see stat_entry_key(). */
struct stat_entry_key {
	uint8_t bytes[STAT_ENTRY_KEY_BYTES];
};

/* As in memory, so in the file. */
struct stat_entry {
	struct stat_entry_key key;
	uint8_t hash[DIGEST_HASH_BYTES];
	uint64_t size;                   /* of the file */
	uint32_t recipe_bytes;           /* 0: named by its own digest */
	uint32_t generation;             /* of the last build that saw it; 0: a free slot */
};
#define STAT_ENTRY_BYTES 64

struct stat_slots {
	struct stat_entry *entries;
	size_t capacity, used, live;     /* used: with those that were removed and keep their slot */
	uint64_t seed;                   /* of the slots' order, which a client must not know */
	bool mapped;
};

/*
 * Room for `capacity` slots, blocking when `mapped` (in the directory `dir_fd`). 0, -ENOMEM, or what the file system
 * says. All-zero slots are empty, and have no room.
 */
int stat_slots_init(struct stat_slots *slots, size_t capacity, uint64_t seed, bool mapped, int dir_fd);
void stat_slots_fini(struct stat_slots *slots);          /* all-zero is accepted */

/* The entry of that key's place, which may be of another key; NULL: not there. */
struct stat_entry *stat_slots_find(const struct stat_slots *slots, const struct stat_entry_key *key);
/* The entry of that key's place, to be written over; a new one has generation 0 until then. NULL: no slot is free. */
struct stat_entry *stat_slots_add(struct stat_slots *slots, const struct stat_entry_key *key);
void stat_slots_remove(struct stat_slots *slots, struct stat_entry *entry);
/* Slot `i` has an entry. */
bool stat_slots_has(const struct stat_slots *slots, size_t i);

/* False: a name that no ingest gives, which the entry cannot keep. */
bool stat_entry_set(struct stat_entry *entry, const struct content_name *name, uint32_t generation);
struct content_name stat_entry_name(const struct stat_entry *entry);
/* What stat_entry_set() may have written. */
bool stat_entry_valid(const struct stat_entry *entry);
