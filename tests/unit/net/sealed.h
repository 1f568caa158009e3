/*
 * sealed: a client of TLS 1.3 that seals records of its own behind the handshake, to say what no library says. It knows the secret
 * that protects what the client sends (RFC 8446 section 7.3), as a peer does who means harm.
 */
#pragma once

#include <openssl/ssl.h>

#include "gateway/net/tls_seal.h"

struct sealed {
	SSL_CTX *context;
	SSL *ssl;
	struct tls_keys keys;            /* of what it sends */
};

/* Shakes hands over `fd`, which stays the caller's, with TLS_AES_128_GCM_SHA256; whoever is there is trusted. */
void sealed_begin(struct sealed *sealed, int fd);
void sealed_end(struct sealed *sealed);

#define SEALED_ALERT       21
#define SEALED_HANDSHAKE   22
#define SEALED_APPLICATION 23
/* Sends one record of that content type (section 5.2), of at most 256 bytes. */
void sealed_send(struct sealed *sealed, uint8_t type, struct span content);
