/* tls_ends: an end of TLS, or two that talk, whose bytes the test carries in splits of its choice. A failure fails the test. */
#pragma once

#include "gateway/net/tls_private.h"

struct end {
	struct tls_context *context;
	struct tls *tls;
	struct buffer received;
	void (*meanwhile)(struct end *end);      /* NULL, or called while what was received is lent */
	int result;                      /* of the last feed */
	size_t carried;                  /* bytes that it sent */
};

void end_init(struct end *end, const struct tls_config *config, const char *server_name);
void end_fini(struct end *end);
/* Of the sets of keys.h; `set` NULL: without a certificate. */
void clients_end(struct end *end, const char *ca, const char *set, const char *server_name);
void servers_end(struct end *end, const char *set, const char *ca, bool required);

/* To be given to tls_feed(). */
void end_on_plain(void *context, struct span data);
/* Writes it as records of the longest size, each in two parts. */
int end_put(struct end *end, struct span data);
/* Carries what waits, at most `split` bytes a feed, behind each of which buffers are given back. True when there was something. */
bool ends_carry(struct end *from, struct end *to, size_t split);
/* Until nothing waits. */
void ends_talk(struct end *a, struct end *b, size_t split);
