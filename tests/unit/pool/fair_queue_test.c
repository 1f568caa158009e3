/*
 * Shows that tenants take turns whatever each of them queues, that a tenant's own jobs keep their order, that each bound
 * holds, and that positions told beforehand are those in which jobs come out (against many random queues).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway/pool/fair_queue.h"

struct job {
	uint32_t tenant, number, position;
	struct list link;
};

static struct job *job_of(struct list *link)
{
	return container_of(link, struct job, link);
}

static void note_position(struct list *link, uint32_t position)
{
	job_of(link)->position = position;
}

static void tenants_take_turns(void **state)
{
	static const struct {
		uint32_t tenant, number;
	} wanted[] = { { 1, 0 }, { 2, 100 }, { 3, 200 }, { 1, 1 }, { 2, 101 }, { 1, 2 }, { 1, 3 }, { 1, 4 } };
	struct job jobs[8] = { 0 };
	struct fair_queue queue;

	fair_queue_init(&queue, 100, 100, 100);
	for (uint32_t i = 0; i < 8; i++) {
		jobs[i].tenant = i < 5 ? 1 : i < 7 ? 2 : 3;
		jobs[i].number = i < 5 ? i : i < 7 ? 100 + i - 5 : 200;
		assert_int_equal(fair_queue_add(&queue, jobs[i].tenant, &jobs[i].link), 0);
	}
	for (size_t i = 0; i < 8; i++) {
		struct job *job = job_of(fair_queue_take(&queue));

		assert_int_equal(job->tenant, wanted[i].tenant);
		assert_int_equal(job->number, wanted[i].number);
	}
	assert_null(fair_queue_take(&queue));
	assert_int_equal(queue.count, 0);
	fair_queue_fini(&queue);
}

static void a_late_tenant_does_not_wait_for_a_full_one(void **state)
{
	struct job many[50] = { 0 }, late = { .tenant = 2 };
	struct fair_queue queue;

	fair_queue_init(&queue, 100, 100, 100);
	for (int i = 0; i < 50; i++)
		fair_queue_add(&queue, 1, &many[i].link);
	fair_queue_take(&queue);
	fair_queue_add(&queue, 2, &late.link);
	fair_queue_take(&queue);
	assert_ptr_equal(fair_queue_take(&queue), &late.link);
	fair_queue_fini(&queue);
}

static void bounds_hold(void **state)
{
	struct job jobs[8] = { 0 };
	struct fair_queue queue;

	fair_queue_init(&queue, 4, 2, 3);
	assert_int_equal(fair_queue_add(&queue, 1, &jobs[0].link), 0);
	assert_int_equal(fair_queue_add(&queue, 1, &jobs[1].link), 0);
	assert_int_equal(fair_queue_add(&queue, 1, &jobs[2].link), -ENOSPC);     /* of one tenant */
	assert_int_equal(fair_queue_add(&queue, 2, &jobs[2].link), 0);
	assert_int_equal(fair_queue_add(&queue, 3, &jobs[3].link), 0);
	assert_int_equal(fair_queue_add(&queue, 2, &jobs[4].link), -ENOSPC);     /* of all */
	fair_queue_remove(&queue, 1, &jobs[0].link);
	assert_int_equal(fair_queue_add(&queue, 4, &jobs[4].link), -ENOSPC);     /* of tenants */
	fair_queue_remove(&queue, 1, &jobs[1].link);
	assert_int_equal(fair_queue_add(&queue, 4, &jobs[4].link), 0);
	assert_int_equal(queue.tenants_count, 3);
	fair_queue_fini(&queue);
}

static void leaving_is_no_turn(void **state)
{
	struct job one[2] = { 0 }, two = { 0 };
	struct fair_queue queue;

	fair_queue_init(&queue, 10, 10, 10);
	fair_queue_add(&queue, 1, &one[0].link);
	fair_queue_add(&queue, 1, &one[1].link);
	fair_queue_add(&queue, 2, &two.link);
	fair_queue_remove(&queue, 1, &one[0].link);
	assert_ptr_equal(fair_queue_take(&queue), &one[1].link);
	assert_ptr_equal(fair_queue_take(&queue), &two.link);
	fair_queue_fini(&queue);
}

static void positions_are_the_order_of_coming_out(void **state)
{
	srand(7);
	for (int round = 0; round < 300; round++) {
		struct job jobs[60] = { 0 };
		struct fair_queue queue;
		uint32_t taken = 0;

		fair_queue_init(&queue, 60, 60, 60);
		for (int i = 0; i < 60; i++)
			assert_int_equal(fair_queue_add(&queue, 1 + (uint32_t)(rand() % (1 + round % 9)), &jobs[i].link), 0);
		for (int i = rand() % 30; i > 0; i--)
			fair_queue_take(&queue);
		fair_queue_visit(&queue, note_position);
		for (struct list *link; (link = fair_queue_take(&queue));)
			assert_int_equal(job_of(link)->position, ++taken);
		fair_queue_fini(&queue);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tenants_take_turns),
		cmocka_unit_test(a_late_tenant_does_not_wait_for_a_full_one),
		cmocka_unit_test(bounds_hold),
		cmocka_unit_test(leaving_is_no_turn),
		cmocka_unit_test(positions_are_the_order_of_coming_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
