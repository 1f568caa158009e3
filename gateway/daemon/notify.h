/*
 * notify: tells the service manager that started us, if one did and wants to hear (sd_notify(3), `Type=notify`), that we serve
 * and that we are ending. It says where in NOTIFY_SOCKET: a unix socket that takes datagrams. Nothing here waits; a manager that
 * does not take one is not told.
 */
#pragma once

/* Belongs to its owner. */
struct notify {
	int fd;                          /* -1: nobody wants to hear */
};

/*
 * Takes NOTIFY_SOCKET out of the environment: what we start is not to speak for us, and runc would, for its container. Before
 * the first thread and the first fork.
 */
void notify_open(struct notify *notify);
void notify_close(struct notify *notify);

/* `state`: "READY=1", "STOPPING=1", "STATUS=…", or lines of these. */
void notify_send(const struct notify *notify, const char *state);
