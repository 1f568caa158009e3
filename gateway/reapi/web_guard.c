/* Hosts, and the fields that tell. */
#include "gateway/reapi/web_guard.h"

#include <arpa/inet.h>
#include <strings.h>

#define PORT_DIGITS_MAX 5

static bool is_port(struct span text)
{
	if (text.size > PORT_DIGITS_MAX)
		return false;
	for (size_t i = 0; i < text.size; i++)
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
	return true;
}

static bool is_loopback(struct span host)
{
	char text[INET_ADDRSTRLEN];
	struct in_addr address;

	if (host.size >= sizeof(text))
		return false;
	memcpy(text, host.data, host.size);
	text[host.size] = 0;
	return inet_pton(AF_INET, text, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

/* "HOST[:PORT]" */
static bool host_local(struct span host)
{
	const uint8_t *colon;

	if (host.size == 0)
		return false;
	if (host.size >= 5 && memcmp(host.data, "[::1]", 5) == 0)
		return host.size == 5 || (host.data[5] == ':' && is_port(span_make(host.data + 6, host.size - 6)));
	colon = memchr(host.data, ':', host.size);
	if (colon) {
		if (!is_port(span_make(colon + 1, (size_t)(host.data + host.size - colon - 1))))
			return false;
		host.size = (size_t)(colon - host.data);
	}
	if (host.size == 9 && strncasecmp((const char *)host.data, "localhost", 9) == 0)
		return true;
	return host.size && is_loopback(host);
}

/* Names are in lower case, from either HTTP. */
bool web_guard_local(const struct h2_request *head)
{
	static const char *const foreign[] = { "origin", "forwarded", "x-forwarded-for" };
	bool named = head->authority.size > 0;

	if (named && !host_local(head->authority))
		return false;
	for (size_t i = 0; i < head->headers_count; i++) {
		struct span name = head->headers[i].name, value = head->headers[i].value;

		for (size_t j = 0; j < sizeof(foreign) / sizeof(foreign[0]); j++)
			if (span_is(name, foreign[j]))
				return false;
		if (span_is(name, "sec-fetch-site") && !span_is(value, "none"))
			return false;
		if (!span_is(name, "host"))
			continue;
		if (!host_local(value))
			return false;
		named = true;
	}
	return named;
}
