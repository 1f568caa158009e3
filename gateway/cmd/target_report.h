/* target_report: what became of the targets of a run, for people, programs and CI servers. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "proto/buffer.h"
#include "proto/digest.h"
#include "proto/grpc.h"

enum target_result { TARGET_PASSED, TARGET_FAILED, TARGET_ERROR };       /* error: it did not come to run, or to an end */

struct target_outcome {
	const char *name;
	enum target_result result;
	bool cached, affected;
	int exit_code;
	uint64_t ns;
	char why[512];                   /* of an error */
	struct buffer output[2];         /* the end of stdout and stderr; heap */
	bool changed;
	struct digest changes;
};

struct target_report {
	const char *file;
	struct digest root;
	const struct target_outcome *outcomes;
	size_t count;
	bool since;                      /* `affected` is known */
	uint64_t ns;
};

/* A line a target, as wide as its name, and one with the sums. */
void target_report_print(FILE *file, const struct target_report *report);
json_t *target_report_json(const struct target_report *report);
/* 0 or -errno. Control characters and what is no UTF-8 become U+FFFD, which XML wants. */
int target_report_junit(const char *path, const struct target_report *report);
