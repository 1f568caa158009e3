/* A small gateway in a thread. */
#include "gateway_thread.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/buildkitd/executor_address.h"
#include "gateway/cas/references.h"
#include "gateway/reapi/web.h"
#include "proto/reapi.h"
#include "proto/reapi_cas.h"
#include "proto/sluice_v1.h"

#define UNTIL_TRIES 20000                /* of 1 ms */
#define METHODS_MAX 40

struct gateway_thread {
	struct gateway_parts parts;
	char path[128];
	struct gateway_thread_options options;
	struct server_method methods[METHODS_MAX];
	pthread_t thread;
	pthread_barrier_t ready;
	struct tenant_registry *tenants;
	struct sha256 hasher;
	struct post drain;
	bool drained, closed;
};

/* A question from the test's thread. */
struct question {
	struct post post;
	struct gateway_thread *gateway;
	void (*fn)(struct gateway_parts *parts, void *context);
	bool (*test)(struct gateway_parts *parts, void *context);
	void *context;
	bool answer;
	sem_t done;
};

static void on_drained(void *context)
{
	struct gateway_thread *gateway = context;

	gateway->drained = true;
	reapi_close(&gateway->parts.reapi);
}

static void on_closed(void *context)
{
	((struct gateway_thread *)context)->closed = true;
}

static void on_drain(struct post *post)
{
	struct gateway_thread *gateway = container_of(post, struct gateway_thread, drain);

	execute_drain(&gateway->parts.execute);
	if (gateway->parts.pool)
		pool_drain(gateway->parts.pool);
	server_drain(gateway->parts.server, 10000000000u);
}

static int push_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return cas_push_start(&((struct gateway_parts *)context)->cas, request, why, why_size);
}

static int fetch_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return cas_fetch_start(&((struct gateway_parts *)context)->cas, request, why, why_size);
}

static int pin_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return cas_pin_start(&((struct gateway_parts *)context)->cas, request, why, why_size);
}

static int attach_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return pool_attach_start(((struct gateway_parts *)context)->pool, request, why, why_size);
}

static int run_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_start(&((struct gateway_parts *)context)->execute, request, why, why_size);
}

static int wait_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_wait_start(&((struct gateway_parts *)context)->execute, request, why, why_size);
}

static int get_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_get_start(&((struct gateway_parts *)context)->execute, request, why, why_size);
}

static int cancel_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return execute_cancel_start(&((struct gateway_parts *)context)->execute, request, why, why_size);
}

static int reapi_method_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return reapi_start(&((struct gateway_parts *)context)->reapi, request, why, why_size);
}

static void start_web(void *context, struct conn *conn, struct stream *stream, const struct h2_request *head)
{
	web_start(&((struct gateway_parts *)context)->reapi, conn, stream, head);
}

static int unknown_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return buildkit_start(((struct gateway_parts *)context)->buildkit, request, why, why_size);
}

static void on_conn_closed(void *context, struct conn *conn)
{
	struct gateway_parts *parts = context;

	if (parts->buildkit)
		buildkit_conn_closed(parts->buildkit, conn);
}

static const struct server_method own_methods[] = {
	{ SLUICE_PUSH, push_start }, { SLUICE_FETCH, fetch_start }, { SLUICE_PIN, pin_start },
	{ SLUICE_ATTACH, attach_start }, { REAPI_EXECUTE, run_start }, { REAPI_WAIT_EXECUTION, wait_start },
	{ REAPI_GET_OPERATION, get_start }, { REAPI_CANCEL_OPERATION, cancel_start },
	{ REAPI_CAPABILITIES, reapi_method_start }, { REAPI_FIND_MISSING, reapi_method_start },
	{ REAPI_BATCH_UPDATE, reapi_method_start }, { REAPI_BATCH_READ, reapi_method_start },
	{ REAPI_GET_TREE, reapi_method_start }, { REAPI_SPLIT, reapi_method_start },
	{ REAPI_SPLICE, reapi_method_start }, { REAPI_GET_RESULT, reapi_method_start },
	{ REAPI_UPDATE_RESULT, reapi_method_start }, { BYTESTREAM_READ, reapi_method_start },
	{ BYTESTREAM_WRITE, reapi_method_start }, { BYTESTREAM_QUERY, reapi_method_start },
	{ GRPC_HEALTH, reapi_method_start }, { GRPC_REFLECTION, reapi_method_start },
	{ GRPC_REFLECTION_ALPHA, reapi_method_start },
};

static void must(int r, const char *what, const char *why)
{
	if (r == 0)
		return;
	fprintf(stderr, "%s: %d: %s\n", what, r, why);
	abort();
}

static void write_tokens(const char *path, const char *tokens)
{
	FILE *file = fopen(path, "w");

	must(!file || fputs(tokens, file) < 0, "tokens", path);
	fclose(file);
	chmod(path, 0600);
}

static void gateway_services(struct gateway_thread *gateway)
{
	struct gateway_parts *parts = &gateway->parts;
	struct pool_config pool = {
		.cas = &parts->cas, .executor_uid = geteuid(), .enabled = gateway->options.executors, .disabled_why = "it is a test",
	};

	sha256_init(&gateway->hasher, gateway->options.hasher);
	must(pool_create(&parts->pool, &pool), "pool", "");
	parts->cas = (struct cas){
		.ring = parts->ring, .store = parts->store, .hasher = &gateway->hasher,
		.access = { .store = parts->store, .registry = gateway->tenants, .context = parts->pool,
		            .executor_scope = pool_executor_scope },
	};
	cas_init(&parts->cas);
	parts->execute = (struct execute_service){
		.cas = &parts->cas, .pool = parts->pool, .allow_host_root = !gateway->options.refuse_host_root,
		.linger_ns = gateway->options.linger_ns,
	};
	execute_init(&parts->execute);
	parts->reapi = (struct reapi){ .cas = &parts->cas, .pool = parts->pool, .execute = &parts->execute };
	reapi_init(&parts->reapi);
}

/* Ours, then those of the test; the rest is NULL. */
static void collect_methods(struct gateway_thread *gateway)
{
	size_t count = sizeof(own_methods) / sizeof(own_methods[0]);

	memcpy(gateway->methods, own_methods, sizeof(own_methods));
	for (const struct server_method *more = gateway->options.more; more && more->path; more++) {
		must(count + 1 >= METHODS_MAX, "methods", "too many");
		gateway->methods[count++] = *more;
	}
}

static void gateway_buildkit(struct gateway_thread *gateway)
{
	struct gateway_parts *parts = &gateway->parts;
	struct executors_config executors = {
		.ring = parts->ring, .health_interval_ns = 20000000, .queue_timeout_ns = gateway->options.queue_timeout_ns,
		.spawnable = gateway->options.spawnable, .context = gateway->options.spawnable_context,
	};
	struct buildkit_config buildkit = {
		.ring = parts->ring, .access = &parts->cas.access, .events = gateway->options.build_events,
		.replay = gateway->options.replay, .spawnable = gateway->options.spawnable,
		.spawnable_context = gateway->options.spawnable_context,
	};

	must(executors_create(&parts->executors, &executors), "executors", "");
	for (const char *const *each = gateway->options.buildkit; *each; each++) {
		struct executor_config executor = { .name = *each, .tenant = "default", .slots = gateway->options.slots };
		struct executor_address address;
		char why[512] = "";

		must(!executor_address_parse(&address, *each, why, sizeof(why)), "address", why);
		executor.address = address.address;
		must(executors_add(parts->executors, NULL, &executor), "executor", *each);
	}
	buildkit.executors = parts->executors;
	must(buildkit_create(&parts->buildkit, &buildkit), "buildkit", "");
}

static void gateway_open(struct gateway_thread *gateway)
{
	struct gateway_parts *parts = &gateway->parts;
	struct store_config store = {
		.path = gateway->path, .ceiling_bytes = gateway->options.ceiling_bytes, .references = closure_references,
		.index = gateway->options.index,
	};
	struct server_config server = {
		.methods = gateway->methods, .context = parts, .on_drained = on_drained, .on_conn_closed = on_conn_closed,
		.unknown = gateway->options.buildkit ? unknown_start : NULL, .web = gateway->options.web ? start_web : NULL,
		.idle_timeout_ns = gateway->options.idle_timeout_ns,
	};
	struct address address = { .local = true };
	char tokens_path[160], why[512] = "", bound[160];
	struct tenant_config tenants = { .tokens_path = gateway->options.tokens ? tokens_path : NULL };

	collect_methods(gateway);
	snprintf(tokens_path, sizeof(tokens_path), "%s.tokens", gateway->path);
	if (gateway->options.tokens)
		write_tokens(tokens_path, gateway->options.tokens);
	if (!store.ceiling_bytes)
		store.ceiling_bytes = 256u << 20;
	must(ring_create(&parts->ring, &(struct ring_config){ .engine = gateway->options.engine }), "ring", "");
	must(store_open(&parts->store, parts->ring, &store, why, sizeof(why)), "store", why);
	must(tenant_registry_create(&gateway->tenants, &tenants, why, sizeof(why)), "tenants", why);
	must(server_create(&parts->server, parts->ring, &server), "server", "");
	gateway_services(gateway);
	if (gateway->options.buildkit)
		gateway_buildkit(gateway);
	snprintf(address.host, sizeof(address.host), "%s/sock", gateway->path);
	must(server_listen(parts->server, &address, NULL, bound, sizeof(bound), why, sizeof(why)), "listen", why);
}

static void *gateway_run(void *context)
{
	struct gateway_thread *gateway = context;
	struct gateway_parts *parts = &gateway->parts;

	gateway_open(gateway);
	pthread_barrier_wait(&gateway->ready);
	/* When all connections have gone, what they began still lands; a call that never ends hangs the test. */
	while (!gateway->drained || !cas_idle(&parts->cas) || !reapi_idle(&parts->reapi) || !execute_idle(&parts->execute) ||
	       (parts->buildkit && !buildkit_idle(parts->buildkit)))
		ring_run(parts->ring, UINT64_MAX);
	must(parts->cas.packs.busy || parts->cas.closures.busy, "a gate was not left", "");
	server_destroy(parts->server);
	cas_fini(&parts->cas);
	buildkit_destroy(parts->buildkit);
	if (parts->executors)
		executors_close(parts->executors);
	while (parts->executors && !executors_idle(parts->executors))
		ring_run(parts->ring, UINT64_MAX);
	executors_destroy(parts->executors);
	execute_fini(&parts->execute);
	pool_destroy(parts->pool);
	store_close(parts->store, on_closed, gateway);
	while (!gateway->closed)
		ring_run(parts->ring, UINT64_MAX);
	tenant_registry_destroy(gateway->tenants);
	ring_destroy(parts->ring);
	return NULL;
}

struct gateway_thread *gateway_thread_start(const struct gateway_thread_options *options)
{
	struct gateway_thread *gateway = calloc(1, sizeof(*gateway));

	gateway->options = *options;
	snprintf(gateway->path, sizeof(gateway->path), "/tmp/sluice-cas-XXXXXX");
	assert_non_null(mkdtemp(gateway->path));
	pthread_barrier_init(&gateway->ready, NULL, 2);
	assert_int_equal(pthread_create(&gateway->thread, NULL, gateway_run, gateway), 0);
	pthread_barrier_wait(&gateway->ready);
	return gateway;
}

void gateway_thread_drain(struct gateway_thread *gateway)
{
	gateway->drain.fn = on_drain;
	ring_post(gateway->parts.ring, &gateway->drain);
}

void gateway_thread_stop(struct gateway_thread *gateway, bool remove)
{
	char command[512];

	if (!gateway->drain.fn)
		gateway_thread_drain(gateway);
	pthread_join(gateway->thread, NULL);
	pthread_barrier_destroy(&gateway->ready);
	if (remove) {
		snprintf(command, sizeof(command), "rm -rf '%s' '%s.tokens'", gateway->path, gateway->path);
		assert_int_equal(system(command), 0);
	}
	free(gateway);
}

struct client *gateway_thread_client_of(struct gateway_thread *gateway, const char *token, const char *instance)
{
	struct client_config config = { .fd = -1, .address.local = true, .token = token, .instance = instance };
	struct client *client = NULL;
	char why[512] = "";

	snprintf(config.address.host, sizeof(config.address.host), "%s/sock", gateway->path);
	if (client_open(&client, &config, why, sizeof(why)))
		fail_msg("client: %s", why);
	return client;
}

struct client *gateway_thread_client(struct gateway_thread *gateway, const char *token)
{
	return gateway_thread_client_of(gateway, token, NULL);
}

const char *gateway_thread_path(const struct gateway_thread *gateway)
{
	return gateway->path;
}

static void on_question(struct post *post)
{
	struct question *question = container_of(post, struct question, post);

	if (question->fn)
		question->fn(&question->gateway->parts, question->context);
	else
		question->answer = question->test(&question->gateway->parts, question->context);
	sem_post(&question->done);
}

static void question_ask(struct question *question)
{
	question->post.fn = on_question;
	sem_init(&question->done, 0, 0);
	ring_post(question->gateway->parts.ring, &question->post);
	while (sem_wait(&question->done) < 0)
		;
	sem_destroy(&question->done);
}

void gateway_thread_call(struct gateway_thread *gateway, void (*fn)(struct gateway_parts *parts, void *context), void *context)
{
	struct question question = { .gateway = gateway, .fn = fn, .context = context };

	question_ask(&question);
}

void gateway_thread_until(struct gateway_thread *gateway, bool (*fn)(struct gateway_parts *parts, void *context), void *context)
{
	struct question question = { .gateway = gateway, .test = fn, .context = context };

	for (unsigned i = 0; i < UNTIL_TRIES && !question.answer; i++) {
		if (i)
			usleep(1000);            /* no event tells: others' threads have to come to it */
		question_ask(&question);
	}
	assert_true(question.answer);
}

struct watched {
	bool (*fn)(struct gateway_parts *parts, void *context);
	void *context;
	bool seen;
};

static void look(struct gateway_parts *parts, void *context)
{
	struct watched *watched = context;

	watched->seen = watched->fn(parts, watched->context);
}

void client_run_until(struct client *with, struct gateway_thread *gateway,
                      bool (*fn)(struct gateway_parts *parts, void *context), void *context)
{
	struct watched watched = { .fn = fn, .context = context };

	/* client_wait() neither runs nor sleeps while a message is there that was not fetched, as there may be all the time. */
	for (int idle = 0; !watched.seen; gateway_thread_call(gateway, look, &watched)) {
		assert_true(idle < 20000);
		idle += ring_run(client_ring(with), 1000000) == 0;
	}
}
