/* explain_table: what a push cost, for people and for programs. */
#pragma once

#include <stdio.h>

#include "gateway/cmd/json.h"
#include "gateway/cmd/pushing.h"

#define EXPLAIN_TOP 20                   /* entries that are shown when nobody says how many */

/* All that went over the connection from its first byte to its last, by what it was for. Bytes. */
struct explain_bill {
	uint64_t content_sent;           /* packs: files and directories */
	uint64_t asking_sent, asking_received;           /* the other messages: what is there, what is wanted, the commit */
	uint64_t abandoned_sent, abandoned_received;     /* attempts that a changing file ended */
	uint64_t handshake_sent, handshake_received;     /* of TLS */
	uint64_t framing_sent, framing_received;         /* HTTP/2 frames and header fields, records of TLS */
	uint64_t sent, received;         /* the sums; in a prediction, with what would have been sent */
};

/* After client_disconnect(): then nothing more comes. */
struct explain_bill explain_bill_make(const struct pushing *pushing);

/* `top` entries at most. */
void explain_table_print(FILE *file, const struct pushing *pushing, const struct explain_bill *bill, size_t top);
/* The same as an object: root, bill, `top` entries, and how many more there are. NULL: no memory. */
json_t *explain_table_json(const struct pushing *pushing, const struct explain_bill *bill, size_t top);

/* How a reason is called; of a directory some are called otherwise. */
const char *explain_why_name(enum explain_why why, bool directory);
/* A path as a terminal may show it: control bytes as ?. The root is ".", a directory ends in '/'. */
void explain_print_path(FILE *file, const char *path, bool directory);
