/* What an action is: its blobs, the environment that it would meet, and whether an equal one is under way. */
#include "gateway/pool/execution.h"

#include <stdlib.h>

#include "gateway/pool/action_key.h"

bool execution_read(struct execution *execution, const struct digest *digest, void (*fn)(struct store_read *read))
{
	free(execution->read.buffer);
	execution->read = (struct store_read){
		.scope = execution->scope, .digest = *digest, .buffer = malloc(digest->size + STORE_READ_EXTRA_BYTES), .fn = fn,
	};
	if (!execution->read.buffer)
		return false;
	store_read(execution->service->cas->store, &execution->read);
	return true;
}

/* ---- sharing ---- */

/* Who wants a run is not served by one that may yet be answered from the cache. */
static bool execution_serves(const struct execution *execution, const struct execution *wish)
{
	return execution->shared && !execution->cancelled &&
	       (!wish->skip_cache || execution->skip_cache || execution->state >= EXECUTION_INPUTS) &&
	       scope_same(&execution->scope, &wish->scope) && memcmp(execution->key, wish->key, sizeof(wish->key)) == 0;
}

static struct execution *execution_find_shared(const struct execution *execution)
{
	list_for_each(link, &execution->service->running) {
		struct execution *other = container_of(link, struct execution, link);

		if (other != execution && execution_serves(other, execution))
			return other;
	}
	return NULL;
}

/* Nobody has been told the name of the one that is given up. */
static void execution_move(struct execution *execution, struct execution *other)
{
	bool skip_cache = execution->skip_cache;
	struct list moved;

	list_init(&moved);
	list_for_each_safe(link, after, &execution->waiters) {
		list_remove(link);
		list_append(&moved, link);
	}
	execution_fail(execution, GRPC_CANCELLED, "another one with the same action was under way");
	execution->service->counters.failures--;
	if (!op_in_flight(&execution->linger))
		execution_free(execution);
	list_for_each_safe(link, after, &moved) {
		list_remove(link);
		other->service->counters.joined++;
		other->skip_cache |= skip_cache;
		execution_join(other, container_of(link, struct waiter, link));
	}
}

static void execution_on_resolved(struct pool_resolve *resolve)
{
	struct execution *execution = container_of(resolve, struct execution, resolve);
	struct execution *other;

	if (execution_gone(execution))
		return;
	if (resolve->status != GRPC_OK) {
		execution_fail(execution, resolve->status, resolve->fault);
		return;
	}
	action_key_make(execution->key, &execution->action, resolve);
	execution->shared = !execution->task.do_not_cache;
	other = execution->shared ? execution_find_shared(execution) : NULL;
	if (other) {
		execution_move(execution, other);
		return;
	}
	execution->note = (struct store_note){ .scope = execution->scope, .key_size = sizeof(execution->key) };
	memcpy(execution->note.key, execution->key, sizeof(execution->key));
	execution_tell(execution, NULL);
	if (execution->skip_cache || execution->task.do_not_cache) {
		execution_run(execution);
		return;
	}
	execution_look_up(execution);
}

/* ---- the action ---- */

/* A blob that the request or the Action names. */
static void execution_read_part(struct execution *execution, const struct digest *digest, enum execution_state state,
                                void (*fn)(struct store_read *read))
{
	execution->state = state;
	if (digest->size > EXECUTE_COMMAND_BYTES_MAX)
		execution_fail(execution, GRPC_INVALID_ARGUMENT, "the Action or its Command is longer than 1 MiB");
	else if (!execution_read(execution, digest, fn))
		execution_fail_memory(execution);
}

/* What was read of it; false: the execution has failed. */
static bool execution_take_part(struct execution *execution, struct buffer *part, const char *missing)
{
	const struct store_read *read = &execution->read;

	if (read->result < 0) {
		execution_fail_store(execution, read->result);
		return false;
	}
	if (read->result != STORE_OK) {
		execution_fail_missing_one(execution, missing, &read->digest);
		return false;
	}
	buffer_put(part, read->blob.data, read->blob.size);
	if (part->failed)
		execution_fail_memory(execution);
	return !part->failed;
}

static void execution_on_command(struct store_read *read)
{
	struct execution *execution = container_of(read, struct execution, read);
	struct execute_service *service = execution->service;
	const char *fault;

	if (execution_gone(execution) ||
	    !execution_take_part(execution, &execution->command_bytes, "the Action's Command is not in the store: upload it first"))
		return;
	fault = task_take_command(&execution->task, buffer_span(&execution->command_bytes));
	if (fault) {
		execution_fail(execution, GRPC_INVALID_ARGUMENT, fault);
		return;
	}
	if (execution->task.image.size == 0 && !service->allow_host_root) {
		execution_fail(execution, GRPC_PERMISSION_DENIED,
		               "this gateway does not let actions use its host's /usr: name an image, or start it with --allow-host-root");
		return;
	}
	if (execution->task.network && !service->allow_network) {
		execution_fail(execution, GRPC_PERMISSION_DENIED,
		               "this gateway gives actions no network: do without, or start it with --allow-network");
		return;
	}
	execution->resolve.image = execution->task.image;
	execution->resolve.fn = execution_on_resolved;
	execution->state = EXECUTION_RESOLVE;
	pool_resolve(service->pool, &execution->resolve);
}

static void execution_on_action(struct store_read *read)
{
	struct execution *execution = container_of(read, struct execution, read);
	const char *fault;

	if (execution_gone(execution) ||
	    !execution_take_part(execution, &execution->action_bytes, "the Action is not in the store: upload it first"))
		return;
	fault = task_take_action(&execution->task, buffer_span(&execution->action_bytes));
	if (fault) {
		execution_fail(execution, GRPC_INVALID_ARGUMENT, fault);
		return;
	}
	/* The tree must outlast the queue and the run, whatever else comes. */
	if (store_hold_root(execution->hold, &execution->task.root) < 0) {
		execution_fail_memory(execution);
		return;
	}
	execution_read_part(execution, &execution->task.command_digest, EXECUTION_COMMAND, execution_on_command);
}

void execution_look_at_action(struct execution *execution)
{
	execution_read_part(execution, &execution->action, EXECUTION_ACTION, execution_on_action);
}
