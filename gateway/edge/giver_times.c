/* Modification times, of all entries or of those that the gateway asks for. */
#include <stdlib.h>

#include "gateway/edge/giver_private.h"
#include "proto/sluice_context.h"

#define TIMES_A_MESSAGE 3072u            /* or fewer: 10 bytes each at most */

struct times_writer {
	struct giver *giver;
	size_t count;
	uint64_t unit_ns;                /* of which all of them are whole numbers */
	int64_t times[TIMES_A_MESSAGE];
};

/* NULL: the call was ended. */
static struct times_writer *times_begin(struct giver *giver)
{
	struct times_writer *writer = malloc(sizeof(*writer));

	if (!writer) {
		call_finish(&giver->gateway, GRPC_RESOURCE_EXHAUSTED, "the edge is out of memory");
		return NULL;
	}
	writer->giver = giver;
	writer->count = 0;
	writer->unit_ns = TIME_UNIT_MOST_NS;
	return writer;
}

static void times_flush(struct times_writer *writer)
{
	struct buffer bytes = buffer_heap(GIVER_ANSWER_BYTES_MAX);
	struct context_response response;
	struct time_list list;

	if (writer->count == 0)
		return;
	time_list_begin(&bytes, &list, writer->unit_ns);
	for (size_t i = 0; i < writer->count; i++)
		time_list_put(&bytes, &list, writer->times[i]);
	response = (struct context_response){ .times = buffer_span(&bytes) };
	if (bytes.failed)
		call_finish(&writer->giver->gateway, GRPC_RESOURCE_EXHAUSTED, "the edge is out of memory");
	else
		giver_answer(writer->giver, &response);
	buffer_fini(&bytes);
	writer->count = 0;
	writer->unit_ns = TIME_UNIT_MOST_NS;
}

static void times_put(struct times_writer *writer, uint32_t number)
{
	int64_t time = listing_at(&writer->giver->listing, number)->mtime_ns;

	writer->unit_ns = time_list_unit(writer->unit_ns, time);
	writer->times[writer->count++] = time;
	if (writer->count == TIMES_A_MESSAGE)
		times_flush(writer);
}

static void times_end(struct times_writer *writer)
{
	times_flush(writer);
	free(writer);
}

void giver_tell_all_times(struct giver *giver)
{
	struct times_writer *writer = times_begin(giver);

	for (uint32_t i = 0; writer && i < giver->listing.count; i++)
		times_put(writer, i);
	if (writer)
		times_end(writer);
}

/* All numbers are looked at before any is answered: a list that is no good gets no answer. */
bool giver_tell_times(struct giver *giver, struct span numbers)
{
	uint64_t number = ENTRY_NUMBER_BEFORE;
	struct span rest = numbers;
	struct times_writer *writer;

	while (number_list_next(&rest, &number) && number < giver->listing.count)
		;
	if (rest.size || (number != ENTRY_NUMBER_BEFORE && number >= giver->listing.count))
		return false;
	writer = times_begin(giver);
	number = ENTRY_NUMBER_BEFORE;
	while (writer && number_list_next(&numbers, &number))
		times_put(writer, (uint32_t)number);
	if (writer)
		times_end(writer);
	return true;
}
