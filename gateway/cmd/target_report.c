/* One table, one JSON object, one JUnit file. */
#include "gateway/cmd/target_report.h"

#include <errno.h>

#include "gateway/base/units.h"
#include "gateway/cmd/clean.h"
#include "gateway/cmd/json.h"
#include "proto/escape.h"

#define NAME_COLUMNS_MAX 60

static const char *const result_words[] = { "passed", "failed", "error" };

struct sums {
	size_t results[3], cached;
};

static struct sums sum(const struct target_report *report)
{
	struct sums sums = { 0 };

	for (size_t i = 0; i < report->count; i++) {
		sums.results[report->outcomes[i].result]++;
		sums.cached += report->outcomes[i].cached;
	}
	return sums;
}

/* ---- for people ---- */

static void print_why(FILE *file, const char *why)
{
	fputs("  ", file);
	clean_print(file, span_text(why));
}

void target_report_print(FILE *file, const struct target_report *report)
{
	struct sums sums = sum(report);
	char seconds[24];
	int width = 6;

	for (size_t i = 0; i < report->count; i++)
		if ((int)strlen(report->outcomes[i].name) > width)
			width = (int)strlen(report->outcomes[i].name);
	width = width > NAME_COLUMNS_MAX ? NAME_COLUMNS_MAX : width;
	fprintf(file, "%-*s  %-7s %-6s %8s%s\n", width, "TARGET", "RESULT", "CACHE", "TIME", report->since ? "  AFFECTED" : "");
	for (size_t i = 0; i < report->count; i++) {
		const struct target_outcome *outcome = &report->outcomes[i];

		clean_print(file, span_text(outcome->name));
		fprintf(file, "%*s  %-7s %-6s %8s%s", width - (int)strnlen(outcome->name, (size_t)width), "",
		        result_words[outcome->result],
		        outcome->result == TARGET_ERROR ? "" : outcome->cached ? "hit" : "miss", units_format_duration(outcome->ns, seconds),
		        !report->since ? "" : outcome->affected ? "  yes     " : "  no      ");
		if (outcome->result == TARGET_FAILED)
			fprintf(file, "  exit %d", outcome->exit_code);
		else if (outcome->result == TARGET_ERROR)
			print_why(file, outcome->why);
		fputc('\n', file);
	}
	fprintf(file, "%zu targets: %zu passed, %zu failed, %zu errors, %zu from the cache, in %s\n", report->count,
	        sums.results[TARGET_PASSED], sums.results[TARGET_FAILED], sums.results[TARGET_ERROR], sums.cached,
	        units_format_duration(report->ns, seconds));
}

/* ---- for programs ---- */

static json_t *outcome_json(const struct target_report *report, const struct target_outcome *outcome)
{
	json_t *object = json_object();
	char text[DIGEST_TEXT_MAX];

	json_set_text(object, "target", outcome->name);
	json_set_text(object, "result", result_words[outcome->result]);
	if (outcome->result != TARGET_ERROR)
		json_object_set_new(object, "exit_code", json_integer(outcome->exit_code));
	else
		json_set_text(object, "error", outcome->why);
	json_object_set_new(object, "cached", json_boolean(outcome->cached));
	if (report->since)
		json_object_set_new(object, "affected", json_boolean(outcome->affected));
	json_set_text(object, "changes", outcome->changed ? digest_text(&outcome->changes, text) : NULL);
	json_set_seconds(object, "seconds", outcome->ns);
	return object;
}

json_t *target_report_json(const struct target_report *report)
{
	json_t *object = json_object(), *array = json_array();
	struct sums sums = sum(report);
	char text[DIGEST_TEXT_MAX];

	for (size_t i = 0; i < report->count; i++)
		json_array_append_new(array, outcome_json(report, &report->outcomes[i]));
	json_set_text(object, "root", digest_text(&report->root, text));
	json_object_set_new(object, "targets", array);
	json_set_u64(object, "passed", sums.results[TARGET_PASSED]);
	json_set_u64(object, "failed", sums.results[TARGET_FAILED]);
	json_set_u64(object, "errors", sums.results[TARGET_ERROR]);
	json_set_u64(object, "cached", sums.cached);
	json_set_seconds(object, "seconds", report->ns);
	return object;
}

/* ---- for CI servers ---- */

/* Bytes of the UTF-8 sequence at the front that XML 1.0 may hold; 0: none. */
static size_t xml_character(struct span text)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint8_t first = text.data[0];
	size_t size = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
	uint32_t code = size == 1 ? first : first & (0x7fu >> size);

	if (size == 0 || size > text.size)
		return 0;
	for (size_t i = 1; i < size; i++) {
		if ((text.data[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (text.data[i] & 0x3f);
	}
	if (code < least[size] || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff || (code & 0xfffe) == 0xfffe)
		return 0;
	return code < 0x20 && code != '\t' && code != '\n' && code != '\r' ? 0 : code == 0x7f ? 0 : size;
}

static void put_xml(FILE *file, struct span text)
{
	while (text.size) {
		size_t size = xml_character(text);

		switch (text.data[0]) {
		case '&':
			fputs("&amp;", file);
			break;
		case '<':
			fputs("&lt;", file);
			break;
		case '>':
			fputs("&gt;", file);
			break;
		case '"':
			fputs("&quot;", file);
			break;
		default:
			if (size)
				fwrite(text.data, 1, size, file);
			else
				fputs("\xef\xbf\xbd", file);
		}
		size = size ? size : 1;
		text = span_make(text.data + size, text.size - size);
	}
}

static void put_element(FILE *file, const char *name, struct span text)
{
	if (text.size == 0)
		return;
	fprintf(file, "      <%s>", name);
	put_xml(file, text);
	fprintf(file, "</%s>\n", name);
}

static void put_case(FILE *file, const struct target_report *report, const struct target_outcome *outcome)
{
	fputs("    <testcase name=\"", file);
	put_xml(file, span_text(outcome->name));
	fputs("\" classname=\"", file);
	put_xml(file, span_text(report->file));
	fprintf(file, "\" time=\"%.3f\">\n", (double)outcome->ns / 1e9);
	if (outcome->result == TARGET_FAILED)
		fprintf(file, "      <failure message=\"exit %d\"/>\n", outcome->exit_code);
	if (outcome->result == TARGET_ERROR) {
		fputs("      <error message=\"", file);
		put_xml(file, span_text(outcome->why));
		fputs("\"/>\n", file);
	}
	put_element(file, "system-out", buffer_span(&outcome->output[0]));
	put_element(file, "system-err", buffer_span(&outcome->output[1]));
	fputs("    </testcase>\n", file);
}

int target_report_junit(const char *path, const struct target_report *report)
{
	struct sums sums = sum(report);
	FILE *file = fopen(path, "we");
	char counts[160];
	int r;

	if (!file)
		return -errno;
	snprintf(counts, sizeof(counts), "tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" time=\"%.3f\"", report->count,
	         sums.results[TARGET_FAILED], sums.results[TARGET_ERROR], (double)report->ns / 1e9);
	fprintf(file, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites %s>\n  <testsuite name=\"", counts);
	put_xml(file, span_text(report->file));
	fprintf(file, "\" %s>\n", counts);
	for (size_t i = 0; i < report->count; i++)
		put_case(file, report, &report->outcomes[i]);
	fputs("  </testsuite>\n</testsuites>\n", file);
	r = ferror(file) ? -EIO : 0;
	return fclose(file) && r == 0 ? -errno : r;
}
