/* Workspaces, a runtime, and what it may leave. */
#include "tests/unit/executor/oci_rig.h"

#include "gateway/base/check.h"
#include "gateway/context/beneath.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

char top[64], slots[80], scratch[80];
const char *init_path, *forbidden_path;
struct oci_runtime runtime;
struct workspace *workspaces[2];
static struct model model;
static struct digest root;

static const struct model_entry tree[] = {
	{ .path = "", .type = S_IFDIR },
	{ .path = "hello.c", .text = "#include <stdio.h>\nint main(void) { puts(\"hello from C\"); return 3; }\n" },
	{ .path = "data/one", .text = "1" },
	{ .path = "data/two", .text = "2" },
	{ .path = "script", .text = "#!/bin/sh\necho from a script\n", .mode = 0755 },
};

int on_output(void *context, int stream, const uint8_t *data, size_t size)
{
	struct outcome *outcome = context;
	char *text = stream == 1 ? outcome->out : outcome->err;
	size_t *used = stream == 1 ? &outcome->out_size : &outcome->err_size;
	size_t room = OUTPUT_MAX - 1 - *used;

	size = size < room ? size : room;
	memcpy(text + *used, data, size);
	*used += size;
	text[*used] = 0;
	if (outcome->cancel_fd >= 0 && strstr(outcome->out, "ready"))
		assert_int_equal(eventfd_write(outcome->cancel_fd, 1), 0);
	return 0;
}

struct oci_command command_for(unsigned slot, const char *const *argv)
{
	return (struct oci_command){
		.id = slot ? "oci-test-1" : "oci-test-0",
		.argv = argv,
		.limits = { .memory_bytes = 256u << 20, .cpu_millis = 2000, .pids_max = 64 },
		.uid_base = workspace_uid_base(workspaces[slot]),
		.uid_count = workspace_uid_count(workspaces[slot]),
		.work_dir = workspace_merged_path(workspaces[slot]),
		.bundle_dir = workspace_bundle_path(workspaces[slot]),
		.init_path = init_path,
	};
}

int run_command(unsigned slot, const struct oci_command *command, uint64_t timeout_ns, struct outcome *outcome)
{
	const struct oci_run run = {
		.runtime = &runtime, .command = command, .timeout_ns = timeout_ns, .cancel_fd = outcome->cancel_fd,
		.output = on_output, .context = outcome,
	};
	int r;

	CHECK(workspace_mount(workspaces[slot], outcome->why, sizeof(outcome->why)) == 0);
	r = oci_run(&run, &outcome->result, outcome->why, sizeof(outcome->why));
	CHECK(workspace_unmount(workspaces[slot], outcome->why, sizeof(outcome->why)) == 0);
	return r;
}

struct outcome *run_argv(const char *const *argv)
{
	static struct outcome outcome;
	struct oci_command command = command_for(0, argv);

	outcome = (struct outcome){ .cancel_fd = -1 };
	if (run_command(0, &command, 60 * SECOND, &outcome))
		fail_msg("%s", outcome.why);
	return &outcome;
}

struct outcome *run_shell(const char *script)
{
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };

	return run_argv(argv);
}

void expect(const struct outcome *outcome, int status, const char *out)
{
	if (outcome->result.exit_status != status || strcmp(outcome->out, out) != 0)
		fail_msg("status %d, output: %s%s", outcome->result.exit_status, outcome->out, outcome->err);
}

size_t count_processes(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	size_t count = 0;

	while ((entry = readdir(dir))) {
		char path[300];
		struct stat stat_buffer;

		snprintf(path, sizeof(path), "/proc/%s", entry->d_name);
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && stat(path, &stat_buffer) == 0 && stat_buffer.st_uid >= UID_BASE &&
		    stat_buffer.st_uid < UID_BASE + 2 * WORKSPACE_UID_COUNT)
			count++;
	}
	closedir(dir);
	return count;
}

void expect_nothing_left(void)
{
	static const char *const hierarchies[] = { "", "memory/", "pids/", "cpu/", "devices/", "systemd/", "unified/" };
	FILE *file = fopen("/proc/self/mountinfo", "r");
	char line[4096];
	DIR *dir;
	struct dirent *entry;

	while (fgets(line, sizeof(line), file))
		assert_null(strstr(line, top));
	fclose(file);
	assert_int_equal(count_processes(), 0);
	for (size_t i = 0; i < 2 * COUNT(hierarchies); i++) {
		snprintf(line, sizeof(line), "/sys/fs/cgroup/%ssluice/oci-test-%zu", hierarchies[i / 2], i % 2);
		assert_int_equal(access(line, F_OK), -1);
	}
	dir = opendir(runtime.state_dir);
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "oci-test", 8) == 0)
			fail_msg("container %s is left", entry->d_name);
	}
	if (dir)
		closedir(dir);
}

static void remove_slots(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY);

	assert_int_equal(beneath_remove(fd, "slots"), 0);
	close(fd);
}

void give_tree(unsigned slot, uint32_t uid, uint32_t gid)
{
	char why[512];

	workspace_set_owner(workspaces[slot], uid, gid);
	if (workspace_materialise(workspaces[slot], &root, &model.source, NULL, why, sizeof(why)))
		fail_msg("%s", why);
}

static void open_workspaces(void)
{
	char why[512] = "no directory for the slots";

	root = model_tree(&model, tree, COUNT(tree), 0);
	if (mkdir(slots, 0711) || chmod(slots, 0711) || workspace_recover(slots, why, sizeof(why)))
		fail_msg("%s", why);
	for (unsigned slot = 0; slot < COUNT(workspaces); slot++) {
		const struct workspace_options options = {
			.root = slots, .slot = slot, .uid_base = UID_BASE + slot * WORKSPACE_UID_COUNT, .uid_count = WORKSPACE_UID_COUNT,
		};

		if (workspace_open(&workspaces[slot], &options, why, sizeof(why)))
			fail_msg("%s", why);
		give_tree(slot, 0, 0);
	}
}

int rig_setup(void **state)
{
	model_init(&model);
	remove_slots();                  /* a test may have put things into a tree */
	open_workspaces();
	return 0;
}

int rig_teardown(void **state)
{
	expect_nothing_left();
	for (unsigned slot = 0; slot < COUNT(workspaces); slot++)
		workspace_close(workspaces[slot]);
	model_fini(&model);
	return 0;
}

static void remove_top(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY);

	beneath_clear(fd);
	close(fd);
	rmdir(top);
}

int rig_main(int argc, char **argv, int (*group)(void))
{
	int r = 77;

	if (argc < 3) {
		fprintf(stderr, "%s INIT FORBIDDEN\n", argv[0]);
		return 1;
	}
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		fprintf(stderr, "SKIPPED: %s needs root: %s\n", argv[0], strerror(errno));
		return 77;
	}
	init_path = realpath(argv[1], NULL);      /* the runtime looks from the bundle's directory */
	forbidden_path = realpath(argv[2], NULL);
	strcpy(top, "/var/tmp/oci-test-XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0711))
		return 1;
	snprintf(slots, sizeof(slots), "%s/slots", top);
	snprintf(scratch, sizeof(scratch), "%s/scratch", top);
	if (oci_probe(&runtime, NULL, scratch))
		fprintf(stderr, "SKIPPED: no OCI runtime works here: %s\n", runtime.why);
	else
		r = group();
	remove_top();
	return r;
}
