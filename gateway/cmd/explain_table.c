/* Rows of costs, and what the rest was for. */
#include "gateway/cmd/explain_table.h"

#include <inttypes.h>

#include "gateway/base/units.h"
#include "gateway/cmd/clean.h"

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

struct explain_bill explain_bill_make(const struct pushing *pushing)
{
	const struct upload_totals *sent = &pushing->sent;
	const struct explain_totals *totals = explain_totals(pushing->explained);
	struct explain_bill bill = {
		.content_sent = totals->files_bytes + totals->directories_bytes,
		.abandoned_sent = pushing->abandoned_sent,
		.abandoned_received = pushing->abandoned_received,
		.asking_received = sent->messages_received,
	};

	client_bytes(pushing->client, &bill.received, &bill.sent, &bill.handshake_received, &bill.handshake_sent);
	/* Of an attempt that was given up, messages may have been counted that never went out. */
	bill.abandoned_sent = least(bill.abandoned_sent, bill.sent - bill.handshake_sent - sent->messages_sent);
	bill.framing_sent = bill.sent - bill.handshake_sent - sent->messages_sent - bill.abandoned_sent;
	bill.framing_received = bill.received - bill.handshake_received - sent->messages_received - bill.abandoned_received;
	bill.asking_sent = sent->messages_sent + sent->messages_predicted - bill.content_sent;
	bill.sent += sent->messages_predicted;
	return bill;
}

const char *explain_why_name(enum explain_why why, bool directory)
{
	static const char *const names[] = {
		[EXPLAIN_UNCHANGED] = "unchanged", [EXPLAIN_NEW] = "new", [EXPLAIN_RETYPED] = "retyped",
		[EXPLAIN_EDITED] = "edited", [EXPLAIN_MODE] = "mode", [EXPLAIN_XATTRS] = "xattrs",
		[EXPLAIN_REMOVED] = "removed", [EXPLAIN_EVICTED] = "evicted", [EXPLAIN_NEVER_SEEN] = "never seen",
	};

	return directory && why == EXPLAIN_EDITED ? "entries" : names[why];
}

void explain_print_path(FILE *file, const char *path, bool directory)
{
	clean_print(file, span_text(*path ? path : "."));
	if (directory)
		fputc('/', file);
}

/* ---- for people ---- */

/* A copy, a move, a revert. */
static bool was_there(const struct explain_entry *entry)
{
	return entry->bytes_sent == 0 && entry->chunks && (entry->why == EXPLAIN_NEW || entry->why == EXPLAIN_EDITED);
}

static void print_entry(FILE *file, const struct explain_entry *entry)
{
	char sent[24], raw[24], chunks[32] = "";

	if (!entry->directory && entry->chunks)
		snprintf(chunks, sizeof(chunks), "%" PRIu32 " of %" PRIu32, entry->chunks_sent, entry->chunks);
	fprintf(file, "%10s %10s  %-14s %-10s  ", units_format_bytes(entry->bytes_sent, sent),
	        units_format_bytes(entry->bytes_raw, raw), chunks, explain_why_name(entry->why, entry->directory));
	explain_print_path(file, entry->path, entry->directory);
	fputs(was_there(entry) ? "  (its content was at the gateway)\n" : "\n", file);
}

static void print_entries(FILE *file, const struct explain *explain, size_t top)
{
	size_t count;
	const struct explain_entry *entries = explain_entries(explain, &count);
	uint64_t rest = 0;
	char text[24];

	if (count)
		fprintf(file, "%10s %10s  %-14s %-10s  %s\n", "SENT", "RAW", "CHUNKS SENT", "WHY", "PATH");
	for (size_t i = 0; i < count; i++) {
		if (i < top)
			print_entry(file, &entries[i]);
		else
			rest += entries[i].bytes_sent;
	}
	if (count > top)
		fprintf(file, "%10s             … %zu more entries (--all shows them)\n", units_format_bytes(rest, text), count - top);
	if (count)
		fputc('\n', file);
}

static void print_line(FILE *file, uint64_t sent, uint64_t received, const char *what)
{
	char texts[2][24];

	if (sent || received)
		fprintf(file, "%10s %10s  %s\n", units_format_bytes(sent, texts[0]), units_format_bytes(received, texts[1]), what);
}

static void print_bill(FILE *file, const struct pushing *pushing, const struct explain_bill *bill)
{
	const struct explain_totals *totals = explain_totals(pushing->explained);
	char text[128];

	fprintf(file, "%10s %10s  FOR\n", "SENT", "RECEIVED");
	snprintf(text, sizeof(text), "content of %" PRIu64 " file%s", totals->files, totals->files == 1 ? "" : "s");
	print_line(file, totals->files_bytes, 0, text);
	snprintf(text, sizeof(text), "%" PRIu64 " director%s", totals->directories, totals->directories == 1 ? "y" : "ies");
	print_line(file, totals->directories_bytes, 0, text);
	snprintf(text, sizeof(text), "asking about %" PRIu64 " blob%s, answers%s", pushing->sent.blobs_asked,
	         pushing->sent.blobs_asked == 1 ? "" : "s",
	         pushing->predict ? "" : ", the commit");
	print_line(file, bill->asking_sent, bill->asking_received, text);
	print_line(file, bill->abandoned_sent, bill->abandoned_received, "attempts given up, as a file changed meanwhile");
	print_line(file, bill->handshake_sent, bill->handshake_received, "TLS handshake");
	print_line(file, bill->framing_sent, bill->framing_received,
	           bill->handshake_sent ? "HTTP/2 frames and header fields, TLS records" : "HTTP/2 frames and header fields");
	print_line(file, bill->sent, bill->received, pushing->predict ? "in all, were it pushed" : "in all");
	fprintf(file, "%" PRIu64 " bytes on the wire%s\n", bill->sent + bill->received,
	        pushing->predict ? " (nothing was pushed: --dry-run)" : "");
}

void explain_table_print(FILE *file, const struct pushing *pushing, const struct explain_bill *bill, size_t top)
{
	const struct explain_totals *totals = explain_totals(pushing->explained);
	size_t count;

	explain_entries(pushing->explained, &count);
	if (!explain_compared(pushing->explained))
		fputs("No former push from here to this gateway is remembered, so there is nothing to compare with.\n", file);
	if (totals->evicted)
		fprintf(file, "The gateway has lost %" PRIu64 " blobs since the last push: its --ceiling may be small for what it serves.\n",
		        totals->evicted);
	if (count == 0 && explain_compared(pushing->explained))
		fputs("Nothing has changed.\n", file);
	print_entries(file, pushing->explained, top);
	print_bill(file, pushing, bill);
}

/* ---- for programs ---- */

static json_t *entry_json(const struct explain_entry *entry)
{
	json_t *object = json_object();

	json_object_set_new(object, "path", json_path(span_text(*entry->path ? entry->path : ".")));
	json_set_text(object, "kind", entry->directory ? "directory" : "file");
	json_set_text(object, "why", explain_why_name(entry->why, false));
	json_set_u64(object, "bytes_sent", entry->bytes_sent);
	json_set_u64(object, "bytes_raw", entry->bytes_raw);
	json_set_u64(object, "bytes", entry->bytes);
	json_set_u64(object, "chunks_sent", entry->chunks_sent);
	json_set_u64(object, "chunks", entry->chunks);
	json_set_u64(object, "blobs_evicted", entry->blobs_evicted);
	return object;
}

static json_t *entries_json(const struct explain *explain, size_t top)
{
	json_t *array = json_array();
	size_t count;
	const struct explain_entry *entries = explain_entries(explain, &count);

	for (size_t i = 0; i < count && i < top; i++)
		json_array_append_new(array, entry_json(&entries[i]));
	return array;
}

json_t *explain_table_json(const struct pushing *pushing, const struct explain_bill *bill, size_t top)
{
	const struct explain_totals *totals = explain_totals(pushing->explained);
	json_t *object = json_object();
	char root[DIGEST_TEXT_MAX];
	size_t count;

	explain_entries(pushing->explained, &count);
	json_set_text(object, "root", digest_text(&pushing->root, root));
	json_object_set_new(object, "pushed", json_boolean(!pushing->predict));
	json_object_set_new(object, "compared", json_boolean(explain_compared(pushing->explained)));
	json_set_u64(object, "bytes", bill->sent + bill->received);
	json_set_u64(object, "bytes_sent", bill->sent);
	json_set_u64(object, "bytes_received", bill->received);
	json_set_u64(object, "files_sent", totals->files_bytes);
	json_set_u64(object, "directories_sent", totals->directories_bytes);
	json_set_u64(object, "asking_sent", bill->asking_sent);
	json_set_u64(object, "asking_received", bill->asking_received);
	json_set_u64(object, "abandoned_sent", bill->abandoned_sent);
	json_set_u64(object, "abandoned_received", bill->abandoned_received);
	json_set_u64(object, "handshake_sent", bill->handshake_sent);
	json_set_u64(object, "handshake_received", bill->handshake_received);
	json_set_u64(object, "framing_sent", bill->framing_sent);
	json_set_u64(object, "framing_received", bill->framing_received);
	json_set_u64(object, "blobs_asked", pushing->sent.blobs_asked);
	json_set_u64(object, "blobs_sent", pushing->sent.blobs_sent);
	json_set_u64(object, "blobs_evicted", totals->evicted);
	json_set_u64(object, "entries", count);
	json_set_u64(object, "paths_left_out", count > top ? count - top : 0);
	json_object_set_new(object, "paths", entries_json(pushing->explained, top));
	return object;
}
