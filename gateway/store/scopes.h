/*
 * scopes: numbers of tenants' and instances' names, kept for ever: a line each, "TENANT NUMBER HEX-NAME", appended to
 * the file `scopes` and synced. Apart from the index on purpose: when that is made again from the segments, whose
 * records say who brought them, the numbers must still mean the same tenants.
 */
#pragma once

#include "gateway/store/store.h"

#define SCOPES_NAME_MAX      255
#define SCOPES_TENANTS_MAX   65536u
#define SCOPES_INSTANCES_MAX 1024u       /* a tenant: clients name them */

struct scope_name {
	uint32_t tenant;                 /* 0: the name of a tenant itself */
	uint32_t number;
	uint8_t size;
	uint8_t name[SCOPES_NAME_MAX];
};

struct scopes {
	int fd;
	struct scope_name **table;       /* by name */
	size_t buckets, count;
	uint32_t tenants;                /* the highest number */
	bool torn;                       /* an append failed and could not be taken back: nobody new is named until a restart */
};

/*
 * Reads the file; `create`: makes an empty one first, whose name the caller makes durable. 0, -ENOENT, -EUCLEAN or -errno.
 */
int scopes_load(struct scopes *scopes, int dir_fd, bool create);
void scopes_fini(struct scopes *scopes);
/* Numbers up to `tenants` are taken from now on, even if nobody knows whose they were. For fsck. */
int scopes_reserve(struct scopes *scopes, uint32_t tenants);
