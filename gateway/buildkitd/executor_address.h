/*
 * executor_address: one `--buildkit`: where executors are, and whose.
 *
 *	tcp://HOST:PORT   unix:///PATH   tcps://HOST:PORT (TLS)   dns://NAME:PORT (an executor each address of the name)
 *	grpc://, grpcs://: as address.h takes them, the same as tcp:// and tcps://
 *
 * followed by options, each after a comma, which a path can therefore not hold: tenant=T, slots=N, name=N, ca=FILE,
 * cert=FILE, key=FILE. With ca, cert or key, dns:// means TLS. Pure.
 */
#pragma once

#include "gateway/buildkitd/executors.h"

#define EXECUTOR_TENANT_MAX  129         /* tenant_name_valid(), and the NUL */
#define EXECUTOR_FILE_MAX    1024
#define EXECUTOR_SLOTS_MAX   1024

struct executor_address {
	struct address address;          /* `tls` and `local` as the scheme and the options say; dns: the name to look up */
	bool dns;
	char name[EXECUTOR_NAME_MAX];    /* name=; else the address as it was written. dns: of the group */
	bool named;                      /* by name= */
	char tenant[EXECUTOR_TENANT_MAX];        /* "": not given */
	uint32_t slots;                  /* 0: not given */
	char ca[EXECUTOR_FILE_MAX], certificate[EXECUTOR_FILE_MAX], key[EXECUTOR_FILE_MAX];      /* "": not given */
};

/* False: `why` says what is wrong, in one sentence. */
bool executor_address_parse(struct executor_address *executor, const char *text, char *why, size_t why_size);
