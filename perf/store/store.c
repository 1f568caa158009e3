/*
 * What does it cost to put blobs and have them durable, against plain pwrite(2) of the same bytes and one fdatasync?
 * And to look up and read them again? Digests are made up: hashing is measured elsewhere.
 *
 *	store [DIRECTORY [MIB [BLOB-BYTES]]]     /var/tmp, 1024, 65536
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/ring/ring.h"
#include "gateway/store/store.h"

#define PUT_BYTES   (4u << 20)           /* a batch as `sluice push` sends it */
#define ITEMS_MAX   16384
#define PLAIN_BYTES (1u << 20)

static struct ring *ring;
static struct store *store;
static uint8_t *data;
static size_t blob_bytes;

struct stopwatch {
	struct timespec wall, cpu;
};

static void stopwatch_start(struct stopwatch *watch)
{
	clock_gettime(CLOCK_MONOTONIC, &watch->wall);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &watch->cpu);
}

static double since(clockid_t clock, const struct timespec *start)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

static void stopwatch_stop(const struct stopwatch *watch, const char *what, uint64_t bytes, uint64_t count)
{
	double wall = since(CLOCK_MONOTONIC, &watch->wall), cpu = since(CLOCK_PROCESS_CPUTIME_ID, &watch->cpu);

	printf("%-40s %7.3f GB/s %7.3f CPU s/GB %7.2f us each, %.3f s\n", what, (double)bytes / 1e9 / wall,
	       cpu / ((double)bytes / 1e9), wall * 1e6 / (double)count, wall);
}

static void on_put(struct store_put *put)
{
	put->private = put;
}

static void on_sync(struct store_sync *sync)
{
	sync->ticket = UINT64_MAX;
}

static void make_digest(struct digest *digest, uint64_t number)
{
	*digest = (struct digest){ .size = blob_bytes };
	for (size_t i = 0; i < 4; i++) {
		uint64_t word = (number * 4 + i + 1) * 0x9e3779b97f4a7c15ull;

		word = (word ^ word >> 29) * 0xbf58476d1ce4e5b9ull;
		memcpy(digest->hash + 8 * i, &word, 8);
	}
}

static void sync_all(void)
{
	struct store_sync sync = { .fn = on_sync };

	store_sync(store, &sync);
	while (sync.ticket != UINT64_MAX)
		ring_run(ring, UINT64_MAX);
	CHECK(sync.result == STORE_OK);
}

static void put_all(const struct scope *scope, uint64_t count)
{
	static struct store_item items[ITEMS_MAX];
	size_t batch = PUT_BYTES / blob_bytes;

	for (uint64_t at = 0; at < count; at += batch) {
		struct store_put put = { .scope = *scope, .items = items, .count = batch, .fn = on_put };

		for (size_t i = 0; i < batch; i++) {
			make_digest(&items[i].digest, at + i);
			items[i].data = span_make(data + i * blob_bytes, blob_bytes);
		}
		store_put(store, &put);
		while (put.private != &put)
			ring_run(ring, UINT64_MAX);
		CHECK(put.result == STORE_OK);
	}
	sync_all();
}

static void on_lookup(struct store_lookup *lookup)
{
	lookup->result = 1;
}

static void lookup_all(const struct scope *scope, uint64_t count)
{
	static struct digest digests[ITEMS_MAX];
	static uint32_t places[ITEMS_MAX];

	for (uint64_t at = 0; at < count; at += ITEMS_MAX) {
		struct store_lookup lookup = {
			.scope = *scope, .digests = digests, .places = places, .fn = on_lookup,
			.count = count - at < ITEMS_MAX ? count - at : ITEMS_MAX,
		};

		for (size_t i = 0; i < lookup.count; i++)
			make_digest(&digests[i], at + i);
		store_lookup(store, &lookup);
		while (lookup.result != 1)
			ring_run(ring, UINT64_MAX);
		for (size_t i = 0; i < lookup.count; i++)
			CHECK(places[i] > 0);
	}
}

#define READS 16

static struct store_read reads[READS];
static unsigned reading;

static void on_read(struct store_read *read)
{
	CHECK(read->result == STORE_OK);
	read->private = NULL;
	reading--;
}

static void read_all(const struct scope *scope, uint64_t count)
{
	for (size_t i = 0; i < READS; i++)
		reads[i].buffer = malloc(blob_bytes + STORE_READ_EXTRA_BYTES);
	for (uint64_t at = 0; at < count || reading > 0;) {
		for (size_t i = 0; i < READS && at < count; i++) {
			if (reads[i].private)
				continue;
			reads[i].scope = *scope;
			reads[i].fn = on_read;
			reads[i].private = &reads[i];
			make_digest(&reads[i].digest, at++);
			reading++;
			store_read(store, &reads[i]);
		}
		if (reading > 0)
			ring_run(ring, UINT64_MAX);
	}
}

static void plain(const char *directory, uint64_t bytes, bool direct)
{
	struct stopwatch watch;
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/plain", directory);
	fd = open(path, O_RDWR | O_CREAT | (direct ? O_DIRECT : 0), 0600);
	CHECK(fd >= 0);
	CHECK(fallocate(fd, 0, 0, (off_t)bytes) == 0);
	stopwatch_start(&watch);
	for (uint64_t at = 0; at < bytes; at += PLAIN_BYTES)
		CHECK(pwrite(fd, data, PLAIN_BYTES, (off_t)at) == PLAIN_BYTES);
	CHECK(fdatasync(fd) == 0);
	stopwatch_stop(&watch, direct ? "pwrite 1 MiB O_DIRECT, fdatasync" : "pwrite 1 MiB, fdatasync", bytes,
	               bytes / blob_bytes);
	close(fd);
	unlink(path);
}

static void on_close(void *context)
{
	store = NULL;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

int main(int argc, char **argv)
{
	const char *parent = argc > 1 ? argv[1] : "/var/tmp";
	uint64_t bytes = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1024) << 20;
	struct ring_config ring_config = { 0 };
	struct store_config config = { .ceiling_bytes = 4 * bytes, .direct = true };
	struct scope a, b;
	struct stopwatch watch;
	char directory[4096], why[256];
	uint64_t count;

	blob_bytes = argc > 3 ? strtoull(argv[3], NULL, 10) : 65536;
	count = bytes / PUT_BYTES * (PUT_BYTES / blob_bytes);
	data = aligned_alloc(4096, PUT_BYTES);
	for (size_t i = 0; i < PUT_BYTES; i += 8)
		memcpy(data + i, &(uint64_t){ i * 0x9e3779b97f4a7c15ull }, 8);
	snprintf(directory, sizeof(directory), "%s/sluice-perf-XXXXXX", parent);
	CHECK(mkdtemp(directory));
	plain(directory, bytes, false);
	plain(directory, bytes, true);

	config.path = directory;
	CHECK(ring_create(&ring, &ring_config) == 0);
	CHECK(store_open(&store, ring, &config, why, sizeof(why)) == 0);
	CHECK(store_scope(store, span_text("a"), span_text(""), SCOPE_ALL, &a) == 0);
	CHECK(store_scope(store, span_text("b"), span_text(""), SCOPE_ALL, &b) == 0);
	stopwatch_start(&watch);
	put_all(&a, count);
	stopwatch_stop(&watch, "put and sync", count * blob_bytes, count);
	stopwatch_start(&watch);
	put_all(&b, count);
	stopwatch_stop(&watch, "put by another tenant and sync", count * blob_bytes, count);
	stopwatch_start(&watch);
	lookup_all(&a, count);
	stopwatch_stop(&watch, "look up", count * blob_bytes, count);
	stopwatch_start(&watch);
	read_all(&a, count);
	stopwatch_stop(&watch, "read from disk, 16 at a time", count * blob_bytes, count);
	stopwatch_start(&watch);
	read_all(&a, count);
	stopwatch_stop(&watch, "read again", count * blob_bytes, count);
	store_close(store, on_close, NULL);
	while (store)
		ring_run(ring, UINT64_MAX);
	ring_destroy(ring);
	nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(data);
	return 0;
}
