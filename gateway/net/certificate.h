/*
 * certificate: a small certificate authority, enough to run a gateway with TLS: one CA key, and certificates for
 * gateways and clients signed by it. ECDSA P-256, PEM files: keys 0600, certificates 0644. Blocking.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CERTIFICATE_NAMES_MAX 32
#define CERTIFICATE_SHORTENED 1          /* an outcome: it is there, and valid for fewer days than it was to be */

struct certificate_request {
	const char *ca_dir;              /* holds ca.pem and ca-key.pem, as certificate_make_ca made them */
	const char *dir;                 /* gets ca.pem, cert.pem and key.pem; made when missing */
	const char *common_name;         /* who it is; a client's subject */
	const char *organisation;        /* a client's tenant; NULL: none */
	const char *const *names;        /* host names and IP addresses it may be reached by; ends with NULL; NULL: none */
	bool server, client;             /* what it may be used for; at least one */
	bool replace;                    /* the key and the certificate that `dir` has */
	int days;                        /* valid from now; negative: it expired so many days ago (tests) */
};

/*
 * Makes a CA: `dir`/ca.pem and `dir`/ca-key.pem, both or none. Refuses to replace either: -EEXIST. 0 or -errno with
 * `why`.
 */
int certificate_make_ca(const char *dir, const char *name, unsigned days, char *why, size_t why_size);

/*
 * Issues a certificate with a fresh key, each file whole at once. It ends when its CA does, at the latest: where that is a day
 * early or more, CERTIFICATE_SHORTENED with a sentence in `why`. Else 0, or -errno with `why`: -EEXIST when there is a key or a
 * certificate, and `replace` does not say so; -EINVAL a senseless request, or a CA that has expired.
 */
int certificate_issue(const struct certificate_request *request, char *why, size_t why_size);
