/*
 * edge_stand_in: what an edge is to the gateway, inside a rig's session: it has a tree's blobs and its root, puts them into
 * the store, and answers Context/Give. What it does beyond answering is the test's to say. For tests.
 */
#pragma once

#include "proto/sluice_context.h"
#include "proto/sluice_v1.h"
#include "tests/unit/session/session_rig.h"

#define STAND_IN_BLOBS_MAX (3 * RIG_FILES_MAX)

struct stand_in {
	struct rig *rig;
	const struct rig_tree *tree;
	struct blob blobs[STAND_IN_BLOBS_MAX];
	uint32_t blobs_count;
	struct digest root;
	uint32_t files;
	struct named_entry names[RIG_FILES_MAX]; /* by entry; of directories zero */
	/* How it answers. */
	const char *unfit;               /* with this instead of the root */
	bool passing;                    /* and says so of `unfit` */
	bool refuses;                    /* resets the call */
	bool silent;                     /* not at all until stand_in_say_root() */
	bool slow_times;                 /* nor with times, until stand_in_say_times() */
	bool names_links;                /* ahead: also of hard links, which have their files' */
	bool lies;                       /* counts one entry more than there are */
	uint32_t same;                   /* when it may: says so many are, and nothing else until it is told to */
	bool ahead;                      /* when it may: entries first, and the rest with stand_in_name() and stand_in_say_root() */
	uint64_t bytes_sent, files_read; /* what it says of them */
	/* What came. */
	struct call call;
	bool open, ended;
	unsigned asks;
	bool asked_times;
	bool asked_ahead, asked_same;
	uint32_t wanted;                 /* times that were asked for one by one, in its calls so far */
	struct digest known;             /* of the last ask; zero: none */
	struct buffer missing;           /* the last list; empty: none */
	uint32_t urged;                  /* files that were to come first */
	uint64_t urged_last;
	char directory[64], pattern[64]; /* of the call's header fields */
};

/* Makes the blobs of the tree, and puts nothing. */
void stand_in_init(struct stand_in *edge, struct rig *rig, const struct rig_tree *tree);
/* No call is open. */
void stand_in_fini(struct stand_in *edge);
/* Those that `wants` (NULL: all) into the store of the rig's tenant. */
void stand_in_push(struct stand_in *edge, bool (*wants)(const struct stand_in *edge, uint32_t blob));
/* What was listed as missing last, and forgets the list. */
void stand_in_push_missing(struct stand_in *edge);
void stand_in_say_root(struct stand_in *edge);
void stand_in_say_times(struct stand_in *edge);
/* A list of the test's own. False: the call has no room for it now. */
bool stand_in_try_times(struct stand_in *edge, struct span times);
void stand_in_say_same(struct stand_in *edge, uint32_t count);
/* With `unfit`, and ends its call. */
void stand_in_say_unfit(struct stand_in *edge);
/* The contents of some entries, from `first` on. */
void stand_in_name(struct stand_in *edge, uint32_t first, uint32_t count);

/* For rig.give; rig.giver is the stand-in. */
void stand_in_give(struct rig_client *client, struct stream *stream, const struct grpc_request *head);
