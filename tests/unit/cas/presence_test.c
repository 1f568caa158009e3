/*
 * Shows that what is there is told of blobs of any length, in the order asked; that a hold keeps longer ones in a store that is
 * full; and that a long list of them does not keep the loop from its other work.
 */
#include "tests/unit/cas/contents.h"

#include "gateway/cas/presence.h"
#include "gateway/cas/references.h"
#include "proto/recipe.h"

#define LONG_BLOBS  1000
#define LOOKED_MOST 100                  /* that are looked for between two turns of the loop */
#define CHUNKS      2
#define CHUNK_BYTES (3u << 20)

static struct fixture fixture;
static struct sha256 hasher;
static struct cas cas;

static int setup(void **state)
{
	fixture_init(&fixture);
	fixture.config.references = closure_references;
	fixture_open(&fixture);
	sha256_init(&hasher, SHA256_AUTO);
	content_cas(&fixture, &cas, &hasher);
	return 0;
}

static int teardown(void **state)
{
	cas_fini(&cas);
	fixture_fini(&fixture);
	return 0;
}

/* And what else the loop has to do: to see how far that is. */
struct looking {
	struct presence presence;
	struct post others;
	size_t at, most;                 /* before; in one turn */
	bool end, ended;
};

static void others_on_turn(struct post *post)
{
	struct looking *looking = container_of(post, struct looking, others);

	if (looking->presence.at - looking->at > looking->most)
		looking->most = looking->presence.at - looking->at;
	looking->at = looking->presence.at;
	looking->ended = looking->end;
	if (!looking->end)
		ring_post(fixture.ring, post);
}

static void on_presence(struct presence *presence)
{
	container_of(presence, struct looking, presence)->end = true;
}

struct keeping {
	struct pair pair;
	bool done;
};

static void on_kept(struct pair *pair)
{
	container_of(pair, struct keeping, pair)->done = true;
}

/* A blob of two chunks. */
static struct digest keep_long(uint64_t number)
{
	struct keeping keeping = { .pair = { .scope = fixture.a, .blob.size = CHUNKS * CHUNK_BYTES, .fn = on_kept } };
	struct buffer bytes = buffer_heap(4096);
	struct blob chunk, recipe = { 0 };

	recipe_begin(&bytes, &(struct recipe_head){ .profile = 1, .file_size = CHUNKS * CHUNK_BYTES });
	for (uint64_t i = 0; i < CHUNKS; i++) {
		chunk = blob_make(number + i, CHUNK_BYTES);
		assert_int_equal(put_blob(&fixture, &fixture.a, &chunk), STORE_OK);
		recipe_add(&bytes, &chunk.digest);
		blob_free(&chunk);
	}
	recipe.data = bytes.data;
	blob_digest(&recipe, bytes.size);
	assert_int_equal(put_blob(&fixture, &fixture.a, &recipe), STORE_OK);
	memcpy(keeping.pair.blob.hash, &number, sizeof(number));
	keeping.pair.recipe = recipe.digest;
	pair_keep(fixture.store, &keeping.pair);
	run_until(&fixture, &keeping.done);
	assert_int_equal(keeping.pair.result, STORE_OK);
	buffer_fini(&bytes);
	return keeping.pair.blob;
}

static void look_holding(struct looking *looking, const struct digest *digests, size_t count, bool *present,
                         struct store_hold *hold)
{
	*looking = (struct looking){
		.presence = { .cas = &cas, .scope = fixture.a, .digests = digests, .count = count, .present = present, .hold = hold,
		              .fn = on_presence },
		.others.fn = others_on_turn,
	};
	ring_post(fixture.ring, &looking->others);
	presence_look(&looking->presence);
	run_until(&fixture, &looking->ended);
	assert_int_equal(looking->presence.result, 0);
}

static void look(struct looking *looking, const struct digest *digests, size_t count, bool *present)
{
	look_holding(looking, digests, count, present, NULL);
}

static void blobs_of_all_lengths_are_told_apart(void **state)
{
	struct blob small = blob_make(1, 100);
	struct digest digests[6] = { small.digest, keep_long(10), { .size = 100 }, { .size = 6u << 20 }, digest_empty, small.digest };
	struct looking looking;
	bool present[6];

	assert_int_equal(put_blob(&fixture, &fixture.a, &small), STORE_OK);
	look(&looking, digests, 6, present);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(present[i], i != 2 && i != 3);
	blob_free(&small);
}

static void a_long_list_lets_others_have_their_turns(void **state)
{
	static struct digest digests[LONG_BLOBS];
	static bool present[LONG_BLOBS];
	struct digest there = keep_long(20);
	struct looking looking;

	for (size_t i = 0; i < LONG_BLOBS; i++)
		digests[i] = i % 2 ? there : (struct digest){ .size = (5u << 20) + i };
	look(&looking, digests, LONG_BLOBS, present);
	for (size_t i = 0; i < LONG_BLOBS; i++)
		assert_int_equal(present[i], i % 2);
	assert_in_range(looking.most, 1, LOOKED_MOST);
}

/* As much as the store takes, twice, comes behind them. */
static void a_hold_keeps_longer_ones(void **state)
{
	struct store_hold *hold = store_hold_create(fixture.store, &fixture.a);
	struct digest digests[2] = { keep_long(30), keep_long(40) };
	struct looking looking;
	bool present[2];

	look(&looking, digests, 2, present);
	assert_true(present[0] && present[1]);
	look_holding(&looking, digests, 1, present, hold);
	for (uint64_t done = 0; done < 2 * fixture.config.ceiling_bytes; done += 1u << 20) {
		struct blob blob = blob_make(1000 + done, 1u << 20);

		assert_int_equal(put_blob(&fixture, &fixture.a, &blob), STORE_OK);
		blob_free(&blob);
	}
	look(&looking, digests, 2, present);
	assert_true(present[0]);
	assert_false(present[1]);
	store_hold_release(hold);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(blobs_of_all_lengths_are_told_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hold_keeps_longer_ones, setup, teardown),
		cmocka_unit_test_setup_teardown(a_long_list_lets_others_have_their_turns, setup, teardown),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	fixture_choose_ring(argc > 2 ? argv[2] : NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
