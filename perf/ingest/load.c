/*
 * The client of perf/ingest: carries the same bytes to and from sluice and other servers, so that what is compared is the
 * servers' work. They are the files of a real tree, those above 64 KiB in pieces.
 *
 *	load WAY ADDRESS [--ca FILE] [--tree DIR] [--mib N] [--stamp N] [--connections N] [--streams N]
 *
 * push: packs as `sluice push` makes them, uncompressed, into one Push call a connection. fetch: the same blobs by their digests;
 * the answers are thrown away. put: each pack as a body of its own, PUT /0 ... get: GET the same. batch-put, batch-get,
 * stream-put, stream-get: REAPI, see reapi.c. The stamp goes into each blob, so that contents are new to a store that has seen
 * other stamps; who reads wants the stamp of who wrote before.
 *
 * Prints "ready" when bodies and connections are there, waits for a line on stdin, works, prints one line of JSON.
 */
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "perf/bench.h"
#include "perf/ingest/load.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"

#define PACK_BYTES      (4u << 20)
#define IN_FLIGHT       4                /* packs without their answer, a connection: as `sluice push` */
#define FRAME_BYTES     CONN_FRAME_BYTES

struct load load;

/* ---- bodies: packs ---- */

static void encode_pack(struct body *body, const struct sha256_job *jobs, size_t count)
{
	struct buffer pack = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);

	for (size_t i = 0; i < count; i++) {
		struct digest digest = job_digest(&jobs[i]);

		pack_put(&pack, &digest, span_make(jobs[i].data, jobs[i].size));
		digest_list_put(&body->digests, &digest);
	}
	pb_put_bytes(&body->message, 3, buffer_span(&pack));
	CHECK(!pack.failed);
	buffer_fini(&pack);
}

struct body *next_body(void)
{
	return load.next < load.bodies_count ? &load.bodies[load.next++] : NULL;
}

/* ---- gRPC: push and fetch ---- */

static void push_more(struct link_end *end)
{
	struct body *body;

	while (end->in_flight < IN_FLIGHT && call_has_room(&end->call) && (body = next_body())) {
		CHECK(call_send(&end->call, buffer_span(&body->message), 0) == CALL_SENT);
		end->in_flight++;
	}
	if (load.next == load.bodies_count && end->in_flight == 0)
		call_end(&end->call);
}

static void push_on_message(struct call *call, struct span message)
{
	struct link_end *end = call->owner;
	struct push_response response;
	struct push_stored stored;

	CHECK(message_decode(&push_response_type, message, &response) && response.stored.data);
	CHECK(message_decode(&push_stored_type, response.stored, &stored) && stored.blobs && stored.rejected.message.size == 0);
	end->in_flight--;
	load.done++;
	push_more(end);
}

/* The blobs of a body each, one body under way a call and one waiting behind it. */
static void fetch_more(struct link_end *end)
{
	uint8_t storage[16384 * 40];
	struct body *body;

	while (end->in_flight < 2 && call_has_room(&end->call) && (body = next_body())) {
		struct buffer request = buffer_over(storage, sizeof(storage));

		pb_put_bytes(&request, 1, buffer_span(&body->digests));
		CHECK(!request.failed && call_send(&end->call, buffer_span(&request), 0) == CALL_SENT);
		end->in_flight++;
		end->exchanges[0].received += body->blobs;
	}
	if (load.next == load.bodies_count && end->in_flight == 0)
		call_end(&end->call);
}

static void fetch_on_message(struct call *call, struct span message)
{
	struct link_end *end = call->owner;
	struct packed_blob blob;
	bool failed = false;

	load.bytes_received += message.size;
	while (fetched_next(&message, &blob, &failed)) {
		CHECK(blob.fault == FETCH_OK);
		end->exchanges[0].received--;
	}
	CHECK(!failed);
	if (end->exchanges[0].received == 0)
		end->in_flight = 0;
	fetch_more(end);
}

static void push_on_writable(struct call *call)
{
	push_more(call->owner);
}

static void fetch_on_writable(struct call *call)
{
	fetch_more(call->owner);
}

static void call_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	if (status != GRPC_OK) {
		fprintf(stderr, "load: %s: %.*s\n", grpc_status_name(status), (int)message.size, (const char *)message.data);
		exit(1);
	}
	load.ends_closed++;
}

static void start_calls(const char *path, const struct call_events *events, void (*more)(struct link_end *end))
{
	for (unsigned i = 0; i < load.connections; i++) {
		struct link_end *end = &load.ends[i];

		CHECK(call_start(&end->call, conn_h2(end->conn), path, span_text("127.0.0.1"), 0, NULL, 0, SLUICE_MESSAGE_BYTES_MAX,
		                 events, end) == 0);
		more(end);
	}
}

static void push_start(void)
{
	static const struct call_events events = {
		.on_message = push_on_message, .on_writable = push_on_writable, .on_closed = call_on_closed,
	};

	start_calls(SLUICE_PUSH, &events, push_more);
}

static void fetch_start(void)
{
	static const struct call_events events = {
		.on_message = fetch_on_message, .on_writable = fetch_on_writable, .on_closed = call_on_closed,
	};

	start_calls(SLUICE_FETCH, &events, fetch_more);
}

static bool calls_closed(void)
{
	return load.ends_closed == load.connections;
}

static const struct way push = { "push", PACK_BYTES, encode_pack, push_start, calls_closed };
static const struct way fetch = { "fetch", PACK_BYTES, encode_pack, fetch_start, calls_closed };

/* ---- plain HTTP: put and get ---- */

static const struct way put, get;

static void exchange_write(struct stream *stream)
{
	struct exchange *exchange = stream->owner;
	struct span rest = buffer_span(&exchange->body->message);

	rest = span_make(rest.data + exchange->sent, rest.size - exchange->sent);
	exchange->sent += stream_write(stream, rest);
	if (exchange->sent == exchange->body->message.size && !exchange->ended) {
		exchange->ended = true;
		stream_end(stream);
	}
}

static void exchange_on_headers(struct stream *stream, const struct header *headers, size_t count)
{
	CHECK(count && span_is(headers[0].name, ":status"));
	if (headers[0].value.data[0] != '2') {
		fprintf(stderr, "load: HTTP %.*s\n", (int)headers[0].value.size, (const char *)headers[0].value.data);
		exit(1);
	}
}

static void exchange_on_data(struct stream *stream, struct span data)
{
	struct exchange *exchange = stream->owner;

	exchange->received += data.size;
	load.bytes_received += data.size;
	stream_consumed(stream, data.size);
}

static void exchange_on_close(struct stream *stream, uint32_t code)
{
	struct exchange *exchange = stream->owner;

	CHECK(code == 0);
	if (load.way == &get)
		CHECK(exchange->received == exchange->body->message.size);
	load.done++;
	exchange->stream = NULL;
}

static void exchange_start(struct exchange *exchange)
{
	static const struct stream_events events = {
		.on_headers = exchange_on_headers, .on_data = exchange_on_data, .on_writable = exchange_write,
		.on_close = exchange_on_close,
	};
	bool putting = load.way == &put;
	char path[32], length[32];
	struct header header = { .name = span_text("content-length") };
	struct h2_request request = {
		.method = span_text(putting ? "PUT" : "GET"), .scheme = span_text("https"), .authority = span_text("127.0.0.1"),
		.headers = &header, .headers_count = putting,
	};

	exchange->body = next_body();
	if (!exchange->body)
		return;
	exchange->sent = exchange->received = 0;
	exchange->ended = !putting;
	snprintf(path, sizeof(path), "/%zu", (size_t)(exchange->body - load.bodies));
	snprintf(length, sizeof(length), "%zu", exchange->body->message.size);
	request.path = span_text(path);
	header.value = span_text(length);
	CHECK(h2_open(conn_h2(exchange->end->conn), &exchange->stream, &request, !putting, &events, exchange) == 0);
	if (putting)
		exchange_write(exchange->stream);
}

/* New ones are started from the loop: not from inside the close of the one before. */
static bool exchanges_step(void)
{
	for (unsigned i = 0; i < load.connections; i++)
		for (unsigned k = 0; k < load.streams; k++)
			if (!load.ends[i].exchanges[k].stream)
				exchange_start(&load.ends[i].exchanges[k]);
	return load.done == load.bodies_count;
}

static const struct way put = { "put", PACK_BYTES, encode_pack, NULL, exchanges_step };
static const struct way get = { "get", PACK_BYTES, encode_pack, NULL, exchanges_step };

/* ---- connections ---- */

static void on_conn_ready(struct conn *conn)
{
	((struct link_end *)conn_owner(conn))->ready = true;
}

static void on_conn_closed(struct conn *conn, const char *reason)
{
	fprintf(stderr, "load: %s\n", reason);
	exit(1);
}

static void connect_all(const char *where, const char *ca)
{
	static const struct conn_events events = { .on_ready = on_conn_ready, .on_closed = on_conn_closed };
	static const struct h2_events no_events = { 0 };
	struct conn_config config = {
		.h2 = { .events = &no_events, .frame_bytes_max = FRAME_BYTES, .stream_window_bytes = 1 << 20,
		        .connection_window_bytes = 16 << 20 },
		.events = &events,
	};
	struct tls_config tls_config = { .ca_path = ca };
	struct tls_context *tls = NULL;
	struct address address;
	char why[256];

	if (!address_parse(&address, where, why, sizeof(why)) ||
	    (ca && tls_context_create(&tls, &tls_config, why, sizeof(why)) < 0)) {
		fprintf(stderr, "load: %s\n", why);
		exit(1);
	}
	for (unsigned i = 0; i < load.connections; i++) {
		struct link_end *end = &load.ends[i];

		for (unsigned k = 0; k < STREAMS_MAX; k++)
			end->exchanges[k].end = end;
		config.owner = end;
		CHECK(conn_connect(&end->conn, load.ring, &address, tls, &config, why, sizeof(why)) == 0);
		while (!end->ready)
			ring_run(load.ring, UINT64_MAX);
	}
}

static uint64_t option_number(int argc, char **argv, const char *name, uint64_t fallback)
{
	const char *text = bench_option(argc, argv, name);

	return text ? strtoull(text, NULL, 10) : fallback;
}

static const struct way *find_way(const char *name)
{
	static const struct way *const ways[] = { &push, &fetch, &put, &get, &batch_put, &batch_get, &stream_put, &stream_get, &small_put };

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strcmp(name, ways[i]->name) == 0)
			return ways[i];
	return NULL;
}

static void work(void)
{
	if (load.way->start)
		load.way->start();
	while (!load.way->step())
		ring_run(load.ring, UINT64_MAX);
}

int main(int argc, char **argv)
{
	const char *tree = bench_option(argc, argv, "--tree");
	struct ring_config ring_config = { 0 };
	double began;
	char go[16];

	load.way = argc < 3 ? NULL : find_way(argv[1]);
	if (!load.way) {
		fprintf(stderr, "usage: load push|fetch|put|get|batch-put|batch-get|stream-put|stream-get ADDRESS [OPTION]...\n");
		return 2;
	}
	log_setup(STDERR_FILENO, LOG_WARNING, false);
	load.stamp = option_number(argc, argv, "--stamp", 0);
	load.data_bytes_max = option_number(argc, argv, "--mib", 256) << 20;
	load.connections = (unsigned)option_number(argc, argv, "--connections", 1);
	load.streams = (unsigned)option_number(argc, argv, "--streams", IN_FLIGHT);
	CHECK(load.connections >= 1 && load.connections <= CONNECTIONS_MAX && load.streams >= 1 && load.streams <= STREAMS_MAX);
	make_bodies(tree ? tree : "/usr");
	CHECK(ring_create(&load.ring, &ring_config) == 0);
	connect_all(argv[2], bench_option(argc, argv, "--ca"));
	printf("ready\n");
	fflush(stdout);
	if (!fgets(go, sizeof(go), stdin))
		return 1;
	began = bench_seconds();
	work();
	printf("{\"seconds\": %.6f, \"bodies\": %zu, \"data_bytes\": %llu, \"bytes_received\": %llu}\n", bench_seconds() - began,
	       load.bodies_count, (unsigned long long)load.data_bytes, (unsigned long long)load.bytes_received);
	fflush(stdout);
	_exit(0);
}
