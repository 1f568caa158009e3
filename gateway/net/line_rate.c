/* How fast a connection's line is: the kernel measures that with each acknowledgement, whoever reads at the other end. */
#include "gateway/net/conn_private.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#define DELIVERY_RATE_END (offsetof(struct tcp_info, tcpi_delivery_rate) + sizeof(uint64_t))

uint64_t conn_line_rate(const struct conn *conn)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);
	int fd = conn->handle < 0 ? -1 : ring_handle_fd(conn->ring, conn->handle);

	if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 || size < DELIVERY_RATE_END)
		return 0;
	return info.tcpi_delivery_rate;
}
