/* admin: three pages from one published copy. */
#include "gateway/admin/admin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/net/address.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define TEXT_TYPE    "text/plain; charset=utf-8"

enum {
	STALE_DEFAULT_SECONDS = 10,
	BACKLOG = 16,
};

struct admin {
	struct MHD_Daemon *daemon;
	struct admin_config config;
	pthread_mutex_t mutex;           /* over what follows */
	struct counter_values values;
	uint64_t published_ns;
	bool ready;
	const char *not_ready_why;
};

static uint64_t monotonic_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- what the loop says ---- */

void admin_publish(struct admin *admin, const struct counter_values *values)
{
	uint64_t now = admin->config.now();

	pthread_mutex_lock(&admin->mutex);
	admin->values = *values;
	admin->published_ns = now;
	pthread_mutex_unlock(&admin->mutex);
}

void admin_set_ready(struct admin *admin, bool ready, const char *why)
{
	pthread_mutex_lock(&admin->mutex);
	admin->ready = ready;
	admin->not_ready_why = why ? why : "not ready";
	pthread_mutex_unlock(&admin->mutex);
}

/* ---- pages: each writes its body and returns its HTTP status ---- */

static unsigned page_metrics(struct admin *admin, FILE *body)
{
	struct counter_values values;
	uint64_t age_ns;
	bool ready;

	pthread_mutex_lock(&admin->mutex);
	values = admin->values;
	age_ns = admin->config.now() - admin->published_ns;
	ready = admin->ready;
	pthread_mutex_unlock(&admin->mutex);
	fprintf(body, "# HELP sluice_info what runs here\n# TYPE sluice_info gauge\n"
	        "sluice_info{version=\"%s\",engine=\"%s\"} 1\n", admin->config.version, admin->config.engine);
	fprintf(body, "# HELP sluice_ready 1 when builds may be sent here\n# TYPE sluice_ready gauge\nsluice_ready %d\n", ready);
	fprintf(body, "# HELP sluice_published_age_seconds how old these numbers are. When it grows: the loop is stuck, see "
	        "the log\n# TYPE sluice_published_age_seconds gauge\nsluice_published_age_seconds %llu.%03llu\n",
	        (unsigned long long)(age_ns / 1000000000), (unsigned long long)(age_ns / 1000000 % 1000));
	counters_write(&values, body);
	return MHD_HTTP_OK;
}

static unsigned page_health(struct admin *admin, FILE *body)
{
	uint64_t age_ns;

	pthread_mutex_lock(&admin->mutex);
	age_ns = admin->config.now() - admin->published_ns;
	pthread_mutex_unlock(&admin->mutex);
	if (age_ns <= admin->config.stale_ns) {
		fputs("ok\n", body);
		return MHD_HTTP_OK;
	}
	fprintf(body, "the loop has not come round for %llu s\n", (unsigned long long)(age_ns / 1000000000));
	return MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned page_ready(struct admin *admin, FILE *body)
{
	const char *why;
	bool ready;

	pthread_mutex_lock(&admin->mutex);
	ready = admin->ready;
	why = admin->not_ready_why;
	pthread_mutex_unlock(&admin->mutex);
	fprintf(body, "%s\n", ready ? "ok" : why);
	return ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned page_index(struct admin *admin, FILE *body)
{
	fprintf(body, "sluice %s\n/metrics\n/healthz\n/readyz\n", admin->config.version);
	return MHD_HTTP_OK;
}

static const struct page {
	const char *path, *type;
	unsigned (*write)(struct admin *admin, FILE *body);
} pages[] = {
	{ "/", TEXT_TYPE, page_index },
	{ "/metrics", METRICS_TYPE, page_metrics },
	{ "/healthz", TEXT_TYPE, page_health },
	{ "/readyz", TEXT_TYPE, page_ready },
};

/* ---- HTTP ---- */

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, const char *type, char *body,
                               size_t size)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(size, body, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result;

	if (!response) {
		free(body);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result respond_text(struct MHD_Connection *connection, unsigned status, const char *text)
{
	char *body = strdup(text);

	return body ? respond(connection, status, TEXT_TYPE, body, strlen(body)) : MHD_NO;
}

static enum MHD_Result respond_page(struct admin *admin, struct MHD_Connection *connection, const struct page *page)
{
	char *body = NULL;
	size_t size = 0;
	unsigned status;
	FILE *file = open_memstream(&body, &size);

	if (!file)
		return MHD_NO;
	status = page->write(admin, file);
	if (fclose(file) != 0) {
		free(body);
		return MHD_NO;
	}
	return respond(connection, status, page->type, body, size);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state)
{
	static int seen;

	/* Called once with the headers, once with each piece of a body, and once at its end. */
	if (!*state) {
		*state = &seen;
		return MHD_YES;
	}
	if (*upload_size) {
		*upload_size = 0;
		return MHD_YES;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return respond_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		if (strcmp(pages[i].path, url) == 0)
			return respond_page(context, connection, &pages[i]);
	return respond_text(connection, MHD_HTTP_NOT_FOUND, "there are /metrics, /healthz and /readyz\n");
}

/* ---- life ---- */

/* Without a host: loopback. */
static bool parse(struct address *address, const char *text)
{
	char full[ADDRESS_TEXT_MAX];

	if (*text && *text != ':')
		return address_parse_host(address, text, ADMIN_PORT_DEFAULT);
	return (size_t)snprintf(full, sizeof(full), "127.0.0.1%s", text) < sizeof(full) &&
	       address_parse_host(address, full, ADMIN_PORT_DEFAULT);
}

bool admin_on_loopback(const char *text)
{
	struct address address;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	struct sockaddr_in four = { .sin_family = AF_INET };

	if (!parse(&address, text))
		return false;
	if (inet_pton(AF_INET, address.host, &four.sin_addr) == 1)
		return address_is_loopback((struct sockaddr *)&four);
	if (inet_pton(AF_INET6, address.host, &six.sin6_addr) == 1)
		return address_is_loopback((struct sockaddr *)&six);
	return strcmp(address.host, "localhost") == 0;
}

static int bind_one(const struct sockaddr_storage *at, socklen_t size)
{
	CLEANUP(fd_closep) int fd = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)at, size) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return fd_take(&fd);
}

/* A listening socket, or -errno with `why`. */
static int listen_at(const char *text, char *bound, size_t bound_size, char *why, size_t why_size)
{
	struct sockaddr_storage at;
	socklen_t size = sizeof(at);
	struct address address;
	char detail[400];
	int fd, r;

	if (!parse(&address, text)) {
		snprintf(why, why_size, "admin address \"%s\": use HOST:PORT, like 127.0.0.1:8373", text);
		return -EINVAL;
	}
	r = address_resolve(&address, true, &at, &size, detail, sizeof(detail));
	if (r < 0) {
		snprintf(why, why_size, "admin address \"%s\": %s", text, detail);
		return -EADDRNOTAVAIL;
	}
	fd = bind_one(&at, size);
	size = sizeof(at);
	if (fd < 0)
		snprintf(why, why_size, "admin address %s: %s", text, strerror(-fd));
	else if (getsockname(fd, (struct sockaddr *)&at, &size) < 0)
		snprintf(bound, bound_size, "?");
	else
		address_describe((struct sockaddr *)&at, bound, bound_size);
	return fd;
}

int admin_create(struct admin **admin, const struct admin_config *config, char *bound, size_t bound_size, char *why,
                 size_t why_size)
{
	struct admin *made;
	int fd = listen_at(config->address, bound, bound_size, why, why_size);

	if (fd < 0)
		return fd;
	made = calloc(1, sizeof(*made));
	CHECK(made);
	made->config = *config;
	made->config.now = config->now ? config->now : monotonic_now;
	if (!made->config.stale_ns)
		made->config.stale_ns = UINT64_C(1000000000) * STALE_DEFAULT_SECONDS;
	made->published_ns = made->config.now();
	made->not_ready_why = "starting";
	pthread_mutex_init(&made->mutex, NULL);
	/* The daemon owns `fd` from here on, also when it fails to start. */
	made->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, on_request, made,
	                                MHD_OPTION_LISTEN_SOCKET, fd,
	                                MHD_OPTION_CONNECTION_LIMIT, (unsigned)ADMIN_CONNECTIONS_MAX,
	                                MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ADMIN_TIMEOUT_SECONDS,
	                                MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)ADMIN_CONNECTION_BYTES,
	                                MHD_OPTION_END);
	if (!made->daemon) {
		pthread_mutex_destroy(&made->mutex);
		free(made);
		snprintf(why, why_size, "the admin thread did not start");
		return ERR_RAISE(-EAGAIN);
	}
	*admin = made;
	return 0;
}

void admin_destroy(struct admin *admin)
{
	if (!admin)
		return;
	MHD_stop_daemon(admin->daemon);
	pthread_mutex_destroy(&admin->mutex);
	free(admin);
}
