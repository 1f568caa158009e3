/* How fast a connection's line is: the kernel measures that with each acknowledgement, whoever reads at the other end. */
#include "gateway/net/conn_private.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#define SAMPLE_END (offsetof(struct tcp_info, tcpi_sndbuf_limited) + sizeof(uint64_t))

static bool is_local(int fd)
{
	int domain = 0;
	socklen_t size = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

uint64_t conn_line_rate(struct conn *conn)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);
	int fd = conn->handle < 0 ? -1 : ring_handle_fd(conn->ring, conn->handle);
	struct line_counts now;

	if (fd < 0)
		return 0;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
		return is_local(fd) ? CONN_LINE_LOCAL : 0;
	if (size < SAMPLE_END)
		return 0;
	now = (struct line_counts){
		.acked = info.tcpi_bytes_acked,
		.busy_us = info.tcpi_busy_time,
		.shut_us = info.tcpi_rwnd_limited + info.tcpi_sndbuf_limited,
	};
	line_sample(&conn->line, info.tcpi_delivery_rate, info.tcpi_delivery_rate_app_limited, &now);
	return line_rate(&conn->line);
}
