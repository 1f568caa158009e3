/*
 * tls_fault: what went wrong in TLS, as one sentence that says what to do. No secrets, no addresses of memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct tls_fault {
	bool server;                     /* our side */
	bool to_executor;                /* client: a gateway, and the other side a buildkitd; else a user of a gateway */
	bool ready;                      /* the handshake was done */
	bool output_full;                /* the peer made us answer more than it reads */
	const char *server_name;         /* client: what the certificate had to be made out for */
	long verify;                     /* X509_V_* */
	unsigned long error;             /* first of OpenSSL's queue; 0: none */
};

void tls_fault_describe(const struct tls_fault *fault, char *text, size_t size);
/* What came was no TLS at all. */
bool tls_fault_is_cleartext(unsigned long error);
