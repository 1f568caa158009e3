/* Sets of capabilities, as sorted texts that are also what an operator reads. */
#include "gateway/buildkitd/executor_capabilities.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/pb.h"

#define MISSING_NAMED_MAX 3

/* A set that is being read. */
struct gathering {
	struct capabilities set;
	size_t capacity;
	const char *fault;               /* NULL: none so far */
};

/* The next text's place; NULL and `fault` when there is none. */
static char *gather_place(struct gathering *gathering)
{
	struct capabilities *set = &gathering->set;

	if (set->count == CAPABILITIES_MAX) {
		gathering->fault = "it has more capabilities than are read";
		return NULL;
	}
	if (set->count == gathering->capacity) {
		size_t capacity = gathering->capacity ? gathering->capacity * 2 : 128;
		void *texts = realloc(set->texts, capacity * sizeof(*set->texts));

		if (!texts) {
			gathering->fault = "out of memory";
			return NULL;
		}
		set->texts = texts;
		gathering->capacity = capacity;
	}
	return set->texts[set->count++];
}

/* What a peer calls something goes into logs: printable ASCII, cut. */
static void append_name(char text[static CAPABILITY_TEXT_MAX], const char *before, struct span name)
{
	size_t length = strlen(text);

	for (; *before && length + 1 < CAPABILITY_TEXT_MAX; before++)
		text[length++] = *before;
	for (size_t i = 0; i < name.size && length + 1 < CAPABILITY_TEXT_MAX; i++)
		text[length++] = name.data[i] > ' ' && name.data[i] < 127 ? (char)name.data[i] : '?';
	text[length] = '\0';
}

/* ---- apicaps.APICap ---- */

static void gather_capability(struct gathering *gathering, struct pb_reader message, const char *kind)
{
	struct span id = { 0 };
	bool enabled = false;
	struct pb_field field;
	char *text;

	while (pb_next(&message, &field)) {
		if (field.number == 1)
			pb_as_bytes(&message, &field, &id);
		else if (field.number == 2)
			pb_as_bool(&message, &field, &enabled);
	}
	if (message.failed)
		gathering->fault = "its capabilities are malformed";
	if (gathering->fault || !enabled)
		return;
	text = gather_place(gathering);
	if (!text)
		return;
	text[0] = '\0';
	append_name(text, kind, id);
}

static void gather_pong(struct gathering *gathering, struct span pong)
{
	struct pb_reader reader = pb_reader_make(pong);
	struct pb_field field;

	while (!gathering->fault && pb_next(&reader, &field)) {
		if (field.number == 1)
			gather_capability(gathering, pb_enter(&reader, &field), "frontend capability ");
		else if (field.number == 2)
			gather_capability(gathering, pb_enter(&reader, &field), "LLB capability ");
	}
	if (reader.failed)
		gathering->fault = "its answer to Ping is malformed";
}

/* ---- types.WorkerRecord ---- */

/* pb.Platform: "linux/arm64/v8". */
static void gather_platform(struct gathering *gathering, struct pb_reader message)
{
	struct span parts[4] = { { 0 } };        /* by field number: architecture, system, variant */
	struct pb_field field;
	char *text;

	while (pb_next(&message, &field))
		if (field.number <= 3)
			pb_as_bytes(&message, &field, &parts[field.number]);
	if (message.failed) {
		gathering->fault = "a worker's platforms are malformed";
		return;
	}
	text = gather_place(gathering);
	if (!text)
		return;
	text[0] = '\0';
	append_name(text, "platform ", parts[2]);
	append_name(text, "/", parts[1]);
	if (parts[3].size)
		append_name(text, "/", parts[3]);
}

static void gather_worker(struct gathering *gathering, struct pb_reader message)
{
	struct pb_field field;

	while (!gathering->fault && pb_next(&message, &field))
		if (field.number == 3)
			gather_platform(gathering, pb_enter(&message, &field));
	if (message.failed)
		gathering->fault = "its workers are malformed";
}

static void gather_workers(struct gathering *gathering, struct span list_workers)
{
	struct pb_reader reader = pb_reader_make(list_workers);
	struct pb_field field;

	while (!gathering->fault && pb_next(&reader, &field))
		if (field.number == 1)
			gather_worker(gathering, pb_enter(&reader, &field));
	if (reader.failed)
		gathering->fault = "its list of workers is malformed";
}

/* ---- sets ---- */

static int compare_texts(const void *one, const void *other)
{
	return strcmp(one, other);
}

static void sort_once(struct capabilities *set)
{
	size_t kept = 0;

	if (set->count == 0)
		return;
	qsort(set->texts, set->count, sizeof(*set->texts), compare_texts);
	for (size_t i = 1; i < set->count; i++)
		if (strcmp(set->texts[kept], set->texts[i]) != 0 && ++kept != i)
			memcpy(set->texts[kept], set->texts[i], sizeof(*set->texts));
	set->count = kept + 1;
}

bool capabilities_parse(struct capabilities *capabilities, struct span list_workers, struct span pong, char *why,
                        size_t why_size)
{
	struct gathering gathering = { 0 };

	gather_workers(&gathering, list_workers);
	if (!gathering.fault)
		gather_pong(&gathering, pong);
	if (gathering.fault) {
		snprintf(why, why_size, "%s", gathering.fault);
		capabilities_fini(&gathering.set);
		return false;
	}
	sort_once(&gathering.set);
	*capabilities = gathering.set;
	return true;
}

void capabilities_fini(struct capabilities *capabilities)
{
	free(capabilities->texts);
	*capabilities = (struct capabilities){ 0 };
}

static void append_missing(char *missing, size_t size, const char *text, size_t named)
{
	size_t length = strlen(missing);

	snprintf(missing + length, size - length, "%s%s", named ? ", " : "", text);
}

bool capabilities_cover(const struct capabilities *have, const struct capabilities *need, char *missing,
                        size_t missing_size)
{
	size_t at = 0, lacking = 0, length;

	missing[0] = '\0';
	for (size_t i = 0; i < need->count; i++) {
		while (at < have->count && strcmp(have->texts[at], need->texts[i]) < 0)
			at++;
		if (at < have->count && strcmp(have->texts[at], need->texts[i]) == 0)
			continue;
		if (lacking < MISSING_NAMED_MAX)
			append_missing(missing, missing_size, need->texts[i], lacking);
		lacking++;
	}
	length = strlen(missing);
	if (lacking > MISSING_NAMED_MAX)
		snprintf(missing + length, missing_size - length, " and %zu more", lacking - MISSING_NAMED_MAX);
	return lacking == 0;
}
