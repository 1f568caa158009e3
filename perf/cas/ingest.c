/*
 * What does it cost to take files' bytes in as a client sends them (packets of 32 KiB, four files at a time), to name them
 * by content and to have them in the store: as small files, and as one large one? And to play them back? Compare the
 * digests alone: perf/chunker/hash.
 *
 *	ingest [DIRECTORY [MIB [FILE-BYTES]]]     /var/tmp, 1024, 16384
 */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "gateway/base/check.h"
#include "gateway/cas/ingest.h"
#include "gateway/cas/playback.h"

#define PACKET_BYTES 32768
#define OPEN         4

static struct ring *ring;
static struct cas cas;
static struct scope scope;
static uint8_t *data;
static uint64_t named;
static struct content_name *names;

struct sending {
	struct ingest_file file;
	uint64_t number, at, size;
};


static void on_named(struct ingest_file *file)
{
	struct sending *sending = container_of(file, struct sending, file);

	CHECK(file->result == STORE_OK);
	names[sending->number] = file->name;
	named++;
	free(sending);
}

static void on_room(struct ingest *ingest)
{
}

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void report(const char *what, double wall, double cpu, uint64_t bytes, uint64_t files)
{
	wall = seconds(CLOCK_MONOTONIC) - wall;
	cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	printf("%-32s %7.3f GB/s %7.3f CPU s/GB %9.0f files/s, %.3f s\n", what, (double)bytes / 1e9 / wall,
	       cpu / ((double)bytes / 1e9), (double)files / wall, wall);
}

/* The next packet of a file. True when that was taken. */
static bool send_packet(struct sending *sending)
{
	uint64_t left = sending->size - sending->at;
	size_t size = left < PACKET_BYTES ? (size_t)left : PACKET_BYTES, taken;

	taken = ingest_file_write(&sending->file, span_make(data + sending->number * sending->size + sending->at, size));
	sending->at += taken;
	return taken == size;
}

static void take_in(const char *what, uint64_t bytes, uint64_t file_bytes)
{
	static const struct ingest_events events = { .on_named = on_named, .on_room = on_room };
	struct ingest *ingest = ingest_create(&cas, &scope, &events, NULL);
	uint64_t count = bytes / file_bytes, begun = 0;
	double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	struct sending *open[OPEN] = { 0 };

	named = 0;
	while (named < count) {
		bool refused = false, idle = true;

		/* About what a receive brings. */
		for (unsigned i = 0; i < OPEN && !refused; i++) {
			if (!open[i] && begun < count) {
				open[i] = calloc(1, sizeof(*open[i]));
				open[i]->number = begun++;
				open[i]->size = file_bytes;
				ingest_file_begin(ingest, &open[i]->file, file_bytes);
			}
			if (!open[i])
				continue;
			idle = false;
			refused = !send_packet(open[i]);
			if (open[i]->at < open[i]->size)
				continue;
			ingest_file_end(&open[i]->file);
			open[i] = NULL;
		}
		ring_run(ring, refused || idle ? UINT64_MAX : 0);
	}
	report(what, wall, cpu, bytes, count);
	ingest_destroy(ingest);
	ring_run(ring, 0);
}


static bool ready;

static void on_ready(struct playback *playback, int result)
{
	CHECK(result == STORE_OK);
	ready = true;
}

static void on_data(struct playback *playback)
{
	ready = true;
}

static void on_failed(struct playback *playback, int result)
{
	CHECK(!"a playback fails");
}

#define PLAYS 64

static void play(const char *what, uint64_t bytes, uint64_t file_bytes)
{
	static const struct playback_events events = { .on_ready = on_ready, .on_data = on_data, .on_failed = on_failed };
	static struct playback playbacks[PLAYS];
	struct playbacks *set = playbacks_create(&cas, &scope, &events, NULL);
	uint64_t count = bytes / file_bytes, begun = 0, done = 0, sum = 0;
	double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);

	while (done < count) {
		ready = false;
		for (unsigned i = 0; i < PLAYS; i++) {
			struct playback *playback = &playbacks[i];
			struct span span;

			if (!playback->state && playback->name.size && playback_ended(playback)) {
				done++;
				*playback = (struct playback){ 0 };
			}
			if (!playback->state && begun < count)
				playback_start(set, playback, &names[begun++], 0);
			while ((span = playback_data(playback)).size) {
				sum += span.data[0];
				playback_taken(playback, span.size);
				ready = true;
			}
		}
		if (done < count)
			ring_run(ring, ready ? 0 : UINT64_MAX);
	}
	report(what, wall, cpu, bytes, count);
	CHECK(sum);
	playbacks_destroy(set);
	ring_run(ring, 0);
}

static void set_true(void *context)
{
	*(bool *)context = true;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

int main(int argc, char **argv)
{
	const char *parent = argc > 1 ? argv[1] : "/var/tmp";
	uint64_t bytes = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1024) << 20;
	uint64_t file_bytes = argc > 3 ? strtoull(argv[3], NULL, 10) : 16384;
	struct ring_config ring_config = { 0 };
	struct store_config config = { .ceiling_bytes = 4 * bytes + (64 << 20), .direct = true };
	struct sha256 hasher;
	char directory[4096], why[256], what[64];
	bool closed = false;

	data = malloc(bytes);
	names = calloc(bytes / file_bytes + 1, sizeof(*names));
	CHECK(data && names);
	for (uint64_t i = 0, word = 1; i < bytes; i += 8) {
		word = word * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(data + i, &(uint64_t){ word ^ word >> 29 }, 8);
	}
	snprintf(directory, sizeof(directory), "%s/sluice-perf-XXXXXX", parent);
	CHECK(mkdtemp(directory));
	config.path = directory;
	sha256_init(&hasher, SHA256_AUTO);
	CHECK(ring_create(&ring, &ring_config) == 0);
	CHECK(store_open(&cas.store, ring, &config, why, sizeof(why)) == 0);
	CHECK(store_scope(cas.store, span_text("a"), span_text(""), SCOPE_ALL, &scope) == 0);
	cas.ring = ring;
	cas.hasher = &hasher;
	cas_init(&cas);
	printf("%s, digests by %s\n", ring_engine_name(ring), sha256_backend_name(hasher.backend));
	snprintf(what, sizeof(what), "in as files of %llu", (unsigned long long)file_bytes);
	take_in(what, bytes, file_bytes);
	take_in("the same again", bytes, file_bytes);
	play("out again", bytes, file_bytes);
	take_in("in as one file", bytes, bytes);
	play("out again", bytes, bytes);
	store_close(cas.store, set_true, &closed);
	while (!closed)
		ring_run(ring, UINT64_MAX);
	ring_destroy(ring);
	nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(data);
	free(names);
	return 0;
}
