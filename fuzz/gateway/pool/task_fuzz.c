/*
 * task: an Action and a Command, as anybody may upload them: two bytes of length, the Action, the Command. Each is taken or
 * refused with a sentence; what is taken becomes an Assignment that an executor can read, with as many arguments, and not
 * more outputs than it takes.
 */
#include "gateway/pool/task.h"

#include <stdlib.h>
#include <string.h>

#include "proto/sluice_v1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static void check_assignment(const struct task *task)
{
	struct buffer assignment = buffer_heap(4u << 20);
	struct executor_assignment read;

	task_encode(task, 1, "tenant", 2, &assignment);
	REQUIRE(!assignment.failed);
	REQUIRE(message_decode(&executor_assignment_type, buffer_span(&assignment), &read));
	REQUIRE(read.id == 1 && read.arguments.count == task->arguments.count && read.timeout_ms <= TASK_TIMEOUT_MAX_MS);
	REQUIRE((uint64_t)read.output_files.count + read.output_directories.count + read.output_paths.count <= TASK_OUTPUTS_MAX);
	REQUIRE(!read.changes || read.output_paths.count == 0);
	buffer_fini(&assignment);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t action_size;
	struct task task;
	const char *fault;

	if (size < 2)
		return 0;
	action_size = (size_t)(data[0] | data[1] << 8);
	if (action_size > size - 2)
		return 0;
	fault = task_take_action(&task, span_make(data + 2, action_size));
	if (!fault)
		fault = task_take_command(&task, span_make(data + 2 + action_size, size - 2 - action_size));
	if (fault)
		REQUIRE(*fault);
	else
		check_assignment(&task);
	return 0;
}
