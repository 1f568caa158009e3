/* Parsing, resolving and describing the addresses that people write. */
#include "gateway/net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "proto/span.h"

#define ADDRESS_FORMS "use grpcs://host:port, grpc://host:port or unix:///path"

static bool strip(const char **text, const char *prefix)
{
	size_t size = strlen(prefix);

	if (strncmp(*text, prefix, size) != 0)
		return false;
	*text += size;
	return true;
}

/* Copies `span` into a text of `size` bytes; false when it is empty, too long or holds what no host name has. */
static bool take(char *out, size_t size, struct span span)
{
	if (span.size == 0 || span.size >= size)
		return false;
	for (size_t i = 0; i < span.size; i++)
		if (span.data[i] <= ' ' || span.data[i] == 0x7f || memchr("/@[]", span.data[i], 4))
			return false;
	memcpy(out, span.data, span.size);
	out[span.size] = '\0';
	return true;
}

static bool take_port(struct address *address, struct span port)
{
	unsigned long number = 0;

	if (port.size == 0 || port.size > 5)
		return false;
	for (size_t i = 0; i < port.size; i++) {
		if (port.data[i] < '0' || port.data[i] > '9')
			return false;
		number = number * 10 + (unsigned long)(port.data[i] - '0');
	}
	if (number > 65535)
		return false;
	snprintf(address->port, sizeof(address->port), "%lu", number);
	return true;
}

static bool parse_unix(struct address *address, const char *path)
{
	struct sockaddr_un limit;

	address->local = true;
	if (path[0] != '/' || strlen(path) >= sizeof(limit.sun_path))
		return false;
	snprintf(address->host, sizeof(address->host), "%s", path);
	return true;
}

static bool parse_host_port(struct address *address, struct span rest, uint16_t port_default)
{
	struct span host, port = { 0 };
	const uint8_t *colon;

	if (rest.size && rest.data[0] == '[') {
		const uint8_t *end = memchr(rest.data, ']', rest.size);

		if (!end)
			return false;
		host = span_make(rest.data + 1, (size_t)(end - rest.data) - 1);
		rest = span_make(end + 1, rest.size - host.size - 2);
		if (rest.size && rest.data[0] != ':')
			return false;
		colon = rest.size ? rest.data : NULL;
	} else {
		colon = memchr(rest.data, ':', rest.size);
		host = span_make(rest.data, colon ? (size_t)(colon - rest.data) : rest.size);
	}
	if (!take(address->host, sizeof(address->host), host))
		return false;
	if (!colon) {
		snprintf(address->port, sizeof(address->port), "%u", port_default);
		return true;
	}
	port = span_make(colon + 1, (size_t)(rest.data + rest.size - colon) - 1);
	return take_port(address, port);
}

bool address_parse_host(struct address *address, const char *text, uint16_t port_default)
{
	struct address parsed = { 0 };

	if (!parse_host_port(&parsed, span_text(text), port_default))
		return false;
	*address = parsed;
	return true;
}

/* One trailing slash at most: people copy it from URLs. */
static bool parse_authority(struct address *address, const char *text)
{
	struct span rest = span_text(text);

	if (rest.size && rest.data[rest.size - 1] == '/')
		rest.size--;
	return parse_host_port(address, rest, ADDRESS_PORT_DEFAULT);
}

bool address_parse(struct address *address, const char *text, char *why, size_t why_size)
{
	struct address parsed = { 0 };
	const char *rest = text;
	bool good = false;

	if (strip(&rest, "grpcs://")) {
		parsed.tls = true;
		good = parse_authority(&parsed, rest);
	} else if (strip(&rest, "grpc://")) {
		good = parse_authority(&parsed, rest);
	} else if (strip(&rest, "unix://")) {
		good = parse_unix(&parsed, rest);
	}
	if (!good) {
		snprintf(why, why_size, "\"%.200s\" is not an address: " ADDRESS_FORMS, text);
		return false;
	}
	*address = parsed;
	return true;
}

char *address_format(const struct address *address, char text[static ADDRESS_TEXT_MAX])
{
	bool six = strchr(address->host, ':') != NULL;

	if (address->local)
		snprintf(text, ADDRESS_TEXT_MAX, "unix://%s", address->host);
	else
		snprintf(text, ADDRESS_TEXT_MAX, "%s://%s%s%s:%s", address->tls ? "grpcs" : "grpc", six ? "[" : "",
		         address->host, six ? "]" : "", address->port);
	return text;
}

static void resolve_unix(const struct address *address, struct address_resolved *resolved)
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	size_t length = strlen(address->host);

	CHECK(length < sizeof(local.sun_path));
	memcpy(local.sun_path, address->host, length);
	memset(resolved, 0, sizeof(*resolved));
	memcpy(&resolved->sockaddr, &local, sizeof(local));
	resolved->size = sizeof(local);
}

static int resolve_failure(const struct address *address, int failure, char *why, size_t why_size)
{
	if (failure == EAI_SYSTEM) {
		int r = -errno;

		snprintf(why, why_size, "cannot resolve the host name \"%s\": %s", address->host, strerror(-r));
		return ERR_RAISE(r);
	}
	snprintf(why, why_size, "cannot resolve the host name \"%s\": %s (is it spelled right, and is there a name server?)",
	         address->host, gai_strerror(failure));
	return ERR_RAISE(failure == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH);
}

int address_resolve_all(const struct address *address, bool passive,
                        struct address_resolved resolved[static ADDRESS_RESOLVED_MAX], char *why, size_t why_size)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0) };
	struct addrinfo *found = NULL;
	int count = 0, failure;

	if (address->local) {
		resolve_unix(address, &resolved[0]);
		return 1;
	}
	failure = getaddrinfo(passive && strcmp(address->host, "*") == 0 ? NULL : address->host, address->port, &hints, &found);
	if (failure)
		return resolve_failure(address, failure, why, why_size);
	for (struct addrinfo *each = found; each && count < ADDRESS_RESOLVED_MAX; each = each->ai_next) {
		if (each->ai_addrlen > sizeof(resolved->sockaddr))
			continue;
		memset(&resolved[count], 0, sizeof(resolved[count]));
		memcpy(&resolved[count].sockaddr, each->ai_addr, each->ai_addrlen);
		resolved[count++].size = each->ai_addrlen;
	}
	freeaddrinfo(found);
	if (count == 0)
		return resolve_failure(address, EAI_NONAME, why, why_size);
	return count;
}

int address_resolve(const struct address *address, bool passive, struct sockaddr_storage *sockaddr, socklen_t *size,
                    char *why, size_t why_size)
{
	struct address_resolved resolved[ADDRESS_RESOLVED_MAX];
	int count = address_resolve_all(address, passive, resolved, why, why_size);

	if (count < 0)
		return ERR_RAISE(count);
	*sockaddr = resolved[0].sockaddr;
	*size = resolved[0].size;
	return 0;
}

bool address_is_loopback(const struct sockaddr *sockaddr)
{
	struct sockaddr_in four;
	struct sockaddr_in6 six;

	switch (sockaddr->sa_family) {
	case AF_UNIX:
		return true;
	case AF_INET:
		memcpy(&four, sockaddr, sizeof(four));
		return (ntohl(four.sin_addr.s_addr) >> 24) == 127;
	case AF_INET6:
		memcpy(&six, sockaddr, sizeof(six));
		if (IN6_IS_ADDR_V4MAPPED(&six.sin6_addr))
			return six.sin6_addr.s6_addr[12] == 127;
		return IN6_IS_ADDR_LOOPBACK(&six.sin6_addr);
	default:
		return false;
	}
}

char *address_describe(const struct sockaddr *sockaddr, char *text, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";
	struct sockaddr_in four;
	struct sockaddr_in6 six;

	switch (sockaddr->sa_family) {
	case AF_INET:
		memcpy(&four, sockaddr, sizeof(four));
		inet_ntop(AF_INET, &four.sin_addr, host, sizeof(host));
		snprintf(text, size, "%s:%u", host, ntohs(four.sin_port));
		break;
	case AF_INET6:
		memcpy(&six, sockaddr, sizeof(six));
		inet_ntop(AF_INET6, &six.sin6_addr, host, sizeof(host));
		snprintf(text, size, "[%s]:%u", host, ntohs(six.sin6_port));
		break;
	default:
		snprintf(text, size, "unix");
		break;
	}
	return text;
}
