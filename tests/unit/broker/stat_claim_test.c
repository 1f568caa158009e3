/*
 * Shows that the first claim on a file fetches it, that the others wait, are told its name, and inherit the fetching when it is lost.
 * Both ring engines.
 */
#include "tests/unit/broker/stat_rig.h"

#include "gateway/broker/stat_claim.h"

struct claiming {
	struct stat_claim claim;
	unsigned named, lost;
	struct content_name name;
	void (*hook)(struct claiming *claiming);
};

static void on_claim_named(struct stat_claim *claim, const struct content_name *name)
{
	struct claiming *claiming = container_of(claim, struct claiming, claim);

	claiming->named++;
	claiming->name = *name;
	if (claiming->hook)
		claiming->hook(claiming);
}

static void on_claim_lost(struct stat_claim *claim)
{
	struct claiming *claiming = container_of(claim, struct claiming, claim);

	claiming->lost++;
	if (claiming->hook)
		claiming->hook(claiming);
}

static int claim(struct stat_table *table, struct claiming *claiming, unsigned number)
{
	*claiming = (struct claiming){
		.claim = { .table = table, .key = rig_entry_key(number), .on_named = on_claim_named, .on_lost = on_claim_lost },
	};
	return stat_table_claim(&claiming->claim);
}

static void turns(void)
{
	for (unsigned i = 0; i < 3; i++)
		ring_run(rig_ring, 0);
}

static void the_first_claim_fetches_for_all(void **state)
{
	struct stat_table *table = rig_get(1);
	struct claiming claims[6], other;
	struct content_name name = rig_name_of(7);

	assert_int_equal(claim(table, &claims[0], 7), STAT_CLAIM_FETCH);
	assert_int_equal(claim(table, &other, 8), STAT_CLAIM_FETCH);
	for (unsigned i = 1; i < 6; i++)
		assert_int_equal(claim(table, &claims[i], 7), STAT_CLAIM_WAIT);
	assert_int_equal(rig_status().claims, 2);
	assert_int_equal(rig_status().claims_waiting, 5);
	stat_claim_end(&claims[3].claim);        /* a waiter leaves */
	stat_claim_end(&claims[3].claim);
	stat_claim_end(&claims[0].claim);        /* the fetcher could not */
	assert_int_equal(claims[1].lost, 0);     /* from the loop */
	turns();
	assert_int_equal(claims[1].lost, 1);
	assert_int_equal(claims[2].lost + claims[3].lost + claims[4].lost, 0);
	assert_int_equal(claim(table, &claims[0], 7), STAT_CLAIM_WAIT);
	stat_claim_named(&claims[1].claim, &name);
	stat_claim_end(&claims[4].claim);        /* leaves before it is told */
	turns();
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(claims[i].named, i == 0 || i == 2 || i == 5);
	assert_true(digest_equal(&claims[5].name.digest, &name.digest));
	assert_true(rig_knows(table, 7));
	/* Over: the next one is the first again. */
	assert_int_equal(claim(table, &claims[0], 7), STAT_CLAIM_FETCH);
	stat_claim_end(&claims[0].claim);
	stat_claim_end(&other.claim);
	assert_int_equal(rig_status().claims + rig_status().claims_waiting, 0);
	stat_table_unref(table);
}

static void give_up(struct claiming *claiming)
{
	stat_claim_end(&claiming->claim);
}

static void a_lost_claim_goes_down_the_line(void **state)
{
	struct stat_table *table = rig_get(1);
	struct claiming claims[50];

	for (unsigned i = 0; i < 50; i++) {
		claim(table, &claims[i], 1);
		claims[i].hook = give_up;
	}
	stat_claim_end(&claims[0].claim);
	stat_claim_end(&claims[1].claim);        /* the fetcher already, though not told */
	for (unsigned i = 0; i < 100; i++)
		ring_run(rig_ring, 0);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(claims[i].lost, i >= 2);
	assert_int_equal(rig_status().claims + rig_status().claims_waiting, 0);
	stat_table_unref(table);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(the_first_claim_fetches_for_all),
		RIG_TEST(a_lost_claim_goes_down_the_line),
	};

	return rig_run(argc, argv, tests);
}
