/*
 * Shows that a conn which is made to send while another one gathers what it sends is found out: the bytes of one would go out on the
 * other. In a process of its own, which ends there.
 */
#include "tests/unit/net/server_rig.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/list.h"
#include "tests/unit/net/keys.h"

#define LOAN_BYTES 100000                /* more records than one */

struct side {
	struct conn *conn;
	struct call call;
	bool ready;
};

struct pair {
	struct loan loan;
	struct side lender, other;
	bool flushes, returned;
};

static void on_ready(struct conn *conn)
{
	((struct side *)conn_owner(conn))->ready = true;
}

static void on_conn_closed(struct conn *conn, const char *reason)
{
}

static void on_message(struct call *call, struct span message)
{
}

static void on_closed(struct call *call, enum grpc_status status, struct span message)
{
}

static void on_returned(struct loan *loan)
{
	struct pair *pair = container_of(loan, struct pair, loan);

	pair->returned = true;
	CHECK(call_send(&pair->other.call, span_text("x"), 0) == CALL_SENT);
	if (pair->flushes)
		conn_flush(pair->other.conn);
}

static const struct h2_events h2_events = { 0 };
static const struct conn_events conn_events = { .on_ready = on_ready, .on_closed = on_conn_closed };
static const struct call_events call_events = { .on_message = on_message, .on_closed = on_closed };

static void connect_side(struct side *side, struct ring *ring, const struct address *address, struct tls_context *tls)
{
	struct conn_config config = { .h2.events = &h2_events, .h2.owner = side, .events = &conn_events, .owner = side };
	char why[256];

	CHECK(conn_connect(&side->conn, ring, address, tls, &config, why, sizeof(why)) == 0);
	while (!side->ready)
		ring_run(ring, UINT64_MAX);
	CHECK(call_start(&side->call, conn_h2(side->conn), "/test.Echo/Sink", span_text("localhost"), 0, NULL, 0, 4096, &call_events,
	                 side) == 0);
}

_Noreturn static void lend(const struct echo *echo, bool flushes)
{
	const struct tls_config trust = { .ca_path = keys_path("ca", "ca.pem") };
	const struct ring_config config = { .engine = echo->config.engine };
	static uint8_t bytes[LOAN_BYTES];
	const struct span piece = span_make(bytes, sizeof(bytes));
	struct pair pair = { .loan = { .pieces = &piece, .count = 1, .returned = on_returned }, .flushes = flushes };
	struct tls_context *tls;
	struct address address;
	struct ring *ring;
	char why[256];

	signal(SIGABRT, SIG_DFL);
	alarm(60);
	CHECK(ring_create(&ring, &config) == 0);
	CHECK(address_parse(&address, echo->bound, why, sizeof(why)));
	CHECK(tls_context_create(&tls, &trust, why, sizeof(why)) == 0);
	connect_side(&pair.lender, ring, &address, tls);
	connect_side(&pair.other, ring, &address, tls);
	while (conn_flush(pair.other.conn))
		ring_run(ring, UINT64_MAX);      /* its request goes out, and nothing of it is in the way of more */
	CHECK(call_lend(&pair.lender.call, &pair.loan) == CALL_SENT);
	while (!pair.returned)
		ring_run(ring, UINT64_MAX);
	_exit(0);
}

static void ends_with(void **state, bool flushes, int signal_expected)
{
	const struct tls_config tls = keys_server("server", NULL, false);
	struct echo echo;
	pid_t child;
	int status;

	rig_start(&echo, state, (struct echo_config){ .address = "grpcs://127.0.0.1:0", .tls = &tls });
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		lend(&echo, flushes);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : 0, signal_expected);
	echo_stop(&echo);
}

static void a_return_that_sends_is_found_out(void **state)
{
	ends_with(state, true, SIGABRT);
}

static void another_is_not(void **state)
{
	ends_with(state, false, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(a_return_that_sends_is_found_out),
		RIG_BOTH(another_is_not),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
