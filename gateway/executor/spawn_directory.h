/*
 * spawn_directory: one daemon's directories on disk, all in PATH/buildkit/TENANT/NUMBER:
 *
 *	data/root/    the daemon's root: its cache, kept from one daemon to the next; data/ is 0700 and root's
 *	data/tmp/     its /tmp, emptied before each start
 *	data/stage/   where its / is put together
 *	run/          the directory of its socket: 0700 and the gateway's, so nobody else connects
 *
 * TENANT is made of the tenant's name so that no two tenants share one, whatever their names are. A root belongs to one
 * tenant for ever. Blocking; root.
 */
#pragma once

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/span.h"

#define SPAWN_TENANT_DIR_MAX  32         /* with the NUL */
#define SPAWN_SOCKET_NAME     "sock"     /* short: the whole path has to fit into a sockaddr_un */
#define SPAWN_SOCKET_PATH_MAX 108        /* of sockaddr_un, with the NUL */

#define SPAWN_NAME_MAX        (SPAWN_TENANT_DIR_MAX + 32)

struct spawn_directory {
	/* "TENANT-NUMBER-HASH": of its cgroup. The hash is of PATH: other hosts on this machine may have the same tenants. */
	char name[SPAWN_NAME_MAX];
	char tenant[SPAWN_TENANT_DIR_MAX], number[12];
	char path[PATH_MAX / 2];         /* PATH, from the root on and without symlinks */
	char root[PATH_MAX], temporary[PATH_MAX], stage[PATH_MAX], sockets[PATH_MAX];
	char socket[SPAWN_SOCKET_PATH_MAX];
};

/* Letters, digits and "-_" of the name, at most 14, then "-" and 16 hex digits of its SHA-256. */
void spawn_directory_of_tenant(struct span tenant, char name[static SPAWN_TENANT_DIR_MAX]);

/* Where all is. PATH must be there. 0 or -errno; -ENAMETOOLONG: the socket's path. */
int spawn_directory_locate(struct spawn_directory *directory, const char *path, struct span tenant, uint32_t number,
                           char *why, size_t why_size);

/*
 * Makes what is missing, and cleans what a former daemon left that was killed: temporary files, its socket, the directories
 * of its containers. The former daemon must be gone, with its namespaces. The socket's directory becomes that user's. 0 or
 * -errno.
 */
int spawn_directory_make(const struct spawn_directory *directory, uint32_t uid, uint32_t gid, char *why, size_t why_size);
