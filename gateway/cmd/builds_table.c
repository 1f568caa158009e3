/* Columns are measured first: so many lines are few, and a table that jumps is none. */
#include "gateway/cmd/builds_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include "gateway/base/units.h"
#include "gateway/cmd/clean.h"
#include "gateway/cmd/json.h"
#include "gateway/ledger/ledger_build.h"

enum {
	NAME_CHARACTERS_MAX = 40,
	ERROR_CHARACTERS_MAX = 100,
	CELL_BYTES = 4 * ERROR_CHARACTERS_MAX + 8,
};

enum column {
	COLUMN_ENDED,
	COLUMN_DIRECTORY,
	COLUMN_RESULT,
	COLUMN_DURATION,
	COLUMN_QUEUE,
	COLUMN_EXECUTOR,
	COLUMN_FROM_YOU,
	COLUMN_FROM_STORE,
	COLUMN_STEPS,
	COLUMN_ERROR,
	COLUMNS,
};

static const char *const headings[COLUMNS] = {
	"ENDED", "DIRECTORY", "RESULT", "DURATION", "QUEUE", "EXECUTOR", "FROM YOU", "FROM STORE", "CACHED/RUN", "ERROR",
};

struct row {
	char cells[COLUMNS][CELL_BYTES];
};

static size_t count_characters(const char *text)
{
	size_t count = 0;

	for (; *text; text++)
		count += ((unsigned char)*text & 0xc0) != 0x80;
	return count;
}

/* What is too long ends in `…`. */
static void put_text(char *cell, struct span text, size_t characters_max)
{
	size_t used = 0, characters = 0, last = 0;

	while (text.size) {
		if (characters++ == characters_max) {
			memcpy(cell + last, "…", sizeof("…"));
			return;
		}
		last = used;
		used += clean_take(&text, cell + used);
	}
	cell[used] = '\0';
	if (used == 0)
		memcpy(cell, "-", 2);
}

static void put_duration(char *cell, uint64_t ns)
{
	char text[24];

	snprintf(cell, CELL_BYTES, "%s", ns ? units_format_duration(ns, text) : "-");
}

static void put_bytes(char *cell, uint64_t bytes)
{
	char text[24];

	snprintf(cell, CELL_BYTES, "%s", units_format_bytes(bytes, text));
}

/* One unit: "42s ago", "5m ago", "3h ago", "12d ago". */
static void put_ago(char *cell, uint64_t now_ns, uint64_t then_ns)
{
	uint64_t seconds = then_ns < now_ns ? (now_ns - then_ns) / 1000000000u : 0;

	if (seconds < 60)
		snprintf(cell, CELL_BYTES, "%" PRIu64 "s ago", seconds);
	else if (seconds < 3600)
		snprintf(cell, CELL_BYTES, "%" PRIu64 "m ago", seconds / 60);
	else if (seconds < 86400)
		snprintf(cell, CELL_BYTES, "%" PRIu64 "h ago", seconds / 3600);
	else
		snprintf(cell, CELL_BYTES, "%" PRIu64 "d ago", seconds / 86400);
}

static uint64_t duration_ns(const struct build_line *line)
{
	bool ran = line->started_unix_ns && line->ended_unix_ns > line->started_unix_ns;

	return ran ? line->ended_unix_ns - line->started_unix_ns : 0;
}

static void row_fill(struct row *row, const struct build_line *line, uint64_t now_ns)
{
	put_ago(row->cells[COLUMN_ENDED], now_ns, line->ended_unix_ns);
	put_text(row->cells[COLUMN_DIRECTORY], line->directory, NAME_CHARACTERS_MAX);
	if (line->fault == LEDGER_FAULT_NONE)
		snprintf(row->cells[COLUMN_RESULT], CELL_BYTES, "%s", ledger_result_name(line->result));
	else
		snprintf(row->cells[COLUMN_RESULT], CELL_BYTES, "%s (%s)", ledger_result_name(line->result),
		         ledger_fault_name(line->fault));
	put_duration(row->cells[COLUMN_DURATION], duration_ns(line));
	put_duration(row->cells[COLUMN_QUEUE], line->queue_ns);
	put_text(row->cells[COLUMN_EXECUTOR], line->executor, NAME_CHARACTERS_MAX);
	put_bytes(row->cells[COLUMN_FROM_YOU], line->bytes_from_client);
	put_bytes(row->cells[COLUMN_FROM_STORE], line->bytes_from_store);
	snprintf(row->cells[COLUMN_STEPS], CELL_BYTES, "%u/%u", line->steps_cached, line->steps_executed);
	put_text(row->cells[COLUMN_ERROR], line->error, ERROR_CHARACTERS_MAX);
}

static void row_print(FILE *file, const struct row *row, const size_t *widths, size_t columns)
{
	for (size_t i = 0; i < columns; i++) {
		const char *cell = row->cells[i];
		int gap = i + 1 < columns ? (int)(widths[i] - count_characters(cell)) + 2 : 0;

		fprintf(file, "%s%*s", cell, gap, "");
	}
	fputc('\n', file);
}

static bool rows_fill(struct row *rows, const struct builds_response *response)
{
	struct message_cursor cursor = { 0 };
	struct build_line line;
	struct span element;
	size_t count = 0;

	for (size_t i = 0; i < COLUMNS; i++)
		snprintf(rows[0].cells[i], CELL_BYTES, "%s", headings[i]);
	while (message_list_next(&response->builds, &cursor, &element)) {
		if (!message_decode(&build_line_type, element, &line))
			return false;
		row_fill(&rows[++count], &line, response->now_unix_ns);
	}
	return true;
}

bool builds_table_print(FILE *file, const struct builds_response *response)
{
	size_t count = (size_t)response->builds.count + 1, widths[COLUMNS] = { 0 }, columns = COLUMN_ERROR;
	/* No gateway sends more. A line takes two bytes there, and a row 4 KiB here. */
	struct row *rows = count <= SLUICE_BUILDS_MAX + 1 ? calloc(count, sizeof(*rows)) : NULL;
	bool well_formed = rows && rows_fill(rows, response);

	for (size_t i = 0; well_formed && i < count; i++) {
		if (i && strcmp(rows[i].cells[COLUMN_ERROR], "-") != 0)
			columns = COLUMNS;       /* a column of errors only when there are some */
		for (size_t c = 0; c < COLUMNS; c++) {
			size_t width = count_characters(rows[i].cells[c]);

			widths[c] = width > widths[c] ? width : widths[c];
		}
	}
	for (size_t i = 0; well_formed && i < count; i++)
		row_print(file, &rows[i], widths, columns);
	free(rows);
	return well_formed;
}

static void set_span(json_t *object, const char *key, struct span text)
{
	char copy[1024];

	snprintf(copy, sizeof(copy), "%.*s", (int)text.size, (const char *)text.data);
	json_set_text(object, key, copy);
}

static void set_time(json_t *object, const char *key, uint64_t ns)
{
	if (ns)
		json_set_seconds(object, key, ns);
	else
		json_set_text(object, key, NULL);
}

json_t *builds_json(const struct build_line *line)
{
	json_t *object = json_object();

	if (!object)
		return NULL;
	set_span(object, "subject", line->subject);
	set_span(object, "ref", line->ref);
	set_span(object, "directory", line->directory);
	set_span(object, "executor", line->executor);
	set_time(object, "queued_unix_seconds", line->queued_unix_ns);
	set_time(object, "started_unix_seconds", line->started_unix_ns);
	set_time(object, "ended_unix_seconds", line->ended_unix_ns);
	json_set_seconds(object, "duration_seconds", duration_ns(line));
	json_set_seconds(object, "queue_seconds", line->queue_ns);
	json_set_text(object, "result", ledger_result_name(line->result));
	json_set_text(object, "fault", ledger_fault_name(line->fault));
	json_set_u64(object, "status", line->status);
	set_span(object, "error", line->error);
	json_set_u64(object, "files", line->files);
	json_set_u64(object, "files_changed", line->files_changed);
	json_set_u64(object, "bytes_from_client", line->bytes_from_client);
	json_set_u64(object, "bytes_from_store", line->bytes_from_store);
	json_set_u64(object, "bytes_to_executor", line->bytes_to_executor);
	json_set_u64(object, "steps_cached", line->steps_cached);
	json_set_u64(object, "steps_executed", line->steps_executed);
	json_set_u64(object, "replays", line->replays);
	return object;
}
