/* client_options: from the settings of a command to a struct client_config, refusing what would leak a token. */
#include "gateway/cmd/client_options.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/link/link.h"
#include "gateway/ring/ring.h"

static const char *const engine_choices[] = {
	[RING_ENGINE_AUTO] = "auto", [RING_ENGINE_URING] = "io_uring", [RING_ENGINE_EPOLL] = "epoll", NULL,
};

#define MEMBER(name) offsetof(struct client_options, name)

static const struct option client_options[] = {
	{ .name = "gateway", .letter = 'g', .kind = OPTION_TEXT, .offset = MEMBER(gateway), .argument = "ADDRESS",
	  .environment = "SLUICE_GATEWAY", .key = "gateway",
	  .help = "where the gateway listens: grpcs://HOST[:PORT], grpc://HOST[:PORT] (not encrypted) or unix:///PATH" },
	{ .name = "tls-ca", .kind = OPTION_TEXT, .offset = MEMBER(tls_ca), .argument = "FILE",
	  .environment = "SLUICE_TLS_CA", .key = "client.tls.ca",
	  .help = "certificates that the gateway's must be signed by, in place of the system's" },
	{ .name = "tls-cert", .kind = OPTION_TEXT, .offset = MEMBER(tls_certificate), .argument = "FILE",
	  .environment = "SLUICE_TLS_CERT", .key = "client.tls.cert", .help = "our certificate, when the gateway asks for one" },
	{ .name = "tls-key", .kind = OPTION_TEXT, .offset = MEMBER(tls_key), .argument = "FILE",
	  .environment = "SLUICE_TLS_KEY", .key = "client.tls.key", .help = "the key of --tls-cert" },
	{ .name = "tls-server-name", .kind = OPTION_TEXT, .offset = MEMBER(tls_server_name), .argument = "NAME",
	  .environment = "SLUICE_TLS_SERVER_NAME", .key = "client.tls.server-name",
	  .help = "the name that the gateway's certificate must have, when it is not the address's" },
	{ .name = "token", .kind = OPTION_TEXT, .offset = MEMBER(token), .argument = "TOKEN",
	  .environment = "SLUICE_TOKEN",
	  .help = "our bearer token; other users see a command line, so rather use SLUICE_TOKEN or --token-file" },
	{ .name = "token-file", .kind = OPTION_TEXT, .offset = MEMBER(token_file), .argument = "FILE",
	  .environment = "SLUICE_TOKEN_FILE", .key = "token-file",
	  .help = "a file that holds the token; it must not be readable by others" },
	{ .name = "instance", .kind = OPTION_TEXT, .offset = MEMBER(instance), .argument = "NAME",
	  .environment = "SLUICE_INSTANCE", .key = "instance", .help = "keep apart what this name pushes, inside the tenant" },
	{ .name = "connect-timeout", .kind = OPTION_DURATION, .offset = MEMBER(connect_timeout_ns), .argument = "TIME",
	  .environment = "SLUICE_CONNECT_TIMEOUT", .key = "connect-timeout", .fallback = "10s", .least = 1,
	  .help = "how long to try to reach the gateway" },
	{ .name = "conns", .kind = OPTION_NUMBER, .offset = MEMBER(conns), .argument = "N", .environment = "SLUICE_CONNS",
	  .key = "conns", .fallback = "0", .most = LINK_PATHS_MAX,
	  .help = "up to N connections as one link, which lives on when they are lost; 0: a single one, without that" },
	{ .name = "link-timeout", .kind = OPTION_DURATION, .offset = MEMBER(link_timeout_ns), .argument = "TIME",
	  .environment = "SLUICE_LINK_TIMEOUT", .key = "link-timeout", .fallback = "1m", .least = 1,
	  .help = "with --conns: how long to try to come back when all of them are lost; the gateway may allow less" },
	{ .name = "client-engine", .kind = OPTION_CHOICE, .offset = MEMBER(engine), .choices = engine_choices,
	  .environment = "SLUICE_CLIENT_ENGINE", .key = "client-engine", .fallback = "auto",
	  .help = "what this command's own input and output run on" },
};

const struct option_group client_options_group = OPTION_GROUP("Gateway options", client_options);

static bool has_control(struct span text)
{
	for (size_t i = 0; i < text.size; i++)
		if (text.data[i] < 0x20 || text.data[i] == 0x7f)
			return true;
	return false;
}

static bool is_blank(uint8_t byte)
{
	return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/*
 * White space around a token is not part of it: editors and CI's secrets add a newline, and HTTP/2 carries none (the
 * peer resets the stream, with no word about a token). What comes out is in token_text, also when `text` is.
 */
static bool set_token(struct client_options *options, const char *source, struct span text, char *why, size_t why_size)
{
	while (text.size && is_blank(text.data[text.size - 1]))
		text.size--;
	while (text.size && is_blank(text.data[0]))
		text = span_make(text.data + 1, text.size - 1);
	if (text.size == 0 || text.size >= sizeof(options->token_text) || has_control(text)) {
		snprintf(why, why_size, "%s: not one line with a token", source);
		return false;
	}
	memmove(options->token_text, text.data, text.size);
	options->token_text[text.size] = '\0';
	options->token = options->token_text;
	return true;
}

static bool read_token(struct client_options *options, char *why, size_t why_size)
{
	CLEANUP(fd_closep) int fd = open(options->token_file, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t size;

	if (fd < 0 || fstat(fd, &st) < 0) {
		snprintf(why, why_size, "%s: %s", options->token_file, strerror(errno));
		return false;
	}
	if (S_ISREG(st.st_mode) && (st.st_mode & 077)) {
		snprintf(why, why_size, "%s: others may read it: chmod 600 %s", options->token_file, options->token_file);
		return false;
	}
	size = read(fd, options->token_text, sizeof(options->token_text));
	return set_token(options, options->token_file, span_make(options->token_text, size > 0 ? (size_t)size : 0), why, why_size);
}

static bool find_token(struct client_options *options, char *why, size_t why_size)
{
	if (options->token)
		return set_token(options, "--token or SLUICE_TOKEN", span_text(options->token), why, why_size);
	return !options->token_file || read_token(options, why, why_size);
}

/* A token that crosses a network in the clear is everybody's. Numeric hosts and "localhost" only: nothing is looked up. */
static bool is_local(const struct address *address)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found;
	bool local;

	if (address->local || strcmp(address->host, "localhost") == 0)
		return true;
	if (getaddrinfo(address->host, NULL, &hints, &found) != 0)
		return false;
	local = address_is_loopback(found->ai_addr);
	freeaddrinfo(found);
	return local;
}

/* As the value of a header; an empty one is the same as none. */
static bool instance_is_sendable(struct span name)
{
	return !has_control(name) && (name.size == 0 || (!is_blank(name.data[0]) && !is_blank(name.data[name.size - 1])));
}

static bool check(const struct client_options *options, const struct address *address, char *why, size_t why_size)
{
	struct address encrypted = *address;
	char name[ADDRESS_TEXT_MAX];

	if (!options->tls_certificate != !options->tls_key) {
		snprintf(why, why_size, "--tls-cert and --tls-key go together: %s is missing",
		         options->tls_certificate ? "--tls-key" : "--tls-cert");
		return false;
	}
	if (options->instance && !instance_is_sendable(span_text(options->instance))) {
		snprintf(why, why_size, "--instance: a name has no control characters, and no space at either end");
		return false;
	}
	if (options->token && !address->tls && !is_local(address)) {
		encrypted.tls = true;
		snprintf(why, why_size, "a token is not sent unencrypted: use %s", address_format(&encrypted, name));
		return false;
	}
	return true;
}

bool client_options_config(struct client_options *options, struct client_config *config, char *why, size_t why_size)
{
	struct address address;

	if (!options->gateway) {
		snprintf(why, why_size, "no gateway named: use --gateway grpcs://HOST, SLUICE_GATEWAY or `gateway:` in "
		         "~/.config/sluice/sluice.yaml");
		return false;
	}
	if (!address_parse(&address, options->gateway, why, why_size))
		return false;
	if (!find_token(options, why, why_size))
		return false;
	if (!check(options, &address, why, why_size))
		return false;
	*config = (struct client_config){
		.address = address,
		.fd = -1,
		.ca_path = options->tls_ca,
		.certificate_path = options->tls_certificate,
		.key_path = options->tls_key,
		.server_name = options->tls_server_name,
		.token = options->token,
		.instance = options->instance,
		.connect_timeout_ns = options->connect_timeout_ns,
		.link_conns = (unsigned)options->conns,
		.link_timeout_ns = options->link_timeout_ns,
		.engine = options->engine,
	};
	return true;
}
