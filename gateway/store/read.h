/*
 * read: blobs whole: resolve, read header and payload, check both, hand out or quarantine. What waits is taken in lots, which are
 * looked up together; blobs of a lot that lie behind each other, on the disk and in memory, come with one read.
 */
#pragma once

#include "gateway/store/resolve.h"

#define READS_MAX     64                 /* under way; more of them wait */
#define READ_LOT_MAX  32                 /* of one lot */
#define READ_RUN_MAX  (1u << 20)         /* bytes of one read of several */
#define READS_BAD_MAX 64                 /* places that could not be read, remembered */

/* One read of a lot. */
struct lot_read {
	struct read_lot *lot;
	struct store_read *read;         /* until it is handed out */
	struct place place;
	uint32_t on_disk;                /* so many bytes from the front were in no slot */
	uint32_t run;                    /* of the first of those that come with one read: how many they are */
	bool again;                      /* the disk could not read it, by itself, and was asked once more */
	bool there;                      /* it was to be had, and is pinned by its segment's `readers` */
};

struct read_lot {
	struct store *store;
	struct resolve resolve;
	uint8_t hashes[READ_LOT_MAX][DIGEST_HASH_BYTES];
	struct lot_read reads[READ_LOT_MAX];
	uint32_t count, left;            /* left: not handed out, and one more while the lot is looked through */
	struct list link;
};

struct reads {
	struct read_lot *lots;
	struct list idle, waiting;       /* lots, reads */
	uint32_t waiting_count;
	uint32_t active;                 /* reads */
	unsigned gathering;              /* store_reads_gather() without its start */
	/* Where the disk could not read, and since when; in turn. */
	struct bad_place {
		struct place place;
		uint64_t since_ns;       /* 0: none */
	} bad[READS_BAD_MAX];
	unsigned bad_next;
};

int reads_init(struct reads *reads, struct store *store);
void reads_fini(struct reads *reads);
void reads_step(struct store *store);
/* Takes a blob whose bytes at `place` are damaged out of sight, if it still lies there. */
void read_quarantine(struct store *store, const struct digest *digest, struct place place);
