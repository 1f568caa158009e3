/*
 * stat_private: what a memory of stats, its tables and their claims share. stat_memory.c has tables by their keys, and their life;
 * stat_table.c the entries of one; stat_table_disk.c how it is loaded and saved; stat_claim.c who fetches which file.
 */
#pragma once

#include "gateway/base/log.h"
#include "gateway/broker/stat_claim.h"
#include "gateway/broker/stat_file.h"
#include "gateway/broker/stat_memory.h"

#define STAT_CLAIM_BUCKETS 256
#define STAT_TABLE_BUCKETS 1024

struct stat_table {
	struct stat_memory *memory;
	uint8_t key[STAT_KEY_BYTES];
	struct list link, idle, known;
	struct list requests;            /* while it is being loaded */
	unsigned users;
	bool loading, growing, saving, dirty, save_again, forgetful;
	uint32_t generation;
	uint32_t grow_from;              /* not before this generation again */
	size_t count;                    /* of keys in both */
	struct stat_slots now, old;
	size_t drained;                  /* of old's slots */
	struct op work;                  /* loads, and later saves */
	int load_result;
	struct op grow;
	struct stat_slots grown;
	struct stat_writer writer;
	struct stat_entry *slice;
	size_t slice_count, slice_room, save_at;
	bool save_last, save_from_start, save_begun, save_prunes;
	bool save_anew;                  /* the slots are others: from the beginning */
	uint32_t save_generation;
	struct list claims[STAT_CLAIM_BUCKETS];  /* fetchers */
};

struct stat_memory {
	struct ring *ring;
	int dir_fd;
	uint64_t seed;
	struct list tables, idle;
	struct list known[STAT_TABLE_BUCKETS];   /* the tables by their keys, which are digests */
	size_t idle_count, idle_bytes;
	struct list answers, tells;      /* requests and claims whose events are due */
	struct post turn;
	bool posted, running, closing;
	void (*fn)(void *context);
	void *context;
	struct stat_memory_status totals;
};

/* ---- stat_memory.c ---- */

/* Answers and events are due: they come in the next turn. */
void stat_memory_schedule(struct stat_memory *memory);
/* Something of the table has ended: is it idle now? This may be the end of the table, and of the memory. */
void stat_memory_settle(struct stat_table *table);
void stat_memory_log(const struct stat_table *table, enum log_level level, const char *event, int r);

/* ---- stat_table.c ---- */

/* Empty slots for so many entries; blocking. 0, or as stat_slots_init(). */
int stat_table_make_slots(struct stat_table *table, size_t count);
/* So many of the older slots move to the newer ones. */
void stat_table_drain(struct stat_table *table, size_t slots);
/* Of its slots, and of the table itself with those in memory. */
size_t stat_table_bytes(const struct stat_table *table, bool mapped);

/* ---- stat_table_disk.c ---- */

/* By a worker, with table.work: what its file says, and table.load_result. */
int32_t stat_table_load(struct op *work);

/* ---- stat_claim.c ---- */

/* From the memory's turn: the claim is told what it is to be told. */
void stat_claim_event(struct stat_claim *claim);
