/* Numbers, replay, order. */
#include "gateway/link/link_core.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

static struct link_frame *frame_of(struct list *where)
{
	return container_of(where, struct link_frame, where);
}

static struct link_frame *kept(struct list *all)
{
	return container_of(all, struct link_frame, all);
}

/* ---- life ---- */

void link_core_init(struct link_core *core, int (*deliver)(struct link_core *core, const struct link_message *frame))
{
	*core = (struct link_core){ .deliver = deliver, .sequence = 1, .fresh = 1, .expected = 1 };
	list_init(&core->frames);
	list_init(&core->pending);
	list_init(&core->ahead);
	for (unsigned i = 0; i < LINK_PATHS_MAX; i++)
		list_init(&core->paths[i].under_way);
}

static void frames_free(struct list *frames)
{
	struct list *link;

	while ((link = list_take(frames)))
		free(kept(link));
}

/* Frames that nothing else knows any more. */
static void path_forget(struct link_core_path *path)
{
	struct list *link;

	while ((link = list_take(&path->under_way)))
		if (!list_linked(&frame_of(link)->all))
			free(frame_of(link));
}

void link_core_fini(struct link_core *core)
{
	if (!core->deliver)
		return;
	for (unsigned i = 0; i < LINK_PATHS_MAX; i++)
		path_forget(&core->paths[i]);
	frames_free(&core->frames);
	frames_free(&core->ahead);
	*core = (struct link_core){ 0 };
}

/* ---- sending ---- */

bool link_core_has_room(const struct link_core *core)
{
	return core->kept_bytes < LINK_REPLAY_BYTES_MAX && core->kept_frames < LINK_REPLAY_FRAMES_MAX;
}

struct link_frame *link_frame_create(uint32_t kind, uint32_t channel, size_t capacity)
{
	struct link_frame *frame = malloc(sizeof(*frame) + capacity);

	if (frame)
		*frame = (struct link_frame){ .kind = kind, .channel = channel, .capacity = capacity };
	return frame;
}

void link_core_push(struct link_core *core, struct link_frame *frame)
{
	CHECK(frame->size <= LINK_FRAME_BYTES);
	CHECK((frame->kind == LINK_DATA) == (frame->size > 0));
	frame->sequence = core->sequence++;
	list_append(&core->frames, &frame->all);
	list_append(&core->pending, &frame->where);
	core->kept_bytes += frame->size;
	core->kept_frames++;
}

bool link_core_pending(const struct link_core *core)
{
	return !list_empty(&core->pending);
}

bool link_core_path_open(const struct link_core *core, unsigned path)
{
	return core->paths[path].up && link_window_open(&core->paths[path].window);
}

const struct link_frame *link_core_next(struct link_core *core, unsigned number, uint64_t now_ns)
{
	struct link_core_path *path = &core->paths[number];
	struct list *first = list_take(&core->pending);
	struct link_frame *frame;

	if (!first)
		return NULL;
	CHECK(path->up);
	frame = frame_of(first);
	if (list_empty(&path->under_way))
		path->progress_ns = now_ns;
	list_append(&path->under_way, &frame->where);
	frame->state = LINK_FRAME_UNDER_WAY;
	path->given++;
	frame->mark = link_window_sent(&path->window, frame->size + LINK_FRAME_OVERHEAD, now_ns);
	if (frame->sequence < core->fresh) {
		core->counters.bytes_resent += frame->size;
		return frame;
	}
	CHECK(frame->sequence == core->fresh);   /* what was on a path goes before what was not */
	core->fresh++;
	core->counters.frames_sent++;
	core->counters.bytes_sent += frame->size;
	return frame;
}

/* ---- paths ---- */

/* In its place again; it is older than nearly everything that is pending. */
static void make_pending(struct link_core *core, struct link_frame *frame)
{
	struct list *at = core->pending.next;

	while (at != &core->pending && frame_of(at)->sequence < frame->sequence)
		at = at->next;
	list_insert_before(at, &frame->where);
	frame->state = LINK_FRAME_PENDING;
}

static bool path_release(struct link_core *core, struct link_core_path *path)
{
	bool any = !list_empty(&path->under_way);

	/* From the newest to the oldest: so each one goes to the front, or close to it. */
	while (!list_empty(&path->under_way)) {
		struct link_frame *frame = frame_of(path->under_way.prev);

		list_remove(&frame->where);
		if (list_linked(&frame->all))
			make_pending(core, frame);
		else
			free(frame);
	}
	return any;
}

bool link_core_release(struct link_core *core)
{
	bool any = false;

	for (unsigned i = 0; i < LINK_PATHS_MAX; i++)
		if (!core->paths[i].up)
			any |= path_release(core, &core->paths[i]);
	return any;
}

void link_core_path_up(struct link_core *core, unsigned number, uint64_t now_ns)
{
	struct link_core_path *path = &core->paths[number];

	CHECK(!path->up);
	path_release(core, path);
	path->up = true;
	path->given = path->taken = path->arrived = 0;
	path->progress_ns = now_ns;
	link_window_init(&path->window, now_ns);
}

void link_core_path_down(struct link_core *core, unsigned number)
{
	core->paths[number].up = false;
}

uint64_t link_core_waiting_since(const struct link_core *core, unsigned path)
{
	return list_empty(&core->paths[path].under_way) ? UINT64_MAX : core->paths[path].progress_ns;
}

/* ---- what the peer says ---- */

static void take_from_path(struct link_core_path *path, uint64_t now_ns)
{
	struct link_frame *frame = frame_of(list_take(&path->under_way));

	path->taken++;
	frame->state = LINK_FRAME_ARRIVED;
	link_window_arrived(&path->window, &frame->mark, frame->size + LINK_FRAME_OVERHEAD, now_ns);
	if (!list_linked(&frame->all))
		free(frame);
}

/* Everything before `received` has arrived. What is under way on some path all the same stays in its list, for the count. */
static int forget_received(struct link_core *core, uint64_t received)
{
	if (received > core->fresh)
		return ERR_RAISE(-EPROTO);
	while (!list_empty(&core->frames) && kept(core->frames.next)->sequence < received) {
		struct link_frame *frame = kept(core->frames.next);

		list_remove(&frame->all);
		core->kept_bytes -= frame->size;
		core->kept_frames--;
		if (frame->state == LINK_FRAME_UNDER_WAY)
			continue;
		list_remove(&frame->where);
		free(frame);
	}
	return 0;
}

int link_core_acknowledge(struct link_core *core, unsigned number, uint64_t received, uint64_t taken, uint64_t now_ns)
{
	struct link_core_path *path = &core->paths[number];

	if (taken && (taken < path->taken || taken > path->given))
		return ERR_RAISE(-EPROTO);
	if (taken > path->taken)
		path->progress_ns = now_ns;
	while (path->taken < taken)
		take_from_path(path, now_ns);
	return received ? forget_received(core, received) : 0;
}

/* The frames [first, after) have arrived, wherever it was that they went. */
static void arrived(struct link_core *core, uint64_t first, uint64_t after)
{
	list_for_each_safe(at, next, &core->pending) {
		struct link_frame *frame = frame_of(at);

		if (frame->sequence >= after)
			return;
		if (frame->sequence < first)
			continue;
		list_remove(at);
		frame->state = LINK_FRAME_ARRIVED;
	}
}

int link_core_resume(struct link_core *core, uint64_t received, struct span ahead)
{
	uint64_t at = received ? received : 1, missing, there;
	int r = forget_received(core, received);

	link_core_release(core);
	for (unsigned runs = 0; r == 0 && link_run_next(&ahead, &missing, &there); runs++) {
		if (runs == LINK_RUNS_MAX || missing > core->fresh - at || there > core->fresh - at - missing)
			return ERR_RAISE(-EPROTO);
		arrived(core, at + missing, at + missing + there);
		at += missing + there;
	}
	if (r == 0 && ahead.size)
		r = ERR_RAISE(-EPROTO);
	return r;
}

/* ---- what the peer sends ---- */

static int deliver(struct link_core *core, const struct link_message *frame)
{
	core->expected++;
	core->counters.frames_received++;
	core->counters.bytes_received += frame->data.size;
	return core->deliver(core, frame);
}

/* Those that waited for the one that was delivered just now. */
static int deliver_ahead(struct link_core *core)
{
	int r = 0;

	while (r == 0 && !list_empty(&core->ahead) && kept(core->ahead.next)->sequence == core->expected) {
		struct link_frame *frame = kept(list_take(&core->ahead));
		struct link_message message = {
			.sequence = frame->sequence, .channel = frame->channel, .kind = frame->kind, .credit = frame->credit,
			.data = span_make(frame->data, frame->size),
		};

		core->ahead_bytes -= frame->size;
		core->ahead_frames--;
		r = deliver(core, &message);
		free(frame);
	}
	return r;
}

static int duplicate(struct link_core *core, const struct link_message *frame)
{
	core->counters.bytes_duplicate += frame->data.size;
	return 0;
}

static int keep_ahead(struct link_core *core, const struct link_message *message)
{
	struct list *at = core->ahead.prev;
	struct link_frame *frame;

	if (message->sequence - core->expected >= LINK_AHEAD_FRAMES_MAX)
		return ERR_RAISE(-EPROTO);
	while (at != &core->ahead && kept(at)->sequence > message->sequence)
		at = at->prev;
	if (at != &core->ahead && kept(at)->sequence == message->sequence)
		return duplicate(core, message);
	if (core->ahead_bytes + message->data.size > LINK_AHEAD_BYTES_MAX)
		return ERR_RAISE(-EPROTO);
	frame = link_frame_create(message->kind, message->channel, message->data.size);
	if (!frame)
		return ERR_RAISE(-ENOMEM);
	frame->sequence = message->sequence;
	frame->credit = message->credit;
	frame->size = message->data.size;
	if (frame->size)
		memcpy(frame->data, message->data.data, frame->size);
	list_insert_before(at->next, &frame->all);
	core->ahead_bytes += frame->size;
	core->ahead_frames++;
	return 0;
}

int link_core_receive(struct link_core *core, unsigned path, const struct link_message *frame)
{
	int r;

	CHECK(frame->sequence);
	core->paths[path].arrived++;
	if (frame->sequence < core->expected)
		return duplicate(core, frame);
	if (frame->sequence > core->expected)
		return keep_ahead(core, frame);
	r = deliver(core, frame);
	return r ? r : deliver_ahead(core);
}

void link_core_put_ahead(const struct link_core *core, struct buffer *ahead)
{
	uint64_t at = core->expected;
	const struct list *link = core->ahead.next;

	for (unsigned runs = 0; link != &core->ahead && runs < LINK_RUNS_MAX; runs++) {
		uint64_t first = container_of(link, struct link_frame, all)->sequence, after = first;

		while (link != &core->ahead && container_of(link, struct link_frame, all)->sequence == after) {
			after++;
			link = link->next;
		}
		link_run_put(ahead, first - at, after - first);
		at = after;
	}
}
