/* Builds under stable keys. */
#include "tests/unit/session/keyed.h"

#include <stdio.h>
#include <string.h>

#define KEYS_MAX 8

struct rig keyed_rig;
struct rig_tree keyed_tree;
struct stand_in keyed_edge;
struct keyed_plan keyed_plan;
struct keyed_disk *keyed_disk;
unsigned keyed_disks_count;
int64_t keyed_mtimes[RIG_FILES_MAX];
bool keyed_asked[RIG_FILES_MAX];
struct rig_copy *keyed_copy;

static struct keyed_disk disks[KEYS_MAX];

/* ---- a daemon's disk ---- */

static void disk_choose(const char *key)
{
	for (unsigned i = 0; i < keyed_disks_count; i++)
		if (strcmp(disks[i].key, key) == 0) {
			keyed_disk = &disks[i];
			return;
		}
	assert_true(keyed_disks_count < KEYS_MAX);
	keyed_disk = &disks[keyed_disks_count++];
	memset(keyed_disk, 0, sizeof(*keyed_disk));
	snprintf(keyed_disk->key, sizeof(keyed_disk->key), "%s", key);
}

static uint32_t disk_find(const char *path)
{
	uint32_t i = 0;

	while (i < keyed_disk->count && strcmp(keyed_disk->files[i].path, path) != 0)
		i++;
	return i;
}

bool keyed_wants(const struct rig_file *file)
{
	uint32_t i = (uint32_t)(file - keyed_tree.files), at = disk_find(file->path);

	keyed_asked[i] = at == keyed_disk->count || keyed_disk->files[at].size != file->size ||
	                 keyed_disk->files[at].mtime_ns != keyed_mtimes[i] || keyed_disk->files[at].link[0];
	return keyed_asked[i];
}

/*
 * All names of a file have one mtime at the daemon. Told another one of a name that it has already, it would link anew, which does
 * nothing over the same file but leave a temporary name, and give the file the mtime of the link.
 */
static void expect_time_of_first(uint32_t link)
{
	uint32_t i = 0;

	while (strcmp(keyed_tree.files[i].path, keyed_tree.files[link].link) != 0)
		assert_true(++i < link);
	if (keyed_mtimes[i] != keyed_mtimes[link])
		fail_msg("%s: the daemon was told another mtime than of its file", keyed_tree.files[link].path);
}

/* What was asked for has arrived, byte for byte; what was not is what lay there: and must be the same. */
static uint32_t disk_take(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < keyed_tree.count; i++) {
		const struct rig_file *file = &keyed_tree.files[i];
		uint32_t at = disk_find(file->path);

		count += keyed_asked[i];
		if (file->link[0])
			expect_time_of_first(i);
		else if (!file->directory && !keyed_asked[i] && file->size && keyed_disk->files[at].seed != file->seed)
			fail_msg("%s: the executor has kept old bytes", file->path);
		keyed_disk->count += at == keyed_disk->count;
		snprintf(keyed_disk->files[at].path, sizeof(keyed_disk->files[at].path), "%s", file->path);
		snprintf(keyed_disk->files[at].link, sizeof(keyed_disk->files[at].link), "%s", file->link);
		keyed_disk->files[at].size = file->odd && keyed_asked[i] ? file->sent_size : file->size;
		keyed_disk->files[at].mtime_ns = keyed_mtimes[i];
		keyed_disk->files[at].seed = file->seed;
	}
	return count;
}

/* ---- builds ---- */

void keyed_take_tree(void)
{
	stand_in_fini(&keyed_edge);
	stand_in_init(&keyed_edge, &keyed_rig, &keyed_tree);
	stand_in_push(&keyed_edge, NULL);
}

static void end_same(struct rig_copy *copy)
{
	keyed_copy = copy;
	rig_wait(&keyed_rig, copy->stats == keyed_plan.same || copy->closed);
	assert_false(copy->stats_ended);
	if (keyed_plan.meanwhile)
		keyed_plan.meanwhile();
	else
		stand_in_say_root(&keyed_edge);
}

/* The last that began. */
static void client_over(struct rig_client *client)
{
	rig_client_end(client);
	keyed_rig.clients_count--;
	while (client->senders)
		client->senders = rig_sender_free(client->senders);
	h2_destroy(client->wire.client);
	h2_destroy(client->wire.server);
}

uint32_t keyed_build(const char *client_key)
{
	static struct rig_daemon *daemon;
	struct rig_copy copy = { .wants = keyed_wants, .mtimes = keyed_mtimes, .directory = keyed_plan.directory };
	struct rig_client *client;

	if (!keyed_rig.daemons_count)
		daemon = rig_daemon_start(&keyed_rig);
	keyed_take_tree();
	keyed_edge.ahead = keyed_plan.ahead;
	keyed_edge.names_links = keyed_plan.names_links;
	keyed_edge.unfit = keyed_plan.unfit;
	keyed_edge.passing = keyed_plan.passing;
	keyed_edge.refuses = keyed_plan.refuses;
	keyed_edge.same = keyed_plan.same;
	keyed_edge.silent = keyed_plan.silent;
	memset(keyed_asked, 0, sizeof(keyed_asked));
	client = rig_client_start(&keyed_rig, keyed_plan.listed ? keyed_plan.listed : &keyed_tree, client_key);
	rig_carry(client, daemon);
	disk_choose(daemon->shared_key);
	rig_copy_start(&copy, daemon, &keyed_tree);
	rig_wait(&keyed_rig, copy.closed || keyed_edge.asks);
	if (keyed_plan.silent)
		keyed_plan.meanwhile();
	if (keyed_edge.ahead && keyed_edge.asked_ahead) {
		stand_in_name(&keyed_edge, 0, RIG_FILES_MAX);
		stand_in_say_root(&keyed_edge);
	}
	if (keyed_edge.same && keyed_edge.asked_same)
		end_same(&copy);
	rig_until(&keyed_rig, &copy.closed);
	if (copy.status != keyed_plan.ends)
		print_message("%s\n", copy.message);
	assert_int_equal(copy.status, keyed_plan.ends);
	rig_copy_fini(&copy);
	rig_wait(&keyed_rig, !keyed_edge.open);
	assert_true(keyed_plan.unfit || client->bytes_sent == 0);
	client_over(client);
	return keyed_plan.ends == GRPC_OK ? disk_take() : 0;
}

void keyed_build_other(struct rig_tree *tree, const char *client_key)
{
	static struct stand_in edge;
	static int64_t mtimes[RIG_FILES_MAX];
	struct rig_copy copy = { .mtimes = mtimes, .directory = keyed_plan.directory };
	struct rig_daemon *daemon = rig_daemon_start(&keyed_rig);
	struct rig_client *client;

	stand_in_init(&edge, &keyed_rig, tree);
	stand_in_push(&edge, NULL);
	keyed_rig.giver = &edge;
	client = rig_client_start(&keyed_rig, tree, client_key);
	keyed_rig.giver = &keyed_edge;
	rig_carry(client, daemon);
	assert_string_equal(daemon->shared_key, keyed_disk->key);
	rig_copy_start(&copy, daemon, tree);
	rig_until(&keyed_rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_OK);
	rig_copy_fini(&copy);
	rig_wait(&keyed_rig, !edge.open);
	client_over(client);
	stand_in_fini(&edge);
}

void keyed_touch_all(int64_t by)
{
	for (uint32_t i = 0; i < keyed_tree.count; i++)
		keyed_tree.files[i].mtime_ns += by;
}

uint32_t keyed_files_of(const struct rig_tree *of)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < of->count; i++)
		count += !of->files[i].directory;
	return count;
}

/* ---- a test's beginning and end ---- */

void keyed_choose(int argc, char **argv)
{
	if (argc > 1)
		fixture_choose_ring(argv[1]);
}

int keyed_setup(void **state)
{
	rig_init(&keyed_rig);
	keyed_rig.give = stand_in_give;
	keyed_rig.giver = &keyed_edge;
	keyed_rig.stable = true;
	keyed_plan = (struct keyed_plan){ .ends = GRPC_OK };
	keyed_disks_count = 0;
	return 0;
}

int keyed_teardown(void **state)
{
	rig_fini(&keyed_rig);
	stand_in_fini(&keyed_edge);
	memset(&keyed_edge, 0, sizeof(keyed_edge));
	return 0;
}
