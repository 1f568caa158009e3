/*
 * executors_source: the executors that the operator named, brought into the pool: fixed addresses at once, and those behind
 * a DNS name as they come and go. A name is looked up by a worker, again and again; an address that is not among the answers
 * any more is drained, and a look-up that fails changes nothing. Of a name with more addresses than become executors those
 * that did so first stay.
 *
 * On the ring's thread.
 */
#pragma once

#include "gateway/buildkitd/executor_address.h"

#define EXECUTORS_SOURCE_ADDRESSES_MAX 64        /* of one name that become executors */

struct executors_source;

/* On a worker: how many addresses were found (at most `max` are written), or -errno with `why`. */
typedef int executors_resolve_fn(const struct address *address, struct address_resolved *resolved, size_t max, char *why,
                                 size_t why_size);

struct executors_source_config {
	struct ring *ring;
	struct executors *executors;     /* used until close; destroyed before the source, whose TLS keys they use */
	const char *const *addresses;    /* executor_address.h; not kept */
	size_t count;
	const char *tenant;              /* of those without tenant=; copied */
	uint64_t interval_ns;            /* between two look-ups of a name; 0: 30 s */
	executors_resolve_fn *resolve;   /* NULL: the system's */
};

/*
 * 0, or with `why`: -EINVAL (an address), what tls_context_create() says of its keys, -EEXIST, -EADDRINUSE, -ENOSPC,
 * -ENOMEM. After a failure some executors may have been added, and the pool can only be closed.
 */
int executors_source_create(struct executors_source **source, const struct executors_source_config *config, char *why,
                            size_t why_size);
/*
 * Reads the keys of all again: new connections have them, those that stand go on. Blocking. 0, or what tls_context_create() says
 * of the first that cannot be read, with `why`; then all stay as they were.
 */
int executors_source_reload(struct executors_source *source, char *why, size_t why_size);
/* No more look-ups. The executors stay. */
void executors_source_close(struct executors_source *source);
bool executors_source_idle(const struct executors_source *source);
/* Closed and idle, and after executors_destroy(). NULL is accepted. */
void executors_source_destroy(struct executors_source *source);
