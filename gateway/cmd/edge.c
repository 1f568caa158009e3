/* sluice edge: the daemon next to buildx, with a gateway as its upstream. */
#include "gateway/edge/edge.h"

#include <stdio.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/base/log.h"
#include "gateway/cmd/client_options.h"
#include "gateway/cmd/commands.h"
#include "gateway/link/link.h"
#include "gateway/net/address.h"

struct edge_options {
	const char *upstream, *listen, *store, *admin;
	const char *tls_ca, *tls_certificate, *tls_key, *tls_server_name, *token, *token_file, *instance;
	int socket_mode, mtime, mtime_trust, engine, log_format, log_level;
	uint64_t link_conns, link_timeout_ns, ceiling_bytes, connect_timeout_ns, drain_timeout_ns, connections_max;
};

static const char *const engines[] = { "auto", "io_uring", "epoll", NULL };
static const char *const socket_modes[] = { "0600", "0660", NULL };
static const char *const mtimes[] = { "client", "stable", NULL };
static const char *const trusts[] = { "on", "off", NULL };
static const char *const log_formats[] = { "text", "json", NULL };
static const char *const log_levels[] = { "debug", "info", "warning", "error", NULL };

#define MEMBER(name) offsetof(struct edge_options, name)
static const struct option edge_options[] = {
	{ .name = "upstream", .letter = 'u', .kind = OPTION_TEXT, .offset = MEMBER(upstream), .argument = "ADDRESS",
	  .key = "edge.upstream", .environment = "SLUICE_UPSTREAM",
	  .help = "the gateway: grpcs://HOST[:PORT], grpc://HOST[:PORT] (not encrypted) or unix:///PATH" },
	{ .name = "listen", .letter = 'l', .kind = OPTION_TEXT, .offset = MEMBER(listen), .argument = "ADDRESS",
	  .key = "edge.listen", .environment = "SLUICE_EDGE_LISTEN", .fallback = "unix:///run/sluice/edge.sock",
	  .help = "unix:///PATH, for buildx's remote driver; its directory has to be there" },
	{ .name = "socket-mode", .kind = OPTION_CHOICE, .offset = MEMBER(socket_mode), .argument = "MODE",
	  .key = "edge.socket-mode", .fallback = "0600", .choices = socket_modes,
	  .help = "who may use the socket, and with it the edge's credential: its owner, or its group as well" },
	{ .name = "store", .kind = OPTION_TEXT, .offset = MEMBER(store), .argument = "DIR", .key = "edge.store",
	  .environment = "SLUICE_EDGE_STORE", .fallback = "/var/lib/sluice-edge",
	  .help = "where the edge keeps what it read of contexts" },
	{ .name = "ceiling", .kind = OPTION_BYTES, .offset = MEMBER(ceiling_bytes), .argument = "SIZE", .key = "edge.ceiling",
	  .environment = "SLUICE_EDGE_CEILING", .fallback = "10GB",
	  .help = "the most that it keeps; 0: the least that it works with, 64 MiB" },
	{ .name = "mtime", .kind = OPTION_CHOICE, .offset = MEMBER(mtime), .argument = "WHICH", .key = "edge.mtime",
	  .environment = "SLUICE_EDGE_MTIME", .fallback = "stable", .choices = mtimes,
	  .help = "modification times that builds see. stable: the same for as long as the content is the same, so that a fresh"
	          " checkout changes nothing; client: those of the files" },
	{ .name = "mtime-trust", .kind = OPTION_CHOICE, .offset = MEMBER(mtime_trust), .argument = "WHETHER",
	  .key = "edge.mtime-trust", .fallback = "on", .choices = trusts,
	  .help = "on: a file with the path, size and mtime of before is not read, as buildkitd itself would keep it; off: each build"
	          " reads all files, and sends those whose content is new" },
	{ .name = "tls-ca", .kind = OPTION_TEXT, .offset = MEMBER(tls_ca), .argument = "FILE", .environment = "SLUICE_TLS_CA",
	  .key = "client.tls.ca", .help = "certificates that the gateway's must be signed by, in place of the system's" },
	{ .name = "tls-cert", .kind = OPTION_TEXT, .offset = MEMBER(tls_certificate), .argument = "FILE",
	  .environment = "SLUICE_TLS_CERT", .key = "client.tls.cert", .help = "the edge's certificate, when the gateway asks for one" },
	{ .name = "tls-key", .kind = OPTION_TEXT, .offset = MEMBER(tls_key), .argument = "FILE",
	  .environment = "SLUICE_TLS_KEY", .key = "client.tls.key", .help = "the key of --tls-cert" },
	{ .name = "tls-server-name", .kind = OPTION_TEXT, .offset = MEMBER(tls_server_name), .argument = "NAME",
	  .environment = "SLUICE_TLS_SERVER_NAME", .key = "client.tls.server-name",
	  .help = "the name that the gateway's certificate must have, when it is not the address's" },
	{ .name = "token", .kind = OPTION_TEXT, .offset = MEMBER(token), .argument = "TOKEN", .environment = "SLUICE_TOKEN",
	  .help = "the edge's bearer token; other users see a command line, so rather use SLUICE_TOKEN or --token-file" },
	{ .name = "token-file", .kind = OPTION_TEXT, .offset = MEMBER(token_file), .argument = "FILE",
	  .environment = "SLUICE_TOKEN_FILE", .key = "token-file",
	  .help = "a file that holds the token; it must not be readable by others" },
	{ .name = "instance", .kind = OPTION_TEXT, .offset = MEMBER(instance), .argument = "NAME",
	  .environment = "SLUICE_INSTANCE", .key = "instance", .help = "keep apart what this edge pushes, inside the tenant" },
	{ .name = "connect-timeout", .kind = OPTION_DURATION, .offset = MEMBER(connect_timeout_ns), .argument = "TIME",
	  .environment = "SLUICE_CONNECT_TIMEOUT", .key = "connect-timeout", .fallback = "10s", .least = 1,
	  .help = "how long to try to reach the gateway" },
	{ .name = "link-conns", .kind = OPTION_NUMBER, .offset = MEMBER(link_conns), .argument = "N", .key = "edge.link-conns",
	  .environment = "SLUICE_EDGE_LINK_CONNS", .fallback = "2", .most = LINK_PATHS_MAX,
	  .help = "connections that carry all calls together, and may be lost without anybody noticing; 0: one for each of buildx's,"
	          " without that" },
	{ .name = "link-timeout", .kind = OPTION_DURATION, .offset = MEMBER(link_timeout_ns), .argument = "TIME",
	  .key = "edge.link-timeout", .environment = "SLUICE_EDGE_LINK_TIMEOUT", .fallback = "60s", .least = 1,
	  .help = "how long a gateway that was lost is tried for before builds are told" },
	{ .name = "admin", .kind = OPTION_TEXT, .offset = MEMBER(admin), .argument = "HOST:PORT", .key = "edge.admin",
	  .help = "where /metrics, /healthz and /readyz are served" },
	{ .name = "engine", .kind = OPTION_CHOICE, .offset = MEMBER(engine), .argument = "ENGINE", .key = "engine",
	  .environment = "SLUICE_ENGINE", .fallback = "auto", .choices = engines, .help = "auto takes io_uring where it works" },
	{ .name = "drain-timeout", .kind = OPTION_DURATION, .offset = MEMBER(drain_timeout_ns), .argument = "TIME",
	  .key = "drain-timeout", .fallback = "30s", .help = "on SIGTERM, how long builds may take to finish" },
	{ .name = "connections", .kind = OPTION_NUMBER, .offset = MEMBER(connections_max), .argument = "N", .key = "connections",
	  .fallback = "1024", .least = 1, .most = 100000,
	  .help = "at most this many of buildx at a time, and 120 with --link-conns; others wait" },
	{ .name = "log-format", .kind = OPTION_CHOICE, .offset = MEMBER(log_format), .argument = "FORMAT", .key = "log.format",
	  .fallback = "text", .choices = log_formats, .help = "key=value lines, or one JSON object a line" },
	{ .name = "log-level", .kind = OPTION_CHOICE, .offset = MEMBER(log_level), .argument = "LEVEL", .key = "log.level",
	  .fallback = "info", .choices = log_levels, .help = "the least that is logged" },
};
#undef MEMBER
static const struct option_group edge_group = OPTION_GROUP("Options", edge_options);
static const struct option_group *const edge_groups[] = { &edge_group, NULL };

/* How the upstream is reached is what a client's command says of its gateway, and is checked as that is. */
static struct client_options edge_client(const struct edge_options *edge)
{
	return (struct client_options){
		.gateway = edge->upstream, .tls_ca = edge->tls_ca, .tls_certificate = edge->tls_certificate, .tls_key = edge->tls_key,
		.tls_server_name = edge->tls_server_name, .token = edge->token, .token_file = edge->token_file,
		.instance = edge->instance, .conns = edge->link_conns, .link_timeout_ns = edge->link_timeout_ns, .connect_timeout_ns = edge->connect_timeout_ns, .engine = edge->engine,
	};
}

static int edge_command_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct client_options client;
	struct edge_options edge;
	void *const values[] = { &edge };
	struct edge_config config;
	struct address address;
	char why[1024] = "";
	int status, r;

	if (!options_parse(&options, &command_edge, values, argc, argv, &status))
		return status;
	if (options.operand_count)
		return command_usage(&command_edge, "\"%s\" is no option", options.operands[0]);
	if (!edge.upstream)
		return command_usage(&command_edge, "no gateway named: use --upstream grpcs://HOST or SLUICE_UPSTREAM");
	if (!address_parse(&address, edge.listen, why, sizeof(why)))
		return command_usage(&command_edge, "--listen: %s", why);
	if (!address.local)
		return command_usage(&command_edge, "--listen: an edge listens on unix:///PATH only, not on %s: whoever reaches it has "
		                     "its credential", edge.listen);
	config = (struct edge_config){
		.listen = edge.listen,
		.unix_mode = edge.socket_mode == 0 ? 0600 : 0660,
		.store_path = edge.store,
		.ceiling_bytes = edge.ceiling_bytes,
		.mtime_client = edge.mtime == 0,
		.mtime_distrust = edge.mtime_trust == 1,
		.admin = edge.admin,
		.engine = (enum ring_engine)edge.engine,
		.drain_timeout_ns = edge.drain_timeout_ns,
		.connections_max = (uint32_t)edge.connections_max,
	};
	client = edge_client(&edge);
	if (!client_options_config(&client, &config.upstream, why, sizeof(why)))
		return command_usage(&command_edge, "%s", why);
	log_setup(STDERR_FILENO, (enum log_level)edge.log_level, edge.log_format == 1);
	r = edge_run(&config, why, sizeof(why));
	if (r == 0)
		return STATUS_OK;
	command_fail(&command_edge, "%s", *why ? why : "could not start");
	return command_status_errno(r);
}

const struct command command_edge = {
	.name = "edge",
	.summary = "run next to buildx: what of a context changed goes to the gateway, and no more",
	.help = "Listens on a unix socket as a buildkitd does, and carries what buildx asks to the gateway that --upstream names.\n"
	        "Serves until SIGTERM, then lets builds finish and ends. Whoever may use the socket builds with the credential\n"
	        "given here, so it is its owner's alone, unless --socket-mode says otherwise.\n\n"
	        "  sluice edge --upstream grpcs://gateway:8372 --tls-cert cert.pem --tls-key key.pem\n"
	        "  docker buildx create --driver remote unix:///run/sluice/edge.sock",
	.run = edge_command_run,
	.groups = edge_groups,
	.serves = true,
};
