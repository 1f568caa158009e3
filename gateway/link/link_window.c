/*
 * The window of a path. The rate is that of whole rounds: word of what arrived comes in clumps, and the rate between two of
 * them says nothing. There is no pacing, TCP does that.
 */
#include "gateway/link/link_window.h"

#define SECOND_NS      1000000000ull
#define PLATEAU_ROUNDS 2
#define NARROW_ROUNDS  2                         /* what arrives in the first was sent before it */

void link_window_init(struct link_window *window, uint64_t now_ns)
{
	*window = (struct link_window){ .bytes = LINK_WINDOW_BYTES_MIN, .measured_ns = now_ns, .growing = true };
}

static void begin_round(struct link_window *window, uint64_t now_ns)
{
	window->begun_ns = now_ns;
	window->begun_delivered = window->delivered;
	window->ends_delivered = window->delivered + window->in_flight;
	window->limited = false;
}

struct link_window_mark link_window_sent(struct link_window *window, size_t bytes, uint64_t now_ns)
{
	bool paused = window->in_flight == 0;

	window->in_flight += bytes;
	if (paused)
		begin_round(window, now_ns);
	return (struct link_window_mark){ .sent_ns = now_ns, .limited = window->in_flight >= window->bytes };
}

static uint64_t best_rate(const struct link_window *window)
{
	uint64_t best = 0;

	for (unsigned i = 0; i < LINK_WINDOW_ROUNDS; i++)
		if (window->rates[i] > best)
			best = window->rates[i];
	return best;
}

static void measure_round_trip(struct link_window *window, uint64_t round_trip_ns, uint64_t now_ns)
{
	if (round_trip_ns == 0)
		round_trip_ns = 1;
	if (window->narrow == 1 && (!window->narrow_ns || round_trip_ns < window->narrow_ns))
		window->narrow_ns = round_trip_ns;
	if (window->round_trip_ns && round_trip_ns > window->round_trip_ns)
		return;
	window->round_trip_ns = round_trip_ns;
	window->measured_ns = now_ns;
}

/* Of a round in which the window was not full the rate is a lower bound, and says nothing of growth. */
static void measure_rate(struct link_window *window, uint64_t now_ns)
{
	uint64_t elapsed_ns = now_ns - window->begun_ns, bytes = window->delivered - window->begun_delivered, rate;

	if (elapsed_ns < window->round_trip_ns)
		elapsed_ns = window->round_trip_ns;
	rate = bytes < UINT64_MAX / SECOND_NS ? bytes * SECOND_NS / elapsed_ns : 0;
	if (!window->limited && rate <= best_rate(window))
		return;
	window->rates[window->round] = rate;
	window->round = (window->round + 1) % LINK_WINDOW_ROUNDS;
	if (!window->growing || !window->limited)
		return;
	if (rate >= window->plateau_rate + window->plateau_rate / 4) {
		window->plateau_rate = rate;
		window->plateau = 0;
	} else if (++window->plateau >= PLATEAU_ROUNDS) {
		window->growing = false;
	}
}

static void resize(struct link_window *window)
{
	/* In microseconds, lest the product overflows. */
	uint64_t holds = best_rate(window) / 1000 * (window->round_trip_ns / 1000) / 1000;
	uint64_t spare = holds / 8 > LINK_WINDOW_SPARE_BYTES ? holds / 8 : LINK_WINDOW_SPARE_BYTES;
	uint64_t bytes = window->narrow ? holds / 2 : window->growing ? 2 * holds : holds + spare;

	if (window->growing && bytes < window->bytes)
		bytes = window->bytes;
	if (bytes < LINK_WINDOW_BYTES_MIN)
		bytes = LINK_WINDOW_BYTES_MIN;
	window->bytes = bytes > LINK_WINDOW_BYTES_MAX ? LINK_WINDOW_BYTES_MAX : bytes;
}

static void narrow(struct link_window *window, uint64_t now_ns)
{
	if (window->narrow && --window->narrow == 0) {
		/* Also when it is longer than before: routes change. */
		window->round_trip_ns = window->narrow_ns ? window->narrow_ns : window->round_trip_ns;
		window->measured_ns = now_ns;
	} else if (!window->narrow && !window->growing && now_ns - window->measured_ns > LINK_WINDOW_NARROW_NS) {
		window->narrow = NARROW_ROUNDS;
		window->narrow_ns = 0;
	}
}

void link_window_arrived(struct link_window *window, const struct link_window_mark *mark, size_t bytes, uint64_t now_ns)
{
	window->in_flight -= bytes < window->in_flight ? bytes : window->in_flight;
	window->delivered += bytes;
	window->limited |= mark->limited;
	measure_round_trip(window, now_ns - mark->sent_ns, now_ns);
	if (window->delivered <= window->ends_delivered)
		return;
	measure_rate(window, now_ns);
	narrow(window, now_ns);
	resize(window);
	begin_round(window, now_ns);
}
