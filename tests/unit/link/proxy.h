/*
 * proxy: stands between a client and a server on loopback, in a thread of its own, and does to their connections what networks
 * do: cuts them after so many bytes, swallows everything, takes nothing for a while, lets nobody through, takes no calls.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum proxy_mode {
	PROXY_PASS,
	PROXY_HOLE,                      /* what is there and what comes delivers nothing any more, and stays open */
	PROXY_STALL,                     /* takes nothing from anybody */
	PROXY_SHUT,                      /* cuts what is there, and what comes */
	PROXY_CURT,                      /* who asks for nothing at once is greeted by HTTP/2's GOAWAY, and heard no more */
};

struct proxy {
	pthread_t thread;
	int listener, wake[2];
	uint16_t port;
	_Atomic uint16_t target;
	_Atomic(enum proxy_mode) mode;
	atomic_uint cuts;                /* done */
	atomic_uint cuts_wanted;         /* then it cuts no more */
	atomic_uint opened;              /* connections so far */
	_Atomic uint64_t cut_bytes;      /* about so many pass before a cut; half to one and a half times */
	atomic_bool stop;
	uint64_t dice;
};

/* Listens on a port of 127.0.0.1 and connects to `target` for each connection. */
void proxy_start(struct proxy *proxy, uint16_t target, uint64_t seed);
void proxy_set(struct proxy *proxy, enum proxy_mode mode);
void proxy_stop(struct proxy *proxy);
