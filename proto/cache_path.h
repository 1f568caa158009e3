/*
 * cache_path: what a path of the HTTP cache names: [/INSTANCE]/cas/HASH or [/INSTANCE]/ac/KEY, as Bazel's clients say it. Pure.
 * An instance name may have slashes.
 */
#pragma once

#include "proto/digest.h"

struct cache_path {
	struct span instance;            /* borrowed; empty: none */
	bool result;                     /* /ac/ */
	struct digest digest;            /* the hash, or the key; no size */
};

/* False: it is no such path. */
bool cache_path_parse(struct cache_path *parsed, struct span path);
