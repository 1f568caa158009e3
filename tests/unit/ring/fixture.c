/* fixture: see the header. */
#include "tests/unit/ring/fixture.h"

#include <dirent.h>
#include <netinet/in.h>
#include <sys/un.h>

enum ring_engine fixture_engine;
static unsigned handlers_entered;

unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

void fixture_ring(struct fixture *fixture, const struct ring_config *config)
{
	struct ring_config full = *config;

	ring_destroy(fixture->ring);
	fixture->ring = NULL;
	full.engine = fixture_engine;
	assert_int_equal(ring_create(&fixture->ring, &full), 0);
	assert_string_equal(ring_engine_name(fixture->ring), fixture_engine == RING_ENGINE_URING ? "io_uring" : "epoll");
}

int fixture_setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	fixture->descriptors = open_descriptors();
	snprintf(fixture->directory, sizeof(fixture->directory), "/var/tmp/ring-test-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	fixture_ring(fixture, &(struct ring_config){ 0 });
	*state = fixture;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *fixture = *state;
	struct dirent *entry;
	char path[512];
	DIR *dir;

	assert_int_equal(ring_counters(fixture->ring)->cq_overflows, 0);
	ring_destroy(fixture->ring);
	dir = opendir(fixture->directory);
	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", fixture->directory, entry->d_name);
		if (entry->d_name[0] != '.')
			unlink(path);
	}
	closedir(dir);
	rmdir(fixture->directory);
	assert_int_equal(open_descriptors(), fixture->descriptors);
	free(fixture);
	return 0;
}

void run_until(struct ring *ring, const bool *done)
{
	uint64_t end_ns = ring_now_ns(ring) + UINT64_C(1000000000) * PATIENCE_S;

	while (!*done) {
		assert_true(ring_now_ns(ring) < end_ns);
		ring_run(ring, 1000000000);
	}
}

void run_until_count(struct ring *ring, const unsigned *count, unsigned wanted)
{
	uint64_t end_ns = ring_now_ns(ring) + UINT64_C(1000000000) * PATIENCE_S;

	while (*count < wanted) {
		assert_true(ring_now_ns(ring) < end_ns);
		ring_run(ring, 1000000000);
	}
}

void handler_enter(void)
{
	assert_int_equal(handlers_entered, 0);
	handlers_entered++;
}

void handler_leave(void)
{
	handlers_entered--;
}

void call_on_completion(struct op *op, int32_t res)
{
	struct call *call = container_of(op, struct call, op);

	handler_enter();
	assert_false(call->done);
	assert_int_equal(op_in_flight(op), op->more);
	call->completions++;
	call->res = res;
	call->done = !op->more;
	handler_leave();
}

struct call *call_init(struct call *call)
{
	*call = (struct call){ .op.fn = call_on_completion };
	return call;
}

int32_t call_wait(struct ring *ring, struct call *call)
{
	run_until(ring, &call->done);
	return call->res;
}

static int listen_at(struct sockaddr_storage *address, socklen_t *size)
{
	/* A listener may be of either kind. */
	int nonblock = address->ss_family == AF_INET ? SOCK_NONBLOCK : 0;
	int fd = socket(address->ss_family, SOCK_STREAM | nonblock | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)address, *size), 0);
	assert_int_equal(listen(fd, 1024), 0);
	*size = sizeof(*address);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, size), 0);
	return fd;
}

int listen_tcp(struct sockaddr_storage *address, socklen_t *size)
{
	struct sockaddr_in *in = (struct sockaddr_in *)address;

	memset(address, 0, sizeof(*address));
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	*size = sizeof(*in);
	return listen_at(address, size);
}

int listen_tcp6(struct sockaddr_storage *address, socklen_t *size)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int trial = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool works = trial >= 0 && bind(trial, (struct sockaddr *)&in6, sizeof(in6)) == 0;

	if (trial >= 0)
		close(trial);
	if (!works)
		return -1;
	memset(address, 0, sizeof(*address));
	memcpy(address, &in6, sizeof(in6));
	*size = sizeof(in6);
	return listen_at(address, size);
}

int listen_unix(const struct fixture *fixture, struct sockaddr_storage *address, socklen_t *size)
{
	struct sockaddr_un *un = (struct sockaddr_un *)address;

	memset(address, 0, sizeof(*address));
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof(un->sun_path), "%s/socket", fixture->directory);
	*size = sizeof(*un);
	return listen_at(address, size);
}

int socket_like(const struct sockaddr_storage *address)
{
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}
