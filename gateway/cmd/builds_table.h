/* builds_table: lines of the account as people and as programs read them. */
#pragma once

#include <stdio.h>
#include <jansson.h>
#include "proto/sluice_v1.h"

/*
 * A table with a line a build, as wide as what is in it; names are cut, control characters become `?`. False: a line is
 * malformed, or there are more than SLUICE_BUILDS_MAX, and nothing was printed.
 */
bool builds_table_print(FILE *file, const struct builds_response *response);

/* A line as a JSON object, for the caller to release; NULL: no memory. */
json_t *builds_json(const struct build_line *line);
