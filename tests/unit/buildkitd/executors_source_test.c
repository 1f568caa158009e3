/*
 * Shows that fixed addresses become executors with their options, over TLS too, that those of a name come and go with the
 * answers of its look-ups, and that a look-up that fails takes nobody away. Stand-in daemons on the same ring, a resolver
 * of our own, both ring engines.
 */
#include "gateway/buildkitd/executors_source.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/buildkitd/daemon_stand_in.h"
#include "tests/unit/net/keys.h"

#define MS 1000000ull

struct fixture {
	struct ring *ring;
	struct executors *executors;
	struct executors_source *source;
	struct daemon_stand_in daemons[3];
};

static struct fixture *begin(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct ring_config ring = { .engine = *(const enum ring_engine *)*state };
	struct executors_config config = { .health_interval_ns = 16 * MS };

	assert_int_equal(ring_create(&fixture->ring, &ring), 0);
	config.ring = fixture->ring;
	assert_int_equal(executors_create(&fixture->executors, &config), 0);
	return fixture;
}

static void end(struct fixture *fixture)
{
	if (fixture->source)
		executors_source_close(fixture->source);
	executors_close(fixture->executors);
	while (!executors_idle(fixture->executors) || (fixture->source && !executors_source_idle(fixture->source)))
		ring_run(fixture->ring, UINT64_MAX);
	executors_destroy(fixture->executors);
	executors_source_destroy(fixture->source);
	for (unsigned i = 0; i < 3; i++)
		daemon_stand_in_stop(&fixture->daemons[i]);
	ring_destroy(fixture->ring);
	free(fixture);
}

static bool ready(struct fixture *fixture, const char *tenant, const char *name)
{
	struct executor *executor = executors_find(fixture->executors, tenant, name);

	return executor && executor_state(executor) == EXECUTOR_READY;
}

static uint64_t ready_count(struct fixture *fixture)
{
	struct executors_status status;

	executors_status(fixture->executors, &status);
	return status.executors_ready;
}

static uint64_t count(struct fixture *fixture)
{
	struct executors_status status;

	executors_status(fixture->executors, &status);
	return status.executors;
}

static int create(struct fixture *fixture, const char *const *addresses, size_t addresses_count,
                  executors_resolve_fn *resolve, char *why, size_t why_size)
{
	struct executors_source_config config = {
		.ring = fixture->ring, .executors = fixture->executors, .addresses = addresses, .count = addresses_count,
		.tenant = "default", .interval_ns = 5 * MS, .resolve = resolve,
	};

	return executors_source_create(&fixture->source, &config, why, why_size);
}

static void start(struct daemon_stand_in *stand_in, struct ring *ring)
{
	stand_in->tcp = true;
	daemon_stand_in_start(stand_in, ring);
}

static const char *port_of(const struct daemon_stand_in *stand_in)
{
	return strrchr(stand_in->bound, ':') + 1;
}

/* ---- fixed ones ---- */

static void fixed_ones_join(void **state)
{
	struct fixture *fixture = begin(state);
	char one[100], other[100], why[600] = "";
	const char *const addresses[] = { one, other };
	struct executors_status status;

	start(&fixture->daemons[0], fixture->ring);
	start(&fixture->daemons[1], fixture->ring);
	snprintf(one, sizeof(one), "tcp://127.0.0.1:%s", port_of(&fixture->daemons[0]));
	snprintf(other, sizeof(other), "tcp://127.0.0.1:%s,tenant=acme,slots=7,name=big", port_of(&fixture->daemons[1]));
	assert_int_equal(create(fixture, addresses, 2, NULL, why, sizeof(why)), 0);
	DAEMON_UNTIL(fixture, ready(fixture, "default", one));
	DAEMON_UNTIL(fixture, ready(fixture, "acme", "big"));
	executors_status(fixture->executors, &status);
	assert_int_equal(status.slots, EXECUTOR_SLOTS_DEFAULT + 7);
	end(fixture);
}

static void what_cannot_be_is_said(void **state)
{
	static const struct {
		const char *const addresses[2];
		size_t count;
		int r;
		const char *why;
	} bad[] = {
		{ { "tcp://127.0.0.1:1", "tcp://127.0.0.1:1" }, 2, -EEXIST, "tcp://127.0.0.1:1 is there twice" },
		{ { "tcp://127.0.0.1:1", "tcp://127.0.0.1:1,tenant=acme" }, 2, -EADDRINUSE, "is another tenant's already" },
		{ { "tcp://127.0.0.1" }, 1, -EINVAL, "is not the address of a buildkitd" },
		{ { "tcps://127.0.0.1:1,ca=/nowhere/ca.pem" }, 1, -ENOENT, "/nowhere/ca.pem" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fixture *fixture = begin(state);
		char why[600] = "";

		assert_int_equal(create(fixture, bad[i].addresses, bad[i].count, NULL, why, sizeof(why)), bad[i].r);
		if (!strstr(why, bad[i].why))
			fail_msg("%s", why);
		end(fixture);
	}
}

static void over_tls(void **state)
{
	struct fixture *fixture = begin(state);
	struct tls_config keys = keys_server("server", "ca", true);
	char trusted[4096], stranger[4096], why[600] = "";
	const char *const addresses[] = { trusted, stranger };
	struct executor *refused;

	assert_int_equal(tls_context_create(&fixture->daemons[0].tls, &keys, why, sizeof(why)), 0);
	start(&fixture->daemons[0], fixture->ring);
	snprintf(trusted, sizeof(trusted), "tcps://localhost:%s,name=trusted,ca=%s,cert=%s,key=%s",
	         port_of(&fixture->daemons[0]), keys_path("ca", "ca.pem"), keys_path("client", "cert.pem"),
	         keys_path("client", "key.pem"));
	snprintf(stranger, sizeof(stranger), "tcps://localhost:%s,name=stranger,ca=%s", port_of(&fixture->daemons[0]),
	         keys_path("other-ca", "ca.pem"));
	assert_int_equal(create(fixture, addresses, 2, NULL, why, sizeof(why)), 0);
	DAEMON_UNTIL(fixture, ready(fixture, "default", "trusted"));
	refused = executors_find(fixture->executors, "default", "stranger");
	DAEMON_UNTIL(fixture, strstr(executor_why(refused), "certificate"));
	assert_int_equal(executor_state(refused), EXECUTOR_JOINING);
	tls_context_destroy(fixture->daemons[0].tls);
	end(fixture);
}

static void copy_file(const char *from, const char *to)
{
	char command[600];

	snprintf(command, sizeof(command), "cp %s %s", from, to);
	assert_int_equal(system(command), 0);
}

/* What was read wrongly is mended without a restart; what cannot be read leaves all as it was. */
static void keys_are_read_again(void **state)
{
	struct fixture *fixture = begin(state);
	struct tls_config keys = keys_server("server", NULL, false);
	char mended[] = "/tmp/sluice-source-ca-XXXXXX", address[600], why[600] = "";
	const char *const addresses[] = { address };
	const struct executor *executor;
	int fd = mkstemp(mended);

	assert_true(fd >= 0);
	close(fd);
	copy_file(keys_path("other-ca", "ca.pem"), mended);
	assert_int_equal(tls_context_create(&fixture->daemons[0].tls, &keys, why, sizeof(why)), 0);
	start(&fixture->daemons[0], fixture->ring);
	snprintf(address, sizeof(address), "tcps://localhost:%s,name=mended,ca=%s", port_of(&fixture->daemons[0]), mended);
	assert_int_equal(create(fixture, addresses, 1, NULL, why, sizeof(why)), 0);
	executor = executors_find(fixture->executors, "default", "mended");
	DAEMON_UNTIL(fixture, strstr(executor_why(executor), "is ca= in --buildkit"));
	copy_file("/dev/null", mended);
	assert_int_not_equal(executors_source_reload(fixture->source, why, sizeof(why)), 0);
	assert_non_null(strstr(why, mended));
	copy_file(keys_path("ca", "ca.pem"), mended);
	assert_int_equal(executors_source_reload(fixture->source, why, sizeof(why)), 0);
	DAEMON_UNTIL(fixture, ready(fixture, "default", "mended"));
	unlink(mended);
	tls_context_destroy(fixture->daemons[0].tls);
	end(fixture);
}

/* ---- a name ---- */

/* What the name stands for; read by a worker. */
static struct {
	pthread_mutex_t mutex;
	unsigned addresses;              /* 127.0.0.1 to 127.0.0.N */
	bool failing;
	bool turning;                    /* another one is the first each time */
	unsigned asked;
} names = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static int resolve(const struct address *address, struct address_resolved *resolved, size_t max, char *why, size_t why_size)
{
	int found = 0;

	pthread_mutex_lock(&names.mutex);
	names.asked++;
	if (names.failing)
		snprintf(why, why_size, "the name server is away");
	for (unsigned i = 0; i < names.addresses && !names.failing; i++) {
		struct sockaddr_in four = {
			.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(address->port)),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (names.turning ? (i + 7 * names.asked) % names.addresses : i)),
		};

		if (i < max) {
			memset(&resolved[i], 0, sizeof(resolved[i]));
			memcpy(&resolved[i].sockaddr, &four, sizeof(four));
			resolved[i].size = sizeof(four);
		}
		found++;
	}
	found = names.failing ? -EHOSTUNREACH : found;
	pthread_mutex_unlock(&names.mutex);
	return found;
}

static void names_set(unsigned addresses, bool failing)
{
	pthread_mutex_lock(&names.mutex);
	names.addresses = addresses;
	names.failing = failing;
	names.asked = 0;
	pthread_mutex_unlock(&names.mutex);
}

static unsigned names_asked(void)
{
	unsigned asked;

	pthread_mutex_lock(&names.mutex);
	asked = names.asked;
	pthread_mutex_unlock(&names.mutex);
	return asked;
}

static void those_of_a_name_come_and_go(void **state)
{
	struct fixture *fixture = begin(state);
	char address[100], name[100], why[600] = "";
	const char *const addresses[] = { address };

	/* On all of 127/8, so that several addresses of the name lead to it. */
	snprintf(fixture->daemons[0].bound, sizeof(fixture->daemons[0].bound), "grpc://0.0.0.0:0");
	start(&fixture->daemons[0], fixture->ring);
	snprintf(address, sizeof(address), "dns://builders.test:%s,tenant=acme", port_of(&fixture->daemons[0]));
	snprintf(name, sizeof(name), "tcp://127.0.0.2:%s", port_of(&fixture->daemons[0]));
	names_set(0, true);
	assert_int_equal(create(fixture, addresses, 1, resolve, why, sizeof(why)), 0);
	DAEMON_UNTIL(fixture, names_asked() >= 2);
	assert_int_equal(count(fixture), 0);
	names_set(3, false);
	DAEMON_UNTIL(fixture, ready_count(fixture) == 3);
	assert_true(ready(fixture, "acme", name));
	/* The same answer changes nothing, and neither does none. */
	names_set(3, false);
	DAEMON_UNTIL(fixture, names_asked() >= 3);
	names_set(3, true);
	DAEMON_UNTIL(fixture, names_asked() >= 3);
	names_set(0, false);
	DAEMON_UNTIL(fixture, names_asked() >= 3);
	assert_int_equal(ready_count(fixture), 3);
	assert_int_equal(fixture->daemons[0].asked, 3);
	/* Who is not named any more goes; who is named again comes back. */
	names_set(1, false);
	DAEMON_UNTIL(fixture, count(fixture) == 1);
	assert_null(executors_find(fixture->executors, "acme", name));
	names_set(2, false);
	DAEMON_UNTIL(fixture, ready(fixture, "acme", name));
	assert_int_equal(count(fixture), 2);
	/* More than there is room for. */
	names_set(EXECUTORS_SOURCE_ADDRESSES_MAX + 5, false);
	DAEMON_UNTIL(fixture, count(fixture) == EXECUTORS_SOURCE_ADDRESSES_MAX);
	end(fixture);
}

static void put_name(void *context, struct executor *executor)
{
	char *text = context;

	assert_int_not_equal(executor_state(executor), EXECUTOR_DRAINING);
	snprintf(text + strlen(text), 8192 - strlen(text), "%s ", executor_name(executor));
}

/* Of more addresses than there is room for those that were taken stay, in whatever order they are told. */
static void who_is_named_stays(void **state)
{
	struct fixture *fixture = begin(state);
	static char before[8192], after[8192];
	char address[100], why[600] = "";
	const char *const addresses[] = { address };

	before[0] = after[0] = '\0';
	snprintf(fixture->daemons[0].bound, sizeof(fixture->daemons[0].bound), "grpc://0.0.0.0:0");
	start(&fixture->daemons[0], fixture->ring);
	snprintf(address, sizeof(address), "dns://builders.test:%s", port_of(&fixture->daemons[0]));
	names_set(EXECUTORS_SOURCE_ADDRESSES_MAX + 5, false);
	names.turning = true;            /* nobody looks anything up yet */
	assert_int_equal(create(fixture, addresses, 1, resolve, why, sizeof(why)), 0);
	DAEMON_UNTIL(fixture, count(fixture) == EXECUTORS_SOURCE_ADDRESSES_MAX);
	executors_visit(fixture->executors, NULL, put_name, before);
	for (unsigned asked = names_asked(); names_asked() < asked + 6;)
		ring_run(fixture->ring, 1 * MS);
	executors_visit(fixture->executors, NULL, put_name, after);
	assert_string_equal(before, after);
	end(fixture);
	names.turning = false;
}

static void a_group_has_a_name(void **state)
{
	struct fixture *fixture = begin(state);
	char address[100], name[100], why[600] = "";
	const char *const addresses[] = { address };

	start(&fixture->daemons[0], fixture->ring);
	snprintf(address, sizeof(address), "dns://builders.test:%s,name=builders,slots=2", port_of(&fixture->daemons[0]));
	snprintf(name, sizeof(name), "builders/127.0.0.1:%s", port_of(&fixture->daemons[0]));
	names_set(1, false);
	assert_int_equal(create(fixture, addresses, 1, resolve, why, sizeof(why)), 0);
	DAEMON_UNTIL(fixture, ready(fixture, "default", name));
	end(fixture);
}

/* The system's own look-up. */
static void the_system_is_asked(void **state)
{
	struct fixture *fixture = begin(state);
	char address[100], why[600] = "";
	const char *const addresses[] = { address, "dns://nowhere.invalid:1" };

	start(&fixture->daemons[0], fixture->ring);
	snprintf(address, sizeof(address), "dns://localhost:%s", port_of(&fixture->daemons[0]));
	assert_int_equal(create(fixture, addresses, 2, NULL, why, sizeof(why)), 0);
	DAEMON_UNTIL(fixture, ready_count(fixture) >= 1);
	end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(fixed_ones_join),
		BOTH(what_cannot_be_is_said),
		BOTH(over_tls),
		BOTH(keys_are_read_again),
		BOTH(those_of_a_name_come_and_go),
		BOTH(who_is_named_stays),
		BOTH(a_group_has_a_name),
		BOTH(the_system_is_asked),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
