/* peer: see the header. */
#include "tests/unit/ring/peer.h"

static uint8_t pattern(uint64_t position)
{
	return (uint8_t)(position * 2654435761u >> 13 ^ position);
}

static void peer_step(struct peer *peer);

static void peer_send_more(struct peer *peer)
{
	size_t size = peer->backlog;

	if (!peer->echo) {
		size = peer->to_send - peer->sent < peer->piece ? (size_t)(peer->to_send - peer->sent) : peer->piece;
		for (size_t i = 0; i < size; i++)
			peer->out[i] = pattern(peer->sent + i);
	}
	if (size == 0)
		return;
	peer->sending = true;
	ring_send(peer->ring, &peer->send, peer->handle, span_make(peer->out, size));
}

static void peer_on_close(struct op *op, int32_t res)
{
	struct peer *peer = container_of(op, struct peer, close);

	handler_enter();
	assert_int_equal(res, 0);
	peer->closed = true;
	handler_leave();
}

static void peer_step(struct peer *peer)
{
	if (peer->close.fn) {
		if (!op_in_flight(&peer->recv) && !op_in_flight(&peer->send) && !op_in_flight(&peer->close) && !peer->closed)
			ring_close(peer->ring, &peer->close, peer->handle);
		return;
	}
	if (!peer->sending && peer->send_res >= 0)
		peer_send_more(peer);
	if (peer->echo && peer->backlog > peer->backlog_max && op_in_flight(&peer->recv) && !peer->recv.cancelled) {
		peer->pauses++;
		ring_cancel(peer->ring, &peer->recv);
	}
	if (peer->echo && peer->backlog <= peer->backlog_max && !op_in_flight(&peer->recv) && !peer->ended)
		ring_recv(peer->ring, &peer->recv, peer->handle);
}

static void peer_on_recv(struct op *op, int32_t res)
{
	struct peer *peer = container_of(op, struct peer, recv);

	handler_enter();
	if (res > 0) {
		assert_true(op->more);
		assert_int_equal(op->received.size, (size_t)res);
		for (size_t i = 0; i < op->received.size; i++)
			peer->corrupt |= op->received.data[i] != pattern(peer->received + i);
		peer->received += (uint64_t)res;
		if (peer->echo) {
			assert_true(peer->backlog + (size_t)res <= peer->out_max);
			memcpy(peer->out + peer->backlog, op->received.data, (size_t)res);
			peer->backlog += (size_t)res;
		}
	} else {
		assert_false(op->more);
		if (res != -ECANCELED) {
			peer->ended = true;
			peer->end_res = res;
		}
	}
	peer_step(peer);
	handler_leave();
}

static void peer_on_send(struct op *op, int32_t res)
{
	struct peer *peer = container_of(op, struct peer, send);

	handler_enter();
	peer->sending = false;
	peer->send_res = res;
	if (res > 0) {
		assert_int_equal((size_t)res, op->size);
		peer->sent += (uint64_t)res;
		if (peer->echo) {
			memmove(peer->out, peer->out + res, peer->backlog - (size_t)res);
			peer->backlog -= (size_t)res;
		}
	}
	peer_step(peer);
	handler_leave();
}

void peer_init(struct peer *peer, struct ring *ring, int handle, size_t backlog_max)
{
	*peer = (struct peer){
		.ring = ring,
		.handle = handle,
		.recv.fn = peer_on_recv,
		.send.fn = peer_on_send,
		.echo = backlog_max > 0,
		.backlog_max = backlog_max,
		.out_max = backlog_max + (4 << 20), /* a cancelled receive may still deliver all of the ring's buffers */
	};
	if (peer->echo)
		peer->out = malloc(peer->out_max);
}

void peer_open(struct peer *peer)
{
	ring_recv(peer->ring, &peer->recv, peer->handle);
}

void peer_send(struct peer *peer, uint64_t bytes, size_t piece)
{
	if (!peer->sending) {
		free(peer->out);
		peer->out = malloc(piece);
		peer->piece = piece;
	}
	peer->to_send += bytes;
	if (!peer->sending)
		peer_send_more(peer);
}

void peer_close(struct peer *peer)
{
	peer->close.fn = peer_on_close;
	ring_cancel(peer->ring, &peer->recv);
	ring_cancel(peer->ring, &peer->send);
	peer_step(peer);
}

void peer_fini(struct peer *peer)
{
	if (!peer->close.fn)
		peer_close(peer);
	run_until(peer->ring, &peer->closed);
	free(peer->out);
}

static void server_on_accept(struct op *op, int32_t res)
{
	struct server *server = container_of(op, struct server, accept);

	handler_enter();
	if (res >= 0) {
		assert_true(server->accepted < server->max);
		peer_init(&server->peers[server->accepted], server->ring, res, server->backlog_max);
		peer_open(&server->peers[server->accepted++]);
	} else {
		assert_false(op->more);
		server->ended = true;
		server->end_res = res;
	}
	handler_leave();
}

void server_init(struct server *server, struct ring *ring, int listener, unsigned max, size_t backlog_max)
{
	*server = (struct server){
		.ring = ring,
		.accept.fn = server_on_accept,
		.peers = calloc(max, sizeof(struct peer)),
		.backlog_max = backlog_max,
		.max = max,
		.listener = listener,
	};
	ring_accept(ring, &server->accept, listener);
}

void server_fini(struct server *server)
{
	struct call closed;

	ring_cancel(server->ring, &server->accept);
	run_until(server->ring, &server->ended);
	assert_int_equal(server->end_res, -ECANCELED);
	for (unsigned i = 0; i < server->accepted; i++)
		peer_fini(&server->peers[i]);
	free(server->peers);
	ring_close(server->ring, &call_init(&closed)->op, server->listener);
	assert_int_equal(call_wait(server->ring, &closed), 0);
}
