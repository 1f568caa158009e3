/* notify: see notify.h. */
#include "gateway/daemon/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A path, or '@' and a name in the abstract space. 0: neither, or too long. */
static socklen_t address_of(const char *text, struct sockaddr_un *address)
{
	size_t size = strlen(text);

	if ((text[0] != '/' && text[0] != '@') || size < 2 || size >= sizeof(address->sun_path))
		return 0;
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address->sun_path, text, size);
	if (text[0] == '@')
		address->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (text[0] == '/'));
}

/* Connected now, for the path may be out of reach once we are another user. */
void notify_open(struct notify *notify)
{
	const char *text = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address;
	socklen_t size = text ? address_of(text, &address) : 0;

	unsetenv("NOTIFY_SOCKET");
	notify->fd = size ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
	if (notify->fd >= 0 && connect(notify->fd, (struct sockaddr *)&address, size) < 0)
		notify_close(notify);
}

void notify_close(struct notify *notify)
{
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}

void notify_send(const struct notify *notify, const char *state)
{
	if (notify->fd >= 0)
		(void)!send(notify->fd, state, strlen(state), MSG_NOSIGNAL);
}
