/* sluice pin: keeps a root from eviction. */
#include <time.h>

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/root_argument.h"
#include "gateway/cmd/session.h"
#include "proto/sluice_v1.h"

struct pin_options {
	uint64_t expires_ns;
	bool remove;
	const char *note;
};

#define MEMBER(name) offsetof(struct pin_options, name)
static const struct option pin_options[] = {
	{ .name = "expires", .kind = OPTION_DURATION, .offset = MEMBER(expires_ns), .argument = "TIME", .least = 1,
	  .help = "keep it this long; default: until it is removed" },
	{ .name = "remove", .kind = OPTION_FLAG, .offset = MEMBER(remove), .help = "take the pin away" },
	{ .name = "note", .kind = OPTION_TEXT, .offset = MEMBER(note), .argument = "TEXT", .help = "a few words for `sluice status`, 63 bytes at most" },
};
#undef MEMBER
static const struct option_group pin_group = OPTION_GROUP("Options", pin_options);
static const struct option_group *const pin_groups[] = { &pin_group, &client_options_group, NULL };

static int pin_call(struct client *client, const struct pin_options *pin, const struct digest *root)
{
	struct pin_request request = { .remove = pin->remove, .note = span_text(pin->note ? pin->note : "") };
	uint8_t list_storage[48], storage[512];
	struct buffer list = buffer_over(list_storage, sizeof(list_storage)), bytes = buffer_over(storage, sizeof(storage));
	struct client_call *call = NULL;
	struct span response;
	int status = STATUS_OK, r;

	digest_list_put(&list, root);
	request.root = buffer_span(&list);
	if (pin->expires_ns)
		request.expires_unix_seconds = (uint64_t)time(NULL) + pin->expires_ns / 1000000000u;
	message_encode(&pin_request_type, &bytes, &request);
	CHECK(!bytes.failed);
	r = client_unary(client, SLUICE_PIN, buffer_span(&bytes), &call, &response);
	if (r != CLIENT_OK)
		status = session_unary_failed(&command_pin, client, call, r);
	client_call_close(call);
	return status;
}

static int pin_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct pin_options pin;
	struct client_options client_options;
	void *const values[] = { &pin, &client_options };
	struct client *client = NULL;
	struct digest root;
	int status;

	if (!options_parse(&options, &command_pin, values, argc, argv, &status))
		return status;
	if (options.operand_count != 1)
		return command_usage(&command_pin, "one root is needed");
	if (pin.note && strlen(pin.note) > SLUICE_NOTE_BYTES_MAX)
		return command_usage(&command_pin, "--note: %zu bytes are too many, %d are kept", strlen(pin.note), SLUICE_NOTE_BYTES_MAX);
	if (pin.remove && (pin.expires_ns || pin.note))
		return command_usage(&command_pin, "--remove takes the pin away, so neither --expires nor --note goes with it");
	status = root_argument(&command_pin, options.operands[0], &root);
	if (status == STATUS_OK)
		status = session_open(&client, &command_pin, &client_options);
	if (status == STATUS_OK)
		status = pin_call(client, &pin, &root);
	session_close(client);
	return status;
}

const struct command command_pin = {
	.name = "pin",
	.summary = "keep a root on the gateway, whatever else comes",
	.help = "A pinned root and all below it are not evicted until the pin expires or is removed. Pins count against the\n"
	        "store's ceiling: when they fill it, pushes are refused. There may be 4,096, and 3,072 of one tenant.\n\n"
	        "  sluice pin --expires 7d sha256:HEX/SIZE\n"
	        "  sluice pin --remove sha256:HEX/SIZE",
	.run = pin_run,
	.operands = "ROOT",
	.groups = pin_groups,
};
