/* A result that is known already: it has to be whole still. */
#include "gateway/pool/execution.h"

/* Held since it was found whole, so that it is there for the caller to fetch. */
static void execution_on_cached_whole(struct result_check *check)
{
	struct execution *execution = container_of(check, struct execution, check);

	if (execution_gone(execution))
		return;
	if (check->outcome != RESULT_WHOLE) {
		result_check_fini(check);        /* evicted meanwhile: what is left of it is not held while the action runs */
		execution_run(execution);
		return;
	}
	execution->service->counters.cache_hits++;
	execution_answer(execution, true);
}

static void execution_on_cached_result(struct store_read *read)
{
	struct execution *execution = container_of(read, struct execution, read);

	if (execution_gone(execution))
		return;
	if (read->result == STORE_OK)
		buffer_put(&execution->result, read->blob.data, read->blob.size);
	if (read->result != STORE_OK || execution->result.failed) {
		execution_run(execution);
		return;
	}
	execution->check = (struct result_check){
		.cas = execution->service->cas, .scope = execution->scope, .result = buffer_span(&execution->result),
		.fn = execution_on_cached_whole,
	};
	execution->state = EXECUTION_CACHED_WHOLE;
	result_check(&execution->check);
}

static void execution_on_note(struct store_note *note)
{
	struct execution *execution = container_of(note, struct execution, note);
	struct span value = span_make(note->value, note->value_size);

	if (execution_gone(execution))
		return;
	if (note->result != STORE_OK || !digest_list_next(&value, &execution->result_digest) ||
	    execution->result_digest.size > EXECUTE_COMMAND_BYTES_MAX) {
		execution_run(execution);
		return;
	}
	execution->state = EXECUTION_CACHED_RESULT;
	if (!execution_read(execution, &execution->result_digest, execution_on_cached_result))
		execution_run(execution);
}

void execution_look_up(struct execution *execution)
{
	execution->note.fn = execution_on_note;
	execution->state = EXECUTION_NOTE;
	store_note_get(execution->service->cas->store, &execution->note);
}
