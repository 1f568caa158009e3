/* A client's session, carried to an executor or kept until there is one. */
#include "gateway/session/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "proto/fsutil.h"
#include "proto/sluice_context.h"

#define SESSION_KEPT_BYTES_MAX (16u << 20)       /* of calls that wait, beyond the windows */

#define FILE_SEND_PATH "/moby.filesync.v1.FileSend/DiffCopy"

#define HEADER_ID         "x-docker-expose-session-uuid"
#define HEADER_SHARED_KEY "x-docker-expose-session-sharedkey"
#define HEADER_METHOD     "x-docker-expose-session-grpc-method"
#define HEADER_MTIME      "sluice-edge-mtime"
#define HEADER_OURS       "sluice-"

enum session_state {
	SESSION_HELD,                    /* no executor */
	SESSION_CARRIED,
	SESSION_ENDING,                  /* the client's side has ended or was told to; the executor's follows */
};

struct session {
	struct session_config config;
	enum session_state state;
	struct nest client, executor;
	bool client_ended;               /* buildx has half-closed: the daemon's trailers are awaited */
	bool client_closed, probe_stopped;
	bool uploaded, sent;             /* an upload went by that was not kept; a result */
	bool gives;                      /* an edge: contexts can be had by their content */
	struct spool_owner spools;
	bool stable, real_times;         /* stable: the edge would have its directories by stable keys */
	struct stable_request request;
	bool asking;                     /* `request` is under way */
	struct lineage *lineage;         /* NULL: the client's own key */
	struct relay_owner relays;
	struct sibling sibling;
	struct diffcopy_session broker;  /* what its DiffCopy calls share */
	struct health_probe probe;
	unsigned health_answers;
	unsigned users;                  /* session_use() */
	struct header *headers;          /* one allocation with their bytes */
	size_t headers_count;
	struct span authority, id, shared_key;
};

static void session_join(struct session *session);

/* ---- what the client announced ---- */

/* Not what gRPC puts on each call by itself, nor what is for this hop alone (RFC 9110 section 7.6.1). */
static bool header_travels(struct span name)
{
	static const char *const stays[] = { "content-type", "te", "user-agent", "authorization", "grpc-accept-encoding",
	                                     "grpc-encoding", "grpc-timeout" };

	for (size_t i = 0; i < sizeof(stays) / sizeof(stays[0]); i++)
		if (span_is(name, stays[i]))
			return false;
	return true;
}

static struct span keep(uint8_t **place, struct span from)
{
	struct span kept = span_make(*place, from.size);

	if (from.size)
		memcpy(*place, from.data, from.size);
	*place += from.size;
	return kept;
}

static int session_keep_headers(struct session *session, const struct grpc_request *head)
{
	const struct session_config *config = &session->config;
	size_t bytes = head->authority.size, room = head->headers_count + config->headers_count + 1, count = 0;
	uint8_t *place;

	for (size_t i = 0; i < head->headers_count; i++)
		bytes += head->headers[i].name.size + head->headers[i].value.size;
	for (size_t i = 0; i < config->headers_count; i++)
		bytes += config->headers[i].name.size + config->headers[i].value.size;
	session->headers = malloc(room * sizeof(*session->headers) + bytes + 1);
	if (!session->headers)
		return ERR_RAISE(-ENOMEM);
	place = (uint8_t *)(session->headers + room);
	for (size_t i = 0; i < head->headers_count; i++) {
		const struct header *header = &head->headers[i];
		struct header *kept = &session->headers[count];

		if (!header_travels(header->name))
			continue;
		kept->name = keep(&place, header->name);
		kept->value = keep(&place, header->value);
		kept->sensitive = header->sensitive;
		count++;
		if (span_is(kept->name, HEADER_ID))
			session->id = kept->value;
		else if (span_is(kept->name, HEADER_SHARED_KEY))
			session->shared_key = kept->value;
	}
	for (size_t i = 0; i < config->headers_count; i++) {
		const struct header *header = &config->headers[i];
		struct span name = keep(&place, header->name);

		session->headers[count++] = (struct header){ .name = name, .value = keep(&place, header->value),
			                                     .sensitive = header->sensitive };
	}
	session->headers_count = count;
	session->authority = keep(&place, head->authority.size ? head->authority : span_text("localhost"));
	return 0;
}

bool session_exposes(const struct session *session, const char *method)
{
	size_t size = strlen(method);

	for (size_t i = 0; i < session->headers_count; i++) {
		const struct header *header = &session->headers[i];

		if (span_is(header->name, HEADER_METHOD) && header->value.size == size &&
		    strncasecmp((const char *)header->value.data, method, size) == 0)
			return true;
	}
	return false;
}

/* ---- the daemon's inner calls ---- */

static bool path_is(struct span path, const char *wanted)
{
	return path.size == strlen(wanted) && strncasecmp((const char *)path.data, wanted, path.size) == 0;
}

/* What executors see its directory by. */
static struct lineage *session_lineage(const struct session *session)
{
	return session->real_times ? NULL : session->lineage;
}

/* Of a plain copy under a stable key nobody knows what is in the files: none may look like one that the daemon has. */
static bool session_restat(struct diffcopy_session *broker, struct span directory, struct fsutil_stat *stat)
{
	struct session *session = container_of(broker, struct session, broker);

	return lineage_restat(session->lineage, directory, stat->path, (uint64_t)stat->size, &stat->mod_time_ns);
}

static bool broker_takes(struct diffcopy_session *broker, struct span directory)
{
	return session_takes_directory(container_of(broker, struct session, broker), directory);
}

static struct h2 *broker_client(struct diffcopy_session *broker)
{
	return session_client(container_of(broker, struct session, broker));
}

static int session_copy(struct session *session, struct stream *stream, const struct grpc_request *head)
{
	if (session->gives)
		return play_open(session->config.play, &session->broker, stream, head, session->client.h2,
		                 session_lineage(session));
	return diffcopy_open(&session->broker, stream, head, session->client.h2);
}

/* The daemon retries what is refused; without the client there is nobody to ask. */
static int executor_on_stream(struct nest *nest, struct stream *stream, const struct h2_request *request)
{
	struct session *session = nest->owner;
	struct grpc_request head;
	int r;

	if (!grpc_request_parse(&head, request))
		return -EPROTO;
	if (path_is(head.path, HEALTH_CHECK_PATH))
		return health_answer(stream, &head, &session->health_answers);
	if (!nest_is_open(&session->client))
		return -EPIPE;
	if (session->config.events->on_call) {
		r = session->config.events->on_call(session, stream, &head);
		if (r != SESSION_PASS)
			return r;
	}
	if (session->config.broker && path_is(head.path, DIFFCOPY_PATH))
		return session_copy(session, stream, &head);
	if (path_is(head.path, SPOOL_PATH)) {
		r = spool_open(&session->spools, session->client.h2, stream, &head);
		if (r != SPOOL_UNKEPT)
			return r;
		session->uploaded = true;
	}
	session->sent |= path_is(head.path, FILE_SEND_PATH);
	return relay_open(&session->relays, session->client.h2, stream, &head);
}

/* ---- the executor's side ---- */

static void session_enter(struct session *session, enum session_state state)
{
	CHECK(session->state != SESSION_ENDING || state == SESSION_ENDING);
	session->state = state;
}

/* BuildKit's client reads on until it sees the trailers. */
static void session_end_client(struct session *session, enum grpc_status status, const char *text)
{
	session_enter(session, SESSION_ENDING);
	nest_shut(&session->client);
	call_finish(&session->client.call, status, text);
}

static void session_count_copies(struct session *session, const struct nest *nest)
{
	if (session->config.broker)
		session->config.broker->counters.copied_bytes_session += nest->bytes_copied;
}

static void executor_on_closed(struct nest *nest, enum grpc_status status, struct span message)
{
	struct session *session = nest->owner;

	session_count_copies(session, nest);
	if (session->state == SESSION_ENDING) {
		session_join(session);
		return;
	}
	session_enter(session, SESSION_HELD);
	if (session->client_ended)
		session_end_client(session, GRPC_OK, NULL);
	else
		session->config.events->on_executor_closed(session, status, message);
}

static const struct nest_events executor_events = { .on_stream = executor_on_stream, .on_closed = executor_on_closed };

/* What is said between an edge and us. */
static bool header_is_ours(const struct header *header)
{
	const size_t size = strlen(HEADER_OURS);

	if (header->name.size >= size && memcmp(header->name.data, HEADER_OURS, size) == 0)
		return true;
	return span_is(header->name, HEADER_METHOD) && path_is(header->value, SLUICE_GIVE);
}

/* As the executor gets them; one allocation, of the session's spans. */
static struct header *session_headers(const struct session *session, size_t *count)
{
	struct header *headers = malloc((session->headers_count + 1) * sizeof(*headers));
	const struct lineage *lineage = session_lineage(session);

	*count = 0;
	for (size_t i = 0; headers && i < session->headers_count; i++) {
		struct header header = session->headers[i];

		if (session->gives && header_is_ours(&header))
			continue;
		if (lineage && span_is(header.name, HEADER_SHARED_KEY))
			header.value = span_text(lineage_key(lineage));
		headers[(*count)++] = header;
	}
	return headers;
}

int session_carry(struct session *session, struct h2 *executor)
{
	struct nest_config config = { .ring = session->config.ring, .events = &executor_events, .owner = session };
	struct header *headers;
	size_t count;
	int r;

	CHECK(session_is_held(session) && session_is_ready(session));
	headers = session_headers(session, &count);
	if (!headers)
		return ERR_RAISE(-ENOMEM);
	r = nest_start(&session->executor, &config, executor, SESSION_PATH, session->authority, headers, count);
	free(headers);
	session->broker.restat = session_lineage(session) ? session_restat : NULL;
	if (r == 0)
		session_enter(session, SESSION_CARRIED);
	return r;
}

/* ---- the client's side ---- */

/*
 * The daemon gets the same half-close, and answers with its trailers. Nobody reads what the client would still be told inside:
 * nothing more is said (nest_accept() has the reason).
 */
static void client_on_end(struct nest *nest)
{
	struct session *session = nest->owner;

	session->client_ended = true;
	if (session->state == SESSION_CARRIED) {
		nest_shut(&session->client);
		call_end(&session->executor.call);
	} else {
		session_end_client(session, GRPC_OK, NULL);
	}
}

static void probe_on_stopped(struct health_probe *probe)
{
	struct session *session = container_of(probe, struct session, probe);

	session->probe_stopped = true;
	session_join(session);
}

static void client_on_closed(struct nest *nest, enum grpc_status status, struct span message)
{
	struct session *session = nest->owner;

	session_count_copies(session, nest);
	session_enter(session, SESSION_ENDING);
	session->client_closed = true;
	sibling_leave(&session->sibling);
	if (nest_in_use(&session->executor))
		call_cancel(&session->executor.call);
	health_probe_stop(&session->probe, probe_on_stopped);
}

static void broker_on_idle(struct diffcopy_session *broker)
{
	session_join(container_of(broker, struct session, broker));
}

static const struct nest_events client_events = { .on_end = client_on_end, .on_closed = client_on_closed };

void session_finish(struct session *session, enum grpc_status status, const char *text)
{
	if (session->state == SESSION_CARRIED)
		call_cancel(&session->executor.call);
	if (session->state != SESSION_ENDING)
		session_end_client(session, status, text);
}

static void probe_on_silent(struct health_probe *probe)
{
	struct session *session = container_of(probe, struct session, probe);

	log_event(LOG_WARNING, "session silent", LOG_TEXT("cause", "the client answered no health check"));
	session_finish(session, GRPC_UNAVAILABLE, "the client did not answer for too long");
}

/* ---- life ---- */

static const char *relays_lost_text(struct relay_owner *relays)
{
	return "the client of this session has gone";
}

static void session_free(struct session *session)
{
	spool_owner_fini(&session->spools);
	stable_request_cancel(&session->request);
	lineage_unref(session->lineage);
	free(session->headers);
	free(session);
}

static void session_join(struct session *session)
{
	if (!session->client_closed || !session->probe_stopped || nest_in_use(&session->executor) || session->broker.open ||
	    session->users)
		return;
	CHECK(session->health_answers == 0);
	CHECK(list_empty(&session->relays.relays));
	session->config.events->on_closed(session);
	session_free(session);
}

/* ---- stable keys ---- */

static void session_on_lineage(struct stable_request *request)
{
	struct session *session = container_of(request, struct session, request);

	session->asking = false;
	session->lineage = request->lineage;
	if (session->config.events->on_ready && session->state == SESSION_HELD)
		session->config.events->on_ready(session);
}

static struct span session_header(const struct session *session, const char *name)
{
	for (size_t i = 0; i < session->headers_count; i++)
		if (span_is(session->headers[i].name, name))
			return session->headers[i].value;
	return (struct span){ 0 };
}

/* "directory:client": of which machine it is does not matter when its content decides. */
static void session_stabilise(struct session *session, struct span tenant)
{
	struct stable *stable = session->gives ? session->config.play->stable : NULL;
	const struct span key = session->shared_key;
	const uint8_t *colon = key.size ? memrchr(key.data, ':', key.size) : NULL;
	size_t size = colon ? (size_t)(colon - key.data) : key.size;

	if (!stable || !key.size || !span_is(session_header(session, HEADER_MTIME), "stable"))
		return;
	session->request.fn = session_on_lineage;
	session->stable = session->asking = stable_get(stable, &session->request, tenant, span_make(key.data, size),
	                                               session->broker.identity) == 0;
}

bool session_is_ready(const struct session *session)
{
	return !session->asking;
}

bool session_is_stable(const struct session *session)
{
	return session->stable;
}

void session_want_real_times(struct session *session)
{
	session->real_times = true;
}

int session_accept(struct session **out, const struct session_config *config, struct stream *stream,
                   const struct grpc_request *head)
{
	struct nest_config nest = { .ring = config->ring, .events = &client_events };
	struct session *session;
	int r;

	session = calloc(1, sizeof(*session));
	if (!session)
		return ERR_RAISE(-ENOMEM);
	session->config = *config;
	session->config.tenant = session->config.subject = (struct span){ 0 };
	spool_owner_init(&session->spools, config->spools, config->scope.tenant);
	relay_owner_init(&session->relays, relays_lost_text);
	session->relays.account.bytes_max = SESSION_KEPT_BYTES_MAX;
	r = session_keep_headers(session, head);
	diffcopy_session_init(&session->broker, config->broker, &config->scope, config->tenant, config->subject,
	                      session->shared_key);
	session->broker.on_idle = broker_on_idle;
	session->broker.client = broker_client;
	session->broker.takes = broker_takes;
	session->config.headers = NULL;
	session->gives = config->play && session_exposes(session, SLUICE_GIVE);
	nest.owner = session;
	if (r == 0)
		r = nest_accept(&session->client, &nest, stream, head);
	if (r < 0) {
		session_free(session);
		return ERR_RAISE(r);
	}
	if (config->siblings)
		sibling_join(&session->sibling, config->siblings, session->shared_key);
	session->probe = (struct health_probe){ .ring = config->ring, .on_silent = probe_on_silent,
		                                .interval_ns = config->probe_interval_ns, .timeout_ns = config->probe_timeout_ns };
	health_probe_start(&session->probe, session->client.h2);
	session_stabilise(session, config->tenant);
	*out = session;
	return 0;
}

struct h2 *session_client(struct session *session)
{
	return nest_is_open(&session->client) ? session->client.h2 : NULL;
}

void session_use(struct session *session)
{
	session->users++;
}

void session_unuse(struct session *session)
{
	CHECK(session->users > 0);
	session->users--;
	session_join(session);
}

void *session_owner(const struct session *session)
{
	return session->config.owner;
}

bool session_is_held(const struct session *session)
{
	return session->state == SESSION_HELD && !nest_in_use(&session->executor);
}

struct span session_id(const struct session *session)
{
	return session->id;
}

struct span session_shared_key(const struct session *session)
{
	return session->shared_key;
}

bool session_takes_directory(struct session *session, struct span directory)
{
	return sibling_takes(&session->sibling, directory);
}

bool session_can_repeat(const struct session *session)
{
	return !session->uploaded && spool_owner_can_repeat(&session->spools);
}

bool session_has_sent(const struct session *session)
{
	return session->sent;
}

struct diffcopy_totals session_take_totals(struct session *session)
{
	struct diffcopy_totals totals = session->broker.totals;

	session->broker.totals = (struct diffcopy_totals){ 0 };
	return totals;
}
