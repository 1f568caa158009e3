/*
 * fair_queue: jobs waiting for a slot, fair between tenants: the tenants with a job take turns, each tenant's own jobs keep
 * their order. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/list.h"

struct fair_queue {
	struct list turns;               /* of struct fair_queue_tenant, next first */
	uint32_t count, tenants_count;
	uint32_t jobs_max, tenant_jobs_max, tenants_max;
};

struct fair_queue_tenant {
	uint32_t tenant;
	uint32_t count;
	struct list jobs;
	struct list link;
	struct list *cursor;             /* of fair_queue_visit */
	struct fair_queue_tenant *live;
};

void fair_queue_init(struct fair_queue *queue, uint32_t jobs_max, uint32_t tenant_jobs_max, uint32_t tenants_max);
void fair_queue_fini(struct fair_queue *queue);            /* empty, or its jobs are forgotten */
/* 0, -ENOSPC (a bound is reached) or -ENOMEM. */
int fair_queue_add(struct fair_queue *queue, uint32_t tenant, struct list *job);
/* The next job, taken out; NULL when empty. Its tenant goes to the end of the turns. */
struct list *fair_queue_take(struct fair_queue *queue);
/* Takes a job out that was added for `tenant`. */
void fair_queue_remove(struct fair_queue *queue, uint32_t tenant, struct list *job);
/* Jobs of a tenant. */
uint32_t fair_queue_count(const struct fair_queue *queue, uint32_t tenant);
/*
 * Calls `visit` for each job in the order in which fair_queue_take() would yield them if nothing were added; the next one
 * has position 1. The queue must not change meanwhile.
 */
void fair_queue_visit(struct fair_queue *queue, void (*visit)(struct list *job, uint32_t position));
