/*
 * sluice_context: the messages of sluice.v1.Context/Give as C structs (what each field means is said in
 * proto/sluice.v1.proto), and the lists inside them. An edge gives a context by it: a root, which the gateway has whole,
 * and of the modification times those that the gateway asks for.
 *
 * An *entry number* is the place in fsutil's walk order: depth first, the children of a directory by the bytes of their
 * names, the directory before them; the context's own directory is no entry.
 */
#pragma once

#include "proto/message.h"

#define SLUICE_GIVE "/sluice.v1.Context/Give"

#define CONTEXT_MESSAGE_BYTES_MAX (4u << 20)     /* a message of either side, decompressed */

struct context_request {                 /* MESSAGE_PRESENT: `data` tells which */
	struct span ask, times, missing, files;
};
struct context_ask {
	struct span known;
	bool times, ahead, same;
};
struct context_response {                /* MESSAGE_PRESENT: `data` tells which, or `same` */
	struct span root, times, entries, named, unfit;
	uint64_t same;                   /* 0: it is none of those */
	bool passing;                    /* with `unfit` */
};
struct context_root {
	struct span root;
	uint64_t entries, files, files_read, bytes_read, bytes_sent;
};

extern const struct message_type context_request_type, context_ask_type, context_response_type, context_root_type;

/* ---- lists ---- */

/*
 * A *number list*: entry numbers, ascending, none twice; each a varint that says how far it is from the one before (the
 * first: from -1). `previous` starts at ENTRY_NUMBER_BEFORE and goes along.
 */
#define ENTRY_NUMBER_BEFORE UINT64_MAX
#define ENTRY_NUMBER_MAX    UINT32_MAX

void number_list_put(struct buffer *out, uint64_t *previous, uint64_t number);
/* Takes one from the front into `previous`. False at the end, and (with `rest` not empty) on malformed input. */
bool number_list_next(struct span *rest, uint64_t *previous);

/*
 * A *time list*: a varint that says how many nanoseconds a unit is, at least 1, and then zigzag varint differences in units, each to
 * the time before (the first: to 0). What unpacked an archive set whole seconds; what copies may have set microseconds.
 */
struct time_list {                       /* zeroed at first; goes along */
	uint64_t unit_ns;                /* 0: the unit was not put or taken yet */
	uint64_t previous;               /* in units */
};
/* The longest unit, up to `unit_ns` (TIME_UNIT_MOST_NS at first), that this time is whole units of as well. */
#define TIME_UNIT_MOST_NS UINT64_C(1000000000)
uint64_t time_list_unit(uint64_t unit_ns, int64_t time_ns);
/* Begins the list. */
void time_list_begin(struct buffer *out, struct time_list *list, uint64_t unit_ns);
/* `time_ns` is whole units. */
void time_list_put(struct buffer *out, struct time_list *list, int64_t time_ns);
/* As number_list_next(). Sums and products wrap around: every list of varints is one of times, unless its unit is 0. */
bool time_list_next(struct span *rest, struct time_list *list, int64_t *time_ns);

/* An *entry list*: a Stat as fsutil writes it (proto/fsutil.h) behind its length as a varint; size and mtime are real. */
void entry_list_put(struct buffer *out, struct span stat);
/* As number_list_next(); `stat` is borrowed and not yet looked at. */
bool entry_list_next(struct span *rest, struct span *stat);

/*
 * A *name list*: what files' contents are called, in any order of the entries: a zigzag varint from the entry number before
 * (the first: from 0), 32 bytes of SHA-256, a varint size of the blob, and a varint that is 0 when the blob is the content
 * itself, else 1 + the content's size: then it is its recipe.
 */
struct named_entry {
	uint64_t number;
	struct digest digest;
	bool recipe;
	uint64_t file_size;
};
void name_list_put(struct buffer *out, uint64_t *previous, const struct named_entry *entry);
/* As number_list_next(). */
bool name_list_next(struct span *rest, uint64_t *previous, struct named_entry *entry);
