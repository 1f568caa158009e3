/* client_options: the options of every command that talks to a gateway. */
#pragma once

#include "gateway/client/client.h"
#include "gateway/cmd/options.h"

struct client_options {
	const char *gateway;
	const char *tls_ca, *tls_certificate, *tls_key, *tls_server_name;
	const char *token, *token_file;
	const char *instance;
	uint64_t connect_timeout_ns;
	uint64_t conns, link_timeout_ns;
	int engine;                      /* enum ring_engine */
	/* client_options.c's */
	char token_text[4096];
};

extern const struct option_group client_options_group;

/*
 * Fills `config`; its texts live as long as `options`. False: `why` says in one sentence what is wrong (no gateway
 * named, not an address, a token file that cannot be read or that others can read, a token or an instance that no header
 * can carry, a token over plain TCP to another machine). White space around a token is taken away, wherever it is from.
 */
bool client_options_config(struct client_options *options, struct client_config *config, char *why, size_t why_size);
