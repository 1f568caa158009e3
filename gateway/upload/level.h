/*
 * level: how hard to compress the next pack: `most` while the link is what everything waits for, LEVEL_FAST while the link
 * outruns the core that compresses. Seen from what is still unanswered when a pack is sent: nothing, time and again, and
 * the other side has been waiting for us; two packs or more, and it is we who wait.
 */
#pragma once

#define LEVEL_FAST      1
#define LEVEL_SCORE_MAX 4                /* packs that it takes to change one's mind, at most */

struct level {
	int most;                        /* zstd; 0: none */
	int score;                       /* of packs that found the link idle, less those that found it busy */
};

/* A pack is sent now, when so many requests before it have no answer yet. */
static inline void level_sent(struct level *level, unsigned in_flight)
{
	if (in_flight == 0 && level->score < LEVEL_SCORE_MAX)
		level->score++;
	else if (in_flight >= 2 && level->score > 0)
		level->score--;
}

/* The first pack of an upload finds the link idle whatever it is like. */
static inline int level_now(const struct level *level)
{
	return level->score >= 2 && level->most > LEVEL_FAST ? LEVEL_FAST : level->most;
}
