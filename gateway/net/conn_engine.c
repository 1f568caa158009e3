/* What a conn speaks: HTTP/2, or HTTP/1.1 with a client that turns out not to begin with the former's preface. */
#include "gateway/net/conn_private.h"

#include <errno.h>
#include "gateway/base/err.h"

/* RFC 9113 section 3.4. No method of HTTP/1.1 begins so: it is reserved. */
static const uint8_t preface[CONN_SNIFF_BYTES] = { 'P', 'R', 'I' };

static int conn_engine_decide(struct conn *conn, bool http1)
{
	struct span sniffed = span_make(conn->sniffed, conn->sniffed_size);

	conn->undecided = false;
	if (!http1)
		return h2_feed(conn->h2, sniffed);
	conn->http1 = http1_create(&conn_h2_events, conn);
	if (!conn->http1)
		return ERR_RAISE(-ENOMEM);
	return http1_feed(conn->http1, sniffed);
}

/* Takes bytes off the front until they tell. */
static int conn_engine_sniff(struct conn *conn, struct span *data)
{
	while (conn->undecided && data->size) {
		uint8_t byte = data->data[0];

		conn->sniffed[conn->sniffed_size++] = byte;
		*data = span_make(data->data + 1, data->size - 1);
		if (byte != preface[conn->sniffed_size - 1])
			return conn_engine_decide(conn, true);
		if (conn->sniffed_size == CONN_SNIFF_BYTES)
			return conn_engine_decide(conn, false);
	}
	return 0;
}

int conn_engine_feed(struct conn *conn, struct span data)
{
	struct span all = data;
	int r = conn_engine_sniff(conn, &data);

	if (r == 0 && data.size)
		r = conn->http1 ? http1_feed(conn->http1, data) : h2_feed(conn->h2, data);
	if (r == 0 && !conn->http1)
		frame_watch_feed(&conn->watch, all);
	return r;
}

struct span conn_engine_output(struct conn *conn)
{
	if (conn->undecided)
		return (struct span){ 0 };
	return conn->http1 ? http1_output(conn->http1) : h2_output(conn->h2);
}

bool conn_engine_alive(const struct conn *conn)
{
	return conn->http1 ? http1_alive(conn->http1) : h2_alive(conn->h2);
}

const struct h2_fault *conn_engine_fault(const struct conn *conn)
{
	return conn->http1 ? http1_fault(conn->http1) : h2_fault(conn->h2);
}

void conn_engine_drain(struct conn *conn)
{
	if (conn->http1)
		http1_drain(conn->http1);
	else
		h2_drain(conn->h2);
}

void conn_engine_carrier_closed(struct conn *conn)
{
	if (conn->http1)
		http1_carrier_closed(conn->http1);
	else
		h2_carrier_closed(conn->h2);
}

bool conn_engine_unfinished(const struct conn *conn)
{
	return conn->http1 ? http1_unfinished(conn->http1) : frame_watch_unfinished(&conn->watch);
}

bool conn_engine_input_ended(struct conn *conn)
{
	return conn->http1 && http1_input_ended(conn->http1);
}

bool conn_engine_wants(const struct conn *conn)
{
	return !conn->http1 || http1_wants(conn->http1);
}

bool conn_is_http1(const struct conn *conn)
{
	return conn->http1;
}

size_t conn_streams_count(const struct conn *conn)
{
	return conn->http1 ? http1_streams_count(conn->http1) : h2_streams_count(conn->h2);
}
