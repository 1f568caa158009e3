/* Channels of a link to which nothing happens: they carry bytes whole, stop when their readers do, and are bounded. */
#include "tests/unit/link/world.h"

#include <errno.h>
#include <unistd.h>

/* One channel and then many, each way at once, whole, over a link that nothing happens to. */
static void test_channels_carry_bytes(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct link_status status;
	struct link_service_status service;

	world_open_link(world, &config);
	world_transfer(world, 3000000, 1);
	WAIT(world, world_channels(world) == 0);
	link_status(world->link, &status);
	assert_int_equal(status.bytes_sent, 3000000);
	assert_int_equal(status.bytes_received, 3000000);
	assert_int_equal(status.bytes_resent, 0);
	assert_int_equal(world->ups, 1);
	assert_true(world->peer.linked);
	link_service_status(world->service, &service);
	assert_int_equal(service.links, 1);
	assert_int_equal(service.bytes_received, 3000000);
	world_close_link(world);
	WAIT(world, link_service_idle(world->service));
	link_service_status(world->service, &service);
	assert_int_equal(service.links, 0);
	assert_int_equal(service.paths_lost, 0);
	world_end(world);
}

/* A reader that does not read stops its own channel, within its credit, and no other. */
static void test_a_slow_reader_stops_nobody_else(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct user *slow, *fast;

	world_open_link(world, &config);
	world->users_lazy = true;
	slow = world_open_channel(world, 40000000, false);
	WAIT(world, world->users_count == 1);
	world->users_lazy = false;
	world->users_send = 30000000;
	fast = world_open_channel(world, 30000000, false);
	WAIT(world, user_done(fast, 30000000) && world->users_count == 2 && user_done(world->users[1], 30000000));
	assert_true(slow->sent < 4000000);
	assert_true(world->users[0]->received == 0);
	user_read(world->users[0]);
	WAIT(world, world->users[0]->ended);
	assert_int_equal(world->users[0]->received, 40000000);
	assert_false(world->users[0]->wrong);
	user_destroy(slow);
	user_destroy(fast);
	world_end(world);
}

/* Who hangs up in the middle leaves the other side of his channel with an end, and the link as it was. */
static void test_a_user_hangs_up(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	struct user *user;

	world_open_link(world, &config);
	world->users_send = UINT64_MAX / 2;
	user = world_open_channel(world, UINT64_MAX / 2, false);
	WAIT(world, user->received > 1000000);
	user_destroy(user);
	WAIT(world, world->users[0]->ended && world->users[0]->broken && world_channels(world) == 0);
	user_destroy(world->users[0]);
	world->users_count = 0;
	world_transfer(world, 100000, 3);
	assert_false(world->lost);
	world_end(world);
}

/* As many channels as there may be, and no more; their places are free again when they have gone. */
static void test_channels_are_bounded(void **state)
{
	struct world *world = world_make(state, false);
	struct link_config config = world_link_config(world);
	int fds[LINK_CHANNELS_MAX];

	world->closing = true;
	world_open_link(world, &config);
	for (unsigned i = 0; i < LINK_CHANNELS_MAX; i++) {
		fds[i] = link_channel_open(world->link);
		assert_true(fds[i] >= 0);
	}
	assert_int_equal(link_channel_open(world->link), -EAGAIN);
	for (unsigned i = 0; i < LINK_CHANNELS_MAX; i++)
		close(fds[i]);
	WAIT(world, world_channels(world) == 0);
	world->closing = false;
	world_transfer(world, 1000, 1);
	world_end(world);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WORLD_BOTH(test_channels_carry_bytes),
		WORLD_BOTH(test_a_slow_reader_stops_nobody_else),
		WORLD_BOTH(test_a_user_hangs_up),
		WORLD_BOTH(test_channels_are_bounded),
	};

	return world_run(argc, argv, tests);
}
