/* tls_private: what tls_context.c (keys and policy) and tls.c (a connection) share. */
#pragma once

#include <openssl/ssl.h>
#include "gateway/net/tls.h"

struct tls_context {
	SSL_CTX *ssl;
	bool server, to_executor;
};

/*
 * OpenSSL's only way to hand out the secrets of a connection is by its lines for a log of keys. tls.c takes the one that protects what
 * this side sends; none is logged.
 */
void tls_on_secret(const SSL *ssl, const char *line);
