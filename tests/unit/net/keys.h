/*
 * keys: certificates for the tests, made once a run in a temporary directory: a CA with a server's certificate (localhost,
 * 127.0.0.1), an expired and a misnamed server's, a client's (O=acme, CN=ci), a client's without O; and another CA with
 * its own client.
 */
#pragma once

#include "gateway/net/tls.h"

/* cmocka group fixtures. */
int keys_make(void **state);
int keys_remove(void **state);

/* Path of a file of a set: keys_path("server", "cert.pem"). Static storage, good for sixteen calls. */
const char *keys_path(const char *set, const char *file);
/* A server's configuration with the certificate of `set`; `ca`: the set whose CA client certificates must be of, or NULL. */
struct tls_config keys_server(const char *set, const char *ca, bool required);
