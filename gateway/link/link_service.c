/* The gateway's links. */
#include "gateway/link/link_service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/link/link_mux.h"

#define UNKNOWN_TEXT "the gateway does not know this link: it was restarted, or the link was without a connection for too long"

/* To whom a link belongs. Compared as a whole: all-zero where nothing is said. */
struct owner {
	struct tenant_identity identity;
	struct conn_peer peer;
};

/*
 *	ALIVE -> ENDING -> (freed)
 */
struct service_link {
	struct link_mux mux;
	struct link_service *service;
	struct list link;
	uint8_t id[LINK_ID_BYTES];
	struct owner owner;
	bool ending;
	uint64_t timeout_ns;
	uint64_t down_since_ns;                  /* 0: it has a path */
};

/* A call of Carry: first nobody's, then a path of a link. */
struct service_path {
	struct link_path path;
	struct link_service *service;
	struct conn *conn;                       /* that the call rides on; there until the call has ended */
	struct service_link *of;                 /* NULL: not attached */
	struct list link;
	struct owner owner;
	struct op hello;                         /* the time for it */
	bool closed;                             /* the call has ended */
};

struct link_service {
	struct link_service_config config;
	struct list links, paths;
	unsigned links_count, hellos;
	bool draining, closing;
	struct link_service_status totals;       /* of links that have gone, and what links do not count */
};

/* ---- owners ---- */

static bool owner_equal(const struct owner *a, const struct owner *b)
{
	return strcmp(a->identity.tenant, b->identity.tenant) == 0 && strcmp(a->identity.subject, b->identity.subject) == 0 &&
	       a->identity.rights == b->identity.rights && a->peer.local == b->peer.local &&
	       a->peer.loopback == b->peer.loopback && a->peer.certificate == b->peer.certificate &&
	       a->peer.uid == b->peer.uid && strcmp(a->peer.organisation, b->peer.organisation) == 0 &&
	       strcmp(a->peer.common_name, b->peer.common_name) == 0;
}

static struct service_link *find(const struct link_service *service, struct span id, const struct owner *owner)
{
	list_for_each(link, &service->links) {
		struct service_link *each = container_of(link, struct service_link, link);

		if (!each->ending && span_equal(id, span_make(each->id, sizeof(each->id))) && owner_equal(&each->owner, owner))
			return each;
	}
	return NULL;
}

static unsigned count_of(const struct link_service *service, const char *tenant)
{
	unsigned count = 0;

	list_for_each(link, &service->links)
		count += strcmp(container_of(link, struct service_link, link)->owner.identity.tenant, tenant) == 0;
	return count;
}

static unsigned hellos_of(const struct link_service *service, const char *tenant)
{
	unsigned count = 0;

	list_for_each(link, &service->paths) {
		const struct service_path *path = container_of(link, struct service_path, link);

		count += !path->path.greeted && !path->closed && strcmp(path->owner.identity.tenant, tenant) == 0;
	}
	return count;
}

/* ---- the end of a link ---- */

static struct service_link *link_of(struct link_mux *mux)
{
	return container_of(mux, struct service_link, mux);
}

static struct service_path *path_of(struct link_path *path)
{
	return container_of(path, struct service_path, path);
}

static void link_detach(struct service_link *link, struct service_path *path)
{
	link_path_detach(&path->path);
	path->of = NULL;
	if (!link->ending && !link_mux_paths(&link->mux))
		link->down_since_ns = ring_now_ns(link->service->config.ring);
}

static void add_counters(struct link_service_status *status, const struct service_link *link)
{
	const struct link_core_counters *counters = &link->mux.core.counters;

	status->channels_total += link->mux.channels.total;
	status->bytes_sent += counters->bytes_sent;
	status->bytes_received += counters->bytes_received;
	status->bytes_resent += counters->bytes_resent;
	status->bytes_duplicate += counters->bytes_duplicate;
}

/* The calls get this answer, the channels close. */
static void link_end(struct service_link *link, enum grpc_status status, const char *text)
{
	if (link->ending)
		return;
	link->ending = true;
	add_counters(&link->service->totals, link);
	for (unsigned i = 0; i < LINK_PATHS_MAX; i++) {
		struct link_path *path = link->mux.paths[i];

		if (!path)
			continue;
		link_detach(link, path_of(path));
		call_finish(&path->call, status, text);
	}
	link_mux_close(&link->mux);
}

/* ---- events of a link ---- */

static int mux_on_channel(struct link_mux *mux, int fd)
{
	struct service_link *link = link_of(mux);
	struct link_service *service = link->service;
	int r = service->draining ? -ESHUTDOWN : service->config.adopt(service->config.context, fd, &link->owner.peer);

	if (r < 0)
		close(fd);
	return r;
}

static void mux_on_trouble(struct link_mux *mux, enum link_trouble trouble)
{
	struct service_link *link = link_of(mux);

	if (trouble == LINK_TROUBLE_OVER) {
		link_end(link, GRPC_OK, NULL);
		return;
	}
	link->service->totals.links_broken++;
	log_event(LOG_WARNING, "link broken", LOG_TEXT("tenant", link->owner.identity.tenant),
	          LOG_TEXT("subject", link->owner.identity.subject), LOG_TEXT("peer", link->owner.peer.address),
	          LOG_TEXT("why", trouble == LINK_TROUBLE_MEMORY ? "no memory" : "it broke the rules of links"));
	if (trouble == LINK_TROUBLE_MEMORY)
		link_end(link, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
	else
		link_end(link, GRPC_INVALID_ARGUMENT, "this link broke the rules of sluice.v1.Link");
}

static void path_lost(struct service_path *path)
{
	path->service->totals.paths_lost++;
	link_detach(path->of, path);
}

/* Its client has lost it, or will. A conn that carries nothing else would only wait for TCP to find out. */
static void give_up(struct service_path *path)
{
	path_lost(path);
	if (h2_streams_count(conn_h2(path->conn)) > 1)
		call_cancel(&path->path.call);
	else
		conn_close(path->conn, "the path of a link was given up");
}

static void mux_on_dead(struct link_mux *mux, struct link_path *path)
{
	(void)mux;
	give_up(path_of(path));
}

static void mux_on_tick(struct link_mux *mux, uint64_t now_ns)
{
	struct service_link *link = link_of(mux);

	if (!link->down_since_ns || now_ns - link->down_since_ns < link->timeout_ns)
		return;
	link->service->totals.links_expired++;
	log_event(LOG_INFO, "link expired", LOG_TEXT("tenant", link->owner.identity.tenant),
	          LOG_TEXT("subject", link->owner.identity.subject), LOG_U64("channels", mux->channels.count));
	link_end(link, GRPC_OK, NULL);
}

static void mux_on_idle(struct link_mux *mux)
{
	struct service_link *link = link_of(mux);

	if (link->service->draining)
		link_end(link, GRPC_UNAVAILABLE, "the gateway shuts down or restarts");
}

static void mux_on_gone(struct link_mux *mux)
{
	struct service_link *link = link_of(mux);

	link->service->links_count--;
	list_remove(&link->link);
	free(link);
}

static const struct link_mux_events service_mux_events = {
	.on_channel = mux_on_channel, .on_trouble = mux_on_trouble, .on_dead = mux_on_dead, .on_tick = mux_on_tick,
	.on_idle = mux_on_idle, .on_gone = mux_on_gone,
};

/* ---- the beginning of a link ---- */

static void set_timeout(struct service_link *link, uint64_t timeout_ns)
{
	link->timeout_ns = timeout_ns;
	link->mux.tick_ns = link_mux_tick_ns(timeout_ns);
}

static struct service_link *link_create(struct link_service *service, struct span id, const struct owner *owner)
{
	struct link_mux_config mux = {
		.ring = service->config.ring, .events = &service_mux_events, .server = true,
		.silence_ns = service->config.silence_ns,
	};
	struct service_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->service = service;
	link->owner = *owner;
	memcpy(link->id, id.data, sizeof(link->id));
	link_mux_init(&link->mux, &mux);
	set_timeout(link, service->config.timeout_ns);
	list_append(&service->links, &link->link);
	service->links_count++;
	service->totals.links_total++;
	return link;
}

/* The link that a hello means: one that is there, or a new one. NULL: refused with `status` and `why`. */
static struct service_link *link_for(struct service_path *path, const struct link_hello *hello, enum grpc_status *status,
                                     const char **why)
{
	struct link_service *service = path->service;
	struct service_link *link = find(service, hello->id, &path->owner);

	if (link)
		return link;
	*status = GRPC_NOT_FOUND;
	*why = UNKNOWN_TEXT;
	if (hello->resume)
		return NULL;
	*status = GRPC_UNAVAILABLE;
	*why = "the gateway shuts down or restarts; try again";
	if (service->draining)
		return NULL;
	*status = GRPC_RESOURCE_EXHAUSTED;
	*why = "too many links: the gateway keeps no more of them at a time, or no more of one tenant's";
	if (service->links_count >= LINKS_MAX || count_of(service, path->owner.identity.tenant) >= LINKS_TENANT_MAX)
		return NULL;
	*why = "the gateway is out of memory; try again";
	return link_create(service, hello->id, &path->owner);
}

static void send_welcome(struct service_path *path)
{
	struct buffer ahead = buffer_heap(LINK_MESSAGE_BYTES_MAX), welcome = buffer_heap(LINK_MESSAGE_BYTES_MAX);
	struct link_welcome greeting = { .timeout_ms = path->of->timeout_ns / 1000000u };
	struct link_message message = { 0 };
	uint64_t received = link_core_received(&path->of->mux.core);

	link_core_put_ahead(&path->of->mux.core, &ahead);
	greeting.ahead = buffer_span(&ahead);
	message_encode(&link_welcome_type, &welcome, &greeting);
	message.welcome = buffer_span(&welcome);
	if (received > 1)
		message.received = received;
	link_path_send(&path->path, &message);
	buffer_fini(&ahead);
	buffer_fini(&welcome);
}

static int refuse(struct service_path *path, enum grpc_status status, const char *why)
{
	path->service->totals.links_refused++;
	call_finish(&path->path.call, status, why);
	return -EPERM;
}

/* Another path of that number is one that the client has lost, and we have not noticed. */
static void replace(struct service_link *link, unsigned number)
{
	if (link->mux.paths[number])
		give_up(path_of(link->mux.paths[number]));
}

static int path_on_greeting(struct link_path *base, const struct link_message *message)
{
	struct service_path *path = path_of(base);
	enum grpc_status status;
	struct link_hello hello;
	struct service_link *link;
	const char *why;

	ring_cancel(path->service->config.ring, &path->hello);
	if (!message->hello.data || !message_decode(&link_hello_type, message->hello, &hello) ||
	    hello.id.size != LINK_ID_BYTES || hello.path >= LINK_PATHS_MAX)
		return refuse(path, GRPC_INVALID_ARGUMENT, "malformed LinkHello");
	link = link_for(path, &hello, &status, &why);
	if (!link)
		return refuse(path, status, why);
	replace(link, hello.path);
	if (link_core_resume(&link->mux.core, message->received, hello.ahead) < 0) {
		link_mux_fail(&link->mux, LINK_TROUBLE_RULES);
		return refuse(path, GRPC_INVALID_ARGUMENT, "this hello has received what was not sent");
	}
	if (hello.timeout_ms && hello.timeout_ms < link->timeout_ns / 1000000u)
		set_timeout(link, hello.timeout_ms * 1000000u);
	if (link->down_since_ns)
		path->service->totals.resumes++;
	link->down_since_ns = 0;
	base->number = hello.path;
	path->of = link;
	path->service->totals.paths_total++;
	link_mux_attach(&link->mux, base);
	send_welcome(path);
	return 0;
}

/* ---- calls ---- */

static void path_join(struct service_path *path)
{
	if (!path->closed || op_in_flight(&path->hello))
		return;
	list_remove(&path->link);
	call_fini(&path->path.call);
	free(path);
}

static void path_on_hello_timer(struct op *op, int32_t res)
{
	struct service_path *path = container_of(op, struct service_path, hello);

	(void)res;
	path->service->hellos--;
	if (!path->closed && !path->path.greeted)
		call_finish(&path->path.call, GRPC_INVALID_ARGUMENT, "no LinkHello came");
	path_join(path);
}

static void path_on_fault(struct link_path *path)
{
	(void)refuse(path_of(path), GRPC_INVALID_ARGUMENT, "malformed LinkMessage");
}

static void path_on_closed(struct link_path *base, enum grpc_status status, struct span message)
{
	struct service_path *path = path_of(base);
	struct service_link *link = path->of;

	(void)status, (void)message;
	path->closed = true;
	ring_cancel(path->service->config.ring, &path->hello);
	/* Of a link that is over nothing is lost. */
	if (link && link->mux.trouble == LINK_TROUBLE_OVER)
		link_detach(link, path);
	else if (link)
		path_lost(path);
	path_join(path);
}

static const struct link_path_events service_path_events = {
	.on_greeting = path_on_greeting, .on_fault = path_on_fault, .on_closed = path_on_closed,
};

/* A link that comes back would die of any other answer. */
static int refuse_call(struct service_path *path, char *why, size_t why_size)
{
	free(path);
	snprintf(why, why_size, "the gateway cannot take another link now; try again");
	return GRPC_UNAVAILABLE;
}

int link_service_start(struct link_service *service, const struct server_request *request, char *why, size_t why_size)
{
	struct service_path *path;
	enum grpc_status status;

	if (conn_peer(request->conn)->linked) {
		snprintf(why, why_size, "a link cannot ride on a link");
		return GRPC_FAILED_PRECONDITION;
	}
	path = calloc(1, sizeof(*path));
	if (!path || service->hellos >= LINK_HELLOS_MAX || service->closing)
		return refuse_call(path, why, why_size);
	status = service->config.identify(service->config.context, request, &path->owner.identity, why, why_size);
	if (status != GRPC_OK) {
		free(path);
		return (int)status;
	}
	if (hellos_of(service, path->owner.identity.tenant) >= LINK_HELLOS_TENANT_MAX)
		return refuse_call(path, why, why_size);
	path->owner.peer = *conn_peer(request->conn);
	path->owner.peer.linked = true;
	path->service = service;
	path->conn = request->conn;
	path->path.events = &service_path_events;
	path->hello.fn = path_on_hello_timer;
	ring_timer(service->config.ring, &path->hello, LINK_HELLO_NS);
	service->hellos++;
	list_append(&service->paths, &path->link);
	call_accept(&path->path.call, request->stream, request->head, LINK_MESSAGE_BYTES_MAX, &link_path_call_events, NULL);
	return 0;
}

/* ---- the service ---- */

int link_service_create(struct link_service **out, const struct link_service_config *config)
{
	struct link_service *service = calloc(1, sizeof(*service));

	if (!service)
		return ERR_RAISE(-ENOMEM);
	service->config = *config;
	if (!service->config.timeout_ns)
		service->config.timeout_ns = LINK_TIMEOUT_NS;
	list_init(&service->links);
	list_init(&service->paths);
	*out = service;
	return 0;
}

void link_service_drain(struct link_service *service)
{
	service->draining = true;
	list_for_each_safe(link, after, &service->links) {
		struct service_link *each = container_of(link, struct service_link, link);

		if (each->mux.channels.count == 0)
			link_end(each, GRPC_UNAVAILABLE, "the gateway shuts down or restarts");
	}
}

void link_service_close(struct link_service *service)
{
	service->draining = service->closing = true;
	list_for_each_safe(link, after, &service->links)
		link_end(container_of(link, struct service_link, link), GRPC_UNAVAILABLE, "the gateway shuts down or restarts");
}

bool link_service_idle(const struct link_service *service)
{
	return list_empty(&service->links) && list_empty(&service->paths);
}

void link_service_destroy(struct link_service *service)
{
	if (!service)
		return;
	CHECK(link_service_idle(service));
	free(service);
}

void link_service_status(const struct link_service *service, struct link_service_status *status)
{
	*status = service->totals;
	list_for_each(link, &service->links) {
		const struct service_link *each = container_of(link, struct service_link, link);

		status->links++;
		status->paths += link_mux_paths(&each->mux);
		status->channels += each->mux.channels.count;
		if (!each->ending)
			add_counters(status, each);
	}
}
