/*
 * Shows the table of promises by itself: the first who is told that a blob is absent promises it, siblings of the same
 * tenant and instance await it, others do not; who waits is told when what he waits for has come, or was let go of, and not
 * of each blob before; what has not come is handed out to be looked for, in parts, and whoever claims it again promises it;
 * a promiser of whom nothing arrives stalls, one that is being served or sends a little does not; a full table promises
 * nothing and breaks nothing, and no choice of names makes it slow; and who has promised something never waits for a root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "gateway/base/list.h"
#include "gateway/cas/promises.h"

enum { A, B, C, OTHER_TENANT, OTHER_INSTANCE, PUSHES };

static struct ring *ring;
static struct promises promises;
static struct push {
	struct promiser promiser;
	struct call call;
	unsigned changes;
} pushes[PUSHES];

static void on_change(struct promiser *promiser)
{
	container_of(promiser, struct push, promiser)->changes++;
}

static struct digest blob(uint32_t number)
{
	struct digest digest = { .size = 1 + number };

	memcpy(digest.hash, &number, sizeof(number));
	memset(digest.hash + 4, 0x5a, 8);
	return digest;
}

static bool claim(int push, uint32_t number)
{
	struct digest digest = blob(number);

	return promiser_claim(&pushes[push].promiser, &digest, true);
}

static void keep(int push, uint32_t number)
{
	struct digest digest = blob(number);

	promises_kept(&promises, &pushes[push].promiser.scope, &digest, 1);
}

static bool waits(int push)
{
	return promiser_waits(&pushes[push].promiser);
}

static int setup(void **state)
{
	assert_int_equal(ring_create(&ring, &(struct ring_config){ .engine = RING_ENGINE_EPOLL }), 0);
	promises_init(&promises, ring);
	for (int i = 0; i < PUSHES; i++) {
		struct scope scope = { .tenant = i == OTHER_TENANT ? 2 : 1, .instance = i == OTHER_INSTANCE ? 2 : 1 };

		pushes[i] = (struct push){ 0 };
		promiser_init(&pushes[i].promiser, &promises, &scope, &pushes[i].call, on_change);
	}
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < PUSHES; i++)
		promiser_fini(&pushes[i].promiser);
	assert_int_equal(promises.count, 0);
	assert_int_equal(promises.awaited, 0);
	promises_fini(&promises);
	ring_destroy(ring);
	return 0;
}

static void the_first_promises_and_siblings_await(void **state)
{
	assert_false(claim(A, 1));
	assert_false(claim(A, 1));               /* its own is none to wait for */
	assert_true(claim(B, 1));
	assert_true(claim(B, 1));
	assert_true(claim(C, 1));
	assert_false(claim(OTHER_TENANT, 1));
	assert_false(claim(OTHER_INSTANCE, 1));
	assert_int_equal(promises.count, 3);
	assert_int_equal(promises.awaited, 2);
	keep(OTHER_TENANT, 1);                   /* his own promise, nobody else's */
	assert_int_equal(promises.count, 2);
	assert_true(waits(B));
	keep(A, 1);
	assert_int_equal(pushes[B].changes, 1);
	assert_false(waits(B));
	assert_false(waits(C));
}

static void who_waits_is_told_once(void **state)
{
	struct digest digests[8];

	for (uint32_t i = 0; i < 100; i++) {
		assert_false(claim(A, i));
		assert_true(claim(B, i));
	}
	assert_true(waits(B));
	for (uint32_t i = 0; i < 99; i++)
		keep(A, i);
	assert_int_equal(pushes[B].changes, 0);
	keep(A, 99);
	assert_int_equal(pushes[B].changes, 1);
	assert_false(waits(B));
	for (size_t left = 100; left;) {
		size_t count = promiser_settling(&pushes[B].promiser, 8);

		assert_int_equal(count, left < 8 ? left : 8);
		promiser_settle(&pushes[B].promiser, digests, count);
		left -= count;
	}
	assert_int_equal(promiser_settling(&pushes[B].promiser, 8), 0);
}

static void what_was_let_go_of_is_promised_again(void **state)
{
	struct digest digests[3];

	for (uint32_t i = 0; i < 3; i++) {
		claim(A, i);
		assert_true(claim(B, i));
		assert_true(claim(C, i));
	}
	assert_true(waits(B) && waits(C));
	promiser_release(&pushes[A].promiser);
	assert_int_equal(pushes[B].changes, 1);
	assert_int_equal(pushes[C].changes, 1);
	assert_false(waits(B) || waits(C));
	assert_int_equal(promiser_settling(&pushes[B].promiser, 8), 3);
	promiser_settle(&pushes[B].promiser, digests, 3);
	for (size_t i = 0; i < 3; i++)
		assert_false(promiser_claim(&pushes[B].promiser, &digests[i], true));
	/* The other finds them promised anew. */
	assert_int_equal(promiser_settling(&pushes[C].promiser, 8), 3);
	promiser_settle(&pushes[C].promiser, digests, 3);
	for (size_t i = 0; i < 3; i++)
		assert_true(promiser_claim(&pushes[C].promiser, &digests[i], true));
	assert_true(waits(C));
	/* Impatient: it takes one over, and he who had promised it is none the worse. */
	assert_false(promiser_claim(&pushes[C].promiser, &digests[0], false));
	promiser_fini(&pushes[B].promiser);
	assert_false(waits(C));
}

static void who_sends_nothing_stalls(void **state)
{
	promises.stall_ns = 0;                   /* any second look at an idle one is too late */
	claim(A, 1);
	assert_true(claim(B, 1));                /* the first look */
	assert_false(claim(B, 1));
	assert_int_equal(promises.count, 1);     /* it is B's now */
	assert_true(claim(C, 1));
	pushes[B].call.bytes_received = 5;
	assert_true(waits(C));                   /* something has come */
	pushes[B].promiser.busy = true;
	assert_true(waits(C));
	assert_true(waits(C));                   /* it is being served */
	pushes[B].promiser.busy = false;
	assert_false(waits(C));
}

static void a_full_table_breaks_nothing(void **state)
{
	promises.count_max = 2;
	promises.awaited_max = 1;
	assert_false(claim(A, 1));
	assert_false(claim(A, 2));
	assert_false(claim(A, 3));
	assert_false(claim(B, 3));               /* not promised by A, nor by B now */
	assert_int_equal(promises.count, 2);
	assert_true(claim(B, 1));
	assert_false(claim(B, 2));               /* no more is awaited: B takes it over */
	assert_int_equal(promises.awaited, 1);
	assert_true(claim(B, 1));
	keep(A, 1);
	keep(A, 3);
}

#define HOSTILE 100000                   /* in one bucket, each would be looked for among all before it */
#define SECONDS 3                        /* a twentieth of one is enough */

/* Nobody has to have what he asks about. */
static void hostile_names_cost_no_more_than_others(void **state)
{
	clock_t began = clock();

	for (uint32_t i = 0; i < HOSTILE; i++) {
		struct digest digest = { .size = 100 };

		memcpy(digest.hash + 8, &i, sizeof(i));
		assert_false(promiser_claim(&pushes[A].promiser, &digest, true));
	}
	assert_int_equal(promises.count, HOSTILE);
	promiser_release(&pushes[A].promiser);
	assert_true(clock() - began < SECONDS * CLOCKS_PER_SEC);
}

static void roots_are_waited_for_by_who_has_promised_nothing(void **state)
{
	struct digest root = blob(7), other = blob(8);

	assert_false(promiser_claim_root(&pushes[A].promiser, &root, true));
	assert_true(promiser_claim_root(&pushes[B].promiser, &root, true));
	assert_false(claim(C, 7));               /* a blob of that name is something else */
	assert_false(promiser_claim_root(&pushes[C].promiser, &root, true));
	promiser_release(&pushes[A].promiser);   /* of blobs alone */
	assert_int_equal(pushes[B].changes, 0);
	promises_kept_root(&promises, &pushes[A].promiser.scope, &other);
	promises_kept_root(&promises, &pushes[OTHER_TENANT].promiser.scope, &root);
	assert_int_equal(pushes[B].changes, 0);
	promises_kept_root(&promises, &pushes[A].promiser.scope, &root);
	assert_int_equal(pushes[B].changes, 1);
	/* The other way: he who had it is gone, and the next one takes it. */
	assert_false(promiser_claim_root(&pushes[A].promiser, &other, true));
	assert_true(promiser_claim_root(&pushes[B].promiser, &other, true));
	promiser_fini(&pushes[A].promiser);
	assert_int_equal(pushes[B].changes, 2);
	assert_false(promiser_claim_root(&pushes[B].promiser, &other, true));
	assert_false(promiser_claim_root(&pushes[OTHER_INSTANCE].promiser, &root, true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_first_promises_and_siblings_await, setup, teardown),
		cmocka_unit_test_setup_teardown(who_waits_is_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_let_go_of_is_promised_again, setup, teardown),
		cmocka_unit_test_setup_teardown(who_sends_nothing_stalls, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_table_breaks_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_names_cost_no_more_than_others, setup, teardown),
		cmocka_unit_test_setup_teardown(roots_are_waited_for_by_who_has_promised_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
