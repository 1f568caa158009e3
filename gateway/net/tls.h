/*
 * tls: TLS 1.3/1.2 by OpenSSL between spans: no sockets here. Received ciphertext is lent to an own read BIO and
 * decrypted straight into the caller's buffer; ciphertext to send gathers in a bounded buffer.
 * ALPN: a server takes `h2` when offered and also a client that offers none (buildx does not); a client offers `h2`.
 */
#pragma once

#include <stdbool.h>
#include "proto/buffer.h"
#include "proto/span.h"

struct tls_context;                      /* a server's or client's keys and policy; reloadable by making another */
struct tls;                              /* one connection */

struct tls_config {
	bool server;
	bool http1;                      /* a server: HTTP/1.1 is taken from clients who offer nothing better by ALPN */
	bool to_executor;                /* client: the other side is a buildkitd, whose operator reads what went wrong */
	const char *certificate_path, *key_path;         /* PEM; client: optional */
	const char *ca_path;             /* server: client certificates are asked for and checked against it; client: NULL = system roots */
	bool require_client_certificate; /* server */
};

/* 0 or -errno; `why` says which file and what is wrong with it. Key material is never logged. */
int tls_context_create(struct tls_context **context, const struct tls_config *config, char *why, size_t why_size);
void tls_context_destroy(struct tls_context *context);   /* connections keep it alive */

/*
 * `server_name`: client, a name or an IP literal, checked against the certificate. A client's ClientHello is in
 * tls_output() at once.
 */
int tls_create(struct tls **tls, struct tls_context *context, const char *server_name);
void tls_destroy(struct tls *tls);

enum tls_outcome { TLS_OK = 0, TLS_CLOSED = 1 /* close_notify */ };
/*
 * Feeds ciphertext, in any split; all of it is used up. `plain` is called for each decrypted run, borrowed until it
 * returns; it may write, and must not feed or destroy. TLS_OK, TLS_CLOSED, or -EPROTO with tls_error().
 */
int tls_feed(struct tls *tls, struct span ciphertext, void (*plain)(void *context, struct span data), void *context);
/* Makes room for so many bytes of ciphertext, when there is none yet: many records follow, and growing copies. */
void tls_expect(struct tls *tls, size_t bytes);
/* Encrypts `head` and then `body` as one record, TLS_RECORD_BYTES at most; appended to tls_output. 0 or -EPROTO. Only when ready. */
#define TLS_RECORD_BYTES 16384
int tls_write(struct tls *tls, struct span head, struct span body);
/*
 * Ciphertext to send now (handshake included), borrowed and in place until tls_sent() has taken all of it, whatever is
 * fed or written meanwhile.
 */
struct span tls_output(struct tls *tls);
void tls_sent(struct tls *tls, size_t bytes);
size_t tls_output_bytes(const struct tls *tls);          /* all that waits: what tls_output lent and what came after */
void tls_trim(struct tls *tls);                          /* nothing waits: gives back output buffers, and those of records */
/*
 * What was copied between these spans and OpenSSL's record buffers, to and from which it copies once more. Behind the handshake of
 * TLS 1.3 nothing is: it is encrypted and decrypted from one span to the other.
 */
struct tls_copies {
	uint64_t received, sent;
};
struct tls_copies tls_copies(const struct tls *tls);
bool tls_ready(const struct tls *tls);                   /* the handshake is done */
bool tls_unfinished(const struct tls *tls);              /* it is not, or the peer has begun a message of TLS behind it */
void tls_shutdown(struct tls *tls);                      /* queues close_notify */
bool tls_failed(const struct tls *tls);                  /* nothing more goes through; an alert may be in tls_output */
const char *tls_error(const struct tls *tls);            /* one sentence, no secrets */

/*
 * Subject of the verified peer certificate: false when there is none. O and CN, UTF-8; "" where the certificate has
 * none, has more than one, or one that is too long or holds a NUL.
 */
bool tls_peer(const struct tls *tls, char organisation[static 256], char common_name[static 256]);
