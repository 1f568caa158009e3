/*
 * What does an idle connection cost the server? 100 connections to warm up, then 1,000 more, each with one call made and
 * answered, of a few bytes or ("used") of 256 KiB each way. The server is a process of its own, on the io_uring engine
 * (epoll where that is refused). Printed for one connection: what malloc gave out, and the growth of RssAnon, which has
 * malloc's waste in it too. The kernel's share (about 3.6 KiB: socket, inode, file) is in neither. The target is for a
 * connection that was opened and hardly used; a used one has touched all of nghttp2's frame buffer (16 KiB), and its
 * messages leave holes in the heap, more or less of them.
 *
 *	idle [io_uring|epoll]
 */
#include "gateway/net/certificate.h"
#include "gateway/net/server.h"

#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/log.h"

enum {
	WARM_UP = 100,
	CONNECTIONS = 1000,
	OPENING_MAX = 32,                /* connections that shake hands at once */
	TARGET_KIB = 48,
	LARGE_BYTES = 256 << 10,
	MESSAGE_MAX = LARGE_BYTES,
};

struct kind {
	const char *name;
	bool tls, client_certificate, used;
};

struct measure {
	uint64_t connections, streams, heap_bytes, rss_bytes;
};

static enum ring_engine engine = RING_ENGINE_AUTO;
static uint8_t large[LARGE_BYTES];
static char directory[] = "/tmp/sluice-perf-XXXXXX";

static const char *key_path(const char *who, const char *file)
{
	static char paths[8][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, PATH_MAX, "%s/%s/%s", directory, who, file);
	return path;
}

static void make_keys(void)
{
	static const char *const names[] = { "127.0.0.1", NULL };
	struct certificate_request request = { .days = 1 };
	char why[256];

	CHECK(mkdtemp(directory));
	CHECK(certificate_make_ca(key_path("ca", ""), "perf", 1, why, sizeof(why)) == 0);
	request.ca_dir = key_path("ca", "");
	request.dir = key_path("server", "");
	request.common_name = "server";
	request.names = names;
	request.server = true;
	CHECK(certificate_issue(&request, why, sizeof(why)) == 0);
	request.dir = key_path("client", "");
	request.common_name = "ci";
	request.organisation = "acme";
	request.names = NULL;
	request.server = false;
	request.client = true;
	CHECK(certificate_issue(&request, why, sizeof(why)) == 0);
}

static void remove_keys(void)
{
	static const char *const who[] = { "ca", "server", "client" };
	static const char *const files[] = { "ca.pem", "ca-key.pem", "cert.pem", "key.pem", "" };

	for (size_t i = 0; i < sizeof(who) / sizeof(who[0]); i++)
		for (size_t j = 0; j < sizeof(files) / sizeof(files[0]); j++)
			(void)remove(key_path(who[i], files[j]));
	(void)rmdir(directory);
}

/* ---- the server ---- */

static void ignore_message(struct call *call, struct span message)
{
}

/* A large question wants a large answer. */
static void on_question(struct call *call, struct span message)
{
	call->owner = message.size == sizeof(large) ? large : NULL;
}

static void answer(struct call *call)
{
	call_send(call, call->owner ? span_make(large, sizeof(large)) : span_text("yes"), 0);
	call_finish(call, GRPC_OK, NULL);
}

static void free_call(struct call *call, enum grpc_status status, struct span message)
{
	call_fini(call);
	free(call);
}

static const struct call_events server_events = {
	.on_message = on_question, .on_end = answer, .on_closed = free_call,
};

static int start_call(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct call *call = calloc(1, sizeof(*call));

	CHECK(call);
	call_accept(call, request->stream, request->head, MESSAGE_MAX, &server_events, NULL);
	return 0;
}

static uint64_t rss_bytes(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[256];

	CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "RssAnon: %lu kB", &kib) == 1)
			break;
	fclose(file);
	return (uint64_t)kib << 10;
}

static struct {
	struct server *server;
	struct op asked;
	bool done;
	int fd;
} daemon_state;

/* A byte: tell what is used now. The end: stop. */
static void on_asked(struct op *op, int32_t res)
{
	struct mallinfo2 heap = mallinfo2();
	struct server_status status;
	struct measure measure;
	char byte;

	if (read(daemon_state.fd, &byte, 1) != 1) {
		daemon_state.done = true;
		return;
	}
	server_status(daemon_state.server, &status);
	measure = (struct measure){ status.connections, status.streams, heap.uordblks + heap.hblkhd, rss_bytes() };
	CHECK(write(daemon_state.fd, &measure, sizeof(measure)) == sizeof(measure));
}

static void serve(int fd, const struct kind *kind)
{
	static const struct server_method methods[] = { { "/perf.Idle/Once", start_call }, { 0 } };
	struct server_config config = { .methods = methods, .connections_max = WARM_UP + CONNECTIONS };
	struct ring_config ring_config = { .engine = engine, .sockets_max = 2048 };
	struct tls_config tls_config = {
		.server = true, .certificate_path = key_path("server", "cert.pem"), .key_path = key_path("server", "key.pem"),
		.ca_path = kind->client_certificate ? key_path("ca", "ca.pem") : NULL,
		.require_client_certificate = kind->client_certificate,
	};
	char bound[ADDRESS_TEXT_MAX] = "", why[256];
	struct tls_context *context = NULL;
	struct address address;
	struct ring *ring;

	CHECK(ring_create(&ring, &ring_config) == 0);
	CHECK(!kind->tls || tls_context_create(&context, &tls_config, why, sizeof(why)) == 0);
	CHECK(address_parse(&address, kind->tls ? "grpcs://127.0.0.1:0" : "grpc://127.0.0.1:0", why, sizeof(why)));
	CHECK(server_create(&daemon_state.server, ring, &config) == 0);
	CHECK(server_listen(daemon_state.server, &address, context, bound, sizeof(bound), why, sizeof(why)) == 0);
	CHECK(write(fd, bound, sizeof(bound)) == sizeof(bound));
	daemon_state.fd = fd;
	daemon_state.asked.fn = on_asked;
	while (!daemon_state.done) {
		if (!op_in_flight(&daemon_state.asked))
			ring_poll(ring, &daemon_state.asked, fd);
		ring_run(ring, UINT64_MAX);
	}
	_exit(0);
}

/* ---- the clients ---- */

struct peer {
	struct conn *conn;
	struct call call;
};

static unsigned opening, answered;
static bool asking_large;

static void on_closed(struct call *call, enum grpc_status status, struct span message)
{
	CHECK(status == GRPC_OK);
	call_fini(call);
	opening--;
	answered++;
}

static const struct call_events client_events = { .on_message = ignore_message, .on_closed = on_closed };

static void on_conn_ready(struct conn *conn)
{
	struct peer *peer = conn_owner(conn);

	CHECK(call_start(&peer->call, conn_h2(conn), "/perf.Idle/Once", span_text("127.0.0.1"), 0, NULL, 0, MESSAGE_MAX,
	                 &client_events, NULL) == 0);
	call_send(&peer->call, asking_large ? span_make(large, sizeof(large)) : span_text("idle?"), 0);
	call_end(&peer->call);
}

static void on_conn_closed(struct conn *conn, const char *reason)
{
	CHECK(!"a connection that stays");
}

static void connect_all(struct ring *ring, const char *bound, struct tls_context *tls, struct peer *peers,
                        unsigned count)
{
	static const struct conn_events events = { .on_ready = on_conn_ready, .on_closed = on_conn_closed };
	static const struct h2_events no_events = { 0 };
	struct conn_config config = { .h2.events = &no_events, .events = &events };
	struct address address;
	unsigned started = 0;
	char why[256];

	CHECK(address_parse(&address, bound, why, sizeof(why)));
	answered = 0;
	while (answered < count) {
		for (; started < count && opening < OPENING_MAX; started++, opening++) {
			config.owner = &peers[started];
			CHECK(conn_connect(&peers[started].conn, ring, &address, tls, &config, why, sizeof(why)) == 0);
		}
		ring_run(ring, UINT64_MAX);
	}
}

static struct measure ask(int fd, unsigned connections)
{
	struct measure measure;

	do {
		CHECK(write(fd, "?", 1) == 1);
		CHECK(read(fd, &measure, sizeof(measure)) == sizeof(measure));
		CHECK(measure.connections == connections);
	} while (measure.streams);
	return measure;
}

static void connect_and_measure(int fd, const struct kind *kind, struct measure measures[static 2])
{
	struct ring_config ring_config = { .engine = engine };
	struct tls_config tls_config = {
		.ca_path = key_path("ca", "ca.pem"),
		.certificate_path = kind->client_certificate ? key_path("client", "cert.pem") : NULL,
		.key_path = kind->client_certificate ? key_path("client", "key.pem") : NULL,
	};
	struct peer *peers = calloc(WARM_UP + CONNECTIONS, sizeof(*peers));
	char bound[ADDRESS_TEXT_MAX], why[256];
	struct tls_context *context = NULL;
	struct ring *ring;

	CHECK(peers);
	asking_large = kind->used;
	CHECK(read(fd, bound, sizeof(bound)) == sizeof(bound));
	CHECK(ring_create(&ring, &ring_config) == 0);
	CHECK(!kind->tls || tls_context_create(&context, &tls_config, why, sizeof(why)) == 0);
	connect_all(ring, bound, context, peers, WARM_UP);
	measures[0] = ask(fd, WARM_UP);
	connect_all(ring, bound, context, peers + WARM_UP, CONNECTIONS);
	measures[1] = ask(fd, WARM_UP + CONNECTIONS);
}

static double run(const struct kind *kind)
{
	struct measure measures[2];
	int pair[2], status;
	double rss;
	pid_t server;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	server = fork();
	CHECK(server >= 0);
	if (server == 0) {
		close(pair[0]);
		serve(pair[1], kind);
	}
	close(pair[1]);
	connect_and_measure(pair[0], kind, measures);
	shutdown(pair[0], SHUT_WR);
	CHECK(waitpid(server, &status, 0) == server && status == 0);
	close(pair[0]);
	rss = (double)(measures[1].rss_bytes - measures[0].rss_bytes) / CONNECTIONS / 1024;
	printf("%-24s %10.1f %10.1f\n", kind->name,
	       (double)(measures[1].heap_bytes - measures[0].heap_bytes) / CONNECTIONS / 1024, rss);
	return rss;
}

/* In processes of its own, so that a kind leaves nothing to the next. True: the target is met. */
static bool run_apart(const struct kind *kind)
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (child == 0) {
		bool met = run(kind) <= TARGET_KIB;

		fflush(stdout);
		_exit(met ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
	return WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
	static const struct kind kinds[] = {
		{ "plain", false, false, false },
		{ "TLS", true, false, false },
		{ "the next, used", true, true, true },
		{ "TLS, client certificate", true, true, false },
	};
	bool met = false;
	struct rlimit limit;

	if (argc > 1)
		engine = strcmp(argv[1], "epoll") == 0 ? RING_ENGINE_EPOLL : RING_ENGINE_URING;
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	log_setup(STDERR_FILENO, LOG_WARNING, false);
	setvbuf(stdout, NULL, _IOLBF, 0);
	make_keys();
	printf("%-24s %10s %10s\n", "KiB a connection", "malloc", "RssAnon");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		met = run_apart(&kinds[i]);
	remove_keys();
	printf("the last at most %d: %s\n", TARGET_KIB, met ? "yes" : "no");
	return met ? 0 : 1;
}
