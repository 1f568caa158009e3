/* sluice push: a directory to the gateway; prints its root. */
#include <stdio.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/clock.h"
#include "gateway/base/units.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/explain_table.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/pushing.h"
#include "gateway/cmd/session.h"
#include "gateway/link/link.h"

struct push_options {
	bool json, explain, no_ignore, no_snapshot;
	const char *ignore_file;
	int compression;
};

#define MEMBER(name) offsetof(struct push_options, name)
static const struct option push_options[] = {
	{ .name = "json", .kind = OPTION_FLAG, .offset = MEMBER(json), .help = "print one JSON object instead of the root" },
	{ .name = "explain", .kind = OPTION_FLAG, .offset = MEMBER(explain),
	  .help = "say on stderr what each path cost, as `sluice explain` does; with --json in the object" },
	{ .name = "ignore-file", .kind = OPTION_TEXT, .offset = MEMBER(ignore_file), .argument = "FILE",
	  .help = "patterns of what to leave out, instead of DIR/.dockerignore" },
	{ .name = "no-ignore", .kind = OPTION_FLAG, .offset = MEMBER(no_ignore), .help = "push everything, whatever .dockerignore says" },
	{ .name = "no-snapshot", .kind = OPTION_FLAG, .offset = MEMBER(no_snapshot),
	  .help = "read every file, and remember nothing for the next time" },
	{ .name = "compression", .kind = OPTION_CHOICE, .offset = MEMBER(compression), .argument = "LEVEL", .fallback = "auto",
	  .choices = pushing_compressions, .help = "zstd level for what is sent, 0 for none; auto: 3, or less on a line that is faster than that" },
};
#undef MEMBER
static const struct option_group push_group = OPTION_GROUP("Options", push_options);
static const struct option_group *const push_groups[] = { &push_group, &progress_options_group, &client_options_group, NULL };

/* null without --conns. */
static json_t *link_json(struct client *client)
{
	struct link_status status;
	json_t *object;

	if (!client_link(client))
		return json_null();
	link_status(client_link(client), &status);
	object = json_object();
	json_set_u64(object, "paths", status.paths);
	json_set_u64(object, "paths_lost", status.paths_lost);
	json_set_u64(object, "resumes", status.resumes);
	json_set_u64(object, "bytes_resent", status.bytes_resent);
	return object;
}

/* `bill` NULL: nobody asked for it. */
static int print_json(const struct pushing *pushing, const struct explain_bill *bill, uint64_t connect_ns, uint64_t elapsed_ns)
{
	uint64_t received, sent, handshake_received, handshake_sent;
	json_t *object = json_object(), *phases = json_object();
	char root[DIGEST_TEXT_MAX];

	client_bytes(pushing->client, &received, &sent, &handshake_received, &handshake_sent);
	json_set_text(object, "root", digest_text(&pushing->root, root));
	json_set_u64(object, "files", pushing->scanned.files);
	json_set_u64(object, "directories", pushing->scanned.directories);
	json_set_u64(object, "symlinks", pushing->scanned.symlinks);
	json_set_u64(object, "bytes", pushing->scanned.bytes);
	json_set_u64(object, "files_read", pushing->scanned.files_read);
	json_set_u64(object, "bytes_read", pushing->scanned.bytes_read);
	json_set_u64(object, "chunks", pushing->scanned.chunks);
	json_set_u64(object, "chunks_new", pushing->sent.blobs_sent);
	json_set_u64(object, "bytes_sent", sent);
	json_set_u64(object, "bytes_received", received);
	json_set_u64(object, "handshake_bytes", handshake_sent + handshake_received);
	json_set_seconds(object, "seconds", elapsed_ns);
	json_set_seconds(phases, "scan", pushing->scan_ns);
	json_set_seconds(phases, "connect", connect_ns);
	json_set_seconds(phases, "negotiate", pushing->sent.negotiate_ns);
	json_set_seconds(phases, "send", pushing->sent.send_ns);
	json_set_seconds(phases, "commit", pushing->sent.commit_ns);
	json_set_seconds(phases, "save", pushing->save_ns);
	json_object_set_new(object, "phases", phases);
	if (bill)
		json_object_set_new(object, "explain", explain_table_json(pushing, bill, EXPLAIN_TOP));
	json_object_set_new(object, "link", link_json(pushing->client));
	return json_print(object);
}

static void print_text(const struct pushing *pushing, const struct explain_bill *bill, enum progress_mode mode,
                       uint64_t elapsed_ns)
{
	uint64_t received, sent, handshake_received, handshake_sent;
	char root[DIGEST_TEXT_MAX], bytes[24], wire[24], seconds[24];

	client_bytes(pushing->client, &received, &sent, &handshake_received, &handshake_sent);
	if (progress_for_people(mode))
		fprintf(stderr, "%llu files, %s: %llu read, %s sent in %s\n", (unsigned long long)pushing->scanned.files,
		        units_format_bytes(pushing->scanned.bytes, bytes), (unsigned long long)pushing->scanned.files_read,
		        units_format_bytes(sent, wire), units_format_duration(elapsed_ns, seconds));
	if (bill)
		explain_table_print(stderr, pushing, bill, EXPLAIN_TOP);
	puts(digest_text(&pushing->root, root));
}

static int push_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct push_options push;
	struct progress_options progress;
	struct client_options client;
	void *const values[] = { &push, &progress, &client };
	struct pushing pushing = { .command = &command_push };
	struct explain_bill bill;
	uint64_t begin = clock_now_ns(), connected;
	int status;

	if (!options_parse(&options, &command_push, values, argc, argv, &status))
		return status;
	if (options.operand_count > 1)
		return command_usage(&command_push, "one directory at a time, not %zu", options.operand_count);
	status = session_open(&pushing.client, &command_push, &client);
	if (status)
		return status;
	connected = clock_now_ns();
	pushing.gateway = client.gateway;
	pushing.directory = options.operand_count ? options.operands[0] : ".";
	pushing.ignore_path = push.ignore_file;
	pushing.no_ignore = push.no_ignore;
	pushing.no_snapshot = push.no_snapshot;
	pushing.level = pushing_level(push.compression);
	pushing.explain = push.explain;
	pushing.progress = progress_create(&(struct progress_config){ .mode = (enum progress_mode)progress.mode, .title = "sluice push" });
	status = pushing_run(&pushing);
	progress_destroy(pushing.progress);
	if (status == STATUS_OK && push.explain) {
		client_disconnect(pushing.client);       /* its last bytes are in the bill */
		bill = explain_bill_make(&pushing);
	}
	if (status == STATUS_OK && push.json)
		status = print_json(&pushing, push.explain ? &bill : NULL, connected - begin, clock_now_ns() - begin);
	else if (status == STATUS_OK)
		print_text(&pushing, push.explain ? &bill : NULL, (enum progress_mode)progress.mode, clock_now_ns() - begin);
	explain_destroy(pushing.explained);
	session_close(pushing.client);
	return status;
}

const struct command command_push = {
	.name = "push",
	.summary = "send what changed of a directory to the gateway, and print its root",
	.help = "Scans DIR (default: the current directory), sends what the gateway lacks, and commits it. The last line on\n"
	        "stdout is the root: sha256:HEX/SIZE, which names the content of the whole tree and nothing else; the same\n"
	        "files give the same root on every machine. Files whose size, times and inode did not change since the last\n"
	        "push are not read. DIR/.dockerignore is honoured.\n\n"
	        "  sluice push --gateway grpcs://build.example:8372 --tls-ca ca.pem .\n"
	        "  ROOT=$(sluice push) && sluice run --root \"$ROOT\" -- make test",
	.run = push_run,
	.operands = "[DIR]",
	.groups = push_groups,
};
