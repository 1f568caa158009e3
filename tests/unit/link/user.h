/*
 * user: one end of a channel: writes so many bytes of a pattern, and checks that what comes follows another one. For tests,
 * which look into it.
 */
#pragma once

#include "gateway/ring/ring.h"

#define USER_PIECE_BYTES 200000

struct user {
	struct ring *ring;
	int fd;
	uint8_t seed, expected_seed;
	uint64_t to_send, sent, received;
	bool wrong, ended, broken, closed;
	bool lazy;                       /* does not read */
	size_t piece;
	struct op recv, send;
	uint8_t out[USER_PIECE_BYTES];
};

extern uint64_t user_bytes_moved;        /* to all users */

/* `fd` is the user's from now on. */
struct user *user_create(struct ring *ring, int fd, uint8_t seed, uint8_t expected_seed, uint64_t to_send, bool lazy);
void user_destroy(struct user *user);    /* NULL is accepted */
/* One that was lazy. */
void user_read(struct user *user);
/* So much has come, and its end; and all has been sent. */
bool user_done(const struct user *user, uint64_t received);
