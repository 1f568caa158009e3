/* From Action and Command to an Assignment. */
#include "gateway/pool/task.h"

#include <stdio.h>
#include <string.h>

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

/* `format` has a place for the name. */
__attribute__((format(printf, 3, 0)))
static const char *task_refuse(struct task *task, struct span name, const char *format)
{
	snprintf(task->fault, sizeof(task->fault), format, (int)(name.size < 60 ? name.size : 60), (const char *)name.data);
	return task->fault;
}

static bool task_number(struct span text, uint64_t max, uint64_t *number)
{
	*number = 0;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9' || __builtin_mul_overflow(*number, 10, number) ||
		    __builtin_add_overflow(*number, (uint64_t)(text.data[i] - '0'), number))
			return false;
	}
	return text.size > 0 && *number <= max;
}

static bool task_flag(struct span text, bool *flag)
{
	*flag = span_is(text, "true");
	return *flag || span_is(text, "false");
}

static bool span_is_any(struct span text, const char *const *words)
{
	for (; *words; words++)
		if (span_is(text, *words))
			return true;
	return false;
}

static bool has_nul(struct span text)
{
	return text.size && memchr(text.data, 0, text.size);
}

static const char *task_take_image(struct task *task, struct span value)
{
	static const char scheme[] = "docker://";
	const size_t size = sizeof(scheme) - 1;

	if (value.size >= size && memcmp(value.data, scheme, size) == 0)
		value = span_make(value.data + size, value.size - size);
	task->image = value;
	return has_nul(value) ? "the name of the image has a NUL byte in it" : NULL;
}

static const char *task_take_network(struct task *task, struct span value)
{
	return task_flag(value, &task->network) ? NULL : "the property network is neither true nor false";
}

static const char *task_take_docker_network(struct task *task, struct span value)
{
	static const char *const on[] = { "standard", "bridge", NULL };

	task->network = span_is_any(value, on);
	return task->network || span_is(value, "off") ? NULL : "the property dockerNetwork is neither standard, bridge nor off";
}

static const char *task_take_memory(struct task *task, struct span value)
{
	return task_number(value, TASK_MEMORY_MAX_BYTES, &task->memory_bytes) ? NULL :
	       "the property memory-bytes is not a number of at most 4611686018427387904";
}

static const char *task_take_cpu(struct task *task, struct span value)
{
	return task_number(value, TASK_CPU_MILLIS_MAX, &task->cpu_millis) ? NULL :
	       "the property cpu-millis is not a number of at most 1000000";
}

static const char *task_take_pids(struct task *task, struct span value)
{
	return task_number(value, TASK_PIDS_MAX, &task->pids) ? NULL : "the property pids is not a number of at most 4194304";
}

static const char *task_take_family(struct task *task, struct span value)
{
	static const char *const names[] = { "linux", "Linux", "LINUX", NULL };

	return span_is_any(value, names) ? NULL : "the property OSFamily is not Linux, as all executors here are";
}

static const char *task_take_architecture(struct task *task, struct span value)
{
#if defined(__x86_64__)
	static const char *const names[] = { "x86-64", "x86_64", "amd64", "k8", NULL };
#elif defined(__aarch64__)
	static const char *const names[] = { "arm64", "arm-a64", "aarch64", "arm-v8", NULL };
#else
	static const char *const names[] = { NULL };
#endif

	return span_is_any(value, names) ? NULL : "the property Arch or ISA is not what the executors here are";
}

static const char *task_take_pool(struct task *task, struct span value)
{
	return value.size == 0 || span_is(value, "default") ? NULL : "the property Pool is not \"default\", the only pool here";
}

static const char *task_take_anything(struct task *task, struct span value)
{
	return NULL;
}

static const char *task_take_outputs(struct task *task, struct span value)
{
	task->changes = span_is(value, "changes");
	return task->changes ? NULL : "the property sluice-outputs is not \"changes\"";
}

static const char *task_take_property(struct task *task, const struct reapi_variable *property)
{
	static const struct {
		const char *name;
		const char *(*take)(struct task *task, struct span value);
	} known[] = {
		{ "image", task_take_image }, { "container-image", task_take_image }, { "network", task_take_network },
		{ "dockerNetwork", task_take_docker_network }, { "memory-bytes", task_take_memory }, { "cpu-millis", task_take_cpu },
		{ "pids", task_take_pids }, { "OSFamily", task_take_family }, { "Arch", task_take_architecture },
		{ "ISA", task_take_architecture }, { "Pool", task_take_pool }, { "cache-silo-key", task_take_anything },
		{ "sluice-outputs", task_take_outputs },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (span_is(property->name, known[i].name))
			return known[i].take(task, property->value);
	return task_refuse(task, property->name, "no executor here knows the platform property \"%.*s\"; known are container-image, "
	                   "OSFamily, Arch, ISA, Pool, network, and sluice's own");
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

static bool any_has_nul(const struct message_list *list)
{
	struct message_cursor cursor = { 0 };
	struct span element;

	while (message_list_next(list, &cursor, &element))
		if (has_nul(element))
			return true;
	return false;
}

/* They end in the system's strings, which would be cut there: another command than was asked for, and cached as this one. */
static const char *task_check_strings(const struct reapi_command *command)
{
	struct message_cursor cursor = { 0 };
	struct reapi_variable variable;
	struct span element;

	while (message_list_next(&command->environment, &cursor, &element)) {
		if (!message_decode(&reapi_variable_type, element, &variable))
			return "an environment variable of the Command is malformed";
		if (has_nul(variable.name) || has_nul(variable.value))
			return "an environment variable of the Command has a NUL byte in it";
	}
	if (any_has_nul(&command->arguments))
		return "an argument of the Command has a NUL byte in it";
	if (has_nul(command->working_directory) || any_has_nul(&command->output_files) ||
	    any_has_nul(&command->output_directories) || any_has_nul(&command->output_paths))
		return "a path of the Command has a NUL byte in it";
	return NULL;
}

const char *task_take_command(struct task *task, struct span bytes)
{
	struct message_cursor cursor = { 0 };
	struct reapi_command command;
	const char *fault;
	struct span name;

	if (!message_decode(&reapi_command_type, bytes, &command))
		return "the Command is malformed";
	if (command.arguments.count == 0)
		return "the Command has no arguments";
	fault = task_check_strings(&command);
	if (fault)
		return fault;
	task->arguments = command.arguments;
	task->environment = command.environment;
	task->working_directory = command.working_directory;
	task->output_files = command.output_files;
	task->output_directories = command.output_directories;
	task->output_paths = command.output_paths;
	if ((uint64_t)command.output_files.count + command.output_directories.count + command.output_paths.count > TASK_OUTPUTS_MAX)
		return "the Command names more than 4096 outputs";
	while (message_list_next(&command.output_node_properties, &cursor, &name)) {
		if (!span_is(name, "unix_mode"))
			return task_refuse(task, name, "no executor here knows the node property \"%.*s\" of outputs; known is unix_mode");
		task->unix_modes = true;
	}
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

void task_encode(const struct task *task, uint64_t id, const char *tenant, uint32_t instance, struct buffer *assignment)
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
		.changes = task->changes,
		.unix_modes = task->unix_modes,
		.instance = instance,
	};
	uint8_t storage[48];
	struct buffer root = buffer_over(storage, sizeof(storage));

	digest_list_put(&root, &task->root);
	message.root = buffer_span(&root);
	message_encode(&executor_assignment_type, assignment, &message);
	put_list(assignment, 4, &task->arguments);
	put_list(assignment, 5, &task->environment);
	if (task->changes)
		return;
	/* Those of before v2.1 are ignored where there are paths. */
	put_list(assignment, 15, &task->output_paths);
	if (task->output_paths.count == 0) {
		put_list(assignment, 13, &task->output_files);
		put_list(assignment, 14, &task->output_directories);
	}
}
