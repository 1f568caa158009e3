/*
 * Shows that playbacks are stopped, and the set destroyed, in every state and from inside events. Run with each index
 * engine and both ring engines.
 */
#include "tests/unit/cas/playback_rig.h"

static struct content some_contents[4];
static struct content_name some_names[5];

static void some_make(void)
{
	for (unsigned i = 0; i < 4; i++) {
		some_contents[i] = content_make(i, (size_t)i * 150000 + 5, CONTENT_RANDOM);
		some_names[i] = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &some_contents[i]);
	}
	some_names[4] = some_names[3];
	some_names[4].digest.hash[0] ^= 1;
}

static void some_free(void)
{
	for (unsigned i = 0; i < 4; i++)
		content_free(&some_contents[i]);
}

/* After so many steps everything is stopped, or the set destroyed. */
static void leave_after(unsigned steps, bool destroy)
{
	static struct play plays[PLAYS];
	uint64_t random = steps;

	for (unsigned i = 0; i < PLAYS; i++)
		play_start(&plays[i], &some_names[i % 5], &some_contents[i % 5 % 4], 0);
	for (unsigned i = 0; i < steps; i++) {
		if (content_random(&random) % 4 == 0)
			ring_run(rig_fixture.ring, 0);
		else
			play_take(&plays[content_random(&random) % PLAYS], 1 + content_random(&random) % 200000);
	}
	if (destroy) {
		playbacks_destroy(rig_playbacks);
		rig_create();
	} else {
		for (unsigned i = 0; i < PLAYS; i++)
			playback_stop(&plays[(i * 7) % PLAYS].playback);
	}
	for (unsigned i = 0; i < PLAYS; i++) {
		playback_stop(&plays[i].playback);
		memset(&plays[i].playback, 0xa5, sizeof(plays[i].playback));
	}
	for (unsigned i = 0; i < 3; i++)
		ring_run(rig_fixture.ring, 100000);
}

static void playbacks_end_in_every_state(void **state)
{
	some_make();
	for (unsigned steps = 0; steps < 200; steps += 3) {
		leave_after(steps, false);
		leave_after(steps + 1, true);
	}
	some_free();
}

static struct play hook_plays[12];
static unsigned hook_countdown, hook_events;
static bool hook_destroys;

static void leave_in_event(struct play *play)
{
	hook_events++;
	if (hook_countdown-- > 0)
		return;
	rig_hook = NULL;
	if (hook_destroys) {
		playbacks_destroy(rig_playbacks);
		rig_playbacks = NULL;
		return;
	}
	for (unsigned i = 0; i < 12; i++)
		playback_stop(&hook_plays[i].playback);
	play_start(&hook_plays[0], &some_names[2], &some_contents[2], 7);
}

static void events_may_end_what_they_are_of(void **state)
{
	some_make();
	for (unsigned i = 0; i < 30; i++) {
		hook_countdown = i / 3;          /* there are twelve events at least */
		hook_destroys = i % 2;
		rig_hook = leave_in_event;
		for (unsigned j = 0; j < 12; j++)
			play_start(&hook_plays[j], &some_names[j % 5], &some_contents[j % 5 % 4], 0);
		for (unsigned turns = 0; rig_hook && turns < 10000; turns++) {
			rig_turn();
			for (unsigned j = 0; rig_hook && j < 12; j++)
				play_take(&hook_plays[j], 40000);
		}
		assert_null(rig_hook);
		if (!rig_playbacks) {
			rig_create();
			continue;
		}
		play_through(&hook_plays[0]);
		assert_true(playback_ended(&hook_plays[0].playback));
	}
	some_free();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(playbacks_end_in_every_state),
		RIG_TEST(events_may_end_what_they_are_of),
	};

	return rig_run(argc, argv, tests);
}
