/*
 * session: what every command that talks to a gateway begins with: the connection, Ctrl-C as an interrupt of what waits,
 * and one way to report a failed call.
 */
#pragma once

#include "gateway/client/client.h"
#include "gateway/cmd/client_options.h"
#include "gateway/cmd/command.h"

/* Connects and shakes hands: before any long work, so that a wrong address shows at once. STATUS_OK, or the exit status after saying why. */
int session_open(struct client **client, const struct command *command, struct client_options *options);
void session_close(struct client *client);

/* Ctrl-C came: for loops that wait for nothing. */
bool session_interrupted(void);

/* The exit status for a call's status, or for a -errno when `r` is negative. */
int session_status(int r, enum grpc_status status);
/* The same after saying `why`; of an interrupt nothing is said. */
int session_failed(const struct command *command, int r, enum grpc_status status, const char *why);
/* The same of a client_unary() that returned `r`, other than CLIENT_OK. */
int session_unary_failed(const struct command *command, struct client *client, struct client_call *call, int r);
