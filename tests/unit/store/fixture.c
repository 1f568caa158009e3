/* Blocking helpers around a store. */
#include "tests/unit/store/fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/store/index_delay.h"

#define RUN_SECONDS_MAX 20

/* ---- the store ---- */

static const struct index_engine *chosen_index;

void fixture_choose_index(const char *name)
{
	static const struct index_engine *const engines[] = { &index_late, &index_stale };

	for (size_t i = 0; name && i < sizeof(engines) / sizeof(*engines); i++)
		if (strcmp(engines[i]->name, name) == 0)
			chosen_index = engines[i];
}

static enum ring_engine chosen_ring = RING_ENGINE_AUTO;

void fixture_choose_ring(const char *name)
{
	if (name && strcmp(name, "epoll") == 0)
		chosen_ring = RING_ENGINE_EPOLL;
}

void fixture_init(struct fixture *fixture)
{
	*fixture = (struct fixture){ 0 };
	snprintf(fixture->path, sizeof(fixture->path), "/var/tmp/sluice-store-XXXXXX");
	assert_non_null(mkdtemp(fixture->path));
	fixture->config = (struct store_config){
		.path = fixture->path,
		.ceiling_bytes = 64 << 20,
		.direct = true,
		.references = test_references,
		.index = chosen_index,
	};
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void fixture_fini(struct fixture *fixture)
{
	if (fixture->store)
		fixture_close(fixture);
	nftw(fixture->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int fixture_setup(void **state)
{
	struct fixture *fixture = malloc(sizeof(*fixture));

	fixture_init(fixture);
	*state = fixture;
	return 0;
}

int fixture_teardown(void **state)
{
	fixture_fini(*state);
	free(*state);
	return 0;
}

void fixture_open(struct fixture *fixture)
{
	struct ring_config ring = { .engine = chosen_ring };
	char why[256];
	int r;

	assert_int_equal(ring_create(&fixture->ring, &ring), 0);
	r = store_open(&fixture->store, fixture->ring, &fixture->config, why, sizeof(why));
	if (r)
		fail_msg("store_open: %s", why);
	assert_int_equal(store_scope(fixture->store, span_text("a"), span_text(""), SCOPE_ALL, &fixture->a), 0);
	assert_int_equal(store_scope(fixture->store, span_text("b"), span_text(""), SCOPE_ALL, &fixture->b), 0);
}

static void set_true(void *context)
{
	*(bool *)context = true;
}

void fixture_close(struct fixture *fixture)
{
	bool closed = false;

	store_close(fixture->store, set_true, &closed);
	fixture->store = NULL;
	run_until(fixture, &closed);
	ring_destroy(fixture->ring);
	fixture->ring = NULL;
}

void fixture_crash(struct fixture *fixture)
{
	char command[256];

	snprintf(command, sizeof(command), "cp -a %s %s.crash", fixture->path, fixture->path);
	assert_int_equal(system(command), 0);
	fixture_close(fixture);
	snprintf(command, sizeof(command), "rm -rf %s && mv %s.crash %s", fixture->path, fixture->path, fixture->path);
	assert_int_equal(system(command), 0);
}

void run_until(struct fixture *fixture, const bool *done)
{
	uint64_t end_ns = ring_now_ns(fixture->ring) + RUN_SECONDS_MAX * 1000000000ull;

	while (!*done) {
		ring_run(fixture->ring, 100000000);
		if (ring_now_ns(fixture->ring) > end_ns)
			fail_msg("the store did not answer in %d s", RUN_SECONDS_MAX);
	}
}

/* ---- blocking calls ---- */

struct wait_put {
	struct store_put put;
	bool done;
};

static void on_put(struct store_put *put)
{
	container_of(put, struct wait_put, put)->done = true;
}

int put_blobs(struct fixture *fixture, const struct scope *scope, const struct blob *blobs, size_t count)
{
	struct store_item *items = calloc(count, sizeof(*items));
	struct wait_put wait = { .put = { .scope = *scope, .items = items, .count = count, .fn = on_put } };

	for (size_t i = 0; i < count; i++) {
		items[i].digest = blobs[i].digest;
		items[i].data = span_make(blobs[i].data, (size_t)blobs[i].digest.size);
	}
	store_put(fixture->store, &wait.put);
	run_until(fixture, &wait.done);
	free(items);
	return wait.put.result;
}

int put_blob(struct fixture *fixture, const struct scope *scope, const struct blob *blob)
{
	return put_blobs(fixture, scope, blob, 1);
}

struct wait_sync {
	struct store_sync sync;
	bool done;
};

static void on_sync(struct store_sync *sync)
{
	container_of(sync, struct wait_sync, sync)->done = true;
}

int sync_store(struct fixture *fixture)
{
	struct wait_sync wait = { .sync = { .fn = on_sync } };

	store_sync(fixture->store, &wait.sync);
	run_until(fixture, &wait.done);
	return wait.sync.result;
}

struct wait_lookup {
	struct store_lookup lookup;
	bool done;
};

static void on_lookup(struct store_lookup *lookup)
{
	container_of(lookup, struct wait_lookup, lookup)->done = true;
}

/* `size` NULL: the digest says it. */
static uint32_t lookup_one(struct fixture *fixture, const struct scope *scope, const struct digest *digest, uint64_t *size)
{
	uint32_t place = 0;
	struct wait_lookup wait = {
		.lookup = { .scope = *scope, .digests = digest, .count = 1, .places = &place, .sizes = size, .fn = on_lookup },
	};

	store_lookup(fixture->store, &wait.lookup);
	run_until(fixture, &wait.done);
	assert_int_equal(wait.lookup.result, 0);
	return place;
}

/* What is there by its digest is there by its hash alone, which tells the size. */
uint32_t lookup_blob(struct fixture *fixture, const struct scope *scope, const struct digest *digest)
{
	uint32_t place = lookup_one(fixture, scope, digest, NULL);
	struct digest hash = *digest;
	uint64_t size = 0;

	hash.size = 0;
	if (place && digest->size) {
		assert_int_equal(lookup_one(fixture, scope, &hash, &size), place);
		assert_int_equal(size, digest->size);
	}
	return place;
}

struct wait_read {
	struct store_read read;
	bool done;
};

static void on_read(struct store_read *read)
{
	container_of(read, struct wait_read, read)->done = true;
}

int read_blob(struct fixture *fixture, const struct scope *scope, const struct blob *blob)
{
	uint8_t *buffer = malloc((size_t)blob->digest.size + STORE_READ_EXTRA_BYTES);
	struct wait_read wait = {
		.read = { .scope = *scope, .digest = blob->digest, .buffer = buffer, .fn = on_read },
	};

	store_read(fixture->store, &wait.read);
	run_until(fixture, &wait.done);
	if (wait.read.result == STORE_OK) {
		assert_int_equal(wait.read.blob.size, blob->digest.size);
		if (blob->digest.size)
			assert_memory_equal(wait.read.blob.data, blob->data, blob->digest.size);
	}
	free(buffer);
	return wait.read.result;
}

struct wait_pin {
	struct store_pin pin;
	bool done;
};

static void on_pin(struct store_pin *pin)
{
	container_of(pin, struct wait_pin, pin)->done = true;
}

int pin_root(struct fixture *fixture, const struct scope *scope, const struct digest *root, uint64_t expires_wall_ns)
{
	struct wait_pin wait = {
		.pin = { .scope = *scope, .root = *root, .expires_wall_ns = expires_wall_ns, .note = "test", .fn = on_pin },
	};

	store_pin(fixture->store, &wait.pin);
	run_until(fixture, &wait.done);
	return wait.pin.result;
}

struct wait_marks {
	struct store_marks marks;
	bool done;
};

static void on_marks(struct store_marks *marks)
{
	container_of(marks, struct wait_marks, marks)->done = true;
}

bool mark_write(struct fixture *fixture, const struct scope *scope, const struct digest *directory, uint64_t sequence,
                const uint32_t *places, size_t places_count)
{
	uint8_t *rest = calloc(1, store_rest_bytes(fixture->store));
	struct wait_marks wait = {
		.marks = {
			.scope = *scope, .directories = directory, .count = 1, .rests = rest, .fn = on_marks,
			.sequence = sequence,
		},
	};

	for (size_t i = 0; i < places_count; i++)
		store_rest_add(rest, places[i]);
	store_marks_write(fixture->store, &wait.marks);
	run_until(fixture, &wait.done);
	free(rest);
	return wait.marks.result == STORE_OK;
}

bool mark_fresh(struct fixture *fixture, const struct scope *scope, const struct digest *directory)
{
	bool whole = false;
	struct wait_marks wait = {
		.marks = { .scope = *scope, .directories = directory, .count = 1, .whole = &whole, .fn = on_marks },
	};

	store_marks_lookup(fixture->store, &wait.marks);
	run_until(fixture, &wait.done);
	assert_int_equal(wait.marks.result, 0);
	return whole;
}

struct one_row {
	struct index_apply apply;
	enum index_table table;
	struct span key, value;
	bool done;
};

static bool next_row(struct index_apply *apply, struct index_change *change)
{
	struct one_row *row = container_of(apply, struct one_row, apply);

	if (row->done)
		return false;
	*change = (struct index_change){ .kind = INDEX_PUT, .table = row->table, .value = row->value };
	change->key_size = row->key.size;
	memcpy(change->key, row->key.data, row->key.size);
	return row->done = true;
}

void put_row(const struct fixture *fixture, enum index_table table, struct span key, struct span value)
{
	struct one_row row = { .apply = { .next = next_row }, .table = table, .key = key, .value = value };
	struct index_config config = { .map_bytes = 16 << 20, .sparse = true };
	struct index *index;

	config.dir_fd = open(fixture->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(index_lmdb.open(&index, &config), 0);
	assert_int_equal(index_lmdb.apply_now(index, &row.apply), 0);
	index_lmdb.close(index);
	close(config.dir_fd);
}

/* ---- the directory ---- */

static uint64_t usage_sum;

static int usage_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	usage_sum += (uint64_t)st->st_blocks * 512;
	return 0;
}

uint64_t disk_usage(const struct fixture *fixture)
{
	usage_sum = 0;
	assert_int_equal(nftw(fixture->path, usage_entry, 16, FTW_PHYS), 0);
	return usage_sum;
}

unsigned damage_blob(const struct fixture *fixture, const struct blob *blob)
{
	char path[512];
	unsigned count = 0;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/segments", fixture->path);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		uint8_t *bytes, *at;
		struct stat st;
		int fd;

		snprintf(path, sizeof(path), "%s/segments/%s", fixture->path, entry->d_name);
		if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
			continue;
		fd = open(path, O_RDWR);
		assert_true(fd >= 0);
		bytes = malloc((size_t)st.st_size);
		assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
		for (at = bytes; (at = memmem(at, (size_t)(bytes + st.st_size - at), blob->data, blob->digest.size)); at++) {
			uint8_t flipped = *at ^ 0x40;

			assert_int_equal(pwrite(fd, &flipped, 1, at - bytes), 1);
			count++;
		}
		free(bytes);
		close(fd);
	}
	closedir(dir);
	return count;
}

static void print_problem(void *context, const char *line)
{
	print_message("fsck: %s\n", line);
}

int fsck_store(struct fixture *fixture, bool repair, struct fsck_report *report)
{
	return store_fsck(fixture->path, repair, report, print_problem, NULL);
}
