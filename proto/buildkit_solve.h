/*
 * buildkit_solve: what a client asks of a daemon with Control/Solve, and of a frontend with LLBBridge/Solve and
 * Return. Requests are looked into and passed on as they came, so nothing here writes one; spans are borrowed from
 * the message.
 * Source: moby/buildkit v0.32.2 api/services/control/control.proto, frontend/gateway/pb/gateway.proto.
 */
#pragma once

#include "proto/message.h"

/* A build. A MESSAGE_PRESENT span is set (`data`) also when the message in it is empty. */
struct buildkit_solve_request {
	struct span ref;                         /* names the build in Status, and in the metadata of LLBBridge calls */
	struct span definition;                  /* Definition; present */
	struct span exporter_type;               /* deprecated, with its attributes: see buildkit_exporter_next() */
	struct message_list exporter_attributes; /* map */
	struct span session;                     /* the session's id */
	struct span frontend;
	struct message_list frontend_attributes; /* map */
	struct span cache;                       /* CacheOptions; present */
	struct message_list entitlements;
	struct message_list frontend_inputs;     /* map to Definition */
	bool internal;                           /* not in the history, says the client */
	struct span source_policy;               /* present */
	struct message_list exporters;
	bool enable_session_exporter;
	struct span source_policy_session;
	int64_t compatibility_version;
	bool proxy_network;
};
struct buildkit_cache_options {
	struct span export_ref;                  /* deprecated, as the two below: a registry */
	struct message_list import_refs;
	struct message_list export_attributes;   /* map */
	struct message_list exports, imports;    /* each as an exporter: a type and attributes */
};
struct buildkit_exporter {
	struct span type;
	struct message_list attributes;          /* map */
};

/* False: malformed, the exporters in it included. */
bool buildkit_solve_request_decode(struct span message, struct buildkit_solve_request *request);
/*
 * Each exporter of a decoded request: those in the list or, without any, the deprecated one when there is one, as the
 * daemon counts them. Start with a zeroed cursor.
 */
bool buildkit_exporter_next(const struct buildkit_solve_request *request, struct message_cursor *cursor,
                            struct buildkit_exporter *exporter);
/*
 * Whether it is what buildx sends to learn a daemon's capabilities: internal, and asking for nothing. What it may
 * hold is listed, so that a request with anything else in it, known here or not, counts as a build. False also when
 * malformed.
 */
bool buildkit_solve_is_probe(struct span message);

struct buildkit_solve_response {
	struct message_list exporter_response;   /* map */
};

/* LLBBridge. Where references stand in a Result is for buildkit_refs.h. */
struct buildkit_llb_solve_response {
	struct span ref;                         /* deprecated */
	struct span result;                      /* Result; present */
};
struct buildkit_llb_return_request {
	struct span result;                      /* Result; present */
	struct span error;                       /* google.rpc.Status (reapi_status_type); present: it has failed */
};

extern const struct message_type buildkit_solve_request_type, buildkit_cache_options_type, buildkit_exporter_type,
	buildkit_solve_response_type, buildkit_llb_solve_response_type, buildkit_llb_return_request_type;
