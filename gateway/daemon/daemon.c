/*
 * serve, put together. The order matters: fork the executor host, drop privileges, then everything that opens sockets;
 * on the way out the reverse: stop listening, finish streams, make the store durable, end.
 */
#include "gateway/daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/base/heap.h"
#include "gateway/base/log.h"
#include "gateway/base/units.h"
#include "gateway/buildkitd/spawner.h"
#include "gateway/cas/references.h"
#include "gateway/daemon/account.h"
#include "gateway/daemon/brokering.h"
#include "gateway/daemon/buildkitd.h"
#include "gateway/daemon/observe.h"
#include "gateway/daemon/parts.h"
#include "gateway/daemon/privileges.h"
#include "gateway/daemon/signals.h"
#include "gateway/executor/host.h"
#include "gateway/executor/host_directory.h"
#include "gateway/ring/probe.h"

#define DAEMON_USER          "sluice"
#define DAEMON_EXECUTOR_PATH "/var/lib/sluice-executor"
#define SOCKETS_SPARE        (SERVER_OWN_MAX + 64u) /* beyond the connections and those that wait: executor slots, listeners */

static const struct server_method daemon_methods[] = {
	{ SLUICE_PUSH, daemon_push },
	{ SLUICE_FETCH, daemon_fetch },
	{ SLUICE_PIN, daemon_pin },
	{ SLUICE_STATUS, daemon_status },
	{ SLUICE_BUILDS, daemon_builds },
	{ SLUICE_ATTACH, daemon_attach },
	{ SLUICE_LINK_CARRY, daemon_carry },
	{ REAPI_EXECUTE, daemon_execute },
	{ REAPI_CAPABILITIES, daemon_reapi },
	{ REAPI_FIND_MISSING, daemon_reapi },
	{ REAPI_BATCH_UPDATE, daemon_reapi },
	{ REAPI_BATCH_READ, daemon_reapi },
	{ REAPI_GET_TREE, daemon_reapi },
	{ REAPI_SPLIT, daemon_reapi },
	{ REAPI_SPLICE, daemon_reapi },
	{ REAPI_GET_RESULT, daemon_reapi },
	{ REAPI_UPDATE_RESULT, daemon_reapi },
	{ BYTESTREAM_READ, daemon_reapi },
	{ BYTESTREAM_WRITE, daemon_reapi },
	{ BYTESTREAM_QUERY, daemon_reapi },
	{ REAPI_WAIT_EXECUTION, daemon_execute_wait },
	{ REAPI_GET_OPERATION, daemon_execute_get },
	{ REAPI_CANCEL_OPERATION, daemon_execute_cancel },
	{ GRPC_HEALTH, daemon_reapi },
	{ GRPC_REFLECTION, daemon_reapi },
	{ GRPC_REFLECTION_ALPHA, daemon_reapi },
	{ NULL, NULL },
};

/* ---- the executor host ---- */

/* Forks the host. In the child it does not return. */
static int daemon_fork_host(struct daemon *daemon, char *why, size_t why_size)
{
	const struct daemon_config *config = daemon->config;
	const char *path = config->executor_path ? config->executor_path : DAEMON_EXECUTOR_PATH;
	CLEANUP(fd_closep) int lock_fd = -1;     /* in the child it stays open until that ends */
	int pair[2], r = host_directory_take(&lock_fd, path, why, why_size);

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		snprintf(why, why_size, "no pair of sockets: %s", strerror(errno));
		return ERR_RAISE(-errno);
	}
	daemon->host_pid = fork();
	if (daemon->host_pid < 0) {
		r = -errno;
		snprintf(why, why_size, "fork: %s", strerror(-r));
		close(pair[0]);
		close(pair[1]);
		return ERR_RAISE(r);
	}
	if (daemon->host_pid == 0) {
		struct host_config host = {
			.spawn = config->spawning.host, .uid = daemon->uid, .gid = daemon->gid, .slots = config->slots, .path = path,
			.runtime = config->runtime, .images = config->images, .socket_fd = pair[0],
			.allow_network = config->allow_network, .engine = config->engine,
			.hidden = { config->store_path, config->tls_key, config->tokens_path, "/etc/sluice" },
		};

		close(pair[1]);
		notify_close(&daemon->notify);
		_exit(host_run(&host));
	}
	close(pair[0]);
	daemon->host_fd = pair[1];
	return 0;
}

static int daemon_open_ring(struct daemon *daemon, char *why, size_t why_size)
{
	/* Whoever finds the table full is lost: room also for those that wait to be taken. */
	uint32_t sockets = daemon->config->connections_max + SERVER_PARKED_MAX + SOCKETS_SPARE;
	struct ring_config ring = {
		.engine = daemon->config->engine,
		.gather = true,
		.sockets_max = sockets < RING_SOCKETS_MAX ? sockets : RING_SOCKETS_MAX,
	};
	int r = ring_create(&daemon->ring, &ring);

	if (r < 0)
		ring_refusal_tell(r, ring.engine, why, why_size);
	return r;
}

/*
 * The ring is made while still root: memory that it pins is then not charged to the user's RLIMIT_MEMLOCK. No socket is
 * open yet, and nothing of the ring outlives the drop but memory and its own descriptor.
 */
static int daemon_become_user(struct daemon *daemon, char *why, size_t why_size)
{
	const struct daemon_config *config = daemon->config;
	uid_t uid;
	gid_t gid;
	int r;

	if (geteuid() != 0 && config->runtime && config->slots) {
		snprintf(why, why_size, "--runtime: actions are run by a serve that was started as root");
		return ERR_RAISE(-EPERM);
	}
	if (geteuid() != 0) {
		daemon->no_executors = "serve was started as an ordinary user; start it as root to run actions";
		log_event(LOG_WARNING, "no executors", LOG_TEXT("cause", daemon->no_executors));
		privileges_raise_limits();
		signals_block();
		return daemon_open_ring(daemon, why, why_size);
	}
	r = privileges_user(config->user ? config->user : DAEMON_USER, &uid, &gid, why, why_size);
	if (r == 0)
		r = privileges_own_directory(config->store_path, uid, gid, why, why_size);
	if (r < 0)
		return r;
	privileges_raise_limits();
	daemon->uid = uid;
	daemon->gid = gid;
	if (config->slots == 0 && !config->spawning.host.enabled)
		daemon->no_executors = "serve was started with --slots 0";
	else
		r = daemon_fork_host(daemon, why, why_size);
	signals_block();
	if (r == 0)
		r = daemon_open_ring(daemon, why, why_size);
	return r ? r : privileges_drop(uid, gid, why, why_size);
}

/* ---- starting ---- */

static int daemon_open_store(struct daemon *daemon, char *why, size_t why_size)
{
	const struct daemon_config *config = daemon->config;
	struct store_config store = { .path = config->store_path, .direct = true, .references = closure_references };
	struct statvfs disk;
	uint64_t disk_bytes = 0;

	/* Made now when it is missing, to see which disk it is on; what is wrong with it store_open() says. */
	mkdir(config->store_path, 0700);
	if (statvfs(config->store_path, &disk) == 0)
		disk_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
	if (!units_parse_bytes(config->ceiling, disk_bytes, &store.ceiling_bytes)) {
		snprintf(why, why_size, "--ceiling %s is not a size such as 20GB or 10%%", config->ceiling);
		return ERR_RAISE(-EINVAL);
	}
	daemon->ceiling_bytes = store.ceiling_bytes;
	return store_open(&daemon->store, daemon->ring, &store, why, why_size);
}

/* In the store's directory, and after the store: that has the lock. */
static int daemon_open_ledger(struct daemon *daemon, char *why, size_t why_size)
{
	struct ledger_config ledger = {
		.ring = daemon->ring, .directory = daemon->config->store_path, .keep_ns = daemon->config->ledger_keep_ns,
	};

	return ledger_open(&daemon->ledger, &ledger, why, why_size);
}

static int daemon_open_tls(struct daemon *daemon, char *why, size_t why_size)
{
	const struct daemon_config *config = daemon->config;
	struct tls_config tls = {
		.server = true, .http1 = true, .certificate_path = config->tls_certificate, .key_path = config->tls_key,
		.ca_path = config->tls_ca, .require_client_certificate = config->tls_require_client,
	};

	if (!config->tls_certificate && !config->tls_key)
		return 0;
	return tls_context_create(&daemon->tls, &tls, why, why_size);
}

static void daemon_on_drained(void *context)
{
	struct daemon *daemon = context;

	daemon->drained = true;
}

static void daemon_on_conn_closed(void *context, struct conn *conn)
{
	struct daemon *daemon = context;

	if (daemon->buildkit)
		buildkit_conn_closed(daemon->buildkit, conn);
}

static int daemon_make_buildkit(struct daemon *daemon, char *why, size_t why_size)
{
	struct buildkit_config buildkit = {
		.ring = daemon->ring, .access = &daemon->cas.access,
		.broker = &daemon->broker, .play = &daemon->play, .replay = daemon->config->replay,
		.link_timeout_ns = daemon->config->link_timeout_ns, .directory = daemon->config->store_path,
		.events = { .on_summary = account_on_summary, .on_ended = account_on_ended, .context = &daemon->account },
	};
	int r = buildkitd_start(daemon, why, why_size);

	if (r < 0 || !daemon->executors)
		return r;
	r = brokering_start(daemon, why, why_size);
	if (r < 0)
		return r;
	buildkit.executors = daemon->executors;
	if (daemon->spawner) {
		buildkit.spawnable = spawner_spawnable;
		buildkit.spawnable_context = daemon->spawner;
	}
	r = buildkit_create(&daemon->buildkit, &buildkit);
	if (r < 0)
		snprintf(why, why_size, "out of memory");
	daemon->account = (struct account){ .ledger = daemon->ledger, .buildkit = daemon->buildkit };
	return r;
}

static int daemon_make_links(struct daemon *daemon)
{
	struct link_service_config links = {
		.ring = daemon->ring, .identify = daemon_identify, .adopt = daemon_adopt, .context = daemon,
		.timeout_ns = daemon->config->link_timeout_ns,
	};

	return link_service_create(&daemon->links, &links);
}

static struct tenant_config daemon_tenants(const struct daemon_config *config)
{
	return (struct tenant_config){
		.tokens_path = config->tokens_path, .anonymous = config->anonymous, .anonymous_rights = config->anonymous_rights,
	};
}

/* Before a store is made, at a size that stays: a start that fails for a word in a file leaves nothing behind. */
static int daemon_read_credentials(struct daemon *daemon, char *why, size_t why_size)
{
	struct tenant_config tenants = daemon_tenants(daemon->config);
	int r = daemon_open_tls(daemon, why, why_size);

	return r ? r : tenant_registry_create(&daemon->tenants, &tenants, why, why_size);
}

static int daemon_make_services(struct daemon *daemon, char *why, size_t why_size)
{
	const struct daemon_config *config = daemon->config;
	struct server_config server = {
		.methods = daemon_methods, .context = daemon, .connections_max = config->connections_max,
		.idle_timeout_ns = config->idle_timeout_ns,
		.unknown = daemon_unknown, .web = daemon_web, .on_drained = daemon_on_drained, .on_conn_closed = daemon_on_conn_closed,
	};
	struct pool_config pool = {
		.cas = &daemon->cas, .executor_uid = 0, .enabled = daemon->host_pid > 0, .disabled_why = daemon->no_executors,
		.spawn_events = config->spawning.host.enabled ? &spawning_events : NULL, .spawn_context = daemon,
	};
	int r;

	sha256_init(&daemon->hasher, SHA256_AUTO);
	sha256_calibrate(&daemon->hasher);
	r = pool_create(&daemon->pool, &pool);
	if (r < 0) {
		snprintf(why, why_size, "out of memory");
		return r;
	}
	r = spawning_start(daemon, why, why_size);
	if (r == 0)
		r = daemon_make_buildkit(daemon, why, why_size);
	if (r < 0)
		return r;
	r = daemon_make_links(daemon);
	if (r == 0)
		r = server_create(&daemon->server, daemon->ring, &server);
	if (r < 0) {
		snprintf(why, why_size, "out of memory");
		return r;
	}
	daemon->cas = (struct cas){
		.ring = daemon->ring, .store = daemon->store, .hasher = &daemon->hasher,
		.link_timeout_ns = config->link_timeout_ns,
		.access = { .store = daemon->store, .registry = daemon->tenants, .context = daemon->pool,
		            .executor_scope = pool_executor_scope },
	};
	cas_init(&daemon->cas);
	questions_init(&daemon->questions, &daemon->cas);
	daemon->builds = (struct builds_service){ .ledger = daemon->ledger, .questions = &daemon->questions };
	daemon->execute = (struct execute_service){
		.cas = &daemon->cas, .pool = daemon->pool, .allow_host_root = config->allow_host_root,
		.allow_network = config->allow_network, .linger_ns = EXECUTE_LINGER_NS,
	};
	daemon->reapi = (struct reapi){ .cas = &daemon->cas, .pool = daemon->pool, .execute = &daemon->execute };
	reapi_init(&daemon->reapi);
	execute_init(&daemon->execute);
	return 0;
}

static int daemon_listen(struct daemon *daemon, const char *text, char *why, size_t why_size)
{
	struct address address;
	char bound[300];
	int r;

	if (!address_parse(&address, text, why, why_size))
		return ERR_RAISE(-EINVAL);
	if (address.tls && !daemon->tls) {
		snprintf(why, why_size, "%s wants TLS, but no --tls-cert and --tls-key were given: `sluice cert` makes them", text);
		return ERR_RAISE(-EINVAL);
	}
	r = server_listen(daemon->server, &address, address.tls ? daemon->tls : NULL, bound, sizeof(bound), why, why_size);
	if (r < 0)
		return r;
	log_event(LOG_INFO, "listening", LOG_TEXT("address", bound), LOG_TEXT("engine", ring_engine_name(daemon->ring)));
	return 0;
}

/*
 * Waits for the trial of a runtime that was named, which takes 30 s at most; any other may fail later, and is told of in the log. A
 * host that ends without an answer has said in the log why.
 */
static int daemon_await_runtime(struct daemon *daemon, char *why, size_t why_size)
{
	char fault[512];
	size_t size = 0;
	ssize_t more = 1;

	while (daemon->config->runtime && size < sizeof(fault) && more > 0) {
		more = recv(daemon->host_fd, fault + size, sizeof(fault) - size, 0);
		size += more > 0 ? (size_t)more : 0;
	}
	if (!daemon->config->runtime || span_is(span_make(fault, size), HOST_RUNTIME_WORKS))
		return 0;
	snprintf(why, why_size, "--runtime: no action can run by it: %.*s", size ? (int)size : 100,
	         size ? fault : "the executor host has ended; the log says why");
	return ERR_RAISE(-ENOENT);
}

/* The executor socket, and its path to the waiting host. */
static int daemon_listen_executors(struct daemon *daemon, char *why, size_t why_size)
{
	const struct daemon_config *config = daemon->config;
	struct address address = { .local = true };
	char bound[300];
	int r;

	/* One that has ended already gives no answer. */
	if (daemon->host_pid <= 0)
		return config->slots && !daemon->no_executors ? daemon_await_runtime(daemon, why, why_size) : 0;
	if (snprintf(address.host, sizeof(address.host), "%s/executor.sock", config->store_path) >= 108) {
		snprintf(why, why_size, "the store's path is too long for a unix socket in it: %s", config->store_path);
		return ERR_RAISE(-ENAMETOOLONG);
	}
	r = server_listen_own(daemon->server, &address, bound, sizeof(bound), why, why_size);
	if (r < 0)
		return r;
	if (send(daemon->host_fd, address.host, strlen(address.host), MSG_NOSIGNAL) < 0)
		log_event(LOG_WARNING, "executor host gone");
	shutdown(daemon->host_fd, SHUT_WR);
	r = daemon_await_runtime(daemon, why, why_size);
	close(daemon->host_fd);
	daemon->host_fd = -1;
	return r;
}

/* ---- the loop and the end ---- */

static void daemon_drain(struct daemon *daemon)
{
	if (daemon->draining) {
		log_event(LOG_WARNING, "second signal, closing at once");
		server_drain(daemon->server, 0);
		return;
	}
	daemon->draining = true;
	observe_draining(daemon);
	notify_send(&daemon->notify, "STOPPING=1");
	log_event(LOG_INFO, "draining", LOG_U64("timeout_s", daemon->config->drain_timeout_ns / 1000000000u));
	spawning_close(daemon);
	execute_drain(&daemon->execute);
	pool_drain(daemon->pool);
	server_drain(daemon->server, daemon->config->drain_timeout_ns);
	link_service_drain(daemon->links);
}

/* Whoever is connected stays; what cannot be read is told, and what was there goes on. */
static void daemon_reload(struct daemon *daemon)
{
	const struct daemon_config *config = daemon->config;
	struct tenant_config tenants = daemon_tenants(config);
	struct tenant_registry *registry = NULL;
	struct tls_context *before = daemon->tls;
	char why[1024] = "out of memory";

	if (tenant_registry_create(&registry, &tenants, why, sizeof(why)) < 0 || daemon_open_tls(daemon, why, sizeof(why)) < 0 ||
	    (daemon->executors_source && executors_source_reload(daemon->executors_source, why, sizeof(why)) < 0)) {
		log_event(LOG_ERROR, "not reloaded", LOG_TEXT("why", why));
		if (daemon->tls != before)
			tls_context_destroy(daemon->tls);
		daemon->tls = before;
		tenant_registry_destroy(registry);
		return;
	}
	if (daemon->tls != before) {
		server_set_tls(daemon->server, daemon->tls);
		tls_context_destroy(before);
	}
	daemon->cas.access.registry = registry;
	tenant_registry_destroy(daemon->tenants);
	daemon->tenants = registry;
	log_event(LOG_INFO, "reloaded", LOG_U64("tokens", tenant_registry_count(registry)));
}

static void daemon_reap_host(struct daemon *daemon)
{
	int status;

	if (daemon->host_pid <= 0 || waitpid(daemon->host_pid, &status, WNOHANG) != daemon->host_pid)
		return;
	log_event(LOG_ERROR, "executor host died", LOG_I64("status", status));
	daemon->host_pid = 0;
	if (daemon->spawner && !daemon->draining)
		spawner_on_host(daemon->spawner, false, span_text("the executor host died; see the gateway's log"));
}

static void daemon_on_signal(void *context, int number)
{
	struct daemon *daemon = context;

	if (number == SIGTERM || number == SIGINT)
		daemon_drain(daemon);
	else if (number == SIGHUP)
		daemon_reload(daemon);
	else if (number == SIGCHLD)
		daemon_reap_host(daemon);
}

/* No caller is left, but what callers began may still be in the hands of store, ledger or an executor. */
static bool daemon_idle(const struct daemon *daemon)
{
	return cas_idle(&daemon->cas) && reapi_idle(&daemon->reapi) && execute_idle(&daemon->execute) && !daemon->questions.open &&
	       (!daemon->links || link_service_idle(daemon->links)) &&
	       (!daemon->buildkit || buildkit_idle(daemon->buildkit));
}

static void daemon_on_ledger_closed(void *context)
{
	struct daemon *daemon = context;

	daemon->ledger = NULL;
}

static void daemon_on_closed(void *context)
{
	struct daemon *daemon = context;

	daemon->store = NULL;
}

/* Backwards through daemon_start(), from wherever that came to. When there is a server, it is drained. */
static void daemon_close(struct daemon *daemon)
{
	signals_destroy(daemon->signals);
	rest_stop(&daemon->rest);
	observe_stop(daemon);
	if (daemon->links)
		link_service_close(daemon->links);
	if (daemon->server)
		reapi_close(&daemon->reapi);
	while (!daemon_idle(daemon))
		ring_run(daemon->ring, UINT64_MAX);
	server_destroy(daemon->server);
	cas_fini(&daemon->cas);
	link_service_destroy(daemon->links);
	buildkit_destroy(daemon->buildkit);
	buildkitd_stop(daemon);
	brokering_stop(daemon);
	if (daemon->execute.cas)
		execute_fini(&daemon->execute);
	pool_destroy(daemon->pool);
	ledger_close(daemon->ledger, daemon_on_ledger_closed, daemon);
	while (daemon->ledger)
		ring_run(daemon->ring, UINT64_MAX);
	if (daemon->store) {
		store_close(daemon->store, daemon_on_closed, daemon);
		while (daemon->store)
			ring_run(daemon->ring, UINT64_MAX);
	}
	tenant_registry_destroy(daemon->tenants);
	tls_context_destroy(daemon->tls);
	ring_destroy(daemon->ring);
	if (daemon->host_fd >= 0)
		close(daemon->host_fd);
	if (daemon->host_pid > 0) {
		/* Root's now, and out of our reach; it ends by itself when its socket closes. */
		log_event(LOG_INFO, "waiting for the executor host");
		waitpid(daemon->host_pid, NULL, 0);
	}
}

static int daemon_start(struct daemon *daemon, char *why, size_t why_size)
{
	const struct daemon_config *config = daemon->config;
	int r = daemon_become_user(daemon, why, why_size);

	heap_keep();
	if (r == 0)
		r = daemon_read_credentials(daemon, why, why_size);
	if (r == 0)
		r = daemon_open_store(daemon, why, why_size);
	if (r == 0)
		r = daemon_open_ledger(daemon, why, why_size);
	if (r == 0)
		r = daemon_make_services(daemon, why, why_size);
	if (r == 0)
		r = signals_create(&daemon->signals, daemon->ring, daemon_on_signal, daemon);
	if (r == 0) {
		daemon_reap_host(daemon);        /* who died before SIGCHLD was waited for */
		rest_start(&daemon->rest, daemon->ring);
		r = observe_start(daemon, why, why_size);
	}
	for (size_t i = 0; r == 0 && i < config->listen_count; i++)
		r = daemon_listen(daemon, config->listen[i], why, why_size);
	/* Last: a host that knows no socket yet ends at once when one of the above cannot be had. */
	if (r == 0)
		r = daemon_listen_executors(daemon, why, why_size);
	return r;
}

int daemon_run(const struct daemon_config *config, char *why, size_t why_size)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));
	int r;

	if (!daemon) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	daemon->config = config;
	daemon->host_fd = -1;
	notify_open(&daemon->notify);
	r = daemon_start(daemon, why, why_size);
	if (r == 0) {
		daemon->started_ns = ring_now_ns(daemon->ring);
		observe_ready(daemon);
		log_event(LOG_INFO, "ready");
		notify_send(&daemon->notify, "READY=1");
		while (!daemon->drained)
			ring_run(daemon->ring, UINT64_MAX);
		log_event(LOG_INFO, "stopped");
	} else if (daemon->server) {
		server_drain(daemon->server, 0);
		while (!daemon->drained)
			ring_run(daemon->ring, UINT64_MAX);
	}
	daemon_close(daemon);
	notify_close(&daemon->notify);
	free(daemon);
	return r;
}
