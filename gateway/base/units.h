/* units: the spellings people use for sizes and durations, in settings and in output. */
#pragma once

#include "proto/span.h"

/* "4096", "512MB" (1e6), "512MiB", "1.5GB", "10%" (of `whole`; refused when whole is 0). False: not a size. */
bool units_parse_bytes(const char *text, uint64_t whole, uint64_t *bytes);
/* "150ms", "30s", "5m", "48h", "7d". A bare number is seconds. */
bool units_parse_duration(const char *text, uint64_t *ns);
/* "1.1 GB", "41 kB", "812 B": decimal, at most one decimal. Returns `text`. */
char *units_format_bytes(uint64_t bytes, char text[static 24]);
/* "0.42s", "3.1s", "2m 5s". */
char *units_format_duration(uint64_t ns, char text[static 24]);
