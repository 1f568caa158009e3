/* A proxy that misbehaves on demand. */
#include "tests/unit/link/proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "gateway/base/check.h"

#define PAIRS_MAX    16
#define BUFFER_BYTES 65536

struct half {
	int from, to;
	size_t filled, sent;
	uint8_t data[BUFFER_BYTES];
};

struct pair {
	bool open;
	bool hole;                       /* for good: what was swallowed would be missed */
	struct half halves[2];
	uint64_t left;                   /* bytes until it is cut */
};

static uint64_t roll(struct proxy *proxy, uint64_t below)
{
	proxy->dice = proxy->dice * 6364136223846793005ull + 1442695040888963407ull;
	return (proxy->dice >> 33) % below;
}

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static void pair_close(struct pair *pair)
{
	/* As a router that forgets: what is under way is gone. */
	struct linger reset = { .l_onoff = 1 };

	for (int i = 0; i < 2; i++) {
		setsockopt(pair->halves[i].from, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(pair->halves[i].from);
	}
	pair->open = false;
}

/* Its first bytes have HTTP/2's preface and no HEADERS. */
static bool asks_nothing(int client)
{
	uint8_t data[1024];
	ssize_t size = recv(client, data, sizeof(data), MSG_PEEK);

	for (ssize_t at = 24; at + 9 <= size; at += 9 + (data[at] << 16 | data[at + 1] << 8 | data[at + 2]))
		if (data[at + 3] == 1)
			return false;
	return true;
}

static bool greet_curtly(int client)
{
	static const uint8_t words[] = {
		0, 0, 0, 4, 0, 0, 0, 0, 0,       /* SETTINGS */
		0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,       /* GOAWAY: no stream was looked at, no error */
	};

	return asks_nothing(client) && send(client, words, sizeof(words), MSG_NOSIGNAL) > 0;
}

static void pair_open(struct proxy *proxy, struct pair *pair, int client)
{
	struct sockaddr_in target = loopback(proxy->target);
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	uint64_t bytes = proxy->cut_bytes;

	atomic_fetch_add(&proxy->opened, 1);
	if (connect(server, (struct sockaddr *)&target, sizeof(target)) < 0) {
		close(server);
		close(client);
		return;
	}
	for (int i = 0; i < 2; i++) {
		int fd = i ? server : client;

		fcntl(fd, F_SETFL, O_NONBLOCK);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		pair->halves[i] = (struct half){ .from = fd, .to = i ? client : server };
	}
	pair->left = bytes ? bytes / 2 + roll(proxy, bytes) : UINT64_MAX;
	pair->open = true;
	pair->hole = proxy->mode == PROXY_CURT && greet_curtly(client);
}

/* False: the connection has ended. */
static bool half_move(struct proxy *proxy, struct pair *pair, struct half *half)
{
	ssize_t n;

	if (half->filled == half->sent) {
		n = recv(half->from, half->data, sizeof(half->data), MSG_DONTWAIT);
		if (n <= 0)
			return n < 0;
		half->filled = (size_t)n;
		half->sent = 0;
		pair->hole |= proxy->mode == PROXY_HOLE;
		if (pair->hole)
			half->filled = 0;
	}
	n = half->filled > half->sent ? send(half->to, half->data + half->sent, half->filled - half->sent,
	                                     MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	if (n <= 0)
		return true;
	half->sent += (size_t)n;
	if (proxy->cuts < proxy->cuts_wanted)
		pair->left = pair->left > (uint64_t)n ? pair->left - (uint64_t)n : 0;
	return true;
}

static void serve(struct proxy *proxy, struct pair *pair)
{
	bool ok = half_move(proxy, pair, &pair->halves[0]) && half_move(proxy, pair, &pair->halves[1]);

	if (pair->left == 0 && proxy->cuts < proxy->cuts_wanted) {
		atomic_fetch_add(&proxy->cuts, 1);
		ok = false;
	}
	if (!ok || proxy->mode == PROXY_SHUT)
		pair_close(pair);
}

static void take(struct proxy *proxy, struct pair *pairs)
{
	int client = accept(proxy->listener, NULL, NULL);

	if (client < 0)
		return;
	for (int i = 0; i < PAIRS_MAX && proxy->mode != PROXY_SHUT; i++)
		if (!pairs[i].open) {
			pair_open(proxy, &pairs[i], client);
			return;
		}
	close(client);
}

static void *run(void *argument)
{
	struct proxy *proxy = argument;
	struct pair *pairs = calloc(PAIRS_MAX, sizeof(*pairs));

	while (!proxy->stop) {
		struct pollfd polls[2 + 2 * PAIRS_MAX] = {
			{ .fd = proxy->listener, .events = POLLIN }, { .fd = proxy->wake[0], .events = POLLIN },
		};
		bool stalls = proxy->mode == PROXY_STALL;
		char byte[16];

		for (int i = 0; i < 2 * PAIRS_MAX; i++) {
			const struct half *half = &pairs[i / 2].halves[i % 2], *other = &pairs[i / 2].halves[1 - i % 2];

			polls[2 + i] = (struct pollfd){ .fd = pairs[i / 2].open && !stalls ? half->from : -1 };
			if (half->filled == half->sent)
				polls[2 + i].events |= POLLIN;
			if (other->filled != other->sent)
				polls[2 + i].events |= POLLOUT;
		}
		poll(polls, 2 + 2 * PAIRS_MAX, -1);
		if (polls[1].revents)
			(void)!read(proxy->wake[0], byte, sizeof(byte));
		if (polls[0].revents)
			take(proxy, pairs);
		for (int i = 0; i < PAIRS_MAX; i++)
			if (pairs[i].open && !stalls)
				serve(proxy, &pairs[i]);
	}
	for (int i = 0; i < PAIRS_MAX; i++)
		if (pairs[i].open)
			pair_close(&pairs[i]);
	free(pairs);
	return NULL;
}

void proxy_start(struct proxy *proxy, uint16_t target, uint64_t seed)
{
	struct sockaddr_in address = loopback(0);
	socklen_t size = sizeof(address);

	*proxy = (struct proxy){ .target = target, .dice = seed };
	proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(proxy->listener >= 0);
	CHECK(bind(proxy->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(proxy->listener, 64) == 0);
	CHECK(getsockname(proxy->listener, (struct sockaddr *)&address, &size) == 0);
	proxy->port = ntohs(address.sin_port);
	CHECK(pipe2(proxy->wake, O_CLOEXEC) == 0);
	CHECK(pthread_create(&proxy->thread, NULL, run, proxy) == 0);
}

void proxy_set(struct proxy *proxy, enum proxy_mode mode)
{
	proxy->mode = mode;
	CHECK(write(proxy->wake[1], "", 1) == 1);
}

void proxy_stop(struct proxy *proxy)
{
	proxy->stop = true;
	CHECK(write(proxy->wake[1], "", 1) == 1);
	CHECK(pthread_join(proxy->thread, NULL) == 0);
	close(proxy->listener);
	close(proxy->wake[0]);
	close(proxy->wake[1]);
}
