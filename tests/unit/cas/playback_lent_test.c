/*
 * Shows that chunks which are lent on stay until they are dropped, whatever becomes of their playback and of the set,
 * and that memory is bounded with them in it. Run with each index engine and both ring engines.
 */
#include "tests/unit/cas/playback_rig.h"

#define LENT_MAX 64

static struct lent {
	struct ahead *chunk;
	struct span data;
	size_t at;                       /* in the content */
} lent[LENT_MAX];
static unsigned lent_count;

/* Takes the chunk that is there; what is before it is written over. False: none is. */
static bool take_chunk(struct play *play)
{
	struct lent *one = &lent[lent_count];

	assert_true(lent_count < LENT_MAX);
	one->at = (size_t)play->playback.offset;
	one->chunk = playback_take_chunk(&play->playback, &one->data);
	play->starved = !one->chunk;
	if (!one->chunk)
		return false;
	assert_true(one->data.size > 0);
	assert_int_equal(play->playback.offset, one->at + one->data.size);
	memset((uint8_t *)(uintptr_t)one->data.data - STORE_READ_EXTRA_BYTES, 'x', STORE_READ_EXTRA_BYTES);
	lent_count++;
	return true;
}

static void assert_lent(const struct content *content)
{
	assert_true(playbacks_memory(rig_playbacks) <= RIG_MEMORY_MAX);
	for (unsigned i = 0; i < lent_count; i++)
		assert_memory_equal(lent[i].data.data, content->data + lent[i].at, lent[i].data.size);
}

static void drop_chunk(void)
{
	playback_drop_chunk(lent[0].chunk);
	lent_count--;
	memmove(lent, lent + 1, lent_count * sizeof(*lent));
}

/* All that is taken and not dropped is in the bound; each that is dropped lets more come. */
static void chunks_are_lent_within_the_bound(void **state)
{
	struct content content = content_make(6, 9000000, CONTENT_RANDOM);
	struct content_name name = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &content);
	struct play play;
	unsigned full = 0;

	play_start(&play, &name, &content, 777);
	play_ready(&play);
	while (play.ready == STORE_OK && !playback_ended(&play.playback)) {
		while (take_chunk(&play))
			assert_lent(&content);
		for (unsigned i = 0; i < 30; i++)
			ring_run(rig_fixture.ring, 1000000);
		if (playback_ended(&play.playback) || take_chunk(&play))
			continue;
		assert_true(lent_count > 0);
		assert_lent(&content);
		drop_chunk();
		full++;
	}
	assert_int_equal(play.failed, NOT_TOLD);
	assert_true(full > 10);
	assert_lent(&content);
	while (lent_count)
		drop_chunk();
	assert_int_equal(playbacks_memory(rig_playbacks), 0);
	playback_drop_chunk(NULL);
	playback_stop(&play.playback);
	content_free(&content);
}

/* What is lent stays when a later chunk turns out damaged, when the playback is stopped, and when the set is destroyed. */
static void lent_chunks_outlive_their_playback(void **state)
{
	struct content content = content_make(4, 2000000, CONTENT_RANDOM);
	struct content_name name = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &content);
	struct blob part = { .data = content.data + 1000000, .digest.size = 64 };
	struct play play;

	rig_close();
	assert_int_equal(damage_blob(&rig_fixture, &part), 1);
	rig_open_again();
	play_start(&play, &name, &content, 0);
	play_ready(&play);
	while (play.failed == NOT_TOLD)
		if (!take_chunk(&play))
			rig_turn();
	assert_int_equal(play.failed, STORE_CORRUPT);
	assert_true(lent_count > 2);
	assert_lent(&content);
	playback_stop(&play.playback);
	assert_lent(&content);
	playbacks_destroy(rig_playbacks);
	for (unsigned i = 0; i < 10; i++)
		ring_run(rig_fixture.ring, 1000000);
	for (unsigned i = 0; i < lent_count; i++)
		assert_memory_equal(lent[i].data.data, content.data + lent[i].at, lent[i].data.size);
	while (lent_count) {
		assert_false(cas_idle(&rig_cas));
		drop_chunk();
	}
	assert_true(cas_idle(&rig_cas));
	rig_create();
	content_free(&content);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(chunks_are_lent_within_the_bound),
		RIG_TEST(lent_chunks_outlive_their_playback),
	};

	return rig_run(argc, argv, tests);
}
