/* Jobs onto lanes: refill, padding, and the tail. */
#include "chunker/sha256_schedule.h"

#include <assert.h>
#include <string.h>

#define LENGTH_BYTES 8 /* the message's length in bits, at the end of the padding */

/* So many jobs at a time are put in order, by size classes of which each octave has four. */
#define ORDER_MAX 256
#define CLASSES   (4 * 64)

struct lane {
	struct sha256_job *job; /* NULL: idle */
	size_t before;          /* of a stream's: bytes ahead of the first whole block */
	size_t done;            /* bytes of the job that went through in whole blocks */
	size_t blocks;          /* left in what the lane reads now: the job's own blocks, then `tail` */
	bool in_tail;
	bool tail_begun; /* the first of the tail's two blocks went through: no way back to the chaining value before it */
	uint8_t tail[2 * SHA256_BLOCK_BYTES]; /* the last bytes that fill no block, and the padding */
};

struct schedule {
	struct sha256_lanes lanes;
	struct lane state[SHA256_LANES_MAX];
	size_t lane_count;
	size_t busy;
	struct sha256_job *jobs; /* that are not in order yet */
	size_t count;
	struct sha256_job *order[ORDER_MAX];
	size_t next, ordered;
	struct schedule *before; /* the stage that left jobs for this one; NULL: the first */
};

static const uint32_t initial_words[SHA256_WORDS] = {
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static void store_be(uint8_t *out, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static void lane_enter_tail(struct schedule *schedule, size_t index)
{
	struct lane *lane = &schedule->state[index];
	size_t rest = lane->job->size % SHA256_BLOCK_BYTES;
	size_t blocks = rest + 1 + LENGTH_BYTES <= SHA256_BLOCK_BYTES ? 1 : 2;
	size_t bytes = blocks * SHA256_BLOCK_BYTES;

	memset(lane->tail, 0, bytes);
	if (rest)
		memcpy(lane->tail, lane->job->data + lane->job->size - rest, rest);
	lane->tail[rest] = 0x80;
	store_be(lane->tail + bytes - LENGTH_BYTES, (uint64_t)lane->job->size * 8, LENGTH_BYTES);
	lane->in_tail = true;
	lane->blocks = blocks;
	schedule->lanes.data[index] = lane->tail;
}

static void lane_put_words(struct schedule *schedule, size_t index, const uint32_t words[static SHA256_WORDS])
{
	for (size_t i = 0; i < SHA256_WORDS; i++)
		schedule->lanes.words[i][index] = words[i];
}

static void lane_get_words(const struct schedule *schedule, size_t index, uint32_t words[static SHA256_WORDS])
{
	for (size_t i = 0; i < SHA256_WORDS; i++)
		words[i] = schedule->lanes.words[i][index];
}

/* A stream's whole blocks are the lane's work. What comes before them in a block that was begun is done here. */
static void lane_start_stream(struct schedule *schedule, size_t index)
{
	struct lane *lane = &schedule->state[index];
	struct sha256_job *job = lane->job;
	uint32_t words[SHA256_WORDS];
	size_t before = sha256_stream_wants(job->stream);

	if (before > job->size)
		before = job->size;
	sha256_stream_update(job->stream, job->data, before);
	lane->before = before;
	lane->blocks = (job->size - before) / SHA256_BLOCK_BYTES;
	if (lane->blocks == 0)
		return;
	sha256_stream_words(job->stream, words);
	lane_put_words(schedule, index, words);
	schedule->lanes.data[index] = job->data + before;
}

static void lane_start(struct schedule *schedule, size_t index, struct sha256_job *job)
{
	struct lane *lane = &schedule->state[index];

	lane->job = job;
	lane->done = 0;
	lane->before = 0;
	lane->in_tail = false;
	lane->tail_begun = false;
	schedule->busy++;
	if (job->stream) {
		lane_start_stream(schedule, index);
		return;
	}
	lane->blocks = job->size / SHA256_BLOCK_BYTES;
	lane_put_words(schedule, index, initial_words);
	if (lane->blocks)
		schedule->lanes.data[index] = job->data;
	else
		lane_enter_tail(schedule, index);
}

static void lane_stop(struct schedule *schedule, size_t index)
{
	schedule->state[index].job = NULL;
	schedule->busy--;
}

/* Out of the lane again, also in mid-work: what is left is done here. */
static void lane_end_stream(struct schedule *schedule, size_t index)
{
	struct lane *lane = &schedule->state[index];
	const struct sha256_job *job = lane->job;
	uint32_t words[SHA256_WORDS];
	size_t at = lane->before + lane->done;

	if (lane->done) {
		lane_get_words(schedule, index, words);
		sha256_stream_advanced(job->stream, words, lane->done);
	}
	if (at < job->size)
		sha256_stream_update(job->stream, job->data + at, job->size - at);
	lane_stop(schedule, index);
}

static size_t lane_blocks_left(const struct lane *lane)
{
	return lane->in_tail ? 0 : (lane->job->size - lane->before - lane->done) / SHA256_BLOCK_BYTES;
}

/* By its blocks: the leading bit and the two behind it. */
static size_t job_class(const struct sha256_job *job)
{
	uint64_t blocks = job->size / SHA256_BLOCK_BYTES + 4; /* four at least, so that there are two bits */
	unsigned top = 63 - (unsigned)__builtin_clzll(blocks);

	return 4 * top + ((blocks >> (top - 2)) & 3);
}

/* The longest first: what is begun last is what the lanes wait for in the end. */
static void jobs_order(struct schedule *schedule, size_t count)
{
	uint16_t starts[CLASSES] = { 0 };
	uint16_t sum = 0;

	for (size_t i = 0; i < count; i++)
		starts[job_class(&schedule->jobs[i])]++;
	for (size_t class = CLASSES; class > 0; class--) {
		uint16_t of_class = starts[class - 1];

		starts[class - 1] = sum;
		sum = (uint16_t)(sum + of_class);
	}
	for (size_t i = 0; i < count; i++)
		schedule->order[starts[job_class(&schedule->jobs[i])]++] = &schedule->jobs[i];
}

/* The next few jobs, in order where that can make a difference. */
static void jobs_take(struct schedule *schedule)
{
	size_t count = schedule->count < ORDER_MAX ? schedule->count : ORDER_MAX;

	if (schedule->count > schedule->lane_count) {
		jobs_order(schedule, count);
	} else {
		for (size_t i = 0; i < count; i++)
			schedule->order[i] = &schedule->jobs[i];
	}
	schedule->jobs += count;
	schedule->count -= count;
	schedule->next = 0;
	schedule->ordered = count;
}

/* There is one. */
static struct sha256_job *job_next(struct schedule *schedule)
{
	if (schedule->next == schedule->ordered)
		jobs_take(schedule);
	return schedule->order[schedule->next++];
}

static bool jobs_are_left(const struct schedule *schedule)
{
	return schedule->next < schedule->ordered || schedule->count;
}

/* The longest of what the stage before has left. None of it has begun its padding. */
static void lane_take_over(struct schedule *schedule, size_t index)
{
	struct schedule *before = schedule->before;
	uint32_t words[SHA256_WORDS];
	size_t longest = SIZE_MAX;

	for (size_t i = 0; i < before->lane_count; i++) {
		if (before->state[i].job && (longest == SIZE_MAX || lane_blocks_left(&before->state[i]) >
		                                                        lane_blocks_left(&before->state[longest])))
			longest = i;
	}
	lane_get_words(before, longest, words);
	lane_put_words(schedule, index, words);
	schedule->state[index] = before->state[longest];
	schedule->lanes.data[index] = before->lanes.data[longest];
	if (schedule->state[index].in_tail)
		lane_enter_tail(schedule, index);
	schedule->busy++;
	lane_stop(before, longest);
}

static void lanes_refill(struct schedule *schedule)
{
	for (size_t i = 0; schedule->before && i < schedule->lane_count && schedule->before->busy; i++) {
		if (!schedule->state[i].job)
			lane_take_over(schedule, i);
	}
	for (size_t i = 0; i < schedule->lane_count && jobs_are_left(schedule); i++) {
		while (!schedule->state[i].job && jobs_are_left(schedule)) {
			lane_start(schedule, i, job_next(schedule));
			if (schedule->state[i].blocks == 0)      /* of a stream */
				lane_end_stream(schedule, i);
		}
	}
}

static void lane_finish(struct schedule *schedule, size_t index)
{
	struct sha256_job *job = schedule->state[index].job;

	for (size_t i = 0; i < SHA256_WORDS; i++)
		store_be(job->digest + 4 * i, schedule->lanes.words[i][index], 4);
	lane_stop(schedule, index);
}

static void lane_advanced(struct schedule *schedule, size_t index, size_t blocks)
{
	struct lane *lane = &schedule->state[index];

	assert(lane->blocks >= blocks);
	lane->blocks -= blocks;
	schedule->lanes.data[index] += blocks * SHA256_BLOCK_BYTES;
	if (lane->in_tail)
		lane->tail_begun = true;
	else
		lane->done += blocks * SHA256_BLOCK_BYTES;
	if (lane->blocks)
		return;
	if (lane->in_tail)
		lane_finish(schedule, index);
	else if (lane->job->stream)
		lane_end_stream(schedule, index);
	else
		lane_enter_tail(schedule, index);
}

/* Runs all lanes as far as the nearest end in any of them. */
static void lanes_run(struct schedule *schedule, sha256_advance *advance)
{
	size_t blocks = SIZE_MAX;
	size_t nearest = 0;

	for (size_t i = 0; i < schedule->lane_count; i++) {
		if (schedule->state[i].job && schedule->state[i].blocks < blocks) {
			blocks = schedule->state[i].blocks;
			nearest = i;
		}
	}
	/* An idle lane must read something: it follows a busy one, for nothing. */
	for (size_t i = 0; i < schedule->lane_count; i++) {
		if (!schedule->state[i].job)
			schedule->lanes.data[i] = schedule->lanes.data[nearest];
	}
	advance(&schedule->lanes, blocks);
	for (size_t i = 0; i < schedule->lane_count; i++) {
		if (schedule->state[i].job)
			lane_advanced(schedule, i, blocks);
	}
}

/* OpenSSL pads by itself, so a lane that has begun its padding (it has one block to go) ends it here. */
static bool lanes_continue(const struct schedule *schedule, size_t busy_min)
{
	if (jobs_are_left(schedule) || (schedule->before && schedule->before->busy) || schedule->busy >= busy_min)
		return true;
	for (size_t i = 0; i < schedule->lane_count; i++) {
		if (schedule->state[i].job && schedule->state[i].tail_begun)
			return true;
	}
	return false;
}

static void lane_hand_over(struct schedule *schedule, size_t index)
{
	uint32_t words[SHA256_WORDS];

	if (schedule->state[index].job->stream) {
		lane_end_stream(schedule, index);
		return;
	}
	lane_get_words(schedule, index, words);
	sha256_resume(words, schedule->state[index].job, schedule->state[index].done);
	lane_stop(schedule, index);
}

static void stage_run(struct schedule *schedule, const struct sha256_stage *stage, struct schedule *before)
{
	assert(stage->lanes > 0);
	assert(stage->lanes <= SHA256_LANES_MAX);
	assert(stage->busy_min > 0);
	schedule->lane_count = stage->lanes;
	schedule->busy = 0;
	schedule->before = before;
	for (size_t i = 0; i < stage->lanes; i++)
		schedule->state[i].job = NULL;
	lanes_refill(schedule);
	while (lanes_continue(schedule, stage->busy_min)) {
		lanes_run(schedule, stage->advance);
		lanes_refill(schedule);
	}
}

void sha256_schedule_stages(const struct sha256_stage *stages, size_t stages_count, struct sha256_job *jobs, size_t count)
{
	struct schedule schedules[SHA256_STAGES_MAX], *last;

	assert(stages_count > 0);
	assert(stages_count <= SHA256_STAGES_MAX);
	last = &schedules[stages_count - 1];
	for (size_t i = 0; i < stages_count; i++) {
		schedules[i].jobs = i == 0 ? jobs : NULL;
		schedules[i].count = i == 0 ? count : 0;
		schedules[i].next = schedules[i].ordered = 0;
		stage_run(&schedules[i], &stages[i], i == 0 ? NULL : &schedules[i - 1]);
	}
	for (size_t i = 0; i < last->lane_count; i++) {
		if (last->state[i].job)
			lane_hand_over(last, i);
	}
	assert(last->busy == 0);
}

void sha256_schedule(sha256_advance *advance, size_t lanes, size_t busy_min, struct sha256_job *jobs, size_t count)
{
	sha256_schedule_stages(&(struct sha256_stage){ advance, lanes, busy_min }, 1, jobs, count);
}
