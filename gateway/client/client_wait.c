/* Waiting for whatever comes first: a message, the end of a call, descriptors of the caller, the connection's end. */
#include "gateway/client/client_private.h"

#include <poll.h>
#include "gateway/base/check.h"

/* ---- looking ---- */

static bool look_at_calls(const struct client *client)
{
	list_for_each(link, &client->calls) {
		const struct client_call *call = container_of(link, struct client_call, link);

		if (!call->abandoned && (call->waiting || (call->ended && !call->end_fetched)))
			return true;
	}
	return false;
}

static bool look_at_fds(const int *fds, size_t count, bool *ready)
{
	struct pollfd polls[CLIENT_WAIT_FDS_MAX];
	bool any = false;

	for (size_t i = 0; i < count; i++)
		polls[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	if (count && poll(polls, count, 0) < 0)
		return false;
	for (size_t i = 0; i < count; i++) {
		ready[i] = fds[i] >= 0 && polls[i].revents != 0;
		any |= ready[i];
	}
	return any;
}

static bool any_fd(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i] >= 0)
			return true;
	return false;
}

/* Something to wait for is there. */
static bool wait_is_over(struct client *client, const int *fds, size_t count, bool *ready)
{
	/* Both looks, so that `ready` is right also when a call ends the wait. */
	bool readable = look_at_fds(fds, count, ready);

	if (!look_at_calls(client) && !readable && (client->conn || (any_fd(fds, count) && client->end_told)))
		return false;
	client->end_told = !client->conn;
	return true;
}

/* ---- watching ---- */

/* It only ends the turn: look_at_fds() says what is ready. */
static void client_on_watch(struct op *op, int32_t res)
{
	(void)op, (void)res;
}

void client_watches_init(struct client *client)
{
	for (size_t i = 0; i < CLIENT_WAIT_FDS_MAX; i++)
		client->watches[i].fn = client_on_watch;
}

/* Also those again that had fired, and what they fired for was taken by somebody else. */
static void watch(struct client *client, const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i] >= 0 && !op_in_flight(&client->watches[i]))
			ring_poll(client->ring, &client->watches[i], fds[i]);
}

/* The caller may close the descriptors when the wait is over: nothing may look at them any more then. */
static void unwatch(struct client *client)
{
	for (size_t i = 0; i < CLIENT_WAIT_FDS_MAX; i++)
		ring_cancel(client->ring, &client->watches[i]);
	for (size_t i = 0; i < CLIENT_WAIT_FDS_MAX; i++)
		while (op_in_flight(&client->watches[i]))
			ring_run(client->ring, UINT64_MAX);
	client_note_end(client);
	client_calls_free(client);
}

int client_wait(struct client *client, const int *fds, size_t fds_count, bool *fds_ready, uint64_t timeout_ns)
{
	uint64_t deadline = client_deadline(client, timeout_ns);
	int r = CLIENT_OK;

	CHECK(fds_count <= CLIENT_WAIT_FDS_MAX);
	while (!wait_is_over(client, fds, fds_count, fds_ready)) {
		if (ring_now_ns(client->ring) >= deadline) {
			r = CLIENT_AGAIN;
			break;
		}
		watch(client, fds, fds_count);
		if (client_turn(client, deadline)) {
			r = CLIENT_INTERRUPTED;
			break;
		}
	}
	unwatch(client);
	return r;
}
