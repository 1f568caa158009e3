/* Shows which lines of mountinfo are cgroup hierarchies, and what a daemon is to mount to have the same one; of any length. */
#include "gateway/executor/spawn_cgroup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define BEFORE "35 25 0:30 / /sys/fs/cgroup/"
#define BETWEEN " rw,nosuid,nodev,noexec,relatime shared:10 master:1 - "

static struct spawn_hierarchy hierarchy_of(const char *line)
{
	struct spawn_hierarchy hierarchy;

	assert_true(spawn_hierarchy_read(&hierarchy, line));
	return hierarchy;
}

static void a_hierarchy_is_named_by_its_controllers(void **state)
{
	struct spawn_hierarchy hierarchy = hierarchy_of(BEFORE "cpu" BETWEEN "cgroup cgroup rw,cpu,cpuacct\n");

	assert_string_equal(hierarchy.mount, "/sys/fs/cgroup/cpu");
	assert_string_equal(hierarchy.options, "cpu,cpuacct");
	assert_false(hierarchy.unified);
	hierarchy = hierarchy_of("35 25 0:30 / /sys/fs/cgroup" BETWEEN "cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n");
	assert_string_equal(hierarchy.mount, "/sys/fs/cgroup");
	assert_true(hierarchy.unified);
}

/* As systemd mounts its own: the name comes last, past 63 bytes. */
static void options_are_read_to_their_end(void **state)
{
	struct spawn_hierarchy hierarchy = hierarchy_of(
		BEFORE "systemd" BETWEEN "cgroup cgroup rw,xattr,release_agent=/usr/lib/systemd/systemd-cgroups-agent,name=systemd\n");

	assert_string_equal(hierarchy.options, "name=systemd");
	hierarchy = hierarchy_of(BEFORE "all" BETWEEN "cgroup cgroup rw,cpuset,cpu,cpuacct,blkio,memory,devices,freezer,net_cls,"
	                         "perf_event,net_prio,hugetlb,pids,rdma,misc\n");
	assert_string_equal(hierarchy.options, "cpuset,cpu,cpuacct,blkio,memory,devices,freezer,net_cls,perf_event,net_prio,hugetlb,"
	                    "pids,rdma,misc");
}

/* Cut, they would name another one. */
static void what_does_not_fit_is_none(void **state)
{
	struct spawn_hierarchy hierarchy;
	char line[2048];

	snprintf(line, sizeof(line), BEFORE "%0*d" BETWEEN "cgroup cgroup rw,cpu\n", (int)sizeof(hierarchy.mount), 0);
	assert_false(spawn_hierarchy_read(&hierarchy, line));
	snprintf(line, sizeof(line), BEFORE "x" BETWEEN "cgroup cgroup rw,name=%0*d\n", SPAWN_CGROUP_OPTIONS_MAX, 0);
	assert_false(spawn_hierarchy_read(&hierarchy, line));
}

static void other_lines_are_none(void **state)
{
	static const char *const lines[] = {
		"", "\n", "1 2 3", "22 1 0:21 / /proc rw - proc proc rw\n", "22 1 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs ro,mode=755\n",
		"22 1 0:21 / /other/cgroup rw - cgroup cgroup rw,cpu\n", "22 1 0:21 / /sys/fs/cgroup/cpu rw - cgroup\n",
		"22 1 0:21 / /sys/fs/cgroup/cpu rw - cgroup cgroup \n", " - cgroup cgroup rw\n",
	};
	struct spawn_hierarchy hierarchy;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_false(spawn_hierarchy_read(&hierarchy, lines[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hierarchy_is_named_by_its_controllers),
		cmocka_unit_test(options_are_read_to_their_end),
		cmocka_unit_test(what_does_not_fit_is_none),
		cmocka_unit_test(other_lines_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
