/*
 * io_uring refused: by a seccomp filter as container runtimes install it (in a child, as a filter cannot be taken
 * off), AUTO falls to epoll and works, io_uring alone fails, and the cause is named; the other causes are judged from
 * given facts, as a sysctl is the whole machine's. And ring_probe names every feature, with a remedy for each that
 * does not work.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gateway/base/log.h"
#include "gateway/ring/probe.h"
#include "gateway/ring/ring.h"

enum { NO_URING = 77 };

static void install_filter(int error)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	assert_non_null(filter);
	assert_int_equal(seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint16_t)error), SCMP_SYS(io_uring_setup), 0), 0);
	assert_int_equal(seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint16_t)error), SCMP_SYS(io_uring_enter), 0), 0);
	assert_int_equal(seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint16_t)error), SCMP_SYS(io_uring_register), 0), 0);
	assert_int_equal(seccomp_load(filter), 0);
	seccomp_release(filter);
}

/* Runs `child` in a process of its own; its status is the number of the first step that failed. */
static int in_child(int (*child)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static bool timer_fired;

static void on_timer(struct op *op, int32_t res)
{
	timer_fired = res == 0;
}

static int auto_falls_to_epoll(void)
{
	struct ring_config config = { .engine = RING_ENGINE_AUTO };
	struct op timer = { .fn = on_timer };
	char text[2048] = "";
	struct ring *ring;
	int log[2];

	if (pipe2(log, O_CLOEXEC | O_NONBLOCK) < 0)
		return 1;
	log_setup(log[1], LOG_INFO, false);
	install_filter(EPERM);
	if (ring_create(&ring, &config) != 0)
		return 2;
	if (strcmp(ring_engine_name(ring), "epoll") != 0)
		return 3;
	ring_timer(ring, &timer, 1);
	ring_run(ring, UINT64_MAX);
	if (!timer_fired)
		return 4;
	ring_destroy(ring);
	/* Loudly: a warning that names the cause's remedy. */
	if (read(log[0], text, sizeof(text) - 1) <= 0 || !strstr(text, "warning io_uring refused") ||
	    !strstr(text, "seccomp=sluice-seccomp.json"))
		return 5;
	return 0;
}

static int uring_alone_fails(void)
{
	struct ring_config config = { .engine = RING_ENGINE_URING };
	struct ring *ring;

	install_filter(EPERM);
	if (ring_create(&ring, &config) != -EPERM)
		return 1;
	return ring_refusal(-EPERM) == RING_REFUSAL_SECCOMP ? 0 : 2;
}

static int probe_says_why(void)
{
	struct ring_feature features[RING_FEATURES_MAX];
	size_t count;

	install_filter(EPERM);
	count = ring_probe(features, RING_FEATURES_MAX);
	if (count < 8 || strcmp(features[0].name, "io_uring") != 0)
		return 1;
	for (size_t i = 0; i < count; i++)
		if (features[i].works)
			return 2;
	if (!strstr(features[0].detail, "EPERM"))
		return 3;
	return strstr(features[0].remedy, "seccomp") ? 0 : 4;
}

static int32_t write_res;

static void on_write(struct op *op, int32_t res)
{
	write_res = res;
}

/* Root is not held to RLIMIT_MEMLOCK, so the child becomes nobody. */
static bool become_limited(rlim_t memlock)
{
	struct rlimit limit = { .rlim_cur = memlock, .rlim_max = memlock };

	setrlimit(RLIMIT_MEMLOCK, &limit);
	return getuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0);
}

/* So little that the kernel refuses the ring itself (some kernels do not count it). */
static int ring_without_memlock(void)
{
	struct ring_config config = { .engine = RING_ENGINE_URING };
	struct ring *ring;
	int r;

	if (!become_limited(4096))
		return 1;
	r = ring_create(&ring, &config);
	if (r != -ENOMEM)
		return NO_URING;
	if (ring_refusal(r) != RING_REFUSAL_MEMLOCK)
		return 2;
	config.engine = RING_ENGINE_AUTO;
	if (ring_create(&ring, &config) != 0 || strcmp(ring_engine_name(ring), "epoll") != 0)
		return 3;
	ring_destroy(ring);
	return 0;
}

static int slots_without_memlock(void)
{
	struct ring_config config = { .engine = RING_ENGINE_URING };
	int fd = memfd_create("file", MFD_CLOEXEC);
	struct op write_op = { .fn = on_write };
	struct ring *ring;
	uint8_t *slots;

	if (!become_limited(4 << 20))
		return 1;
	if (ring_create(&ring, &config) < 0)
		return NO_URING;
	slots = ring_slots_create(ring, 8 << 20);
	if (!slots)
		return 2;
	memset(slots, 'a', 4096);
	ring_write(ring, &write_op, fd, slots, 4096, 0);
	while (op_in_flight(&write_op))
		ring_run(ring, UINT64_MAX);
	if (write_res != 4096 || ring_counters(ring)->writes != 1)
		return 3;
	if (ring_counters(ring)->writes_fixed != 0)
		return 4;
	ring_destroy(ring);
	return 0;
}

static void run_limited(int (*child)(void))
{
	int status;

	log_setup(STDERR_FILENO, LOG_ERROR, false);
	status = in_child(child);
	log_setup(STDERR_FILENO, LOG_INFO, false);
	if (status == NO_URING)
		skip();
	assert_int_equal(status, 0);
}

static void test_memlock_for_ring(void **state)
{
	run_limited(ring_without_memlock);
}

/* Too little lockable memory: the slots are there all the same, and are written the plain way. */
static void test_memlock_for_slots(void **state)
{
	run_limited(slots_without_memlock);
}

static void test_seccomp(void **state)
{
	assert_int_equal(in_child(auto_falls_to_epoll), 0);
	assert_int_equal(in_child(uring_alone_fails), 0);
	assert_int_equal(in_child(probe_says_why), 0);
}

static void test_judge(void **state)
{
	static const struct {
		int error;
		struct ring_refusal_facts facts;
		enum ring_refusal refusal;
	} cases[] = {
		{ 0, { 0 }, RING_REFUSAL_NONE },
		{ -EPERM, { .sysctl = 2, .privileged = true }, RING_REFUSAL_SYSCTL },
		{ -EPERM, { .sysctl = 2, .seccomp = 2 }, RING_REFUSAL_SYSCTL },
		{ -EPERM, { .sysctl = 1 }, RING_REFUSAL_SYSCTL },
		{ -EPERM, { .sysctl = 1, .privileged = true, .seccomp = 2 }, RING_REFUSAL_SECCOMP },
		{ -EPERM, { .sysctl = 0, .seccomp = 2 }, RING_REFUSAL_SECCOMP },
		{ -EPERM, { .sysctl = -1, .seccomp = 2 }, RING_REFUSAL_SECCOMP },
		{ -EPERM, { .sysctl = 0 }, RING_REFUSAL_MODULE },
		{ -EACCES, { .sysctl = 0 }, RING_REFUSAL_MODULE },
		{ -ENOSYS, { .sysctl = -1 }, RING_REFUSAL_KERNEL },
		{ -ENOSYS, { .sysctl = 0, .seccomp = 2 }, RING_REFUSAL_SECCOMP },
		{ -EINVAL, { .sysctl = 0 }, RING_REFUSAL_KERNEL },
		{ -ENOMEM, { .memlock_limited = true }, RING_REFUSAL_MEMLOCK },
		{ -ENOMEM, { .memlock_limited = false }, RING_REFUSAL_OTHER },
		{ -EMFILE, { .sysctl = 2, .seccomp = 2, .memlock_limited = true }, RING_REFUSAL_DESCRIPTORS },
		{ -ENFILE, { .sysctl = 0 }, RING_REFUSAL_DESCRIPTORS },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(ring_refusal_judge(cases[i].error, &cases[i].facts), cases[i].refusal);
	assert_non_null(strstr(ring_refusal_remedy(RING_REFUSAL_SYSCTL), "sysctl -w kernel.io_uring_disabled=0"));
	assert_non_null(strstr(ring_refusal_remedy(RING_REFUSAL_MEMLOCK), "LimitMEMLOCK"));
	assert_non_null(strstr(ring_refusal_remedy(RING_REFUSAL_MODULE), "security module"));
	assert_null(strstr(ring_refusal_remedy(RING_REFUSAL_OTHER), "security module"));
	assert_string_equal(ring_refusal_name(RING_REFUSAL_OTHER), "other");
}

/* Of io_uring it is said what forbids it, of any engine what is lacking; and epoll is no help against itself. */
static void test_tell(void **state)
{
	char why[256];

	ring_refusal_tell(-ENOSYS, RING_ENGINE_URING, why, sizeof(why));
	assert_non_null(strstr(why, "ENOSYS"));
	assert_non_null(strstr(why, "cause: "));
	assert_non_null(strstr(why, "or take --engine epoll"));
	ring_refusal_tell(-ENOMEM, RING_ENGINE_EPOLL, why, sizeof(why));
	assert_string_equal(why, "no event loop: ENOMEM (Cannot allocate memory)");
	for (enum ring_engine engine = RING_ENGINE_AUTO; engine <= RING_ENGINE_EPOLL; engine++) {
		ring_refusal_tell(-EMFILE, engine, why, sizeof(why));
		assert_non_null(strstr(why, "LimitNOFILE="));
		assert_null(strstr(why, "epoll"));
	}
}

static void test_probe(void **state)
{
	struct ring_feature features[RING_FEATURES_MAX];
	size_t count = ring_probe(features, RING_FEATURES_MAX);

	assert_true(count >= 8 && count <= RING_FEATURES_MAX);
	for (size_t i = 0; i < count; i++) {
		assert_true(strlen(features[i].name) > 0 && strlen(features[i].detail) > 0);
		if (features[i].works)
			assert_string_equal(features[i].remedy, "");
		print_message("%-26s %-3s %s%s%s\n", features[i].name, features[i].works ? "yes" : "no", features[i].detail,
		              features[i].remedy[0] ? ": " : "", features[i].remedy);
	}
	assert_int_equal(ring_probe(features, 1), 1);
	assert_int_equal(ring_probe(features, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_judge),
		cmocka_unit_test(test_tell),
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_seccomp),
		cmocka_unit_test(test_memlock_for_ring),
		cmocka_unit_test(test_memlock_for_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
