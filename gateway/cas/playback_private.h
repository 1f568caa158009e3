/*
 * playback_private: what playback.c (the set, a place, the turn, the public calls), playback_check.c (a recipe checked
 * before it is played) and playback_ahead.c (blobs in memory, and what is read next) share.
 */
#pragma once

#include "gateway/cas/playback.h"

#define CHECK_DIGESTS_MAX 1024           /* a look-up */

enum playback_state {
	PLAYBACK_NONE,
	PLAYBACK_WAITING,                /* for a place */
	PLAYBACK_RECIPE,                 /* its recipe, or a part of it, is being read, to be checked */
	PLAYBACK_CHECKING,               /* its chunks are being looked up */
	PLAYBACK_PLAYING,
};

/* A blob that is being read, or was. */
struct ahead {
	struct playbacks *playbacks;
	struct playing *playing;         /* NULL: nobody wants it any more */
	struct list link;                /* of playing.chunks */
	struct store_read read;
	bool landed;
	size_t bytes;                    /* of memory */
	size_t taken;
	uint8_t data[];
};

/* A place under way. */
struct playing {
	struct playback *playback;       /* NULL: free */
	struct playbacks *playbacks;
	struct list chunks;              /* in order */
	unsigned chunks_count;
	struct store_hold *hold;
	struct list link;                /* of playbacks.touched or playbacks.checks */
	bool touched;
	/* Of a content with a recipe. `top` lists parts, when there are such; `part` lists chunks. */
	struct ahead *loading, *top, *part;
	struct recipe_reader top_reader, part_reader;
	uint64_t parts_bytes;            /* that the parts so far said to be */
	bool given;                      /* a whole file's one blob is on its way */
	uint64_t position;               /* in the file, of the next entry of the part */
};

/* What one playing asks in the look-up that is under way. */
struct share {
	struct playing *playing;         /* NULL: it has gone */
	size_t count;
	bool ends;                       /* the part has no more */
};

struct playbacks {
	struct cas *cas;
	struct scope scope;
	struct playback_events events;
	void *owner;
	bool closing, running, posted, checking;
	struct post turn;
	unsigned reads_out;
	unsigned lent;                   /* chunks that were taken, and are not dropped yet */
	size_t bytes;
	struct list waiting;             /* playbacks */
	struct list touched, checks;
	struct playing places[PLAYBACKS_ACTIVE_MAX];
	struct playbacks_totals totals;
	struct store_lookup lookup;
	struct share shares[PLAYBACKS_ACTIVE_MAX];
	size_t shares_count;
	struct digest digests[CHECK_DIGESTS_MAX];
	uint32_t answers[CHECK_DIGESTS_MAX];
};

enum next_outcome {
	NEXT_CHUNK,
	NEXT_WAIT,                       /* for a part */
	NEXT_END,
	NEXT_MALFORMED,
	NEXT_MEMORY,
};

/* A turn is posted, unless one is. */
void playbacks_schedule(struct playbacks *playbacks);
/* Of a set that is closing: frees it once nothing of it is in flight. */
void playbacks_close_join(struct playbacks *playbacks);
/* Something came for it: it is looked at in the next turn. */
void playing_touch(struct playing *playing);
/* It ends here, before or after it was ready. The last thing: the owner may do anything. */
void playing_fail(struct playing *playing, int result);
/* As above, the last thing. */
void playing_ready(struct playing *playing);

/* RECIPE: the top, or a part that is to be checked, is there. May fail the playback, or make it ready. */
void playing_on_recipe(struct playing *playing);
/* What the look-up said. */
void playbacks_answer(struct playbacks *playbacks);
/* One look-up for all that wait for one, unless one is under way. */
void playbacks_check(struct playbacks *playbacks);

/* Not read yet. NULL: no memory. */
struct ahead *playback_ahead_create(struct playing *playing, const struct digest *digest);
/* Starts its read, which touches the playing when it lands. */
void playback_ahead_read(struct ahead *ahead);
/* Nobody waits for it any more: freed now, or when its read lands. NULL is accepted. */
void playback_ahead_leave(struct ahead *ahead);
/* Not being read. NULL is accepted. */
void playback_ahead_free(struct ahead *ahead);
/* Reads the next part: NEXT_WAIT; NEXT_END: there is none. */
enum next_outcome playing_part_next(struct playing *playing);
/* A recipe was read: it becomes playing->top or playing->part. 0, or what is wrong. */
int playing_recipe_loaded(struct playing *playing);
/* Starts reads: always one, and more while there is room. 0, or what is wrong. */
int playing_fill(struct playing *playing);
