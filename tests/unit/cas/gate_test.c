/*
 * Shows that a gate lets in as many as it should and no more, in the order of their coming; that one can leave the line;
 * and that a hundred thousand who leave from inside their own turn do not deepen the stack.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway/cas/gate.h"

struct guest {
	struct gate_pass pass;
	struct gate *gate;
	unsigned number;
	bool leaves_at_once;
};

static unsigned entered[100000], entered_count, depth, depth_most;

static void guest_on_turn(struct gate_pass *pass)
{
	struct guest *guest = container_of(pass, struct guest, pass);

	depth++;
	depth_most = depth > depth_most ? depth : depth_most;
	entered[entered_count++] = guest->number;
	if (guest->leaves_at_once)
		gate_leave(guest->gate);
	depth--;
}

static struct guest *guests_make(struct gate *gate, size_t count)
{
	struct guest *guests = calloc(count, sizeof(*guests));

	assert_non_null(guests);
	for (size_t i = 0; i < count; i++)
		guests[i] = (struct guest){ .pass.fn = guest_on_turn, .gate = gate, .number = (unsigned)i };
	entered_count = depth_most = 0;
	return guests;
}

static void as_many_as_fit_in_order(void **state)
{
	struct gate gate;
	struct guest *guests = guests_make(&gate, 6);

	gate_init(&gate, 2);
	for (size_t i = 0; i < 6; i++)
		gate_enter(&gate, &guests[i].pass);
	assert_int_equal(entered_count, 2);
	assert_int_equal(gate.busy, 2);
	gate_leave(&gate);
	assert_int_equal(entered_count, 3);
	assert_true(gate_cancel(&guests[3].pass));
	assert_false(gate_cancel(&guests[3].pass));
	assert_false(gate_cancel(&guests[0].pass));
	gate_leave(&gate);
	gate_leave(&gate);
	assert_int_equal(entered_count, 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(entered[i], i < 3 ? i : i + 1);
	gate_leave(&gate);
	gate_leave(&gate);
	assert_int_equal(gate.busy, 0);
	free(guests);
}

static void leaving_inside_a_turn_does_not_nest(void **state)
{
	enum { COUNT = 100000 };
	struct gate gate;
	struct guest *guests = guests_make(&gate, COUNT);

	gate_init(&gate, 1);
	for (size_t i = 0; i < COUNT; i++) {
		guests[i].leaves_at_once = i > 0;
		gate_enter(&gate, &guests[i].pass);
	}
	assert_int_equal(entered_count, 1);
	gate_leave(&gate);
	assert_int_equal(entered_count, COUNT);
	assert_int_equal(depth_most, 1);
	assert_int_equal(gate.busy, 0);
	free(guests);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_many_as_fit_in_order),
		cmocka_unit_test(leaving_inside_a_turn_does_not_nest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
