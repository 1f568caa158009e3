/* marks: closure marks: look-ups, and the set of segments that a closure rests on. */
#pragma once

#include "gateway/store/resolve.h"

struct marks {
	struct list queue;               /* struct store_marks being looked up */
	struct index_get get;
	uint8_t *keys, *values;
	int32_t *sizes;
	size_t at, slice;
	unsigned restarts;               /* as of look-ups */
	bool getting, got;
	uint64_t stale;
};

int marks_init(struct marks *marks, struct store *store);
void marks_fini(struct marks *marks);
void marks_step(struct store *store);
/* A mark's value: sequence, then the rest. */
size_t marks_value_bytes(const struct store *store);
void marks_value_encode(const struct store *store, uint8_t *value, uint64_t sequence, const uint8_t *rest);
bool marks_fresh(const struct store *store, struct span value);
