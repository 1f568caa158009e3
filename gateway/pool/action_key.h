/*
 * action_key: under which key the result of an action that ran here is kept: SHA-256 over its digest and the environment that
 * it would meet. From the digest alone, for who asks for a result without asking for a run: the image stands in the Action and
 * its Command, which were in the store when it ran here, and may have been evicted since.
 *
 *	read the ACTION -> read the COMMAND -> ask the executor host for the ENVIRONMENT
 */
#pragma once

#include "chunker/sha256.h"
#include "gateway/cas/blob_get.h"
#include "gateway/pool/pool.h"
#include "gateway/pool/task.h"

#define ACTION_KEY_IMAGE_MAX 1024        /* of an image's name */

struct action_key {
	struct cas *cas;
	struct pool *pool;
	struct scope scope;
	struct digest action;
	uint64_t deadline_ns;            /* of the ring's clock: the host is waited for no longer, nor asked after */
	void (*fn)(struct action_key *key);
	int result;                      /* 0, or -errno: the store failed, and it is not known whether there is a key */
	/*
	 * False: none is found. It never ran here, is not to be kept, its Action or its Command have been evicted, or the host
	 * does not say in time what it would meet.
	 */
	bool known;
	uint8_t key[SHA256_BYTES];
	/* The rest is action_key's. */
	struct blob_get blobs[2];        /* the Action and the Command, until the image is known */
	struct task task;
	char image[ACTION_KEY_IMAGE_MAX];
	struct pool_resolve resolve;
	struct op timer;                 /* in flight while the host is asked */
};

/* The first six fields are the caller's, the rest zero. `fn` comes inline or later; no cancel, and nothing is to be freed. */
void action_key_find(struct action_key *key);

/* What it is made of. */
void action_key_make(uint8_t key[static SHA256_BYTES], const struct digest *action, const struct pool_resolve *resolve);
