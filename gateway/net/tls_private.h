/* tls_private: what tls_context.c (keys and policy) and tls.c (a connection) share. */
#pragma once

#include <openssl/ssl.h>
#include "gateway/net/tls.h"

struct tls_context {
	SSL_CTX *ssl;
	bool server, to_executor;
};
