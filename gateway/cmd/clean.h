/*
 * clean: texts of others (names in trees, notes, reasons that a gateway gives) as a terminal may show them. Each character that
 * may not be shown (gateway/base/visible.h), and each byte that is no UTF-8, becomes one `?`.
 */
#pragma once

#include <stdio.h>

#include "proto/span.h"

/*
 * Takes one character, or one bad byte, from the front of `text`, which is not empty; writes what is shown in its place
 * and returns how many bytes: never more than were taken.
 */
size_t clean_take(struct span *text, char shown[static 4]);

/* In place; the text may become shorter. */
void clean_text(char *text);

void clean_print(FILE *file, struct span text);
