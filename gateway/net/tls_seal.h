/*
 * tls_seal: the sending half of TLS 1.3's record layer (RFC 8446 section 5), for what is sent behind a handshake: encrypts from
 * where the cleartext lies to where the ciphertext is sent from. OpenSSL's own copies each byte into its buffer before and out of it
 * behind.
 */
#pragma once

#include "gateway/net/tls_keys.h"
#include "proto/buffer.h"

#define TLS_SEAL_ADDED_BYTES 22          /* to each record: its header, the type of what is in it, the tag */

/*
 * Appends one record of that content type with `head` and then `body`, TLS_RECORD_BYTES together at most, under keys that seal.
 * 0, or -ENOMEM: nothing was appended; the keys may be used no more, unless the buffer alone was full.
 */
int tls_seal_put(struct tls_keys *keys, uint8_t type, struct span head, struct span body, struct buffer *out);
