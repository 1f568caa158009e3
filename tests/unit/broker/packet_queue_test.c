/*
 * Shows that packets come out of a packet_queue as they went in, whatever is pushed and popped in between and wherever they lie;
 * that it knows how much content waits; that it takes no more memory than what waits at a time asks for, and gives it back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/broker/packet_queue.h"

static size_t size_of(uint32_t number) { return number * 2654435761u % 3000; }

static void push(struct packet_queue *queue, uint32_t number)
{
	uint8_t bytes[3000];
	size_t size = size_of(number), half = size / 2;
	struct span parts[2] = { span_make(bytes, half), span_make(bytes + half, size - half) };

	memset(bytes, (int)(number % 251), sizeof(bytes));
	if (number % 3)
		assert_int_equal(packet_queue_push_content(queue, parts, 2, half), 0);
	else
		assert_int_equal(packet_queue_push(queue, parts, 2), 0);
}

/* Returns the content that it brought. */
static size_t pop(struct packet_queue *queue, uint32_t number)
{
	size_t content = queue->content;
	struct span packet;

	assert_true(packet_queue_front(queue, &packet));
	assert_int_equal(packet.size, size_of(number));
	for (size_t i = 0; i < packet.size; i++)
		assert_int_equal(packet.data[i], number % 251);
	packet_queue_pop(queue);
	return content - queue->content;
}

/* From 0 to 40 packets wait, and back, again and again. */
static void first_in_first_out(void **state)
{
	struct packet_queue queue = { .kept_bytes = 1 << 20 };
	uint32_t pushed = 0, popped = 0;

	for (uint32_t round = 0; round < 500; round++) {
		for (uint32_t i = round * 7 % 40; i > 0; i--)
			push(&queue, pushed++);
		for (uint32_t i = round * 11 % 43; i > 0 && popped < pushed; i--, popped++)
			assert_int_equal(pop(&queue, popped), popped % 3 ? size_of(popped) / 2 : 0);
		assert_true(packet_queue_empty(&queue) == (popped == pushed));
		if (popped == pushed)
			assert_int_equal(queue.bytes + queue.content, 0);
	}
	assert_true(queue.spill.capacity < 8 * 3000 * 500);
	packet_queue_fini(&queue);
}

/* A reader that is always a few packets behind: what was taken makes room, also when the queue is never empty. */
static void a_short_queue_stays_short(void **state)
{
	struct packet_queue queue = { 0 };

	for (uint32_t number = 0; number < 10; number++)
		push(&queue, number);
	for (uint32_t number = 10; number < 20000; number++) {
		pop(&queue, number - 10);
		push(&queue, number);
	}
	assert_true(queue.spill.capacity < 10 * 3000 * 4);
	packet_queue_fini(&queue);
}

/* One that is filled bit by bit is not there before it is whole; those before it are. */
static void a_packet_comes_in_parts(void **state)
{
	struct packet_queue queue = { 0 };
	struct span packet;

	for (uint32_t round = 0; round < 100; round++) {
		push(&queue, 1);
		assert_int_equal(packet_queue_begin(&queue, 6000, 5000), 0);
		for (int i = 0; i < 3; i++) {
			uint8_t bytes[2000];

			memset(bytes, i, sizeof(bytes));
			if (i == 1) {
				pop(&queue, 1);
				assert_false(packet_queue_front(&queue, &packet));
				assert_false(packet_queue_empty(&queue));
			}
			packet_queue_more(&queue, span_make(bytes, sizeof(bytes)));
		}
		assert_true(packet_queue_front(&queue, &packet));
		assert_int_equal(packet.size, 6000);
		for (size_t i = 0; i < packet.size; i++)
			assert_int_equal(packet.data[i], i / 2000);
		assert_int_equal(queue.content, 5000);
		packet_queue_pop(&queue);
		assert_true(packet_queue_empty(&queue));
	}
	packet_queue_fini(&queue);
}

static void memory_goes_back(void **state)
{
	struct packet_queue queue = { .kept_bytes = 10000 };

	for (uint32_t number = 0; number < 100; number++)
		push(&queue, number);
	for (uint32_t number = 0; number < 100; number++)
		pop(&queue, number);
	assert_int_equal(queue.spill.capacity, 0);
	assert_false(packet_queue_front(&queue, &(struct span){ 0 }));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_in_first_out),
		cmocka_unit_test(a_short_queue_stays_short),
		cmocka_unit_test(a_packet_comes_in_parts),
		cmocka_unit_test(memory_goes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
