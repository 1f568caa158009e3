/* executing: an Execute as the commands ask it: its action uploaded, its operations taken apart. */
#pragma once

#include "gateway/client/client.h"
#include "gateway/cmd/action.h"
#include "proto/reapi.h"
#include "proto/sluice_v1.h"

/* Uploads Command and Action. STATUS_OK, or the exit status after saying why. */
int executing_upload(struct client *client, const struct command *command, const struct action_wish *wish, struct digest *action);

struct executing_wish {
	struct digest action;
	bool skip_cache;
	bool stream;                     /* output as it comes */
	const char *directory;           /* that the tree came from; NULL: none */
};
/* Asks. STATUS_OK, or the exit status after saying why. */
int executing_open(struct client_call **call, struct client *client, const struct command *command, const struct executing_wish *wish);

/* What one operation says. Spans are borrowed from it. */
struct executing_news {
	uint32_t stage;                  /* enum reapi_stage; 0: not said */
	struct execute_output output;    /* all zero: none */
	bool done;                       /* what follows is the end: */
	enum grpc_status status;         /* of the execution */
	struct span why;
	bool cached;
	bool has_result;
	struct reapi_action_result result;
	bool changed;                    /* `changes` is the tree of what changed */
	struct digest changes;
};
/* False: malformed. */
bool executing_read(struct executing_news *news, struct span operation);
