/*
 * line: how fast a connection's line was seen to be, of samples of which some say more about its two ends.
 *
 * A sender that had nothing to send, or a reader that left no room, makes a line look slow for as long as that lasts; then the
 * sample can only raise what was thought. And one burst of acknowledgements makes it look fast. So of the last four that count,
 * the second best is taken: neither one good moment nor three bad ones decide. Pure: no clock, no socket.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LINE_SAMPLES     4
#define LINE_LEAST_BYTES (256u << 10) /* acknowledged since the last sample; after less there is nothing new to know */

/* What the kernel has counted since the connection began. */
struct line_counts {
	uint64_t acked;   /* bytes */
	uint64_t busy_us; /* with something to send or to be acknowledged */
	uint64_t shut_us; /* of these: the reader's window was shut, or the send buffer too small */
};

struct line {
	uint64_t rates[LINE_SAMPLES]; /* bytes a second; 0: none yet */
	unsigned next;
	struct line_counts counts; /* at the last sample */
};

/* The second best of what counts; 0 before there are two. */
static inline uint64_t line_rate(const struct line *line)
{
	uint64_t best = 0, second = 0;

	for (unsigned i = 0; i < LINE_SAMPLES; i++) {
		if (line->rates[i] > best) {
			second = best;
			best = line->rates[i];
		} else if (line->rates[i] > second) {
			second = line->rates[i];
		}
	}
	return second;
}

/* The kernel measured `rate` lately, and says by `idle` that there was not always something to send. */
static inline void line_sample(struct line *line, uint64_t rate, bool idle, const struct line_counts *now)
{
	uint64_t busy_us = now->busy_us - line->counts.busy_us, shut_us = now->shut_us - line->counts.shut_us;

	if (now->acked - line->counts.acked < LINE_LEAST_BYTES)
		return;
	line->counts = *now;
	if ((idle || busy_us == 0 || 4 * shut_us >= busy_us) && rate <= line_rate(line))
		return;
	line->rates[line->next] = rate;
	line->next = (line->next + 1) % LINE_SAMPLES;
}
