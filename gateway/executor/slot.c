/* One slot's loop, and one action's way through it: materialise, mount, run, unmount, collect, push, clean. */
#include "gateway/executor/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/context/beneath.h"
#include "gateway/context/download.h"
#include "gateway/context/manifest.h"
#include "gateway/context/upload.h"
#include "gateway/executor/attach.h"
#include "gateway/executor/image.h"
#include "gateway/executor/inputs_status.h"
#include "gateway/executor/outputs.h"
#include "gateway/executor/rootfs.h"
#include "gateway/executor/watch.h"
#include "gateway/executor/workspace.h"
#include "proto/pb.h"
#include "proto/reapi.h"

#define SLOT_DELETED_MAX    4096         /* deleted paths that are told */
#define SLOT_PIDS_DEFAULT   4096

struct slot_process {
	const struct slot_config *config;
	struct attach attach;
	struct workspace *workspace;
	bool gateway_gone;
};

/* One assignment. Strings are copies: the message is gone once the next one arrives. */
struct action {
	struct slot_process *slot;
	uint64_t id;
	struct digest root;
	char **arguments, **environment;
	char directory[PATH_MAX], image_name[PATH_MAX];
	struct image image;              /* all zero: the host's programs */
	struct executor_assignment wanted;       /* numbers only */
	struct oci_process *process;     /* while it runs */
	bool cancelled;
	struct executor_finished finished;
	struct digest met;               /* finished.environment lies in it */
	char why[1024];
	uint8_t changes[48];
	struct buffer deleted;
	unsigned deleted_count;
	char **output_files, **output_directories, **output_paths;
	struct buffer outputs;
};

/* ---- the assignment ---- */

static char *text_of(struct span span)
{
	return memchr(span.data, 0, span.size) ? NULL : strndup((const char *)span.data, span.size);
}

static char **texts_of(const struct message_list *list, char *(*make)(struct span element))
{
	char **texts = calloc(list->count + 1, sizeof(*texts));
	struct message_cursor cursor = { 0 };
	struct span element;

	for (size_t i = 0; texts && i < list->count && message_list_next(list, &cursor, &element); i++) {
		texts[i] = make(element);
		if (!texts[i])
			texts[i] = strdup("");
	}
	return texts;
}

static char *variable_of(struct span element)
{
	struct executor_variable variable;
	char *text = NULL;

	if (!message_decode(&executor_variable_type, element, &variable) || memchr(variable.value.data, 0, variable.value.size) ||
	    memchr(variable.name.data, 0, variable.name.size))
		return NULL;
	if (asprintf(&text, "%.*s=%.*s", (int)variable.name.size, (const char *)variable.name.data, (int)variable.value.size,
	             (const char *)variable.value.data) < 0)
		return NULL;
	return text;
}

static void texts_free(char **texts)
{
	for (size_t i = 0; texts && texts[i]; i++)
		free(texts[i]);
	free(texts);
}

static void action_fault(struct action *action, enum grpc_status status, const char *why)
{
	if (action->finished.status)
		return;                          /* the first one says it */
	action->finished.status = status;
	if (why != action->why)
		snprintf(action->why, sizeof(action->why), "%s", why);
}

static bool path_stays_below(const char *path)
{
	for (const char *part = path; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || !part[2]))
			return false;
	return true;
}

static void action_take(struct action *action, struct span bytes)
{
	struct executor_assignment assignment;
	struct span root;

	if (!message_decode(&executor_assignment_type, bytes, &assignment)) {
		action_fault(action, GRPC_INTERNAL, "malformed Assignment");
		return;
	}
	action->id = assignment.id;
	action->wanted = assignment;
	workspace_set_scope(action->slot->workspace, assignment.tenant, assignment.instance);
	root = assignment.root;
	if (!digest_list_next(&root, &action->root))
		action_fault(action, GRPC_INVALID_ARGUMENT, "the action has no root");
	action->arguments = texts_of(&assignment.arguments, text_of);
	action->environment = texts_of(&assignment.environment, variable_of);
	action->output_files = texts_of(&assignment.output_files, text_of);
	action->output_directories = texts_of(&assignment.output_directories, text_of);
	action->output_paths = texts_of(&assignment.output_paths, text_of);
	if (!action->arguments || !action->environment || !action->output_files || !action->output_directories || !action->output_paths)
		action_fault(action, GRPC_RESOURCE_EXHAUSTED, "the executor is out of memory");
	snprintf(action->directory, sizeof(action->directory), "/work/%.*s", (int)assignment.working_directory.size,
	         (const char *)assignment.working_directory.data);
	snprintf(action->image_name, sizeof(action->image_name), "%.*s", (int)assignment.image.size, (const char *)assignment.image.data);
	if (!path_stays_below(action->directory))
		action_fault(action, GRPC_INVALID_ARGUMENT, "the working directory must be below the tree");
	if (assignment.network && !action->slot->config->allow_network)
		action_fault(action, GRPC_PERMISSION_DENIED, "actions get no network here");
}

/* ---- making the tree ---- */

static void action_materialise(struct action *action)
{
	struct slot_process *slot = action->slot;
	struct materialise_totals totals = { 0 };
	struct download *download;
	uint64_t begin = clock_now_ns();
	int r = download_create(&download, slot->attach.client, action->why, sizeof(action->why));

	if (r < 0) {
		action_fault(action, GRPC_UNAVAILABLE, action->why);
		return;
	}
	workspace_set_owner(slot->workspace, action->image.uid, action->image.gid);
	r = workspace_materialise(slot->workspace, &action->root, download_source(download), &totals, action->why,
	                          sizeof(action->why));
	if (r < 0)
		action_fault(action, inputs_status(r), action->why);
	action->finished.fetched_bytes = download_bytes(download);
	download_destroy(download);
	action->finished.materialise_ms = (clock_now_ns() - begin) / 1000000u;
}

/* ---- running ---- */

/* Cancels that have arrived meanwhile. */
static bool action_listen(void *context)
{
	struct action *action = context;
	struct attach_response response;
	int r;

	while ((r = attach_receive(&action->slot->attach, &response, 0)) == 0)
		action->cancelled |= response.cancel == action->id;
	if (r == -ECONNRESET)
		action->slot->gateway_gone = action->cancelled = true;
	return action->cancelled;
}

static void action_forward(void *context, uint32_t stream, struct span data)
{
	struct action *action = context;
	struct executor_output output = { .id = action->id, .stream = stream, .data = data };

	if (!action->cancelled && attach_send(&action->slot->attach, 3, &executor_output_type, &output) < 0)
		action->slot->gateway_gone = action->cancelled = true;
}

static void action_kill(void *context)
{
	oci_kill(((struct action *)context)->process);
}

static void action_watch(struct action *action, const int pipes[2])
{
	struct watch watch = {
		.client = action->slot->attach.client, .pipes = { pipes[0], pipes[1] }, .end_fd = oci_wait_fd(action->process),
		.timeout_ns = action->wanted.timeout_ms * 1000000u, .cancelled = action_listen, .output = action_forward,
		.kill = action_kill, .context = action,
	};

	if (watch_run(&watch))
		action_fault(action, GRPC_DEADLINE_EXCEEDED, REAPI_TEXT_TIMED_OUT);
}

static void action_execute(struct action *action)
{
	struct slot_process *slot = action->slot;
	char id[OCI_ID_MAX];
	struct oci_command command = {
		.id = id,
		.argv = (const char *const *)action->arguments,
		.env = (const char *const *)action->environment,
		.cwd = action->directory,
		.limits = { .memory_bytes = action->wanted.memory_bytes, .cpu_millis = action->wanted.cpu_millis,
		            /* The first process is ours: sluice-init. */
		            .pids_max = 1 + (action->wanted.pids ? action->wanted.pids : SLOT_PIDS_DEFAULT) },
		.network = action->wanted.network,
		.uid_base = workspace_uid_base(slot->workspace),
		.uid_count = workspace_uid_count(slot->workspace),
		.work_dir = workspace_merged_path(slot->workspace),
		.hidden = slot->config->hidden,
		.image_rootfs = *action->image.rootfs ? action->image.rootfs : NULL,
		.uid = action->image.uid,
		.gid = action->image.gid,
		.bundle_dir = workspace_bundle_path(slot->workspace),
		.init_path = rootfs_init_path(),
	};
	uint64_t begin = clock_now_ns();
	bool out_of_memory = false;
	int pipes[2], status = 0, r;

	snprintf(id, sizeof(id), "sluice-%d-%llu", (int)getpid(), (unsigned long long)action->id);
	r = oci_start(&action->process, slot->config->runtime, &command, &pipes[0], &pipes[1], action->why, sizeof(action->why));
	if (r == -ENOENT || r == -EACCES) {
		/* As a shell would have it: the message on stderr, 127 or 126. */
		struct executor_output output = { .id = action->id, .stream = 2 };
		char line[sizeof(action->why) + 1];

		snprintf(line, sizeof(line), "%s\n", action->why);
		output.data = span_text(line);
		attach_send(&slot->attach, 3, &executor_output_type, &output);
		action->finished.exit_code = r == -ENOENT ? 127 : 126;
		return;
	}
	if (r < 0) {
		action_fault(action, r == -EINVAL ? GRPC_INVALID_ARGUMENT : r == -ENETUNREACH ? GRPC_FAILED_PRECONDITION : GRPC_INTERNAL,
		             action->why);
		return;
	}
	for (int i = 0; i < 2; i++)
		fcntl(pipes[i], F_SETFL, O_NONBLOCK);
	action_watch(action, pipes);
	r = oci_finish(action->process, &status, &out_of_memory);
	action->finished.exit_code = status;
	action->finished.run_ms = (clock_now_ns() - begin) / 1000000u;
	if (r < 0)
		action_fault(action, GRPC_INTERNAL, "the OCI runtime failed to end the container");
	else if (out_of_memory)
		action_fault(action, GRPC_RESOURCE_EXHAUSTED, "the action used more memory than its limit");
	else if (action->cancelled)
		action_fault(action, GRPC_CANCELLED, "cancelled");
}

/*
 * What the result holds for, which need not be what was asked for: an image's name may have come to mean another one while the action
 * waited, and the host's packages may have been changed under it. So these are looked at behind the run.
 */
static void action_say_environment(struct action *action)
{
	const char *image = *action->image_name ? action->image.digest : NULL;
	char why[256];

	if (!action->finished.exit_code &&
	    rootfs_environment_of(action->slot->config->runtime, image, &action->met, why, sizeof(why)) == 0)
		action->finished.environment = span_make(action->met.hash, sizeof(action->met.hash));
}

/* ---- collecting ---- */

static int action_on_deleted(void *context, enum collect_kind kind, const char *path)
{
	struct action *action = context;

	if (kind == COLLECT_DELETED && action->deleted_count++ < SLOT_DELETED_MAX)
		pb_put_bytes_always(&action->deleted, 6, span_text(path));
	return 0;
}

static void action_push_changes(struct action *action, struct manifest *manifest)
{
	struct slot_process *slot = action->slot;
	const struct manifest_totals *totals = manifest_totals(manifest);
	struct upload_options options = { .client = slot->attach.client, .manifest = manifest };
	struct buffer list = buffer_over(action->changes, sizeof(action->changes));
	struct upload_totals sent;
	enum grpc_status status;
	int r;

	if (totals->files + totals->symlinks + totals->others == 0 && totals->directories <= 1)
		return;
	r = upload(&options, &sent, &status, action->why, sizeof(action->why));
	if (r != UPLOAD_OK) {
		action_fault(action, status ? status : GRPC_INTERNAL, action->why);
		return;
	}
	digest_list_put(&list, manifest_root(manifest));
	action->finished.changes = buffer_span(&list);
}

static void action_collect(struct action *action)
{
	struct slot_process *slot = action->slot;
	struct manifest_options options = { .path = workspace_upper_path(slot->workspace) };
	struct manifest *manifest = NULL;
	uint64_t begin = clock_now_ns();
	int r = workspace_collect(slot->workspace, action_on_deleted, action, action->why, sizeof(action->why));

	if (r == 0)
		r = manifest_build(&manifest, &options, action->why, sizeof(action->why));
	if (r < 0)
		action_fault(action, GRPC_FAILED_PRECONDITION, action->why);
	else
		action_push_changes(action, manifest);
	manifest_destroy(manifest);
	action->finished.collect_ms = (clock_now_ns() - begin) / 1000000u;
}

/* ---- outputs that are named ---- */

static int action_open_outputs(struct action *action, struct outputs *outputs)
{
	struct workspace *workspace = action->slot->workspace;
	int r;

	*outputs = (struct outputs){
		.root_fd = open(workspace_merged_path(workspace), O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		.working_directory = action->directory + strlen("/work/"),
		.files = (const char *const *)action->output_files, .directories = (const char *const *)action->output_directories,
		.paths = (const char *const *)action->output_paths,
		.unix_modes = action->wanted.unix_modes, .uid = workspace_uid_base(workspace) + action->image.uid,
		.gid = workspace_uid_base(workspace) + action->image.gid, .client = action->slot->attach.client,
		.cancelled = action_listen, .context = action,
	};
	if (outputs->root_fd >= 0)
		return 0;
	r = -errno;
	snprintf(action->why, sizeof(action->why), "the action's tree cannot be opened: %s", strerror(-r));
	return r;
}

static enum grpc_status outputs_status(int r)
{
	switch (r) {
	case -EINVAL:
	case -ENAMETOOLONG:
		return GRPC_INVALID_ARGUMENT;
	case -EISDIR:
	case -ENOTDIR:
	case -EFBIG:
		return GRPC_FAILED_PRECONDITION;
	case -ECANCELED:
		return GRPC_CANCELLED;
	default:
		return GRPC_INTERNAL;
	}
}

static void action_prepare_outputs(struct action *action)
{
	struct outputs outputs;
	int r = action_open_outputs(action, &outputs);

	if (r == 0)
		r = outputs_prepare(&outputs, action->why, sizeof(action->why));
	if (r < 0)
		action_fault(action, outputs_status(r), action->why);
	if (outputs.root_fd >= 0)
		close(outputs.root_fd);
}

static void action_collect_outputs(struct action *action)
{
	enum grpc_status status = GRPC_OK;
	uint64_t begin = clock_now_ns();
	struct outputs outputs;
	int r = action_open_outputs(action, &outputs);

	if (r == 0)
		r = outputs_collect(&outputs, &action->outputs, &status, action->why, sizeof(action->why));
	if (r < 0)
		action_fault(action, status ? status : outputs_status(r), action->why);
	if (outputs.root_fd >= 0)
		close(outputs.root_fd);
	action->finished.outputs = buffer_span(&action->outputs);
	action->finished.collect_ms = (clock_now_ns() - begin) / 1000000u;
}

/* ---- the whole ---- */

/* The image's variables come after the asked-for ones, without those that are asked for: the first of a name counts. */
static int action_add_environment(struct action *action)
{
	size_t asked = 0, more = 0, count;
	char **all;

	while (action->environment[asked])
		asked++;
	while (action->image.env && action->image.env[more])
		more++;
	all = realloc(action->environment, (asked + more + 1) * sizeof(*all));
	if (!all)
		return -ENOMEM;
	action->environment = all;
	count = asked;
	for (size_t i = 0; i < more; i++) {
		size_t name = strcspn(action->image.env[i], "=") + 1;
		bool given = false;

		for (size_t j = 0; j < asked; j++)
			given |= strncmp(all[j], action->image.env[i], name) == 0;
		if (!given && !(all[count++] = strdup(action->image.env[i])))
			return -ENOMEM;
	}
	all[count] = NULL;
	return 0;
}

static int action_open_image(struct action *action)
{
	const struct slot_process *slot = action->slot;
	char layout[PATH_MAX], cache[PATH_MAX];
	struct image_options options = {
		.layout = layout, .cache = cache, .uid_base = workspace_uid_base(slot->workspace),
		.uid_count = workspace_uid_count(slot->workspace),
	};
	int r = rootfs_image_path(slot->config->images, action->image_name, layout, action->why, sizeof(action->why));

	if (r < 0)
		return r;
	snprintf(cache, sizeof(cache), "%.*s/images", (int)sizeof(cache) - 16, slot->config->path);
	r = image_open(&action->image, &options, action->why, sizeof(action->why));
	if (r == 0 && (r = action_add_environment(action)) < 0)
		snprintf(action->why, sizeof(action->why), "the executor is out of memory");
	return r;
}

/*
 * The runtime would make a working directory that is not there, and the command then finds nothing of what it was to find. A
 * directory that leads to an output is there by now. Symlinks are none: followed out here they would lead anywhere.
 */
static void action_check_directory(struct action *action)
{
	const char *path = action->directory + strlen("/work/");
	int tree_fd = open(workspace_merged_path(action->slot->workspace), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd;

	path += strspn(path, "/");
	fd = tree_fd < 0 ? -errno : beneath_open(tree_fd, *path ? path : ".", O_PATH | O_DIRECTORY, 0);
	if (tree_fd >= 0)
		close(tree_fd);
	if (fd >= 0) {
		close(fd);
		return;
	}
	snprintf(action->why, sizeof(action->why), "the working directory \"%.200s\" is no directory of the tree: %s", path,
	         strerror(-fd));
	action_fault(action, fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? GRPC_INVALID_ARGUMENT : GRPC_INTERNAL, action->why);
}

/* Asked before each step: a cancel may have come during the one before. */
static bool action_goes_on(struct action *action)
{
	if (!action->finished.status && action_listen(action))
		action_fault(action, GRPC_CANCELLED, "cancelled");
	return !action->finished.status;
}

/* Up to what there is to be told: cleaning up is nobody's time but the slot's. */
static void action_run(struct action *action)
{
	struct slot_process *slot = action->slot;

	if (action_goes_on(action) && *action->image_name && action_open_image(action) < 0)
		action_fault(action, GRPC_FAILED_PRECONDITION, action->why);
	if (action_goes_on(action))
		action_materialise(action);
	if (action_goes_on(action) && workspace_mount(slot->workspace, action->why, sizeof(action->why)) < 0)
		action_fault(action, GRPC_INTERNAL, action->why);
	if (action_goes_on(action) && !action->wanted.changes)
		action_prepare_outputs(action);
	if (action_goes_on(action))
		action_check_directory(action);
	if (action_goes_on(action))
		action_execute(action);
	if (action_goes_on(action))
		action_say_environment(action);
	if (action_goes_on(action) && !action->wanted.changes)
		action_collect_outputs(action);
	if (action_goes_on(action) && action->wanted.changes && workspace_unmount(slot->workspace, action->why, sizeof(action->why)) < 0)
		action_fault(action, GRPC_INTERNAL, action->why);
	if (action_goes_on(action) && action->wanted.changes)
		action_collect(action);
}

/* A slot that keeps its mount is of no use: its process ends, and the next one begins by taking it away. */
static void slot_clean(struct slot_process *slot)
{
	char why[1024];

	if (workspace_unmount(slot->workspace, why, sizeof(why)) < 0) {
		log_event(LOG_ERROR, "slot keeps its mount", LOG_U64("slot", slot->config->number), LOG_TEXT("why", why));
		slot->gateway_gone = true;
	} else if (workspace_clean(slot->workspace, why, sizeof(why)) < 0) {
		log_event(LOG_WARNING, "slot not clean", LOG_U64("slot", slot->config->number), LOG_TEXT("why", why));
	}
}

static void slot_serve(struct slot_process *slot, struct span bytes)
{
	struct action action = {
		.slot = slot, .deleted = buffer_heap(1 << 19), .outputs = buffer_heap(OUTPUTS_FIELDS_BYTES_MAX),
	};

	action_take(&action, bytes);
	if (!action.finished.status)
		action_run(&action);
	action.finished.id = action.id;
	action.finished.message = span_text(action.finished.status ? action.why : "");
	action.finished.deleted.message = buffer_span(&action.deleted);
	log_event(LOG_INFO, "action", LOG_U64("slot", slot->config->number), LOG_U64("id", action.id),
	          LOG_I64("exit", action.finished.exit_code), LOG_TEXT("status", grpc_status_name(action.finished.status)),
	          LOG_U64("materialise_ms", action.finished.materialise_ms), LOG_U64("run_ms", action.finished.run_ms),
	          LOG_U64("collect_ms", action.finished.collect_ms));
	if (attach_send(&slot->attach, 4, &executor_finished_type, &action.finished) < 0)
		slot->gateway_gone = true;
	slot_clean(slot);
	image_fini(&action.image);
	texts_free(action.arguments);
	texts_free(action.environment);
	texts_free(action.output_files);
	texts_free(action.output_directories);
	texts_free(action.output_paths);
	buffer_fini(&action.outputs);
	buffer_fini(&action.deleted);
}

int slot_run(const struct slot_config *config)
{
	struct slot_process slot = { .config = config };
	struct workspace_options options = { .root = config->path, .slot = config->number };
	struct executor_hello hello = { .slot = config->number };
	struct attach_response response;
	char why[1024], bundle[PATH_MAX];
	int r;

	/* The process that was this slot before may have been killed under an action. */
	if (workspace_bundle_of(config->path, config->number, bundle, sizeof(bundle)))
		oci_cleanup_bundle(config->runtime, bundle);
	r = workspace_open(&slot.workspace, &options, why, sizeof(why));
	if (r < 0) {
		log_event(LOG_ERROR, "slot without a workspace", LOG_U64("slot", config->number), LOG_TEXT("why", why));
		return 1;
	}
	r = attach_open(&slot.attach, config->socket_path, config->engine, &hello);
	while (r == 0 && !slot.gateway_gone) {
		r = attach_receive(&slot.attach, &response, UINT64_MAX);
		if (r == 0 && response.assignment.data)
			slot_serve(&slot, response.assignment);
	}
	if (slot.attach.client)
		attach_close(&slot.attach);
	workspace_close(slot.workspace);
	return 0;
}
