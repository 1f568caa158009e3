/* Between calls and channels: what goes where, and when. */
#include "gateway/link/link_mux.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define FRAME_BYTES_MIN 4096                     /* of a frame that fills a window */

static void mux_on_turn(struct op *op, int32_t res);
static void mux_on_ack(struct op *op, int32_t res);
static void mux_on_tick(struct op *op, int32_t res);
static void mux_on_hold(struct op *op, int32_t res);
static int mux_deliver(struct link_core *core, const struct link_message *frame);

/* ---- life ---- */

uint64_t link_mux_tick_ns(uint64_t timeout_ns)
{
	if (timeout_ns / 4 > LINK_TICK_NS)
		return LINK_TICK_NS;
	return timeout_ns / 4 < LINK_TICK_NS_MIN ? LINK_TICK_NS_MIN : timeout_ns / 4;
}

void link_mux_init(struct link_mux *mux, const struct link_mux_config *config)
{
	*mux = (struct link_mux){
		.ring = config->ring, .events = config->events, .server = config->server,
		.turn.fn = mux_on_turn, .ack.fn = mux_on_ack, .tick.fn = mux_on_tick, .hold.fn = mux_on_hold,
		.tick_ns = config->tick_ns ? config->tick_ns : LINK_TICK_NS,
		.silence_ns = config->silence_ns ? config->silence_ns : LINK_SILENCE_NS,
	};
	link_core_init(&mux->core, mux_deliver);
	link_channels_init(&mux->channels);
	ring_timer(mux->ring, &mux->tick, mux->tick_ns);
}

static void mux_join(struct link_mux *mux)
{
	if (!mux->closing || mux->gone || mux->channels.landing || op_in_flight(&mux->turn) || op_in_flight(&mux->ack) ||
	    op_in_flight(&mux->tick) || op_in_flight(&mux->hold))
		return;
	mux->gone = true;
	link_channels_fini(&mux->channels);
	link_core_fini(&mux->core);
	mux->events->on_gone(mux);
}

void link_mux_close_channels(struct link_mux *mux)
{
	for (unsigned i = 0; i < LINK_CHANNELS_MAX; i++)
		if (mux->channels.table[i])
			link_channel_close(mux->channels.table[i]);
}

void link_mux_close(struct link_mux *mux)
{
	if (mux->closing)
		return;
	CHECK(link_mux_paths(mux) == 0);
	mux->closing = true;
	link_mux_close_channels(mux);
	ring_cancel(mux->ring, &mux->ack);
	ring_cancel(mux->ring, &mux->tick);
	ring_cancel(mux->ring, &mux->hold);
	if (!op_in_flight(&mux->turn))
		ring_timer(mux->ring, &mux->turn, 0);    /* so that on_gone comes from the loop */
}

void link_mux_wake(struct link_mux *mux)
{
	if (!mux->gone && !op_in_flight(&mux->turn))
		ring_timer(mux->ring, &mux->turn, 0);
}

void link_mux_fail(struct link_mux *mux, enum link_trouble trouble)
{
	if (mux->trouble == LINK_TROUBLE_NONE)
		mux->trouble = trouble;
	link_mux_wake(mux);
}

/* ---- paths ---- */

void link_mux_attach(struct link_mux *mux, struct link_path *path)
{
	CHECK(path->number < LINK_PATHS_MAX && !mux->paths[path->number] && !path->mux);
	path->mux = mux;
	path->heard_ns = ring_now_ns(mux->ring);
	mux->paths[path->number] = path;
	link_core_path_up(&mux->core, path->number, path->heard_ns);
	link_mux_wake(mux);
}

void link_path_detach(struct link_path *path)
{
	struct link_mux *mux = path->mux;

	path->deaf = true;
	if (!mux)
		return;
	CHECK(mux->paths[path->number] == path);
	mux->paths[path->number] = NULL;
	path->mux = NULL;
	link_core_path_down(&mux->core, path->number);
	if (!mux->closing && !op_in_flight(&mux->hold))
		ring_timer(mux->ring, &mux->hold, LINK_HOLD_NS);
	link_mux_wake(mux);
}

static void mux_on_hold(struct op *op, int32_t res)
{
	struct link_mux *mux = container_of(op, struct link_mux, hold);

	(void)res;
	if (mux->closing)
		mux_join(mux);
	else if (link_core_release(&mux->core))
		link_mux_wake(mux);
}

unsigned link_mux_paths(const struct link_mux *mux)
{
	unsigned count = 0;

	for (unsigned i = 0; i < LINK_PATHS_MAX; i++)
		count += mux->paths[i] != NULL;
	return count;
}

/* ---- what goes out ---- */

/* What arrived rides along with everything. */
static struct link_message path_message(struct link_path *path)
{
	const struct link_core *core = &path->mux->core;
	uint64_t arrived = core->paths[path->number].arrived;
	struct link_message message = {
		.received = path->told_received == core->expected ? 0 : core->expected,
		.taken = path->told_taken == arrived ? 0 : arrived,
	};

	path->told_received = core->expected;
	path->told_taken = arrived;
	path->owed_bytes = 0;
	path->owes_now = false;
	return message;
}

static void path_send_head(struct link_path *path, const struct link_message *message, struct span data)
{
	uint8_t head[LINK_HEAD_BYTES_MAX];
	struct span parts[2] = { { .data = head }, data };

	parts[0].size = link_message_head(head, message, data.size);
	/* A call that has ended meanwhile says so with its on_closed. */
	(void)call_send_parts(&path->call, parts, data.size ? 2 : 1);
}

static void path_send_frame(struct link_path *path, const struct link_frame *frame)
{
	struct link_message message = path_message(path);

	message.sequence = frame->sequence;
	message.channel = frame->channel;
	message.kind = frame->kind;
	message.credit = frame->credit;
	path_send_head(path, &message, span_make(frame->data, frame->size));
}

void link_path_send(struct link_path *path, const struct link_message *message)
{
	struct buffer out = buffer_heap(LINK_MESSAGE_BYTES_MAX);

	message_encode(&link_message_type, &out, message);
	if (out.failed)
		call_cancel(&path->call);
	else
		(void)call_send(&path->call, buffer_span(&out), 0);
	if (path->mux && message->received)
		path->told_received = message->received;
	buffer_fini(&out);
}

/* Without room on_writable is owed. */
static void path_say_over(struct link_path *path)
{
	const struct link_message over = { .over = true };

	if (!call_has_room(&path->call))
		return;
	path->over_owed = false;
	link_path_send(path, &over);
	call_end(&path->call);
}

void link_path_leave(struct link_path *path)
{
	link_path_detach(path);
	path->over_owed = true;
	path_say_over(path);
}

/* Of the paths that take a frame now, the one with the least under way for what it holds. */
static struct link_path *mux_open_path(struct link_mux *mux)
{
	struct link_path *best = NULL;
	uint64_t best_share = UINT64_MAX;

	for (unsigned i = 0; i < LINK_PATHS_MAX; i++) {
		const struct link_window *window = &mux->core.paths[i].window;
		uint64_t share;

		if (!mux->paths[i] || !link_core_path_open(&mux->core, i) || !call_has_room(&mux->paths[i]->call))
			continue;
		share = window->in_flight * 1024 / window->bytes;
		if (share < best_share) {
			best = mux->paths[i];
			best_share = share;
		}
	}
	return best;
}

/* Whole frames, or what fills the window, so that it is not overshot: what is under way may have to be sent again. */
static size_t frame_bytes(const struct link_window *window)
{
	uint64_t room = window->bytes - window->in_flight;

	return room > LINK_FRAME_BYTES ? LINK_FRAME_BYTES : room > FRAME_BYTES_MIN ? (size_t)room : FRAME_BYTES_MIN;
}

static bool mux_next_frame(struct link_mux *mux, const struct link_path *path)
{
	return link_core_pending(&mux->core) ||
	       (link_core_has_room(&mux->core) &&
	        link_channels_read(mux, frame_bytes(&mux->core.paths[path->number].window)));
}

static void mux_pump(struct link_mux *mux)
{
	struct link_path *path;

	while ((path = mux_open_path(mux)) && mux_next_frame(mux, path))
		path_send_frame(path, link_core_next(&mux->core, path->number, ring_now_ns(mux->ring)));
	if (!path && mux->events->on_crowded && (link_core_pending(&mux->core) || !list_empty(&mux->channels.ready)))
		mux->events->on_crowded(mux);
}

static bool path_owes(const struct link_path *path)
{
	return path->owes_now || path->told_taken != path->mux->core.paths[path->number].arrived;
}

static void path_ack(struct link_path *path)
{
	struct link_message message;

	if (!call_has_room(&path->call))
		return;                          /* on_writable wakes us */
	message = path_message(path);
	path_send_head(path, &message, (struct span){ 0 });
}

/* `all`: whatever is owed; else only what should be told at once. */
static void mux_acknowledge(struct link_mux *mux, bool all)
{
	bool later = false;

	for (unsigned i = 0; i < LINK_PATHS_MAX; i++) {
		struct link_path *path = mux->paths[i];

		if (!path || !path_owes(path))
			continue;
		if (all || path->owes_now || path->owed_bytes >= LINK_ACK_BYTES)
			path_ack(path);
		else
			later = true;
	}
	if (later && !op_in_flight(&mux->ack))
		ring_timer(mux->ring, &mux->ack, LINK_ACK_DELAY_NS);
}

static void mux_on_ack(struct op *op, int32_t res)
{
	struct link_mux *mux = container_of(op, struct link_mux, ack);

	(void)res;
	if (mux->closing)
		mux_join(mux);
	else
		mux_acknowledge(mux, true);
}

/* ---- the turn ---- */

static void mux_on_turn(struct op *op, int32_t res)
{
	struct link_mux *mux = container_of(op, struct link_mux, turn);

	(void)res;
	if (mux->closing) {
		mux_join(mux);
		return;
	}
	if (mux->trouble == LINK_TROUBLE_NONE) {
		link_channels_flush(mux);
		mux_pump(mux);
		mux_acknowledge(mux, false);
	}
	if (mux->trouble != LINK_TROUBLE_NONE) {
		if (!mux->trouble_told) {
			mux->trouble_told = true;
			mux->events->on_trouble(mux, mux->trouble);
		}
		return;
	}
	if (mux->idle_owed && mux->channels.count == 0) {
		mux->idle_owed = false;
		mux->events->on_idle(mux);
	}
}

/* ---- time ---- */

static bool path_dead(const struct link_path *path, uint64_t now_ns)
{
	const struct link_mux *mux = path->mux;
	uint64_t since = link_core_waiting_since(&mux->core, path->number);

	if (path->probed_ns && path->probed_ns < since)
		since = path->probed_ns;
	if (since != UINT64_MAX && since < path->heard_ns)
		since = path->heard_ns;
	/* Before a greeting other time-outs count. */
	return path->greeted && since != UINT64_MAX && now_ns - since >= mux->silence_ns;
}

static void path_probe(struct link_path *path, uint64_t now_ns)
{
	struct link_message message;

	if (path->probed_ns || now_ns - path->heard_ns < LINK_PROBE_NS || !call_has_room(&path->call))
		return;
	path->probed_ns = now_ns;
	message = path_message(path);
	message.probe = true;
	path_send_head(path, &message, (struct span){ 0 });
}

static void mux_on_tick(struct op *op, int32_t res)
{
	struct link_mux *mux = container_of(op, struct link_mux, tick);
	uint64_t now_ns = ring_now_ns(mux->ring);

	(void)res;
	if (mux->closing) {
		mux_join(mux);
		return;
	}
	ring_timer(mux->ring, op, mux->tick_ns);
	link_channels_trim(mux);
	for (unsigned i = 0; i < LINK_PATHS_MAX; i++) {
		struct link_path *path = mux->paths[i];

		if (path && path_dead(path, now_ns))
			mux->events->on_dead(mux, path);
		else if (path && !mux->server)
			path_probe(path, now_ns);
	}
	/* Later than what on_dead() has noted. */
	mux->events->on_tick(mux, ring_now_ns(mux->ring));
}

/* ---- what comes in ---- */

static int mux_open(struct link_mux *mux, uint32_t id)
{
	struct link_channel *channel;
	struct link_frame *reset;
	int user, r;

	if (!mux->server || id <= mux->channels.last)
		return ERR_RAISE(-EPROTO);
	mux->channels.last = id;
	r = link_channel_create(&channel, mux, id, &user);
	if (r == 0) {
		r = mux->events->on_channel(mux, user);
		if (r < 0)
			link_channel_close(channel);
	}
	if (r == 0)
		return 0;
	reset = link_frame_create(LINK_RESET, id, 0);
	if (!reset)
		return ERR_RAISE(-ENOMEM);
	link_core_push(&mux->core, reset);
	return 0;
}

static int mux_deliver(struct link_core *core, const struct link_message *frame)
{
	struct link_mux *mux = container_of(core, struct link_mux, core);
	struct link_channel *channel;

	if (frame->kind == LINK_OPEN)
		return mux_open(mux, frame->channel);
	channel = link_channels_find(&mux->channels, frame->channel);
	if (channel)
		return link_channel_take(channel, frame);
	/* Of one that is gone here: the two crossed. */
	return frame->channel <= mux->channels.last ? 0 : ERR_RAISE(-EPROTO);
}

static int path_take(struct link_path *path, const struct link_message *message)
{
	struct link_mux *mux = path->mux;
	uint64_t now_ns = ring_now_ns(mux->ring);
	int r;

	path->heard_ns = now_ns;
	path->probed_ns = 0;
	path->owes_now |= message->probe;
	r = link_core_acknowledge(&mux->core, path->number, message->received, message->taken, now_ns);
	if (r == 0 && message->sequence) {
		path->owed_bytes += message->data.size + LINK_FRAME_OVERHEAD;
		r = link_core_receive(&mux->core, path->number, message);
	}
	/* It makes us keep frames and takes none. */
	if (r == 0 && mux->core.kept_frames > LINK_AHEAD_FRAMES_MAX)
		r = ERR_RAISE(-EPROTO);
	link_mux_wake(mux);
	return r;
}

static void path_trouble(struct link_path *path, int r)
{
	path->deaf = true;
	if (path->mux)
		link_mux_fail(path->mux, r == -ENOMEM ? LINK_TROUBLE_MEMORY : LINK_TROUBLE_RULES);
	else
		path->events->on_fault(path);
}

static void path_on_message(struct call *call, struct span bytes)
{
	struct link_path *path = container_of(call, struct link_path, call);
	struct link_message message;
	bool greeting;
	int r;

	if (path->deaf || (path->mux && path->mux->trouble != LINK_TROUBLE_NONE))
		return;
	if (!link_message_decode(&message, bytes)) {
		path_trouble(path, -EPROTO);
		return;
	}
	greeting = message.hello.data || message.welcome.data;
	if (greeting == path->greeted) {
		path_trouble(path, -EPROTO);
		return;
	}
	if (greeting) {
		path->greeted = true;
		r = path->events->on_greeting(path, &message);
		if (r < 0) {
			path->deaf = true;
			return;
		}
	}
	r = path_take(path, &message);
	if (r < 0)
		path_trouble(path, r);
	else if (message.over)
		link_mux_fail(path->mux, LINK_TROUBLE_OVER);
}

/* A client half-closes behind its goodbye, also one that had no room for the word, and nothing else does. */
static void path_on_end(struct call *call)
{
	struct link_path *path = container_of(call, struct link_path, call);

	if (!path->deaf && path->mux && path->mux->server)
		link_mux_fail(path->mux, LINK_TROUBLE_OVER);
}

static void path_on_writable(struct call *call)
{
	struct link_path *path = container_of(call, struct link_path, call);

	if (path->over_owed)
		path_say_over(path);
	else if (path->mux)
		link_mux_wake(path->mux);
}

static void path_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct link_path *path = container_of(call, struct link_path, call);

	path->over_owed = false;
	link_path_detach(path);
	path->events->on_closed(path, status, message);
}

const struct call_events link_path_call_events = {
	.on_message = path_on_message, .on_end = path_on_end, .on_writable = path_on_writable, .on_closed = path_on_closed,
};

/* ---- channels ---- */

int link_mux_open_channel(struct link_mux *mux)
{
	struct link_frame *frame = link_frame_create(LINK_OPEN, mux->channels.last + 1, 0);
	struct link_channel *channel;
	int user, r;

	CHECK(!mux->server && !mux->closing);
	if (!frame)
		return ERR_RAISE(-ENOMEM);
	r = mux->channels.last == UINT32_MAX ? -EAGAIN : link_channel_create(&channel, mux, frame->channel, &user);
	if (r < 0) {
		free(frame);
		return ERR_RAISE(r);
	}
	mux->channels.last = frame->channel;
	link_core_push(&mux->core, frame);
	link_mux_wake(mux);
	return user;
}
