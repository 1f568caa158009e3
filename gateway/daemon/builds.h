/*
 * builds: sluice.v1.Store/Builds: lines of the account, for the tenant that they belong to. Who may read may list; the
 * instance does not matter, since builds have none.
 */
#pragma once

#include "gateway/daemon/question.h"
#include "gateway/ledger/ledger.h"

struct builds_service {
	struct ledger *ledger;
	struct questions *questions;     /* only with none open the ledger may be closed */
};

/* As server_method.start. Refusals: those of question_begin(); PERMISSION_DENIED for executors; RESOURCE_EXHAUSTED. */
int builds_start(struct builds_service *service, const struct server_request *request, char *why, size_t why_size);
