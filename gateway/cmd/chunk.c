/* sluice chunk: where a file would be cut, and the digest of each chunk, for anyone to check. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "chunker/fastcdc.h"
#include "chunker/profile.h"
#include "chunker/sha256.h"
#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/options.h"

enum {
	BATCH_MAX = 64,                  /* chunks hashed together */
	READ_AHEAD_BYTES = 8 << 20,      /* buffered beyond one longest chunk */
};

struct chunk_options {
	uint64_t average, seed;
};

#define MEMBER(name) offsetof(struct chunk_options, name)
static const struct option chunk_options[] = {
	{ .name = "average", .kind = OPTION_BYTES, .offset = MEMBER(average), .argument = "SIZE",
	  .help = "average chunk, a power of two from 1KiB to 8MiB; the least is a quarter of it, the most four times it; "
	          "without it the file's own profile decides" },
	{ .name = "seed", .kind = OPTION_NUMBER, .offset = MEMBER(seed), .argument = "NUMBER", .fallback = "0",
	  .most = UINT32_MAX, .help = "seed of the gear table" },
};
#undef MEMBER
static const struct option_group chunk_group = OPTION_GROUP("Options", chunk_options);
static const struct option_group *const chunk_groups[] = { &chunk_group, NULL };

/* The file's bytes from `offset` on that are in memory. */
struct window {
	int fd;
	uint8_t *bytes;
	size_t size, room;
	uint64_t offset;
	bool ended;
};

/* Reads until the window is full or the file ends. */
static int window_fill(struct window *window)
{
	while (!window->ended && window->size < window->room) {
		ssize_t n = read(window->fd, window->bytes + window->size, window->room - window->size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		window->ended = n == 0;
		window->size += (size_t)n;
	}
	return 0;
}

static void print_chunks(uint64_t offset, const struct sha256_job *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		printf("%" PRIu64 " %zu ", offset, jobs[i].size);
		for (size_t b = 0; b < SHA256_BYTES; b++)
			printf("%02x", jobs[i].digest[b]);
		putchar('\n');
		offset += jobs[i].size;
	}
}

/* Cuts, hashes and prints what is certain in the window; drops it. */
static void window_chunk(struct window *window, const struct fastcdc *fastcdc, const struct sha256 *hasher)
{
	size_t at = 0;

	for (;;) {
		struct sha256_job jobs[BATCH_MAX];
		size_t count = 0, start = at;

		while (count < BATCH_MAX && at < window->size && (window->ended || window->size - at >= fastcdc->max)) {
			size_t size = fastcdc_cut(fastcdc, window->bytes + at, window->size - at);

			jobs[count++] = (struct sha256_job){ .data = window->bytes + at, .size = size };
			at += size;
		}
		if (count == 0)
			break;
		sha256_batch(hasher, jobs, count);
		print_chunks(window->offset + start, jobs, count);
	}
	window->size -= at;
	window->offset += at;
	memmove(window->bytes, window->bytes + at, window->size);
}

/* Which cuts: what was asked for, or what sluice itself would take for a file with this head. */
static bool choose_cuts(const struct chunk_options *chunk, const struct window *window, struct fastcdc *fastcdc)
{
	struct fastcdc_params params;
	const struct fastcdc *own;

	if (!chunk->average) {
		own = profile_fastcdc(profile_for(window->bytes, window->size));
		params = (struct fastcdc_params){ .min = own->min, .average = own->average, .max = own->max,
			                          .seed = (uint32_t)chunk->seed, .level = FASTCDC_LEVEL_REAPI };
		return fastcdc_init(fastcdc, &params);
	}
	if (chunk->average > FASTCDC_AVERAGE_MAX)
		return false;
	params = fastcdc_params_reapi((uint32_t)chunk->average, (uint32_t)chunk->seed);
	return fastcdc_init(fastcdc, &params);
}

static int chunk_window(const struct chunk_options *chunk, struct window *window, const char *path)
{
	struct fastcdc fastcdc;
	struct sha256 hasher;
	int r = window_fill(window);

	if (r)
		return command_fail(&command_chunk, "%s: %s", path, strerror(-r));
	if (!choose_cuts(chunk, window, &fastcdc))
		return command_usage(&command_chunk, "--average: %" PRIu64 " is not a power of two from 1KiB to 8MiB",
		                     chunk->average);
	sha256_init(&hasher, SHA256_AUTO);
	while (r == 0 && window->size) {
		window_chunk(window, &fastcdc, &hasher);
		r = window_fill(window);
	}
	return r ? command_fail(&command_chunk, "%s: %s", path, strerror(-r)) : STATUS_OK;
}

static int chunk_file(const struct chunk_options *chunk, const char *path)
{
	bool standard_input = strcmp(path, "-") == 0;
	CLEANUP(fd_closep) int fd = standard_input ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	struct window window = { .fd = fd, .room = FASTCDC_CHUNK_MAX + READ_AHEAD_BYTES };
	int status;

	if (fd < 0)
		return command_fail(&command_chunk, "%s: %s", path, strerror(errno));
	window.bytes = malloc(window.room);
	if (!window.bytes) {
		command_fail(&command_chunk, "out of memory");
		return STATUS_EXHAUSTED;
	}
	status = chunk_window(chunk, &window, path);
	free(window.bytes);
	return status;
}

static int chunk_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct chunk_options chunk;
	void *const values[] = { &chunk };
	int status;

	if (!options_parse(&options, &command_chunk, values, argc, argv, &status))
		return status;
	if (options.operand_count != 1)
		return command_usage(&command_chunk, "one FILE is needed; - is standard input");
	return chunk_file(&chunk, options.operands[0]);
}

const struct command command_chunk = {
	.name = "chunk",
	.summary = "print where a file is cut, and the digest of each chunk",
	.help = "Prints `OFFSET LENGTH SHA-256` for each chunk of FILE (`-`: standard input), cut by FastCDC-2020 as the\n"
	        "Remote Execution API defines it, so that other programs' cuts can be compared.\n\n"
	        "  sluice chunk --average 512KiB linux.tar",
	.run = chunk_run,
	.operands = "FILE",
	.groups = chunk_groups,
};
