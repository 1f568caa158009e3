/* sluice fsck: checks a store that no daemon has open. */
#include <errno.h>
#include <inttypes.h>
#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/options.h"
#include "gateway/store/fsck.h"

enum {
	PROBLEMS_MAX = 1000,             /* more findings than these are counted, not listed, in --json */
	FSCK_TROUBLE = 2,                /* nothing is known of the store; as `sluice diff` has it */
};

struct fsck_options {
	bool repair, json;
};

#define MEMBER(name) offsetof(struct fsck_options, name)
static const struct option fsck_options[] = {
	{ .name = "repair", .kind = OPTION_FLAG, .offset = MEMBER(repair), .help = "mend the index from the segments" },
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object" },
};
#undef MEMBER
static const struct option_group fsck_group = OPTION_GROUP("Options", fsck_options);
static const struct option_group *const fsck_groups[] = { &fsck_group, NULL };

struct findings {
	json_t *list;                    /* NULL: lines go to stderr as they come */
	uint64_t count;
};

static void on_problem(void *context, const char *line)
{
	struct findings *findings = context;

	findings->count++;
	if (!findings->list)
		fprintf(stderr, "%s\n", line);
	else if (json_array_size(findings->list) < PROBLEMS_MAX)
		json_array_append_new(findings->list, json_text(line));
}

static const struct {
	const char *name;
	size_t offset;
} report_fields[] = {
#define FIELD(name) { #name, offsetof(struct fsck_report, name) }
	FIELD(segments), FIELD(records), FIELD(bytes), FIELD(records_dead), FIELD(records_corrupt), FIELD(entries),
	FIELD(entries_dangling), FIELD(entries_missing), FIELD(entries_repaired), FIELD(marks), FIELD(pins),
#undef FIELD
};

static uint64_t report_field(const struct fsck_report *report, size_t i)
{
	return *(const uint64_t *)(const void *)((const char *)report + report_fields[i].offset);
}

static void print_report(const struct fsck_report *report, const struct findings *findings, int r, bool repair)
{
	for (size_t i = 0; i < sizeof(report_fields) / sizeof(report_fields[0]); i++)
		printf("%-18s %" PRIu64 "\n", report_fields[i].name, report_field(report, i));
	if (r == 0)
		puts("clean");
	else
		printf("%" PRIu64 " problems found%s\n", findings->count,
		       repair ? ", the index was mended" : "; `sluice fsck --repair` mends the index");
}

static int print_json(const struct fsck_report *report, struct findings *findings, int r)
{
	json_t *object = json_object();

	json_object_set_new(object, "clean", json_boolean(r == 0));
	json_set_u64(object, "problem_count", findings->count);
	json_object_set_new(object, "problems", findings->list);
	for (size_t i = 0; i < sizeof(report_fields) / sizeof(report_fields[0]); i++)
		json_set_u64(object, report_fields[i].name, report_field(report, i));
	return json_print(object);
}

static int fsck_store(const struct fsck_options *fsck, const char *path)
{
	struct findings findings = { .list = fsck->json ? json_array() : NULL };
	struct fsck_report report = { 0 };
	int r = store_fsck(path, fsck->repair, &report, on_problem, &findings);
	int status = STATUS_OK;

	if (r < 0) {
		json_decref(findings.list);
		command_fail(&command_fsck, "%s%s", report.why, r == -EBUSY ? ": stop it first" : "");
		status = command_status_errno(r);
		return status == STATUS_FAILURE && findings.count == 0 ? FSCK_TROUBLE : status;
	}
	if (fsck->json)
		status = print_json(&report, &findings, r);
	else
		print_report(&report, &findings, r, fsck->repair);
	return status ? status : r == 0 ? STATUS_OK : STATUS_FAILURE;
}

static int fsck_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct fsck_options fsck;
	void *const values[] = { &fsck };
	int status;

	if (!options_parse(&options, &command_fsck, values, argc, argv, &status))
		return status;
	if (options.operand_count != 1)
		return command_usage(&command_fsck, "one STORE is needed: the directory that `sluice serve --store` has");
	return fsck_store(&fsck, options.operands[0]);
}

const struct command command_fsck = {
	.name = "fsck",
	.summary = "check a store, and mend its index from its segments",
	.help = "Reads every record of every segment, checks it against its header, checksum and SHA-256, and the index\n"
	        "against the segments. No daemon may have the store open. Started as root it does so as the user that the\n"
	        "store belongs to. Exits with 0 when it is clean, with 1 when a problem was found, also when --repair has\n"
	        "mended it, with 2 or more when it could not be checked.\n\n"
	        "  sluice fsck --repair /var/lib/sluice",
	.run = fsck_run,
	.operands = "STORE",
	.groups = fsck_groups,
};
