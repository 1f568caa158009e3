/*
 * The connections that a link rides on are cut, swallowed, refused or cannot be made: it goes on over the next ones, all arrives,
 * once, and little is sent again.
 */
#include "tests/unit/link/world.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "proto/sluice_v1.h"

/*
 * Cut twenty times in one transfer, both ways at once: all arrives, once, and what had to be sent again is under 2 %. Also over
 * four conns, of which one at a time is cut, and with TLS.
 */
static void cut(void **state, bool tls, unsigned conns)
{
	const uint64_t bytes = 128u << 20;
	struct world *world = world_make(state, tls);
	struct link_config config = world_link_config(world);
	struct link_service_status service;
	struct link_status status;
	uint64_t resent;

	config.conns = conns;
	config.conns_at_once = true;
	world->proxy.cut_bytes = 2 * bytes / (20 + 2 * conns);
	world->proxy.cuts_wanted = 20;
	world_open_link(world, &config);
	world_transfer(world, bytes, 1);
	link_status(world->link, &status);
	link_service_status(world->service, &service);
	resent = status.bytes_resent + service.bytes_resent;
	printf("cuts %u resent %llu (%.2f %%) duplicate %llu lost %llu resumes %llu window %llu round trip %llu us\n",
	       world->proxy.cuts, (unsigned long long)resent, 100.0 * (double)resent / (double)(2 * bytes),
	       (unsigned long long)(status.bytes_duplicate + service.bytes_duplicate), (unsigned long long)status.paths_lost,
	       (unsigned long long)status.resumes, (unsigned long long)world->link->mux.core.paths[0].window.bytes,
	       (unsigned long long)world->link->mux.core.paths[0].window.round_trip_ns / 1000);
	assert_int_equal(world->proxy.cuts, 20);
	assert_true(status.paths_lost >= 20);
	assert_true(resent < 2 * bytes / 50);
	if (conns == 1)
		assert_int_equal(status.bytes_duplicate + service.bytes_duplicate, 0);
	world_end(world);
}

static void test_cut_twenty_times(void **state)
{
	cut(state, false, 1);
}

static void test_cut_twenty_times_tls(void **state)
{
	cut(state, true, 1);
}

static void test_cut_twenty_times_of_four(void **state)
{
	cut(state, false, 4);
}

/* A gateway that takes one path and no other is not asked again and again. */
static void test_a_further_path_is_refused_once(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);

	config.conns = 2;
	world_open_link(world, &config);
	WAIT(world, world->ups);
	world->refusing = true;
	world_transfer(world, 30000000, 1);
	assert_int_equal(world->refusals, 1);
	world_end(world);
}

/* A call without a hello. */
struct mute {
	struct call call;
	bool closed;
	enum grpc_status status;
};

static void mute_on_message(struct call *call, struct span message)
{
	(void)call, (void)message;
}

static void mute_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct mute *mute = container_of(call, struct mute, call);

	(void)message;
	mute->closed = true;
	mute->status = status;
	call_fini(call);
}

static void mutes_on_ready(struct conn *conn)
{
	(void)conn;
}

static void mutes_on_closed(struct conn *conn, const char *reason)
{
	(void)reason;
	*(bool *)conn_owner(conn) = true;
}

/* Calls that never say for which link they are fill their own tenant's places, and who is refused for it may try again. */
static void test_calls_without_a_hello_are_bounded(void **state)
{
	static const struct call_events call_events = { .on_message = mute_on_message, .on_closed = mute_on_closed };
	static const struct conn_events conn_events = { .on_ready = mutes_on_ready, .on_closed = mutes_on_closed };
	static const struct h2_events h2_events = { 0 };
	static struct mute mutes[LINK_HELLOS_TENANT_MAX + 1];
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct conn_config conn_config = { .h2 = { .events = &h2_events }, .events = &conn_events };
	struct mute *last = &mutes[LINK_HELLOS_TENANT_MAX];
	struct conn *conn;
	bool closed = false;
	char why[256] = "";

	conn_config.owner = &closed;
	assert_int_equal(conn_connect(&conn, world->ring, &config.address, NULL, &conn_config, why, sizeof(why)), 0);
	for (unsigned i = 0; i <= LINK_HELLOS_TENANT_MAX; i++) {
		mutes[i] = (struct mute){ 0 };
		assert_int_equal(call_start(&mutes[i].call, conn_h2(conn), SLUICE_LINK_CARRY, span_text("localhost"), 0, NULL, 0, 1000,
		                            &call_events, NULL), 0);
	}
	WAIT(world, last->closed);
	assert_int_equal(last->status, GRPC_UNAVAILABLE);
	assert_false(mutes[0].closed);
	config.token = "other";
	world_open_link(world, &config);
	world_transfer(world, 1000, 1);
	conn_close(conn, "the test is over");
	WAIT(world, closed);
	world_end(world);
}

/* A path that swallows everything is noticed and given up, at both ends; the transfer goes on over the next one. */
static void test_a_hole_is_noticed(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct user *user;
	unsigned downs;

	world_gateway_stop(world);
	world->service_config.silence_ns = SECOND_NS / 4;
	world_gateway_start(world);
	world->proxy.target = world_gateway_port(world);
	config.silence_ns = SECOND_NS / 4;
	world_open_link(world, &config);
	world->users_send = 20000000;
	user = world_open_channel(world, 20000000, false);
	WAIT(world, user->received > 1000000);
	downs = world->downs;            /* a machine that does nothing for so long looks like a hole, too */
	proxy_set(&world->proxy, PROXY_HOLE);
	WAIT(world, world->downs > downs);
	proxy_set(&world->proxy, PROXY_PASS);
	WAIT(world, user_done(user, 20000000) && user_done(world->users[0], 20000000));
	assert_false(user->wrong || world->users[0]->wrong);
	assert_true(world->ups >= 2);
	user_destroy(user);
	world_end(world);
}

/* This process has as many descriptors as it may. Returns what it was allowed. */
static struct rlimit exhaust_descriptors(void)
{
	struct rlimit before, none;
	int next = dup(STDIN_FILENO);

	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return before;
}

/* The first attempt comes to nothing before there is a connection, whose end would tell: the link tries again all the same. */
static void test_a_socket_cannot_be_made(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct rlimit limit = exhaust_descriptors();

	world_open_link(world, &config);
	WAIT(world, world->link->failures > 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_string_equal(world->link->reason, "cannot make a socket: Too many open files");
	WAIT(world, world->ups == 1);
	assert_false(world->lost);
	world_transfer(world, 1000, 1);
	world_end(world);
}

/* Who takes each connection and soon drops it is not asked as fast as that goes, which was hundreds of times a second. */
static void test_paths_that_do_not_last_are_not_stormed(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct user *user;
	uint64_t since_ns;
	unsigned before;

	world->proxy.cut_bytes = 40000;
	world_open_link(world, &config);
	user = world_open_channel(world, 1u << 30, false);
	WAIT(world, world->ups == 1);
	world->proxy.cuts_wanted = UINT32_MAX;
	WAIT(world, world->ups > 3);
	before = world->proxy.opened;
	for (since_ns = ring_now_ns(world->ring); ring_now_ns(world->ring) - since_ns < SECOND_NS;)
		ring_run(world->ring, SECOND_NS / 100);
	assert_in_range(world->proxy.opened - before, 1, SECOND_NS / LINK_RETRY_NS_FIRST + 1);
	assert_false(world->lost);
	user_destroy(user);
	world_end(world);
}

/* A hello may ask for any time: what is looked at more and more often would keep the gateway from everything else. */
static void test_time_is_looked_at_now_and_then(void **state)
{
	(void)state;
	assert_int_equal(link_mux_tick_ns(1000000), LINK_TICK_NS_MIN);
	assert_int_equal(link_mux_tick_ns(SECOND_NS), SECOND_NS / 4);
	assert_int_equal(link_mux_tick_ns(60 * SECOND_NS), LINK_TICK_NS);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WORLD_BOTH(test_cut_twenty_times),
		WORLD_BOTH(test_cut_twenty_times_tls),
		WORLD_BOTH(test_cut_twenty_times_of_four),
		WORLD_BOTH(test_a_further_path_is_refused_once),
		WORLD_BOTH(test_calls_without_a_hello_are_bounded),
		WORLD_BOTH(test_a_hole_is_noticed),
		WORLD_BOTH(test_a_socket_cannot_be_made),
		WORLD_BOTH(test_paths_that_do_not_last_are_not_stormed),
		cmocka_unit_test(test_time_is_looked_at_now_and_then),
	};

	return world_run(argc, argv, tests);
}
