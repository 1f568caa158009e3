/*
 * listener: one listening socket on a ring. Hands each accepted socket to its owner; goes on after errors that pass
 * (out of descriptors), after a pause; and leaves callers to the kernel's backlog while its owner has no room for them.
 *
 *	LISTENING <-> PAUSED, -> CLOSING -> CLOSED
 *	LISTENING -> FULL -> LISTENING
 */
#pragma once

#include "gateway/net/conn.h"

struct listener;

typedef void listener_accepted_fn(struct listener *listener, int handle);
typedef void listener_closed_fn(struct listener *listener);

enum listener_state {
	LISTENER_LISTENING,              /* an accept is armed */
	LISTENER_PAUSED,                 /* waits a moment after an error */
	LISTENER_FULL,                   /* waits for listener_resume(); the accept is cancelled, and may still hand on some */
	LISTENER_CLOSING,                /* ops are cancelled */
	LISTENER_CLOSED,                 /* the socket is closed; `closed` was called */
};

struct listener {
	struct ring *ring;
	enum listener_state state;
	int fd;
	struct op accept, pause;
	struct address address;
	mode_t unix_mode;                /* of a unix socket; 0: owner and group may connect */
	bool loopback;                   /* only local callers can reach it */
	bool own;                        /* the owner's mark: for the program's own helpers */
	struct tls_context *tls;         /* borrowed; NULL: plain */
	char bound[ADDRESS_TEXT_MAX];
	uint64_t path_device, path_inode;        /* of a unix socket, to remove no other's */
	void *owner;
	listener_accepted_fn *accepted;
	listener_closed_fn *closed;
	struct list link;                /* the owner's */
};

/* `ring`, `address`, `tls`, `unix_mode`, `owner` and the two functions are set. 0 or -errno with `why`. */
int listener_start(struct listener *listener, char *why, size_t why_size);
/* No more are accepted, but those that the kernel has handed over; in any state. */
void listener_hold(struct listener *listener);
/* There is room again; in any state. */
void listener_resume(struct listener *listener);
/* Stops; `closed` follows from the loop, once. Idempotent. */
void listener_stop(struct listener *listener);
/* Who a freshly accepted socket belongs to, as far as the socket tells. */
void listener_peer(const struct listener *listener, int handle, struct conn_peer *peer);
