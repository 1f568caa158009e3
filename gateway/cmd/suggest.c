/* suggest: restricted Damerau-Levenshtein distance in three rows. */
#include "gateway/cmd/suggest.h"

#include <stdbool.h>
#include <string.h>

enum { WORD_MAX = 63 };

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t suggest_distance(const char *a, const char *b)
{
	size_t rows[3][WORD_MAX + 1];
	size_t a_size = strlen(a), b_size = strlen(b);

	if (a_size > WORD_MAX || b_size > WORD_MAX)
		return a_size > b_size ? a_size : b_size;
	for (size_t j = 0; j <= b_size; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a_size; i++) {
		size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= b_size; j++) {
			row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], above2[j - 2] + 1);
		}
	}
	return rows[a_size % 3][b_size];
}

bool suggest_nearer(const char *typed, const char *known, size_t *best)
{
	size_t typed_size = strlen(typed);
	size_t distance = suggest_distance(typed, known);

	/* The beginning of a longer word counts as one slip, when it is long enough to mean something. */
	if (typed_size >= 2 && strncmp(typed, known, typed_size) == 0)
		distance = 1;
	if (distance > (typed_size + 2) / 3 || distance >= *best)
		return false;
	*best = distance;
	return true;
}
