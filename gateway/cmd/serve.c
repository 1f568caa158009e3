/* sluice serve: the gateway. */
#include <stdio.h>
#include <unistd.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/log.h"
#include "gateway/buildkitd/executor_address.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/options.h"
#include "gateway/daemon/daemon.h"
#include "gateway/net/address.h"

struct serve_options {
	struct option_list listen, buildkit, spawn_tenants;
	const char *store, *ceiling, *tls_certificate, *tls_key, *tls_ca, *tokens, *anonymous, *anonymous_rights, *admin, *user,
		*executor_path, *images, *runtime, *buildkit_tenant, *buildkitd;
	bool spawn, tls_require_client, allow_host_root, allow_network;
	int engine, log_format, log_level, mtime_trust, replay, spawn_network;
	uint64_t spawn_max, spawn_tenant_max, spawn_warm, spawn_idle_ns, spawn_slots, spawn_memory_bytes, spawn_cpu_millis, spawn_pids,
		spawn_keep_bytes;
	uint64_t slots, drain_timeout_ns, idle_timeout_ns, link_timeout_ns, connections_max, ledger_keep_ns, buildkit_queue_timeout_ns;
};

#define LISTEN_DEFAULT "grpc://127.0.0.1:8372"

static const char *const engines[] = { "auto", "io_uring", "epoll", NULL };
static const char *const trusts[] = { "on", "off", NULL };
static const char *const replays[] = { "safe", "off", NULL };
static const char *const log_formats[] = { "text", "json", NULL };
static const char *const log_levels[] = { "debug", "info", "warning", "error", NULL };

#define MEMBER(name) offsetof(struct serve_options, name)
static const struct option serve_options[] = {
	{ .name = "listen", .letter = 'l', .kind = OPTION_LIST, .offset = MEMBER(listen), .argument = "ADDRESS", .key = "listen",
	  .environment = "SLUICE_LISTEN", .help = "grpcs://HOST:PORT, grpc://HOST:PORT (plain) or unix:///PATH; may be given several times; without"
	          " it " LISTEN_DEFAULT },
	{ .name = "store", .kind = OPTION_TEXT, .offset = MEMBER(store), .argument = "DIR", .key = "store.path",
	  .environment = "SLUICE_STORE", .fallback = "/var/lib/sluice", .help = "where blobs are kept" },
	{ .name = "ceiling", .kind = OPTION_SHARE, .offset = MEMBER(ceiling), .argument = "SIZE", .key = "store.ceiling",
	  .environment = "SLUICE_CEILING", .fallback = "20GB", .help = "the most that the store takes of its disk, index included" },
	{ .name = "ledger-keep", .kind = OPTION_DURATION, .offset = MEMBER(ledger_keep_ns), .argument = "TIME", .key = "ledger.keep",
	  .environment = "SLUICE_LEDGER_KEEP", .fallback = "90d",
	  .help = "lines of `sluice builds` are deleted after this time; 0: only the oldest beyond two million" },
	{ .name = "tls-cert", .kind = OPTION_TEXT, .offset = MEMBER(tls_certificate), .argument = "FILE", .key = "tls.cert",
	  .help = "certificate of the gateway, PEM" },
	{ .name = "tls-key", .kind = OPTION_TEXT, .offset = MEMBER(tls_key), .argument = "FILE", .key = "tls.key",
	  .help = "its private key, PEM" },
	{ .name = "tls-ca", .kind = OPTION_TEXT, .offset = MEMBER(tls_ca), .argument = "FILE", .key = "tls.ca",
	  .help = "client certificates are checked against this CA: their O is the tenant" },
	{ .name = "tls-require-client", .kind = OPTION_FLAG, .offset = MEMBER(tls_require_client), .key = "tls.require-client",
	  .help = "refuse clients without a certificate" },
	{ .name = "tokens", .kind = OPTION_TEXT, .offset = MEMBER(tokens), .argument = "FILE", .key = "tokens",
	  .help = "bearer tokens: a line each of SHA-256 in hex (printf %s TOKEN | sha256sum), tenant, rights (as --anonymous-rights)" },
	{ .name = "anonymous", .kind = OPTION_TEXT, .offset = MEMBER(anonymous), .argument = "TENANT", .key = "anonymous",
	  .help = "tenant of callers without a credential; otherwise only loopback and unix sockets may come without" },
	{ .name = "anonymous-rights", .kind = OPTION_TEXT, .offset = MEMBER(anonymous_rights), .argument = "RIGHTS",
	  .key = "anonymous-rights", .fallback = "all",
	  .help = "with --anonymous: what they may do, separated by commas: read, write (add content), commit (roots, pins, results"
	          " of actions), execute (actions and builds); or all" },
	{ .name = "admin", .kind = OPTION_TEXT, .offset = MEMBER(admin), .argument = "HOST:PORT", .key = "admin",
	  .help = "where /metrics, /healthz and /readyz are served" },
	{ .name = "engine", .kind = OPTION_CHOICE, .offset = MEMBER(engine), .argument = "ENGINE", .key = "engine",
	  .environment = "SLUICE_ENGINE", .fallback = "auto", .choices = engines, .help = "auto takes io_uring where it works" },
	{ .name = "user", .kind = OPTION_TEXT, .offset = MEMBER(user), .argument = "NAME", .key = "user", .fallback = "sluice",
	  .help = "started as root, the gateway becomes this user" },
	{ .name = "slots", .kind = OPTION_NUMBER, .offset = MEMBER(slots), .argument = "N", .key = "executor.slots", .fallback = "2",
	  .most = 64, .help = "actions that run at the same time; 0: none run here" },
	{ .name = "executor-path", .kind = OPTION_TEXT, .offset = MEMBER(executor_path), .argument = "DIR", .key = "executor.path",
	  .fallback = "/var/lib/sluice-executor", .help = "root's private directory for trees and containers" },
	{ .name = "images", .kind = OPTION_TEXT, .offset = MEMBER(images), .argument = "DIR", .key = "executor.images",
	  .help = "directory of OCI layout directories that actions may name with --image" },
	{ .name = "runtime", .kind = OPTION_TEXT, .offset = MEMBER(runtime), .argument = "NAME", .key = "executor.runtime",
	  .help = "OCI runtime: crun, runc, runsc or a path; default: the first of crun, runc that passes a trial; one"
	          " that is named must, or nothing is served" },
	{ .name = "allow-host-root", .kind = OPTION_FLAG, .offset = MEMBER(allow_host_root), .key = "executor.allow-host-root",
	  .help = "let actions without an image use this host's /usr, /bin and /lib, read-only" },
	{ .name = "allow-network", .kind = OPTION_FLAG, .offset = MEMBER(allow_network), .key = "executor.allow-network",
	  .help = "let actions that ask for it (run --network) reach what this machine reaches, but its loopback" },
	{ .name = "buildkit", .kind = OPTION_LIST, .offset = MEMBER(buildkit), .argument = "ADDRESS", .key = "buildkit.executors",
	  .environment = "SLUICE_BUILDKIT",
	  .help = "a buildkitd for clients' buildx and buildctl calls: tcp://HOST:PORT, tcps:// (TLS), unix:///PATH, or "
	          "dns://NAME:PORT for all of the name's addresses; behind it ,tenant=T ,slots=N ,name=N ,ca=FILE ,cert=FILE "
	          ",key=FILE; may be given several times" },
	{ .name = "buildkit-tenant", .kind = OPTION_TEXT, .offset = MEMBER(buildkit_tenant), .argument = "TENANT",
	  .key = "buildkit.tenant", .fallback = "default", .help = "whose builds a --buildkit without tenant= runs: its cache is theirs alone" },
	{ .name = "buildkit-queue-timeout", .kind = OPTION_DURATION, .offset = MEMBER(buildkit_queue_timeout_ns),
	  .argument = "TIME", .key = "buildkit.queue-timeout", .fallback = "10m", .least = 1,
	  .help = "how long a build waits for a free buildkitd before it is refused" },
	{ .name = "mtime-trust", .kind = OPTION_CHOICE, .offset = MEMBER(mtime_trust), .argument = "WHETHER",
	  .key = "buildkit.mtime-trust", .fallback = "on", .choices = trusts,
	  .help = "on: a file of a context with the path, size and mtime of before is taken from the store, as buildkitd itself"
	          " would keep it; off: whatever the buildkitd asks for is read anew" },
	{ .name = "replay", .kind = OPTION_CHOICE, .offset = MEMBER(replay), .argument = "WHETHER",
	  .key = "buildkit.replay", .fallback = "safe", .choices = replays,
	  .help = "safe: a build whose buildkitd is lost is done again at another one, unless something of it may have been pushed"
	          " or given away; off: it fails" },
	{ .name = "spawn", .kind = OPTION_FLAG, .offset = MEMBER(spawn), .key = "buildkit.spawn.enabled", .environment = "SLUICE_SPAWN",
	  .help = "start buildkitd processes here, each tenant's own, in namespaces of their own; needs root" },
	{ .name = "buildkitd", .kind = OPTION_TEXT, .offset = MEMBER(buildkitd), .argument = "FILE", .key = "buildkit.spawn.program",
	  .help = "the program that --spawn starts; default: buildkitd on PATH" },
	{ .name = "spawn-network", .kind = OPTION_CHOICE, .offset = MEMBER(spawn_network), .argument = "KIND",
	  .key = "buildkit.spawn.network", .fallback = "slirp4netns", .choices = spawn_network_names,
	  .help = "slirp4netns: a network namespace with a way out, but not to this host's loopback; none: without; host: this host's" },
	{ .name = "spawn-max", .kind = OPTION_NUMBER, .offset = MEMBER(spawn_max), .argument = "N", .key = "buildkit.spawn.max",
	  .fallback = "4", .least = 1, .most = 64, .help = "buildkitd processes at a time; an idle one makes room for a tenant that has none" },
	{ .name = "spawn-tenant-max", .kind = OPTION_NUMBER, .offset = MEMBER(spawn_tenant_max), .argument = "N",
	  .key = "buildkit.spawn.tenant-max", .fallback = "1", .least = 1, .most = 64,
	  .help = "of them, those of one tenant; each has a cache of its own" },
	{ .name = "spawn-warm", .kind = OPTION_NUMBER, .offset = MEMBER(spawn_warm), .argument = "N", .key = "buildkit.spawn.warm",
	  .fallback = "0", .most = 64, .help = "started before anybody asks and never stopped for being idle, for each --spawn-tenant" },
	{ .name = "spawn-tenant", .kind = OPTION_LIST, .offset = MEMBER(spawn_tenants), .argument = "TENANT",
	  .key = "buildkit.spawn.tenants", .help = "a tenant that --spawn-warm is about; default: the tenant default; may be given several times" },
	{ .name = "spawn-idle", .kind = OPTION_DURATION, .offset = MEMBER(spawn_idle_ns), .argument = "TIME", .key = "buildkit.spawn.idle",
	  .fallback = "10m", .least = 1, .help = "how long one may be without a build before it is stopped; its cache stays" },
	{ .name = "spawn-slots", .kind = OPTION_NUMBER, .offset = MEMBER(spawn_slots), .argument = "N", .key = "buildkit.spawn.slots",
	  .fallback = "4", .least = 1, .most = 1024, .help = "builds at a time on each" },
	{ .name = "spawn-memory", .kind = OPTION_BYTES, .offset = MEMBER(spawn_memory_bytes), .argument = "SIZE",
	  .key = "buildkit.spawn.memory", .help = "the most memory that one takes with its builds; default: no bound" },
	{ .name = "spawn-cpu", .kind = OPTION_NUMBER, .offset = MEMBER(spawn_cpu_millis), .argument = "MILLIS", .key = "buildkit.spawn.cpu",
	  .most = 1000000, .help = "thousandths of a CPU that one takes with its builds; default: no bound" },
	{ .name = "spawn-pids", .kind = OPTION_NUMBER, .offset = MEMBER(spawn_pids), .argument = "N", .key = "buildkit.spawn.pids",
	  .most = 4194304, .help = "processes and threads of one with its builds; default: no bound" },
	{ .name = "spawn-keep", .kind = OPTION_BYTES, .offset = MEMBER(spawn_keep_bytes), .argument = "SIZE", .key = "buildkit.spawn.keep",
	  .help = "how much of its cache one keeps when it collects garbage; default: buildkitd's own" },
	{ .name = "drain-timeout", .kind = OPTION_DURATION, .offset = MEMBER(drain_timeout_ns), .argument = "TIME",
	  .key = "drain-timeout", .fallback = "30s", .help = "on SIGTERM, how long streams may take to finish" },
	{ .name = "idle-timeout", .kind = OPTION_DURATION, .offset = MEMBER(idle_timeout_ns), .argument = "TIME",
	  .key = "idle-timeout", .fallback = "1h", .least = 1, .help = "a connection without a call is closed after this time" },
	{ .name = "link-timeout", .kind = OPTION_DURATION, .offset = MEMBER(link_timeout_ns), .argument = "TIME",
	  .key = "link-timeout", .fallback = "1m", .least = 1,
	  .help = "how long a client's link that has lost its connections may take to come back, before its builds end" },
	{ .name = "connections", .kind = OPTION_NUMBER, .offset = MEMBER(connections_max), .argument = "N", .key = "connections",
	  .fallback = "4096", .least = 1, .most = 100000, .help = "at most this many at a time; others wait" },
	{ .name = "log-format", .kind = OPTION_CHOICE, .offset = MEMBER(log_format), .argument = "FORMAT", .key = "log.format",
	  .fallback = "text", .choices = log_formats, .help = "key=value lines, or one JSON object a line" },
	{ .name = "log-level", .kind = OPTION_CHOICE, .offset = MEMBER(log_level), .argument = "LEVEL", .key = "log.level",
	  .fallback = "info", .choices = log_levels, .help = "the least that is logged" },
};
#undef MEMBER
static const struct option_group serve_group = OPTION_GROUP("Options", serve_options);
static const struct option_group *const serve_groups[] = { &serve_group, NULL };

static const char *const spawn_tenants_default[] = { "default" };

static struct spawning_config serve_spawning(const struct serve_options *serve)
{
	bool named = serve->spawn_tenants.count > 0;

	return (struct spawning_config){
		.host = {
			.enabled = serve->spawn, .buildkitd = serve->buildkitd, .network = (enum spawn_network)serve->spawn_network,
			.limits = { .memory_bytes = serve->spawn_memory_bytes, .cpu_millis = (uint32_t)serve->spawn_cpu_millis,
			            .pids_max = (uint32_t)serve->spawn_pids },
			.keep_bytes = serve->spawn_keep_bytes,
		},
		.max = (uint32_t)serve->spawn_max, .tenant_max = (uint32_t)serve->spawn_tenant_max, .warm = (uint32_t)serve->spawn_warm,
		.warm_tenants = named ? serve->spawn_tenants.items : spawn_tenants_default,
		.warm_tenants_count = named ? serve->spawn_tenants.count : 1, .slots = (uint32_t)serve->spawn_slots,
		.idle_ns = serve->spawn_idle_ns,
	};
}

/* What is no address is a mistake of the caller's, whatever the machine is like. */
static int serve_check(const struct serve_options *serve)
{
	struct executor_address executor;
	struct address address;
	char why[1024];

	for (size_t i = 0; i < serve->listen.count; i++)
		if (!address_parse(&address, serve->listen.items[i], why, sizeof(why)))
			return command_usage(&command_serve, "--listen: %s", why);
	for (size_t i = 0; i < serve->buildkit.count; i++)
		if (!executor_address_parse(&executor, serve->buildkit.items[i], why, sizeof(why)))
			return command_usage(&command_serve, "--buildkit: %s", why);
	return STATUS_OK;
}

static int serve_run(int argc, char **argv)
{
	static const char *const listen_default[] = { LISTEN_DEFAULT };
	CLEANUP(options_fini) struct options options;
	struct serve_options serve;
	void *const values[] = { &serve };
	struct daemon_config config;
	char why[1024] = "";
	int status, r;

	if (!options_parse(&options, &command_serve, values, argc, argv, &status))
		return status;
	if (options.operand_count)
		return command_usage(&command_serve, "\"%s\" is no option", options.operands[0]);
	if (options_given(&options, "anonymous-rights") && !serve.anonymous)
		return command_usage(&command_serve, "--anonymous-rights goes with --anonymous");
	if (!serve.tls_certificate != !serve.tls_key)
		return command_usage(&command_serve, "--tls-cert and --tls-key go together");
	status = serve_check(&serve);
	if (status)
		return status;
	log_setup(STDERR_FILENO, (enum log_level)serve.log_level, serve.log_format == 1);
	config = (struct daemon_config){
		.listen = serve.listen.count ? serve.listen.items : (const char *const *)listen_default,
		.listen_count = serve.listen.count ? serve.listen.count : 1,
		.store_path = serve.store,
		.ceiling = serve.ceiling,
		.ledger_keep_ns = serve.ledger_keep_ns,
		.tls_certificate = serve.tls_certificate,
		.tls_key = serve.tls_key,
		.tls_ca = serve.tls_ca,
		.tls_require_client = serve.tls_require_client,
		.tokens_path = serve.tokens,
		.anonymous = serve.anonymous,
		.anonymous_rights = serve.anonymous_rights,
		.admin = serve.admin,
		.engine = (enum ring_engine)serve.engine,
		.user = serve.user,
		.slots = (uint32_t)serve.slots,
		.executor_path = serve.executor_path,
		.images = serve.images,
		.runtime = serve.runtime,
		.buildkit = serve.buildkit.items,
		.buildkit_count = serve.buildkit.count,
		.mtime_distrust = serve.mtime_trust == 1,
		.replay = serve.replay == 0 ? REPLAY_SAFE : REPLAY_OFF,
		.buildkit_queue_timeout_ns = serve.buildkit_queue_timeout_ns,
		.buildkit_tenant = serve.buildkit_tenant,
		.spawning = serve_spawning(&serve),
		.allow_host_root = serve.allow_host_root,
		.allow_network = serve.allow_network,
		.drain_timeout_ns = serve.drain_timeout_ns,
		.idle_timeout_ns = serve.idle_timeout_ns,
		.link_timeout_ns = serve.link_timeout_ns,
		.connections_max = (uint32_t)serve.connections_max,
	};
	r = daemon_run(&config, why, sizeof(why));
	if (r == 0)
		return STATUS_OK;
	command_fail(&command_serve, "%s", *why ? why : "could not start");
	return command_status_errno(r);
}

const struct command command_serve = {
	.name = "serve",
	.summary = "run the gateway: take trees, keep them, run actions on them",
	.help = "Serves until SIGTERM, then finishes what is in progress and ends. SIGHUP reads certificates, keys and tokens\n"
	        "again; who is connected stays. Started as root it runs as two processes:\n"
	        "a privileged one that only runs containers, and the gateway itself, as --user. As an ordinary user it\n"
	        "serves without running actions. Nothing else needs to be installed or started.\n\n"
	        "  sluice serve --listen grpc://127.0.0.1:8372 --store /var/lib/sluice --ceiling 50GB\n"
	        "  sluice serve --listen grpcs://0.0.0.0:8372 --tls-cert cert.pem --tls-key key.pem --tls-ca ca.pem",
	.run = serve_run,
	.groups = serve_groups,
	.serves = true,
};
