/*
 * tls_open: the receiving half of TLS 1.3's record layer (RFC 8446 section 5), for what comes behind a handshake, in any split:
 * decrypts from where the ciphertext was received to where it is wanted. A part of a record is decrypted when it comes, and handed on
 * when all has come and is known to be what was sent.
 */
#pragma once

#include "gateway/net/tls_keys.h"

/* What a record may decrypt to: content, its type, and padding (section 5.2). */
#define TLS_OPEN_ROOM_BYTES (16384 + 256 - TLS_KEYS_TAG_BYTES)

struct tls_open {
	struct tls_keys keys;            /* that do not seal */
	uint8_t header[TLS_KEYS_HEADER_BYTES], tag[TLS_KEYS_TAG_BYTES];
	size_t had;                      /* of the record in progress */
	uint8_t *part;                   /* NULL, or room for what of it was decrypted: it came in more than one span */
};

struct tls_record {
	uint8_t type;                    /* of the content: 21 alert, 22 handshake, 23 application data */
	struct span content;             /* in the room that was lent, or in the opener until its next call */
};

/* As tls_keys_init(). */
int tls_open_init(struct tls_open *open, uint16_t suite, struct span secret);
void tls_open_fini(struct tls_open *open);       /* accepts an all-zero one */
/*
 * Takes bytes off the front of `ciphertext`, up to the end of a record. 1: `record` is it; 0: none has ended, all was taken; less:
 * minus the alert that the peer is to be told (section 6.2; internal_error: no memory), and the opener may be used no more.
 */
int tls_open_next(struct tls_open *open, struct span *ciphertext, uint8_t room[static TLS_OPEN_ROOM_BYTES],
                  struct tls_record *record);
/* No record is in progress: gives back its room. */
void tls_open_trim(struct tls_open *open);
