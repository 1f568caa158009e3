/* An executor process's stream to the gateway. */
#include "gateway/executor/attach.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "gateway/base/err.h"

#define ATTACH_MESSAGE_BYTES_MAX (2u << 20)
#define ATTACH_TRIES             200
#define ATTACH_TRY_NS            50000000u       /* so it waits 10 s for a gateway that is starting */

static int attach_connect(struct attach *attach, const char *socket_path, int engine)
{
	struct client_config config = { .fd = -1, .address.local = true, .engine = engine };
	char why[512];
	int r = -ECONNREFUSED;

	snprintf(config.address.host, sizeof(config.address.host), "%s", socket_path);
	for (unsigned i = 0; i < ATTACH_TRIES; i++) {
		struct timespec pause = { .tv_nsec = ATTACH_TRY_NS };

		r = client_open(&attach->client, &config, why, sizeof(why));
		if (r != -ECONNREFUSED && r != -ENOENT)
			break;
		nanosleep(&pause, NULL);
	}
	return r;
}

int attach_open(struct attach *attach, const char *socket_path, int engine, const struct executor_hello *hello)
{
	int r = attach_connect(attach, socket_path, engine);

	if (r < 0)
		return ERR_RAISE(r);
	attach->message = buffer_heap(ATTACH_MESSAGE_BYTES_MAX);
	r = client_call_open(&attach->call, attach->client, SLUICE_ATTACH, NULL, 0);
	if (r == 0)
		r = attach_send(attach, ATTACH_HELLO, &executor_hello_type, hello);
	if (r < 0)
		attach_close(attach);
	return r;
}

void attach_close(struct attach *attach)
{
	client_call_close(attach->call);
	client_close(attach->client);
	buffer_fini(&attach->message);
	*attach = (struct attach){ 0 };
}

int attach_send(struct attach *attach, uint32_t number, const struct message_type *type, const void *message)
{
	buffer_clear(&attach->message);
	message_nest(type, &attach->message, number, message);
	if (attach->message.failed)
		return ERR_RAISE(-EMSGSIZE);
	return client_send(attach->call, buffer_span(&attach->message), 0) == CLIENT_OK ? 0 : -ECONNRESET;
}

int attach_receive(struct attach *attach, struct attach_response *response, uint64_t timeout_ns)
{
	struct span message;
	int r = client_receive(attach->call, &message, timeout_ns);

	if (r == CLIENT_AGAIN)
		return -EAGAIN;
	if (r != CLIENT_OK || !message_decode(&attach_response_type, message, response))
		return -ECONNRESET;
	return 0;
}
