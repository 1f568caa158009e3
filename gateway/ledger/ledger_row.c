/* A line's members and a row's columns, in one order. */
#include "gateway/ledger/ledger_row.h"

#include "gateway/base/check.h"

static void bind_text(sqlite3_stmt *statement, int *at, const char *text)
{
	sqlite3_bind_text(statement, ++*at, text, -1, SQLITE_STATIC);
}

static void bind_number(sqlite3_stmt *statement, int *at, uint64_t number)
{
	sqlite3_bind_int64(statement, ++*at, number > INT64_MAX ? INT64_MAX : (int64_t)number);
}

/* In the order of LEDGER_ROW_COLUMNS. */
void ledger_row_bind(sqlite3_stmt *statement, const struct ledger_build *build)
{
	int at = 0;

	bind_text(statement, &at, build->tenant);
	bind_text(statement, &at, build->subject);
	bind_text(statement, &at, build->ref);
	bind_text(statement, &at, build->directory);
	bind_text(statement, &at, build->executor);
	bind_number(statement, &at, build->queued_wall_ns);
	bind_number(statement, &at, build->started_wall_ns);
	bind_number(statement, &at, build->ended_wall_ns);
	bind_number(statement, &at, build->queue_ns);
	bind_number(statement, &at, build->files);
	bind_number(statement, &at, build->files_changed);
	bind_number(statement, &at, build->bytes_from_client);
	bind_number(statement, &at, build->bytes_from_store);
	bind_number(statement, &at, build->bytes_to_executor);
	bind_number(statement, &at, build->steps_cached);
	bind_number(statement, &at, build->steps_executed);
	bind_number(statement, &at, build->replays);
	bind_text(statement, &at, ledger_result_name(build->result));
	bind_text(statement, &at, ledger_fault_name(build->fault));
	bind_number(statement, &at, build->status);
	bind_text(statement, &at, build->error);
	CHECK(at == sqlite3_bind_parameter_count(statement));
}

/* The file may have been written by others: nothing in it is trusted to fit. */
static void column_text(sqlite3_stmt *statement, int *at, char *out, size_t size)
{
	const void *text = sqlite3_column_text(statement, *at);
	int bytes = sqlite3_column_bytes(statement, (*at)++);

	ledger_text(out, size, span_make(text, text && bytes > 0 ? (size_t)bytes : 0));
}

static uint64_t column_number(sqlite3_stmt *statement, int *at)
{
	int64_t number = sqlite3_column_int64(statement, (*at)++);

	return number < 0 ? 0 : (uint64_t)number;
}

static uint32_t column_short(sqlite3_stmt *statement, int *at)
{
	uint64_t number = column_number(statement, at);

	return number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
}

void ledger_row_read(sqlite3_stmt *statement, struct ledger_build *build)
{
	char word[32];
	int at = 0;

	column_text(statement, &at, build->tenant, sizeof(build->tenant));
	column_text(statement, &at, build->subject, sizeof(build->subject));
	column_text(statement, &at, build->ref, sizeof(build->ref));
	column_text(statement, &at, build->directory, sizeof(build->directory));
	column_text(statement, &at, build->executor, sizeof(build->executor));
	build->queued_wall_ns = column_number(statement, &at);
	build->started_wall_ns = column_number(statement, &at);
	build->ended_wall_ns = column_number(statement, &at);
	build->queue_ns = column_number(statement, &at);
	build->files = column_number(statement, &at);
	build->files_changed = column_number(statement, &at);
	build->bytes_from_client = column_number(statement, &at);
	build->bytes_from_store = column_number(statement, &at);
	build->bytes_to_executor = column_number(statement, &at);
	build->steps_cached = column_short(statement, &at);
	build->steps_executed = column_short(statement, &at);
	build->replays = column_short(statement, &at);
	column_text(statement, &at, word, sizeof(word));
	build->result = ledger_result_find(word);
	column_text(statement, &at, word, sizeof(word));
	build->fault = ledger_fault_find(word);
	build->status = column_short(statement, &at);
	column_text(statement, &at, build->error, sizeof(build->error));
	CHECK(at == sqlite3_column_count(statement));
}
