/* From a directory to a committed root. */
#include "gateway/cmd/pushing.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chunker/sha256.h"
#include "gateway/base/clock.h"
#include "gateway/base/units.h"
#include "gateway/cmd/session.h"
#include "gateway/context/snapshots.h"
#include "gateway/upload/level.h"

#define PUSHING_ATTEMPTS 4               /* a tree that changes under every one of these is not pushed */

const char *const pushing_compressions[] = { "auto", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14",
	                                     "15", "16", "17", "18", "19", NULL };

int pushing_level(int compression)
{
	return compression == 0 ? LEVEL_AUTO : compression - 1;
}

struct pushing_state {
	struct pushing *pushing;
	pthread_mutex_t mutex;           /* of the progress: a scan and an upload may go on at the same time */
	struct progress_vertex *scan, *send;
	struct manifest *manifest;       /* as far as there is one */
	int scanned;                     /* the exit status of the scan */
	bool read_all;                   /* the snapshot was found to be wrong */
	struct ignore_file ignore;       /* that the user named */
	char snapshot[PATH_MAX];
};

static bool make_directories(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return false;
		*slash = '/';
	}
	return true;
}

bool pushing_snapshot_path(const char *directory, char *path, size_t path_size)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	struct digest name = { 0 };
	char real[PATH_MAX], hex[DIGEST_HEX_BYTES];
	int size;

	if (!realpath(directory, real))
		return false;
	sha256_once((const uint8_t *)real, strlen(real), name.hash);
	digest_hex(&name, hex);
	if (cache && *cache == '/')
		size = snprintf(path, path_size, "%s/sluice/snapshots/%.*s", cache, SNAPSHOTS_NAME_DIGITS, hex);
	else if (home && *home == '/')
		size = snprintf(path, path_size, "%s/.cache/sluice/snapshots/%.*s", home, SNAPSHOTS_NAME_DIGITS, hex);
	else
		return false;
	return size > 0 && (size_t)size < path_size && make_directories(path);
}

static void on_scan(void *context, uint64_t entries, uint64_t files_read, uint64_t bytes_read)
{
	struct pushing_state *state = context;
	char detail[64], bytes[24];

	pthread_mutex_lock(&state->mutex);
	if (session_interrupted()) {             /* nothing is under way that anybody would have to hear of */
		progress_end(state->scan, PROGRESS_ERROR, "interrupted");
		progress_destroy(state->pushing->progress);
		_exit(STATUS_INTERRUPTED);
	}
	if (files_read)
		snprintf(detail, sizeof(detail), "%llu read, %s", (unsigned long long)files_read,
		         units_format_bytes(bytes_read, bytes));
	progress_update(state->scan, entries, 0, PROGRESS_ENTRIES, files_read ? detail : NULL);
	pthread_mutex_unlock(&state->mutex);
}

static void on_upload(void *context, enum upload_phase phase, uint64_t done, uint64_t total)
{
	struct pushing_state *state = context;

	pthread_mutex_lock(&state->mutex);
	if (!state->send)
		state->send = progress_begin(state->pushing->progress, "send what the gateway lacks");
	progress_update(state->send, done, total, PROGRESS_BYTES, phase == UPLOAD_COMMITTING ? "committing" : NULL);
	pthread_mutex_unlock(&state->mutex);
}

static void push_scanned(struct pushing_state *state)
{
	struct pushing *pushing = state->pushing;
	char detail[96];

	pushing->scanned = *manifest_totals(state->manifest);
	snprintf(detail, sizeof(detail), "%llu files, %llu read", (unsigned long long)pushing->scanned.files,
	         (unsigned long long)pushing->scanned.files_read);
	progress_update(state->scan, pushing->scanned.files + pushing->scanned.directories + pushing->scanned.symlinks, 0,
	                PROGRESS_ENTRIES, detail);
	progress_end(state->scan, pushing->scanned.files_read ? PROGRESS_DONE : PROGRESS_CACHED, NULL);
}

/* On any thread. `taker` NULL: nobody wants what is read. */
static int push_scan(struct pushing_state *state, const struct digester_taker *taker)
{
	struct pushing *pushing = state->pushing;
	struct manifest_options options = {
		.path = pushing->directory,
		.snapshot_path = *state->snapshot ? state->snapshot : NULL,
		.read_all = state->read_all,
		.ignore_file = pushing->ignore_path ? &state->ignore : NULL,
		.use_ignore = !pushing->no_ignore,
		.taker = taker ? *taker : (struct digester_taker){ 0 },
		.progress = on_scan,
		.context = state,
	};
	uint64_t begin = clock_now_ns();
	char why[5000];
	int r;

	pthread_mutex_lock(&state->mutex);
	state->scan = progress_begin(pushing->progress, "scan the directory");
	pthread_mutex_unlock(&state->mutex);
	r = manifest_build(&state->manifest, &options, why, sizeof(why));
	pushing->scan_ns += clock_now_ns() - begin;
	pthread_mutex_lock(&state->mutex);
	if (r == 0)
		push_scanned(state);
	else
		progress_end(state->scan, PROGRESS_ERROR, why);
	pthread_mutex_unlock(&state->mutex);
	if (r == 0)
		return STATUS_OK;
	command_fail(pushing->command, "%s", why);
	return command_status_errno(r);
}

/* An explanation is of one attempt: what a former one sent is `abandoned`. */
static int push_explain_begin(struct pushing *pushing, struct manifest *manifest)
{
	explain_destroy(pushing->explained);
	pushing->explained = NULL;
	return pushing->explain ? explain_create(&pushing->explained, manifest, span_text(pushing->gateway)) : 0;
}

static struct manifest *push_build(void *context, const struct digester_taker *taker)
{
	struct pushing_state *state = context;

	state->scanned = push_scan(state, taker);
	if (state->scanned == STATUS_OK && push_explain_begin(state->pushing, state->manifest) < 0)
		state->scanned = STATUS_EXHAUSTED;
	return state->scanned == STATUS_OK ? state->manifest : NULL;
}

static void on_pack(void *context, const struct upload_piece *pieces, size_t count, uint64_t wire_bytes)
{
	struct pushing_state *state = context;

	explain_on_pack(state->pushing->explained, pieces, count, wire_bytes);
}

/* A directory of which nothing is known is sent while it is scanned. */
static bool push_goes_ahead(const struct pushing_state *state)
{
	return !state->pushing->explain && !state->pushing->predict && (!*state->snapshot || access(state->snapshot, F_OK) < 0);
}

/* Scans, and sends. */
static int push_upload(struct pushing_state *state, bool *again, bool last)
{
	struct pushing *pushing = state->pushing;
	struct upload_options options = {
		.client = pushing->client, .build = push_build, .build_first = !push_goes_ahead(state),
		.gateway_id = span_text(pushing->gateway), .level = pushing->level, .progress = on_upload, .context = state,
		.predict = pushing->predict, .on_pack = pushing->explain ? on_pack : NULL, .on_pack_context = state,
	};
	uint64_t begin = clock_now_ns();
	enum grpc_status status;
	char why[5000];
	int r;

	state->send = NULL;
	r = upload(&options, &pushing->sent, &status, why, sizeof(why));
	pushing->upload_ns += clock_now_ns() - begin;
	*again = r == UPLOAD_STALE && !last;
	if (*again) {
		pushing->abandoned_sent += pushing->sent.messages_sent;
		pushing->abandoned_received += pushing->sent.messages_received;
	}
	if (r == UPLOAD_OK) {
		if (state->send)
			progress_end(state->send, pushing->sent.unchanged ? PROGRESS_CACHED : PROGRESS_DONE, NULL);
		return STATUS_OK;
	}
	if (state->send)
		progress_end(state->send, PROGRESS_ERROR, why);
	if (*again)
		return STATUS_OK;
	if (r == UPLOAD_UNBUILT)
		return state->scanned;
	if (r == UPLOAD_INTERRUPTED)
		return STATUS_INTERRUPTED;
	return session_failed(pushing->command, r < 0 ? r : 0, status, why);
}

/* 0 or -errno. */
static int push_save(const struct pushing_state *state, struct manifest *manifest)
{
	bool is_new = access(state->snapshot, F_OK) < 0;
	int r = manifest_save(manifest);

	if (r == 0 && is_new)
		snapshots_trim(state->snapshot);
	return r;
}

static void push_remember(struct pushing_state *state, struct manifest *manifest)
{
	struct pushing *pushing = state->pushing;
	uint64_t begin = clock_now_ns();
	int r;

	manifest_committed(manifest, span_text(pushing->gateway));
	r = *state->snapshot ? push_save(state, manifest) : 0;
	pushing->save_ns = clock_now_ns() - begin;
	if (r < 0)
		command_fail(pushing->command, "the snapshot %s could not be kept (%s): the next push reads every file again",
		             state->snapshot, strerror(-r));
}

static int push_finish(struct pushing_state *state)
{
	struct pushing *pushing = state->pushing;
	int status = STATUS_OK;

	pushing->root = *manifest_root(state->manifest);
	if (pushing->explained && explain_finish(pushing->explained) < 0)
		status = STATUS_EXHAUSTED;
	if (!pushing->predict)
		push_remember(state, state->manifest);
	if (status == STATUS_OK && pushing->keep) {
		pushing->manifest = state->manifest;
		state->manifest = NULL;
	}
	return status;
}

/*
 * For the next attempt, to which only what changed since is new. What the gateway committed before helps that one more, and is in the
 * snapshot that is there.
 */
static void push_remember_scan(struct pushing_state *state)
{
	struct pushing *pushing = state->pushing;

	if (*state->snapshot && !pushing->predict && !manifest_committed_to(state->manifest, span_text(pushing->gateway)))
		(void)push_save(state, state->manifest); /* it costs time if it cannot be kept */
}

static int push_once(struct pushing_state *state, bool *again, bool last)
{
	int status = push_upload(state, again, last);

	if (status == STATUS_OK && *again) {
		state->read_all |= manifest_disproved(state->manifest);
		if (!state->read_all)
			push_remember_scan(state);
	} else if (status == STATUS_OK) {
		status = push_finish(state);
	}
	manifest_destroy(state->manifest);
	state->manifest = NULL;
	return status;
}

/* Once, for all attempts: of a pipe the next one would find nothing, and ignore nothing. */
static int push_read_ignore(struct pushing_state *state)
{
	struct pushing *pushing = state->pushing;
	char why[5000];
	int r;

	if (!pushing->ignore_path)
		return STATUS_OK;
	r = ignore_file_read(&state->ignore, pushing->ignore_path, (struct why){ .text = why, .size = sizeof(why) });
	return r ? session_failed(pushing->command, r, GRPC_OK, why) : STATUS_OK;
}

int pushing_run(struct pushing *pushing)
{
	struct pushing_state state = { .pushing = pushing, .mutex = PTHREAD_MUTEX_INITIALIZER };
	bool again = true;
	int status;

	if (!*pushing->directory)        /* "$DIR" of a script, and DIR was never set */
		return command_usage(pushing->command, "the name of the directory is empty");
	if (pushing->no_snapshot || !pushing_snapshot_path(pushing->directory, state.snapshot, sizeof(state.snapshot)))
		*state.snapshot = 0;
	status = push_read_ignore(&state);
	for (unsigned attempt = 1; status == STATUS_OK && again; attempt++)
		status = push_once(&state, &again, attempt == PUSHING_ATTEMPTS);
	ignore_file_fini(&state.ignore);
	return status;
}
