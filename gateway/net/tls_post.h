/*
 * tls_post: what a peer of TLS 1.3 says behind the handshake beside data (RFC 8446 section 4.6): tickets, which are not kept, and
 * updates of its keys. All else was not offered to it.
 */
#pragma once

#include <stdbool.h>
#include "proto/span.h"

/*
 * Each takes a hundred times the CPU of its bytes: so many, when no data comes between, and one more for each record of data that we
 * send, as Java's TLS asks once a record until our answer has come.
 */
#define TLS_POST_UPDATES_MAX 32

struct tls_post {
	bool client;                     /* we are: tickets may come */
	uint8_t head[5];                 /* type, size, and the first byte of the message in progress */
	size_t had;                      /* of that */
	size_t skip;                     /* of a ticket, still to come */
	int updates;                     /* less than 0: so many more may come */
};

enum tls_post_outcome {
	TLS_POST_NOTHING,                /* to be done */
	TLS_POST_UPDATE,                 /* the next record is under the peer's next secret */
	TLS_POST_UPDATE_BOTH,            /* and it asks us for a KeyUpdate of ours */
};

/* The content of a record of type handshake. An outcome, or minus the alert that the peer is to be told. */
int tls_post_feed(struct tls_post *post, struct span content);
/* Data has come, or gone. */
void tls_post_received(struct tls_post *post);
void tls_post_sent(struct tls_post *post);
/* The peer has begun a message: no other record may come in between (section 5.1). */
bool tls_post_unfinished(const struct tls_post *post);
