/*
 * ignore: .dockerignore, with the meaning that Docker's builders give it (moby/patternmatcher, and fsutil's walk with
 * it), quirks included: the last pattern that matches a path or one of its parents decides; "!" takes back; patterns
 * are rooted; "**" matches any number of directories; "#" comments only at the very start of a line; trailing and
 * leading slashes do not count. Docker turns patterns into regular expressions and lets a few operators of theirs slip
 * through ("\d", "[*]", "[[:alpha:]]", "a|b*", "a*{2}"): a file with such a pattern is refused with the line's number.
 * Pure.
 */
#pragma once

#include "proto/span.h"

#define IGNORE_PATTERNS_MAX   4096
#define IGNORE_LINE_BYTES_MAX 65536
#define IGNORE_BYTES_MAX      (1u << 20)

struct ignore;

enum ignore_verdict {
	IGNORE_INCLUDED,
	IGNORE_EXCLUDED,         /* but an exception may match something below it, should it be a directory */
	IGNORE_PRUNED,           /* excluded with all that may be below */
};

/* 0; -EINVAL, -E2BIG, -ENOMEM with one sentence in `why`. `text` is not kept. */
int ignore_create(struct ignore **ignore, struct span text, char *why, size_t why_size);
void ignore_destroy(struct ignore *ignore);

/* Bytes of a state: what is known of a directory, for judging what is in it. */
size_t ignore_state_bytes(const struct ignore *ignore);

/*
 * Judges the root-relative `path`. `parent` is the state that this function gave for the directory that holds it, NULL
 * in the root; `state` (may be NULL) receives that of `path`.
 */
enum ignore_verdict ignore_judge(const struct ignore *ignore, struct span path, const uint8_t *parent, uint8_t *state);
