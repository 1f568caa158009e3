/*
 * link_service: the gateway's side of links: the method `/sluice.v1.Link/Carry`, and the table of links. A link belongs to the
 * credential that made it (tenant, subject, rights, certificate, and whether it came from this machine); its channels are
 * handed on as connections of that peer. Somebody else who names its id is told the same as one who names an id that never
 * was.
 *
 * A link without a path is kept for `timeout_ns` and then ended: its channels close, as if their client had hung up.
 */
#pragma once

#include "gateway/net/server.h"
#include "gateway/tenant/tenant.h"

#define LINKS_MAX         4096
#define LINKS_TENANT_MAX  256                    /* of one tenant */
#define LINK_HELLO_NS     10000000000ull         /* a call without a hello is ended */
#define LINK_HELLOS_MAX   1024                   /* calls that wait for theirs */
#define LINK_HELLOS_TENANT_MAX 64                /* of one tenant */

struct link_service;

struct link_service_config {
	struct ring *ring;
	/* Who asks: GRPC_OK and `identity`, or what to answer with `why`. */
	enum grpc_status (*identify)(void *context, const struct server_request *request, struct tenant_identity *identity,
	                             char *why, size_t why_size);
	/* A channel was opened: a connected socket that stands for `peer` (`linked` is set). 0, or -errno and it is still ours. */
	int (*adopt)(void *context, int fd, const struct conn_peer *peer);
	void *context;
	uint64_t timeout_ns;                     /* 0: LINK_TIMEOUT_NS. A client may ask for less */
	uint64_t silence_ns;                     /* of a path; 0: 6 s */
};

int link_service_create(struct link_service **service, const struct link_service_config *config);
/* As server_method.start. */
int link_service_start(struct link_service *service, const struct server_request *request, char *why, size_t why_size);
/* Links without a channel end now, the others when their last one has. Idempotent. */
void link_service_drain(struct link_service *service);
/* All links end at once. Idempotent. */
void link_service_close(struct link_service *service);
/* No link and no call is left. */
bool link_service_idle(const struct link_service *service);
void link_service_destroy(struct link_service *service);         /* only when idle. NULL is accepted */

/* `links`, `paths`, `channels` are now, the rest all since the start. */
struct link_service_status {
	uint64_t links, paths, channels;
	uint64_t links_total, links_refused, links_expired, links_broken, resumes, paths_total, paths_lost, channels_total,
	         bytes_sent, bytes_received, bytes_resent, bytes_duplicate;
};
void link_service_status(const struct link_service *service, struct link_service_status *status);
