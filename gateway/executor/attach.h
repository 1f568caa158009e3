/*
 * attach: an executor process's stream to the gateway: Hello, then assignments and cancels one way, output and results the
 * other. Blocking, over a client. Used by the control process and by the slots.
 */
#pragma once

#include "gateway/client/client.h"
#include "proto/sluice_v1.h"

struct attach {
	struct client *client;
	struct client_call *call;
	struct buffer message;
};

/* Connects to the executor socket, trying for 10 s while it is not there. 0 or -errno. */
int attach_open(struct attach *attach, const char *socket_path, int engine, const struct executor_hello *hello);
void attach_close(struct attach *attach);

/* Of AttachRequest. */
enum { ATTACH_HELLO = 1, ATTACH_RESOLVED = 2, ATTACH_SPAWN_EVENT = 5 };

/* Sends one field of AttachRequest. 0, or -ECONNRESET when the gateway is gone. */
int attach_send(struct attach *attach, uint32_t number, const struct message_type *type, const void *message);

/* Waits for a message from the gateway. 0, -EAGAIN (timeout), or -ECONNRESET. Spans are borrowed until the next receive. */
int attach_receive(struct attach *attach, struct attach_response *response, uint64_t timeout_ns);
