/*
 * level: how hard to compress the next pack, where that is left to us (LEVEL_AUTO): LEVEL_MOST while the line is what everything
 * waits for, LEVEL_FAST while it outruns the core that compresses, and nothing at all on one that outruns even that.
 *
 * Whether the line outruns a core at LEVEL_MOST is seen from what is still unanswered when a pack is sent: nothing, time and
 * again, and the other side has been waiting for us; two packs or more, and it is we who wait. That one is faster than
 * LEVEL_FAST is not: where both ends share the cores, it is the compressing itself that the answers wait for. So that comes from
 * the kernel, which sees how fast bytes are acknowledged (conn_line_rate()). It sees no further than the first proxy; packs that
 * went as they are and took too long in spite of it end that for the rest of an upload. Its beginning, all of most uploads, is
 * compressed on any line: that costs no time to speak of.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LEVEL_AUTO      (-1)
#define LEVEL_MOST      3
#define LEVEL_FAST      1
#define LEVEL_SCORE_MAX 4                /* packs that it takes to change one's mind, at most */
#define LEVEL_RAW_AFTER (16u << 20)      /* bytes of an upload, before compression, that are compressed on any line */
#define LEVEL_RAW_LINE  400000000u       /* bytes a second: what a core or two give at LEVEL_FAST, of what was 3 to 4 times that */
#define LEVEL_RAW_LEAST 40000000u        /* bytes a second, answer included, that a pack as it is must make */
#define LEVEL_RAW_BYTES (1u << 20)       /* the least that tells anything about that */
#define LEVEL_RAW_VAIN  2                /* packs in a row that did not */

struct level {
	int wanted;                      /* zstd; 0: none; LEVEL_AUTO */
	int score;                       /* of packs that found the line idle, less those that found it busy */
	uint64_t bytes;                  /* that were sent, before compression */
	unsigned vain;                   /* packs that went as they are and took too long, in a row */
};

/* A pack of `bytes` before compression is sent now, when so many requests before it have no answer yet. */
static inline void level_sent(struct level *level, size_t bytes, unsigned in_flight)
{
	level->bytes += bytes;
	if (in_flight == 0 && level->score < LEVEL_SCORE_MAX)
		level->score++;
	else if (in_flight >= 2 && level->score > 0)
		level->score--;
}

/* A pack that went as it is has its answer: `bytes` in `ns` since it was sent or, when that came later, since the answer before. */
static inline void level_raw_answered(struct level *level, size_t bytes, uint64_t ns)
{
	if (bytes < LEVEL_RAW_BYTES || level->vain == LEVEL_RAW_VAIN)
		return;
	level->vain = (uint64_t)bytes * 1000000000u / LEVEL_RAW_LEAST < ns ? level->vain + 1 : 0;
}

/* `line_rate`: bytes a second that the line was seen to carry; 0: not known. The first pack of an upload finds any line idle. */
static inline int level_now(const struct level *level, uint64_t line_rate)
{
	if (level->wanted != LEVEL_AUTO)
		return level->wanted;
	if (line_rate >= LEVEL_RAW_LINE && level->bytes >= LEVEL_RAW_AFTER && level->vain < LEVEL_RAW_VAIN)
		return 0;
	return level->score >= 2 ? LEVEL_FAST : LEVEL_MOST;
}
