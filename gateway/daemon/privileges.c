/* Taking limits up, giving privileges away. */
#include "gateway/daemon/privileges.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/base/user.h"

static void raise_limit(__rlimit_resource_t resource, rlim_t wanted)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0 || (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur >= wanted))
		return;
	limit.rlim_cur = wanted;
	if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted)
		limit.rlim_max = wanted;         /* needs root */
	if (setrlimit(resource, &limit) == 0 || getrlimit(resource, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(resource, &limit);
}

void privileges_raise_limits(void)
{
	raise_limit(RLIMIT_MEMLOCK, 256u << 20);
	raise_limit(RLIMIT_NOFILE, 65536);
}

int privileges_user(const char *name, uid_t *uid, gid_t *gid, char *why, size_t why_size)
{
	const struct passwd *user = getpwnam(name);

	if (!user) {
		snprintf(why, why_size, "there is no user `%s` to run as: `useradd --system --no-create-home %s` makes it, or give --user",
		         name, name);
		return ERR_RAISE(-ENOENT);
	}
	if (user->pw_uid == 0) {
		snprintf(why, why_size, "--user %s is root: the gateway must not be", name);
		return ERR_RAISE(-EINVAL);
	}
	*uid = user->pw_uid;
	*gid = user->pw_gid;
	return 0;
}

/* A store, or nothing. `chown -R` of anything else, a home or /usr, would do harm that cannot be undone. */
static bool may_be_given_away(const char *path)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool empty = true;
	struct dirent *entry;
	DIR *directory;

	if (fd >= 0 && faccessat(fd, "format", F_OK, 0) == 0 && faccessat(fd, "segments", F_OK, 0) == 0)
		return true;
	directory = fd >= 0 ? fdopendir(fd) : NULL;
	if (!directory)
		return false;
	fd = -1;                         /* the directory's now */
	while (empty && (entry = readdir(directory)))
		empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
	closedir(directory);
	return empty;
}

int privileges_own_directory(const char *path, uid_t uid, gid_t gid, char *why, size_t why_size)
{
	char name[USER_NAME_BYTES];
	struct stat st;

	if (mkdir(path, 0700) == 0 && chown(path, uid, gid) == 0)
		return 0;
	if (errno != EEXIST || lstat(path, &st) < 0) {
		snprintf(why, why_size, "%s cannot be made: %s", path, strerror(errno));
		return ERR_RAISE(-errno);
	}
	if (S_ISDIR(st.st_mode) && st.st_uid == uid)
		return 0;
	user_name(uid, name);
	if (S_ISDIR(st.st_mode) && may_be_given_away(path))
		snprintf(why, why_size, "%s must belong to the user %s, as whom the gateway runs: `chown -R %s: %s`", path, name,
		         name, path);
	else
		snprintf(why, why_size, "%s does not belong to the user %s, as whom the gateway runs, and is no store, nor an empty "
		         "directory that could become one: give another, or one that does not exist yet", path, name);
	return ERR_RAISE(-EPERM);
}

int privileges_drop(uid_t uid, gid_t gid, char *why, size_t why_size)
{
	int r = 0;

	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	else if (setuid(0) == 0 || geteuid() != uid)
		r = -EPERM;
	if (r == 0)
		return 0;
	snprintf(why, why_size, "the gateway could not become its user: %s", strerror(-r));
	return ERR_RAISE(r);
}
