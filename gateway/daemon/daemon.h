/*
 * daemon: `sluice serve` put together: privileges, store, services, listeners, the loop, and the way out.
 *
 * Started as root it is two processes from the first moment: the executor host (privileged, executor/host.h), forked
 * before any socket opens, and the gateway, which then becomes `user` for good. As an ordinary user it serves
 * without executors.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/buildkit/replay.h"
#include "gateway/daemon/spawning.h"
#include "gateway/ring/ring.h"

struct daemon_config {
	const char *const *listen;       /* addresses */
	size_t listen_count;
	const char *store_path;
	const char *ceiling;             /* "20GB", "10%" of the disk */
	uint64_t ledger_keep_ns;         /* lines of the account older than this are deleted; 0: kept as long as there is room */
	const char *tls_certificate, *tls_key, *tls_ca;
	bool tls_require_client;
	const char *tokens_path, *anonymous, *anonymous_rights;  /* as struct tenant_config has them */
	const char *admin;               /* "127.0.0.1:8373"; NULL: none */
	enum ring_engine engine;
	const char *user;                /* NULL: "sluice" */
	uint32_t slots;                  /* of the executor host; 0: no executors */
	const char *executor_path;       /* the host's private directory; NULL: /var/lib/sluice-executor */
	const char *images;              /* where OCI layout directories for --image are; NULL: none */
	const char *runtime;             /* "runc", a path, or NULL: the first that works */
	bool allow_host_root, allow_network;
	const char *const *buildkit;     /* buildkit/executor_address.h */
	size_t buildkit_count;           /* 0: BuildKit's services are not served */
	const char *buildkit_tenant;     /* whose they are that name none; NULL: "default" */
	struct spawning_config spawning; /* buildkitd processes that the host starts */
	bool mtime_distrust;             /* files of contexts are read anew by each build, whatever their stat says */
	uint64_t buildkit_queue_timeout_ns;      /* 0: 10 min */
	enum replay_policy replay;
	uint64_t drain_timeout_ns;
	uint64_t idle_timeout_ns;        /* of a connection without a call; 0: 1 h */
	uint64_t link_timeout_ns;        /* how long a link without a connection is kept; 0: 1 min */
	uint32_t connections_max;
};

/* Runs until SIGTERM or SIGINT and the drain that follows. 0, or -errno with `why` when it could not start. */
int daemon_run(const struct daemon_config *config, char *why, size_t why_size);
