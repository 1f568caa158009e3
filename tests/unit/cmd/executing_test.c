/* Shows that operations of an Execute are taken apart, and that output for anything but stdout and stderr is malformed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/cmd/executing.h"

const struct command *const command_table[] = { NULL };

static struct span encode(const struct message_type *type, const void *message)
{
	static uint8_t storage[4][256];
	static unsigned next;
	struct buffer out = buffer_over(storage[next++ % 4], sizeof(storage[0]));

	message_encode(type, &out, message);
	assert_false(out.failed);
	return buffer_span(&out);
}

static bool read_output(struct executing_news *news, const struct execute_output *output)
{
	struct reapi_execute_metadata metadata = { .stage = 3, .sluice_output = encode(&execute_output_type, output) };
	struct reapi_any any = { .value = encode(&reapi_execute_metadata_type, &metadata) };
	struct reapi_operation operation = { .metadata = encode(&reapi_any_type, &any) };

	return executing_read(news, encode(&reapi_operation_type, &operation));
}

static void output_has_one_of_two_streams(void **state)
{
	struct executing_news news;

	for (uint32_t stream = 0; stream < 5; stream++) {
		struct execute_output output = { .stream = stream, .data = span_text("text") };

		assert_int_equal(read_output(&news, &output), stream == 1 || stream == 2);
		assert_true(!(stream == 1 || stream == 2) || (news.output.stream == stream && span_is(news.output.data, "text")));
	}
	assert_false(read_output(&news, &(struct execute_output){ .stream = UINT32_MAX, .data = span_text("text") }));
	/* A place in the queue comes without any. */
	assert_true(read_output(&news, &(struct execute_output){ .queue_position = 7 }));
	assert_int_equal(news.output.queue_position, 7);
	assert_false(executing_read(&news, span_text("\xff")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_has_one_of_two_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
