/* Ends of channels. */
#include "tests/unit/link/user.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

uint64_t user_bytes_moved;

static uint8_t pattern(uint8_t seed, uint64_t at)
{
	return (uint8_t)(seed + at * 7 + (at >> 11) * 13);
}

static void user_send(struct user *user)
{
	uint64_t left = user->to_send - user->sent;

	if (op_in_flight(&user->send) || user->closed || user->broken)
		return;
	user->piece = left < USER_PIECE_BYTES ? (size_t)left : USER_PIECE_BYTES;
	if (user->piece == 0) {
		shutdown(user->fd, SHUT_WR);
		return;
	}
	for (size_t i = 0; i < user->piece; i++)
		user->out[i] = pattern(user->seed, user->sent + i);
	ring_send(user->ring, &user->send, user->fd, span_make(user->out, user->piece));
}

static void user_on_send(struct op *op, int32_t res)
{
	struct user *user = container_of(op, struct user, send);

	if (res < 0) {
		user->broken = true;
		return;
	}
	user->sent += (uint64_t)res;
	user_send(user);
}

static void user_on_recv(struct op *op, int32_t res)
{
	struct user *user = container_of(op, struct user, recv);

	if (res <= 0) {
		user->ended = true;
		return;
	}
	for (int32_t i = 0; i < res; i++)
		user->wrong |= op->received.data[i] != pattern(user->expected_seed, user->received + (uint64_t)i);
	user->received += (uint64_t)res;
	user_bytes_moved += (uint64_t)res;
}

void user_read(struct user *user)
{
	user->lazy = false;
	ring_recv(user->ring, &user->recv, user->fd);
}

struct user *user_create(struct ring *ring, int fd, uint8_t seed, uint8_t expected_seed, uint64_t to_send, bool lazy)
{
	struct user *user = calloc(1, sizeof(*user));

	*user = (struct user){
		.ring = ring, .fd = fd, .seed = seed, .expected_seed = expected_seed, .to_send = to_send, .lazy = lazy,
		.recv.fn = user_on_recv, .send.fn = user_on_send,
	};
	if (!lazy)
		user_read(user);
	user_send(user);
	return user;
}

void user_destroy(struct user *user)
{
	if (!user)
		return;
	user->closed = true;             /* or what was sent at the last moment would be followed by more, for ever */
	ring_cancel(user->ring, &user->recv);
	ring_cancel(user->ring, &user->send);
	while (op_in_flight(&user->recv) || op_in_flight(&user->send))
		ring_run(user->ring, UINT64_MAX);
	close(user->fd);
	free(user);
}

bool user_done(const struct user *user, uint64_t received)
{
	return user->ended && user->received == received && user->sent == user->to_send;
}
