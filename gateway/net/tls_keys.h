/*
 * tls_keys: what protects one direction of a connection of TLS 1.3 behind its handshake (RFC 8446 sections 5.2, 5.3, 7): a secret, the
 * cipher with the key that is made of it, and the number of the next record. The ciphers and the KDF are OpenSSL's. It keeps a
 * connection's first secrets until that ends, and has no way to forget them.
 */
#pragma once

#include <openssl/evp.h>
#include <stdbool.h>
#include "proto/span.h"

#define TLS_KEYS_SECRET_MAX   48
#define TLS_KEYS_NONCE_BYTES  12
#define TLS_KEYS_TAG_BYTES    16
#define TLS_KEYS_HEADER_BYTES 5          /* of a record */

struct tls_suite;

struct tls_keys {
	const struct tls_suite *suite;
	bool seals;
	EVP_CIPHER_CTX *cipher;
	uint8_t secret[TLS_KEYS_SECRET_MAX];
	uint8_t iv[TLS_KEYS_NONCE_BYTES];
	uint64_t records;                /* under this secret */
};

/*
 * Has OpenSSL look up what all keys are derived by, else done by the first of them. False: no memory. OpenSSL remembers for the process'
 * life some of what failed so: whoever cannot do without asks while it can still refuse to start.
 */
bool tls_keys_prepare(void);
/*
 * `suite` as in section B.4, `secret` is client_ or server_application_traffic_secret_0 (section 7.1), copied. 0; -ENOTSUP: the suite
 * or the size of its secret is not one of those; -ENOMEM. The keys are all zero then.
 */
int tls_keys_init(struct tls_keys *keys, uint16_t suite, struct span secret, bool seals);
void tls_keys_fini(struct tls_keys *keys);       /* wipes them; accepts all-zero ones */
/* The next secret, behind a KeyUpdate (section 7.2). 0, or -ENOMEM: under these keys nothing goes any more. */
int tls_keys_update(struct tls_keys *keys);

/* Begins the next record: its nonce, and its header as what is authenticated beside. False: it could not; OpenSSL's queue is empty. */
bool tls_keys_begin(struct tls_keys *keys, const uint8_t header[static TLS_KEYS_HEADER_BYTES]);
/* As many bytes more of it, encrypted or decrypted. */
bool tls_keys_take(struct tls_keys *keys, uint8_t *out, struct span in);
/* Its end: the tag is made, or compared. False: it is another one. */
bool tls_keys_end(struct tls_keys *keys, uint8_t tag[static TLS_KEYS_TAG_BYTES]);
