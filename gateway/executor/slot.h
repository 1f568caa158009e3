/*
 * slot: one process of the executor host that runs one action at a time: makes the tree, runs the command in a
 * container, streams its output, collects what it changed and pushes it. Everything it fetches and pushes goes through
 * its one connection to the gateway, which gives it the scope of the assignment at hand and no other.
 */
#pragma once

#include "gateway/executor/oci.h"

struct slot_config {
	uint32_t number;                 /* from 1 */
	const char *path;                /* the host's directory (host.h) */
	const char *images;              /* where clients' images are looked for; NULL: nowhere */
	const char *socket_path;
	const struct oci_runtime *runtime;
	const char *const *hidden;       /* host paths that no action may see; ends with NULL */
	bool allow_network;
	int engine;
};

/* Until the gateway is gone or dismisses it; the process's exit status. */
int slot_run(const struct slot_config *config);
