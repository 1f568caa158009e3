/* probe: the table of features, and what /proc says about a refusal. */
#include "gateway/ring/probe.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "gateway/base/err.h"
#include "gateway/ring/selftest.h"

enum {
	CAP_SYS_ADMIN_BIT = 21,
	GROUPS_MAX = 256,
	DETAIL_MAX = 160,
};

/* Facts. */

/* The number in a file that holds nothing else; `missing` when there is no such file. */
static long read_number(const char *path, long missing)
{
	FILE *file = fopen(path, "re");
	long number = missing;

	if (!file)
		return missing;
	if (fscanf(file, "%ld", &number) != 1)
		number = missing;
	fclose(file);
	return number;
}

/* The number of a line "Name:\t123" of /proc/self/status, in `base`. */
static uint64_t read_status(const char *name, int base)
{
	FILE *file = fopen("/proc/self/status", "re");
	size_t length = strlen(name);
	uint64_t number = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, name, length) == 0 && line[length] == ':')
			number = strtoull(line + length + 1, NULL, base);
	if (file)
		fclose(file);
	return number;
}

static bool in_group(long group)
{
	gid_t groups[GROUPS_MAX];
	int count = getgroups(GROUPS_MAX, groups);

	if (group < 0)
		return false;
	for (int i = 0; i < count; i++)
		if (groups[i] == (gid_t)group)
			return true;
	return getegid() == (gid_t)group;
}

static struct ring_refusal_facts find_facts(void)
{
	struct rlimit memlock = { 0 };

	getrlimit(RLIMIT_MEMLOCK, &memlock);
	return (struct ring_refusal_facts){
		.sysctl = (int)read_number("/proc/sys/kernel/io_uring_disabled", -1),
		.privileged = (read_status("CapEff", 16) >> CAP_SYS_ADMIN_BIT & 1) ||
		              in_group(read_number("/proc/sys/kernel/io_uring_group", -1)),
		.seccomp = (int)read_status("Seccomp", 10),
		.memlock_limited = memlock.rlim_cur != RLIM_INFINITY,
	};
}

/* Judgement. */

enum ring_refusal ring_refusal_judge(int error, const struct ring_refusal_facts *facts)
{
	bool filtered = facts->seccomp == 2;

	switch (error) {
	case 0:
		return RING_REFUSAL_NONE;
	case -EPERM:
	case -EACCES:
		if (facts->sysctl == 2 || (facts->sysctl == 1 && !facts->privileged))
			return RING_REFUSAL_SYSCTL;
		return filtered ? RING_REFUSAL_SECCOMP : RING_REFUSAL_MODULE;
	case -ENOSYS:
		/* Some profiles answer ENOSYS; a kernel that has the switch has io_uring. */
		return filtered && facts->sysctl >= 0 ? RING_REFUSAL_SECCOMP : RING_REFUSAL_KERNEL;
	case -EINVAL:
		return RING_REFUSAL_KERNEL;
	case -ENOMEM:
		return facts->memlock_limited ? RING_REFUSAL_MEMLOCK : RING_REFUSAL_OTHER;
	case -EMFILE:
	case -ENFILE:
		return RING_REFUSAL_DESCRIPTORS;
	default:
		return RING_REFUSAL_OTHER;
	}
}

enum ring_refusal ring_refusal(int error)
{
	struct ring_refusal_facts facts = find_facts();

	return ring_refusal_judge(error, &facts);
}

const char *ring_refusal_name(enum ring_refusal refusal)
{
	static const char *const names[] = { "none", "sysctl", "seccomp", "kernel", "memlock", "module", "descriptors", "other" };

	return names[refusal];
}

const char *ring_refusal_remedy(enum ring_refusal refusal)
{
	static const char *const remedies[] = {
		[RING_REFUSAL_NONE] = "",
		[RING_REFUSAL_SYSCTL] = "the kernel's switch is off: sysctl -w kernel.io_uring_disabled=0",
		[RING_REFUSAL_SECCOMP] =
			"a seccomp filter forbids it: --security-opt seccomp=sluice-seccomp.json, made as "
			"docs/seccomp/sluice-seccomp.md says",
		[RING_REFUSAL_KERNEL] = "the kernel cannot: Linux 6.1 or later with CONFIG_IO_URING=y",
		[RING_REFUSAL_MEMLOCK] = "too little lockable memory: LimitMEMLOCK=256M in the unit, or ulimit -l 262144",
		[RING_REFUSAL_MODULE] = "neither kernel.io_uring_disabled nor seccomp; look for a security module's "
		                        "denial in the kernel log (dmesg, ausearch -m AVC)",
		[RING_REFUSAL_DESCRIPTORS] = "too few file descriptors: LimitNOFILE=65536 in the unit, or ulimit -n 65536",
		[RING_REFUSAL_OTHER] = "no limit or policy that is known; the kernel log may say more (dmesg)",
	};

	return remedies[refusal];
}

/* With another engine asked for, the error is epoll's: what forbids io_uring is no cause of it. */
void ring_refusal_tell(int error, enum ring_engine engine, char *why, size_t why_size)
{
	enum ring_refusal refusal = ring_refusal(error);
	const char *remedy = ring_refusal_remedy(refusal);

	if (refusal == RING_REFUSAL_DESCRIPTORS)
		snprintf(why, why_size, "no event loop: %s: %s", err_text(error), remedy);
	else if (engine == RING_ENGINE_URING)
		snprintf(why, why_size, "no event loop: %s, cause: %s: %s; or take --engine epoll", err_text(error),
		         ring_refusal_name(refusal), remedy);
	else
		snprintf(why, why_size, "no event loop: %s", err_text(error));
}

/* Features. */

static const char kernel_610[] = "nothing is lost but some CPU; Linux 6.10 or later has it";

static const struct {
	const char *name;
	int (*try)(void);
	const char *use, *remedy;
} table[] = {
	{ "completions on demand", selftest_ring, "SINGLE_ISSUER and DEFER_TASKRUN: the engine's base",
	  "Linux 6.1 or later; the epoll engine runs instead" },
	{ "multishot accept", selftest_multishot_accept, "one request takes all connections of a listener",
	  "Linux 6.1 or later; the epoll engine runs instead" },
	{ "multishot receive", selftest_multishot_receive, "one request a connection, buffers shared by all",
	  "Linux 6.1 or later; the epoll engine runs instead" },
	{ "receive bundles", selftest_bundle, "one completion over many buffers", kernel_610 },
	{ "incremental buffers", selftest_incremental, "not used yet", "" },
	{ "direct descriptors", selftest_direct, "TCP connections without a file descriptor",
	  "nothing is lost but some CPU; needs RLIMIT_NOFILE of at least 1024" },
	{ "peers of direct descriptors", selftest_peer, "log lines say who connected",
	  "log lines say peer=? of TCP connections; Linux 6.7 or later" },
	{ "registered write memory", selftest_fixed_write, "chunks are written without mapping pages each time",
	  "raise RLIMIT_MEMLOCK (LimitMEMLOCK=256M, ulimit -l 262144); plain writes run instead" },
	{ "bounded kernel workers", selftest_worker_bounds, "at most 2 kernel threads a ring for files",
	  "Linux 5.15 or later; the kernel's own bound holds instead" },
};

static void fill_failed(struct ring_feature *feature, char detail[static DETAIL_MAX], int error, const char *remedy)
{
	if (error == -EBADMSG)
		snprintf(detail, DETAIL_MAX, "does not behave as it should");
	else
		snprintf(detail, DETAIL_MAX, "refused: %s", err_text(error));
	feature->detail = detail;
	feature->remedy = remedy;
}

size_t ring_probe(struct ring_feature *features, size_t features_max)
{
	static _Thread_local char details[RING_FEATURES_MAX][DETAIL_MAX];
	size_t count = 0;
	int refused = selftest_setup();

	_Static_assert(sizeof(table) / sizeof(table[0]) < RING_FEATURES_MAX, "room for all and io_uring itself");
	if (features_max == 0)
		return 0;
	features[count].name = "io_uring";
	features[count].works = refused == 0;
	features[count].detail = "the engine";
	features[count].remedy = "";
	if (refused)
		fill_failed(&features[count], details[count], refused, ring_refusal_remedy(ring_refusal(refused)));
	count++;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]) && count < features_max; i++, count++) {
		int r = refused ? refused : table[i].try();

		features[count].name = table[i].name;
		features[count].works = r == 0;
		features[count].detail = refused ? "needs io_uring" : table[i].use;
		features[count].remedy = "";
		if (refused)
			continue;
		if (r < 0)
			fill_failed(&features[count], details[count], r, table[i].remedy);
	}
	return count;
}
