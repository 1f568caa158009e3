/*
 * tenant: from a credential to a tenant's name and rights. Client certificate: O is the tenant, CN the subject, all
 * rights. Bearer token: a file of lines `SHA-256-HEX-OF-TOKEN TENANT RIGHTS` (rights: comma-separated read, write,
 * commit, execute, or all; blank lines and those that begin with # mean nothing). No credential: tenant `default` on
 * loopback and unix listeners, or what `anonymous` names.
 *
 * A caller with both a certificate and a token is who its token says, and only within the certificate's tenant. A token
 * that is not known is refused also where no credential at all would do.
 */
#pragma once

#include "gateway/tenant/scope.h"
#include "proto/span.h"

#define TENANT_TOKENS_MAX     65536
#define TENANT_FILE_BYTES_MAX (16u << 20)

struct tenant_registry;

struct tenant_config {
	const char *tokens_path;         /* NULL: no tokens. Refused when users other than its owner and group may touch it */
	const char *anonymous;           /* tenant of callers without a credential from anywhere; NULL: refused */
	const char *anonymous_rights;    /* NULL: all */
};

struct tenant_credential {
	bool certificate;
	struct span organisation, common_name;
	struct span authorization;       /* the header's value, "Bearer …"; empty: none */
	bool loopback;                   /* loopback or unix */
};

struct tenant_identity {
	char tenant[256];
	char subject[256];               /* certificate: CN; token: "token:" and the first 8 digits of its hash; else "anonymous" */
	uint32_t rights;
};

/* 0; -EPERM the file's mode; -EINVAL a line that is none; else -errno. `why` names the file and the line. */
int tenant_registry_create(struct tenant_registry **registry, const struct tenant_config *config, char *why,
                           size_t why_size);
void tenant_registry_destroy(struct tenant_registry *registry);
size_t tenant_registry_count(const struct tenant_registry *registry);    /* tokens */

/* 0, or -EACCES with `why` (UNAUTHENTICATED): no credential, unknown token, certificate without an O. Constant time in the token. */
int tenant_identify(const struct tenant_registry *registry, const struct tenant_credential *credential,
                    struct tenant_identity *identity, char *why, size_t why_size);

/* "read,write,commit,execute" or "all" to enum scope_right. False: a word that is none, or no word. */
bool tenant_rights_parse(struct span text, uint32_t *rights);
/* A name that a tenant may have: 1 to 128 bytes of A-Z a-z 0-9 . _ - and @; not starting with a dot. */
bool tenant_name_valid(struct span name);
