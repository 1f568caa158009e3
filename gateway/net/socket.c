/* Making sockets: options, binding, and the stale file of a unix socket. */
#include "gateway/net/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/base/user.h"

/*
 * The kernel takes a killed process's io_uring apart after the process itself is gone, its listeners with it, under load for
 * seconds: who starts it again at once, as a service manager does, would be told that it runs.
 */
#define PROBES_MAX     5           /* of a unix socket that seems to be listened on, before the start is refused */
#define PROBE_PAUSE_US 200000
#define BINDS_MAX      100         /* of a TCP port, likewise */
#define BIND_PAUSE_US  50000

/* A peer that vanished without a word is noticed after 60 + 4 * 15 s, also while we have nothing to send. */
static const struct {
	int level, name, value;
} tcp_options[] = {
	{ IPPROTO_TCP, TCP_NODELAY, 1 },
	{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 60 },
	{ IPPROTO_TCP, TCP_KEEPINTVL, 15 },
	{ IPPROTO_TCP, TCP_KEEPCNT, 4 },
};

int socket_create(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return ERR_RAISE(-errno);
	if (family == AF_UNIX)
		return fd;
	for (size_t i = 0; i < sizeof(tcp_options) / sizeof(tcp_options[0]); i++)
		(void)setsockopt(fd, tcp_options[i].level, tcp_options[i].name, &tcp_options[i].value, sizeof(int));
	return fd;
}

void socket_peer(int fd, struct conn_peer *peer)
{
	struct sockaddr_storage name = { 0 };
	socklen_t name_size = sizeof(name), size = sizeof(struct ucred);
	struct ucred credentials;

	*peer = (struct conn_peer){ .uid = UINT32_MAX, .address = "?" };
	if (getpeername(fd, (struct sockaddr *)&name, &name_size) < 0)
		return;
	peer->local = name.ss_family == AF_UNIX;
	peer->loopback = address_is_loopback((const struct sockaddr *)&name);
	address_describe((const struct sockaddr *)&name, peer->address, sizeof(peer->address));
	if (peer->local && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
		peer->uid = credentials.uid;
		peer->pid = (uint32_t)credentials.pid;
		snprintf(peer->address, sizeof(peer->address), "unix uid=%u pid=%u", peer->uid, peer->pid);
	}
}

enum { LISTENS_NOBODY, LISTENS_SOMEBODY, LISTENS_UNKNOWN };

/* Who listens, which a socket of another user's may not tell us; or -errno. */
static int probe(const struct address_resolved *at)
{
	CLEANUP(fd_closep) int fd = socket_create(AF_UNIX);

	if (fd < 0)
		return ERR_RAISE(fd);
	if (connect(fd, (const struct sockaddr *)&at->sockaddr, at->size) == 0)
		return LISTENS_SOMEBODY;
	if (errno == EACCES)
		return LISTENS_UNKNOWN;
	return errno == ECONNREFUSED ? LISTENS_NOBODY : LISTENS_SOMEBODY;
}

static int probe_patiently(const struct address_resolved *at)
{
	int r = probe(at);

	for (unsigned again = 0; r == LISTENS_SOMEBODY && again < PROBES_MAX; again++) {
		usleep(PROBE_PAUSE_US);
		r = probe(at);
	}
	return r;
}

/* 0: the path is free now. */
static int clear_stale(const struct address *address, const struct address_resolved *at, char *why, size_t why_size)
{
	char name[USER_NAME_BYTES];
	struct stat stat;
	int r;

	if (lstat(address->host, &stat) < 0)
		return 0;
	if (!S_ISSOCK(stat.st_mode)) {
		snprintf(why, why_size, "%s is there and is no socket: choose another path", address->host);
		return ERR_RAISE(-EEXIST);
	}
	r = probe_patiently(at);
	if (r < 0) {
		snprintf(why, why_size, "cannot make a socket: %s", strerror(-r));
		return ERR_RAISE(r);
	}
	if (r == LISTENS_SOMEBODY) {
		snprintf(why, why_size, "another process listens on %s already", address->host);
		return ERR_RAISE(-EADDRINUSE);
	}
	if (r == LISTENS_UNKNOWN) {
		snprintf(why, why_size, "%s is a socket of the user %s that may not be tried: remove it if nobody listens there", address->host,
		         user_name(stat.st_uid, name));
		return ERR_RAISE(-EACCES);
	}
	if (unlink(address->host) < 0 && errno != ENOENT) {
		r = -errno;
		snprintf(why, why_size, "cannot remove the stale socket %s: %s", address->host, strerror(-r));
		return ERR_RAISE(r);
	}
	return 0;
}

static int bind_patiently(int fd, const struct address_resolved *at, bool patient)
{
	for (int i = 0;; i++) {
		if (bind(fd, (const struct sockaddr *)&at->sockaddr, at->size) == 0)
			return 0;
		if (errno != EADDRINUSE || !patient || i == BINDS_MAX)
			return -errno;
		usleep(BIND_PAUSE_US);
	}
}

static int bind_failure(const struct address *address, int r, char *why, size_t why_size)
{
	char text[ADDRESS_TEXT_MAX], error[USER_ERROR_BYTES];

	address_format(address, text);
	if (r == -EADDRINUSE)
		snprintf(why, why_size, "cannot listen on %s: another process does already", text);
	else if (r == -ENOENT && address->local)
		snprintf(why, why_size, "cannot listen on %s: the directory does not exist", text);
	else
		snprintf(why, why_size, "cannot listen on %s: %s", text, user_error(r, error));
	return ERR_RAISE(r);
}

static void describe_bound(int fd, const struct address *address, char *bound, size_t size)
{
	struct sockaddr_storage name = { 0 };
	socklen_t name_size = sizeof(name);
	struct address real = *address;
	char text[ADDRESS_TEXT_MAX];

	if (!address->local && getsockname(fd, (struct sockaddr *)&name, &name_size) == 0) {
		struct sockaddr_in6 six;
		struct sockaddr_in four;

		memcpy(&six, &name, sizeof(six));
		memcpy(&four, &name, sizeof(four));
		snprintf(real.port, sizeof(real.port), "%u",
		         ntohs(name.ss_family == AF_INET6 ? six.sin6_port : four.sin_port));
	}
	snprintf(bound, size, "%s", address_format(&real, text));
}

int socket_listen(const struct address *address, mode_t mode, char *bound, size_t bound_size, char *why, size_t why_size)
{
	struct address_resolved resolved[ADDRESS_RESOLVED_MAX];
	CLEANUP(fd_closep) int fd = -1;
	int r = address_resolve_all(address, true, resolved, why, why_size), on = 1;

	if (r < 0)
		return ERR_RAISE(r);
	if (address->local) {
		r = clear_stale(address, &resolved[0], why, why_size);
		if (r < 0)
			return ERR_RAISE(r);
	}
	fd = socket_create(resolved[0].sockaddr.ss_family);
	if (fd < 0)
		return bind_failure(address, fd, why, why_size);
	/* A unix socket's mode before bind, less the umask, is that of its file: at no time can more connect than shall. */
	if (address->local)
		(void)fchmod(fd, mode);
	else
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	r = bind_patiently(fd, &resolved[0], !address->local);
	if (r == 0 && listen(fd, SOCKET_BACKLOG) < 0)
		r = -errno;
	if (r < 0)
		return bind_failure(address, r, why, why_size);
	if (address->local && chmod(address->host, mode) < 0)
		return bind_failure(address, -errno, why, why_size);
	describe_bound(fd, address, bound, bound_size);
	return fd_take(&fd);
}
