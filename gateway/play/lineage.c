/* One lineage: its table and its file, and who waits for either. */
#include "gateway/play/stable_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"

#define PENDING_BYTES_MAX (CLAIMS_RECORDS_MAX * (size_t)CLAIM_BYTES)

/* ---- a lineage's memory ---- */

struct lineage *lineage_create(struct stable *stable, const struct claims_file_head *head)
{
	struct lineage *lineage = calloc(1, sizeof(*lineage));

	if (!lineage)
		return NULL;
	lineage->stable = stable;
	lineage->head = *head;
	lineage->fd = -1;
	lineage->pending = buffer_heap(PENDING_BYTES_MAX);
	lineage->written = buffer_heap(PENDING_BYTES_MAX);
	list_init(&lineage->requests);
	list_init(&lineage->syncs);
	list_init(&lineage->farewells);
	list_append(&stable->lineages, &lineage->link);
	stable->count++;
	return lineage;
}

void lineage_unload(struct lineage *lineage)
{
	claims_fini(&lineage->claims);
	if (lineage->fd >= 0)
		close(lineage->fd);
	lineage->fd = -1;
	buffer_fini(&lineage->pending);
	buffer_fini(&lineage->written);
	lineage->pending = buffer_heap(PENDING_BYTES_MAX);
	lineage->written = buffer_heap(PENDING_BYTES_MAX);
	lineage->state = LINEAGE_NAMED;
}

void lineage_free(struct lineage *lineage)
{
	list_remove(&lineage->link);
	lineage->stable->count--;
	lineage_unload(lineage);
	free(lineage);
}

bool lineage_is_busy(const struct lineage *lineage)
{
	return lineage->refs || op_in_flight(&lineage->op) || lineage->posted || !list_empty(&lineage->requests) ||
	       !list_empty(&lineage->syncs) || !list_empty(&lineage->farewells);
}

/* ---- what goes ---- */

static int32_t lineage_remove(struct op *op)
{
	struct lineage *lineage = container_of(op, struct lineage, op);
	char name[CLAIMS_FILE_NAME_BYTES];

	claims_file_name(lineage->head.id, name);
	if (unlinkat(lineage->stable->dir_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return fsync(lineage->stable->dir_fd) < 0 ? -errno : 0;
}

static void lineage_on_removed(struct op *op, int32_t res)
{
	struct lineage *lineage = container_of(op, struct lineage, op);
	struct stable *stable = lineage->stable;

	CHECK(!lineage->posted);
	stable->busy--;
	lineage_free(lineage);
	stable_close_join(stable);
}

void lineage_end(struct lineage *lineage)
{
	lineage->over = true;
	if (lineage_is_busy(lineage))
		return;
	lineage->op.fn = lineage_on_removed;
	lineage->stable->busy++;
	ring_work(lineage->stable->ring, &lineage->op, lineage_remove);
}

void lineage_ref(struct lineage *lineage)
{
	lineage->refs++;
}

void lineage_unref(struct lineage *lineage)
{
	if (!lineage)
		return;
	CHECK(lineage->refs > 0);
	lineage->refs--;
	lineage_schedule(lineage);
}

/* ---- opening ---- */

static int32_t lineage_open(struct op *op)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	return claims_file_open(lineage->stable->dir_fd, &lineage->head, lineage->make, &lineage->claims, &lineage->fd,
	                        &lineage->end);
}

static void lineage_on_opened(struct op *op, int32_t res);

void lineage_start_opening(struct lineage *lineage)
{
	lineage->state = LINEAGE_OPENING;
	lineage->op.fn = lineage_on_opened;
	lineage->made = lineage->writing = lineage->durable = 0;
	claims_init(&lineage->claims, lineage_seed(lineage), lineage->stable->directory);
	lineage->stable->busy++;
	ring_work(lineage->stable->ring, &lineage->op, lineage_open);
}

/* Another one of the same directory takes its place for those that wait; its file goes. */
static void lineage_replace(struct lineage *lineage)
{
	struct claims_file_head head = lineage->head;
	struct lineage *other;
	struct list *link;

	ring_random(lineage->stable->ring, head.id, sizeof(head.id));
	other = lineage_create(lineage->stable, &head);
	while ((link = list_take(&lineage->requests))) {
		struct stable_request *request = container_of(link, struct stable_request, link);

		request->asked = other;
		if (other)
			list_append(&other->requests, &request->link);
		else
			request->fn(request);
	}
	if (other) {
		other->tenant = lineage->tenant;
		memcpy(other->name, lineage->name, sizeof(other->name));
		lineage_make_key(other);
		other->make = true;
		list_remove(&other->link);
		list_insert_before(lineage->stable->lineages.next, &other->link);
		lineage_start_opening(other);
	}
	lineage->over = true;
}

static void lineage_on_opened(struct op *op, int32_t res)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	lineage->stable->busy--;
	lineage->state = LINEAGE_READY;
	if (res == CLAIMS_FILE_DAMAGED) {
		log_event(LOG_WARNING, "claims refused", LOG_TEXT("directory", lineage->name),
		          LOG_TEXT("cause", "damaged, of another version or too many: the executors get the context anew"));
		lineage->stable->damaged++;
		lineage_unload(lineage);
		lineage_replace(lineage);
	} else if (res < 0) {
		log_event(LOG_WARNING, "claims refused", LOG_TEXT("directory", lineage->name), LOG_TEXT("cause", strerror(-res)));
		lineage_unload(lineage);
		lineage->failed = true;
	} else if (lineage->claims.count >= lineage->stable->full_enough) {
		lineage_unload(lineage);
		lineage_replace(lineage);
	} else {
		lineage->make = false;
	}
	lineage_schedule(lineage);
}

static void lineage_answer(struct lineage *lineage)
{
	struct list *link;

	if (lineage->state == LINEAGE_OPENING || (lineage->state == LINEAGE_NAMED && !lineage->failed))
		return;
	while ((link = list_take(&lineage->requests))) {
		struct stable_request *request = container_of(link, struct stable_request, link);

		request->asked = NULL;
		request->lineage = lineage->failed ? NULL : lineage;
		lineage->refs += !lineage->failed;
		request->fn(request);
	}
}

/* ---- claims ---- */

const char *lineage_key(const struct lineage *lineage)
{
	return lineage->key;
}

const struct claims *lineage_claims(const struct lineage *lineage)
{
	return &lineage->claims;
}

/* `r`: how the claim was made in memory. */
static int lineage_keep(struct lineage *lineage, const struct claim *claim, int r)
{
	if (r == CLAIMS_MADE) {
		buffer_put(&lineage->pending, claim, sizeof(*claim));
		lineage->made++;
		if (lineage->pending.failed)
			r = -ENOMEM;
	}
	/* What is in the table and will never be in the file would be forgotten: the key goes with it. */
	if (r == CLAIMS_FULL || r < 0)
		lineage->over = lineage->failed = true;
	return r;
}

int lineage_claim(struct lineage *lineage, struct claim *claim)
{
	int r = lineage->failed ? -EIO : claims_make(&lineage->claims, claim);

	return lineage_keep(lineage, claim, r);
}

int lineage_follow(struct lineage *lineage, const struct claim *claim)
{
	return lineage_keep(lineage, claim, lineage->failed ? -EIO : claims_follow(&lineage->claims, claim));
}

void lineage_name(struct lineage *lineage, const struct claim *claim)
{
	if (lineage->failed || claims_name(&lineage->claims, claim) != CLAIMS_MADE)
		return;
	buffer_put(&lineage->pending, claim, sizeof(*claim));
	lineage->made++;
	if (lineage->pending.failed)
		lineage->over = lineage->failed = true;
}

bool lineage_restat(struct lineage *lineage, struct span name, struct span path, uint64_t size, int64_t *mtime_ns)
{
	struct claim claim = { .path = claims_path(&lineage->claims, name, path), .size = size, .mtime_ns = *mtime_ns };
	int r;

	ring_random(lineage->stable->ring, claim.content.bytes, sizeof(claim.content.bytes));
	r = claims_make(&lineage->claims, &claim);
	*mtime_ns = claim.mtime_ns;
	return r == CLAIMS_MADE;
}

void lineage_set_strange(struct lineage *lineage, const uint8_t client[static STABLE_CLIENT_BYTES])
{
	recent_forget(&lineage->stable->clients, client);
	lineage->strange = true;
}

uint64_t lineage_made(const struct lineage *lineage)
{
	return lineage->made;
}

uint64_t lineage_durable(const struct lineage *lineage)
{
	return lineage->durable;
}

/* ---- writing ---- */

static int32_t lineage_write(struct op *op)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	return claims_file_append(lineage->fd, lineage->end, &lineage->head,
	                          (const struct claim *)(const void *)lineage->written.data, lineage->written.size / CLAIM_BYTES);
}

static void lineage_on_written(struct op *op, int32_t res)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	lineage->stable->busy--;
	lineage->state = LINEAGE_READY;
	if (res < 0) {
		log_event(LOG_WARNING, "claims not written", LOG_TEXT("directory", lineage->name), LOG_TEXT("cause", strerror(-res)));
		lineage->stable->writes_failed++;
		lineage->failed = lineage->over = true;
	} else {
		lineage->durable = lineage->writing;
		lineage->end += lineage->written.size / CLAIM_BYTES * CLAIMS_FILE_RECORD_BYTES;
	}
	buffer_fini(&lineage->written);
	lineage->written = buffer_heap(PENDING_BYTES_MAX);
	lineage_schedule(lineage);
}

static void lineage_start_writing(struct lineage *lineage)
{
	struct buffer written = lineage->pending;

	if (lineage->state != LINEAGE_READY || lineage->failed || written.size == 0)
		return;
	lineage->state = LINEAGE_WRITING;
	lineage->pending = lineage->written;
	lineage->written = written;
	lineage->writing = lineage->made;
	lineage->op.fn = lineage_on_written;
	lineage->stable->busy++;
	ring_work(lineage->stable->ring, &lineage->op, lineage_write);
}

/* Those whose claims are there, or never will be. */
static void lineage_tell(struct lineage *lineage)
{
	struct list done, *link;

	list_init(&done);
	list_for_each_safe(at, after, &lineage->syncs) {
		struct lineage_sync *sync = container_of(at, struct lineage_sync, link);

		if (sync->made > lineage->durable && !lineage->failed)
			continue;
		list_remove(at);
		list_append(&done, at);
	}
	while ((link = list_take(&done))) {
		struct lineage_sync *sync = container_of(link, struct lineage_sync, link);

		sync->result = sync->made <= lineage->durable ? 0 : -EIO;
		sync->fn(sync);
	}
}

void lineage_sync(struct lineage *lineage, struct lineage_sync *sync)
{
	sync->made = lineage->made;
	list_append(&lineage->syncs, &sync->link);
	lineage_schedule(lineage);
}

void lineage_sync_cancel(struct lineage_sync *sync)
{
	list_remove(&sync->link);
}

/* ---- giving up ---- */

void lineage_give_up(struct lineage *lineage, struct lineage_sync *sync, bool passing)
{
	stable_note_unfit(lineage->stable, lineage->head.owner, passing);
	lineage->over = lineage->given_up = true;
	list_append(&lineage->farewells, &sync->link);
	lineage_schedule(lineage);
}

static void lineage_on_given_up(struct op *op, int32_t res)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	lineage->stable->busy--;
	lineage->state = LINEAGE_READY;
	lineage->removed = res == 0;
	lineage->failed |= res < 0;
	lineage_schedule(lineage);
}

static void lineage_part(struct lineage *lineage)
{
	struct list *link;

	if (!lineage->given_up || (!lineage->removed && !lineage->failed && lineage->state != LINEAGE_READY))
		return;
	if (!lineage->removed && !lineage->failed) {
		lineage->state = LINEAGE_WRITING;
		lineage->op.fn = lineage_on_given_up;
		lineage->stable->busy++;
		ring_work(lineage->stable->ring, &lineage->op, lineage_remove);
		return;
	}
	while ((link = list_take(&lineage->farewells))) {
		struct lineage_sync *sync = container_of(link, struct lineage_sync, link);

		sync->result = lineage->removed ? 0 : -EIO;
		sync->fn(sync);
	}
}

/* ---- the turn ---- */

static void lineage_on_turn(struct post *post)
{
	struct lineage *lineage = container_of(post, struct lineage, turn);
	struct stable *stable = lineage->stable;

	lineage->posted = false;
	stable->busy--;
	lineage->refs++;                 /* it stays until the end of this */
	lineage_answer(lineage);
	lineage_tell(lineage);
	lineage_part(lineage);
	if (!list_empty(&lineage->syncs) || lineage->refs == 1)
		lineage_start_writing(lineage);
	lineage->refs--;
	if ((lineage->over || lineage->failed) && !lineage_is_busy(lineage))
		lineage_end(lineage);
	else if (!lineage_is_busy(lineage))
		stable_tidy(stable);
	stable_close_join(stable);
}

void lineage_schedule(struct lineage *lineage)
{
	if (lineage->posted)
		return;
	lineage->posted = true;
	lineage->turn.fn = lineage_on_turn;
	lineage->stable->busy++;
	ring_post(lineage->stable->ring, &lineage->turn);
}
