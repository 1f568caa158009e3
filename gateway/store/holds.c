/* Holds and pins. */
#include "gateway/store/holds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/store/state.h"

#define HOLDS_SCAN_BYTES (64 * INDEX_SCAN_ROW_MAX)

/* ---- holds ---- */

struct store_hold *store_hold_create(struct store *store, const struct scope *scope)
{
	struct store_hold *hold = calloc(1, sizeof(*hold));

	if (!hold)
		return NULL;
	hold->store = store;
	hold->scope = *scope;
	hold->blobs = fingerprints_make(store->secret);
	list_append(&store->holds.list, &hold->link);
	store->holds.count++;
	return hold;
}

static bool hold_full(const struct store_hold *hold)
{
	return hold->blobs.count + hold->directories.list.count + hold->recipes.list.count >= STORE_HOLD_MAX;
}

int store_hold_blobs(struct store_hold *hold, const struct digest *digests, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int r;

		if (hold_full(hold))
			return ERR_RAISE(-ENOSPC);
		r = fingerprints_add(&hold->blobs, digests[i].hash);
		if (r < 0)
			return r;
		if (r > 0)
			evict_pinned_blob(hold->store, digests[i].hash);
	}
	return 0;
}

static int hold_root(struct store_hold *hold, struct hold_roots *roots, const struct store_reference *root)
{
	int r;

	if (hold_full(hold))
		return ERR_RAISE(-ENOSPC);
	r = fingerprints_add(&hold->blobs, root->digest.hash);
	if (r >= 0)
		r = digest_set_add(&roots->seen, &root->digest);
	if (r <= 0)
		return r;
	r = digest_vector_add(&roots->list, &root->digest);
	if (r < 0)
		return r;
	evict_pinned_root(hold->store, root);
	return 0;
}

int store_hold_root(struct store_hold *hold, const struct digest *directory)
{
	return hold_root(hold, &hold->directories, &(struct store_reference){ .digest = *directory, .kind = STORE_DIRECTORY });
}

int store_hold_recipe(struct store_hold *hold, const struct digest *recipe)
{
	return hold_root(hold, &hold->recipes, &(struct store_reference){ .digest = *recipe, .kind = STORE_RECIPE });
}

static void hold_roots_fini(struct hold_roots *roots)
{
	digest_vector_fini(&roots->list);
	digest_set_fini(&roots->seen);
}

void store_hold_release(struct store_hold *hold)
{
	if (!hold)
		return;
	hold->store->holds.epoch++;
	hold->store->holds.count--;
	list_remove(&hold->link);
	fingerprints_fini(&hold->blobs);
	hold_roots_fini(&hold->directories);
	hold_roots_fini(&hold->recipes);
	free(hold);
}

bool holds_blob(const struct store *store, const uint8_t *hash)
{
	list_for_each(link, &store->holds.list)
		if (fingerprints_has(&container_of(link, struct store_hold, link)->blobs, hash))
			return true;
	return false;
}

/* ---- pins ---- */

/* As rows of the index are told apart: not by the size. */
static bool pin_is(const struct store_pin *pin, const struct store_pin *other)
{
	return scope_same(&pin->scope, &other->scope) && memcmp(pin->root.hash, other->root.hash, DIGEST_HASH_BYTES) == 0;
}

static struct store_pin *pin_find(const struct holds *holds, const struct store_pin *like)
{
	for (uint32_t i = 0; i < holds->pins_count; i++)
		if (pin_is(&holds->pins[i], like))
			return &holds->pins[i];
	return NULL;
}

static void pin_keep(struct holds *holds, const struct store_pin *pin)
{
	struct store_pin *kept = pin_find(holds, pin);

	if (!kept)
		kept = &holds->pins[holds->pins_count++];
	CHECK(holds->pins_count <= STORE_PINS_MAX);
	*kept = *pin;
	kept->link = (struct list){ 0 };
}

static void pin_drop(struct holds *holds, const struct store_pin *pin)
{
	struct store_pin *kept = pin_find(holds, pin);

	if (kept)
		*kept = holds->pins[--holds->pins_count];
	holds->epoch++;
}

/* Visits the pins whose keys begin with `prefix`; blocking. */
static int pins_scan(struct store *store, const uint8_t *prefix, size_t prefix_size,
                     int (*visit)(void *context, const struct store_pin *pin), void *context)
{
	struct index_scan scan = {
		.table = INDEX_PINS,
		.key_size = prefix_size,
		.prefix_size = prefix_size,
		.rows_capacity = HOLDS_SCAN_BYTES,
		.rows_max = 64,
	};
	int r = 0;

	scan.rows = malloc(HOLDS_SCAN_BYTES);
	if (!scan.rows)
		return ERR_RAISE(-ENOMEM);
	if (prefix_size)
		memcpy(scan.key, prefix, prefix_size);
	do {
		struct index_row row;
		struct store_pin pin;
		size_t at = 0;

		r = store->engine->scan_now(store->index, &scan);
		while (!r && index_scan_next(&scan, &at, &row))
			if (row_pin_decode(&pin, &row))
				r = visit(context, &pin);
	} while (!r && scan.more);
	free(scan.rows);
	return r;
}

/* What is loaded at the start, and what expired while nobody looked. */
struct pins_load {
	struct store *store;
	struct index_apply apply;
	struct store_pin *expired;
	size_t expired_count, at;
};

#define PINS_EXPIRED_MAX 256             /* rows deleted at a time, at a start */

static int pin_load(void *context, const struct store_pin *pin)
{
	struct pins_load *load = context;
	struct holds *holds = &load->store->holds;

	if (pin->expires_wall_ns <= ring_wall_ns(load->store->ring)) {
		if (load->expired_count < PINS_EXPIRED_MAX)
			load->expired[load->expired_count++] = *pin;
		return 0;
	}
	if (holds->pins_count == STORE_PINS_MAX && !pin_find(holds, pin))
		return ERR_RAISE(-ENOSPC);
	pin_keep(holds, pin);
	return 0;
}

static void expired_prepare(struct index_apply *apply)
{
	container_of(apply, struct pins_load, apply)->at = 0;
}

static bool expired_next(struct index_apply *apply, struct index_change *change)
{
	struct pins_load *load = container_of(apply, struct pins_load, apply);

	if (load->at == load->expired_count)
		return false;
	change->kind = INDEX_DELETE;
	change->table = INDEX_PINS;
	change->key_size = ROW_SCOPED_KEY_BYTES;
	row_scoped_key(change->key, &load->expired[load->at].scope, load->expired[load->at].root.hash);
	change->value = span_make(NULL, 0);
	load->at++;
	return true;
}

/* One round: false: there may be more that expired. */
static bool pins_load_some(struct store *store, struct pins_load *load, int *r)
{
	load->expired_count = 0;
	*r = pins_scan(store, NULL, 0, pin_load, load);
	if (!*r && load->expired_count > 0)
		*r = store->engine->apply_now(store->index, &load->apply);
	return *r || load->expired_count < PINS_EXPIRED_MAX;
}

int holds_init(struct holds *holds, struct store *store)
{
	struct pins_load load = { .store = store, .apply = { .prepare = expired_prepare, .next = expired_next } };
	int r;

	list_init(&holds->list);
	holds->pins = calloc(STORE_PINS_MAX, sizeof(*holds->pins));
	load.expired = calloc(PINS_EXPIRED_MAX, sizeof(*load.expired));
	if (!holds->pins || !load.expired)
		r = ERR_RAISE(-ENOMEM);
	else
		while (!pins_load_some(store, &load, &r))
			;
	free(load.expired);
	return r;
}

void holds_fini(struct holds *holds)
{
	free(holds->pins);
	holds->pins = NULL;
}

static void pin_on_forgotten(struct store_pin *pin)
{
	free(pin);
}

/* With its row: those of pins are not evicted, and would fill the index. */
static bool pin_forget(struct store *store, struct store_pin *kept)
{
	struct store_pin *gone = malloc(sizeof(*gone));

	if (!gone)
		return false;
	*gone = *kept;
	gone->expires_wall_ns = 0;
	gone->fn = pin_on_forgotten;
	list_append(&store_open_generation(store)->pins, &gone->link);
	pin_drop(&store->holds, gone);
	return true;
}

/* In force: those that expired and lie here still are nobody's. */
static uint32_t pins_of(const struct holds *holds, uint32_t tenant, uint64_t now_ns)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < holds->pins_count; i++)
		count += holds->pins[i].scope.tenant == tenant && holds->pins[i].expires_wall_ns > now_ns;
	return count;
}

/* Room for one more of the tenant's, if need be by forgetting one that expired. */
static int pins_room(struct store *store, uint32_t tenant)
{
	struct holds *holds = &store->holds;
	uint64_t now_ns = ring_wall_ns(store->ring);

	if (pins_of(holds, tenant, now_ns) >= STORE_TENANT_PINS_MAX)
		return ERR_RAISE(-EDQUOT);
	if (holds->pins_count < STORE_PINS_MAX)
		return 0;
	for (uint32_t i = 0; i < holds->pins_count; i++)
		if (holds->pins[i].expires_wall_ns <= now_ns)
			return pin_forget(store, &holds->pins[i]) ? 0 : ERR_RAISE(-ENOMEM);
	return ERR_RAISE(-ENOSPC);
}

void store_pin(struct store *store, struct store_pin *pin)
{
	const struct store_pin *kept = pin_find(&store->holds, pin);
	int r = 0;

	if (pin->expires_wall_ns == 0 && !(kept && digest_equal(&kept->root, &pin->root))) {
		pin->result = STORE_MISSING;
		pin->fn(pin);
		return;
	}
	if (pin->expires_wall_ns && !kept)
		r = pins_room(store, pin->scope.tenant);
	if (r < 0) {
		pin->result = r;
		pin->fn(pin);
		return;
	}
	if (pin->expires_wall_ns == 0) {
		pin_drop(&store->holds, pin);
	} else {
		pin_keep(&store->holds, pin);
		evict_pinned_root(store, &(struct store_reference){ .digest = pin->root, .kind = STORE_DIRECTORY });
	}
	list_append(&store_open_generation(store)->pins, &pin->link);
	commit_want(store);
	store_step(store);
}

int store_pins_list(struct store *store, const struct scope *scope,
                    void (*visit)(void *context, const struct store_pin *pin), void *context)
{
	uint64_t now_ns = ring_wall_ns(store->ring);

	for (uint32_t i = 0; i < store->holds.pins_count; i++) {
		const struct store_pin *pin = &store->holds.pins[i];

		if (scope_same(&pin->scope, scope) && pin->expires_wall_ns > now_ns)
			visit(context, pin);
	}
	return 0;
}
