/* The messages of proto/sluice.v1.proto as tables, digest lists, and the two bulk messages. */
#include "proto/sluice_v1.h"

#include <assert.h>

#include "proto/pb.h"

MESSAGE_TYPE(push_request_type, struct push_request,
	     MESSAGE_FIELD(struct push_request, offer, 1, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct push_request, query, 2, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct push_request, pack, 3, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct push_request, commit, 4, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct push_request, sign, 5, MESSAGE_PRESENT));
MESSAGE_TYPE(push_offer_type, struct push_offer,
	     MESSAGE_FIELD(struct push_offer, directories, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct push_offer, commit, 2, MESSAGE_BOOL));
MESSAGE_TYPE(push_query_type, struct push_query,
	     MESSAGE_FIELD(struct push_query, blobs, 1, MESSAGE_BYTES));
MESSAGE_TYPE(push_commit_type, struct push_commit,
	     MESSAGE_FIELD(struct push_commit, root, 1, MESSAGE_BYTES));
MESSAGE_TYPE(push_sign_request_type, struct push_sign_request,
	     MESSAGE_FIELD(struct push_sign_request, blobs, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct push_sign_request, below, 2, MESSAGE_LIST));
MESSAGE_TYPE(push_below_names_type, struct push_below_names,
	     MESSAGE_FIELD(struct push_below_names, directory, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct push_below_names, names, 2, MESSAGE_LIST));
MESSAGE_TYPE(push_signed_type, struct push_signed,
	     MESSAGE_FIELD(struct push_signed, present, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct push_signed, hashes, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct push_signed, digests, 3, MESSAGE_BYTES));
MESSAGE_TYPE(push_response_type, struct push_response,
	     MESSAGE_FIELD(struct push_response, answer, 1, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct push_response, stored, 2, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct push_response, committed, 3, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct push_response, missing, 4, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct push_response, sign, 5, MESSAGE_PRESENT));
MESSAGE_TYPE(push_answer_type, struct push_answer,
	     MESSAGE_FIELD(struct push_answer, present, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct push_answer, promised, 2, MESSAGE_BYTES));
MESSAGE_TYPE(push_stored_type, struct push_stored,
	     MESSAGE_FIELD(struct push_stored, blobs, 1, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct push_stored, rejected, 2, MESSAGE_LIST),
	     MESSAGE_FIELD(struct push_stored, whole, 3, MESSAGE_BYTES));
MESSAGE_TYPE(push_rejected_type, struct push_rejected,
	     MESSAGE_FIELD(struct push_rejected, expected, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct push_rejected, actual, 2, MESSAGE_BYTES));
MESSAGE_TYPE(push_committed_type, struct push_committed,
	     MESSAGE_FIELD(struct push_committed, root, 1, MESSAGE_BYTES));
MESSAGE_TYPE(push_missing_type, struct push_missing,
	     MESSAGE_FIELD(struct push_missing, blobs, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct push_missing, count, 2, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct push_missing, paths, 3, MESSAGE_LIST));
MESSAGE_TYPE(fetch_request_type, struct fetch_request,
	     MESSAGE_FIELD(struct fetch_request, blobs, 1, MESSAGE_BYTES));
MESSAGE_TYPE(status_response_type, struct status_response,
	     MESSAGE_FIELD(struct status_response, version, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct status_response, engine, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct status_response, tenant, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct status_response, subject, 4, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct status_response, uptime_seconds, 5, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct status_response, ceiling_bytes, 6, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct status_response, used_bytes, 7, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct status_response, slots, 8, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct status_response, slots_busy, 9, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct status_response, queued, 10, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct status_response, connections, 11, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct status_response, pins, 12, MESSAGE_LIST));
MESSAGE_TYPE(pinned_root_type, struct pinned_root,
	     MESSAGE_FIELD(struct pinned_root, root, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct pinned_root, expires_unix_seconds, 2, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct pinned_root, note, 3, MESSAGE_BYTES));
MESSAGE_TYPE(pin_request_type, struct pin_request,
	     MESSAGE_FIELD(struct pin_request, root, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct pin_request, expires_unix_seconds, 2, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct pin_request, remove, 3, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct pin_request, note, 4, MESSAGE_BYTES));
MESSAGE_TYPE(builds_request_type, struct builds_request,
	     MESSAGE_FIELD(struct builds_request, limit, 1, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct builds_request, within_ns, 2, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct builds_request, failed_only, 3, MESSAGE_BOOL));
MESSAGE_TYPE(builds_response_type, struct builds_response,
	     MESSAGE_FIELD(struct builds_response, now_unix_ns, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct builds_response, builds, 2, MESSAGE_LIST));
MESSAGE_TYPE(build_line_type, struct build_line,
	     MESSAGE_FIELD(struct build_line, subject, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct build_line, ref, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct build_line, directory, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct build_line, executor, 4, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct build_line, queued_unix_ns, 5, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct build_line, started_unix_ns, 6, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct build_line, ended_unix_ns, 7, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct build_line, queue_ns, 8, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct build_line, files, 9, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct build_line, files_changed, 10, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct build_line, bytes_from_client, 11, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct build_line, bytes_from_store, 12, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct build_line, bytes_to_executor, 13, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct build_line, steps_cached, 14, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct build_line, steps_executed, 15, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct build_line, replays, 16, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct build_line, result, 17, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct build_line, fault, 18, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct build_line, status, 19, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct build_line, error, 20, MESSAGE_BYTES));
MESSAGE_TYPE(attach_request_type, struct attach_request,
	     MESSAGE_FIELD(struct attach_request, hello, 1, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct attach_request, resolved, 2, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct attach_request, output, 3, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct attach_request, finished, 4, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct attach_request, spawn_event, 5, MESSAGE_PRESENT));
MESSAGE_TYPE(executor_hello_type, struct executor_hello,
	     MESSAGE_FIELD(struct executor_hello, slot, 1, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct executor_hello, slots, 2, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct executor_hello, runtime, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_hello, why, 4, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_hello, spawn, 5, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_hello, spawn_why, 6, MESSAGE_BYTES));
MESSAGE_TYPE(executor_resolve_type, struct executor_resolve,
	     MESSAGE_FIELD(struct executor_resolve, id, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_resolve, image, 2, MESSAGE_BYTES));
MESSAGE_TYPE(executor_resolved_type, struct executor_resolved,
	     MESSAGE_FIELD(struct executor_resolved, id, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_resolved, environment, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_resolved, fault, 3, MESSAGE_BYTES));
MESSAGE_TYPE(executor_assignment_type, struct executor_assignment,
	     MESSAGE_FIELD(struct executor_assignment, id, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_assignment, tenant, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_assignment, root, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_assignment, arguments, 4, MESSAGE_LIST),
	     MESSAGE_FIELD(struct executor_assignment, environment, 5, MESSAGE_LIST),
	     MESSAGE_FIELD(struct executor_assignment, working_directory, 6, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_assignment, image, 7, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_assignment, network, 8, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct executor_assignment, timeout_ms, 9, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_assignment, memory_bytes, 10, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_assignment, cpu_millis, 11, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_assignment, pids, 12, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_assignment, output_files, 13, MESSAGE_LIST),
	     MESSAGE_FIELD(struct executor_assignment, output_directories, 14, MESSAGE_LIST),
	     MESSAGE_FIELD(struct executor_assignment, output_paths, 15, MESSAGE_LIST),
	     MESSAGE_FIELD(struct executor_assignment, changes, 16, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct executor_assignment, unix_modes, 17, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct executor_assignment, instance, 18, MESSAGE_UINT32));
MESSAGE_TYPE(executor_variable_type, struct executor_variable,
	     MESSAGE_FIELD(struct executor_variable, name, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_variable, value, 2, MESSAGE_BYTES));
MESSAGE_TYPE(executor_output_type, struct executor_output,
	     MESSAGE_FIELD(struct executor_output, id, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_output, stream, 2, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct executor_output, data, 3, MESSAGE_BYTES));
MESSAGE_TYPE(executor_finished_type, struct executor_finished,
	     MESSAGE_FIELD(struct executor_finished, id, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_finished, exit_code, 2, MESSAGE_INT32),
	     MESSAGE_FIELD(struct executor_finished, status, 3, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct executor_finished, message, 4, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_finished, changes, 5, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_finished, deleted, 6, MESSAGE_LIST),
	     MESSAGE_FIELD(struct executor_finished, materialise_ms, 7, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_finished, run_ms, 8, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_finished, collect_ms, 9, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_finished, fetched_bytes, 10, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_finished, outputs, 11, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_finished, environment, 12, MESSAGE_BYTES));
MESSAGE_TYPE(attach_response_type, struct attach_response,
	     MESSAGE_FIELD(struct attach_response, resolve, 1, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct attach_response, assignment, 2, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct attach_response, cancel, 3, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct attach_response, spawn_start, 4, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct attach_response, spawn_stop, 5, MESSAGE_PRESENT));
MESSAGE_TYPE(executor_spawn_start_type, struct executor_spawn_start,
	     MESSAGE_FIELD(struct executor_spawn_start, id, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_spawn_start, tenant, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_spawn_start, number, 3, MESSAGE_UINT32));
MESSAGE_TYPE(executor_spawn_stop_type, struct executor_spawn_stop,
	     MESSAGE_FIELD(struct executor_spawn_stop, id, 1, MESSAGE_UINT64));
MESSAGE_TYPE(executor_spawn_event_type, struct executor_spawn_event,
	     MESSAGE_FIELD(struct executor_spawn_event, id, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct executor_spawn_event, state, 2, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct executor_spawn_event, socket, 3, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct executor_spawn_event, why, 4, MESSAGE_BYTES));
MESSAGE_TYPE(execute_output_type, struct execute_output,
	     MESSAGE_FIELD(struct execute_output, stream, 1, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct execute_output, data, 2, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct execute_output, queue_position, 3, MESSAGE_UINT32));

MESSAGE_TYPE(link_message_type, struct link_message,
	     MESSAGE_FIELD(struct link_message, hello, 1, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct link_message, welcome, 2, MESSAGE_PRESENT),
	     MESSAGE_FIELD(struct link_message, received, 3, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct link_message, taken, 4, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct link_message, probe, 5, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct link_message, over, 6, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct link_message, sequence, 7, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct link_message, channel, 8, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct link_message, kind, 9, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct link_message, credit, 10, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct link_message, data, 11, MESSAGE_BYTES));
MESSAGE_TYPE(link_hello_type, struct link_hello,
	     MESSAGE_FIELD(struct link_hello, id, 1, MESSAGE_BYTES),
	     MESSAGE_FIELD(struct link_hello, resume, 2, MESSAGE_BOOL),
	     MESSAGE_FIELD(struct link_hello, path, 3, MESSAGE_UINT32),
	     MESSAGE_FIELD(struct link_hello, timeout_ms, 4, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct link_hello, ahead, 5, MESSAGE_BYTES));
MESSAGE_TYPE(link_welcome_type, struct link_welcome,
	     MESSAGE_FIELD(struct link_welcome, timeout_ms, 1, MESSAGE_UINT64),
	     MESSAGE_FIELD(struct link_welcome, ahead, 2, MESSAGE_BYTES));

void digest_list_put(struct buffer *out, const struct digest *digest)
{
	uint8_t entry[DIGEST_HASH_BYTES + PB_VARINT_BYTES_MAX];
	uint8_t *end;

	memcpy(entry, digest->hash, DIGEST_HASH_BYTES);
	end = pb_varint_write(entry + DIGEST_HASH_BYTES, digest->size);
	buffer_put(out, entry, (size_t)(end - entry));
}

bool digest_list_next(struct span *rest, struct digest *digest)
{
	const uint8_t *end, *next;

	if (rest->size <= DIGEST_HASH_BYTES)
		return false;
	end = rest->data + rest->size;
	next = pb_varint_read(rest->data + DIGEST_HASH_BYTES, end, &digest->size);
	if (!next || digest->size > INT64_MAX)
		return false;
	memcpy(digest->hash, rest->data, DIGEST_HASH_BYTES);
	*rest = span_make(next, (size_t)(end - next));
	return true;
}

size_t digest_list_count(struct span list)
{
	struct digest digest;
	size_t count = 0;

	while (count <= SLUICE_LIST_MAX && digest_list_next(&list, &digest))
		count++;
	return list.size || count > SLUICE_LIST_MAX ? SIZE_MAX : count;
}

void bit_list_put(struct buffer *out, uint32_t number, const bool *bits, size_t count)
{
	uint8_t packed[SLUICE_LIST_MAX / 8] = { 0 };
	size_t used = 0;

	for (size_t i = 0; i < count && i < SLUICE_LIST_MAX; i++) {
		if (!bits[i])
			continue;
		packed[i / 8] |= (uint8_t)(1u << (i % 8));
		used = i / 8 + 1;
	}
	pb_put_bytes(out, number, span_make(packed, used));
}

enum { PACK_FIELD_BLOBS = 1, PACK_FIELD_DELTAS = 2, BLOB_FIELD_DIGEST = 1, BLOB_FIELD_DATA = 2 };
enum { DELTA_FIELD_DIGEST = 1, DELTA_FIELD_BASES = 2, DELTA_FIELD_EDITS = 3 };
enum { FETCHED_FIELD_DATA = 1, FETCHED_FIELD_FAULT = 2 };

/* The next element of a field of a bulk message. */
static bool bulk_next(struct span *rest, uint32_t number, struct span *element, bool *failed)
{
	struct pb_reader reader = pb_reader_make(*rest);
	struct pb_field field;

	while (pb_next(&reader, &field)) {
		if (field.number != number)
			continue;
		*rest = reader.rest;
		*failed = !pb_as_bytes(&reader, &field, element);
		return !*failed;
	}
	*failed = reader.failed;
	return false;
}

bool pack_next(struct span *rest, struct packed_blob *blob, bool *failed)
{
	struct span element, entry = { 0 };
	struct pb_reader reader;
	struct pb_field field;

	if (!bulk_next(rest, PACK_FIELD_BLOBS, &element, failed))
		return false;
	*blob = (struct packed_blob){ 0 };
	reader = pb_reader_make(element);
	while (pb_next(&reader, &field)) {
		if (field.number == BLOB_FIELD_DIGEST)
			pb_as_bytes(&reader, &field, &entry);
		if (field.number == BLOB_FIELD_DATA)
			pb_as_bytes(&reader, &field, &blob->data);
	}
	*failed = reader.failed || !digest_list_next(&entry, &blob->digest) || entry.size;
	return !*failed;
}

static bool bases_valid(struct packed_delta *delta)
{
	struct span rest = delta->bases;
	struct digest base;
	size_t count = 0;

	for (delta->bases_bytes = 0; count <= SLUICE_BASES_MAX && digest_list_next(&rest, &base); count++) {
		/* Each is at most 2^63 - 1 by itself, so it is compared before it is added. */
		if (base.size > SLUICE_BASES_BYTES)
			return false;
		delta->bases_bytes += base.size;
	}
	return count > 0 && count <= SLUICE_BASES_MAX && rest.size == 0 && delta->bases_bytes <= SLUICE_BASES_BYTES;
}

bool delta_next(struct span *rest, struct packed_delta *delta, bool *failed)
{
	struct span element, entry = { 0 };
	struct pb_reader reader;
	struct pb_field field;

	if (!bulk_next(rest, PACK_FIELD_DELTAS, &element, failed))
		return false;
	*delta = (struct packed_delta){ 0 };
	reader = pb_reader_make(element);
	while (pb_next(&reader, &field)) {
		if (field.number == DELTA_FIELD_DIGEST)
			pb_as_bytes(&reader, &field, &entry);
		if (field.number == DELTA_FIELD_BASES)
			pb_as_bytes(&reader, &field, &delta->bases);
		if (field.number == DELTA_FIELD_EDITS)
			pb_as_bytes(&reader, &field, &delta->edits);
	}
	*failed = reader.failed || !digest_list_next(&entry, &delta->digest) || entry.size || !bases_valid(delta);
	return !*failed;
}

bool fetched_next(struct span *rest, struct packed_blob *blob, bool *failed)
{
	struct pb_reader reader;
	struct pb_field field;
	struct span element;

	if (!bulk_next(rest, PACK_FIELD_BLOBS, &element, failed))
		return false;
	*blob = (struct packed_blob){ 0 };
	reader = pb_reader_make(element);
	while (pb_next(&reader, &field)) {
		if (field.number == FETCHED_FIELD_DATA)
			pb_as_bytes(&reader, &field, &blob->data);
		if (field.number == FETCHED_FIELD_FAULT)
			pb_as_uint32(&reader, &field, &blob->fault);
	}
	*failed = reader.failed;
	return !*failed;
}

void pack_put(struct buffer *out, const struct digest *digest, struct span data)
{
	uint8_t entry[DIGEST_HASH_BYTES + PB_VARINT_BYTES_MAX];
	struct buffer list = buffer_over(entry, sizeof(entry));
	size_t mark = pb_begin(out, PACK_FIELD_BLOBS);

	digest_list_put(&list, digest);
	pb_put_bytes(out, BLOB_FIELD_DIGEST, buffer_span(&list));
	pb_put_bytes(out, BLOB_FIELD_DATA, data);
	pb_end(out, mark);
}

void delta_put(struct buffer *out, const struct digest *digest, const struct digest *bases, size_t bases_count, struct span edits)
{
	uint8_t storage[SLUICE_BASES_MAX * (DIGEST_HASH_BYTES + PB_VARINT_BYTES_MAX)];
	struct buffer list = buffer_over(storage, sizeof(storage));
	size_t mark = pb_begin(out, PACK_FIELD_DELTAS);

	assert(bases_count > 0 && bases_count <= SLUICE_BASES_MAX);
	digest_list_put(&list, digest);
	pb_put_bytes(out, DELTA_FIELD_DIGEST, buffer_span(&list));
	buffer_clear(&list);
	for (size_t i = 0; i < bases_count; i++)
		digest_list_put(&list, &bases[i]);
	pb_put_bytes(out, DELTA_FIELD_BASES, buffer_span(&list));
	pb_put_bytes(out, DELTA_FIELD_EDITS, edits);
	pb_end(out, mark);
}

void fetched_put(struct buffer *out, struct span data, enum fetch_fault fault)
{
	size_t mark = pb_begin(out, PACK_FIELD_BLOBS);

	pb_put_bytes(out, FETCHED_FIELD_DATA, data);
	pb_put_varint(out, FETCHED_FIELD_FAULT, fault);
	pb_end(out, mark);
}

/* With data there is no fault, which would come behind it. */
size_t fetched_head(uint8_t head[static FETCHED_HEAD_MAX], size_t data_size, enum fetch_fault fault)
{
	uint8_t inner[FETCHED_HEAD_MAX / 2], *end;
	size_t inner_size, before;

	assert(data_size == 0 || fault == FETCH_OK);
	end = inner;
	if (data_size) {
		end = pb_varint_write(end, FETCHED_FIELD_DATA << 3 | PB_BYTES);
		end = pb_varint_write(end, data_size);
	} else if (fault) {
		end = pb_varint_write(end, FETCHED_FIELD_FAULT << 3 | PB_VARINT);
		end = pb_varint_write(end, fault);
	}
	inner_size = (size_t)(end - inner);
	end = pb_varint_write(head, PACK_FIELD_BLOBS << 3 | PB_BYTES);
	end = pb_varint_write(end, inner_size + data_size);
	before = (size_t)(end - head);
	memcpy(end, inner, inner_size);
	return before + inner_size;
}

enum { LINK_MESSAGE_FIELD_DATA = 11 };

size_t link_message_head(uint8_t head[static LINK_HEAD_BYTES_MAX], const struct link_message *message, size_t data_size)
{
	struct buffer out = buffer_over(head, LINK_HEAD_BYTES_MAX);
	struct link_message without = *message;
	uint8_t *end;

	assert(!message->hello.data && !message->welcome.data && data_size <= LINK_FRAME_BYTES);
	without.data = (struct span){ 0 };
	message_encode(&link_message_type, &out, &without);
	if (data_size) {
		end = buffer_reserve(&out, 2 * PB_VARINT_BYTES_MAX);
		assert(end);
		end = pb_varint_write(end, LINK_MESSAGE_FIELD_DATA << 3 | PB_BYTES);
		end = pb_varint_write(end, data_size);
		out.size = (size_t)(end - out.data);
	}
	assert(!out.failed);
	return out.size;
}

/* What is told apart here nobody above has to look at again. */
static bool link_frame_valid(const struct link_message *message)
{
	bool data = message->data.size != 0, credit = message->credit != 0;

	if (message->sequence == 0)
		return !data && !credit && message->channel == 0 && message->kind == LINK_DATA;
	if (message->channel == 0 || message->kind > LINK_CREDIT || message->data.size > LINK_FRAME_BYTES)
		return false;
	return data == (message->kind == LINK_DATA) && credit == (message->kind == LINK_CREDIT);
}

bool link_message_decode(struct link_message *message, struct span bytes)
{
	return message_decode(&link_message_type, bytes, message) && link_frame_valid(message);
}

bool link_run_next(struct span *ahead, uint64_t *missing, uint64_t *there)
{
	const uint8_t *end, *next;

	if (ahead->size == 0)
		return false;
	end = ahead->data + ahead->size;
	next = pb_varint_read(ahead->data, end, missing);
	if (next)
		next = pb_varint_read(next, end, there);
	if (!next || *missing == 0 || *there == 0)
		return false;
	*ahead = span_make(next, (size_t)(end - next));
	return true;
}

void link_run_put(struct buffer *ahead, uint64_t missing, uint64_t there)
{
	uint8_t pair[2 * PB_VARINT_BYTES_MAX];
	uint8_t *end = pb_varint_write(pair, missing);

	end = pb_varint_write(end, there);
	buffer_put(ahead, pair, (size_t)(end - pair));
}
