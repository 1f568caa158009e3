/*
 * The core of a link: what goes in at one end comes out at the other, exactly once and in order, over up to four paths that
 * deliver at random times and are lost at random moments, both ways at once; and memory stays within its bounds. Each run is a
 * seed, printed first. Then each thing that a peer may not claim, and the window of a path on a simulated one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "gateway/link/link_core.h"
#include "gateway/link/link_credit.h"

#define SEEDS      300
#define FRAMES     600                           /* a run and direction */
#define FLIGHT_MAX 64                            /* messages under way on a path and direction */

/* xorshift64*: the same on every machine. */
static uint64_t dice;

static uint64_t roll(uint64_t below)
{
	dice ^= dice >> 12;
	dice ^= dice << 25;
	dice ^= dice >> 27;
	return (dice * 2685821657736338717ull >> 16) % below;
}

/* A message on its way. */
struct flying {
	uint64_t received, taken, sequence;
	uint32_t channel, kind;
	size_t size;
	uint8_t data[256];
};

struct wire {
	struct flying flying[FLIGHT_MAX];
	unsigned first, count;
};

struct end {
	struct link_core core;
	uint64_t pushed, delivered;              /* frames */
	struct wire wires[LINK_PATHS_MAX];       /* towards the other end */
};

static struct end ends[2];
static bool up[LINK_PATHS_MAX];
static uint64_t now_ns;

/* The content of a frame follows from its number. */
static uint8_t content(uint64_t sequence, size_t i)
{
	return (uint8_t)(sequence * 31 + i);
}

static size_t content_size(uint64_t sequence)
{
	return sequence % 7 == 0 ? 0 : 1 + sequence * 37 % 250;
}

static int on_deliver(struct link_core *core, const struct link_message *frame)
{
	struct end *end = container_of(core, struct end, core);

	assert_int_equal(frame->sequence, end->delivered + 1);
	assert_int_equal(frame->data.size, content_size(frame->sequence));
	for (size_t i = 0; i < frame->data.size; i++)
		assert_int_equal(frame->data.data[i], content(frame->sequence, i));
	end->delivered++;
	return 0;
}

static void push(struct end *end)
{
	uint64_t sequence = end->pushed + 1;
	size_t size = content_size(sequence);
	struct link_frame *frame = link_frame_create(size ? LINK_DATA : LINK_END, 1, size);

	assert_non_null(frame);
	for (size_t i = 0; i < size; i++)
		frame->data[i] = content(sequence, i);
	frame->size = size;
	link_core_push(&end->core, frame);
	end->pushed++;
}

static void send_one(struct end *end, unsigned path)
{
	struct wire *wire = &end->wires[path];
	struct flying *at = &wire->flying[(wire->first + wire->count) % FLIGHT_MAX];
	const struct link_frame *frame = NULL;

	if (wire->count == FLIGHT_MAX)
		return;
	if (link_core_path_open(&end->core, path))
		frame = link_core_next(&end->core, path, now_ns);
	*at = (struct flying){
		.received = link_core_received(&end->core), .taken = end->core.paths[path].arrived,
	};
	if (frame) {
		at->sequence = frame->sequence;
		at->channel = frame->channel;
		at->kind = frame->kind;
		at->size = frame->size;
		memcpy(at->data, frame->data, frame->size);
	}
	wire->count++;
}

static void arrive(unsigned from, unsigned path)
{
	struct wire *wire = &ends[from].wires[path];
	struct link_core *core = &ends[!from].core;
	struct flying at;

	if (wire->count == 0)
		return;
	at = wire->flying[wire->first];
	wire->first = (wire->first + 1) % FLIGHT_MAX;
	wire->count--;
	assert_int_equal(link_core_acknowledge(core, path, at.received, at.taken, now_ns), 0);
	if (at.sequence) {
		struct link_message message = {
			.sequence = at.sequence, .channel = at.channel, .kind = at.kind, .data = span_make(at.data, at.size),
		};

		assert_int_equal(link_core_receive(core, path, &message), 0);
	}
}

static void lose(unsigned path)
{
	for (unsigned i = 0; i < 2; i++) {
		link_core_path_down(&ends[i].core, path);
		ends[i].wires[path].count = 0;
	}
	up[path] = false;
}

/* As a hello and its welcome do it: each end says what it has, then the path is there. */
static void come_up(unsigned path)
{
	uint8_t storage[1024];

	for (unsigned i = 0; i < 2; i++) {
		struct buffer ahead = buffer_over(storage, sizeof(storage));

		link_core_put_ahead(&ends[!i].core, &ahead);
		assert_false(ahead.failed);
		assert_int_equal(link_core_resume(&ends[i].core, link_core_received(&ends[!i].core), buffer_span(&ahead)), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		link_core_path_up(&ends[i].core, path, now_ns);
	up[path] = true;
}

static void check_bounds(const struct end *end)
{
	assert_true(end->core.kept_frames <= LINK_REPLAY_FRAMES_MAX);
	assert_true(end->core.kept_bytes <= LINK_REPLAY_BYTES_MAX + LINK_FRAME_BYTES);
	assert_true(end->core.ahead_bytes <= LINK_AHEAD_BYTES_MAX);
}

static void run(uint64_t seed)
{
	unsigned paths = 1 + (unsigned)(seed % LINK_PATHS_MAX), losses = 0;

	dice = seed * 0x9E3779B97F4A7C15ull + 1;
	now_ns = 1;
	for (unsigned i = 0; i < 2; i++) {
		memset(&ends[i], 0, sizeof(ends[i]));
		link_core_init(&ends[i].core, on_deliver);
	}
	memset(up, 0, sizeof(up));
	for (unsigned step = 0; ends[0].delivered < FRAMES || ends[1].delivered < FRAMES; step++) {
		unsigned path = (unsigned)roll(paths), end = (unsigned)roll(2);

		assert_true(step < 2000000);
		now_ns += 1 + roll(1000000);
		if (!up[path]) {
			if (roll(4) == 0)
				come_up(path);
			continue;
		}
		switch (roll(60)) {
		case 0:
			lose(path);
			losses++;
			break;
		case 1:
			link_core_release(&ends[end].core);
			break;
		case 2 ... 15:
			if (ends[end].pushed < FRAMES && link_core_has_room(&ends[end].core))
				push(&ends[end]);
			break;
		case 16 ... 35:
			send_one(&ends[end], path);
			break;
		default:
			arrive(end, path);
			break;
		}
		check_bounds(&ends[0]);
		check_bounds(&ends[1]);
	}
	assert_true(losses > 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(ends[i].delivered, FRAMES);
		assert_int_equal(ends[i].core.counters.frames_received, FRAMES);
		assert_int_equal(ends[i].core.counters.frames_sent, FRAMES);
		link_core_fini(&ends[i].core);
	}
}

static void test_random(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		printf("seed %llu\n", (unsigned long long)seed);
		run(seed);
	}
}

/* ---- one thing at a time ---- */

static struct end *fresh(void)
{
	memset(&ends[0], 0, sizeof(ends[0]));
	link_core_init(&ends[0].core, on_deliver);
	return &ends[0];
}

/* What the peer says to have at a resume is not sent again, what it has beyond a gap neither; all the rest is, in order. */
static void test_resume_sends_what_is_missing(void **state)
{
	struct end *end = fresh();
	struct link_core *core = &end->core;
	uint8_t storage[64];
	struct buffer ahead = buffer_over(storage, sizeof(storage));
	const uint64_t wanted[] = { 3, 6, 9 };

	link_core_path_up(core, 0, 1);
	for (unsigned i = 0; i < 9; i++)
		push(end);
	while (link_core_pending(core))
		link_core_next(core, 0, 1);
	link_core_path_down(core, 0);
	link_run_put(&ahead, 1, 2);              /* 3 is missing, 4 and 5 are there */
	link_run_put(&ahead, 1, 2);              /* 6; 7 and 8 */
	assert_int_equal(link_core_resume(core, 3, buffer_span(&ahead)), 0);
	link_core_path_up(core, 0, 2);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(link_core_next(core, 0, 2)->sequence, wanted[i]);
	assert_false(link_core_pending(core));
	assert_int_equal(core->counters.bytes_resent, content_size(3) + content_size(6) + content_size(9));
	assert_int_equal(link_core_acknowledge(core, 0, 10, 3, 3), 0);
	assert_int_equal(core->kept_frames, 0);
	assert_int_equal(core->kept_bytes, 0);
	assert_false(link_core_release(core));
	link_core_fini(core);
}

static void test_lies_are_refused(void **state)
{
	struct end *end = fresh();
	struct link_core *core = &end->core;
	uint8_t storage[1024];
	struct buffer ahead = buffer_over(storage, sizeof(storage));
	struct link_message far = { .sequence = 1 + LINK_AHEAD_FRAMES_MAX, .channel = 1, .kind = LINK_END };

	link_core_path_up(core, 0, 1);
	push(end);
	push(end);
	link_core_next(core, 0, 1);
	assert_int_equal(link_core_acknowledge(core, 0, 0, 2, 1), -EPROTO);      /* one was given to it */
	assert_int_equal(link_core_acknowledge(core, 0, 4, 0, 1), -EPROTO);      /* there is no third */
	assert_int_equal(link_core_acknowledge(core, 0, 3, 0, 1), -EPROTO);      /* the second waits for a path */
	assert_int_equal(link_core_resume(core, 3, (struct span){ 0 }), -EPROTO);
	link_run_put(&ahead, 1, 1);
	assert_int_equal(link_core_resume(core, 1, buffer_span(&ahead)), -EPROTO);
	buffer_clear(&ahead);
	assert_int_equal(link_core_acknowledge(core, 0, 2, 1, 1), 0);
	link_core_next(core, 0, 1);
	assert_int_equal(link_core_acknowledge(core, 0, 0, 2, 1), 0);
	assert_int_equal(link_core_acknowledge(core, 0, 0, 1, 1), -EPROTO);      /* takes its word back */
	assert_int_equal(link_core_resume(core, 99, (struct span){ 0 }), -EPROTO);
	link_run_put(&ahead, 1, 1);              /* beyond what was ever sent */
	assert_int_equal(link_core_resume(core, 3, buffer_span(&ahead)), -EPROTO);
	buffer_clear(&ahead);
	link_run_put(&ahead, UINT64_MAX, UINT64_MAX);
	assert_int_equal(link_core_resume(core, 1, buffer_span(&ahead)), -EPROTO);
	assert_int_equal(link_core_resume(core, 1, span_make("\x00\x00", 2)), -EPROTO);
	assert_int_equal(link_core_receive(core, 0, &far), -EPROTO);
	link_core_fini(core);
}

/* What is ahead is bounded in bytes, and a second copy costs nothing. */
static void test_ahead_is_bounded(void **state)
{
	struct end *end = fresh();
	struct link_core *core = &end->core;
	uint8_t *data = calloc(1, LINK_FRAME_BYTES);
	struct link_message frame = { .sequence = 2, .channel = 1, .data = span_make(data, LINK_FRAME_BYTES) };
	int r = 0;

	link_core_path_up(core, 0, 1);
	assert_int_equal(link_core_receive(core, 0, &frame), 0);
	assert_int_equal(link_core_receive(core, 0, &frame), 0);
	assert_int_equal(core->ahead_bytes, LINK_FRAME_BYTES);
	assert_int_equal(core->counters.bytes_duplicate, LINK_FRAME_BYTES);
	for (; r == 0; frame.sequence++)
		r = link_core_receive(core, 0, &frame);
	assert_int_equal(r, -EPROTO);
	assert_true(core->ahead_bytes <= LINK_AHEAD_BYTES_MAX);
	assert_true(core->ahead_bytes > LINK_AHEAD_BYTES_MAX - 2 * LINK_FRAME_BYTES);
	link_core_fini(core);
	free(data);
}

/* Past its bounds no data is taken, and what the peer has makes room again. */
static void test_replay_is_bounded(void **state)
{
	struct end *end = fresh();
	struct link_core *core = &end->core;
	unsigned frames = 0;

	link_core_path_up(core, 0, 1);
	for (; link_core_has_room(core); frames++) {
		struct link_frame *frame = link_frame_create(LINK_DATA, 1, LINK_FRAME_BYTES);

		memset(frame->data, 0, LINK_FRAME_BYTES);
		frame->size = LINK_FRAME_BYTES;
		link_core_push(core, frame);
	}
	assert_int_equal(frames, LINK_REPLAY_BYTES_MAX / LINK_FRAME_BYTES);
	link_core_next(core, 0, 1);
	assert_int_equal(link_core_acknowledge(core, 0, 2, 1, 1), 0);
	assert_true(link_core_has_room(core));
	link_core_fini(core);
}

static void test_credit(void **state)
{
	struct link_credit credit, other;
	uint64_t granted = 0, grant;

	link_credit_init(&credit, &granted);
	link_credit_init(&other, &granted);
	assert_int_equal(granted, 2 * LINK_CREDIT_FIRST);
	assert_true(link_credit_arrived(&credit, LINK_CREDIT_FIRST));
	assert_false(link_credit_arrived(&credit, 1));
	assert_int_equal(link_credit_consumed(&credit, LINK_CREDIT_FIRST / 2 - 1, &granted), 0);
	grant = link_credit_consumed(&credit, 1, &granted);
	assert_int_equal(grant, LINK_CREDIT_FIRST / 2 + LINK_CREDIT_FIRST);
	assert_true(link_credit_arrived(&credit, grant));
	assert_false(link_credit_arrived(&credit, 1));
	for (unsigned i = 0; i < 100; i++) {
		link_credit_consumed(&credit, LINK_CREDIT_FIRST, &granted);
		assert_true(credit.window <= LINK_CREDIT_MAX);
	}
	assert_int_equal(credit.window, LINK_CREDIT_MAX);
	assert_true(link_credit_add(&other, 5));
	assert_int_equal(other.may_send, LINK_CREDIT_FIRST + 5);
	assert_false(link_credit_add(&other, UINT64_MAX));
	link_credit_fini(&credit, &granted);
	link_credit_fini(&other, &granted);
	assert_int_equal(granted, 0);
}

/* ---- the window ---- */

#define PIPE_MAX 4096

/*
 * A path of this rate and round trip, kept full for a while. What arrives does so in order, one after the other at the rate;
 * its word is back half a round trip later.
 */
static struct link_window drive(uint64_t rate, uint64_t round_trip_ns, uint64_t duration_ns, uint64_t *delivered)
{
	static struct { struct link_window_mark mark; uint64_t back_ns; } pipe[PIPE_MAX];
	size_t first = 0, count = 0, frame = LINK_FRAME_BYTES;
	uint64_t now = 1, free_ns = 0;
	struct link_window window;

	link_window_init(&window, now);
	while (now < duration_ns) {
		while (link_window_open(&window) && count < PIPE_MAX) {
			uint64_t begin = free_ns > now ? free_ns : now;

			free_ns = begin + frame * 1000000000ull / rate;
			pipe[(first + count) % PIPE_MAX].mark = link_window_sent(&window, frame, now);
			pipe[(first + count) % PIPE_MAX].back_ns = free_ns + round_trip_ns;
			count++;
		}
		now = pipe[first].back_ns;
		link_window_arrived(&window, &pipe[first].mark, frame, now);
		first = (first + 1) % PIPE_MAX;
		count--;
	}
	*delivered = window.delivered;
	return window;
}

/* It uses nine tenths of the path at least, and keeps no more under way than a fifth more than the path holds, and two frames. */
static void test_window_fits_the_path(void **state)
{
	static const struct { uint64_t rate, round_trip_ns; } paths[] = {
		{ 12500000, 20000000 },                  /* 100 Mbit/s, 20 ms */
		{ 2500000, 80000000 },                   /* 20 Mbit/s, 80 ms */
		{ 125000000, 1000000 },                  /* 1 Gbit/s, 1 ms */
		{ 1000000, 300000000 },
	};
	const uint64_t duration_ns = 30000000000ull;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		uint64_t holds = paths[i].rate * (paths[i].round_trip_ns / 1000) / 1000000, delivered;
		struct link_window window = drive(paths[i].rate, paths[i].round_trip_ns, duration_ns, &delivered);

		printf("rate %llu holds %llu window %llu used %.3f\n", (unsigned long long)paths[i].rate, (unsigned long long)holds,
		       (unsigned long long)window.bytes, (double)delivered / ((double)paths[i].rate * 30));
		assert_true(delivered > paths[i].rate * 30 * 9 / 10);
		assert_true(window.bytes <= holds + holds / 5 + LINK_WINDOW_BYTES_MIN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_resume_sends_what_is_missing),
		cmocka_unit_test(test_lies_are_refused),
		cmocka_unit_test(test_ahead_is_bounded),
		cmocka_unit_test(test_replay_is_bounded),
		cmocka_unit_test(test_credit),
		cmocka_unit_test(test_window_fits_the_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
