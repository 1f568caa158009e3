/*
 * buildkit: the smaller messages of BuildKit's services that are looked into, as C structs for message.h, and
 * BytesMessage, which wraps every byte of a session. What belongs to one build is in buildkit_solve.h,
 * buildkit_status.h and buildkit_refs.h.
 *
 * Answers of several daemons are merged by writing one behind the other: of ListWorkersResponse and DiskUsageResponse
 * all that counts is a repeated field. BuildHistoryEvent is passed on as it is.
 * Source: moby/buildkit v0.32.2 api/services/control/control.proto, api/types/worker.proto,
 * util/apicaps/pb/caps.proto, solver/pb/ops.proto, frontend/gateway/pb/gateway.proto.
 */
#pragma once

#include "proto/message.h"

#define BUILDKIT_CONTROL              "/moby.buildkit.v1.Control/"
#define BUILDKIT_DISK_USAGE           BUILDKIT_CONTROL "DiskUsage"
#define BUILDKIT_PRUNE                BUILDKIT_CONTROL "Prune"
#define BUILDKIT_SOLVE                BUILDKIT_CONTROL "Solve"
#define BUILDKIT_STATUS               BUILDKIT_CONTROL "Status"
#define BUILDKIT_SESSION              BUILDKIT_CONTROL "Session"
#define BUILDKIT_LIST_WORKERS         BUILDKIT_CONTROL "ListWorkers"
#define BUILDKIT_INFO                 BUILDKIT_CONTROL "Info"
#define BUILDKIT_LISTEN_BUILD_HISTORY BUILDKIT_CONTROL "ListenBuildHistory"
#define BUILDKIT_UPDATE_BUILD_HISTORY BUILDKIT_CONTROL "UpdateBuildHistory"
#define BUILDKIT_CONTENT              "/containerd.services.content.v1.Content/"
#define BUILDKIT_CONTENT_INFO         BUILDKIT_CONTENT "Info"
#define BUILDKIT_CONTENT_READ         BUILDKIT_CONTENT "Read"
#define BUILDKIT_LLB                  "/moby.buildkit.v1.frontend.LLBBridge/"
#define BUILDKIT_LLB_PING             BUILDKIT_LLB "Ping"
#define BUILDKIT_LLB_SOLVE            BUILDKIT_LLB "Solve"
#define BUILDKIT_LLB_RETURN           BUILDKIT_LLB "Return"

/* ---- BytesMessage ---- */

#define BYTES_MESSAGE_HEAD_MAX 6

/* False: malformed. `data` is borrowed from the message; empty when the message has none. */
bool bytes_message_decode(struct span message, struct span *data);

/*
 * The same for a message that comes in parts: what each brings of the data, borrowed from the part where the message is as
 * everybody writes it, one field and nothing else; another is collected first. All-zero, and to be freed by _fini.
 */
struct bytes_message_reader {
	bool passing;                    /* the rest of the message is data */
	struct buffer collected;
};
/* `left` bytes of the message come after `part`, 0: the next part begins another. False: malformed, or no memory. */
bool bytes_message_part(struct bytes_message_reader *reader, struct span part, size_t left, struct span *data);
void bytes_message_reader_fini(struct bytes_message_reader *reader);
/*
 * What goes before `payload_bytes` of data, which follow from where they lie. `out` has BYTES_MESSAGE_HEAD_MAX;
 * returns the size: 0 for an empty payload, whose message is empty.
 */
size_t bytes_message_head(uint8_t *out, size_t payload_bytes);

/* ---- workers and capabilities ---- */

struct buildkit_list_workers_response {
	struct message_list records;
};
struct buildkit_worker_record {
	struct span id;
	struct message_list labels;              /* map */
	struct message_list platforms;
	struct message_list gc_policies;
	struct span version;                     /* BuildkitVersion */
	struct message_list cdi_devices;
};
struct buildkit_platform {
	struct span architecture, os, variant, os_version;
	struct message_list os_features;
};
struct buildkit_version {
	struct span package, version, revision, dockerfile_version;
};
struct buildkit_info_response {
	struct span version;                     /* BuildkitVersion */
};
struct buildkit_pong_response {
	struct message_list frontend_capabilities, llb_capabilities;
	struct message_list workers;             /* WorkerRecord */
};
struct buildkit_capability {                     /* apicaps.APICap */
	struct span id;
	bool enabled, deprecated;
	struct span disabled_reason, disabled_reason_message, disabled_alternative;
};

/* ---- what a daemon keeps ---- */

struct buildkit_disk_usage_response {
	struct message_list records;
};
struct buildkit_usage_record {
	struct span id;
	bool mutable, in_use;
	int64_t size_bytes;
	struct span parent;                      /* deprecated: daemons before parents */
	struct span created_at, last_used_at;    /* Timestamp */
	int64_t usage_count;
	struct span description, record_type;
	bool shared;
	struct message_list parents;
};

/*
 * Appends `record` with "prefix" before each id in it (its own and its parents'), so that records of several daemons
 * can stand in one answer. All else, what is not known here included, is as it was. False: malformed, and `out` is as
 * before.
 */
bool buildkit_usage_record_put(struct buffer *out, struct span record, struct span prefix);
/* The same for each record of a DiskUsageResponse; what is appended is one. */
bool buildkit_disk_usage_put(struct buffer *out, struct span response, struct span prefix);

struct buildkit_history_request {
	bool active_only;
	struct span ref;
	bool early_exit;
	struct message_list filters;
	int32_t limit;
};
struct buildkit_update_history_request {
	struct span ref;
	bool pinned, delete, finalize;
};

extern const struct message_type buildkit_list_workers_response_type, buildkit_worker_record_type,
	buildkit_platform_type, buildkit_version_type, buildkit_info_response_type, buildkit_pong_response_type,
	buildkit_capability_type, buildkit_disk_usage_response_type, buildkit_usage_record_type,
	buildkit_history_request_type, buildkit_update_history_request_type;
