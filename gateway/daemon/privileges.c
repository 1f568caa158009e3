/* Taking limits up, giving privileges away. */
#include "gateway/daemon/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/err.h"

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

int privileges_own_directory(const char *path, uid_t uid, gid_t gid, char *why, size_t why_size)
{
	struct stat st;

	if (mkdir(path, 0700) == 0 && chown(path, uid, gid) == 0)
		return 0;
	if (errno != EEXIST || lstat(path, &st) < 0) {
		snprintf(why, why_size, "%s cannot be made: %s", path, strerror(errno));
		return ERR_RAISE(-errno);
	}
	if (S_ISDIR(st.st_mode) && st.st_uid == uid)
		return 0;
	snprintf(why, why_size, "%s must be a directory of the user that the gateway runs as: `chown -R %u:%u %s`", path,
	         (unsigned)uid, (unsigned)gid, path);
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
