/* spawn_directory: see spawn_directory.h. */
#include "gateway/executor/spawn_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/beneath.h"
#include "gateway/context/why.h"

#define LEGIBLE_MAX 14
#define HASH_BYTES  8
/* Where BuildKit's runc executor keeps the bundles of running containers; nothing in there outlives them. */
#define BUNDLES     "runc-overlayfs/executor"

static int fail(struct why why, int r, const char *path, const char *what)
{
	return WHY_RAISE(why, r, path, "%s: %s", what, strerror(-r));
}

static void put_hash(struct span bytes, char text[static 2 * HASH_BYTES + 1])
{
	unsigned char hash[EVP_MAX_MD_SIZE];

	CHECK(EVP_Digest(bytes.data, bytes.size, hash, NULL, EVP_sha256(), NULL) == 1);
	for (size_t i = 0; i < HASH_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", hash[i]);
}

void spawn_directory_of_tenant(struct span tenant, char name[static SPAWN_TENANT_DIR_MAX])
{
	size_t used = 0;

	for (size_t i = 0; i < tenant.size && used < LEGIBLE_MAX; i++) {
		char c = (char)tenant.data[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_')
			name[used++] = c;
	}
	name[used++] = '-';
	_Static_assert(LEGIBLE_MAX + 1 + 2 * HASH_BYTES + 1 <= SPAWN_TENANT_DIR_MAX, "both fit");
	put_hash(tenant, name + used);
}

/* Opens `name` below `parent_fd`, made when it is missing, with this owner and mode whatever it had. */
static int put_directory(int *fd, int parent_fd, const char *name, uint32_t uid, uint32_t gid, mode_t mode, struct why why)
{
	int opened;

	if (mkdirat(parent_fd, name, 0700) && errno != EEXIST)
		return fail(why, -errno, name, "cannot create directory");
	opened = beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (opened < 0)
		return fail(why, opened, name, "cannot open");
	if (fchown(opened, uid, gid) || fchmod(opened, mode)) {
		int r = -errno;

		close(opened);
		return fail(why, r, name, "cannot set its owner and mode");
	}
	*fd = opened;
	return 0;
}

static int put_cleared(int parent_fd, const char *name, uint32_t uid, uint32_t gid, mode_t mode, struct why why)
{
	CLEANUP(fd_closep) int fd = -1;
	int r = put_directory(&fd, parent_fd, name, uid, gid, mode, why);

	if (!r)
		r = beneath_clear(fd);
	return r ? fail(why, r, name, "cannot empty") : 0;
}

/* The mounts of a daemon that was killed went with its namespace: what they were mounted on is left. */
static int clean_root(int data_fd, struct why why)
{
	CLEANUP(fd_closep) int root_fd = -1;
	CLEANUP(fd_closep) int bundles_fd = -1;
	int r = put_directory(&root_fd, data_fd, "root", 0, 0, 0711, why);

	if (r)
		return r;
	bundles_fd = beneath_open(root_fd, BUNDLES, O_RDONLY | O_DIRECTORY, 0);
	r = bundles_fd < 0 ? bundles_fd : beneath_clear(bundles_fd);
	return r && r != -ENOENT ? fail(why, r, BUNDLES, "cannot empty") : 0;
}

static int put_data(int number_fd, struct why why)
{
	CLEANUP(fd_closep) int data_fd = -1;
	int r = put_directory(&data_fd, number_fd, "data", 0, 0, 0700, why);

	r = r ? r : clean_root(data_fd, why);
	r = r ? r : put_cleared(data_fd, "tmp", 0, 0, 01777, why);
	return r ? r : put_cleared(data_fd, "stage", 0, 0, 0700, why);
}

static int put_all(int path_fd, const char *tenant, const char *number, uint32_t uid, uint32_t gid, struct why why)
{
	CLEANUP(fd_closep) int all_fd = -1;
	CLEANUP(fd_closep) int tenant_fd = -1;
	CLEANUP(fd_closep) int number_fd = -1;
	int r = put_directory(&all_fd, path_fd, "buildkit", 0, 0, 0711, why);

	r = r ? r : put_directory(&tenant_fd, all_fd, tenant, 0, 0, 0711, why);
	r = r ? r : put_directory(&number_fd, tenant_fd, number, 0, 0, 0711, why);
	r = r ? r : put_data(number_fd, why);
	return r ? r : put_cleared(number_fd, "run", uid, gid, 0700, why);
}

int spawn_directory_locate(struct spawn_directory *directory, const char *path, struct span tenant, uint32_t number,
                           char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	char base[PATH_MAX - 16], real[PATH_MAX], hash[2 * HASH_BYTES + 1];

	if (!realpath(path, real))
		return fail(why, -errno, path, "cannot be found");
	if ((size_t)snprintf(directory->path, sizeof(directory->path), "%s", real) >= sizeof(directory->path))
		return WHY_RAISE(why, -ENAMETOOLONG, path, "too long");
	spawn_directory_of_tenant(tenant, directory->tenant);
	snprintf(directory->number, sizeof(directory->number), "%u", number);
	put_hash(span_text(real), hash);
	snprintf(directory->name, sizeof(directory->name), "%s-%u-%.8s", directory->tenant, number, hash);
	snprintf(base, sizeof(base), "%s/buildkit/%s/%u", directory->path, directory->tenant, number);
	if ((size_t)snprintf(directory->socket, sizeof(directory->socket), "%s/run/" SPAWN_SOCKET_NAME, base) >= sizeof(directory->socket))
		return WHY_RAISE(why, -ENAMETOOLONG, path, "too long for a unix socket in it: name a shorter --executor-path");
	snprintf(directory->root, sizeof(directory->root), "%s/data/root", base);
	snprintf(directory->temporary, sizeof(directory->temporary), "%s/data/tmp", base);
	snprintf(directory->stage, sizeof(directory->stage), "%s/data/stage", base);
	snprintf(directory->sockets, sizeof(directory->sockets), "%s/run", base);
	return 0;
}

int spawn_directory_make(const struct spawn_directory *directory, uint32_t uid, uint32_t gid, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	CLEANUP(fd_closep) int path_fd = open(directory->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (path_fd < 0)
		return fail(why, -errno, directory->path, "cannot open");
	return put_all(path_fd, directory->tenant, directory->number, uid, gid, why);
}
