/* Prints what explain_roots.h finds. */
#include "gateway/cmd/explain_root.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "gateway/base/units.h"
#include "gateway/cmd/explain_table.h"
#include "gateway/cmd/session.h"
#include "gateway/context/download.h"
#include "gateway/context/explain_roots.h"

static void print_entry(const struct explain_entry *entry)
{
	char new[24], size[24], chunks[32] = "";

	if (!entry->directory && entry->chunks)
		snprintf(chunks, sizeof(chunks), "%" PRIu32 " of %" PRIu32, entry->chunks_sent, entry->chunks);
	printf("%10s %10s  %-14s %-10s  ", units_format_bytes(entry->bytes_raw, new), units_format_bytes(entry->bytes, size), chunks,
	       explain_why_name(entry->why, entry->directory));
	explain_print_path(stdout, entry->path, entry->directory);
	putchar('\n');
}

static void print_text(const struct explain_root *options, const struct explain_roots *roots)
{
	const struct explain_roots_totals *totals = explain_roots_totals(roots);
	size_t count;
	const struct explain_entry *entries = explain_roots_entries(roots, &count);
	char text[24];

	if (count == 0) {
		puts("Nothing differs.");
		return;
	}
	printf("%10s %10s  %-14s %-10s  %s\n", "NEW", "SIZE", "CHUNKS NEW", "WHY", "PATH");
	for (size_t i = 0; i < count && i < options->top; i++)
		print_entry(&entries[i]);
	if (count > options->top)
		printf("%10s             … %zu more paths (--all shows them)\n", "", count - options->top);
	printf("\n%10s  in %" PRIu64 " new chunks of files, and their recipes\n", units_format_bytes(totals->bytes_new, text),
	       totals->chunks_new);
	if (options->has_since)
		printf("%10s  in %" PRIu64 " chunks that the former tree has\n", units_format_bytes(totals->bytes_shared, text),
		       totals->chunks_shared);
	printf("%10s  in %" PRIu64 " directories\n", units_format_bytes(totals->directories_bytes, text), totals->directories_new);
	printf("%" PRIu64 " bytes are new, uncompressed\n", totals->bytes_new + totals->directories_bytes);
}

static json_t *entry_json(const struct explain_entry *entry)
{
	json_t *object = json_object();

	json_object_set_new(object, "path", json_path(span_text(*entry->path ? entry->path : ".")));
	json_set_text(object, "kind", entry->directory ? "directory" : "file");
	json_set_text(object, "why", explain_why_name(entry->why, false));
	json_set_u64(object, "bytes_new", entry->bytes_raw);
	json_set_u64(object, "bytes", entry->bytes);
	json_set_u64(object, "chunks_new", entry->chunks_sent);
	json_set_u64(object, "chunks", entry->chunks);
	return object;
}

static int print_json(const struct explain_root *options, const struct explain_roots *roots)
{
	const struct explain_roots_totals *totals = explain_roots_totals(roots);
	json_t *object = json_object(), *array = json_array();
	size_t count;
	const struct explain_entry *entries = explain_roots_entries(roots, &count);
	char root[DIGEST_TEXT_MAX];

	for (size_t i = 0; i < count && i < options->top; i++)
		json_array_append_new(array, entry_json(&entries[i]));
	json_set_text(object, "root", digest_text(&options->root, root));
	json_set_text(object, "since", options->has_since ? digest_text(&options->since, root) : NULL);
	json_set_u64(object, "bytes_new", totals->bytes_new);
	json_set_u64(object, "chunks_new", totals->chunks_new);
	json_set_u64(object, "bytes_shared", totals->bytes_shared);
	json_set_u64(object, "chunks_shared", totals->chunks_shared);
	json_set_u64(object, "directories_new", totals->directories_new);
	json_set_u64(object, "directories_bytes", totals->directories_bytes);
	json_set_u64(object, "entries", count);
	json_set_u64(object, "paths_left_out", count > options->top ? count - options->top : 0);
	json_object_set_new(object, "paths", array);
	return json_print(object);
}

int explain_root_run(const struct explain_root *options)
{
	struct explain_roots *roots = NULL;
	struct download *download;
	int status = STATUS_OK;
	char why[5000];
	int r = download_create(&download, options->client, why, sizeof(why));

	if (r < 0)
		return session_failed(options->command, r, GRPC_OK, why);
	r = explain_roots_create(&roots, download_source(download), options->has_since ? &options->since : NULL, &options->root,
	                         why, sizeof(why));
	if (r == -ESTALE)
		status = command_fail(options->command, "the tree of --since is not at the gateway (any more), or not whole: %s", why);
	else if (r)
		status = session_failed(options->command, r, download_status(download), why);
	else if (options->json)
		status = print_json(options, roots);
	else
		print_text(options, roots);
	explain_roots_destroy(roots);
	download_destroy(download);
	return status;
}
