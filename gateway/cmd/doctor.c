/* sluice doctor: what this machine can do for sluice, tried and not guessed, and how to mend what it cannot. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "chunker/profile.h"
#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/units.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/options.h"
#include "gateway/executor/network.h"
#include "gateway/executor/oci.h"
#include "gateway/executor/spawns.h"
#include "gateway/ring/probe.h"

enum {
	CHECKS_MAX = 64,
	MEMLOCK_WANTED_BYTES = 256 << 20,
	DISK_WANTED_BYTES = 1 << 30,
	DIRECT_ALIGNMENT = 4096,
};

struct doctor_options {
	bool json;
	const char *store, *buildkitd;
	int spawn_network;
};

#define MEMBER(name) offsetof(struct doctor_options, name)
static const struct option doctor_options[] = {
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object" },
	{ .name = "store", .kind = OPTION_TEXT, .offset = MEMBER(store), .argument = "DIR", .fallback = "/var/tmp",
	  .help = "look at the disk that has, or will have, this store" },
	{ .name = "buildkitd", .kind = OPTION_TEXT, .offset = MEMBER(buildkitd), .argument = "FILE", .key = "buildkit.spawn.program",
	  .help = "the program that `serve --spawn` would start; default: buildkitd on PATH" },
	{ .name = "spawn-network", .kind = OPTION_CHOICE, .offset = MEMBER(spawn_network), .argument = "KIND",
	  .key = "buildkit.spawn.network", .fallback = "slirp4netns", .choices = spawn_network_names,
	  .help = "what `serve --spawn-network` would be" },
};
#undef MEMBER
static const struct option_group doctor_group = OPTION_GROUP("Options", doctor_options);
static const struct option_group *const doctor_groups[] = { &doctor_group, NULL };

struct check {
	const char *area;                /* "io_uring", "sha256", "executor", "buildkit", "limits", "disk" */
	char name[48];
	bool works;
	char detail[512], remedy[256];
};

struct checks {
	struct check all[CHECKS_MAX];
	size_t count;
};

static void add(struct checks *checks, const char *area, const char *name, bool works, const char *detail,
                         const char *remedy)
{
	struct check *check = &checks->all[checks->count];

	CHECK(checks->count < CHECKS_MAX);
	checks->count++;

	*check = (struct check){ .area = area, .works = works };
	snprintf(check->name, sizeof(check->name), "%s", name);
	snprintf(check->detail, sizeof(check->detail), "%s", detail);
	snprintf(check->remedy, sizeof(check->remedy), "%s", works ? "" : remedy);
}

/* ---- what is looked at ---- */

static void check_ring(struct checks *checks)
{
	struct ring_feature features[RING_FEATURES_MAX];
	size_t count = ring_probe(features, RING_FEATURES_MAX);

	for (size_t i = 0; i < count; i++)
		add(checks, "io_uring", features[i].name, features[i].works, features[i].detail, features[i].remedy);
	if (count && !features[0].works)
		add(checks, "io_uring", "engine", true, "epoll will be used: correct, at more CPU a byte", "");
	else
		add(checks, "io_uring", "engine", true, "io_uring will be used", "");
}

static void check_sha256(struct checks *checks)
{
	struct sha256 hasher;

	sha256_init(&hasher, SHA256_AUTO);
	sha256_calibrate(&hasher);
	for (enum sha256_backend backend = SHA256_AUTO + 1; backend < SHA256_BACKENDS; backend++) {
		enum sha256_state state = hasher.states[backend];
		const char *detail = sha256_describe(&hasher, backend);

		add(checks, "sha256", sha256_backend_name(backend), state == SHA256_USABLE || state == SHA256_CHOSEN,
		    strncmp(detail, "no: ", 4) == 0 ? detail + 4 : detail,
		    state == SHA256_FAILED ? "report it: this CPU or compiler does something unforeseen" : "nothing is lost");
	}
}

static void check_cuts(struct checks *checks)
{
	bool works = profile_fastcdc(PROFILE_NATIVE)->sieve;

	add(checks, "cuts", "sieve", works,
	    works ? "AVX-512 VBMI: 16 stretches of a file at a time" : "the CPU lacks AVX-512 VBMI: files are cut at half the speed",
	    "nothing is lost");
}

/* Whether this process may have that much; the limit is put back. Root of a container may be refused. */
static bool try_memlock(const struct rlimit *limit)
{
	struct rlimit wanted = { .rlim_cur = MEMLOCK_WANTED_BYTES, .rlim_max = limit->rlim_max };

	if (limit->rlim_cur == RLIM_INFINITY || limit->rlim_cur >= MEMLOCK_WANTED_BYTES)
		return true;
	if (wanted.rlim_max < MEMLOCK_WANTED_BYTES)
		wanted.rlim_max = MEMLOCK_WANTED_BYTES;
	if (setrlimit(RLIMIT_MEMLOCK, &wanted) < 0)
		return false;
	setrlimit(RLIMIT_MEMLOCK, limit);
	return true;
}

static void check_memlock(struct checks *checks)
{
	struct rlimit limit = { 0 };
	char bytes[24], detail[128];
	bool works;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	works = try_memlock(&limit);
	if (limit.rlim_cur == RLIM_INFINITY)
		snprintf(detail, sizeof(detail), "not limited");
	else
		snprintf(detail, sizeof(detail), "%s%s", units_format_bytes(limit.rlim_cur, bytes),
		         works && limit.rlim_cur < MEMLOCK_WANTED_BYTES ? "; serve can raise it" : "");
	add(checks, "limits", "lockable memory", works, detail,
	    "LimitMEMLOCK=256M in the unit, or ulimit -l 262144; without it chunks are written unregistered");
}

static void check_files(struct checks *checks)
{
	struct rlimit limit = { 0 };
	char detail[64];

	getrlimit(RLIMIT_NOFILE, &limit);
	snprintf(detail, sizeof(detail), "%llu, at most %llu", (unsigned long long)limit.rlim_cur,
	         (unsigned long long)limit.rlim_max);
	add(checks, "limits", "open files", limit.rlim_max >= 4096, detail,
	    "LimitNOFILE=65536 in the unit, or ulimit -n 65536");
}

/* In a child: unshare cannot be taken back. */
static void check_user_namespaces(struct checks *checks)
{
	int status = -1;
	pid_t child = fork();

	if (child == 0)
		_exit(unshare(CLONE_NEWUSER) == 0 ? 0 : errno & 127);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		add(checks, "executor", "user namespaces", true, "actions run under ids that are nobody's", "");
	else
		add(checks, "executor", "user namespaces", false,
		    child > 0 && WIFEXITED(status) ? strerror(WEXITSTATUS(status)) : "could not be tried",
		    "sysctl -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1");
}

static void check_root(struct checks *checks)
{
	add(checks, "executor", "root", geteuid() == 0, geteuid() == 0 ? "serve can start an executor host" : "not root",
	    "start `sluice serve` as root to run actions: it keeps root in the executor host alone");
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* A trial container, in a directory that goes again. */
static void check_runtime(struct checks *checks)
{
	char scratch[] = "/var/tmp/sluice-doctor-XXXXXX", detail[512];
	struct oci_runtime runtime;

	if (geteuid() != 0 || !mkdtemp(scratch) || chmod(scratch, 0711)) {
		add(checks, "executor", "OCI runtime", false, "not tried: needs root", "sudo sluice doctor");
		return;
	}
	if (oci_probe(&runtime, NULL, scratch) == 0) {
		snprintf(detail, sizeof(detail), "%.120s: %.120s", runtime.path, runtime.version);
		add(checks, "executor", "OCI runtime", true, detail, "");
	} else {
		add(checks, "executor", "OCI runtime", false, runtime.why, "apt-get install runc; `sluice run` needs one that works");
	}
	remove_tree(scratch);
}

static void check_network(struct checks *checks)
{
	struct network network;
	char why[200];

	if (geteuid() != 0) {
		add(checks, "executor", "network for actions", false, "not tried: needs root", "sudo sluice doctor");
		return;
	}
	if (network_open(&network, why, sizeof(why)) < 0) {
		add(checks, "executor", "network for actions", false, why,
		    "apt-get install slirp4netns, and /dev/net/tun; only `run --network` goes without");
		return;
	}
	network_close(&network);
	add(checks, "executor", "network for actions", true, "for `run --network`, where serve has --allow-network", "");
}

/* What `serve --spawn` would find. */
static void check_spawn(struct checks *checks, const struct doctor_options *doctor)
{
	struct spawn_probe probe;

	spawn_probe(&probe, doctor->buildkitd, (enum spawn_network)doctor->spawn_network);
	for (size_t i = 0; i < SPAWN_TRAITS; i++)
		add(checks, "buildkit", probe.traits[i].name, probe.traits[i].holds, probe.traits[i].detail, probe.traits[i].remedy);
}

/* A file without a name: nothing is left behind, whatever happens. */
static bool try_direct(const char *directory, char *detail, size_t size)
{
	CLEANUP(fd_closep) int fd = open(directory, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	CLEANUP(free_p) void *page = NULL;

	if (fd < 0 || posix_memalign(&page, DIRECT_ALIGNMENT, DIRECT_ALIGNMENT) != 0) {
		snprintf(detail, size, "refused: %s", strerror(errno));
		return false;
	}
	memset(page, 0, DIRECT_ALIGNMENT);
	if (pwrite(fd, page, DIRECT_ALIGNMENT, 0) != DIRECT_ALIGNMENT) {
		snprintf(detail, size, "refused: %s", strerror(errno));
		return false;
	}
	snprintf(detail, size, "chunks go to the disk past the page cache");
	return true;
}

/* The directory itself, or the nearest one above it that is there. */
static void existing_directory(const char *path, char *found, size_t size)
{
	snprintf(found, size, "%s", path);
	while (access(found, F_OK) < 0) {
		char *slash = strrchr(found, '/');

		if (!slash || slash == found) {
			snprintf(found, size, slash ? "/" : ".");
			return;
		}
		*slash = '\0';
	}
}

static void check_disk(struct checks *checks, const char *store)
{
	char directory[4096], detail[200], available[24], total[24];
	struct statvfs disk;
	uint64_t bytes;
	bool works;

	existing_directory(store, directory, sizeof(directory));
	if (statvfs(directory, &disk) < 0) {
		add(checks, "disk", "space", false, strerror(errno), "name a directory with --store");
		return;
	}
	bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
	snprintf(detail, sizeof(detail), "%s of %s free at %.100s", units_format_bytes(bytes, available),
	         units_format_bytes((uint64_t)disk.f_blocks * disk.f_frsize, total), directory);
	add(checks, "disk", "space", bytes >= DISK_WANTED_BYTES, detail,
	    "free some, or put the store elsewhere: --store DIR");
	works = try_direct(directory, detail, sizeof(detail));
	add(checks, "disk", "direct writes", works, detail, "nothing is lost but CPU: writes go through the page cache");
}

/* ---- what is printed ---- */

static void print_checks(const struct checks *checks, const struct utsname *system)
{
	const char *area = "";

	printf("sluice %s on %s %s %s\n", SLUICE_VERSION, system->sysname, system->release, system->machine);
	for (size_t i = 0; i < checks->count; i++) {
		const struct check *check = &checks->all[i];

		if (strcmp(area, check->area) != 0)
			printf("\n%s\n", check->area);
		area = check->area;
		printf("  %-4s %-26s %s\n", check->works ? "yes" : "no", check->name, check->detail);
		if (*check->remedy)
			printf("       %-26s -> %s\n", "", check->remedy);
	}
}

static int print_json(const struct checks *checks, const struct utsname *system)
{
	json_t *object = json_object(), *list = json_array();

	json_set_text(object, "version", SLUICE_VERSION);
	json_set_text(object, "kernel", system->release);
	json_set_text(object, "machine", system->machine);
	for (size_t i = 0; i < checks->count; i++) {
		const struct check *check = &checks->all[i];
		json_t *entry = json_object();

		json_set_text(entry, "area", check->area);
		json_set_text(entry, "name", check->name);
		json_object_set_new(entry, "works", json_boolean(check->works));
		json_set_text(entry, "detail", check->detail);
		json_set_text(entry, "remedy", check->remedy);
		json_array_append_new(list, entry);
	}
	json_object_set_new(object, "checks", list);
	return json_print(object);
}

static int doctor_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct checks checks = { .count = 0 };
	struct doctor_options doctor;
	void *const values[] = { &doctor };
	struct utsname system;
	int status;

	if (!options_parse(&options, &command_doctor, values, argc, argv, &status))
		return status;
	uname(&system);
	check_ring(&checks);
	check_sha256(&checks);
	check_cuts(&checks);
	check_root(&checks);
	check_user_namespaces(&checks);
	check_runtime(&checks);
	check_network(&checks);
	check_spawn(&checks, &doctor);
	check_memlock(&checks);
	check_files(&checks);
	check_disk(&checks, doctor.store);
	if (doctor.json)
		return print_json(&checks, &system);
	print_checks(&checks, &system);
	return STATUS_OK;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "try what this machine can do for sluice, and say how to mend what it cannot",
	.help = "Tries each thing that sluice can use: io_uring and its features, the CPU's lanes for hashing and cutting, an OCI runtime,\n"
	        "user namespaces, what `serve --spawn` needs for a buildkitd, lockable memory, the store's disk. Each has a yes or a no, and a no comes with what to do.\n"
	        "A no is not a failure: sluice does without, as the line says. Exits with 0 when all could be tried.\n\n"
	        "  sluice doctor --store /var/lib/sluice",
	.run = doctor_run,
	.groups = doctor_groups,
};
