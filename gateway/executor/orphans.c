/* Of each thread's children, as any of them may be the one that they were left to. */
#include "gateway/executor/orphans.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define ROUNDS_MAX 16                    /* one that is killed may leave us children in turn */

static bool is_known(const struct orphans *orphans, pid_t pid)
{
	for (unsigned i = 0; i < orphans->known_count; i++)
		if (orphans->known[i] == pid)
			return true;
	return false;
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

/* Room for one more than may be known. The ids of those that are there now. */
static unsigned list_of_thread(const char *thread, pid_t *pids, unsigned count)
{
	char path[300];
	FILE *children;

	snprintf(path, sizeof(path), "/proc/self/task/%s/children", thread);
	children = fopen(path, "re");
	while (children && count <= ORPHANS_KNOWN_MAX && fscanf(children, "%d", &pids[count]) == 1)
		count++;
	if (children)
		fclose(children);
	return count;
}

static unsigned list_children(pid_t pids[static ORPHANS_KNOWN_MAX + 1])
{
	DIR *threads = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned count = 0;

	while (threads && (entry = readdir(threads)))
		if (entry->d_name[0] != '.')
			count = list_of_thread(entry->d_name, pids, count);
	if (threads)
		closedir(threads);
	return count;
}

static unsigned end_once(const struct orphans *orphans)
{
	pid_t pids[ORPHANS_KNOWN_MAX + 1];
	unsigned children = list_children(pids), count = 0;

	for (unsigned i = 0; i < children; i++)
		count += !is_known(orphans, pids[i]) && end(pids[i]);
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

void orphans_note(struct orphans *orphans)
{
	pid_t pids[ORPHANS_KNOWN_MAX + 1];
	unsigned count = list_children(pids);

	*orphans = (struct orphans){ .known_all = count <= ORPHANS_KNOWN_MAX };
	for (; orphans->known_all && orphans->known_count < count; orphans->known_count++)
		orphans->known[orphans->known_count] = pids[orphans->known_count];
}

unsigned orphans_end(const struct orphans *orphans, pid_t group)
{
	unsigned all = group > 0 ? end_group(group) : 0, count;

	for (unsigned i = 0; i < ROUNDS_MAX && orphans->known_all && (count = end_once(orphans)); i++)
		all += count;
	return all;
}
