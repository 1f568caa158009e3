/* Whose fault an end was, and where the numbers go. */
#include "gateway/daemon/account.h"

#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/log.h"
#include "gateway/base/units.h"

/*
 * An executor's answer that is no OK: the codes with which daemons and gateways speak of themselves, and all others, with
 * which they speak of what they were asked to build. A step that fails comes as UNKNOWN.
 */
static enum ledger_fault account_fault(enum grpc_status status)
{
	switch (status) {
	case GRPC_UNAVAILABLE:
	case GRPC_INTERNAL:
	case GRPC_DATA_LOSS:
	case GRPC_RESOURCE_EXHAUSTED:
		return LEDGER_FAULT_PLATFORM;
	default:
		return LEDGER_FAULT_USER;
	}
}

/* The executor answered, or gave the call up: then there is no status. */
static void account_failed(const struct build *build, struct ledger_build *line)
{
	line->result = LEDGER_RESULT_FAILED;
	if (build->status == GRPC_OK) {
		line->fault = LEDGER_FAULT_PLATFORM;
		line->status = GRPC_INTERNAL;
		snprintf(line->error, sizeof(line->error), "the executor gave the build up without an answer");
	} else if (build->status == GRPC_CANCELLED) {
		/* What a daemon says whose client's session went away. */
		line->result = LEDGER_RESULT_CANCELLED;
		line->fault = LEDGER_FAULT_CLIENT_GONE;
	} else {
		line->fault = account_fault(build->status);
	}
}

static void account_end(const struct build *build, struct ledger_build *line)
{
	line->status = build->status;
	switch (build->result) {
	case BUILD_DONE:
		line->result = LEDGER_RESULT_OK;
		line->status = GRPC_OK;
		break;
	case BUILD_FAILED:
		account_failed(build, line);
		break;
	case BUILD_CANCELLED:
		line->result = LEDGER_RESULT_CANCELLED;
		line->fault = LEDGER_FAULT_CLIENT_GONE;
		line->status = GRPC_CANCELLED;
		break;
	case BUILD_REFUSED:
		line->result = LEDGER_RESULT_FAILED;
		line->fault = LEDGER_FAULT_PLATFORM;
		break;
	case BUILD_LOST:
	case BUILD_RUNNING:                      /* the gateway ended before it */
		line->result = LEDGER_RESULT_LOST;
		line->fault = LEDGER_FAULT_PLATFORM;
		line->status = GRPC_UNAVAILABLE;
		snprintf(line->error, sizeof(line->error), "the connection to the executor was lost");
		break;
	}
	/* The build's own words are better. */
	if (line->result != LEDGER_RESULT_OK && build->text[0])
		ledger_text(line->error, sizeof(line->error), span_text(build->text));
}

void account_line(const struct build *build, struct ledger_build *line)
{
	uint64_t waited_until = build->begun_wall_ns ? build->begun_wall_ns : build->ended_wall_ns;

	*line = (struct ledger_build){
		.queued_wall_ns = build->asked_wall_ns,
		.started_wall_ns = build->begun_wall_ns,
		.ended_wall_ns = build->ended_wall_ns,
		/* The wall clock may have been set back meanwhile. */
		.queue_ns = (waited_until > build->asked_wall_ns ? waited_until - build->asked_wall_ns : 0) + build->rewaited_ns,
		.replays = build->replays,
		.files = build->context.files, .files_changed = build->context.files_changed,
		.bytes_from_client = build->context.bytes_from_client, .bytes_from_store = build->context.bytes_from_store,
		.bytes_to_executor = build->context.bytes_to_executor,
		.steps_cached = build->steps_cached,
		.steps_executed = build->steps - build->steps_cached,    /* a step that failed ran, and cost */
	};
	ledger_text(line->tenant, sizeof(line->tenant), span_text(build->tenant));
	ledger_text(line->subject, sizeof(line->subject), span_text(build->subject));
	ledger_text(line->ref, sizeof(line->ref), span_text(build->ref));
	ledger_text(line->directory, sizeof(line->directory), span_text(build->directory));
	ledger_text(line->executor, sizeof(line->executor), span_text(build->executor));
	account_end(build, line);
}

/* "73,128" */
static char *thousands(uint64_t number, char text[static 32])
{
	char digits[24];
	int size = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number), at = 0;

	for (int i = 0; i < size; i++) {
		if (i && (size - i) % 3 == 0)
			text[at++] = ',';
		text[at++] = digits[i];
	}
	text[at] = '\0';
	return text;
}

char *account_summary(const struct build *build, char text[static 192])
{
	char files[32], changed[32], received[24], stored[24];

	snprintf(text, 192, "[sluice] context: %s files, %s changed, %s from you, %s from the store",
	         thousands(build->context.files, files), thousands(build->context.files_changed, changed),
	         units_format_bytes(build->context.bytes_from_client, received),
	         units_format_bytes(build->context.bytes_from_store, stored));
	return text;
}

void account_on_summary(void *context, struct build *build)
{
	const struct account *account = context;
	char text[192];

	if (build->context.files)
		buildkit_say(account->buildkit, build, "context", account_summary(build, text));
}

/* What became of it is counted and logged by the ledger. */
static void account_on_append(struct ledger_append *append)
{
	free(append);
}

void account_on_ended(void *context, const struct build *build)
{
	struct ledger_append *append = calloc(1, sizeof(*append));

	if (!append) {
		log_event(LOG_ERROR, "build missing in the account", LOG_TEXT("ref", build->ref), LOG_TEXT("why", "out of memory"));
		return;
	}
	account_line(build, &append->build);
	append->fn = account_on_append;
	ledger_append(((struct account *)context)->ledger, append);
}
