/* The requests of a build as tables, and what has to be known of them before anything is forwarded. */
#include "proto/buildkit_solve.h"

#include "proto/pb.h"

enum {
	SOLVE_FIELD_REF = 1,
	SOLVE_FIELD_SESSION = 5,
	SOLVE_FIELD_CACHE = 8,
	SOLVE_FIELD_INTERNAL = 11,
	SOLVE_FIELD_COMPATIBILITY_VERSION = 16,
};

MESSAGE_TYPE(buildkit_solve_request_type, struct buildkit_solve_request,
	     MESSAGE_FIELD(struct buildkit_solve_request, ref, SOLVE_FIELD_REF, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_solve_request, definition, 2, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct buildkit_solve_request, exporter_type, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_solve_request, exporter_attributes, 4, MESSAGE_MAP),
	     MESSAGE_FIELD(struct buildkit_solve_request, session, SOLVE_FIELD_SESSION, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_solve_request, frontend, 6, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_solve_request, frontend_attributes, 7, MESSAGE_MAP),
	     MESSAGE_FIELD(struct buildkit_solve_request, cache, SOLVE_FIELD_CACHE, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct buildkit_solve_request, entitlements, 9, MESSAGE_LIST),
	     MESSAGE_FIELD(struct buildkit_solve_request, frontend_inputs, 10, MESSAGE_MAP),
	     MESSAGE_FIELD(struct buildkit_solve_request, internal, SOLVE_FIELD_INTERNAL, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_solve_request, source_policy, 12, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct buildkit_solve_request, exporters, 13, MESSAGE_LIST),
	     MESSAGE_FIELD(struct buildkit_solve_request, enable_session_exporter, 14, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct buildkit_solve_request, source_policy_session, 15, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_solve_request, compatibility_version, SOLVE_FIELD_COMPATIBILITY_VERSION,
			   MESSAGE_INT64),
	     MESSAGE_FIELD(struct buildkit_solve_request, proxy_network, 17, MESSAGE_BOOL));
MESSAGE_TYPE(buildkit_cache_options_type, struct buildkit_cache_options,
	     MESSAGE_FIELD(struct buildkit_cache_options, export_ref, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_cache_options, import_refs, 2, MESSAGE_LIST),
	     MESSAGE_FIELD(struct buildkit_cache_options, export_attributes, 3, MESSAGE_MAP),
	     MESSAGE_FIELD(struct buildkit_cache_options, exports, 4, MESSAGE_LIST),
	     MESSAGE_FIELD(struct buildkit_cache_options, imports, 5, MESSAGE_LIST));
MESSAGE_TYPE(buildkit_exporter_type, struct buildkit_exporter,
	     MESSAGE_FIELD(struct buildkit_exporter, type, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_exporter, attributes, 2, MESSAGE_MAP));
MESSAGE_TYPE(buildkit_solve_response_type, struct buildkit_solve_response,
	     MESSAGE_FIELD(struct buildkit_solve_response, exporter_response, 1, MESSAGE_MAP));
MESSAGE_TYPE(buildkit_llb_solve_response_type, struct buildkit_llb_solve_response,
	     MESSAGE_FIELD(struct buildkit_llb_solve_response, ref, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct buildkit_llb_solve_response, result, 3, MESSAGE_PRESENT));
MESSAGE_TYPE(buildkit_llb_return_request_type, struct buildkit_llb_return_request,
	     MESSAGE_FIELD(struct buildkit_llb_return_request, result, 1, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct buildkit_llb_return_request, error, 2, MESSAGE_PRESENT));

bool buildkit_solve_request_decode(struct span message, struct buildkit_solve_request *request)
{
	struct message_cursor cursor = { 0 };
	struct buildkit_exporter exporter;
	struct span element;

	if (!message_decode(&buildkit_solve_request_type, message, request))
		return false;
	while (message_list_next(&request->exporters, &cursor, &element))
		if (!message_decode(&buildkit_exporter_type, element, &exporter))
			return false;
	return true;
}

bool buildkit_exporter_next(const struct buildkit_solve_request *request, struct message_cursor *cursor,
                            struct buildkit_exporter *exporter)
{
	struct span element;

	if (request->exporters.count > 0)
		return message_list_next(&request->exporters, cursor, &element) &&
		       message_decode(&buildkit_exporter_type, element, exporter);
	if (cursor->begun || request->exporter_type.size == 0)
		return false;
	cursor->begun = true;
	exporter->type = request->exporter_type;
	exporter->attributes = request->exporter_attributes;
	return true;
}

static bool probe_may_hold(const struct pb_field *field)
{
	switch (field->number) {
	case SOLVE_FIELD_REF:
	case SOLVE_FIELD_SESSION:
		return field->wire == PB_BYTES;
	case SOLVE_FIELD_INTERNAL:
	case SOLVE_FIELD_COMPATIBILITY_VERSION:
		return field->wire == PB_VARINT;
	case SOLVE_FIELD_CACHE:                  /* buildx always sends one: without a cache in it */
		return field->wire == PB_BYTES && field->bytes.size == 0;
	default:
		return false;
	}
}

bool buildkit_solve_is_probe(struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	bool internal = false;
	struct pb_field field;

	while (pb_next(&reader, &field)) {
		if (!probe_may_hold(&field))
			return false;
		if (field.number == SOLVE_FIELD_INTERNAL)
			internal = field.value != 0;
	}
	return internal && !reader.failed;
}
