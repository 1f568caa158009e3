/* selftest: each on a ring of its own, so that a feature that misbehaves cannot harm the one in use. */
#include "gateway/ring/selftest.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/ring/uring_compat.h"

enum {
	ENTRIES = 8,
	BUFFERS = 8,
	BUFFER_BYTES = 4096,
	GROUP = 0,
	PATIENCE_NS = 500000000,         /* for what should take microseconds */
};

struct trial {
	struct io_uring ring;
	bool ring_up;
	struct io_uring_buf_ring *shared;
	uint8_t *memory;
	int a, b;                        /* a pair of connected sockets */
};

static int trial_init(struct trial *trial)
{
	int pair[2], r;

	*trial = (struct trial){ .a = -1, .b = -1 };
	r = io_uring_queue_init(ENTRIES, &trial->ring, SELFTEST_RING_FLAGS);
	if (r < 0)
		return r;
	trial->ring_up = true;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	trial->a = pair[0];
	trial->b = pair[1];
	return 0;
}

static void trial_fini(struct trial *trial)
{
	if (trial->shared)
		compat_buf_ring_free(&trial->ring, trial->shared, BUFFERS, GROUP);
	if (trial->ring_up)
		io_uring_queue_exit(&trial->ring);
	free(trial->memory);
	fd_closep(&trial->a);
	fd_closep(&trial->b);
}

static int trial_buffers(struct trial *trial, unsigned flags)
{
	int r = 0;

	trial->memory = calloc(BUFFERS, BUFFER_BYTES);
	if (!trial->memory)
		return -ENOMEM;
	trial->shared = compat_buf_ring_setup(&trial->ring, BUFFERS, GROUP, flags, &r);
	if (!trial->shared)
		return r;
	for (int i = 0; i < BUFFERS; i++)
		io_uring_buf_ring_add(trial->shared, trial->memory + i * BUFFER_BYTES, BUFFER_BYTES, (unsigned short)i,
		                      BUFFERS - 1, i);
	io_uring_buf_ring_advance(trial->shared, BUFFERS);
	return 0;
}

static int trial_next(struct trial *trial, struct io_uring_cqe *out)
{
	struct __kernel_timespec patience = { .tv_nsec = PATIENCE_NS };
	struct io_uring_cqe *cqe;
	int r;

	r = io_uring_submit_and_wait_timeout(&trial->ring, &cqe, 1, &patience, NULL);
	if (r < 0)
		return r;
	if (io_uring_peek_cqe(&trial->ring, &cqe) < 0)
		return -ETIME;
	*out = *cqe;
	io_uring_cqe_seen(&trial->ring, cqe);
	return out->res < 0 ? out->res : 0;
}

static int trial_receive(struct trial *trial, unsigned ioprio)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&trial->ring);

	if (!sqe)
		return -EBADMSG;
	io_uring_prep_recv_multishot(sqe, trial->a, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	sqe->ioprio |= (__u16)ioprio;
	return 0;
}

/*
 * Sends `size` bytes of a pattern and expects them from buffer `*next` on, in the ring's order, in as many completions
 * as the kernel likes; each begins a buffer. `*spanned` is set when one covered several.
 */
static int trial_pattern(struct trial *trial, size_t size, unsigned *next, bool *spanned)
{
	CLEANUP(free_p) uint8_t *data = malloc(size);
	struct io_uring_cqe cqe;
	size_t got = 0;
	int r = 0;

	if (!data)
		return -ENOMEM;
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(i * 31 + *next);
	if (send(trial->b, data, size, MSG_NOSIGNAL) != (ssize_t)size)
		return -EBADMSG;
	while (got < size && (r = trial_next(trial, &cqe)) == 0) {
		if (cqe.res == 0 || (size_t)cqe.res > size - got || !(cqe.flags & IORING_CQE_F_BUFFER) ||
		    !(cqe.flags & IORING_CQE_F_MORE) || cqe.flags >> IORING_CQE_BUFFER_SHIFT != *next ||
		    memcmp(trial->memory + *next * BUFFER_BYTES, data + got, (size_t)cqe.res) != 0)
			return -EBADMSG;
		got += (size_t)cqe.res;
		*next += ((unsigned)cqe.res + BUFFER_BYTES - 1) / BUFFER_BYTES;
		*spanned |= cqe.res > BUFFER_BYTES;
	}
	return r;
}

int selftest_setup(void)
{
	struct io_uring ring;
	int r = io_uring_queue_init(ENTRIES, &ring, 0);

	if (r == 0)
		io_uring_queue_exit(&ring);
	return r;
}

int selftest_ring(void)
{
	const unsigned wanted = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
	struct io_uring ring;
	int r = io_uring_queue_init(ENTRIES, &ring, SELFTEST_RING_FLAGS);

	if (r < 0)
		return r;
	r = (ring.features & wanted) == wanted ? 0 : -ENOSYS;
	io_uring_queue_exit(&ring);
	return r;
}

int selftest_multishot_receive(void)
{
	struct trial trial;
	unsigned next = 0;
	bool spanned = false;
	int r = trial_init(&trial);

	if (r == 0)
		r = trial_buffers(&trial, 0);
	if (r == 0)
		r = trial_receive(&trial, 0);
	for (int i = 0; r == 0 && i < 3; i++)
		r = trial_pattern(&trial, 100, &next, &spanned);
	trial_fini(&trial);
	return r;
}

/* Twice, so that the second begins where the first ended. */
int selftest_bundle(void)
{
	struct trial trial;
	unsigned next = 0;
	bool spanned = false;
	int r = trial_init(&trial);

	if (r == 0 && !(trial.ring.features & IORING_FEAT_RECVSEND_BUNDLE))
		r = -ENOSYS;
	if (r == 0)
		r = trial_buffers(&trial, 0);
	if (r == 0)
		r = trial_receive(&trial, IORING_RECVSEND_BUNDLE);
	if (r == 0)
		r = trial_pattern(&trial, 2 * BUFFER_BYTES + 1000, &next, &spanned);
	if (r == 0)
		r = trial_pattern(&trial, 2 * BUFFER_BYTES, &next, &spanned);
	if (r == 0 && !spanned)
		r = -EBADMSG;
	trial_fini(&trial);
	return r;
}

/* The second message goes on in the first buffer. */
int selftest_incremental(void)
{
	struct trial trial;
	struct io_uring_cqe cqe = { 0 };
	int r = trial_init(&trial);

	if (r == 0)
		r = trial_buffers(&trial, COMPAT_PBUF_RING_INC);
	if (r == 0)
		r = trial_receive(&trial, 0);
	for (int i = 0; r == 0 && i < 2; i++) {
		r = send(trial.b, "incremental", 11, MSG_NOSIGNAL) == 11 ? trial_next(&trial, &cqe) : -EBADMSG;
		if (r == 0 && !(cqe.flags & IORING_CQE_F_BUF_MORE))
			r = -EBADMSG;
	}
	if (r == 0 && memcmp(trial.memory, "incrementalincremental", 22) != 0)
		r = -EBADMSG;
	trial_fini(&trial);
	return r;
}

/* A listener on an abstract address that the kernel picks, and `count` connections to it, not accepted yet. */
static int listen_and_connect(int *listener, int *clients, unsigned count)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(address);

	*listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*listener < 0 || bind(*listener, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 ||
	    listen(*listener, (int)count) < 0 || getsockname(*listener, (struct sockaddr *)&address, &size) < 0)
		return -errno;
	for (unsigned i = 0; i < count; i++) {
		clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (clients[i] < 0 || connect(clients[i], (struct sockaddr *)&address, size) < 0)
			return -errno;
	}
	return 0;
}

int selftest_multishot_accept(void)
{
	CLEANUP(fd_closep) int listener = -1;
	int clients[2] = { -1, -1 };
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;
	struct trial trial;
	int r = trial_init(&trial);

	if (r == 0)
		r = listen_and_connect(&listener, clients, 2);
	if (r == 0) {
		sqe = io_uring_get_sqe(&trial.ring);
		io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
	}
	for (int i = 0; r == 0 && i < 2; i++) {
		r = trial_next(&trial, &cqe);
		if (r < 0)
			break;
		close(cqe.res);
		r = cqe.flags & IORING_CQE_F_MORE ? 0 : -EBADMSG;
	}
	fd_closep(&clients[0]);
	fd_closep(&clients[1]);
	trial_fini(&trial);
	return r;
}

/* A byte received by the direct descriptor that accept made; then the slot is closed. */
static int try_direct(struct trial *trial, int listener, int client)
{
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;
	char byte = 0;
	int slot, r;

	r = io_uring_register_files_sparse(&trial->ring, 4);
	if (r < 0)
		return r;
	sqe = io_uring_get_sqe(&trial->ring);
	io_uring_prep_multishot_accept_direct(sqe, listener, NULL, NULL, 0);
	r = trial_next(trial, &cqe);
	if (r < 0)
		return r;
	slot = cqe.res;
	if (slot >= 4 || !(cqe.flags & IORING_CQE_F_MORE) || send(client, "x", 1, MSG_NOSIGNAL) != 1)
		return -EBADMSG;
	sqe = io_uring_get_sqe(&trial->ring);
	io_uring_prep_recv(sqe, slot, &byte, 1, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	r = trial_next(trial, &cqe);
	if (r < 0)
		return r;
	sqe = io_uring_get_sqe(&trial->ring);
	io_uring_prep_close_direct(sqe, (unsigned)slot);
	r = trial_next(trial, &cqe);
	if (r < 0)
		return r;
	return byte == 'x' && recv(client, &byte, 1, 0) == 0 ? 0 : -EBADMSG;
}

int selftest_direct(void)
{
	CLEANUP(fd_closep) int listener = -1;
	CLEANUP(fd_closep) int client = -1;
	struct trial trial;
	int r = trial_init(&trial);

	if (r == 0)
		r = listen_and_connect(&listener, &client, 1);
	if (r == 0)
		r = try_direct(&trial, listener, client);
	trial_fini(&trial);
	return r;
}

int selftest_peer(void)
{
	struct io_uring_cqe cqe;
	sa_family_t family = 0;
	struct trial trial;
	int r = trial_init(&trial);

	if (r == 0) {
		compat_prep_peer_name(io_uring_get_sqe(&trial.ring), trial.a, &family, sizeof(family));
		r = trial_next(&trial, &cqe);
	}
	if (r == 0 && family != AF_UNIX)
		r = -EBADMSG;
	trial_fini(&trial);
	return r;
}

int selftest_fixed_write(void)
{
	struct iovec memory = { .iov_len = BUFFER_BYTES };
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;
	struct trial trial;
	char back[5] = "";
	int r = trial_init(&trial);

	if (r == 0) {
		trial.memory = calloc(1, BUFFER_BYTES);
		memory.iov_base = trial.memory;
		r = trial.memory ? io_uring_register_buffers(&trial.ring, &memory, 1) : -ENOMEM;
	}
	if (r == 0) {
		memcpy(trial.memory, "fixed", 5);
		sqe = io_uring_get_sqe(&trial.ring);
		io_uring_prep_write_fixed(sqe, trial.a, trial.memory, 5, 0, 0);
		r = trial_next(&trial, &cqe);
	}
	if (r == 0 && (recv(trial.b, back, 5, MSG_DONTWAIT) != 5 || memcmp(back, "fixed", 5) != 0))
		r = -EBADMSG;
	trial_fini(&trial);
	return r;
}

int selftest_worker_bounds(void)
{
	unsigned bounds[2] = { 2, 4 };
	struct trial trial;
	int r = trial_init(&trial);

	if (r == 0)
		r = io_uring_register_iowq_max_workers(&trial.ring, bounds);
	trial_fini(&trial);
	return r;
}

static int bundle_result, direct_result;

static void try_once(void)
{
	bundle_result = selftest_bundle();
	direct_result = selftest_direct();
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

int selftest_bundle_once(void)
{
	pthread_once(&once, try_once);
	return bundle_result;
}

int selftest_direct_once(void)
{
	pthread_once(&once, try_once);
	return direct_result;
}
