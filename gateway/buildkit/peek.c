/* What is looked at on the way. */
#include "gateway/buildkit/peek.h"

enum {
	SOLVE_REF = 1, SOLVE_DEFINITION = 2, SOLVE_EXPORTER_DEPRECATED = 3, SOLVE_SESSION = 5, SOLVE_FRONTEND = 6,
	SOLVE_FRONTEND_INPUTS = 10, SOLVE_INTERNAL = 11, SOLVE_EXPORTERS = 13,
	EXPORTER_TYPE = 1,
	RETURN_RESULT = 1, RESULT_REF_DEPRECATED = 1, RESULT_REF = 3,
	RESPONSE_VERTEXES = 1, VERTEX_DIGEST = 1, VERTEX_CACHED = 4, VERTEX_COMPLETED = 6, VERTEX_ERROR = 7,
};

static void add_exporter(struct peek_solve *solve, struct span type)
{
	if (type.size && solve->exporters_count < sizeof(solve->exporters) / sizeof(solve->exporters[0]))
		solve->exporters[solve->exporters_count++] = type;
}

bool peek_solve(struct peek_solve *solve, struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	*solve = (struct peek_solve){ 0 };
	while (pb_next(&reader, &field)) {
		switch (field.number) {
		case SOLVE_REF:
			pb_as_bytes(&reader, &field, &solve->ref);
			break;
		case SOLVE_SESSION:
			pb_as_bytes(&reader, &field, &solve->session);
			break;
		case SOLVE_INTERNAL:
			pb_as_bool(&reader, &field, &solve->internal);
			break;
		case SOLVE_DEFINITION:
		case SOLVE_FRONTEND:
		case SOLVE_FRONTEND_INPUTS:
			solve->work = true;
			break;
		case SOLVE_EXPORTER_DEPRECATED:
			add_exporter(solve, field.bytes);
			solve->work = true;
			break;
		case SOLVE_EXPORTERS:
			add_exporter(solve, peek_text(field.bytes, EXPORTER_TYPE));
			solve->work = true;
			break;
		}
	}
	return !reader.failed;
}

struct span peek_text(struct span message, uint32_t number)
{
	struct pb_reader reader = pb_reader_make(message);
	struct span found = { 0 };
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == number && field.wire == PB_BYTES)
			found = field.bytes;
	return found;
}

static bool is_empty_message(struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.wire != PB_BYTES || field.bytes.size)
			return false;
	return !reader.failed;
}

static bool result_is_empty(struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	while (pb_next(&reader, &field)) {
		bool ref = field.number == RESULT_REF || field.number == RESULT_REF_DEPRECATED;

		if (!ref || field.wire != PB_BYTES || !is_empty_message(field.bytes))
			return false;
	}
	return !reader.failed;
}

bool peek_return_is_empty(struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number != RETURN_RESULT || field.wire != PB_BYTES || !result_is_empty(field.bytes))
			return false;
	return !reader.failed;
}

static void read_vertex(struct pb_reader vertex, void (*visit)(void *context, const struct peek_vertex *vertex),
                        void *context)
{
	struct peek_vertex seen = { 0 };
	struct pb_field field;

	while (pb_next(&vertex, &field)) {
		if (field.number == VERTEX_DIGEST)
			pb_as_bytes(&vertex, &field, &seen.digest);
		else if (field.number == VERTEX_CACHED)
			pb_as_bool(&vertex, &field, &seen.cached);
		else if (field.number == VERTEX_COMPLETED)
			seen.completed = true;
		else if (field.number == VERTEX_ERROR)
			seen.failed = field.bytes.size > 0;
	}
	if (!vertex.failed)
		visit(context, &seen);
}

bool peek_vertices(struct span message, void (*visit)(void *context, const struct peek_vertex *vertex), void *context)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == RESPONSE_VERTEXES)
			read_vertex(pb_enter(&reader, &field), visit, context);
	return !reader.failed;
}
