/*
 * executor_capabilities: what a buildkitd can do, as a set that can be compared: the LLB and frontend capabilities that it
 * has enabled and the platforms of its workers. Pure.
 * Source: buildkit's util/apicaps/pb/caps.proto, frontend/gateway/pb/gateway.proto (PongResponse), worker.proto.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/span.h"

#define CAPABILITIES_MAX      4096
#define CAPABILITY_TEXT_MAX   256        /* "LLB capability exec.mount.cache"; longer ones are cut */

struct capabilities {
	char (*texts)[CAPABILITY_TEXT_MAX];      /* sorted, each once */
	size_t count;
};

/*
 * From a moby.buildkit.v1.ListWorkersResponse and a frontend.PongResponse. False: malformed, more than CAPABILITIES_MAX,
 * or no memory; `why` says which.
 */
bool capabilities_parse(struct capabilities *capabilities, struct span list_workers, struct span pong, char *why,
                        size_t why_size);
void capabilities_fini(struct capabilities *capabilities);       /* all-zero is accepted */
/* Whether `have` has all of `need`; when not, `missing` names the first ones and tells how many more there are. */
bool capabilities_cover(const struct capabilities *have, const struct capabilities *need, char *missing,
                        size_t missing_size);
