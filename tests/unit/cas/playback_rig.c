/* Playbacks for tests. */
#include "tests/unit/cas/playback_rig.h"

#include "chunker/sha256.h"

struct fixture rig_fixture;
struct cas rig_cas;
struct playbacks *rig_playbacks;
void (*rig_hook)(struct play *play);

static struct sha256 hasher;

void rig_choose(int argc, char **argv)
{
	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	fixture_choose_ring(argc > 2 ? argv[2] : NULL);
	sha256_init(&hasher, SHA256_AUTO);
}

static void on_ready(struct playback *playback, int result)
{
	struct play *play = container_of(playback, struct play, playback);

	assert_int_equal(play->ready, NOT_TOLD);
	assert_int_equal(play->failed, NOT_TOLD);
	play->ready = result;
	if (rig_hook)
		rig_hook(play);
}

static void on_data(struct playback *playback)
{
	struct play *play = container_of(playback, struct play, playback);

	assert_int_equal(play->ready, STORE_OK);
	assert_int_equal(play->failed, NOT_TOLD);
	assert_true(play->starved);
	play->starved = false;
	play->data_events++;
	if (rig_hook)
		rig_hook(play);
}

static void on_failed(struct playback *playback, int result)
{
	struct play *play = container_of(playback, struct play, playback);

	assert_int_equal(play->ready, STORE_OK);
	assert_int_equal(play->failed, NOT_TOLD);
	play->failed = result;
	if (rig_hook)
		rig_hook(play);
}

static const struct playback_events events = { .on_ready = on_ready, .on_data = on_data, .on_failed = on_failed };

void rig_create(void)
{
	rig_playbacks = playbacks_create(&rig_cas, &rig_fixture.a, &events, &rig_cas);
	assert_non_null(rig_playbacks);
	assert_ptr_equal(playbacks_owner(rig_playbacks), &rig_cas);
}

static int setup_store(uint64_t ceiling_bytes)
{
	fixture_init(&rig_fixture);
	rig_fixture.config.ceiling_bytes = ceiling_bytes;
	fixture_open(&rig_fixture);
	content_cas(&rig_fixture, &rig_cas, &hasher);
	rig_hook = NULL;
	rig_create();
	return 0;
}

int rig_setup(void **state)
{
	return setup_store(256 << 20);
}

int rig_setup_small(void **state)
{
	return setup_store(64 << 20);
}

int rig_teardown(void **state)
{
	playbacks_destroy(rig_playbacks);
	while (!cas_idle(&rig_cas))
		ring_run(rig_fixture.ring, 1000000);
	fixture_fini(&rig_fixture);
	return 0;
}

void rig_close(void)
{
	playbacks_destroy(rig_playbacks);
	assert_int_equal(sync_store(&rig_fixture), STORE_OK);
	fixture_close(&rig_fixture);
}

void rig_open_again(void)
{
	fixture_open(&rig_fixture);
	content_cas(&rig_fixture, &rig_cas, &hasher);
	rig_create();
}

void rig_turn(void)
{
	ring_run(rig_fixture.ring, 100000000);
}

void play_start(struct play *play, const struct content_name *name, const struct content *content, uint64_t offset)
{
	*play = (struct play){ .content = content, .start = offset, .ready = NOT_TOLD, .failed = NOT_TOLD };
	playback_start(rig_playbacks, &play->playback, name, offset);
	assert_int_equal(play->ready, NOT_TOLD);
}

size_t play_take(struct play *play, size_t size)
{
	struct span data = playback_data(&play->playback);

	assert_true(playbacks_memory(rig_playbacks) <= RIG_MEMORY_MAX);
	play->starved = data.size == 0;
	if (data.size == 0)
		return 0;
	assert_int_equal(play->ready, STORE_OK);
	if (size > data.size)
		size = data.size;
	assert_true(play->playback.offset + size <= play->content->size);
	assert_memory_equal(data.data, play->content->data + play->playback.offset, size);
	playback_taken(&play->playback, size);
	return size;
}

void play_ready(struct play *play)
{
	for (unsigned i = 0; play->ready == NOT_TOLD; i++) {
		assert_true(i < 10000);
		rig_turn();
	}
}

void play_through(struct play *play)
{
	play_ready(play);
	while (play->ready == STORE_OK && play->failed == NOT_TOLD && !playback_ended(&play->playback))
		if (play_take(play, 1 << 20) == 0)
			rig_turn();
}

void rig_assert_plays(const struct content_name *name, const struct content *content, uint64_t offset)
{
	struct play play;

	play_start(&play, name, content, offset);
	play_through(&play);
	assert_int_equal(play.ready, STORE_OK);
	assert_int_equal(play.failed, NOT_TOLD);
	playback_stop(&play.playback);
}

void rig_assert_missing(const struct content_name *name)
{
	struct play play;

	play_start(&play, name, NULL, 0);
	play_ready(&play);
	assert_int_equal(play.ready, STORE_MISSING);
	assert_int_equal(playback_data(&play.playback).size, 0);
	playback_stop(&play.playback);
}

struct blob rig_put_buffer(struct buffer *bytes)
{
	struct blob blob = { .digest.size = bytes->size, .data = bytes->data };

	assert_false(bytes->failed);
	sha256_once(bytes->data, bytes->size, blob.digest.hash);
	assert_int_equal(put_blob(&rig_fixture, &rig_fixture.a, &blob), STORE_OK);
	return blob;
}
