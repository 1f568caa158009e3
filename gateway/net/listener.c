/* Accepting, and the way a listening socket ends. */
#include "gateway/net/listener.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/net/socket.h"

/* Long enough that a full descriptor table costs no CPU, short against a client's patience. */
#define PAUSE_NS 100000000ull

/* Owner and group may connect. */
#define UNIX_MODE 0660

static void listener_arm(struct listener *listener)
{
	listener->state = LISTENER_LISTENING;
	ring_accept(listener->ring, &listener->accept, listener->fd);
}

static void remove_path(const struct listener *listener)
{
	struct stat stat;

	if (listener->address.local && lstat(listener->address.host, &stat) == 0 &&
	    stat.st_dev == listener->path_device && stat.st_ino == listener->path_inode)
		unlink(listener->address.host);
}

static void listener_join(struct listener *listener)
{
	CHECK(listener->state == LISTENER_CLOSING);
	if (op_in_flight(&listener->accept) || op_in_flight(&listener->pause))
		return;
	listener->state = LISTENER_CLOSED;
	remove_path(listener);
	ring_close(listener->ring, NULL, listener->fd);
	listener->closed(listener);
}

static void listener_wait(struct listener *listener, int error)
{
	log_event(LOG_WARNING, "accept failed", LOG_TEXT("listener", listener->bound), LOG_TEXT("error", err_report(error)));
	listener->state = LISTENER_PAUSED;
	ring_timer(listener->ring, &listener->pause, PAUSE_NS);
}

static void listener_on_accept(struct op *op, int32_t res)
{
	struct listener *listener = container_of(op, struct listener, accept);
	bool more = op->more;

	if (listener->state == LISTENER_CLOSING) {
		if (res >= 0)
			ring_close(listener->ring, NULL, res);
		if (!more)
			listener_join(listener);
		return;
	}
	CHECK(listener->state == LISTENER_LISTENING || listener->state == LISTENER_FULL);
	if (res >= 0)
		listener->accepted(listener, res);
	if (more || listener->state != LISTENER_LISTENING)
		return;
	if (res < 0 && res != -ECONNABORTED && res != -EINTR && res != -ECANCELED)
		listener_wait(listener, res);
	else
		listener_arm(listener);
}

static void listener_on_pause(struct op *op, int32_t res)
{
	struct listener *listener = container_of(op, struct listener, pause);

	(void)res;
	if (listener->state == LISTENER_CLOSING)
		listener_join(listener);
	else
		listener_arm(listener);
}

int listener_start(struct listener *listener, char *why, size_t why_size)
{
	struct sockaddr_storage name = { 0 };
	socklen_t name_size = sizeof(name);
	struct stat stat = { 0 };
	mode_t mode = listener->unix_mode ? listener->unix_mode : UNIX_MODE;
	int fd = socket_listen(&listener->address, mode, listener->bound, sizeof(listener->bound), why, why_size);

	if (fd < 0)
		return ERR_RAISE(fd);
	listener->fd = fd;
	listener->loopback = getsockname(fd, (struct sockaddr *)&name, &name_size) == 0 &&
	                     address_is_loopback((const struct sockaddr *)&name);
	if (listener->address.local && lstat(listener->address.host, &stat) == 0) {
		listener->path_device = stat.st_dev;
		listener->path_inode = stat.st_ino;
	}
	listener->accept.fn = listener_on_accept;
	listener->pause.fn = listener_on_pause;
	listener_arm(listener);
	return 0;
}

void listener_hold(struct listener *listener)
{
	if (listener->state != LISTENER_LISTENING)
		return;
	listener->state = LISTENER_FULL;
	if (op_in_flight(&listener->accept))
		ring_cancel(listener->ring, &listener->accept);
}

/* Where the cancel has not landed yet, its landing arms it again. */
void listener_resume(struct listener *listener)
{
	if (listener->state != LISTENER_FULL)
		return;
	listener->state = LISTENER_LISTENING;
	if (!op_in_flight(&listener->accept))
		listener_arm(listener);
}

void listener_stop(struct listener *listener)
{
	if (listener->state >= LISTENER_CLOSING)
		return;
	listener->state = LISTENER_CLOSING;
	if (op_in_flight(&listener->accept))
		ring_cancel(listener->ring, &listener->accept);
	if (op_in_flight(&listener->pause))
		ring_cancel(listener->ring, &listener->pause);
	else if (!op_in_flight(&listener->accept))
		ring_timer(listener->ring, &listener->pause, 0); /* it was FULL: what ends it comes from the loop all the same */
}

void listener_peer(const struct listener *listener, int handle, struct conn_peer *peer)
{
	int fd = ring_handle_fd(listener->ring, handle);

	*peer = (struct conn_peer){ .uid = UINT32_MAX, .address = "?" };         /* a direct one: conn_accept() asks */
	if (fd >= 0)
		socket_peer(fd, peer);
	peer->local = listener->address.local;
	/* By the listener, not by the caller: a tunnel's end on this machine is no reason to trust who is at the other. */
	peer->loopback = listener->loopback;
}
