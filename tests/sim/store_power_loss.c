/*
 * Shows that a power loss takes nothing from a store that it had acknowledged. A few clients put batches of blobs, sync
 * them, hold them for a while, pin some, write marks; segments are small, so that evictions run all the time. At a
 * completion that the seed picks the power goes: every segment write that no completed fdatasync covers is undone, torn
 * or kept as the seed says. Then, on a new ring: each acknowledged batch that was held or pinned is read back whole;
 * nothing at all is corrupt; each fresh mark tells the truth; and fsck finds no problem. LMDB itself is trusted.
 *
 * What was synced outside the ring (names of files, `format`, `scopes`) is lost in the same way.
 *
 * Shows, too, that this test can fail: for each site of fdatasync or fsync in the store, one that lies is noticed.
 *
 *	store_power_loss [SEEDS [FIRST]]         200 unless given; SLUICE_SEEDS overrides
 */
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/store/fsck.h"
#include "gateway/store/store.h"
#include "tests/sim/ring_sim.h"
#include "tests/sim/sync_sim.h"
#include "tests/unit/store/blobs.h"

#define SEGMENT_BYTES   ((4u << 20) + (64u << 10))
#define CEILING_BYTES   ((17ull << 20) + 5ull * SEGMENT_BYTES)
#define CORPUS          1500
#define CLIENTS         3
#define BATCH_MAX       12
#define HELD            4                /* batches that a client holds at a time */
#define PINNED          3
#define READINGS        24
#define COMPLETIONS_MAX 2500

static struct blob corpus[CORPUS];

/* What a client told the store, and what the store said to it. */
struct batch {
	const struct scope *scope;
	struct blob root;
	size_t files[BATCH_MAX], count;
	struct store_hold *hold;
	bool acknowledged, pinned;
};

enum client_state {
	CLIENT_IDLE,
	CLIENT_DONE,                     /* the store takes nothing any more */
	CLIENT_PUTTING,
	CLIENT_SYNCING,
	CLIENT_LOOKING,                  /* for a mark: are all of the batch there? */
	CLIENT_MARKING,
	CLIENT_PINNING,
};

struct client {
	struct run *run;
	enum client_state state;
	struct batch *batch;
	struct store_item items[BATCH_MAX + 1];
	struct digest digests[BATCH_MAX + 1];
	uint32_t places[BATCH_MAX + 1];
	uint8_t rest[STORE_SEGMENTS_MAX / 8];
	struct store_put put;
	struct store_sync sync;
	struct store_lookup lookup;
	struct store_marks marks;
	struct store_pin pin;
	struct batch *held[HELD];
	size_t turn;
};

/* All the time: reads of anything, many at once so that some take long, to meet evictions. */
struct reading {
	struct ring *ring;
	const struct blob *blob;         /* NULL: idle */
	struct store_read read;
	uint8_t buffer[(1 << 20) + STORE_READ_EXTRA_BYTES];
};

struct run {
	uint64_t seed;
	char path[64];
	struct ring *ring;
	struct store *store;
	struct scope scopes[2];
	struct client clients[CLIENTS];
	struct reading readings[READINGS];
	struct batch *batches;           /* all ever made */
	size_t batches_count;
	struct batch *pinned[PINNED];
	size_t pins;
	bool closed, crashed;
	uint64_t acknowledged, evicted, moved;   /* for the summary */
};

#define BATCHES_MAX 4000

static const char *verdict;              /* the first thing found wrong in this run */

static void wrong(const char *what)
{
	if (!verdict)
		verdict = what;
}

/* ---- the directory ---- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void on_closed(void *context)
{
	*(bool *)context = true;
}

static struct store_config store_config(const struct run *run)
{
	return (struct store_config){
		.path = run->path,
		.ceiling_bytes = CEILING_BYTES,
		.segment_bytes = SEGMENT_BYTES,
		.slots = 3,
		.references = test_references,
	};
}

static bool run_open(struct run *run, const struct ring_sim_config *ring)
{
	struct store_config config = store_config(run);
	char why[256];

	CHECK(ring_sim_create(&run->ring, ring) == 0);
	if (store_open(&run->store, run->ring, &config, why, sizeof(why))) {
		fprintf(stderr, "store_open: %s\n", why);
		wrong("the store does not open again");
		ring_destroy(run->ring);
		return false;
	}
	/* The other way round at the second time: a number that was lost would go to the other tenant. */
	for (unsigned i = 0; i < 2; i++) {
		unsigned which = run->crashed ? 1 - i : i;

		CHECK(store_scope(run->store, span_text(which ? "b" : "a"), span_text(""), SCOPE_ALL, &run->scopes[which]) == 0);
	}
	return true;
}

static void run_close(struct run *run)
{
	run->closed = false;
	store_close(run->store, on_closed, &run->closed);
	while (!run->closed)
		ring_run(run->ring, UINT64_MAX);
	ring_destroy(run->ring);
}

/* ---- clients ---- */

static uint64_t pick(struct run *run, uint64_t below)
{
	return ring_sim_random(run->ring) % below;
}

static void batch_drop_hold(struct batch *batch)
{
	if (batch)
		store_hold_release(batch->hold);
	if (batch)
		batch->hold = NULL;
}

static void client_end(struct client *client, bool keep)
{
	struct batch *batch = client->batch;
	struct batch **held = &client->held[client->turn++ % HELD];

	client->state = CLIENT_IDLE;
	client->batch = NULL;
	batch_drop_hold(*held);
	*held = NULL;
	if (keep)
		*held = batch;
	else
		batch_drop_hold(batch);
}

static void client_on_pin(struct store_pin *pin)
{
	struct client *client = container_of(pin, struct client, pin);
	struct run *run = client->run;

	if (pin->result) {
		client_end(client, true);
		return;
	}
	client->batch->pinned = true;
	run->pinned[run->pins++ % PINNED] = client->batch;
	client_end(client, false);       /* the pin alone keeps it */
}

static void client_pin(struct client *client)
{
	struct run *run = client->run;
	struct batch *oldest = run->pinned[run->pins % PINNED];

	/* The one that gives way is unpinned by letting it expire: from now on it may go. */
	if (oldest) {
		client_end(client, true);
		return;
	}
	client->state = CLIENT_PINNING;
	client->pin = (struct store_pin){
		.scope = *client->batch->scope,
		.root = client->batch->root.digest,
		.expires_wall_ns = UINT64_MAX,
		.fn = client_on_pin,
	};
	store_pin(run->store, &client->pin);
}

static void client_on_marks(struct store_marks *marks)
{
	struct client *client = container_of(marks, struct client, marks);

	if (pick(client->run, 4) == 0)
		client_pin(client);
	else
		client_end(client, true);
}

static void client_on_lookup(struct store_lookup *lookup)
{
	struct client *client = container_of(lookup, struct client, lookup);

	if (lookup->result) {
		client_end(client, true);
		return;
	}
	memset(client->rest, 0, store_rest_bytes(client->run->store));
	for (size_t i = 0; i < lookup->count; i++) {
		if (client->places[i] == 0) {
			wrong("a held and acknowledged blob is missing before the crash");
			client_end(client, true);
			return;
		}
		store_rest_add(client->rest, client->places[i]);
	}
	client->state = CLIENT_MARKING;
	client->marks.scope = *client->batch->scope;
	client->marks.directories = &client->batch->root.digest;
	client->marks.count = 1;
	client->marks.rests = client->rest;
	client->marks.fn = client_on_marks;
	store_marks_write(client->run->store, &client->marks);
}

static void client_look(struct client *client)
{
	client->state = CLIENT_LOOKING;
	client->marks.sequence = store_marks_begin(client->run->store);
	client->lookup = (struct store_lookup){
		.scope = *client->batch->scope,
		.digests = client->digests,
		.places = client->places,
		.count = client->batch->count + 1,
		.fn = client_on_lookup,
	};
	store_lookup(client->run->store, &client->lookup);
}

static void client_on_sync(struct store_sync *sync)
{
	struct client *client = container_of(sync, struct client, sync);

	if (sync->result) {
		client_end(client, false);
		return;
	}
	client->batch->acknowledged = true;
	client->run->acknowledged++;
	client_look(client);
}

static void client_on_put(struct store_put *put)
{
	struct client *client = container_of(put, struct client, put);

	if (put->result) {
		client_end(client, false);
		if (put->result < 0)
			client->state = CLIENT_DONE;
		return;
	}
	client->state = CLIENT_SYNCING;
	client->sync = (struct store_sync){ .fn = client_on_sync };
	store_sync(client->run->store, &client->sync);
}

static void client_begin(struct client *client)
{
	struct run *run = client->run;
	struct batch *batch = &run->batches[run->batches_count++];
	struct blob files[BATCH_MAX];

	CHECK(run->batches_count < BATCHES_MAX);
	batch->scope = &run->scopes[pick(run, 2)];
	batch->count = 1 + pick(run, BATCH_MAX);
	for (size_t i = 0; i < batch->count; i++) {
		batch->files[i] = pick(run, CORPUS);
		files[i] = corpus[batch->files[i]];
		client->digests[i] = files[i].digest;
		client->items[i] = (struct store_item){
			.digest = files[i].digest, .data = span_make(files[i].data, files[i].digest.size),
		};
	}
	batch->root = directory_make(files, batch->count, NULL, 0);
	client->digests[batch->count] = batch->root.digest;
	client->items[batch->count] = (struct store_item){
		.digest = batch->root.digest, .data = span_make(batch->root.data, batch->root.digest.size),
	};
	batch->hold = store_hold_create(run->store, batch->scope);
	CHECK(store_hold_blobs(batch->hold, client->digests, batch->count + 1) == 0);
	client->batch = batch;
	client->state = CLIENT_PUTTING;
	client->put = (struct store_put){
		.scope = *batch->scope, .items = client->items, .count = batch->count + 1, .fn = client_on_put,
	};
	store_put(run->store, &client->put);
}

static void reading_on_read(struct store_read *read)
{
	struct reading *reading = container_of(read, struct reading, read);
	const struct blob *blob = reading->blob;

	reading->blob = NULL;
	if (read->result == STORE_CORRUPT && !ring_sim_stopped(reading->ring))     /* a disk without power reads nothing */
		wrong("a blob is corrupt before the crash");
	if (read->result == STORE_OK && memcmp(read->blob.data, blob->data, blob->digest.size) != 0)
		wrong("a blob has other bytes before the crash");
}

static void reading_begin(struct run *run, struct reading *reading)
{
	reading->ring = run->ring;
	reading->blob = &corpus[pick(run, CORPUS)];
	reading->read = (struct store_read){
		.scope = run->scopes[pick(run, 2)],
		.digest = reading->blob->digest,
		.buffer = reading->buffer,
		.fn = reading_on_read,
	};
	store_read(run->store, &reading->read);
}

/* ---- after the crash ---- */

struct check_read {
	struct store_read read;
	bool done;
};

static void on_read(struct store_read *read)
{
	container_of(read, struct check_read, read)->done = true;
}

/* Reads a blob; `must`: it has to be there. */
static void check_blob(struct run *run, const struct scope *scope, const struct blob *blob, bool must)
{
	static uint8_t buffer[(1 << 20) + STORE_READ_EXTRA_BYTES];
	struct check_read check = {
		.read = { .scope = *scope, .digest = blob->digest, .buffer = buffer, .fn = on_read },
	};

	store_read(run->store, &check.read);
	while (!check.done)
		ring_run(run->ring, UINT64_MAX);
	if (check.read.result == STORE_OK) {
		if (memcmp(check.read.blob.data, blob->data, blob->digest.size) != 0)
			wrong("a blob has other bytes");
	} else if (check.read.result != STORE_MISSING) {
		wrong("a blob is corrupt");
	} else if (must) {
		wrong("an acknowledged blob is missing");
	}
}

struct check_mark {
	struct store_marks marks;
	bool done;
};

static void on_mark(struct store_marks *marks)
{
	container_of(marks, struct check_mark, marks)->done = true;
}

static bool mark_is_fresh(struct run *run, const struct batch *batch)
{
	bool whole = false;
	struct check_mark check = {
		.marks = {
			.scope = *batch->scope, .directories = &batch->root.digest, .count = 1, .whole = &whole, .fn = on_mark,
		},
	};

	store_marks_lookup(run->store, &check.marks);
	while (!check.done)
		ring_run(run->ring, UINT64_MAX);
	return whole;
}

static void check_batch(struct run *run, const struct batch *batch, bool kept)
{
	bool must = kept || mark_is_fresh(run, batch);

	check_blob(run, batch->scope, &batch->root, must);
	for (size_t i = 0; i < batch->count; i++)
		check_blob(run, batch->scope, &corpus[batch->files[i]], must);
}

static void on_problem(void *context, const char *line)
{
	if (!verdict)
		fprintf(stderr, "seed %" PRIu64 ": fsck: %s\n", ((struct run *)context)->seed, line);
	wrong("fsck finds a problem");
}

static void check_fsck(struct run *run)
{
	struct fsck_report report;

	if (store_fsck(run->path, false, &report, on_problem, run) < 0)
		wrong("fsck cannot look at the store");
}

/* ---- one run ---- */

/* Clients for which an answer is on its way. */
static size_t run_busy(const struct run *run)
{
	size_t busy = 0;

	for (size_t i = 0; i < CLIENTS; i++)
		busy += run->clients[i].state != CLIENT_IDLE && run->clients[i].state != CLIENT_DONE;
	for (size_t i = 0; i < READINGS; i++)
		busy += run->readings[i].blob != NULL;
	return busy;
}

static void run_work(struct run *run)
{
	size_t done = 0;

	for (size_t i = 0; i < CLIENTS; i++)
		run->clients[i].run = run;
	while (!ring_sim_stopped(run->ring) && done < CLIENTS) {
		done = 0;
		for (size_t i = 0; i < CLIENTS; i++) {
			done += run->clients[i].state == CLIENT_DONE;
			if (run->clients[i].state == CLIENT_IDLE)
				client_begin(&run->clients[i]);
		}
		for (size_t i = 0; i < READINGS; i++)
			if (!run->readings[i].blob && pick(run, 4) == 0)
				reading_begin(run, &run->readings[i]);
		ring_run(run->ring, 1000000);
	}
}

static void run_crash(struct run *run, bool *kept)
{
	struct store_status status;

	store_status(run->store, &status);
	run->evicted = status.evicted_segments;
	run->moved = status.moved_blobs;
	for (size_t i = 0; i < run->batches_count; i++) {
		struct batch *batch = &run->batches[i];

		kept[i] = batch->pinned || (batch->acknowledged && batch->hold);
	}
	ring_sim_crash(run->ring);
	/* What was asked is answered with errors now; nobody asks for more. */
	while (run_busy(run) > 0)
		ring_run(run->ring, UINT64_MAX);
	for (size_t i = 0; i < run->batches_count; i++)
		batch_drop_hold(&run->batches[i]);
	run_close(run);
	run->crashed = true;
	sync_sim_crash(run->path);
}

static void run_seed(uint64_t seed, uint32_t lying_sync, enum sync_site lying_site, struct run *run)
{
	struct ring_sim_config ring = { .seed = seed, .lying_sync = lying_sync };
	static bool kept[BATCHES_MAX];

	memset(run, 0, sizeof(*run));
	run->seed = seed;
	verdict = NULL;
	snprintf(run->path, sizeof(run->path), "/dev/shm/sluice-power-XXXXXX");
	if (!mkdtemp(run->path)) {
		snprintf(run->path, sizeof(run->path), "/var/tmp/sluice-power-XXXXXX");
		CHECK(mkdtemp(run->path));
	}
	run->batches = calloc(BATCHES_MAX, sizeof(*run->batches));
	/* Most runs end early; one in four goes on into evictions. */
	ring.completions_max = 1 + (seed * 0x9e3779b97f4a7c15ull >> 32) % (seed % 4 == 3 ? COMPLETIONS_MAX : COMPLETIONS_MAX / 10);
	if (seed % 5 == 4) {
		ring.write_errors_one_in = 400;
		ring.sync_errors_one_in = 100;
	}
	sync_sim_begin(lying_site);
	CHECK(run_open(run, &ring));
	run_work(run);
	run_crash(run, kept);
	check_fsck(run);
	if (run_open(run, &(struct ring_sim_config){ .seed = seed + 1 })) {
		for (size_t i = 0; i < run->batches_count; i++)
			check_batch(run, &run->batches[i], kept[i]);
		run_close(run);
		check_fsck(run);
	}
	for (size_t i = 0; i < run->batches_count; i++)
		blob_free(&run->batches[i].root);
	free(run->batches);
	nftw(run->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static bool run_honest(uint64_t first, uint64_t seeds)
{
	uint64_t acknowledged = 0, evicted = 0, moved = 0, failures = 0;
	static struct run run;

	for (uint64_t seed = first; seed < first + seeds; seed++) {
		run_seed(seed, 0, SYNC_SITES, &run);
		acknowledged += run.acknowledged;
		evicted += run.evicted;
		moved += run.moved;
		if (!verdict)
			continue;
		printf("seed %" PRIu64 ": %s\n", seed, verdict);
		failures++;
	}
	printf("%" PRIu64 " power losses: %" PRIu64 " acknowledged batches, %" PRIu64 " evicted segments, %" PRIu64
	       " moved blobs, %" PRIu64 " failures\n", seeds, acknowledged, evicted, moved, failures);
	if (seeds >= 100 && (evicted == 0 || moved == 0 || acknowledged == 0)) {
		printf("the runs do not show what they are for\n");
		return false;
	}
	return failures == 0;
}

/* A site of fdatasync that lies must be noticed by some seed. */
static bool run_lying(uint64_t first, uint64_t seeds)
{
	uint32_t sites = ring_sim_sync_sites();
	bool noticed = sites > 0;

	for (uint32_t site = 1; site <= sites; site++) {
		uint64_t seed = first;
		static struct run run;

		do
			run_seed(seed++, site, SYNC_SITES, &run);
		while (!verdict && seed < first + seeds);
		if (verdict)
			printf("fdatasync site %u of %u lies: noticed with seed %" PRIu64 ": %s\n", site, sites, seed - 1, verdict);
		else
			printf("fdatasync site %u of %u lies, and %" PRIu64 " seeds do not notice\n", site, sites, seeds);
		noticed = noticed && verdict;
	}
	for (enum sync_site site = 0; site < SYNC_SITES; site++) {
		uint64_t seed = first;
		static struct run run;

		do
			run_seed(seed++, 0, site, &run);
		while (!verdict && seed < first + seeds);
		printf("the sync of %s lies: %s\n", sync_sim_name(site), verdict ? verdict : "not noticed");
		noticed = noticed && verdict;
	}
	return noticed;
}

int main(int argc, char **argv)
{
	const char *environment = getenv("SLUICE_SEEDS");
	uint64_t seeds = environment ? strtoull(environment, NULL, 10) : argc > 1 ? strtoull(argv[1], NULL, 10) : 200;
	uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	bool ok;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seeds %" PRIu64 " to %" PRIu64 "\n", first, first + seeds - 1);
	log_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_ERROR, false);
	for (size_t i = 0; i < CORPUS; i++)
		corpus[i] = blob_make(i, i % 50 == 0 ? 700000 : 1 + i * 61 % 40000);
	ok = run_honest(first, seeds);
	if (argc <= 2)
		ok = run_lying(first, seeds) && ok;
	for (size_t i = 0; i < CORPUS; i++)
		blob_free(&corpus[i]);
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
