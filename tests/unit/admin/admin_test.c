/*
 * Shows the admin port over a real socket: a scrape whose every line is Prometheus text and whose numbers are the
 * published ones, health that goes bad when the loop stops publishing, readiness through start and drain, refusals,
 * an end with connections open, and which addresses stay on this machine. The clock is the test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "gateway/admin/admin.h"
#include "gateway/ring/ring.h"

#define SECOND UINT64_C(1000000000)

static _Atomic uint64_t clock_ns = 100 * SECOND;
static char bound[64];
static unsigned port;

static uint64_t test_now(void)
{
	return clock_ns;
}

static struct admin *start(void)
{
	struct admin_config config = { .address = "127.0.0.1:0", .version = "1.2.3", .engine = "epoll", .now = test_now };
	struct admin *admin;
	char why[256];

	assert_int_equal(admin_create(&admin, &config, bound, sizeof(bound), why, sizeof(why)), 0);
	assert_int_equal(sscanf(bound, "127.0.0.1:%u", &port), 1);
	return admin;
}

static int dial(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static char answer[256 << 10];

/* Leaves the whole answer in `answer`, and returns it. */
static char *ask(const char *request)
{
	size_t size = 0;
	int fd = dial();
	ssize_t n;

	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
	while ((n = recv(fd, answer + size, sizeof(answer) - 1 - size, 0)) > 0)
		size += (size_t)n;
	answer[size] = '\0';
	close(fd);
	return answer;
}

static char *get(const char *path)
{
	char request[256];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
	return ask(request);
}

/* Of what is in `answer`. */
static void assert_status(const char *asked, const char *status)
{
	char got[13] = "";

	memcpy(got, answer, sizeof(got) - 1);
	assert_int_equal(strncmp(got, "HTTP/1.1 ", 9), 0);
	assert_string_equal(got + 9, status);
}

/* "name{labels} number", or a comment of one of two kinds. */
static void assert_metric_line(const char *line, size_t size)
{
	size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyz_0123456789");
	const char *rest = line + name;
	char *end;

	if (*line == '#') {
		assert_true(strncmp(line, "# HELP sluice_", 14) == 0 || strncmp(line, "# TYPE sluice_", 14) == 0);
		return;
	}
	assert_int_equal(strncmp(line, "sluice_", 7), 0);
	if (*rest == '{') {
		rest = strchr(rest, '}');
		assert_true(rest && rest < line + size);
		rest++;
	}
	assert_int_equal(*rest, ' ');
	errno = 0;
	strtod(rest + 1, &end);
	assert_true(errno == 0 && end == line + size);
}

static void scrapes(void **state)
{
	struct admin *admin = start();
	struct counter_values values = { 0 };
	struct ring_counters ring = { .receives = 12345 };
	char *body, *line;

	counters_read(&values, COUNTERS_RING, &ring);
	admin_publish(admin, &values);
	clock_ns += SECOND / 4;
	body = get("/metrics");
	assert_status(body, "200");
	assert_non_null(strstr(body, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	body = strstr(body, "\r\n\r\n") + 4;
	assert_int_equal(body[strlen(body) - 1], '\n');
	for (line = body; *line; line += strcspn(line, "\n") + 1)
		assert_metric_line(line, strcspn(line, "\n"));
	assert_non_null(strstr(body, "\nsluice_ring_receives_total 12345\n"));
	assert_non_null(strstr(body, "\nsluice_info{version=\"1.2.3\",engine=\"epoll\"} 1\n"));
	assert_non_null(strstr(body, "\nsluice_published_age_seconds 0.250\n"));
	admin_destroy(admin);
}

static void tells_health(void **state)
{
	struct admin *admin = start();
	struct counter_values values = { 0 };

	assert_status(get("/healthz"), "200");
	clock_ns += 10 * SECOND;
	assert_status(get("/healthz"), "200");
	clock_ns += 1;
	assert_status(get("/healthz"), "503");
	assert_non_null(strstr(get("/healthz"), "the loop has not come round for 10 s"));
	admin_publish(admin, &values);
	assert_status(get("/healthz"), "200");
	admin_destroy(admin);
}

static void tells_readiness(void **state)
{
	struct admin *admin = start();

	assert_status(get("/readyz"), "503");
	assert_non_null(strstr(get("/readyz"), "\r\n\r\nstarting\n"));
	admin_set_ready(admin, true, NULL);
	assert_status(get("/readyz"), "200");
	assert_non_null(strstr(get("/metrics"), "\nsluice_ready 1\n"));
	admin_set_ready(admin, false, "draining");
	assert_status(get("/readyz"), "503");
	assert_non_null(strstr(get("/readyz"), "\r\n\r\ndraining\n"));
	admin_destroy(admin);
}

static void refuses_what_it_does_not_know(void **state)
{
	struct admin *admin = start();
	size_t size = ADMIN_CONNECTION_BYTES * 2;
	char *long_request = malloc(size + 1);

	assert_status(get("/"), "200");
	assert_status(get("/metrics/"), "404");
	assert_status(get("/etc/passwd"), "404");
	assert_status(ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"), "405");
	assert_status(ask("DELETE /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "405");
	assert_null(strstr(ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "sluice_info"));
	/* A header that does not fit is refused, and nothing else is disturbed. */
	assert_non_null(long_request);
	memset(long_request, 'a', size);
	memcpy(long_request, "GET / HTTP/1.1\r\nX: ", 19);
	long_request[size] = '\0';
	memcpy(long_request + size - 4, "\r\n\r\n", 4);
	assert_true(strncmp(ask(long_request), "HTTP/1.1 200", 12) != 0);
	free(long_request);
	assert_status(get("/healthz"), "200");
	admin_destroy(admin);
}

static void ends_with_connections_open(void **state)
{
	struct admin *admin = start();
	int half = dial(), silent = dial();
	char byte;

	assert_int_equal(send(half, "GET /met", 8, MSG_NOSIGNAL), 8);
	admin_destroy(admin);
	assert_true(recv(half, &byte, 1, 0) <= 0);
	assert_true(recv(silent, &byte, 1, 0) <= 0);
	close(half);
	close(silent);
	/* The address is free again at once. */
	admin = start();
	admin_destroy(admin);
}

static void refuses_bad_addresses(void **state)
{
	static const char *const bad[] = { "127.0.0.1:x", "127.0.0.1:", "[::1", "::1", "a:b:1", "127.0.0.1:123456", "127.0.0.1:65536",
		                           "127.0.0.1:-1", "127.0.0.1:+80", "127.0.0.1:8373/", "grpc://127.0.0.1:1" };
	struct admin_config config = { .version = "", .engine = "", .now = test_now };
	struct admin *admin = start(), *second;
	char where[64], why[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		config.address = bad[i];
		assert_true(admin_create(&second, &config, where, sizeof(where), why, sizeof(why)) < 0);
		assert_non_null(strstr(why, bad[i]));
		assert_non_null(strstr(why, "HOST:PORT"));
	}
	config.address = "no.such.host.invalid:0";
	assert_int_equal(admin_create(&second, &config, where, sizeof(where), why, sizeof(why)), -EADDRNOTAVAIL);
	assert_non_null(strstr(why, "admin address \"no.such.host.invalid:0\": "));
	config.address = bound;
	assert_int_equal(admin_create(&second, &config, where, sizeof(where), why, sizeof(why)), -EADDRINUSE);
	assert_non_null(strstr(why, "in use"));
	config.address = ":0";
	assert_int_equal(admin_create(&second, &config, where, sizeof(where), why, sizeof(why)), 0);
	assert_int_equal(strncmp(where, "127.0.0.1:", 10), 0);
	admin_destroy(second);
	admin_destroy(admin);
	admin_destroy(NULL);
}

static void knows_what_stays_on_this_machine(void **state)
{
	static const char *const here[] = { "127.0.0.1:8373", "127.1.2.3", ":0", ":8373", "localhost", "localhost:1", "[::1]:2", "[::1]",
		                            "[::ffff:127.0.0.1]:3" };
	static const char *const elsewhere[] = { "0.0.0.0:8373", "127.example.org:8373", "[::]:1", "10.0.0.1", "localhost.example:1" };

	for (size_t i = 0; i < sizeof(here) / sizeof(here[0]); i++)
		assert_true(admin_on_loopback(here[i]));
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
		assert_false(admin_on_loopback(elsewhere[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scrapes),
		cmocka_unit_test(tells_health),
		cmocka_unit_test(tells_readiness),
		cmocka_unit_test(refuses_what_it_does_not_know),
		cmocka_unit_test(ends_with_connections_open),
		cmocka_unit_test(refuses_bad_addresses),
		cmocka_unit_test(knows_what_stays_on_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
