/*
 * ledger_slow: SQLite with answers that come late, before and behind the work, as those of a database over the network
 * do; and one that refuses as many writes as a test asks for.
 */
#pragma once

#include "gateway/ledger/engine.h"

extern const struct ledger_engine ledger_slow;
/* The next so many writes fail with -ENOSPC. Of all backends. */
extern unsigned ledger_slow_refusals;
