/* suggest: which known word somebody meant who typed another one. */
#pragma once

#include <stddef.h>

/* How many letters must be typed, dropped, changed or swapped with a neighbour to get from one word to the other. */
size_t suggest_distance(const char *a, const char *b);

/* True when `known` is near enough to `typed` to be worth a question, and nearer than `*best`, which is then updated. */
_Bool suggest_nearer(const char *typed, const char *known, size_t *best);
