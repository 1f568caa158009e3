/*
 * account: what buildkit tells of a build, as a line of the ledger. One copy a line until it is written; builds end
 * without waiting for it.
 */
#pragma once

#include "gateway/buildkit/build.h"
#include "gateway/ledger/ledger.h"

/* The line of a build that has ended. Pure. */
void account_line(const struct build *build, struct ledger_build *line);

/* struct build_events.on_ended; `context` is the struct ledger, which is closed after the last build has ended. */
void account_on_ended(void *context, const struct build *build);
