/*
 * What does a byte cost that rides a link? A client writes into a channel, a gateway reads from its end of it and throws it
 * away; each is a process of its own, on loopback. Printed: CPU seconds a GB of either, and the rate. The users' own writes and
 * reads of the socketpairs are in it.
 *
 *	carry [io_uring|epoll]
 */
#include "gateway/link/link.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/link/link_service.h"
#include "gateway/net/certificate.h"
#include "proto/sluice_v1.h"

enum {
	PIECE_BYTES = 128 << 10,         /* as a conn sends */
};

static const uint64_t total_bytes = 4ull << 30;

static enum ring_engine engine = RING_ENGINE_AUTO;
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
	struct certificate_request request = { .days = 1, .common_name = "gateway", .names = names, .server = true };
	char ca[PATH_MAX], dir[PATH_MAX], why[256];

	CHECK(mkdtemp(directory));
	snprintf(ca, sizeof(ca), "%s/ca", directory);
	snprintf(dir, sizeof(dir), "%s/server", directory);
	CHECK(certificate_make_ca(ca, "perf", 1, why, sizeof(why)) == 0);
	request.ca_dir = ca;
	request.dir = dir;
	CHECK(certificate_issue(&request, why, sizeof(why)) == 0);
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
	       ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
}

static double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- the gateway ---- */

struct gateway {
	struct ring *ring;
	struct server *server;
	struct link_service *service;
	struct op recv;
	int fd;
	uint64_t received;
	bool ended;
};

static enum grpc_status identify(void *context, const struct server_request *request, struct tenant_identity *identity,
                                 char *why, size_t why_size)
{
	(void)context, (void)request, (void)why, (void)why_size;
	*identity = (struct tenant_identity){ .tenant = "perf", .rights = SCOPE_ALL };
	return GRPC_OK;
}

static void on_recv(struct op *op, int32_t res)
{
	struct gateway *gateway = container_of(op, struct gateway, recv);

	if (res <= 0)
		gateway->ended = true;
	else
		gateway->received += (uint64_t)res;
}

static int adopt(void *context, int fd, const struct conn_peer *peer)
{
	struct gateway *gateway = context;

	(void)peer;
	gateway->fd = fd;
	gateway->recv.fn = on_recv;
	ring_recv(gateway->ring, &gateway->recv, fd);
	return 0;
}

static int carry(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return link_service_start(((struct gateway *)context)->service, request, why, why_size);
}

/* In a process of its own; the port goes to the parent, the CPU time at the end. */
static void gateway_run(bool tls, int report)
{
	static const struct server_method methods[] = { { SLUICE_LINK_CARRY, carry }, { NULL, NULL } };
	static struct gateway gateway;
	struct ring_config ring = { .engine = engine };
	struct server_config server = { .methods = methods, .context = &gateway };
	struct tls_config keys = {
		.server = true, .certificate_path = key_path("server", "cert.pem"), .key_path = key_path("server", "key.pem"),
	};
	struct tls_context *context = NULL;
	struct address address;
	char bound[300] = "", why[256];
	double cpu;

	CHECK(ring_create(&gateway.ring, &ring) == 0);
	CHECK(!tls || tls_context_create(&context, &keys, why, sizeof(why)) == 0);
	CHECK(link_service_create(&gateway.service, &(struct link_service_config){
		.ring = gateway.ring, .identify = identify, .adopt = adopt, .context = &gateway }) == 0);
	CHECK(server_create(&gateway.server, gateway.ring, &server) == 0);
	CHECK(address_parse(&address, tls ? "grpcs://127.0.0.1:0" : "grpc://127.0.0.1:0", why, sizeof(why)));
	CHECK(server_listen(gateway.server, &address, context, bound, sizeof(bound), why, sizeof(why)) == 0);
	CHECK(write(report, bound, sizeof(bound)) == sizeof(bound));
	cpu = cpu_seconds();
	while (!gateway.ended)
		ring_run(gateway.ring, UINT64_MAX);
	CHECK(gateway.received == total_bytes);
	cpu = cpu_seconds() - cpu;
	CHECK(write(report, &cpu, sizeof(cpu)) == sizeof(cpu));
	close(gateway.fd);
	while (!link_service_idle(gateway.service))
		ring_run(gateway.ring, UINT64_MAX);
	_exit(0);
}

/* ---- the client ---- */

struct client {
	struct ring *ring;
	struct op send, recv;
	int fd;
	uint64_t sent;
	bool ended;
	uint8_t piece[PIECE_BYTES];
};

static void on_send(struct op *op, int32_t res)
{
	struct client *client = container_of(op, struct client, send);

	CHECK(res == PIECE_BYTES);
	client->sent += PIECE_BYTES;
	if (client->sent < total_bytes)
		ring_send(client->ring, op, client->fd, span_make(client->piece, PIECE_BYTES));
	else
		shutdown(client->fd, SHUT_WR);
}

static void on_end(struct op *op, int32_t res)
{
	CHECK(res <= 0);
	container_of(op, struct client, recv)->ended = true;
}

static void on_closed(struct link *link)
{
	*(bool *)link_owner(link) = true;
}

static void client_run(bool tls, unsigned conns, int report)
{
	static const struct link_events events = { .on_closed = on_closed };
	static struct client client;
	bool closed = false;
	struct tls_config keys = { .ca_path = key_path("ca", "ca.pem") };
	struct ring_config ring = { .engine = engine };
	struct link_config config = { .events = &events, .conns = conns, .conns_at_once = true, .owner = &closed };
	struct tls_context *context = NULL;
	char bound[300], why[256];
	struct link *link;
	double cpu, gateway_cpu, begun, gb = (double)total_bytes / 1e9;

	CHECK(read(report, bound, sizeof(bound)) == sizeof(bound));
	CHECK(ring_create(&client.ring, &ring) == 0);
	CHECK(!tls || tls_context_create(&context, &keys, why, sizeof(why)) == 0);
	CHECK(address_parse(&config.address, bound, why, sizeof(why)));
	config.tls = context;
	client = (struct client){ .ring = client.ring, .send.fn = on_send, .recv.fn = on_end };
	CHECK(link_open(&link, client.ring, &config, why, sizeof(why)) == 0);
	client.fd = link_channel_open(link);
	CHECK(client.fd >= 0);
	begun = now_seconds();
	cpu = cpu_seconds();
	ring_recv(client.ring, &client.recv, client.fd);
	ring_send(client.ring, &client.send, client.fd, span_make(client.piece, PIECE_BYTES));
	while (!client.ended)
		ring_run(client.ring, UINT64_MAX);
	cpu = cpu_seconds() - cpu;
	begun = now_seconds() - begun;
	link_close(link);
	while (!closed)
		ring_run(client.ring, UINT64_MAX);
	CHECK(read(report, &gateway_cpu, sizeof(gateway_cpu)) == sizeof(gateway_cpu));
	printf("%-5s conns %u: client %.3f CPU s/GB, gateway %.3f CPU s/GB, %.0f MB/s\n", tls ? "TLS" : "plain", conns,
	       cpu / gb, gateway_cpu / gb, gb * 1000 / begun);
	fflush(stdout);
	_exit(0);
}

static void measure(bool tls, unsigned conns)
{
	int report[2], status;
	pid_t gateway, client;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, report) == 0);
	gateway = fork();
	CHECK(gateway >= 0);
	if (gateway == 0)
		gateway_run(tls, report[0]);
	client = fork();
	CHECK(client >= 0);
	if (client == 0)
		client_run(tls, conns, report[1]);
	CHECK(waitpid(client, &status, 0) == client && status == 0);
	CHECK(waitpid(gateway, &status, 0) == gateway && status == 0);
	close(report[0]);
	close(report[1]);
}

int main(int argc, char **argv)
{
	char command[PATH_MAX + 16];

	log_setup(STDERR_FILENO, LOG_WARNING, false);
	if (argc > 1)
		engine = strcmp(argv[1], "epoll") == 0 ? RING_ENGINE_EPOLL : RING_ENGINE_URING;
	make_keys();
	measure(false, 1);
	measure(true, 1);
	measure(true, 4);
	snprintf(command, sizeof(command), "rm -r '%s'", directory);
	return system(command) != 0;
}
