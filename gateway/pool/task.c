/* From Action and Command to an Assignment. */
#include "gateway/pool/task.h"

#include "proto/pb.h"
#include "proto/reapi.h"
#include "proto/sluice_v1.h"

const char *task_take_action(struct task *task, struct span bytes)
{
	struct reapi_duration timeout = { 0 };
	struct reapi_action action;

	if (!message_decode(&reapi_action_type, bytes, &action))
		return "the Action is malformed";
	if (action.timeout.data && !message_decode(&reapi_duration_type, action.timeout, &timeout))
		return "the Action's timeout is malformed";
	/* A negative one is among these. */
	if (timeout.seconds > TASK_TIMEOUT_MAX_MS / 1000 || timeout.nanos >= 1000000000u)
		return "the Action's timeout is negative or longer than 24 hours";
	*task = (struct task){
		.command_digest = action.command_digest,
		.root = action.input_root_digest,
		.timeout_ms = timeout.seconds * 1000 + (timeout.nanos + 999999) / 1000000,
		.do_not_cache = action.do_not_cache,
		.platform = action.platform,
	};
	if (task->timeout_ms == 0 || task->timeout_ms > TASK_TIMEOUT_MAX_MS)
		task->timeout_ms = TASK_TIMEOUT_MAX_MS;
	return NULL;
}

static bool task_number(struct span text, uint64_t *number)
{
	*number = 0;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9' || __builtin_mul_overflow(*number, 10, number) ||
		    __builtin_add_overflow(*number, (uint64_t)(text.data[i] - '0'), number))
			return false;
	}
	return text.size > 0;
}

static bool task_flag(struct span text, bool *flag)
{
	*flag = span_is(text, "true");
	return *flag || span_is(text, "false");
}

static const char *task_take_property(struct task *task, const struct reapi_variable *property)
{
	if (span_is(property->name, "image"))
		task->image = property->value;
	else if (span_is(property->name, "network"))
		return task_flag(property->value, &task->network) ? NULL : "the property network is neither true nor false";
	else if (span_is(property->name, "memory-bytes"))
		return task_number(property->value, &task->memory_bytes) ? NULL : "the property memory-bytes is not a number";
	else if (span_is(property->name, "cpu-millis"))
		return task_number(property->value, &task->cpu_millis) ? NULL : "the property cpu-millis is not a number";
	else if (span_is(property->name, "pids"))
		return task_number(property->value, &task->pids) ? NULL : "the property pids is not a number";
	return NULL;
}

static const char *task_take_platform(struct task *task, struct span bytes)
{
	struct message_cursor cursor = { 0 };
	struct reapi_platform platform;
	const char *fault = NULL;
	struct span element;

	if (!bytes.data)
		return NULL;
	if (!message_decode(&reapi_platform_type, bytes, &platform))
		return "the Platform is malformed";
	while (!fault && message_list_next(&platform.properties, &cursor, &element)) {
		struct reapi_variable property;

		if (!message_decode(&reapi_variable_type, element, &property))
			return "the Platform is malformed";
		fault = task_take_property(task, &property);
	}
	return fault;
}

const char *task_take_command(struct task *task, struct span bytes)
{
	struct reapi_command command;
	const char *fault;

	if (!message_decode(&reapi_command_type, bytes, &command))
		return "the Command is malformed";
	if (command.arguments.count == 0)
		return "the Command has no arguments";
	task->arguments = command.arguments;
	task->environment = command.environment;
	task->working_directory = command.working_directory;
	fault = task_take_platform(task, command.platform);
	return fault ? fault : task_take_platform(task, task->platform);
}

static void put_list(struct buffer *out, uint32_t number, const struct message_list *list)
{
	struct message_cursor cursor = { 0 };
	struct span element;

	while (message_list_next(list, &cursor, &element))
		pb_put_bytes_always(out, number, element);
}

void task_encode(const struct task *task, uint64_t id, const char *tenant, struct buffer *assignment)
{
	struct executor_assignment message = {
		.id = id,
		.tenant = span_text(tenant),
		.working_directory = task->working_directory,
		.image = task->image,
		.network = task->network,
		.timeout_ms = task->timeout_ms,
		.memory_bytes = task->memory_bytes,
		.cpu_millis = task->cpu_millis,
		.pids = task->pids,
	};
	uint8_t storage[48];
	struct buffer root = buffer_over(storage, sizeof(storage));

	digest_list_put(&root, &task->root);
	message.root = buffer_span(&root);
	message_encode(&executor_assignment_type, assignment, &message);
	put_list(assignment, 4, &task->arguments);
	put_list(assignment, 5, &task->environment);
}
