/*
 * client_private: what client.c (the connection), client_call.c (calls) and
 * client_wait.c (whatever comes first) share.
 */
#pragma once

#include <signal.h>
#include "gateway/client/client.h"
#include "gateway/net/conn.h"

struct client {
	struct ring *ring;
	struct tls_context *tls;
	struct conn *conn;               /* NULL once it has gone */
	bool ready;                      /* it was, at least once */
	bool end_told;                   /* client_wait() has reported that it has gone */
	int error;                       /* negative errno, with `why` */
	char why[640];
	struct address address;
	bool adopted;
	char authority[ADDRESS_TEXT_MAX];
	char *authorization, *instance;  /* header values; NULL: none */
	size_t message_bytes_max;
	uint64_t connect_timeout_ns;
	struct list calls;
	struct list dead;                /* closed calls, to be freed outside their own events */
	uint64_t received, sent, handshake_received, handshake_sent;     /* once the conn has gone */
	struct op interrupt;             /* receives on interrupt_fds[0] */
	int interrupt_fds[2];
	struct op watches[CLIENT_WAIT_FDS_MAX];  /* in flight only inside client_wait() */
	volatile sig_atomic_t interrupted;
};

struct client_call {
	struct client *client;
	struct list link;
	struct call call;
	bool waiting;                    /* `next` was not fetched yet; the call is held */
	bool discarding;                 /* only the status matters any more */
	bool ended, end_fetched;
	bool abandoned;                  /* closed by the user; freed when it has ended */
	struct buffer fetched, next;     /* the message that the user looks at; the one after it */
	enum grpc_status status;
	char text[CALL_STATUS_TEXT_MAX + 1 > 640 ? CALL_STATUS_TEXT_MAX + 1 : 640];
};

/* One turn of the ring, at most until `deadline_ns` (UINT64_MAX: none). True when client_interrupt() came. */
bool client_turn(struct client *client, uint64_t deadline_ns);
/* Lets what is queued go out, without waiting for anything. */
void client_flush(struct client *client);
uint64_t client_deadline(const struct client *client, uint64_t timeout_ns);
/* Notes why the connection ends, as a sentence for the user. The first reason stays. */
void client_note_end(struct client *client);
void client_watches_init(struct client *client);
void client_calls_free(struct client *client);
void client_calls_abandon(struct client *client);
