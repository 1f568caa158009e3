/* parts: what a running daemon is made of. For the files of this folder. */
#pragma once

#include <sys/types.h>

#include "gateway/admin/counters.h"
#include "gateway/buildkit/buildkit.h"
#include "gateway/broker/diffcopy.h"
#include "gateway/play/play.h"
#include "gateway/buildkitd/executors_source.h"
#include "gateway/cas/cas.h"
#include "gateway/daemon/account.h"
#include "gateway/daemon/builds.h"
#include "gateway/daemon/daemon.h"
#include "gateway/daemon/notify.h"
#include "gateway/daemon/rest.h"
#include "gateway/link/link_service.h"
#include "gateway/pool/execute.h"
#include "gateway/reapi/reapi.h"
#include "proto/reapi.h"
#include "proto/reapi_cas.h"

struct spawner;

struct daemon {
	const struct daemon_config *config;
	struct ring *ring;
	struct store *store;
	struct ledger *ledger;
	struct questions questions;
	struct builds_service builds;
	struct tls_context *tls;
	struct tenant_registry *tenants;
	struct sha256 hasher;
	struct cas cas;
	struct pool *pool;
	struct execute_service execute;
	struct reapi reapi;
	struct executors *executors;     /* the buildkitd that were named; NULL: none */
	struct executors_source *executors_source;
	struct spawner *spawner;         /* NULL: none are started here */
	struct buildkit *buildkit;       /* NULL: no buildkitd was named */
	struct diffcopy_service broker;
	struct play_service play;
	struct account account;
	struct link_service *links;
	struct server *server;
	struct signals *signals;
	struct admin *admin;
	struct op observe_timer;
	struct counters_process process; /* as last seen (observe.c) */
	struct rest rest;
	struct notify notify;
	uint64_t ceiling_bytes, started_ns;
	uid_t uid;                       /* what it became; 0 when it was not started as root */
	gid_t gid;
	pid_t host_pid;
	int host_fd;                     /* to the host until it knows the socket */
	const char *no_executors;        /* why there are none */
	bool draining, drained;
	bool ready;                      /* as /readyz has it */
};

/* Methods: each hands the request to its service. */
int daemon_push(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_fetch(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_pin(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_status(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_builds(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_carry(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_attach(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_unknown(void *context, const struct server_request *request, char *why, size_t why_size);
void daemon_web(void *context, struct conn *conn, struct stream *stream, const struct h2_request *head);
int daemon_reapi(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_execute(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_execute_wait(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_execute_get(void *context, const struct server_request *request, char *why, size_t why_size);
int daemon_execute_cancel(void *context, const struct server_request *request, char *why, size_t why_size);

/* What the links ask: who a caller is; and where a channel goes. */
enum grpc_status daemon_identify(void *context, const struct server_request *request, struct tenant_identity *identity,
                                 char *why, size_t why_size);
int daemon_adopt(void *context, int fd, const struct conn_peer *peer);
