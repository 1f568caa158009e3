/*
 * account: what buildkit tells of a build, as a line of the ledger. One copy a line until it is written; builds end
 * without waiting for it.
 */
#pragma once

#include "gateway/buildkit/buildkit.h"
#include "gateway/ledger/ledger.h"

/* The line of a build that has ended. Pure. */
void account_line(const struct build *build, struct ledger_build *line);

/* Both outlive the last build. */
struct account {
	struct ledger *ledger;
	struct buildkit *buildkit;
};

/* What the client reads of its context. Returns `text`. */
char *account_summary(const struct build *build, char text[static 192]);

/* Those of struct build_events; `context` is the struct account. */
void account_on_summary(void *context, struct build *build);
void account_on_ended(void *context, const struct build *build);
