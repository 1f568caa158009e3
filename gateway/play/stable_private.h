/* stable_private: what stable.c (the set of lineages: keys, finding, what goes) and lineage.c (one lineage) share. */
#pragma once

#include "gateway/play/claims_file.h"
#include "gateway/play/recent.h"
#include "gateway/play/stable.h"
#include "proto/buffer.h"

#define SECRET_BYTES     32
#define NAME_BYTES_MAX   255

/*
 * NAMED (only its file's head is known) -> OPENING -> READY <-> WRITING. OVER: its key is not given any more, its file is
 * removed when its last user has gone.
 */
enum lineage_state {
	LINEAGE_NAMED,
	LINEAGE_OPENING,
	LINEAGE_READY,
	LINEAGE_WRITING,
};

struct lineage {
	struct stable *stable;
	struct list link;                /* stable.lineages, the one used last first */
	enum lineage_state state;
	bool over;                       /* not for new builds, which begin another */
	bool strange;                    /* likewise, but it stays */
	bool make;                       /* its file is to be made */
	bool failed;                     /* its file cannot be written */
	bool given_up, removed;          /* given_up: its file is to go at once; and has */
	unsigned refs;
	uint64_t tenant;                 /* who has used it since the start; 0: nobody */
	struct claims_file_head head;
	char name[NAME_BYTES_MAX + 1], key[STABLE_KEY_BYTES];
	struct claims claims;
	int fd;
	uint64_t end;                    /* of the file */
	uint64_t made, writing, durable; /* claims since it was opened */
	struct buffer pending, written;  /* of struct claim */
	struct list requests, syncs, farewells;
	struct op op;
	struct post turn;
	bool posted;
};

struct unfit {
	uint8_t owner[CLAIMS_FILE_OWNER_BYTES];
	uint64_t until_ns;               /* 0: none */
	bool suspect;                    /* it goes by stable keys still; next time not any more */
};

struct stable {
	struct ring *ring;
	int dir_fd;
	char *directory;
	uint8_t secret[SECRET_BYTES];
	struct list lineages;
	struct recent clients;           /* the id of the lineage that each had last */
	struct unfit unfit[STABLE_UNFIT_MAX];
	unsigned unfit_next;
	uint32_t full_enough;            /* claims: no build begins under a key that has so many */
	unsigned count, busy;            /* busy: ops and posts under way */
	uint64_t damaged, writes_failed;
	void (*closed)(void *context);
	void *context;
	struct post closing;
};

/* ---- stable.c ---- */

/* The key that executors see; `name` is set. */
void lineage_make_key(struct lineage *lineage);
/* For its table, unlike any other's. */
uint64_t lineage_seed(const struct lineage *lineage);
/* Of lineages of this owner: for a while there are none any more; `passing`: only when it is said again meanwhile. */
void stable_note_unfit(struct stable *stable, const uint8_t *owner, bool passing);
/* The longest unused leave the memory, or the disk: to make room for the one that was used last. */
void stable_tidy(struct stable *stable);
/* When it is being closed and nothing is under way: the end, by which `stable` is freed. */
void stable_close_join(struct stable *stable);

/* ---- lineage.c ---- */

/* In the list, as the last; its file was not touched. NULL: out of memory. */
struct lineage *lineage_create(struct stable *stable, const struct claims_file_head *head);
void lineage_free(struct lineage *lineage);
/* Back to NAMED. */
void lineage_unload(struct lineage *lineage);
bool lineage_is_busy(const struct lineage *lineage);
void lineage_start_opening(struct lineage *lineage);
/* Its key is given to nobody any more; nor is it found again. Freed when nobody uses it, its file removed. */
void lineage_end(struct lineage *lineage);
/* It looks in a moment what there is to be done. */
void lineage_schedule(struct lineage *lineage);
