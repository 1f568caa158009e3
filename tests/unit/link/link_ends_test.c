/* How links end: by who closes them, by time, by what they are told and by what they tell. Both ends hear of it. */
#include "tests/unit/link/world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Who ends a link while the line takes nothing is heard all the same, and does not leave the gateway to wait for his return. */
static void test_a_goodbye_waits_for_room(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct link_service_status service;
	struct patience patience;
	struct user *users[20];
	struct call *call;
	unsigned full = 0;

	world_gateway_stop(world);
	world->service_config.silence_ns = config.silence_ns = 2 * PATIENCE_NS;
	world_gateway_start(world);
	world->proxy.target = world_gateway_port(world);
	world_open_link(world, &config);
	world_transfer(world, 1000, 1);
	proxy_set(&world->proxy, PROXY_STALL);
	world->link->mux.core.paths[0].window.bytes = LINK_WINDOW_BYTES_MAX;     /* as on a line that holds so much */
	for (unsigned i = 0; i < 20; i++)
		users[i] = world_open_channel(world, 1000000, false);
	call = &world->link->conns[0].path.call;
	patience = patience_begin(world);
	while (full < 50) {
		world_turn(world, &patience, SECOND_NS / 1000);
		full = call_has_room(call) ? 0 : full + 1;
	}
	world_begin_end(world);
	proxy_set(&world->proxy, PROXY_PASS);
	WAIT(world, world->closed && link_service_idle(world->service));
	link_service_status(world->service, &service);
	assert_int_equal(service.links_expired, 0);
	assert_int_equal(service.paths_lost, 0);
	for (unsigned i = 0; i < 20; i++)
		user_destroy(users[i]);
	world_end(world);
}

/*
 * Among the moments are those between the hello and the welcome, and between the close and the goodbye, when the welcome may
 * come. The gateway waits for nobody's return.
 */
static void end_at_any_moment(void **state, bool tls)
{
	struct world *world = world_make(state, tls);

	for (unsigned turns = 0; turns < 40; turns++) {
		struct link_config config = world_link_config(world);

		world_open_link(world, &config);
		for (unsigned i = 0; i < turns; i++)
			ring_run(world->ring, SECOND_NS / 20000);
		world_begin_end(world);
		WAIT(world, world->closed);
	}
	WAIT(world, link_service_idle(world->service));
	world_end(world);
}

static void test_an_end_at_any_moment(void **state)
{
	end_at_any_moment(state, false);
}

static void test_an_end_at_any_moment_tls(void **state)
{
	end_at_any_moment(state, true);
}

static bool has_spoken(const struct world *world)
{
	const struct link_conn *at = &world->link->conns[0];
	uint64_t received, sent = 0;

	if (at->conn && at->call_open)
		conn_bytes(at->conn, &received, &sent);
	return sent > 0;
}

/* A path that has said hello and heard no welcome says goodbye all the same: the gateway may know the link, and would wait. */
static void test_an_end_before_the_welcome(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct link_service_status service;
	unsigned opened;

	world_open_link(world, &config);
	world_transfer(world, 1000, 1);
	proxy_set(&world->proxy, PROXY_SHUT);
	WAIT(world, world->downs == 1);
	opened = world->proxy.opened;
	proxy_set(&world->proxy, PROXY_STALL);
	WAIT(world, world->proxy.opened > opened && has_spoken(world));
	assert_false(world->link->conns[0].path.greeted);
	world_begin_end(world);
	proxy_set(&world->proxy, PROXY_PASS);
	WAIT(world, world->closed && link_service_idle(world->service));
	link_service_status(world->service, &service);
	assert_int_equal(service.resumes, 1);
	assert_int_equal(service.links_expired, 0);
	world_end(world);
}

/* Nobody gets through for longer than the link waits: both ends give up, and whoever uses a channel hears of it. */
static void test_the_time_runs_out(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct link_service_status service;
	struct user *user;

	config.timeout_ns = SECOND_NS;
	world_open_link(world, &config);
	world->users_send = 100;
	user = world_open_channel(world, 100, false);
	WAIT(world, user->received == 100 && world->users[0]->received == 100);
	assert_false(user->ended && world->users[0]->ended);
	proxy_set(&world->proxy, PROXY_SHUT);
	WAIT(world, world->lost && user->ended);
	assert_non_null(strstr(world->reason, "is lost: no connection for 1 s: "));
	assert_true(link_is_lost(world->link));
	assert_int_equal(link_channel_open(world->link), -EPIPE);
	WAIT(world, link_service_idle(world->service));
	link_service_status(world->service, &service);
	assert_int_equal(service.links_expired, 1);
	assert_int_equal(service.channels_total, 1);
	WAIT(world, world->users[0]->ended);
	user_destroy(user);
	world_end(world);
}

/* Opens a link that claims to be another one. What it hears is in world->reason. */
static void claim(struct world *world, const char *token, const uint8_t *id)
{
	struct link_config config = world_link_config(world);
	char why[256] = "";

	config.token = token;
	world->lost = false;
	if (link_open(&world->link, world->ring, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	memcpy(world->link->id, id, LINK_ID_BYTES);
	world->link->welcomed = world->link->attempted = true;
	WAIT(world, world->lost);
}

/* Who has another credential hears what one hears who names a link that never was; the link lives on. */
static void test_another_credential_is_refused(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct link_service_status service;
	uint8_t id[LINK_ID_BYTES], other[LINK_ID_BYTES] = { 1 };
	char reason[LINK_REASON_MAX];
	struct link *first;

	world_open_link(world, &config);
	world_transfer(world, 1000, 1);
	first = world->link;
	memcpy(id, first->id, sizeof(id));
	claim(world, "two", id);
	snprintf(reason, sizeof(reason), "%s", world->reason);
	world_close_link(world);
	claim(world, "two", other);
	assert_string_equal(reason, world->reason);
	assert_non_null(strstr(reason, "does not know this link"));
	world_close_link(world);
	link_service_status(world->service, &service);
	assert_int_equal(service.links, 1);
	assert_int_equal(service.links_refused, 2);
	assert_true(link_is_up(first));
	world->link = first;
	world_end(world);
}

/* A gateway that was restarted knows nothing of the link: it is lost, in so many words, and nothing is done twice. */
static void test_a_restart_loses_the_link(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct user *user;

	world_open_link(world, &config);
	world->users_send = UINT64_MAX / 2;
	user = world_open_channel(world, UINT64_MAX / 2, false);
	WAIT(world, user->received > 1000000);
	world_gateway_stop(world);
	world_gateway_start(world);
	world->proxy.target = world_gateway_port(world);
	WAIT(world, world->lost && user->ended);
	assert_non_null(strstr(world->reason, "does not know this link: it was restarted"));
	assert_int_equal(world->users_count, 0);
	user_destroy(user);
	world_end(world);
}

/* Where nobody listens, one hears so at once, as of any connection. */
static void test_nobody_listens(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);

	/* A port that is taken, and not listened on. */
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	snprintf(config.address.port, sizeof(config.address.port), "%u", ntohs(address.sin_port));
	world_open_link(world, &config);
	WAIT(world, world->lost);
	assert_int_equal(link_how_ended(world->link), CONN_END_CONNECT);
	assert_int_equal(link_conn_error(world->link), -ECONNREFUSED);
	assert_int_equal(world->ups, 0);
	close(fd);
	world_end(world);
}

/* A gateway is told nonsense: the link ends, and says so at both ends. */
static void test_broken_rules_end_the_link(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct link_service_status service;
	struct user *user;

	world_open_link(world, &config);
	user = world_open_channel(world, 1000, false);
	WAIT(world, world->users_count == 1 && world->users[0]->received == 1000);
	/* A thousand frames are taken that nobody sent. */
	assert_int_equal(call_send(&world->link->conns[0].path.call, span_make("\x20\xe8\x07", 3), 0), CALL_SENT);
	WAIT(world, world->lost);
	assert_non_null(strstr(world->reason, "broke the rules"));
	link_service_status(world->service, &service);
	assert_int_equal(service.links_broken, 1);
	WAIT(world, link_service_idle(world->service));
	user_destroy(user);
	world_end(world);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WORLD_BOTH(test_a_goodbye_waits_for_room),
		WORLD_BOTH(test_an_end_at_any_moment),
		WORLD_BOTH(test_an_end_at_any_moment_tls),
		WORLD_BOTH(test_an_end_before_the_welcome),
		WORLD_BOTH(test_the_time_runs_out),
		WORLD_BOTH(test_another_credential_is_refused),
		WORLD_BOTH(test_a_restart_loses_the_link),
		WORLD_BOTH(test_nobody_listens),
		WORLD_BOTH(test_broken_rules_end_the_link),
	};

	return world_run(argc, argv, tests);
}
