/* Commands and Actions in canonical form: variables, outputs and properties sorted, each once. */
#include "gateway/cmd/action.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/pb.h"
#include "proto/reapi.h"

bool action_directory_valid(const char *path)
{
	const char *part = path;

	if (*path == '/' || !*path)
		return false;
	while (*part) {
		size_t length = strcspn(part, "/");

		if (length == 2 && strncmp(part, "..", 2) == 0)
			return false;
		part += length + strspn(part + length, "/");
	}
	return true;
}

bool action_variable_valid(const char *text)
{
	return *text && *text != '=';
}

struct variable {
	struct span name, value;
	size_t place;                    /* in the list: of one name given twice the last counts, as with env(1) */
};

static int variable_compare(const void *a, const void *b)
{
	const struct variable *left = a, *right = b;
	int order = span_compare(left->name, right->name);

	return order ? order : (left->place > right->place) - (left->place < right->place);
}

static bool variable_take(const char *text, struct variable *variable)
{
	const char *equals = strchr(text, '=');
	const char *value = equals ? equals + 1 : getenv(text);

	if (!value)
		return false;
	variable->name = equals ? span_make(text, (size_t)(equals - text)) : span_text(text);
	variable->value = span_text(value);
	return true;
}

static bool put_environment(struct buffer *out, const struct option_list *list)
{
	struct variable *variables = calloc(list->count + 1, sizeof(*variables));
	size_t count = 0;

	if (!variables)
		return false;
	for (size_t i = 0; i < list->count; i++) {
		variables[count].place = i;
		count += variable_take(list->items[i], &variables[count]);
	}
	qsort(variables, count, sizeof(*variables), variable_compare);
	for (size_t i = 0; i < count; i++) {
		struct reapi_variable variable = { .name = variables[i].name, .value = variables[i].value };

		if (i + 1 < count && span_equal(variables[i].name, variables[i + 1].name))
			continue;
		message_nest(&reapi_variable_type, out, 2, &variable);
	}
	free(variables);
	return true;
}

static int text_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool put_outputs(struct buffer *out, const struct option_list *list)
{
	const char **paths = calloc(list->count + 1, sizeof(*paths));

	if (!paths)
		return false;
	for (size_t i = 0; i < list->count; i++)
		paths[i] = list->items[i];
	qsort(paths, list->count, sizeof(*paths), text_compare);
	for (size_t i = 0; i < list->count; i++)
		if (i == 0 || strcmp(paths[i], paths[i - 1]) != 0)
			pb_put_bytes_always(out, 7, span_text(paths[i]));
	free(paths);
	return true;
}

static void put_property(struct buffer *out, const char *name, const char *value)
{
	struct reapi_variable property = { .name = span_text(name), .value = span_text(value) };

	message_nest(&reapi_variable_type, out, 1, &property);
}

static void put_number(struct buffer *out, const char *name, uint64_t value)
{
	char text[24];

	if (!value)
		return;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	put_property(out, name, text);
}

bool action_command(const struct action_wish *wish, struct buffer *command)
{
	for (size_t i = 0; i < wish->arguments_count; i++)
		pb_put_bytes_always(command, 1, span_text(wish->arguments[i]));
	if (!put_environment(command, wish->environment))
		return false;
	if (wish->working_directory)
		pb_put_text(command, 6, wish->working_directory);
	return put_outputs(command, wish->outputs) && !command->failed;
}

bool action_encode(const struct action_wish *wish, const struct digest *command, struct buffer *action)
{
	struct buffer platform = buffer_heap(1 << 16), timeout = buffer_heap(64);
	struct reapi_action message = {
		.command_digest = *command, .input_root_digest = wish->root, .do_not_cache = wish->no_cache,
	};
	struct reapi_duration duration = {
		.seconds = wish->timeout_ns / 1000000000u, .nanos = (uint32_t)(wish->timeout_ns % 1000000000u),
	};

	put_number(&platform, "cpu-millis", wish->cpu_millis);
	if (wish->image)
		put_property(&platform, "image", wish->image);
	put_number(&platform, "memory-bytes", wish->memory_bytes);
	if (wish->network)
		put_property(&platform, "network", "true");
	put_number(&platform, "pids", wish->pids);
	put_property(&platform, "sluice-outputs", "changes");
	message_encode(&reapi_duration_type, &timeout, &duration);
	if (timeout.size)
		message.timeout = buffer_span(&timeout);
	if (platform.size)
		message.platform = buffer_span(&platform);
	message_encode(&reapi_action_type, action, &message);
	action->failed |= platform.failed || timeout.failed;
	buffer_fini(&platform);
	buffer_fini(&timeout);
	return !action->failed;
}
