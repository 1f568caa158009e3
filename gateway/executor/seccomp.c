/* seccomp: see seccomp.h. */
#include "gateway/executor/seccomp.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/socket.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* CLONE_NEWTIME shares its bit with the exit signal of clone(2), where it means nothing. */
#define CLONE_NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

static const char *const denied[] = {
	/* mounts and namespaces */
	"mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount",
	"fspick", "mount_setattr", "unshare", "setns",
	/* keys are not namespaced */
	"add_key", "keyctl", "request_key",
	/* the kernel itself */
	"kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module", "query_module",
	"get_kernel_syms", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "nfsservctl", "_sysctl",
	"lookup_dcookie", "iopl", "ioperm", "vm86", "vm86old", "uselib", "ustat", "sysfs", "vhangup",
	/* the clock and the names of the machine */
	"settimeofday", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "adjtimex", "stime",
	"sethostname", "setdomainname",
	/* ways around path checks, and wide attack surface */
	"open_by_handle_at", "fanotify_init", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
	"io_uring_register",
};

static json_t *names_json(const char *const *names, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_string(names[i]));
	return list;
}

static json_t *deny(json_t *names, int error, json_t *arguments)
{
	json_t *rule = json_pack("{s:o,s:s,s:i}", "names", names, "action", "SCMP_ACT_ERRNO", "errnoRet", error);

	if (arguments)
		json_object_set_new(rule, "args", arguments);
	return rule;
}

/* One bit a rule: a masked comparison tells "equal", not "any of". */
static void deny_clone(json_t *rules)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		json_int_t flag = 1u << bit;

		if (CLONE_NAMESPACES & flag)
			json_array_append_new(rules, deny(json_pack("[s]", "clone"), EPERM,
			                                  json_pack("[{s:i,s:I,s:I,s:s}]", "index", 0, "value", flag, "valueTwo",
			                                            flag, "op", "SCMP_CMP_MASKED_EQ")));
	}
	/* Its flags are behind a pointer; libraries fall back to clone on ENOSYS. */
	json_array_append_new(rules, deny(json_pack("[s]", "clone3"), ENOSYS, NULL));
}

static void deny_socket(json_t *rules, int family)
{
	json_array_append_new(rules, deny(json_pack("[s]", "socket"), EPERM,
	                                  json_pack("[{s:i,s:i,s:s}]", "index", 0, "value", family, "op", "SCMP_CMP_EQ")));
}

static json_t *architectures(void)
{
#if defined(__x86_64__)
	return json_pack("[s,s,s]", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32");
#elif defined(__aarch64__)
	return json_pack("[s,s]", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM");
#else
	return json_array();
#endif
}

json_t *seccomp_profile(void)
{
	json_t *rules = json_array();

	json_array_append_new(rules, deny(names_json(denied, sizeof(denied) / sizeof(denied[0])), EPERM, NULL));
	deny_clone(rules);
	deny_socket(rules, AF_VSOCK);
	deny_socket(rules, AF_ALG);
	return json_pack("{s:s,s:o,s:o}", "defaultAction", "SCMP_ACT_ALLOW", "architectures", architectures(), "syscalls", rules);
}
