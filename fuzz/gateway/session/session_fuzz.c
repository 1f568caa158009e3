/*
 * nested_session: any bytes from both ends of a whole session: a client that is the inner server, a daemon that is the inner
 * client, and the gateway's session between the outer connections of the two, on a simulated ring. Whatever comes, what
 * was said settles, and both sides have ended once the carriers have.
 * Input: a byte of flags, then pieces: the low two bits of a piece's first byte say what it is, the high six how long or which
 * (63: two more bytes say how long).
 */
#include "gateway/session/session.h"

#include <stdlib.h>
#include "gateway/base/log.h"
#include "gateway/cas/cas.h"
#include "proto/buildkit.h"
#include "tests/sim/ring_sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define TURNS_MAX 100000u                        /* until all that was said has had its effect */

enum flag {
	FLAG_BROKER = 1,
	FLAG_LATE = 2,                           /* not carried before an event says so */
	FLAG_LAZY = 4,                           /* turns happen on events only: pieces arrive together */
	FLAG_SPOOLS = 8,                         /* Upload/Pull is kept */
};

enum piece { PIECE_FROM_CLIENT, PIECE_FROM_DAEMON, PIECE_EVENT, PIECE_RAW };

enum event {
	EVENT_TURN,
	EVENT_CLIENT_ENDS,
	EVENT_CLIENT_CANCELS,
	EVENT_CLIENT_LOST,
	EVENT_DAEMON_FINISHES,
	EVENT_DAEMON_LOST,
	EVENT_CARRY,
	EVENT_TIME,                              /* to the next timer */
	EVENT_HOLD,                              /* nobody reads */
	EVENT_RELEASE,
	EVENT_FINISH,                            /* the session's owner ends it */
};

/* The end of a session that is not the gateway's. */
struct end {
	struct h2 *far, *near;                   /* an outer connection: its engine here, and the gateway's */
	struct call call;
	bool open;
};

struct rig {
	struct ring *ring;
	struct cas cas;
	struct diffcopy_service service;
	struct session *session;
	struct end client, daemon;
	bool broker, spooling;
	struct spool_room spools;
};

/* ---- the ends ---- */

static void end_on_message(struct call *call, struct span message)
{
}

static void end_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct end *end = container_of(call, struct end, call);

	end->open = false;
	call_fini(call);
}

static const struct call_events end_events = { .on_message = end_on_message, .on_closed = end_on_closed };

static void ignore_output(void *owner)
{
}

static bool carry(struct h2 *from, struct h2 *to)
{
	struct span data;
	bool moved = false;

	while ((data = h2_output(from)).size) {
		moved = true;
		REQUIRE(h2_feed(to, data) == 0);         /* outside, nobody lies */
	}
	return moved;
}

static bool end_pump(struct end *end)
{
	bool moved;

	if (!end->far)
		return false;
	moved = carry(end->far, end->near);
	return carry(end->near, end->far) || moved;
}

static void end_lose(struct end *end)
{
	if (!end->far)
		return;
	h2_carrier_closed(end->far);
	h2_carrier_closed(end->near);
}

static void end_free(struct end *end)
{
	REQUIRE(!end->open);
	h2_destroy(end->far);
	h2_destroy(end->near);
	end->far = end->near = NULL;
}

static void settle(struct rig *rig)
{
	unsigned turns = 0;
	bool moved;

	do {
		moved = end_pump(&rig->client);
		moved |= end_pump(&rig->daemon);
		moved |= ring_run(rig->ring, 0) > 0;
		REQUIRE(++turns < TURNS_MAX);
	} while (moved);
}

/* ---- the gateway ---- */

static void rig_on_executor_closed(struct session *session, enum grpc_status status, struct span message)
{
}

static void rig_on_closed(struct session *session)
{
	struct rig *rig = session_owner(session);

	rig->session = NULL;
}

static const struct session_events session_events = {
	.on_executor_closed = rig_on_executor_closed, .on_closed = rig_on_closed,
};

static int gateway_on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	struct rig *rig = owner;
	struct session_config config = {
		.ring = rig->ring, .broker = rig->broker ? &rig->service : NULL, .scope = { 1, 1, SCOPE_ALL },
		.tenant = span_text("a"), .subject = span_text("someone"), .events = &session_events, .owner = rig,
		.spools = rig->spooling ? &rig->spools : NULL,
	};
	struct grpc_request head;

	REQUIRE(grpc_request_parse(&head, request));
	return session_accept(&rig->session, &config, stream, &head);
}

static int daemon_on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	struct rig *rig = owner;
	struct grpc_request head;

	REQUIRE(grpc_request_parse(&head, request));
	REQUIRE(!rig->daemon.open);
	rig->daemon.open = true;
	call_accept(&rig->daemon.call, stream, &head, NEST_MESSAGE_BYTES_MAX, &end_events, rig);
	return 0;
}

static void end_connect(struct h2 **client, struct h2 **server, const struct h2_events *server_events, struct rig *rig)
{
	static const struct h2_events plain = { .on_output = ignore_output };
	const struct h2_config one = { .events = &plain }, other = { .server = true, .events = server_events, .owner = rig };

	REQUIRE(h2_create(client, &one) == 0);
	REQUIRE(h2_create(server, &other) == 0);
}

static void rig_carry(struct rig *rig)
{
	static const struct h2_events daemon_events = { .on_stream = daemon_on_stream, .on_output = ignore_output };

	settle(rig);
	if (!rig->session || !session_is_held(rig->session))
		return;
	end_free(&rig->daemon);
	end_connect(&rig->daemon.near, &rig->daemon.far, &daemon_events, rig);
	REQUIRE(session_carry(rig->session, rig->daemon.near) == 0);
	settle(rig);
}

/* ---- what comes ---- */

static void rig_say(struct rig *rig, struct end *end, struct span data, bool raw)
{
	uint8_t head[BYTES_MESSAGE_HEAD_MAX];
	struct span parts[2] = { { head, 0 }, data };

	if (!end->open)
		return;
	if (!raw)
		parts[0].size = bytes_message_head(head, data.size);
	if (call_send_parts(&end->call, parts, 2) != CALL_FULL)
		return;
	settle(rig);                             /* what is still not taken then is lost: they are any bytes */
	if (end->open)
		call_send_parts(&end->call, parts, 2);
}

static void rig_hold(struct end *end, bool hold)
{
	if (end->open && hold)
		call_hold(&end->call);
	else if (end->open && end->call.held)
		call_release(&end->call);
}

static void rig_event(struct rig *rig, enum event event)
{
	switch (event) {
	case EVENT_TURN:
		settle(rig);
		break;
	case EVENT_CLIENT_ENDS:
		if (rig->client.open)
			call_end(&rig->client.call);
		break;
	case EVENT_CLIENT_CANCELS:
		if (rig->client.open)
			call_cancel(&rig->client.call);
		break;
	case EVENT_CLIENT_LOST:
		end_lose(&rig->client);
		break;
	case EVENT_DAEMON_FINISHES:
		if (rig->daemon.open)
			call_finish(&rig->daemon.call, GRPC_OK, NULL);
		break;
	case EVENT_DAEMON_LOST:
		end_lose(&rig->daemon);
		break;
	case EVENT_CARRY:
		rig_carry(rig);
		break;
	case EVENT_TIME:
		settle(rig);
		if (rig->session)
			ring_run(rig->ring, UINT64_MAX);
		break;
	case EVENT_HOLD:
	case EVENT_RELEASE:
		rig_hold(&rig->client, event == EVENT_HOLD);
		rig_hold(&rig->daemon, event == EVENT_HOLD);
		break;
	case EVENT_FINISH:
		if (rig->session)
			session_finish(rig->session, GRPC_UNAVAILABLE, "no executor");
		break;
	}
}

static struct span take(struct span *input, size_t size)
{
	struct span taken = span_make(input->data, size < input->size ? size : input->size);

	*input = span_make(input->data + taken.size, input->size - taken.size);
	return taken;
}

static struct span take_piece(struct span *input, unsigned length)
{
	struct span two;

	if (length < 63)
		return take(input, length);
	two = take(input, 2);
	return take(input, two.size == 2 ? two.data[0] | (size_t)two.data[1] << 8 : 0);
}

static void rig_play(struct rig *rig, struct span *input)
{
	uint8_t first = take(input, 1).data[0];
	unsigned rest = first >> 2;

	switch ((enum piece)(first & 3)) {
	case PIECE_FROM_CLIENT:
		rig_say(rig, &rig->client, take_piece(input, rest), false);
		break;
	case PIECE_FROM_DAEMON:
		rig_say(rig, &rig->daemon, take_piece(input, rest), false);
		break;
	case PIECE_EVENT:
		rig_event(rig, (enum event)rest);
		break;
	case PIECE_RAW:
		rig_say(rig, rest & 1 ? &rig->client : &rig->daemon, take(input, rest >> 1), true);
		break;
	}
}

/* ---- life ---- */

static void rig_open(struct rig *rig)
{
	static const struct h2_events gateway_events = { .on_stream = gateway_on_stream, .on_output = ignore_output };
	const struct ring_sim_config sim = { .seed = 1 };
	const struct header metadata[] = {
		{ span_text("x-docker-expose-session-uuid"), span_text("the-session"), false },
		{ span_text("x-docker-expose-session-sharedkey"), span_text("a directory"), false },
		{ span_text("x-docker-expose-session-grpc-method"), span_text(DIFFCOPY_PATH), false },
	};

	REQUIRE(ring_sim_create(&rig->ring, &sim) == 0);
	rig->cas.ring = rig->ring;
	rig->service = (struct diffcopy_service){ .cas = &rig->cas, .mtime_trust = true, .directory = "/tmp" };
	rig->spools = (struct spool_room){ .bytes_max = 16u << 20, .spool_bytes_max = 4096 };
	end_connect(&rig->client.far, &rig->client.near, &gateway_events, rig);
	REQUIRE(call_start(&rig->client.call, rig->client.far, SESSION_PATH, span_text("x"), 0, metadata, 3, NEST_MESSAGE_BYTES_MAX,
	                   &end_events, rig) == 0);
	rig->client.open = true;
	settle(rig);
	REQUIRE(rig->session);
}

static void rig_close(struct rig *rig)
{
	rig_event(rig, EVENT_RELEASE);
	end_lose(&rig->client);
	end_lose(&rig->daemon);
	settle(rig);
	REQUIRE(!rig->session);
	REQUIRE(rig->spools.bytes == 0);
	end_free(&rig->client);
	end_free(&rig->daemon);
	ring_destroy(rig->ring);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_make(data, size);
	struct rig rig = { .session = NULL };
	uint8_t flags;

	if (size == 0)
		return 0;
	log_setup(2, LOG_ERROR, false);
	flags = take(&input, 1).data[0];
	rig.broker = flags & FLAG_BROKER;
	rig.spooling = flags & FLAG_SPOOLS;
	rig_open(&rig);
	if (!(flags & FLAG_LATE))
		rig_carry(&rig);
	while (input.size) {
		rig_play(&rig, &input);
		if (!(flags & FLAG_LAZY))
			settle(&rig);
	}
	rig_close(&rig);
	return 0;
}
