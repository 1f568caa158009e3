/*
 * playback: a named content read back from the store, in order, from any offset. The owner pulls; a chunk or two are read
 * ahead. What was found to be there is held until the playback ends, so that no eviction takes it from under the reader.
 *
 * `struct playbacks` is what one owner (a DiffCopy call) shares among its playbacks: memory, look-ups (many contents in
 * one), and places. Any number may be started: PLAYBACKS_ACTIVE_MAX are under way at a time, in the order of their start,
 * the others wait at the size of a struct each. One under way always has memory for the chunk that comes next (its own,
 * whatever the size), and reads ahead while all buffers together are below PLAYBACKS_BYTES_MAX. So an owner who takes from
 * them one after the other, in the order of their start, goes on as well as one who takes what has come first.
 *
 *	WAITING -> RECIPE <-> CHECKING -> PLAYING -> ended (offset == name.size), failed or stopped: NONE
 *
 * All on the ring's thread. Events come from the loop, never from inside a call of this header; none after
 * playback_stop(), nor after on_ready with another result than STORE_OK, nor after on_failed.
 */
#pragma once

#include "gateway/cas/cas.h"
#include "gateway/cas/content_name.h"
#include "proto/recipe.h"

#define PLAYBACKS_ACTIVE_MAX 8           /* each: a chunk, and RECIPE_BYTES_MAX of recipe at most, 35 B a chunk */
#define PLAYBACKS_BYTES_MAX  (2u << 20)  /* of buffers, beyond which none reads ahead */
#define PLAYBACK_AHEAD       2           /* chunks read beyond the one that is being taken */

struct ahead;                            /* a chunk in memory */
struct playback;
struct playbacks;

struct playback_events {
	/*
	 * STORE_OK: all of it is here, and held. STORE_MISSING: it is not, or not all of it (also when its recipe is
	 * damaged or malformed). -errno: the disk failed, or no memory.
	 */
	void (*on_ready)(struct playback *playback, int result);
	/* There is data again; only after playback_data() had none. The first is there with on_ready or comes after it. */
	void (*on_data)(struct playback *playback);
	/* It ends at playback->offset: STORE_CORRUPT (the chunk is quarantined: bring it again), STORE_MISSING, -errno. */
	void (*on_failed)(struct playback *playback, int result);
};

struct playback {
	uint64_t offset;                 /* to be read: of the first byte that was not yet taken */
	struct content_name name;
	/* What follows is playback's. All-zero: not started. */
	struct playbacks *playbacks;
	struct list link;
	uint8_t state;
	bool ready;                      /* on_ready was told */
	bool starved;                    /* the owner was shown no data */
	struct playing *playing;         /* while it is under way */
};

/* NULL: no memory. `cas`: its ring and store are used, and outlive it. `scope`: who reads. */
struct playbacks *playbacks_create(struct cas *cas, const struct scope *scope, const struct playback_events *events,
                                   void *owner);
/* Stops all. Memory is released when the last read has landed. NULL is accepted. */
void playbacks_destroy(struct playbacks *playbacks);
void *playbacks_owner(const struct playbacks *playbacks);

/* Plays `name` from `offset` (at most name->size) on. An empty rest is ready and at its end. */
void playback_start(struct playbacks *playbacks, struct playback *playback, const struct content_name *name,
                    uint64_t offset);

/* The next bytes, borrowed until they are taken or the playback ends. Empty: at the end, or on_data or on_failed follows. */
struct span playback_data(struct playback *playback);
/* `size` bytes of what playback_data() shows are done with. */
void playback_taken(struct playback *playback, size_t size);

/*
 * The same bytes for who lends them on: they count as taken at once, and stay as they are until playback_drop_chunk(), whatever becomes
 * of the playback meanwhile. What is before them, STORE_READ_EXTRA_BYTES at least, may be written over. The chunk's memory counts as
 * the set's until then. NULL: as an empty playback_data().
 */
struct ahead *playback_take_chunk(struct playback *playback, struct span *data);
/* NULL is accepted; also after the set was destroyed. */
void playback_drop_chunk(struct ahead *chunk);

static inline bool playback_ended(const struct playback *playback)
{
	return playback->offset == playback->name.size;
}

/* Releases what it has. At any time, any number of times, also when all-zero; the owner may then release it. */
void playback_stop(struct playback *playback);

struct playbacks_totals {
	uint64_t started, missing, failed, blobs, bytes;         /* blobs, bytes: taken from the store */
};
const struct playbacks_totals *playbacks_totals(const struct playbacks *playbacks);
/* Bytes of chunks and recipes in memory, for tests of the bound. */
size_t playbacks_memory(const struct playbacks *playbacks);
