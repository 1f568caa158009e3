/*
 * giver_rig: an edge's giver between clients as buildx is one and a real gateway's Push, and gives: a gateway's questions and
 * what came of them, which is checked against the client's directory as it comes. For tests, which run with both ring engines.
 */
#pragma once

#include "gateway/edge/giver.h"
#include "proto/sluice_context.h"
#include "proto/sluice_v1.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/session/session_rig.h"

extern struct rig rig;
extern struct rig_tree tree;             /* the client's directory */
extern struct gateway_thread *gateway;
extern struct upstream upstream;
extern struct pusher pusher;
extern struct giver_service service;

/* A gateway's question, and what came of it. */
struct give {
	struct call call;
	bool rooted, closed;
	unsigned roots;
	struct digest root;
	struct context_root told;
	char unfit[512];
	bool passing;
	int64_t times[RIG_FILES_MAX];
	size_t times_count;
	bool ahead;                      /* to be asked for */
	const char *directory;           /* dir-name, to be asked for; NULL: "context" */
	const char *followed;            /* followpaths, one, as well; NULL: none */
	uint32_t entries, names;         /* that came ahead of the root */
	bool entries_ended;
	bool named[RIG_FILES_MAX];
	uint32_t place[RIG_FILES_MAX];   /* among the names */
	enum grpc_status status;
};

#define GIVER_TEST(test) cmocka_unit_test_setup_teardown(test, giver_setup, giver_teardown)
/* For main(). */
#define giver_run(argc, argv, tests) (giver_choose(argc, argv), cmocka_run_group_tests(tests, NULL, NULL))
void giver_choose(int argc, char **argv);
int giver_setup(void **state);
int giver_teardown(void **state);

/* Asks for a context of a daemon that is carried; `known`: the root that the gateway has, or NULL. */
void give_start(struct give *give, struct rig_daemon *daemon, const struct digest *known, bool times);
/* One more question in a call that is open. */
void give_ask(struct give *give, const struct context_request *request);
void give_end(struct give *give);
/* One context from start to end, of a session of its own. */
struct give give_once_as(const char *shared_key, struct rig_tree *of, const struct digest *known, uint64_t *bytes_sent);
struct give give_once(struct rig_tree *of, const struct digest *known, uint64_t *bytes_sent);

/* The gateway has the root that was told, and below it what `tree` has. */
void assert_committed(const struct give *give);
/* The content of `tree`. */
uint64_t tree_bytes(void);
