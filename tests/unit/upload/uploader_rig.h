/*
 * uploader_rig: an uploader on a client's ring, of what a shelf holds, against a gateway in a thread; and what its events said. For
 * the tests of gateway/upload/uploader.h.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/base/digest_set.h"
#include "gateway/upload/uploader_private.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/upload/shelf.h"

extern struct gateway_thread *gateway;
extern struct client *client;
extern struct shelf *shelf;

/* What the events said. */
struct seen {
	struct uploader *uploader;
	struct digest_set stored;
	unsigned done, closed, stale;
	int outcome;
	enum grpc_status status;
	char why[UPLOADER_WHY_MAX];
	struct digest stale_digest;
	bool close_on_done, close_on_stored;
	const struct digest *hurried;    /* when the first pack goes out */
	bool hurry;
	size_t sent, hurried_at;         /* blobs; before it */
	uint64_t bytes_done, bytes_total;
};
extern struct seen seen;

int uploader_setup(void **state);
int uploader_teardown(void **state);

struct client *uploader_connect(struct gateway_thread *to, const char *token);
/* A new one, and nothing seen yet. */
struct uploader *uploader_begin(int level);
void uploader_run_until(unsigned *counter, unsigned wanted);
/* It has said so often that it is done, and that all is well. */
void uploader_expect_ok(unsigned times);
void uploader_end(void);

/* For main(): the engine is the argument. */
#define uploader_tests(argc, argv, tests) (uploader_choose(argc, argv), cmocka_run_group_tests(tests, NULL, NULL))
void uploader_choose(int argc, char **argv);
