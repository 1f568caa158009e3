/*
 * stand_in: an executor host and callers of Execute as tests play them, step by step, through the real client. Nothing
 * runs by itself: each function says what it waits for.
 */
#pragma once

#include "proto/reapi.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/cas/requests.h"

/* ---- the host's side ---- */

struct stand_in {
	struct gateway_thread *gateway;
	struct client *client;
	struct client_call *call;
	uint32_t slot;                   /* 0: control */
};

struct assignment {
	uint64_t id;
	char argument[64];               /* the first one */
	char tenant[64];
	size_t arguments_count;
	struct digest root;
};

/* Attaches and waits until the gateway knows it. */
struct stand_in *stand_in_attach(struct gateway_thread *gateway, uint32_t slot);
/* Breaks the connection. */
void stand_in_lose(struct stand_in *stand_in);
/* Waits for the question about an environment; the answer is 32 times `environment`, or `fault`. What finishes from then on met that. */
void stand_in_resolve(struct stand_in *control, uint8_t environment, const char *fault);
/* Waits for two questions; both answers go out together. */
void stand_in_resolve_two(struct stand_in *control, uint8_t environment);
/* Waits for a job. */
struct assignment stand_in_take(struct stand_in *slot);
/* Waits to be told to cancel; which. */
uint64_t stand_in_take_cancel(struct stand_in *slot);
void stand_in_output(struct stand_in *slot, uint64_t id, uint32_t stream, const char *text);
void stand_in_output_bytes(struct stand_in *slot, uint64_t id, uint32_t stream, struct span data);
/* `changes` NULL: none. */
void stand_in_finish(struct stand_in *slot, uint64_t id, int exit_code, const struct digest *changes);
/* It ends well, and met that environment, whatever was answered last; 0: it cannot say which. */
void stand_in_finish_in(struct stand_in *slot, uint64_t id, uint8_t environment);
/* `outputs`: fields of an ActionResult. Waits until no slot is busy: so much does not go out at once. */
void stand_in_finish_outputs(struct stand_in *slot, uint64_t id, int exit_code, struct span outputs);
void stand_in_refuse(struct stand_in *slot, uint64_t id, enum grpc_status status, const char *why);
/* Waits for the gateway to end the call; its status. */
enum grpc_status stand_in_ended(struct stand_in *stand_in);

/* ---- the callers' side ---- */

struct caller {
	struct client *client;
	struct client_call *call;
	struct digest action;
	/* What came so far. */
	char output[2][256];             /* the beginning of it */
	size_t output_size[2];
	uint64_t output_sum[2];          /* of its bytes, each times its place */
	uint32_t positions[64];
	size_t positions_count;
	bool started;
	bool joined;                     /* it was under way, or over, when he came */
	char name[EXECUTE_NAME_BYTES];
	char streams[2][EXECUTE_NAME_BYTES + 8];         /* "": not told */
	uint32_t stage;                  /* enum reapi_stage; it never goes back */
	/* At the end. `status` is that of the call or of the action. */
	bool done, cached;
	int exit_code;
	struct digest stdout_digest, stderr_digest, changes;
	char stdout_raw[64], stderr_raw[64], message[128];
	enum grpc_status status;
	char why[512], missing[160];
	unsigned missing_count;
};

/* Uploads a Command of one argument and its Action (`root` NULL: the empty tree). */
struct digest action_upload(struct client *client, const char *argument, const struct digest *root);
struct digest action_upload_command(struct client *client, struct span command, const struct digest *root);
/* One that is not cached, and not shared. */
struct digest action_upload_unshared(struct client *client, const char *argument);
/* One that may run for so many seconds, up to 127. */
struct digest action_upload_timed(struct client *client, const char *argument, uint8_t seconds);
/* Asks, and waits for nothing. */
struct caller caller_ask(struct client *client, const struct digest *action);
/* As caller_ask(), but a cached result will not do. */
struct caller caller_ask_anew(struct client *client, const struct digest *action);
/* As caller_ask(), with more fields of the request as they are on the wire. */
struct caller caller_ask_with(struct client *client, const struct digest *action, struct span fields);
/* As caller_ask(), with a grpc-timeout. */
struct caller caller_ask_timed(struct client *client, const struct digest *action, const char *timeout);
/* Asks for the operation that another one was told the name of. */
struct caller caller_wait(struct client *client, const struct caller *former);
/* What is said of that operation now. */
struct caller caller_look(struct client *client, const struct caller *former);
enum grpc_status caller_cancel(struct client *client, const struct caller *former);
/* Takes what comes until the end of the call. */
void caller_finish(struct caller *caller);
/* Takes what comes until `position` was told. */
void caller_until_position(struct caller *caller, uint32_t position);
/* Takes what comes until there are so many bytes on stdout. */
void caller_until_output(struct caller *caller, size_t bytes);
void caller_until_stderr(struct caller *caller, size_t bytes);
/* Takes what comes until that stage. */
void caller_until_stage(struct caller *caller, uint32_t stage);
/* Takes what comes until the action runs. */
void caller_until_started(struct caller *caller);
void caller_leave(struct caller *caller);

/* What `caller.output_sum` should be. */
uint64_t sum_of(uint64_t sum, size_t place, struct span data);

/* Lets the client send what it has queued. */
void flush(struct client *client);
