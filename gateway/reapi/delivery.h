/*
 * delivery: one blob that goes out, from any offset, pulled by who sends it. A blob of one record is read whole; a longer one is
 * played from its recipe. Its memory is reapi.downloads', waited for in line.
 *
 *	delivery_start -> on_ready -> delivery_data, delivery_taken ... -> delivery_destroy
 *
 * Events may come from inside delivery_start() and later from the loop, never from the other calls. On the ring's thread.
 */
#pragma once

#include "gateway/cas/pair.h"
#include "gateway/cas/playback.h"
#include "gateway/reapi/reapi.h"

#define DELIVERY_LONG_BYTES (3u << 20)           /* of memory that a playback may take */

struct delivery;

struct delivery_events {
	/* STORE_OK: all of it is here; STORE_MISSING, STORE_CORRUPT, -errno. */
	void (*on_ready)(void *owner, int result);
	/* There is data again, after delivery_data() had none. */
	void (*on_data)(void *owner);
	/* The rest cannot be had. */
	void (*on_failed)(void *owner, int result);
};

/* False: out of memory. `*out` is set before any event. */
bool delivery_start(struct delivery **out, struct reapi *reapi, const struct scope *scope, const struct digest *digest,
                    uint64_t offset, const struct delivery_events *events, void *owner);
/* The next bytes, borrowed until they are taken; empty: none now, or its end. */
struct span delivery_data(struct delivery *delivery);
void delivery_taken(struct delivery *delivery, size_t size);
/*
 * The same bytes for who lends them on: they count as taken, and stay as they are until delivery_return(). One lot at a time. What is
 * before them, STORE_READ_EXTRA_BYTES at least, may be written over.
 */
struct span delivery_lend(struct delivery *delivery);
void delivery_return(struct delivery *delivery);
/* No event comes any more, and what was lent is back. Memory is released when what is in flight has landed. NULL is accepted. */
void delivery_destroy(struct delivery *delivery);
