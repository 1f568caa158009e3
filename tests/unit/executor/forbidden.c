/*
 * forbidden: tries, inside a container, what its seccomp profile forbids, and names each call that did something else than fail in the
 * profile's way. Static, so that it runs over any root. Prints "refused" when all of them were.
 */
#include <errno.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int faults;

static void expect(const char *name, long result, int error)
{
	if (result == -1 && errno == error)
		return;
	printf("%s: %ld, %s\n", name, result, result == -1 ? strerror(errno) : "it went through");
	faults++;
}

/* A child that went through ends at once. */
static void expect_clone(const char *name, unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	expect(name, pid, EPERM);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
}

static void expect_clone3(void)
{
	struct clone_args arguments = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &arguments, sizeof(arguments));

	if (pid == 0)
		_exit(0);
	expect("clone3", pid, ENOSYS);
}

int main(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	if (pid < 0 || waitpid(pid, NULL, 0) != pid) {
		puts("fork: refused as well");
		return 1;
	}
	expect_clone("clone of a user namespace", CLONE_NEWUSER);
	expect_clone("clone of a mount namespace", CLONE_NEWNS);
	expect_clone("clone of a network namespace", CLONE_NEWUSER | CLONE_NEWNET);
	expect_clone3();
	expect("unshare", unshare(CLONE_NEWUSER), EPERM);
	expect("mount", mount("x", "/tmp", "tmpfs", 0, NULL), EPERM);
	expect("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 0), EPERM);
	expect("bpf", syscall(SYS_bpf, 0, NULL, 0), EPERM);
	expect("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL), EPERM);
	expect("userfaultfd", syscall(SYS_userfaultfd, 0), EPERM);
	expect("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0), EPERM);
	expect("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0), EPERM);
	expect("fsopen", syscall(SYS_fsopen, "tmpfs", 0), EPERM);
	expect("socket(AF_VSOCK)", socket(AF_VSOCK, SOCK_STREAM, 0), EPERM);
	expect("socket(AF_ALG)", socket(AF_ALG, SOCK_SEQPACKET, 0), EPERM);
	if (!faults)
		puts("refused");
	return faults != 0;
}
