/*
 * What does it cost to be asked which of 100,000 blobs are there? Half of them are. As a Query comes: digest lists of 16,384,
 * parsed, looked up in one store, answered as a bit list; the index warm, on one core. Beside it, in the same run, a table in
 * memory of the same names (open addressing, nothing else), and memcmp's bound: parsing alone. What the limit holds for is asked again
 * and again, as builds of one tree do, so the store recalls the rows (gateway/store/recall.h). Asked for the first time they come from
 * the database, but for those of the 500,000 that were written last, and that is shown, too.
 *
 *	index [DIRECTORY [ENTRIES]] [--json FILE]     /var/tmp, 1000000
 *
 * At most 40 ms of CPU with 10^6 entries. More of them are measured after 10^6 in the same run, and may cost three times as much as
 * long as their index is in memory. 10^8 want 26 GB of disk, 15 of memory and a minute; none may be evicted.
 */
#include <endian.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/ring/ring.h"
#include "gateway/store/store.h"
#include "perf/bench.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"

#define ASKED      100000u
#define BLOB_BYTES 8u
#define PUT_ITEMS  8192u
#define TARGET_MS  40.0
#define ENTRIES    1000000u /* that this is the target for; */
#define GROWTH_MAX 3.0      /* beyond, so many times of what these cost */
#define CPU_GROUP  "CPU of the store's look-ups"
#define NAME_BYTES 260u     /* that one takes on the disk, half of them of the index */

static struct ring *ring;
static struct store *store;
static struct scope scope;
static uint64_t entries;
static struct buffer lists[ASKED / SLUICE_LIST_MAX + 1];
static size_t lists_count;
static uint64_t *table, table_mask;
static size_t found;
static double cpu_first; /* of the first of the store's runs */
static double cpu_least; /* of the store's runs: what others do on the machine meanwhile is not in it */

/*
 * A name that no other number has. Those below `entries` begin with their share of all names, so that a store is filled in the order
 * of its index: 8,192 names without order rewrite nearly as many leaves, and 10^8 of them 400 GB. Those above are in no store.
 */
static void make_digest(struct digest *digest, uint64_t number)
{
	uint64_t state = (number + 1) * 0x9e3779b97f4a7c15ull;

	*digest = (struct digest){ .size = BLOB_BYTES };
	for (size_t i = 0; i < 4; i++) {
		state = (state ^ state >> 30) * 0xbf58476d1ce4e5b9ull;
		state = (state ^ state >> 27) * 0x94d049bb133111ebull;
		state ^= state >> 31;
		memcpy(digest->hash + 8 * i, &state, 8);
	}
	if (number < entries) {
		uint64_t first = htobe64(UINT64_MAX / entries * number);

		memcpy(digest->hash, &first, 8);
	}
}

static void on_put(struct store_put *put)
{
	put->private = put;
}

static void on_sync(struct store_sync *sync)
{
	sync->ticket = UINT64_MAX;
}

static void fill(void)
{
	static struct store_item items[PUT_ITEMS];
	static uint8_t bytes[BLOB_BYTES];
	struct store_sync sync = { .fn = on_sync };

	for (uint64_t at = 0; at < entries; at += PUT_ITEMS) {
		struct store_put put = { .scope = scope, .items = items, .fn = on_put };

		for (put.count = 0; put.count < PUT_ITEMS && at + put.count < entries; put.count++) {
			make_digest(&items[put.count].digest, at + put.count);
			items[put.count].data = span_make(bytes, sizeof(bytes));
		}
		store_put(store, &put);
		while (put.private != &put)
			ring_run(ring, UINT64_MAX);
		CHECK(put.result == STORE_OK);
	}
	store_sync(store, &sync);
	while (sync.ticket != UINT64_MAX)
		ring_run(ring, UINT64_MAX);
	CHECK(sync.result == STORE_OK);
}

static uint64_t asked_number(uint64_t i)
{
	uint64_t spread = i * 0x9e3779b97f4a7c15ull >> 1;

	return i % 2 ? spread % entries : entries + i;
}

static void make_lists(void)
{
	for (uint64_t i = 0; i < ASKED; i++) {
		struct digest digest;

		if (i % SLUICE_LIST_MAX == 0)
			lists[lists_count++] = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
		make_digest(&digest, asked_number(i));
		digest_list_put(&lists[lists_count - 1], &digest);
	}
	for (table_mask = 1; table_mask < 2 * entries; table_mask *= 2)
		;
	table = calloc(table_mask, sizeof(*table));
	CHECK(table);
	table_mask--;
	for (uint64_t i = 0; i < entries; i++) {
		struct digest digest;
		uint64_t name;

		make_digest(&digest, i);
		memcpy(&name, digest.hash + 8, 8);
		for (uint64_t at = name & table_mask;; at = (at + 1) & table_mask) {
			if (table[at])
				continue;
			table[at] = name;
			break;
		}
	}
}

/* ---- what is measured ---- */

static struct digest digests[SLUICE_LIST_MAX];
static bool present[SLUICE_LIST_MAX];
static uint32_t places[SLUICE_LIST_MAX];

static size_t parse(size_t list)
{
	struct span rest = buffer_span(&lists[list]);
	size_t count = digest_list_count(rest);

	for (size_t i = 0; i < count; i++)
		digest_list_next(&rest, &digests[i]);
	return count;
}

static void answer(size_t count)
{
	struct buffer out = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);

	for (size_t i = 0; i < count; i++)
		found += present[i];
	bit_list_put(&out, 1, present, count);
	buffer_fini(&out);
}

static void run_parse(const uint8_t *data, size_t size, const void *argument)
{
	for (size_t list = 0; list < lists_count; list++) {
		size_t count = parse(list);

		for (size_t i = 0; i < count; i++)
			present[i] = digests[i].hash[0] & 1;
		answer(count);
	}
}

static void run_table(const uint8_t *data, size_t size, const void *argument)
{
	for (size_t list = 0; list < lists_count; list++) {
		size_t count = parse(list);

		for (size_t i = 0; i < count; i++) {
			uint64_t name, at;

			memcpy(&name, digests[i].hash + 8, 8);
			for (at = name & table_mask; table[at] && table[at] != name; at = (at + 1) & table_mask)
				;
			present[i] = table[at] == name;
		}
		answer(count);
	}
}

static void on_lookup(struct store_lookup *lookup)
{
	lookup->scope.rights = 0;
}

static double cpu_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run_store(const uint8_t *data, size_t size, const void *argument)
{
	double begin = cpu_seconds(), took;

	for (size_t list = 0; list < lists_count; list++) {
		struct store_lookup lookup = { .scope = scope, .digests = digests, .places = places, .fn = on_lookup };

		lookup.count = parse(list);
		store_lookup(store, &lookup);
		while (lookup.scope.rights)
			ring_run(ring, 0);
		CHECK(lookup.result == 0);
		for (size_t i = 0; i < lookup.count; i++)
			present[i] = places[i] != 0;
		answer(lookup.count);
	}
	took = cpu_seconds() - begin;
	if (cpu_first == 0)
		cpu_first = took;
	if (took < cpu_least)
		cpu_least = took;
}

static void set_true(void *context)
{
	*(bool *)context = true;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static long major_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_majflt;
}

static void store_make(char *directory)
{
	/* The index may have a sixteenth of the ceiling, and names are evicted from five eighths of that on: each takes 120 bytes of it. */
	struct store_config config = { .direct = true, .path = directory, .ceiling_bytes = entries * 4300 + (256u << 20) };
	char why[256];

	CHECK(mkdtemp(directory));
	CHECK(ring_create(&ring, &(struct ring_config){ 0 }) == 0);
	CHECK(store_open(&store, ring, &config, why, sizeof(why)) == 0);
	CHECK(store_scope(store, span_text("a"), span_text(""), SCOPE_ALL, &scope) == 0);
	fill();
}

static void store_take_away(const char *directory)
{
	bool closed = false;

	store_close(store, set_true, &closed);
	while (!closed)
		ring_run(ring, UINT64_MAX);
	ring_destroy(ring);
	nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	for (; lists_count; lists_count--)
		buffer_fini(&lists[lists_count - 1]);
	free(table);
}

/* Fills a store with `count` entries and asks it. Returns the milliseconds of CPU, and whether all of it was in memory. */
static double measure(struct bench_report *report, const char *parent, uint64_t count, bool *in_memory)
{
	struct bench benches[] = {
		{ "parsing alone", run_parse, NULL, { 0 } },
		{ "a table in memory", run_table, NULL, { 0 } },
		{ "the store", run_store, NULL, { 0 } },
	};
	struct store_status status;
	char directory[4096], group[64];
	double begin = bench_seconds();
	long faults;

	entries = count;
	found = 0;
	cpu_first = 0;
	cpu_least = 1e9;
	snprintf(directory, sizeof(directory), "%s/sluice-perf-XXXXXX", parent);
	store_make(directory);
	make_lists();
	store_status(store, &status);
	printf("%llu entries, index of %.1f MB, made in %.0f s; %u asked for, half present\n", (unsigned long long)entries,
	       (double)status.index_bytes / 1e6, bench_seconds() - begin, ASKED);
	run_store(NULL, 0, NULL); /* what it reads from the disk is no look-up's of those that count */
	CHECK(found == ASKED / 2); /* none was evicted */
	faults = major_faults();
	snprintf(group, sizeof(group), "%llu entries", (unsigned long long)entries);
	bench_all(report, group, benches, sizeof(benches) / sizeof(benches[0]), NULL, ASKED * 33);
	faults = major_faults() - faults;
	*in_memory = faults == 0;
	CHECK(found);
	printf("the store, asked for the first time: %.1f ms of CPU\n", cpu_first * 1e3);
	snprintf(group, sizeof(group), "%llu entries, asked for the first time", (unsigned long long)entries);
	bench_value(report, CPU_GROUP, group, cpu_first * 1e3, "ms");
	printf("the store: %.1f ms of CPU, %.0f ns each (wall %.1f ms, median %.1f); %ld reads of the index from the disk\n\n", cpu_least * 1e3,
	       cpu_least * 1e9 / ASKED, bench_least(&benches[2]) * 1e3, bench_median(&benches[2]) * 1e3, faults);
	store_take_away(directory);
	return cpu_least * 1e3;
}

static bool judge(const char *what, double value, double most, const char *unit)
{
	printf("%s: %.1f%s, at most %.1f: %s\n", what, value, unit, most, value <= most ? "yes" : "NO");
	return value <= most;
}

static bool has_room(const char *parent, uint64_t count)
{
	struct statvfs disk;

	if (statvfs(parent, &disk) < 0) {
		perror(parent);
		return false;
	}
	if (disk.f_bavail * disk.f_frsize >= count * NAME_BYTES)
		return true;
	fprintf(stderr, "index: %llu entries want %.1f GB, and %s has %.1f GB free\n", (unsigned long long)count,
	        (double)(count * NAME_BYTES) / 1e9, parent, (double)(disk.f_bavail * disk.f_frsize) / 1e9);
	return false;
}

int main(int argc, char **argv)
{
	const char *parent = argc > 1 && argv[1][0] != '-' ? argv[1] : "/var/tmp";
	uint64_t wanted = argc > 2 && argv[1][0] != '-' && argv[2][0] != '-' ? strtoull(argv[2], NULL, 10) : ENTRIES;
	struct bench_report report = bench_report_open(bench_option(argc, argv, "--json"));
	bool in_memory, good;
	char name[64];
	double base;

	log_setup(STDERR_FILENO, LOG_WARNING, false);
	if (!has_room(parent, wanted))
		return 1;
	base = measure(&report, parent, wanted < ENTRIES ? wanted : ENTRIES, &in_memory);
	good = judge("ms of CPU", base, TARGET_MS, "");
	snprintf(name, sizeof(name), "%llu entries", (unsigned long long)entries);
	bench_value(&report, CPU_GROUP, name, base, "ms");
	if (wanted > ENTRIES) {
		double large = measure(&report, parent, wanted, &in_memory);

		if (!in_memory)
			printf("the index was not all in memory: no limit is set for that\n");
		good &= judge("of the CPU with 10^6 entries", large / base, GROWTH_MAX, "x") || !in_memory;
		snprintf(name, sizeof(name), "%llu entries%s", (unsigned long long)wanted, in_memory ? "" : ", partly on disk");
		bench_value(&report, CPU_GROUP, name, large, "ms");
	}
	bench_report_close(&report);
	return !good;
}
