/* sluice status: who the gateway takes us for, and how it is. */
#include <stdio.h>
#include <time.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/units.h"
#include "gateway/cmd/clean.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/session.h"
#include "proto/sluice_v1.h"

struct status_options {
	bool json;
};

static const struct option status_options[] = {
	{ .name = "json", .kind = OPTION_FLAG, .offset = offsetof(struct status_options, json), .help = "print one JSON object" },
};
static const struct option_group status_group = OPTION_GROUP("Options", status_options);
static const struct option_group *const status_groups[] = { &status_group, &client_options_group, NULL };

static void set_span(json_t *object, const char *key, struct span text)
{
	char copy[512];

	snprintf(copy, sizeof(copy), "%.*s", (int)text.size, (const char *)text.data);
	json_set_text(object, key, copy);
}

static bool next_pin(const struct message_list *pins, struct message_cursor *cursor, struct pinned_root *pin,
                     char root[static DIGEST_TEXT_MAX])
{
	struct digest digest;
	struct span element, list;

	if (!message_list_next(pins, cursor, &element) || !message_decode(&pinned_root_type, element, pin))
		return false;
	list = pin->root;
	if (!digest_list_next(&list, &digest))
		return false;
	digest_text(&digest, root);
	return true;
}

static int print_json(const struct status_response *status)
{
	json_t *object = json_object(), *pins = json_array();
	struct message_cursor cursor = { 0 };
	char root[DIGEST_TEXT_MAX];
	struct pinned_root pin;

	set_span(object, "version", status->version);
	set_span(object, "engine", status->engine);
	set_span(object, "tenant", status->tenant);
	set_span(object, "subject", status->subject);
	json_set_u64(object, "uptime_seconds", status->uptime_seconds);
	if (status->ceiling_bytes) {             /* told to callers on the gateway's own machine */
		json_set_u64(object, "ceiling_bytes", status->ceiling_bytes);
		json_set_u64(object, "used_bytes", status->used_bytes);
		json_set_u64(object, "connections", status->connections);
	}
	json_set_u64(object, "slots", status->slots);
	json_set_u64(object, "slots_busy", status->slots_busy);
	json_set_u64(object, "queued", status->queued);
	while (next_pin(&status->pins, &cursor, &pin, root)) {
		json_t *entry = json_object();

		json_set_text(entry, "root", root);
		json_set_u64(entry, "expires_unix_seconds", pin.expires_unix_seconds);
		set_span(entry, "note", pin.note);
		json_array_append_new(pins, entry);
	}
	json_object_set_new(object, "pins", pins);
	return json_print(object);
}

static void print_span(const char *before, struct span text)
{
	fputs(before, stdout);
	clean_print(stdout, text);
}

static void print_text(const struct status_response *status)
{
	struct message_cursor cursor = { 0 };
	char used[24], ceiling[24], uptime[24], root[DIGEST_TEXT_MAX];
	struct pinned_root pin;

	print_span("gateway    sluice ", status->version);
	print_span(" on ", status->engine);
	printf(", up %s\n", units_format_duration(status->uptime_seconds * 1000000000u, uptime));
	print_span("you        tenant ", status->tenant);
	if (status->subject.size)
		print_span(", subject ", status->subject);
	if (status->ceiling_bytes)
		printf("\nstore      %s of %s", units_format_bytes(status->used_bytes, used),
		       units_format_bytes(status->ceiling_bytes, ceiling));
	printf("\nexecutors  %u slots, %u busy, %u actions queued\n", status->slots, status->slots_busy, status->queued);
	while (next_pin(&status->pins, &cursor, &pin, root)) {
		char when[32] = "for ever";
		time_t expires = (time_t)pin.expires_unix_seconds;
		struct tm tm;

		if (pin.expires_unix_seconds && gmtime_r(&expires, &tm))
			strftime(when, sizeof(when), "until %Y-%m-%dT%H:%MZ", &tm);
		printf("pinned     %s %s", root, when);
		if (pin.note.size)
			print_span(" ", pin.note);
		putchar('\n');
	}
}

static int status_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct status_options status_values;
	struct client_options client_options;
	void *const values[] = { &status_values, &client_options };
	struct status_response response;
	struct client_call *call = NULL;
	struct client *client = NULL;
	struct span bytes;
	int status, r;

	if (!options_parse(&options, &command_status, values, argc, argv, &status))
		return status;
	status = session_open(&client, &command_status, &client_options);
	if (status) {
		session_close(client);
		return status;
	}
	r = client_unary(client, SLUICE_STATUS, (struct span){ 0 }, &call, &bytes);
	if (r == CLIENT_OK && message_decode(&status_response_type, bytes, &response)) {
		if (status_values.json)
			status = print_json(&response);
		else
			print_text(&response);
	} else if (r == CLIENT_OK) {
		status = session_failed(&command_status, 0, GRPC_INTERNAL, "the gateway sent a malformed answer");
	} else {
		status = session_unary_failed(&command_status, client, call, r);
	}
	client_call_close(call);
	session_close(client);
	return status;
}

const struct command command_status = {
	.name = "status",
	.summary = "show the gateway's state and what it takes you for",
	.help = "Prints the gateway's version and event engine, your tenant, how full the store is, executors, and your pins.\n"
	        "From another machine than the gateway's, what is busy and queued is your tenant's own.\n\n"
	        "  sluice status --gateway grpc://127.0.0.1:8372 --json",
	.run = status_run,
	.groups = status_groups,
};
