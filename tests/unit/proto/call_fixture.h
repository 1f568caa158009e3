/*
 * call_fixture: a call between the two engines of an h2_pair, and its ends, which write down what they hear. For tests.
 */
#pragma once

#include "h2_pair.h"

#include "proto/call.h"

#include <stdio.h>

#define MESSAGE_MAX ((size_t)1 << 20)

struct end;
typedef void (*end_event)(struct end *end, char event, struct span message);

/* One end of a call: what it heard. */
struct end {
	struct call call;
	char log[256];                           /* "M" message, "E" end, "W" writable, "C" closed */
	struct buffer messages;                  /* "<text>|" each, of the short ones */
	size_t count, bytes;
	enum grpc_status status;
	char status_text[600];
	bool closed;
	end_event on_event;
};

extern struct h2_pair pair;
extern bool keep_call;                           /* on_closed does not end it */
extern struct end server_end;                    /* of the call that was accepted last */
extern end_event server_behaviour;               /* of the calls that are accepted from now on */
extern size_t server_message_max;                /* 0: start() makes it MESSAGE_MAX */
extern struct grpc_request server_request;
extern char server_path[64];

/* What an end hears, and a server that accepts calls into `server_end`. */
extern const struct call_events end_events;
extern const struct h2_events call_server_events;

extern const struct header zstd_metadata[1];

void end_init(struct end *end, end_event on_event);
/* Makes the pair and starts a call of `end`; either event may be NULL, and either config. */
void start(struct end *end, end_event server, end_event client);
void start_with(struct end *end, end_event server, end_event client, const struct header *metadata, size_t count,
                const struct h2_config *client_config, const struct h2_config *server_config);
/* Ends the pair; the call must have closed. */
void finish(struct end *end);

void assert_messages(const struct end *end, const char *text);
void send_text(struct call *call, const char *text);

/* Behaviours of an end. Echoes each message, ends with OK at the end. */
void server_echo(struct end *end, char event, struct span message);
/* Holds the call once, in its first message. */
void hold_first(struct end *end, char event, struct span message);
