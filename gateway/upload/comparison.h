/*
 * comparison: a tree held against another one that the gateway has, and whose directories are not here: a question a level
 * (docs/delta.md).
 * Of each directory of ours that differs from the one of its name there, the gateway tells the signature; what of ours lies in
 * blocks of that is there, with all that is below it. What is left is gone into, or asked about.
 *
 * What is found to be there is believed for now: blocks are told apart by 5 bytes, and the gateway may lose things. Pure.
 */
#pragma once

#include "gateway/base/digest_set.h"
#include "gateway/upload/based.h"

#define COMPARISON_NAMES_MAX   4096              /* a question: several small ones do not hold the loop up, one large one does */
#define COMPARISON_PENDING_MAX (1u << 20)        /* directories that are still to be compared; what comes then counts as new */

/* A directory of ours, and where the one of its name is there. */
struct comparison_pair {
	struct digest ours, above;       /* above: the directory there that the name is in; all zero: it is `base` itself */
	size_t name, name_size;          /* in `names` */
};

struct comparison {
	struct digest base;              /* the root there; size 0: nothing is compared */
	struct digest_set there;         /* what both have */
	struct digest_set differing;     /* directories of ours of whose name there is another there */
	struct digest_set seen;          /* of ours, once each */
	struct based based;              /* of those that differ, where it pays */
	struct comparison_pair *pairs;   /* from `first` on to be asked about, up to `asked` under way */
	size_t first, asked, count, room;
	struct buffer names;
};

void comparison_fini(struct comparison *comparison);     /* all-zero is accepted, and compares nothing */
/* 0 or -ENOMEM. */
int comparison_begin(struct comparison *comparison, const struct digest *base, const struct digest *root);
/* All is compared: no question is left. */
static inline bool comparison_over(const struct comparison *comparison)
{
	return comparison->first == comparison->count;
}
/* Something was found there. */
static inline bool comparison_helps(const struct comparison *comparison)
{
	return digest_set_count(&comparison->there) || digest_set_count(&comparison->differing);
}
/* Appends the next question, a Sign. Not while one is under way. */
void comparison_ask(struct comparison *comparison, struct buffer *request);
/*
 * The answer, a Signed; `encode` makes the message of a directory of ours. 0; -EPROTO: it makes no sense; -ENOMEM or as `encode`.
 * A gateway that does not know such questions ends the comparison, with what was found.
 */
int comparison_take(struct comparison *comparison, struct span message,
                    int (*encode)(void *owner, const struct digest *directory, struct buffer *out), void *owner);
