/*
 * As whom a store is checked. Its directory belongs to the user whom the gateway becomes, and nobody else may look into it: so it is
 * root who checks it, mostly, and what root makes or has made there the gateway cannot open.
 */
#include "gateway/store/fsck_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"

struct owning {
	struct fsck *fsck;
	struct stat owner;               /* of the store's directory */
	uint64_t others;                 /* somebody else's files that stay so */
};

static int give(int fd, const struct stat *owner)
{
	return fchownat(fd, "", owner->st_uid, owner->st_gid, AT_EMPTY_PATH) < 0 ? ERR_RAISE(-errno) : 0;
}

/* A link leads to what may be no part of the store. */
static bool may_be_given(const struct stat *st)
{
	return S_ISDIR(st->st_mode) || (S_ISREG(st->st_mode) && st->st_nlink == 1);
}

static int own(struct owning *owning, int dir_fd, const char *name, const char *above)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? 0 : ERR_RAISE(-errno);
	if (st.st_uid == owning->owner.st_uid || !may_be_given(&st))
		return 0;
	fsck_found(owning->fsck, "%s%s does not belong to the user that the store belongs to: a gateway cannot open it", above, name);
	if (owning->fsck->repair)
		return give(fd, &owning->owner);
	owning->others++;
	return 0;
}

/* And all that is in it. */
static int own_directory(struct owning *owning, const char *name)
{
	int fd = openat(owning->fsck->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	char above[32];
	int r = 0;

	if (!directory) {
		/* Through a link the operator has it elsewhere. */
		r = fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENOTDIR) ? 0 : ERR_RAISE(-errno);
		if (fd >= 0)
			close(fd);
		return r;
	}
	snprintf(above, sizeof(above), "%s/", name);
	while (!r && (entry = readdir(directory)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = own(owning, fd, entry->d_name, above);
	closedir(directory);
	return r;
}

static int own_all(struct owning *owning)
{
	static const char *const names[] = { "format", "scopes", "index", SEGMENT_DIR };
	static const char *const directories[] = { "index", SEGMENT_DIR };
	int r = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !r; i++)
		r = own(owning, owning->fsck->dir_fd, names[i], "");
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]) && !r; i++)
		r = own_directory(owning, directories[i]);
	return r;
}

/* That is ours in any case: it is written whenever somebody works on the store. */
static int own_lock(const struct owning *owning, int lock_fd)
{
	struct stat st;

	if (fstat(lock_fd, &st) < 0)
		return ERR_RAISE(-errno);
	return st.st_uid == owning->owner.st_uid || !may_be_given(&st) ? 0 : give(lock_fd, &owning->owner);
}

int fsck_become_owner(struct fsck *fsck, int lock_fd)
{
	struct owning owning = { .fsck = fsck };
	int r;

	if (geteuid() != 0)
		return 0;
	if (fstat(fsck->dir_fd, &owning.owner) < 0)
		return ERR_RAISE(-errno);
	if (owning.owner.st_uid == 0)
		return 0;
	r = own_lock(&owning, lock_fd);
	if (!r)
		r = own_all(&owning);
	if (r || owning.others)          /* only root can read these */
		return r;
	fsck->root_gid = getegid();
	if (setegid(owning.owner.st_gid) < 0 || seteuid(owning.owner.st_uid) < 0)
		return ERR_RAISE(-errno);
	fsck->was_root = true;
	return 0;
}

void fsck_become_root(struct fsck *fsck)
{
	if (!fsck->was_root)
		return;
	CHECK(seteuid(0) == 0);
	CHECK(setegid(fsck->root_gid) == 0);
	fsck->was_root = false;
}
