/*
 * sluice_v1: the messages of proto/sluice.v1.proto as C structs (what each field means is said there), for
 * message_decode() and message_encode(). The bulk messages Pack and FetchResponse are read and written blob by blob.
 */
#pragma once

#include "proto/message.h"

#define SLUICE_PUSH       "/sluice.v1.Store/Push"
#define SLUICE_FETCH      "/sluice.v1.Store/Fetch"
#define SLUICE_STATUS     "/sluice.v1.Store/Status"
#define SLUICE_PIN        "/sluice.v1.Store/Pin"
#define SLUICE_BUILDS     "/sluice.v1.Store/Builds"
#define SLUICE_ATTACH     "/sluice.v1.Executor/Attach"
#define SLUICE_LINK_CARRY "/sluice.v1.Link/Carry"

#define SLUICE_LIST_MAX           16384          /* entries of a digest list */
#define SLUICE_PACK_BYTES         (4u << 20)     /* data in a pack or a fetch response */
#define SLUICE_BASES_MAX          4              /* of a delta */
#define SLUICE_BASES_BYTES        (8u << 20)     /* of a pack's deltas, together */
#define SLUICE_MESSAGE_BYTES_MAX  (5u << 20)     /* any message, decompressed: a pack and its digests */
#define SLUICE_MISSING_PATHS_MAX  8
#define SLUICE_BUILDS_MAX         1000           /* lines in an answer */
#define SLUICE_NOTE_BYTES_MAX     63             /* of a pin: a longer one is refused */
#define SLUICE_BUILDS_DEFAULT     50
#define LINK_ID_BYTES             16
#define LINK_FRAME_BYTES          (32u << 10)    /* data in a frame */
#define LINK_MESSAGE_BYTES_MAX    (LINK_FRAME_BYTES + 2048)
#define LINK_HEAD_BYTES_MAX       128            /* of a LinkMessage, without hello, welcome and data */
#define LINK_RUNS_MAX             64             /* pairs in `ahead` */
#define LINK_CREDIT_FIRST         (256u << 10)   /* that a channel begins with */

/* Digest lists: 32 raw bytes and a varint size an entry. */
void digest_list_put(struct buffer *out, const struct digest *digest);
/* Takes an entry from the front; false at the end, and (with `rest` not empty) on malformed input. */
bool digest_list_next(struct span *rest, struct digest *digest);
/* Entries in a well-formed list; SIZE_MAX when it is malformed or longer than SLUICE_LIST_MAX. */
size_t digest_list_count(struct span list);

/* Bit lists. Reading beyond the end yields false. */
static inline bool bit_list_get(struct span bits, size_t i)
{
	return i / 8 < bits.size && (bits.data[i / 8] >> (i % 8) & 1);
}
/* Writes `count` bools; bytes of zeros at the end are left out. */
void bit_list_put(struct buffer *out, uint32_t number, const bool *bits, size_t count);

struct push_request {
	struct span offer, query, pack, commit, sign;    /* MESSAGE_PRESENT: `data` tells which */
};
struct push_offer {
	struct span directories;
	bool commit;
};
struct push_query {
	struct span blobs;
};
struct push_commit {
	struct span root;
};
struct push_sign_request {
	struct span blobs;
	struct message_list below;       /* of push_below_names */
};
struct push_below_names {
	struct span directory;
	struct message_list names;
};
struct push_response {
	struct span answer, stored, committed, missing, sign;
};
struct push_answer {
	struct span present, promised;
};
struct push_stored {
	uint32_t blobs;
	struct message_list rejected;
	struct span whole;
};
struct push_rejected {
	struct span expected, actual;
};
struct push_signed {
	struct span present, hashes, digests;
};
struct push_committed {
	struct span root;
};
struct push_missing {
	struct span blobs;
	uint64_t count;
	struct message_list paths;
};
struct fetch_request {
	struct span blobs;
};
struct status_response {
	struct span version, engine, tenant, subject;
	uint64_t uptime_seconds, ceiling_bytes, used_bytes;
	uint32_t slots, slots_busy, queued;
	uint64_t connections;
	struct message_list pins;
};
struct pinned_root {
	struct span root;
	uint64_t expires_unix_seconds;
	struct span note;
};
struct pin_request {
	struct span root;
	uint64_t expires_unix_seconds;
	bool remove;
	struct span note;
};
struct builds_request {
	uint32_t limit;
	uint64_t within_ns;
	bool failed_only;
};
struct builds_response {
	uint64_t now_unix_ns;
	struct message_list builds;
};
struct build_line {
	struct span subject, ref, directory, executor;
	uint64_t queued_unix_ns, started_unix_ns, ended_unix_ns, queue_ns, files, files_changed, bytes_from_client,
	         bytes_from_store, bytes_to_executor;
	uint32_t steps_cached, steps_executed, replays, result, fault, status;
	struct span error;
};
struct attach_request {
	struct span hello, resolved, output, finished, spawn_event;
};
struct executor_hello {
	uint32_t slot, slots;
	struct span runtime, why, spawn, spawn_why;
};
struct executor_resolve {
	uint64_t id;
	struct span image;
};
struct executor_resolved {
	uint64_t id;
	struct span environment, fault;
};
struct executor_assignment {
	uint64_t id;
	struct span tenant, root;
	struct message_list arguments, environment;
	struct span working_directory, image;
	bool network;
	uint64_t timeout_ms, memory_bytes, cpu_millis, pids;
	struct message_list output_files, output_directories, output_paths;
	bool changes, unix_modes;
	uint32_t instance;
};
struct executor_variable {
	struct span name, value;
};
struct executor_output {
	uint64_t id;
	uint32_t stream;
	struct span data;
};
struct executor_finished {
	uint64_t id;
	int32_t exit_code;
	uint32_t status;
	struct span message, changes;
	struct message_list deleted;
	uint64_t materialise_ms, run_ms, collect_ms, fetched_bytes;
	struct span outputs, environment;
};
struct attach_response {
	struct span resolve, assignment;
	uint64_t cancel;
	struct span spawn_start, spawn_stop;
};
struct executor_spawn_start {
	uint64_t id;
	struct span tenant;
	uint32_t number;
};
struct executor_spawn_stop {
	uint64_t id;
};
enum executor_spawn_state { EXECUTOR_SPAWN_READY = 1, EXECUTOR_SPAWN_ENDED = 2 };
struct executor_spawn_event {
	uint64_t id;
	uint32_t state;
	struct span socket, why;
};
struct execute_output {
	uint32_t stream;
	struct span data;
	uint32_t queue_position;
};

enum link_kind { LINK_DATA = 0, LINK_OPEN = 1, LINK_END = 2, LINK_RESET = 3, LINK_CREDIT = 4 };

struct link_message {
	struct span hello, welcome;              /* MESSAGE_PRESENT */
	uint64_t received, taken;
	bool probe, over;
	uint64_t sequence;                       /* 0: no frame */
	uint32_t channel, kind;
	uint64_t credit;
	struct span data;
};
struct link_hello {
	struct span id;
	bool resume;
	uint32_t path;
	uint64_t timeout_ms;
	struct span ahead;
};
struct link_welcome {
	uint64_t timeout_ms;
	struct span ahead;
};

/*
 * The bytes of a LinkMessage before the `data_size` bytes of data, which follow them; `message->data` is not looked at.
 * `hello` and `welcome` have to be empty. Returns how many.
 */
size_t link_message_head(uint8_t head[static LINK_HEAD_BYTES_MAX], const struct link_message *message, size_t data_size);
/* Well-formed, and a frame or none: a known kind, data and credit only where they belong and within their bounds. */
bool link_message_decode(struct link_message *message, struct span bytes);

/* Takes a pair off the front of `ahead`; false at its end and (with `ahead` not empty) on malformed input. Neither is 0. */
bool link_run_next(struct span *ahead, uint64_t *missing, uint64_t *there);
void link_run_put(struct buffer *ahead, uint64_t missing, uint64_t there);

extern const struct message_type link_message_type, link_hello_type, link_welcome_type;
extern const struct message_type push_request_type, push_offer_type, push_query_type, push_commit_type, push_sign_request_type,
	push_below_names_type, push_signed_type,
	push_response_type, push_answer_type, push_stored_type, push_rejected_type, push_committed_type,
	push_missing_type, fetch_request_type, status_response_type, pinned_root_type, pin_request_type,
	attach_request_type, executor_hello_type, executor_resolve_type, executor_resolved_type,
	executor_assignment_type, executor_variable_type, executor_output_type, executor_finished_type,
	attach_response_type, execute_output_type, builds_request_type, builds_response_type, build_line_type,
	executor_spawn_start_type, executor_spawn_stop_type, executor_spawn_event_type;

/* A blob in a Pack (`digest` set) or a FetchResponse (`fault` set). */
struct packed_blob {
	struct digest digest;
	struct span data;
	uint32_t fault;
};
enum fetch_fault { FETCH_OK = 0, FETCH_MISSING = 1, FETCH_CORRUPT = 2 };

struct packed_delta {
	struct digest digest;
	struct span bases;               /* a well-formed digest list, of 1 to SLUICE_BASES_MAX */
	uint64_t bases_bytes;            /* their sizes' sum; no more than fits */
	struct span edits;
};

/* Walks the blobs of a Pack or FetchResponse from the front; false at the end or, with `failed`, on malformed input. */
bool pack_next(struct span *rest, struct packed_blob *blob, bool *failed);
bool fetched_next(struct span *rest, struct packed_blob *blob, bool *failed);
bool delta_next(struct span *rest, struct packed_delta *delta, bool *failed);    /* the deltas of a Pack, likewise */
void pack_put(struct buffer *out, const struct digest *digest, struct span data);
void delta_put(struct buffer *out, const struct digest *digest, const struct digest *bases, size_t bases_count, struct span edits);
/* What comes before the `data_size` bytes of a blob in a FetchResponse; returns how many bytes. */
#define FETCHED_HEAD_MAX 24
size_t fetched_head(uint8_t head[static FETCHED_HEAD_MAX], size_t data_size, enum fetch_fault fault);
void fetched_put(struct buffer *out, struct span data, enum fetch_fault fault);
