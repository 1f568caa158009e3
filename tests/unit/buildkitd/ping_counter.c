/* A relay that reads frame headers. */
#include "tests/unit/buildkitd/ping_counter.h"

#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>
#include <sys/socket.h>
#include "gateway/base/check.h"

#define TYPE_PING 6
#define FLAG_ACK  1

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static void look(struct ping_counter *counter, struct ping_counter_pair *pair, uint8_t byte)
{
	if (pair->preface_left) {
		pair->preface_left--;
		return;
	}
	if (pair->payload_left) {
		pair->payload_left--;
		return;
	}
	pair->head[pair->head_size++] = byte;
	if (pair->head_size < FRAME_WATCH_HEAD_BYTES)
		return;
	pair->head_size = 0;
	pair->payload_left = (size_t)pair->head[0] << 16 | (size_t)pair->head[1] << 8 | pair->head[2];
	if (pair->head[3] != TYPE_PING || pair->head[4] & FLAG_ACK)
		return;
	pthread_mutex_lock(&counter->mutex);
	counter->pings++;
	pthread_mutex_unlock(&counter->mutex);
}

static void pair_close(struct ping_counter_pair *pair)
{
	close(pair->client);
	close(pair->server);
	*pair = (struct ping_counter_pair){ .client = -1, .server = -1 };
}

/* False: one of the ends has gone. */
static bool carry(struct ping_counter *counter, struct ping_counter_pair *pair, int from, int to)
{
	uint8_t bytes[4096];
	ssize_t size = read(from, bytes, sizeof(bytes));

	for (ssize_t i = 0; i < size && from == pair->client; i++)
		look(counter, pair, bytes[i]);
	for (ssize_t done = 0; done < size;) {
		ssize_t n = send(to, bytes + done, (size_t)(size - done), MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		done += n;
	}
	return size > 0;
}

static void accept_one(struct ping_counter *counter)
{
	struct sockaddr_in address = loopback(counter->server_port);
	int client = accept(counter->listener, NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(client >= 0);
	CHECK(server >= 0);
	for (unsigned i = 0; i < PING_COUNTER_PAIRS_MAX; i++) {
		struct ping_counter_pair *pair = &counter->pairs[i];

		if (pair->client >= 0 || connect(server, (struct sockaddr *)&address, sizeof(address)) < 0)
			continue;
		*pair = (struct ping_counter_pair){ .client = client, .server = server,
			                            .preface_left = FRAME_WATCH_PREFACE_BYTES };
		return;
	}
	close(client);
	close(server);
}

static void *run(void *context)
{
	struct ping_counter *counter = context;
	struct pollfd polls[2 + 2 * PING_COUNTER_PAIRS_MAX];

	for (;;) {
		polls[0] = (struct pollfd){ .fd = counter->stop[0], .events = POLLIN };
		polls[1] = (struct pollfd){ .fd = counter->listener, .events = POLLIN };
		for (unsigned i = 0; i < PING_COUNTER_PAIRS_MAX; i++) {
			polls[2 + 2 * i] = (struct pollfd){ .fd = counter->pairs[i].client, .events = POLLIN };
			polls[3 + 2 * i] = (struct pollfd){ .fd = counter->pairs[i].server, .events = POLLIN };
		}
		CHECK(poll(polls, 2 + 2 * PING_COUNTER_PAIRS_MAX, -1) > 0);
		if (polls[0].revents)
			return NULL;
		for (unsigned i = 0; i < PING_COUNTER_PAIRS_MAX; i++) {
			struct ping_counter_pair *pair = &counter->pairs[i];

			if (pair->client < 0)
				continue;
			if ((polls[2 + 2 * i].revents && !carry(counter, pair, pair->client, pair->server)) ||
			    (polls[3 + 2 * i].revents && !carry(counter, pair, pair->server, pair->client)))
				pair_close(pair);
		}
		if (polls[1].revents)
			accept_one(counter);
	}
}

void ping_counter_start(struct ping_counter *counter, uint16_t server_port)
{
	struct sockaddr_in address = loopback(0);
	socklen_t size = sizeof(address);

	*counter = (struct ping_counter){ .server_port = server_port };
	for (unsigned i = 0; i < PING_COUNTER_PAIRS_MAX; i++)
		counter->pairs[i] = (struct ping_counter_pair){ .client = -1, .server = -1 };
	counter->listener = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind(counter->listener, (struct sockaddr *)&address, size) == 0);
	CHECK(listen(counter->listener, 8) == 0);
	CHECK(getsockname(counter->listener, (struct sockaddr *)&address, &size) == 0);
	counter->port = ntohs(address.sin_port);
	CHECK(pipe(counter->stop) == 0);
	pthread_mutex_init(&counter->mutex, NULL);
	CHECK(pthread_create(&counter->thread, NULL, run, counter) == 0);
}

unsigned ping_counter_pings(struct ping_counter *counter)
{
	unsigned pings;

	pthread_mutex_lock(&counter->mutex);
	pings = counter->pings;
	pthread_mutex_unlock(&counter->mutex);
	return pings;
}

void ping_counter_stop(struct ping_counter *counter)
{
	CHECK(write(counter->stop[1], "", 1) == 1);
	pthread_join(counter->thread, NULL);
	for (unsigned i = 0; i < PING_COUNTER_PAIRS_MAX; i++)
		if (counter->pairs[i].client >= 0)
			pair_close(&counter->pairs[i]);
	close(counter->listener);
	close(counter->stop[0]);
	close(counter->stop[1]);
	pthread_mutex_destroy(&counter->mutex);
}
