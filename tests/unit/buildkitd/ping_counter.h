/*
 * ping_counter: stands between a client and a server of HTTP/2 on loopback, in a thread, hands on all bytes, and counts the
 * PING frames that the client sends on its own account.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "gateway/net/frame_watch.h"

#define PING_COUNTER_PAIRS_MAX 8

struct ping_counter_pair {
	int client, server;              /* -1: not in use */
	size_t preface_left;
	uint8_t head[FRAME_WATCH_HEAD_BYTES];
	size_t head_size, payload_left;
};

struct ping_counter {
	uint16_t port;                   /* where it listens */
	uint16_t server_port;
	int listener, stop[2];
	pthread_t thread;
	pthread_mutex_t mutex;
	unsigned pings;
	struct ping_counter_pair pairs[PING_COUNTER_PAIRS_MAX];
};

void ping_counter_start(struct ping_counter *counter, uint16_t server_port);
unsigned ping_counter_pings(struct ping_counter *counter);
void ping_counter_stop(struct ping_counter *counter);
