/* One call to the client, any number of readers behind it. */
#include "gateway/session/spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/base/spill.h"
#include "gateway/session/headers.h"
#include "gateway/session/nest.h"

#define CODE_INTERNAL 2u                         /* RFC 9113 section 7 */
#define CODE_CANCEL   8u
/* A spool is a file when it needs more than this; it grows fourfold, so that little is copied. */
#define MEMORY_BYTES  (4u << 20)
#define GROWTH        4u

enum spool_state {
	SPOOL_KEEPING,
	SPOOL_PASSING,
	SPOOL_KEPT,
	SPOOL_SPENT,
};

struct spool {
	struct list link;
	struct spool_owner *owner;
	enum spool_state state;
	struct header *key;              /* urlpath, urlhost: which of the client's streams it is */
	struct stream *client;           /* NULL: closed */
	bool half_closed;                /* towards the client */
	struct header *headers, *trailers;
	size_t headers_count, trailers_count;
	bool bare;                       /* the header fields are the whole answer */
	bool ended;                      /* the client has said all */
	struct spill bytes;
	size_t size, owed;               /* of them there; PASSING: not acknowledged yet */
	struct list readers;
};

/* An executor's stream. */
struct reader {
	struct list link;
	struct spool *spool;
	struct stream *stream;
	size_t taken;
	bool headers_sent, ended;
};

#define for_each_reader(reader, spool)                                                                                 \
	list_for_each_safe(link_, after_, &(spool)->readers)                                                           \
		for (struct reader *reader = container_of(link_, struct reader, link); reader; reader = NULL)

/* ---- room ---- */

/* A tenant leaves room to others, whose builds go on at another executor only if what they say was kept. */
static bool has_room(const struct spool_owner *owner, uint64_t more)
{
	const struct spool_room *room = owner->room;
	uint64_t bytes = more;

	if (room->bytes + more > room->bytes_max)
		return false;
	list_for_each(link, &room->owners) {
		const struct spool_owner *each = container_of(link, struct spool_owner, link);

		bytes += each->tenant == owner->tenant ? each->bytes : 0;
	}
	return bytes <= room->bytes_max / 2;
}

static void spool_release(struct spool *spool)
{
	CHECK(spool->owner->bytes >= spool->bytes.capacity);
	spool->owner->bytes -= spool->bytes.capacity;
	spool->owner->room->bytes -= spool->bytes.capacity;
	spill_fini(&spool->bytes);
	spool->size = 0;
}

static bool spool_grow(struct spool *spool, size_t size)
{
	struct spool_room *room = spool->owner->room;
	size_t before = spool->bytes.capacity, bytes_max = room->spool_bytes_max + NEST_STREAM_WINDOW_BYTES;
	size_t wanted = before ? GROWTH * before : MEMORY_BYTES;
	int r;

	if (size > bytes_max)
		return false;
	if (size <= before)
		return true;
	if (wanted > bytes_max / 2)
		wanted = bytes_max;              /* a spill grows by half at least */
	wanted = wanted < size ? size : wanted;
	if (!has_room(spool->owner, wanted - before))
		return false;
	r = spill_grow(&spool->bytes, wanted);
	if (r < 0)
		log_event(LOG_WARNING, "upload not kept", LOG_TEXT("cause", strerror(-r)), LOG_U64("bytes", spool->size));
	room->bytes += spool->bytes.capacity - before;
	spool->owner->bytes += spool->bytes.capacity - before;
	return r == 0;
}

/* ---- readers ---- */

static void reader_break(struct reader *reader)
{
	reader->ended = true;
	stream_reset(reader->stream, CODE_INTERNAL);
}

static bool reader_start(struct reader *reader)
{
	const struct spool *spool = reader->spool;

	if (reader->headers_sent)
		return true;
	if (!spool->headers)
		return false;
	reader->headers_sent = true;
	reader->ended = spool->bare;
	if (stream_headers(reader->stream, spool->headers, spool->headers_count, spool->bare) < 0)
		reader_break(reader);
	return !reader->ended;
}

static void reader_end(struct reader *reader)
{
	const struct spool *spool = reader->spool;

	reader->ended = true;
	if (!spool->trailers)
		stream_end(reader->stream);
	else if (stream_trailers(reader->stream, spool->trailers, spool->trailers_count) < 0)
		reader_break(reader);
}

static void reader_step(struct reader *reader)
{
	struct spool *spool = reader->spool;

	if (reader->ended || !reader_start(reader))
		return;
	if (reader->taken < spool->size)
		reader->taken += stream_write(reader->stream, span_make(spool->bytes.data + reader->taken, spool->size - reader->taken));
	if (reader->taken == spool->size && spool->ended)
		reader_end(reader);
}

/* ---- the spool ---- */

static void spool_enter(struct spool *spool, enum spool_state state)
{
	CHECK(spool->state == SPOOL_KEEPING || (spool->state == SPOOL_PASSING && state == SPOOL_SPENT));
	spool->state = state;
}

/* The client's answer will not come whole any more. */
static void spool_spend(struct spool *spool, uint32_t code)
{
	if (spool->state == SPOOL_KEPT || spool->state == SPOOL_SPENT)
		return;
	spool_enter(spool, SPOOL_SPENT);
	if (spool->client)
		stream_reset(spool->client, code);
	for_each_reader(reader, spool)
		stream_reset(reader->stream, code);
	spool_release(spool);
}

/* All readers have all of it: the client may send as much again, into the same place. */
static void spool_pass(struct spool *spool)
{
	for_each_reader(reader, spool)
		if (reader->taken < spool->size)
			return;
	for_each_reader(reader, spool)
		reader->taken = 0;
	spool->size = 0;
	if (spool->bytes.capacity > MEMORY_BYTES) {
		spool_release(spool);
		if (!spool_grow(spool, NEST_STREAM_WINDOW_BYTES)) {
			spool_spend(spool, CODE_INTERNAL);
			return;
		}
	}
	if (spool->client && spool->owed)
		stream_consumed(spool->client, spool->owed);
	spool->owed = 0;
}

static void spool_step(struct spool *spool)
{
	for_each_reader(reader, spool)
		reader_step(reader);
	if (spool->state == SPOOL_PASSING && spool->ended)
		spool_enter(spool, SPOOL_SPENT);
	else if (spool->state == SPOOL_PASSING)
		spool_pass(spool);
	else if (spool->state == SPOOL_KEEPING && spool->ended)
		spool_enter(spool, SPOOL_KEPT);
}

/* ---- the client's stream ---- */

static void client_on_headers(struct stream *stream, const struct header *headers, size_t count)
{
	struct spool *spool = stream->owner;

	if (spool->headers || spool->state == SPOOL_SPENT)
		return;
	spool->headers = headers_copy(headers, count, NULL, 0);
	spool->headers_count = count;
	spool->bare = headers_find(headers, count, "grpc-status").size > 0;
	if (spool->headers)
		spool_step(spool);
	else
		spool_spend(spool, CODE_INTERNAL);
}

static void client_on_data(struct stream *stream, struct span data)
{
	struct spool *spool = stream->owner;

	if (spool->state == SPOOL_SPENT) {
		stream_consumed(stream, data.size);
		return;
	}
	if (data.size > spool->bytes.capacity - spool->size) {
		spool_spend(spool, CODE_INTERNAL);       /* more than its window: the engine lets none through */
		return;
	}
	if (data.size)
		memcpy(spool->bytes.data + spool->size, data.data, data.size);
	spool->size += data.size;
	if (spool->state == SPOOL_KEEPING && !spool_grow(spool, spool->size + NEST_STREAM_WINDOW_BYTES))
		spool_enter(spool, SPOOL_PASSING);
	if (spool->state == SPOOL_PASSING)
		spool->owed += data.size;
	else
		stream_consumed(stream, data.size);
	spool_step(spool);
}

static void client_on_trailers(struct stream *stream, const struct header *headers, size_t count)
{
	struct spool *spool = stream->owner;

	if (spool->trailers || spool->state == SPOOL_SPENT)
		return;
	spool->trailers = headers_copy(headers, count, NULL, 0);
	spool->trailers_count = count;
	if (!spool->trailers)
		spool_spend(spool, CODE_INTERNAL);
}

static void spool_half_close(struct spool *spool)
{
	if (spool->client && !spool->half_closed)
		stream_end(spool->client);
	spool->half_closed = true;
}

static void client_on_end(struct stream *stream)
{
	struct spool *spool = stream->owner;

	if (spool->state == SPOOL_SPENT)
		return;
	spool->ended = true;
	spool_half_close(spool);
	spool_step(spool);
}

static void client_on_close(struct stream *stream, uint32_t code)
{
	struct spool *spool = stream->owner;

	spool->client = NULL;
	if (!spool->ended)
		spool_spend(spool, code == 0 || code == H2_CARRIER_CLOSED ? CODE_CANCEL : code);
}

static const struct stream_events client_events = {
	.on_headers = client_on_headers, .on_data = client_on_data, .on_trailers = client_on_trailers, .on_end = client_on_end,
	.on_close = client_on_close,
};

/* ---- an executor's stream ---- */

static struct spool *of_reader(struct stream *stream)
{
	return ((struct reader *)stream->owner)->spool;
}

/* It has nothing to say to the client, and says nothing. */
static void reader_on_data(struct stream *stream, struct span data)
{
	stream_consumed(stream, data.size);
}

static void reader_on_end(struct stream *stream)
{
	spool_half_close(of_reader(stream));
}

static void reader_on_writable(struct stream *stream)
{
	spool_step(of_reader(stream));
}

/* The one whose executor is lost may be followed by another; who gives it up does so for the client, too. */
static void reader_on_close(struct stream *stream, uint32_t code)
{
	struct reader *reader = stream->owner;
	struct spool *spool = reader->spool;

	list_remove(&reader->link);
	free(reader);
	if (list_empty(&spool->readers) && spool->state == SPOOL_SPENT)
		spool_release(spool);
	else if (list_empty(&spool->readers) && (code != H2_CARRIER_CLOSED || spool->state == SPOOL_PASSING))
		spool_spend(spool, CODE_CANCEL);
	else
		spool_step(spool);
}

static const struct stream_events reader_events = {
	.on_data = reader_on_data, .on_end = reader_on_end, .on_writable = reader_on_writable, .on_close = reader_on_close,
};

static int spool_read(struct spool *spool, struct stream *from)
{
	struct reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return ERR_RAISE(-ENOMEM);
	reader->spool = spool;
	reader->stream = from;
	from->events = &reader_events;
	from->owner = reader;
	list_append(&spool->readers, &reader->link);
	return 0;
}

/* ---- beginning ---- */

static void spool_free(struct spool *spool)
{
	CHECK(!spool->client);
	CHECK(list_empty(&spool->readers));
	spool_release(spool);
	free(spool->key);
	free(spool->headers);
	free(spool->trailers);
	free(spool);
}

static const char *const key_names[] = { "urlpath", "urlhost" };
#define KEY_COUNT (sizeof(key_names) / sizeof(key_names[0]))

static void key_of(struct header key[static KEY_COUNT], const struct grpc_request *request)
{
	for (size_t i = 0; i < KEY_COUNT; i++)
		key[i] = (struct header){ .name = span_text(key_names[i]),
			                  .value = headers_find(request->headers, request->headers_count, key_names[i]) };
}

static struct spool *spool_find(const struct spool_owner *owner, const struct header key[static KEY_COUNT])
{
	list_for_each(link, &owner->spools) {
		struct spool *spool = container_of(link, struct spool, link);

		if ((spool->state == SPOOL_KEEPING || spool->state == SPOOL_KEPT) && span_equal(spool->key[0].value, key[0].value) &&
		    span_equal(spool->key[1].value, key[1].value))
			return spool;
	}
	return NULL;
}

static int spool_create(struct spool **out, struct spool_owner *owner, const struct header key[static KEY_COUNT])
{
	struct spool *spool = calloc(1, sizeof(*spool));

	if (!spool)
		return ERR_RAISE(-ENOMEM);
	spool->owner = owner;
	spool->bytes = (struct spill){ .directory = owner->room->directory, .memory_bytes_max = MEMORY_BYTES };
	list_init(&spool->readers);
	spool->key = headers_copy(key, KEY_COUNT, NULL, 0);
	if (!spool->key || !spool_grow(spool, NEST_STREAM_WINDOW_BYTES)) {
		spool_free(spool);
		return SPOOL_UNKEPT;
	}
	*out = spool;
	return 0;
}

static int spool_ask(struct spool *spool, struct h2 *client, const struct grpc_request *request)
{
	struct h2_request head = {
		.method = span_text("POST"), .scheme = span_text("http"), .path = request->path,
		.authority = request->authority.size ? request->authority : span_text("localhost"),
		.headers = request->headers, .headers_count = request->headers_count,
	};

	return h2_open(client, &spool->client, &head, false, &client_events, spool);
}

int spool_open(struct spool_owner *owner, struct h2 *client, struct stream *from, const struct grpc_request *request)
{
	struct header key[KEY_COUNT];
	struct spool *spool;
	int r;

	if (!owner->room)
		return SPOOL_UNKEPT;
	key_of(key, request);
	spool = spool_find(owner, key);
	if (spool) {
		r = spool_read(spool, from);
		if (r == 0)
			reader_step(container_of(spool->readers.prev, struct reader, link));
		return r;
	}
	if (owner->count == SPOOLS_MAX)
		return SPOOL_UNKEPT;
	r = spool_create(&spool, owner, key);
	if (r != 0)
		return r;
	r = spool_read(spool, from);
	if (r < 0) {
		spool_free(spool);
		return r;
	}
	r = spool_ask(spool, client, request);
	if (r < 0) {
		struct reader *reader = from->owner;

		list_remove(&reader->link);
		free(reader);
		spool_free(spool);
		return ERR_RAISE(r);
	}
	list_append(&owner->spools, &spool->link);
	owner->count++;
	return 0;
}

void spool_owner_init(struct spool_owner *owner, struct spool_room *room, uint32_t tenant)
{
	*owner = (struct spool_owner){ .room = room, .tenant = tenant };
	list_init(&owner->spools);
	if (!room)
		return;
	if (!list_linked(&room->owners))
		list_init(&room->owners);
	list_append(&room->owners, &owner->link);
}

void spool_owner_fini(struct spool_owner *owner)
{
	list_for_each_safe(link, after, &owner->spools) {
		list_remove(link);
		spool_free(container_of(link, struct spool, link));
	}
	list_remove(&owner->link);
}

bool spool_owner_can_repeat(const struct spool_owner *owner)
{
	list_for_each(link, &owner->spools) {
		const struct spool *spool = container_of(link, struct spool, link);

		if (spool->state != SPOOL_KEEPING && spool->state != SPOOL_KEPT)
			return false;
	}
	return true;
}
