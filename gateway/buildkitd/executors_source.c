/* What the operator named, one item each `--buildkit`. */
#include "gateway/buildkitd/executors_source.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"

#define RESOLVE_INTERVAL_NS 30000000000ull
/* That are looked at, of a name: resolvers turn the order with each answer, and who is there stays as long as it is named. */
#define ANSWERS_MAX         1024

/* An executor of a name. */
struct found {
	struct executor *executor;
	struct address_resolved at;
	bool still;                      /* among the latest answers */
};

struct item {
	struct executors_source *source;
	struct executor_address given;
	struct tls_context *tls;
	/* dns: */
	struct op resolve, timer;
	struct address_resolved answers[ANSWERS_MAX];
	int answers_count;
	char why[512];                   /* the worker's, while `resolve` is in flight */
	struct found found[EXECUTORS_SOURCE_ADDRESSES_MAX];
	size_t found_count;
};

struct executors_source {
	struct ring *ring;
	struct executors *executors;
	executors_resolve_fn *resolve;
	uint64_t interval_ns;
	char tenant[EXECUTOR_TENANT_MAX];
	bool closing;
	size_t count;
	struct item items[];
};

/* ---- one executor ---- */

static int item_add(struct item *item, struct executor **executor, const struct address *address, const char *name)
{
	const struct executor_address *given = &item->given;
	struct executor_config config = {
		.name = name, .address = *address, .tls = item->tls, .server_name = given->address.host,
		.tenant = given->tenant[0] ? given->tenant : item->source->tenant, .slots = given->slots,
	};
	int r = executors_add(item->source->executors, executor, &config);

	return r < 0 ? ERR_RAISE(r) : 0;
}

/* ---- names ---- */

static int resolve_by_system(const struct address *address, struct address_resolved *resolved, size_t max, char *why,
                             size_t why_size)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *list = NULL;
	int failure = getaddrinfo(address->host, address->port, &hints, &list), count = 0;

	if (failure) {
		snprintf(why, why_size, "%s", gai_strerror(failure));
		return ERR_RAISE(-EHOSTUNREACH);
	}
	for (struct addrinfo *each = list; each; each = each->ai_next, count++) {
		if ((size_t)count >= max || each->ai_addrlen > sizeof(resolved->sockaddr))
			continue;
		memset(&resolved[count], 0, sizeof(resolved[count]));
		memcpy(&resolved[count].sockaddr, each->ai_addr, each->ai_addrlen);
		resolved[count].size = each->ai_addrlen;
	}
	freeaddrinfo(list);
	return count;
}

/* "tcp://10.0.0.7:1234", or behind what the operator calls them: "builders/10.0.0.7:1234". */
static void name_found(const struct item *item, const struct address_resolved *at, char *name, size_t size)
{
	char text[INET6_ADDRSTRLEN + 16];

	address_describe((const struct sockaddr *)&at->sockaddr, text, sizeof(text));
	if (item->given.named)
		snprintf(name, size, "%.128s/%s", item->given.name, text);
	else
		snprintf(name, size, "%s://%s", item->given.address.tls ? "tcps" : "tcp", text);
}

static bool make_literal(const struct item *item, const struct address_resolved *at, struct address *address)
{
	struct sockaddr_in four;
	struct sockaddr_in6 six;

	*address = item->given.address;
	switch (at->sockaddr.ss_family) {
	case AF_INET:
		memcpy(&four, &at->sockaddr, sizeof(four));
		return inet_ntop(AF_INET, &four.sin_addr, address->host, sizeof(address->host)) != NULL;
	case AF_INET6:
		memcpy(&six, &at->sockaddr, sizeof(six));
		return inet_ntop(AF_INET6, &six.sin6_addr, address->host, sizeof(address->host)) != NULL;
	default:
		return false;
	}
}

static struct found *item_find(struct item *item, const struct address_resolved *at)
{
	for (size_t i = 0; i < item->found_count; i++)
		if (item->found[i].at.size == at->size && memcmp(&item->found[i].at.sockaddr, &at->sockaddr, at->size) == 0)
			return &item->found[i];
	return NULL;
}

static void item_join_one(struct item *item, const struct address_resolved *at)
{
	struct found *found = item_find(item, at);
	char name[EXECUTOR_NAME_MAX];
	struct executor *executor;
	struct address address;
	int r;

	if (found) {
		found->still = true;
		return;
	}
	if (item->found_count == EXECUTORS_SOURCE_ADDRESSES_MAX || !make_literal(item, at, &address))
		return;
	name_found(item, at, name, sizeof(name));
	r = item_add(item, &executor, &address, name);
	if (r < 0) {
		log_event(LOG_WARNING, "executor not taken", LOG_TEXT("executor", name), LOG_TEXT("reason", err_text(r)));
		return;
	}
	item->found[item->found_count++] = (struct found){ .executor = executor, .at = *at, .still = true };
}

/* Who is not among the answers goes first, so that there is room. */
static void item_take_answers(struct item *item)
{
	size_t kept = 0;
	bool all = item->answers_count <= ANSWERS_MAX;
	int count = all ? item->answers_count : ANSWERS_MAX;

	if (item->answers_count > EXECUTORS_SOURCE_ADDRESSES_MAX)
		log_event(LOG_WARNING, "too many addresses", LOG_TEXT("name", item->given.address.host),
		          LOG_I64("addresses", item->answers_count));
	for (size_t i = 0; i < item->found_count; i++)
		item->found[i].still = false;
	for (int i = 0; i < count; i++) {
		struct found *found = item_find(item, &item->answers[i]);

		if (found)
			found->still = true;
	}
	for (size_t i = 0; i < item->found_count; i++) {
		if (item->found[i].still || !all)
			item->found[kept++] = item->found[i];
		else
			executor_drain(item->found[i].executor, NULL, NULL);
	}
	item->found_count = kept;
	for (int i = 0; i < count; i++)
		item_join_one(item, &item->answers[i]);
}

static int32_t item_resolve(struct op *op)
{
	struct item *item = container_of(op, struct item, resolve);

	item->answers_count = item->source->resolve(&item->given.address, item->answers, ANSWERS_MAX, item->why,
	                                            sizeof(item->why));
	return item->answers_count;
}

static void item_on_resolved(struct op *op, int32_t res)
{
	struct item *item = container_of(op, struct item, resolve);

	if (item->source->closing)
		return;
	if (res > 0)
		item_take_answers(item);
	else
		log_event(LOG_WARNING, "executors not resolved", LOG_TEXT("name", item->given.address.host),
		          LOG_TEXT("reason", res < 0 ? item->why : "it has no address"));
	ring_timer(item->source->ring, &item->timer, item->source->interval_ns);
}

static void item_on_timer(struct op *op, int32_t res)
{
	struct item *item = container_of(op, struct item, timer);

	if (res == 0 && !item->source->closing)
		ring_work_slow(item->source->ring, &item->resolve, item_resolve);
}

/* ---- items ---- */

/* `tls` is left as it is when it has none. */
static int item_open_tls(const struct item *item, struct tls_context **tls, char *why, size_t why_size)
{
	const struct executor_address *given = &item->given;
	char problem[600];
	struct tls_config config = {
		.to_executor = true,
		.ca_path = given->ca[0] ? given->ca : NULL,
		.certificate_path = given->certificate[0] ? given->certificate : NULL,
		.key_path = given->key[0] ? given->key : NULL,
	};
	int r;

	if (!given->address.tls)
		return 0;
	r = tls_context_create(tls, &config, problem, sizeof(problem));
	if (r < 0)
		snprintf(why, why_size, "executor %s: %s", given->name, problem);
	return r < 0 ? ERR_RAISE(r) : 0;
}

/* What it says, and its keys. */
static int item_read(struct item *item, const char *text, char *why, size_t why_size)
{
	int r;

	if (!executor_address_parse(&item->given, text, why, why_size))
		return ERR_RAISE(-EINVAL);
	r = item_open_tls(item, &item->tls, why, why_size);
	return r < 0 ? ERR_RAISE(r) : 0;
}

static int item_add_fixed(struct item *item, char *why, size_t why_size)
{
	int r;

	if (item->given.dns)
		return 0;
	r = item_add(item, NULL, &item->given.address, item->given.name);
	if (r == -EEXIST)
		snprintf(why, why_size, "executor %s is there twice", item->given.name);
	else if (r == -EADDRINUSE)
		snprintf(why, why_size, "executor %s is another tenant's already: what a buildkitd keeps is one tenant's",
		         item->given.name);
	else if (r < 0)
		snprintf(why, why_size, "executor %s: %s", item->given.name, err_text(r));
	return r < 0 ? ERR_RAISE(r) : 0;
}

static void item_begin_resolving(struct item *item)
{
	if (!item->given.dns)
		return;
	item->resolve.fn = item_on_resolved;
	item->timer.fn = item_on_timer;
	ring_work_slow(item->source->ring, &item->resolve, item_resolve);
}

/* ---- life ---- */

static void source_free(struct executors_source *source)
{
	for (size_t i = 0; i < source->count; i++)
		tls_context_destroy(source->items[i].tls);
	free(source);
}

int executors_source_create(struct executors_source **out, const struct executors_source_config *config, char *why,
                            size_t why_size)
{
	struct executors_source *source = calloc(1, sizeof(*source) + config->count * sizeof(source->items[0]));
	int r = 0;

	if (!source) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	source->ring = config->ring;
	source->executors = config->executors;
	source->resolve = config->resolve ? config->resolve : resolve_by_system;
	source->interval_ns = config->interval_ns ? config->interval_ns : RESOLVE_INTERVAL_NS;
	source->count = config->count;
	snprintf(source->tenant, sizeof(source->tenant), "%s", config->tenant);
	for (size_t i = 0; i < source->count; i++)
		source->items[i].source = source;
	for (size_t i = 0; r == 0 && i < source->count; i++)
		r = item_read(&source->items[i], config->addresses[i], why, why_size);
	for (size_t i = 0; r == 0 && i < source->count; i++)
		r = item_add_fixed(&source->items[i], why, why_size);
	if (r < 0) {
		source_free(source);
		return ERR_RAISE(r);
	}
	for (size_t i = 0; i < source->count; i++)
		item_begin_resolving(&source->items[i]);
	*out = source;
	return 0;
}

int executors_source_reload(struct executors_source *source, char *why, size_t why_size)
{
	struct tls_context **made = calloc(source->count + 1, sizeof(*made));
	int r = made ? 0 : -ENOMEM;

	if (!made)
		snprintf(why, why_size, "out of memory");
	for (size_t i = 0; r == 0 && i < source->count; i++)
		r = item_open_tls(&source->items[i], &made[i], why, why_size);
	for (size_t i = 0; made && i < source->count; i++) {
		struct tls_context *unused = r == 0 ? source->items[i].tls : made[i];

		if (r == 0 && made[i]) {
			executors_set_tls(source->executors, source->items[i].tls, made[i]);
			source->items[i].tls = made[i];
		}
		if (r < 0 || made[i])
			tls_context_destroy(unused);
	}
	free(made);
	return r < 0 ? ERR_RAISE(r) : 0;
}

void executors_source_close(struct executors_source *source)
{
	source->closing = true;
	for (size_t i = 0; i < source->count; i++) {
		ring_cancel(source->ring, &source->items[i].resolve);
		ring_cancel(source->ring, &source->items[i].timer);
	}
}

bool executors_source_idle(const struct executors_source *source)
{
	for (size_t i = 0; i < source->count; i++)
		if (op_in_flight(&source->items[i].resolve) || op_in_flight(&source->items[i].timer))
			return false;
	return source->closing;
}

void executors_source_destroy(struct executors_source *source)
{
	if (!source)
		return;
	CHECK(executors_source_idle(source));
	source_free(source);
}
