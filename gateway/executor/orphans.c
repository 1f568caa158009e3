/* Of each thread's children, as any of them may be the one that they were left to. */
#include "gateway/executor/orphans.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ROUNDS_MAX 16                    /* one that is killed may leave us children in turn */

static bool is_of(int pid, uint32_t uid_base, uint32_t uid_count)
{
	struct stat stat_buffer;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	return stat(path, &stat_buffer) == 0 && stat_buffer.st_uid >= uid_base && stat_buffer.st_uid - uid_base < uid_count;
}

/* It cannot be another's by now: who is not waited for keeps his id. */
static bool end(int pid)
{
	pid_t ended;

	kill(pid, SIGKILL);
	while ((ended = waitpid(pid, NULL, 0)) < 0 && errno == EINTR)
		;
	return ended == pid;
}

static unsigned end_children(const char *thread, uint32_t uid_base, uint32_t uid_count)
{
	char path[300];
	unsigned count = 0;
	FILE *children;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/task/%s/children", thread);
	children = fopen(path, "re");
	while (children && fscanf(children, "%d", &pid) == 1)
		count += is_of(pid, uid_base, uid_count) && end(pid);
	if (children)
		fclose(children);
	return count;
}

static unsigned end_once(uint32_t uid_base, uint32_t uid_count)
{
	DIR *threads = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned count = 0;

	while (threads && (entry = readdir(threads)))
		if (entry->d_name[0] != '.')
			count += end_children(entry->d_name, uid_base, uid_count);
	if (threads)
		closedir(threads);
	return count;
}

/* Those whose parents are killed with them have become our children by the time that these are waited for. */
static unsigned end_group(pid_t group)
{
	unsigned count = 0;
	pid_t ended;

	kill(-group, SIGKILL);
	while ((ended = waitpid(-group, NULL, 0)) > 0 || errno == EINTR)
		count += ended > 0;
	return count;
}

unsigned orphans_end(pid_t group, uint32_t uid_base, uint32_t uid_count)
{
	unsigned all = group > 0 ? end_group(group) : 0, count;

	for (unsigned i = 0; i < ROUNDS_MAX && (count = end_once(uid_base, uid_count)); i++)
		all += count;
	return all;
}
