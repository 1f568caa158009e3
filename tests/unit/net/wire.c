/* A blocking socket, and an h2 engine over it. */
#include "tests/unit/net/wire.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/net/address.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define PING    "\0\0\10\6\0\0\0\0\0\1\2\3\4\5\6\7\10"

const struct span wire_preface = { (const uint8_t *)PREFACE, sizeof(PREFACE) - 1 };
const struct span wire_ping = { (const uint8_t *)PING, sizeof(PING) - 1 };

int wire_connect(const char *bound)
{
	struct timeval patience = { .tv_sec = 20 };
	struct sockaddr_storage sockaddr;
	struct address address;
	socklen_t size;
	char why[256];
	int fd;

	assert_true(address_parse(&address, bound, why, sizeof(why)));
	assert_int_equal(address_resolve(&address, false, &sockaddr, &size, why, sizeof(why)), 0);
	fd = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	/* Before a time-out is set, the kernel goes on by itself with a connect that a closing io_uring interrupted. */
	if (connect(fd, (struct sockaddr *)&sockaddr, size) < 0)
		fail_msg("connect to %s: %s", bound, strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return fd;
}

void wire_send(int fd, struct span data)
{
	assert_int_equal(send(fd, data.data, data.size, MSG_NOSIGNAL), data.size);
}

/* Bytes, or 0 at the end or on a reset. */
static size_t receive(int fd, void *data, size_t size)
{
	ssize_t n;

	do {
		n = recv(fd, data, size, 0);
	} while (n < 0 && errno == EINTR);       /* a closing io_uring of this process may interrupt it */
	if (n < 0 && errno != ECONNRESET && errno != EPIPE)
		fail_msg("nothing came for 20 s: %s", strerror(errno));
	return n > 0 ? (size_t)n : 0;
}

size_t wire_drain(int fd)
{
	uint8_t data[4096];
	size_t total = 0, n;

	while ((n = receive(fd, data, sizeof(data))))
		total += n;
	return total;
}

bool wire_closed_within(int fd, int milliseconds)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	uint8_t data[4096];

	while (poll(&readable, 1, milliseconds) > 0)
		if (receive(fd, data, sizeof(data)) == 0)
			return true;
	return false;
}

void wire_reset(int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void copy(char *out, size_t size, struct span text)
{
	snprintf(out, size, "%.*s", (int)text.size, (const char *)text.data);
}

static void on_headers(struct stream *stream, const struct header *headers, size_t count)
{
	struct wire_answer *answer = stream->owner;

	for (size_t i = 0; i < count; i++) {
		if (span_is(headers[i].name, ":status"))
			copy(answer->status, sizeof(answer->status), headers[i].value);
		if (span_is(headers[i].name, "grpc-status"))
			copy(answer->grpc_status, sizeof(answer->grpc_status), headers[i].value);
		if (span_is(headers[i].name, "grpc-message"))
			copy(answer->grpc_message, sizeof(answer->grpc_message), headers[i].value);
		if (span_is(headers[i].name, "grpc-accept-encoding"))
			copy(answer->accept_encoding, sizeof(answer->accept_encoding), headers[i].value);
	}
}

static void on_close(struct stream *stream, uint32_t code)
{
	struct wire_answer *answer = stream->owner;

	answer->ended = true;
}

static const struct stream_events answer_events = {
	.on_headers = on_headers, .on_trailers = on_headers, .on_close = on_close,
};

static const struct h2_events no_events = { 0 };

static void flush(int fd, struct h2 *h2)
{
	struct span out;

	while ((out = h2_output(h2)).size)
		wire_send(fd, out);
}

static struct h2 *open_stream(int fd, const char *method, const char *path, const struct header *headers, size_t count,
                              bool end, struct wire_answer *answer)
{
	struct h2_config config = {
		.events = &no_events, .stream_window_bytes = 64u << 20, .connection_window_bytes = 64u << 20,
	};
	struct h2_request request = {
		.method = span_text(method), .path = span_text(path), .scheme = span_text("http"),
		.authority = span_text("localhost"), .headers = headers, .headers_count = count,
	};
	struct stream *stream;
	struct h2 *h2;

	assert_int_equal(h2_create(&h2, &config), 0);
	assert_int_equal(h2_open(h2, &stream, &request, end, &answer_events, answer), 0);
	answer->stream = stream;
	flush(fd, h2);
	return h2;
}

void wire_request(int fd, const char *method, const char *path, const struct header *headers, size_t count,
                  struct wire_answer *answer)
{
	struct h2 *h2;
	uint8_t data[4096];
	size_t n;

	*answer = (struct wire_answer){ 0 };
	h2 = open_stream(fd, method, path, headers, count, true, answer);
	while (!answer->ended && (n = receive(fd, data, sizeof(data)))) {
		assert_int_equal(h2_feed(h2, span_make(data, n)), 0);
		flush(fd, h2);
	}
	h2_destroy(h2);
}

void wire_open_timed_call(int fd, const char *path, const char *timeout)
{
	const struct header headers[] = {
		{ .name = span_text("content-type"), .value = span_text("application/grpc") },
		{ .name = span_text("te"), .value = span_text("trailers") },
		{ .name = span_text("grpc-timeout"), .value = span_text(timeout ? timeout : "") },
	};
	struct wire_answer answer = { 0 };

	h2_destroy(open_stream(fd, "POST", path, headers, timeout ? 3 : 2, false, &answer));
}

void wire_open_call(int fd, const char *path)
{
	wire_open_timed_call(fd, path, NULL);
}

void wire_open_source(int fd, uint64_t bytes)
{
	uint8_t message[5 + sizeof(bytes)] = { 0, 0, 0, 0, sizeof(bytes) };
	const struct header headers[] = {
		{ .name = span_text("content-type"), .value = span_text("application/grpc") },
		{ .name = span_text("te"), .value = span_text("trailers") },
	};
	struct wire_answer answer = { 0 };
	struct h2 *h2 = open_stream(fd, "POST", "/test.Echo/Source", headers, 2, false, &answer);

	memcpy(message + 5, &bytes, sizeof(bytes));
	assert_int_equal(stream_write(answer.stream, span_make(message, sizeof(message))), sizeof(message));
	flush(fd, h2);
	h2_destroy(h2);
}

unsigned wire_count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}
