/* contents: a file's bytes, made from a number, and what the client's own digester names them; for tests of the gateway's. */
#pragma once

#include "gateway/cas/cas.h"
#include "gateway/cas/content_name.h"
#include "tests/unit/store/fixture.h"

struct content {
	uint8_t *data;
	size_t size;
};

enum content_kind { CONTENT_RANDOM, CONTENT_ZEROS, CONTENT_SQLITE, CONTENT_TAR, CONTENT_REPEATING, CONTENT_KINDS };

/* The same for the same arguments. */
struct content content_make(uint64_t number, size_t size, enum content_kind kind);
void content_free(struct content *content);

/* By gateway/context/digester.c, from a file on disk. */
struct content_name content_client_name(const struct content *content);
bool content_name_equal(const struct content_name *a, const struct content_name *b);
/* Fails the test unless the store gives these bytes, chunk by chunk, to the tenant. */
void content_assert_stored(struct fixture *fixture, const struct scope *scope, const struct content_name *name,
                           const struct content *content);
/* The cas of a fixture's store. */
void content_cas(struct fixture *fixture, struct cas *cas, const struct sha256 *hasher);
/* Into the store, through an ingest; its name. */
struct content_name content_store(struct fixture *fixture, struct cas *cas, const struct scope *scope,
                                  const struct content *content);
/* A small generator of choices. */
uint64_t content_random(uint64_t *state);
