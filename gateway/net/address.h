/*
 * address: `grpcs://host:port`, `grpc://host:port` (plain h2c), `unix:///path`. Port 8372 when left out. IPv6 in brackets.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_PORT_DEFAULT 8372
#define ADDRESS_TEXT_MAX     300         /* scheme, brackets, host, port and the NUL */
#define ADDRESS_RESOLVED_MAX 8           /* socket addresses of one name that are tried */

struct address {
	bool tls;
	bool local;                      /* unix */
	char host[256];                  /* name or literal, for SNI and certificate checks; unix: path */
	char port[8];
};

struct address_resolved {
	struct sockaddr_storage sockaddr;
	socklen_t size;
};

/* False: not an address; `why` gets one sentence with the forms that are. */
bool address_parse(struct address *address, const char *text, char *why, size_t why_size);
/* Without a scheme: "host", "host:port", "[v6]", "[v6]:port". False: none of these. */
bool address_parse_host(struct address *address, const char *text, uint16_t port_default);
/* The same text again, in its full form ("grpcs://127.0.0.1:8372"). Returns `text`. */
char *address_format(const struct address *address, char text[static ADDRESS_TEXT_MAX]);
/* Resolves (blocking). `passive`: to listen on. 0 or -errno with `why`. */
int address_resolve(const struct address *address, bool passive, struct sockaddr_storage *sockaddr, socklen_t *size,
                    char *why, size_t why_size);
/* All that the name stands for, in the order to try: how many (at least 1), or -errno with `why`. */
int address_resolve_all(const struct address *address, bool passive,
                        struct address_resolved resolved[static ADDRESS_RESOLVED_MAX], char *why, size_t why_size);
/* True for 127.0.0.0/8, ::1 (also as ::ffff:127.x.y.z) and unix sockets. */
bool address_is_loopback(const struct sockaddr *sockaddr);
/* "127.0.0.1:8372", "[::1]:8372", "unix" for logs. Returns `text`. */
char *address_describe(const struct sockaddr *sockaddr, char *text, size_t size);
