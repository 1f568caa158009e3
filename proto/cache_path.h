/*
 * cache_path: what a path of the HTTP cache names: [/INSTANCE]/cas/HASH or [/INSTANCE]/ac/KEY, as Bazel's clients say it. Pure.
 * An instance name may have slashes.
 *
 * sccache, as a WebDAV client whose endpoint is [/INSTANCE]/ac/, says KEY behind another slash and a folder for each of its first three
 * digits (/ac//8/2/7/827…), tries what it may under the name .sccache_check, and asks for folders.
 */
#pragma once

#include "proto/digest.h"

struct cache_path {
	struct span instance;            /* borrowed; empty: none */
	bool result;                     /* /ac/ */
	bool folder;                     /* of /ac/: it ends in a slash, and `digest` is not set */
	struct digest digest;            /* the hash, or the key; no size */
};

/* False: it is no such path. */
bool cache_path_parse(struct cache_path *parsed, struct span path);
