/* sluice builds: what was built, by whom it was done, and what it cost. */
#include <stdio.h>

#include "gateway/base/cleanup.h"
#include "gateway/cmd/builds_table.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/session.h"

struct builds_options {
	uint64_t limit, since_ns;
	bool failed, json;
};

#define MEMBER(name) offsetof(struct builds_options, name)
static const struct option builds_options[] = {
	{ .name = "limit", .letter = 'n', .kind = OPTION_NUMBER, .offset = MEMBER(limit), .argument = "N", .fallback = "50", .least = 1,
	  .most = SLUICE_BUILDS_MAX, .help = "at most this many, the newest ones" },
	{ .name = "since", .kind = OPTION_DURATION, .offset = MEMBER(since_ns), .argument = "TIME", .least = 1,
	  .help = "only builds that ended in the last so much: 30m, 1h, 7d" },
	{ .name = "failed", .kind = OPTION_FLAG, .offset = MEMBER(failed), .help = "only builds that failed or were lost" },
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object a build" },
};
#undef MEMBER
static const struct option_group builds_group = OPTION_GROUP("Options", builds_options);
static const struct option_group *const builds_groups[] = { &builds_group, &client_options_group, NULL };

static int malformed(void)
{
	return session_failed(&command_builds, 0, GRPC_INTERNAL, "the gateway sent a malformed answer");
}

static int print_json(const struct builds_response *response)
{
	struct message_cursor cursor = { 0 };
	struct build_line line;
	struct span element;
	int status = STATUS_OK;

	while (status == STATUS_OK && message_list_next(&response->builds, &cursor, &element)) {
		if (!message_decode(&build_line_type, element, &line))
			return malformed();
		status = json_print(builds_json(&line));
	}
	return status;
}

static int print_answer(const struct builds_options *builds, struct span bytes)
{
	struct builds_response response;

	if (!message_decode(&builds_response_type, bytes, &response))
		return malformed();
	if (builds->json)
		return print_json(&response);
	if (response.builds.count == 0) {
		fputs("no builds found; what `sluice run` and remote execution ran is not in this list\n", stderr);
		return STATUS_OK;
	}
	return builds_table_print(stdout, &response) ? STATUS_OK : malformed();
}

static int ask(struct client *client, const struct builds_options *builds)
{
	struct builds_request request = {
		.limit = (uint32_t)builds->limit, .within_ns = builds->since_ns, .failed_only = builds->failed,
	};
	uint8_t storage[64];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct client_call *call = NULL;
	const char *text = "";
	struct span bytes;
	int r, status;

	message_encode(&builds_request_type, &out, &request);
	r = client_unary(client, SLUICE_BUILDS, buffer_span(&out), &call, &bytes);
	if (r == CLIENT_OK)
		status = print_answer(builds, bytes);
	else if (r == CLIENT_END && client_call_status(call, &text) == GRPC_UNIMPLEMENTED)
		status = session_failed(&command_builds, 0, GRPC_UNIMPLEMENTED,
		                        "the gateway is older than this command: it keeps no account");
	else
		status = session_unary_failed(&command_builds, client, call, r);
	client_call_close(call);
	return status;
}

static int builds_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct builds_options builds;
	struct client_options client_options;
	void *const values[] = { &builds, &client_options };
	struct client *client = NULL;
	int status;

	if (!options_parse(&options, &command_builds, values, argc, argv, &status))
		return status;
	status = session_open(&client, &command_builds, &client_options);
	if (status == STATUS_OK)
		status = ask(client, &builds);
	session_close(client);
	return status;
}

const struct command command_builds = {
	.name = "builds",
	.summary = "list builds: how they ended, where they ran, what they cost",
	.help = "Lists the builds of your tenant that went through the gateway, the newest first: how long ago each ended, its\n"
	        "directory and result (and whose fault it was), how long it ran and waited, on which executor, what came from\n"
	        "you and what from the gateway's store, and how many steps were cached and run.\n\n"
	        "  sluice builds --limit 10\n"
	        "  sluice builds --since 1h --failed --json",
	.run = builds_run,
	.groups = builds_groups,
};
