/*
 * receiving: one FileSync/DiffCopy call as buildkitd makes it inside a session: the client's entries are taken, every regular
 * file is asked for, and what comes is counted and dropped. Embedded in its owner.
 */
#pragma once

#include "proto/call.h"

struct receiving {
	/* The owner's, before the start. Called last, once: `failure` is NULL when all came. */
	void (*on_done)(struct receiving *receiving, const char *failure);
	/* The receiving's. */
	struct call call;
	bool open;
	bool told;                       /* all entries have come */
	bool finished;                   /* both have said FIN */
	uint32_t entries, asked, come;   /* files asked for, and come whole */
	uint32_t *waiting;               /* ids that there was no room to ask for yet */
	uint32_t waiting_count, waiting_taken, waiting_room;
	uint64_t bytes;
};

/* What the daemon says of the directory that it wants. */
struct receiving_request {
	const char *directory;
	const char *follow[4];           /* followpaths, until NULL */
};

/* 0, or h2_open()'s errors. `h2` is the session's inner client. */
int receiving_start(struct receiving *receiving, struct h2 *h2, const struct receiving_request *request);
