/*
 * tls_seal: the sending half of TLS 1.3's record layer (RFC 8446 section 5), for what is sent behind a handshake: encrypts from
 * where the cleartext lies to where the ciphertext is sent from. OpenSSL's own copies each byte into its buffer before and out of it
 * behind. The ciphers are OpenSSL's.
 */
#pragma once

#include "proto/buffer.h"
#include "proto/span.h"

struct tls_seal;

#define TLS_SEAL_SECRET_MAX  48
#define TLS_SEAL_PLAIN_MAX   16384       /* of one record (section 5.1) */
#define TLS_SEAL_ADDED_BYTES 22          /* to each: its header, the type of what is in it, the tag */

/*
 * `suite` as in section B.4, `secret` is client_ or server_application_traffic_secret_0 (section 7.1), copied. -ENOTSUP: the suite
 * or the size of its secret is not one of those; -ENOMEM.
 */
int tls_seal_create(struct tls_seal **seal, uint16_t suite, struct span secret);
void tls_seal_destroy(struct tls_seal *seal);    /* wipes the secrets; NULL is accepted */

/* Appends one record of that content type with `head` and then `body`, TLS_SEAL_PLAIN_MAX together at most. 0, or -ENOMEM. */
int tls_seal_put(struct tls_seal *seal, uint8_t type, struct span head, struct span body, struct buffer *out);
/* A KeyUpdate was put: what follows is under the next secret (section 7.2). 0, or -ENOMEM: nothing may follow. */
int tls_seal_update(struct tls_seal *seal);
