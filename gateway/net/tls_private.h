/* tls_private: what the parts of TLS share: keys and policy (tls_context.c), a connection (tls.c, tls_bio.c, tls_feed.c). */
#pragma once

#include <openssl/ssl.h>
#include "gateway/net/tls.h"
#include "gateway/net/tls_open.h"
#include "gateway/net/tls_post.h"

struct tls_context {
	SSL_CTX *ssl;
	bool server, to_executor;
};

/* Types of content (RFC 8446 section 5.1). */
#define RECORD_ALERT     21
#define RECORD_HANDSHAKE 22
#define RECORD_DATA      23

struct tls_secret {
	uint8_t bytes[TLS_KEYS_SECRET_MAX];
	size_t size;
};

struct tls {
	SSL *ssl;
	/* False: OpenSSL makes, or reads, the records, of the handshake or of TLS 1.2. */
	bool seals, opens;
	struct tls_keys sealing;
	uint8_t record_type;             /* of what OpenSSL says next */
	struct tls_open opening;
	struct tls_post post;
	bool owes_update;                /* the peer has asked for a KeyUpdate, perhaps more than once */
	struct tls_secret ours, theirs;  /* until keys are made of them */
	struct span input;               /* lent by tls_feed; empty outside it */
	struct buffer gathering;         /* what came after `sending` */
	struct buffer sending;           /* what tls_output lent; stays in place until tls_sent has taken it all */
	size_t sent;
	struct tls_copies copies;
	bool server, to_executor, failed, closed;
	char server_name[256];
	char error[320];
};

/* tls.c */
/* Keeps what OpenSSL's queue says of it as a sentence. -EPROTO. */
int tls_fail(struct tls *tls);
/* The same for what OpenSSL knows nothing of; or the output is full. */
int tls_fail_memory(struct tls *tls);
/* One record of ours that is no data, when `seals`. 0, or -ENOMEM. */
int tls_say(struct tls *tls, uint8_t type, const uint8_t *message, size_t size);

/* The next record is under the next key; the peer is told. 0, or -ENOMEM: nothing may follow. */
int tls_say_key_update(struct tls *tls);

/* tls_bio.c */
/* Makes what all connections share. False: no memory. */
bool tls_bio_prepare(void);
/* False: no memory. */
bool tls_bio_attach(struct tls *tls);
/*
 * OpenSSL's only way to hand out the secrets of a connection is by its lines for a log of keys. This takes the two that protect what
 * comes and goes behind the handshake; none is logged.
 */
void tls_on_secret(const SSL *ssl, const char *line);
void tls_secret_forget(struct tls_secret *secret);
/* That was agreed on, as in RFC 8446 section B.4; 0: none was. */
uint16_t tls_suite(const struct tls *tls);
