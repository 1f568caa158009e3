/*
 * counters: all numbers that the gateway tells about itself, in one table: name, unit, one line of meaning, and what an
 * operator should do when it grows. The numbers stay where they are made (struct server_status, ring_counters,
 * store_status, cas_counters, pool_status, execute_counters, reapi_counters, buildkit_status, executors_status, spawner_status, ledger_status,
 * link_service_status, channels_counters, giver_counters); the table
 * says which member of which struct each one is, so there is no second truth. tests/unit/admin checks that no member is left
 * out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum counter_source {
	COUNTERS_SERVER,                 /* struct server_status */
	COUNTERS_RING,                   /* struct ring_counters */
	COUNTERS_STORE,                  /* struct store_status */
	COUNTERS_CAS,                    /* struct cas_counters */
	COUNTERS_POOL,                   /* struct pool_status */
	COUNTERS_EXECUTE,                /* struct execute_counters */
	COUNTERS_REAPI,                  /* struct reapi_counters */
	COUNTERS_BUILDKIT,               /* struct buildkit_status */
	COUNTERS_BROKER,                 /* struct diffcopy_counters */
	COUNTERS_PLAY,                   /* struct play_counters */
	COUNTERS_STABLE,                 /* struct stable_status */
	COUNTERS_STATS,                  /* struct stat_memory_status */
	COUNTERS_LEDGER,                 /* struct ledger_status */
	COUNTERS_EXECUTORS,              /* struct executors_status */
	COUNTERS_SPAWNER,                /* struct spawner_status */
	COUNTERS_CHANNELS,               /* struct channels_counters */
	COUNTERS_GIVER,                  /* struct giver_counters */
	COUNTERS_LINKS,                  /* struct link_service_status */
	COUNTERS_PROCESS,                /* struct counters_process */
	COUNTERS_SOURCES
};

enum counter_type { COUNTER_TOTAL, COUNTER_GAUGE };

struct counter {
	const char *name;                /* sluice_store_corrupt_total */
	enum counter_type type;
	const char *unit;                /* "bytes", "seconds", "blobs" */
	const char *meaning;             /* one line, no full stop */
	const char *advice;              /* what to do when it grows; NULL: nothing, it is work done */
	enum counter_source source;
	size_t offset, size;             /* of the member: 4 or 8 bytes, unsigned */
	bool nanoseconds;                /* the member counts these; shown as seconds */
};

extern const struct counter counter_table[];
extern const size_t counter_count;

enum { COUNTERS_MAX = 256 };

/* One moment's numbers, in the table's order. All zero at first. */
struct counter_values {
	uint64_t values[COUNTERS_MAX];
};

/* Takes in all counters of a source from its struct. */
void counters_read(struct counter_values *values, enum counter_source source, const void *status);
/* The number with this name; for tests. UINT64_MAX: no such counter. */
uint64_t counters_value(const struct counter_values *values, const char *name);

/*
 * What the process itself tells; counters_process() asks /proc. A number that cannot be had now, for lack of descriptors, stays as
 * it was: the struct is one's own for as long as the process is watched, all zero at first.
 */
struct counters_process {
	uint64_t resident_bytes, open_files, cpu_ns;
};
void counters_process(struct counters_process *process);

/* Prometheus text exposition 0.0.4. */
void counters_write(const struct counter_values *values, FILE *file);
