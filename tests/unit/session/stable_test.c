/*
 * Shows stable keys over real sessions, with a daemon that keeps a tree as buildkitd does and believes size and mtime: whatever
 * clients' disks say, it ends up with the right bytes, and is given only what changed: a fresh checkout elsewhere costs nothing;
 * two directories that look the same are told apart; a content that returns looks new; a table that is lost, cut short or
 * damaged leads to another key, never to old bytes.
 */
#include "tests/unit/session/edge_stand_in.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct rig rig;
static struct rig_tree tree;
static struct stand_in edge;

/* ---- a daemon's disk ---- */

#define KEYS_MAX 8

/* What lies on it under one key, by path. */
struct disk {
	char key[64];
	struct { char path[64]; uint64_t size; int64_t mtime_ns; uint32_t seed; bool directory; } files[RIG_FILES_MAX];
	uint32_t count;
};

static struct disk disks[KEYS_MAX];
static unsigned disks_count;
static struct disk *disk;                /* of the key under way */
static int64_t mtimes[RIG_FILES_MAX];
static bool asked[RIG_FILES_MAX];

static void disk_choose(const char *key)
{
	for (unsigned i = 0; i < disks_count; i++)
		if (strcmp(disks[i].key, key) == 0) {
			disk = &disks[i];
			return;
		}
	assert_true(disks_count < KEYS_MAX);
	disk = &disks[disks_count++];
	memset(disk, 0, sizeof(*disk));
	snprintf(disk->key, sizeof(disk->key), "%s", key);
}

static uint32_t disk_find(const char *path)
{
	uint32_t i = 0;

	while (i < disk->count && strcmp(disk->files[i].path, path) != 0)
		i++;
	return i;
}

/* The test that fsutil's receiver makes. */
static bool wants_if_changed(const struct rig_file *file)
{
	uint32_t i = (uint32_t)(file - tree.files), at = disk_find(file->path);

	asked[i] = at == disk->count || disk->files[at].size != file->size || disk->files[at].mtime_ns != mtimes[i];
	return asked[i];
}

/* What was asked for has arrived, byte for byte; what was not is what lay there: and must be the same. */
static uint32_t disk_take(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < tree.count; i++) {
		const struct rig_file *file = &tree.files[i];
		uint32_t at = disk_find(file->path);

		count += asked[i];
		if (!file->directory && !asked[i] && file->size && disk->files[at].seed != file->seed)
			fail_msg("%s: the executor has kept old bytes", file->path);
		disk->count += at == disk->count;
		snprintf(disk->files[at].path, sizeof(disk->files[at].path), "%s", file->path);
		disk->files[at].size = file->size;
		disk->files[at].mtime_ns = mtimes[i];
		disk->files[at].seed = file->seed;
	}
	return count;
}

/* ---- builds ---- */

static void edge_take_tree(void)
{
	stand_in_fini(&edge);
	stand_in_init(&edge, &rig, &tree);
	stand_in_push(&edge, NULL);
}

static const char *unfit;                /* the edge cannot give it */
static bool passing;                     /* but may another time */
static bool refuses;                     /* it takes no call */
static bool ahead;                       /* the edge sends entries and names before its root, when it may */
static uint32_t same;                    /* entries of which it says so before its root, when it may */
static enum grpc_status ends;            /* how the call is to end */
static struct rig_tree *listed;          /* what the client has; NULL: the tree */
static bool silent;                      /* the edge says nothing before `meanwhile` */
static void (*meanwhile)(void);          /* behind `same` or nothing, in place of the root */

static struct rig_copy *under_way;

static void end_same(struct rig_copy *copy)
{
	under_way = copy;
	rig_wait(&rig, copy->stats == same || copy->closed);
	assert_false(copy->stats_ended);
	if (meanwhile)
		meanwhile();
	else
		stand_in_say_root(&edge);
}

/* One build of the tree; `client` is who builds. Returns how many files the daemon asked for. */
static uint32_t build_as(const char *client_key)
{
	static struct rig_daemon *daemon;
	struct rig_copy copy = { .wants = wants_if_changed, .mtimes = mtimes };
	struct rig_client *client;

	if (!rig.daemons_count)
		daemon = rig_daemon_start(&rig);
	edge_take_tree();
	edge.ahead = ahead;
	edge.unfit = unfit;
	edge.passing = passing;
	edge.refuses = refuses;
	edge.same = same;
	edge.silent = silent;
	memset(asked, 0, sizeof(asked));
	client = rig_client_start(&rig, listed ? listed : &tree, client_key);
	rig_carry(client, daemon);
	disk_choose(daemon->shared_key);
	rig_copy_start(&copy, daemon, &tree);
	rig_wait(&rig, copy.closed || edge.asks);
	if (silent)
		meanwhile();
	if (edge.ahead && edge.asked_ahead) {
		stand_in_name(&edge, 0, RIG_FILES_MAX);
		stand_in_say_root(&edge);
	}
	if (edge.same && edge.asked_same)
		end_same(&copy);
	rig_until(&rig, &copy.closed);
	if (copy.status != ends)
		print_message("%s\n", copy.message);
	assert_int_equal(copy.status, ends);
	rig_copy_fini(&copy);
	rig_wait(&rig, !edge.open);
	assert_true(unfit || client->bytes_sent == 0);
	rig_client_end(client);
	rig.clients_count--;
	while (client->senders) {
		struct rig_sender *sender = client->senders;

		client->senders = rig_sender_free(sender);
	}
	h2_destroy(client->wire.client);
	h2_destroy(client->wire.server);
	return ends == GRPC_OK ? disk_take() : 0;
}

static void touch_all(int64_t by)
{
	for (uint32_t i = 0; i < tree.count; i++)
		tree.files[i].mtime_ns += by;
}

static uint32_t files_of(const struct rig_tree *of)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < of->count; i++)
		count += !of->files[i].directory;
	return count;
}

/* ---- tests ---- */

static void a_fresh_checkout_elsewhere_costs_nothing(void **state)
{
	rig_tree_make(&tree, 300, 1);
	assert_int_equal(build_as("app:runner1"), files_of(&tree));
	assert_true(edge.asked_times);
	assert_true(strncmp(disk->key, "app:", 4) == 0 && strcmp(disk->key, "app:runner1") != 0);
	touch_all(1000000007);
	assert_int_equal(build_as("app:runner2"), 0);
	assert_false(edge.asked_times);
	assert_int_equal(edge.wanted, 0);        /* nor are any times wanted */
	assert_int_equal(disks_count, 1);
	/* After a restart as well. */
	rig_reopen_stable(&rig, "true");
	touch_all(7);
	assert_int_equal(build_as("app:runner3"), 0);
	assert_int_equal(disks_count, 1);
	/* Another directory has another key. */
	build_as("other:runner3");
	assert_int_equal(disks_count, 2);
}

static void only_what_changed_is_asked_for(void **state)
{
	rig_tree_make(&tree, 250, 2);
	build_as("app:1");
	touch_all(1000000007);
	for (uint32_t i = 10; i < 15; i++)
		tree.files[i].seed += 5000;
	assert_int_equal(build_as("app:2"), 5);
	assert_true(edge.wanted >= 4 && edge.wanted <= 5);       /* an empty one stays what it is */
}

/* The same path, size and mtime, and other bytes: BuildKit's own test sees no difference. */
static void what_looks_the_same_is_told_apart(void **state)
{
	int64_t before;

	rig_tree_make(&tree, 120, 3);
	build_as("app:1");
	before = mtimes[5];
	tree.files[5].seed += 9000;
	tree.files[4].seed += 9000;
	assert_int_equal(tree.files[5].size, 32768);
	assert_int_equal(build_as("app:2"), 2);
	assert_int_equal(mtimes[5], before + 1);
	/* It has the mtime that the other content had under this key. */
	tree.files[5].seed += 9000;
	tree.files[5].mtime_ns = before + 1;
	assert_int_equal(build_as("app:1"), 1);
	assert_int_equal(mtimes[5], before + 2);
}

/* make and cargo rely on it: what is written anew is newer than what was made of the former content. */
static void a_content_that_returns_looks_new(void **state)
{
	int64_t first, second;

	rig_tree_make(&tree, 60, 4);
	build_as("app:1");
	first = mtimes[7];
	tree.files[7].seed += 1;
	tree.files[7].mtime_ns += 500;
	assert_int_equal(build_as("app:1"), 1);
	second = mtimes[7];
	assert_int_equal(second, first + 500);
	/* Reverted, by a checkout now or with its mtime of then. */
	tree.files[7].seed -= 1;
	tree.files[7].mtime_ns += 500;
	assert_int_equal(build_as("app:1"), 1);
	assert_int_equal(mtimes[7], first + 1000);
	tree.files[7].seed += 1;
	build_as("app:1");
	tree.files[7].seed -= 1;
	tree.files[7].mtime_ns = first;
	assert_int_equal(build_as("app:1"), 1);
	assert_true(mtimes[7] != first && mtimes[7] != first + 1000);
}

/* Random histories of two checkouts under one name; the disk's own check finds any old byte. */
static void histories_leave_no_old_bytes(void **state)
{
	uint64_t x = 88172645463325252ull;
	unsigned rebuilds = 0;

	rig_tree_make(&tree, 40, 5);
	for (int round = 0; round < 120; round++) {
		for (int edits = 0; edits < 4; edits++) {
			uint32_t i;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			i = (uint32_t)(x % tree.count);
			tree.files[i].seed = (uint32_t)(x >> 20) % 4;
			tree.files[i].mtime_ns = (int64_t)(x >> 40) % 3;
		}
		rebuilds += build_as(round % 2 ? "app:1" : "app:2") > 0;
		if (round % 30 == 29)
			rig_reopen_stable(&rig, "true");
	}
	assert_int_equal(disks_count, 1);
	assert_true(rebuilds > 100);
}

static void a_table_that_is_gone_takes_its_key_along(void **state)
{
	static const char *const losses[] = {
		"find . -type f ! -name secret -delete",
		"rm secret",
		"for f in ????????????????????????????????; do printf x | dd of=$f bs=1 seek=300 conv=notrunc status=none; done",
		"for f in ????????????????????????????????; do printf x | dd of=$f bs=1 seek=9 conv=notrunc status=none; done",
		"for f in ????????????????????????????????; do chmod 666 $f; done",
	};

	for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
		rig_tree_make(&tree, 30, 6);
		build_as("app:1");
		rig_reopen_stable(&rig, losses[i]);
		tree.files[5].seed += 1;         /* the same path, size and mtime */
		assert_int_equal(build_as("app:1"), files_of(&tree));
		assert_int_equal(disks_count, i + 2);
		assert_int_equal(build_as("app:1"), 0);
	}
}

/* What a crash leaves behind the last claims that anybody was told of. */
static void a_torn_tail_is_no_loss(void **state)
{
	static const char *const tails[] = { "printf abcdef", "head -c 5000 /dev/zero" };
	char command[256];

	for (size_t i = 0; i < 2; i++) {
		rig_tree_make(&tree, 30, 7);
		build_as("app:1");
		snprintf(command, sizeof(command), "for f in ????????????????????????????????; do %s >>$f; done", tails[i]);
		rig_reopen_stable(&rig, command);
		tree.files[5].seed += 1;
		assert_int_equal(build_as("app:1"), 1);
		rig_reopen_stable(&rig, "true");
		assert_int_equal(build_as("app:1"), 0);
		assert_int_equal(disks_count, 1);
		tree.files[5].seed -= 1;
		assert_int_equal(build_as("app:1"), 1);
	}
}

/* Every claims file that is open takes nothing more. */
static void fill_the_disk(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char target[256];
		ssize_t size = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		int full;

		target[size < 0 ? 0 : size] = 0;
		if (!strstr(target, "/claims/"))
			continue;
		full = open("/dev/full", O_RDWR | O_CLOEXEC);
		assert_true(full >= 0 && dup2(full, atoi(entry->d_name)) >= 0);
		close(full);
		count++;
	}
	closedir(dir);
	assert_int_equal(count, 1);
}

/* Nothing is told that rests on a claim which is not on the disk, and the next build has another key. */
static void what_cannot_be_kept_is_not_told(void **state)
{
	struct rig_copy copy = { .wants = wants_if_changed, .mtimes = mtimes };
	struct rig_client *client;
	struct stable_status status;

	rig_tree_make(&tree, 30, 8);
	build_as("app:1");
	fill_the_disk();
	tree.files[5].seed += 1;
	edge_take_tree();
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, &rig.daemons[0]);
	rig_copy_start(&copy, &rig.daemons[0], &tree);
	rig_until(&rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_UNAVAILABLE);
	assert_true(copy.stats <= 5);
	rig_copy_fini(&copy);
	rig_client_end(client);
	stable_status(rig.play.stable, &status);
	assert_int_equal(status.writes_failed, 1);
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_int_equal(disks_count, 2);
}

/* A build whose result is to be the same bit by bit has the client's own key and mtimes. */
static void real_times_are_the_clients(void **state)
{
	struct rig_copy copy = { 0 };
	struct rig_daemon *daemon;
	struct rig_client *client;

	rig_tree_make(&tree, 30, 9);
	build_as("app:1");
	touch_all(12345);
	daemon = &rig.daemons[0];
	client = rig_client_start(&rig, &tree, "app:1");
	session_want_real_times(client->session);
	rig_carry(client, daemon);
	assert_string_equal(daemon->shared_key, "app:1");
	rig_copy_start(&copy, daemon, &tree);    /* which checks that the mtimes are the tree's */
	rig_until(&rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_OK);
	rig_copy_fini(&copy);
	rig_client_end(client);
}

/* A claim is made before the content is known, which becomes known later: from then on it is as any other. */
static void what_came_ahead_is_claimed(void **state)
{
	ahead = true;
	rig_tree_make(&tree, 300, 11);
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_true(edge.asked_ahead);
	touch_all(1000000007);
	assert_int_equal(build_as("app:2"), 0);
	assert_false(edge.asked_ahead);
	rig_reopen_stable(&rig, "true");
	tree.files[5].seed += 1;
	assert_int_equal(build_as("app:3"), 1);
	assert_int_equal(disks_count, 1);
	ahead = false;
}

/*
 * An edge that cannot give a context leaves a plain copy under the stable key, of files that nobody named: the executor keeps
 * none of them for another. And the directory does not go by such a key any more, for now.
 */
static void what_nobody_named_is_not_taken_for_known(void **state)
{
	rig_tree_make(&tree, 60, 12);
	build_as("app:1");
	unfit = "a device";
	tree.files[5].seed += 1;                 /* the same path, size and mtime */
	tree.files[9].seed += 1;
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_int_equal(disks_count, 1);
	/* Under the client's own key it is as with no edge. */
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_string_equal(disk->key, "app:1");
	assert_int_equal(build_as("app:1"), 0);
	unfit = NULL;
	assert_int_equal(build_as("app:1"), 0);
	assert_string_equal(disk->key, "app:1");
	/* After a restart it may try again, under a key that nobody knows. */
	rig_reopen_stable(&rig, "test $(ls | wc -l) = 1");
	tree.files[7].seed += 1;
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_int_equal(disks_count, 3);
}

/*
 * What the edge does not lay to the context, a push that failed, costs the directory the key that the plain copy went by, not all keys:
 * unless it comes again.
 */
static void what_may_pass_costs_one_key(void **state)
{
	char first[64];

	rig_tree_make(&tree, 60, 19);
	build_as("app:1");
	snprintf(first, sizeof(first), "%s", disk->key);
	unfit = "the push failed";
	passing = true;
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_string_equal(disk->key, first);
	unfit = NULL;
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_string_not_equal(disk->key, first);
	assert_string_not_equal(disk->key, "app:1");
	assert_int_equal(build_as("app:2"), 0);
	unfit = "the push failed";
	build_as("app:1");
	unfit = NULL;
	build_as("app:1");
	assert_string_equal(disk->key, "app:1");
}

/* Two projects of one name: from the second change on each has a key of its own, or at least none has the other's bytes. */
static void another_tree_gets_another_key(void **state)
{
	rig_tree_make(&tree, 1200, 10);
	build_as("app:1");
	for (uint32_t i = 0; i < tree.count; i++)
		tree.files[i].path[0] = 'e';
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_int_equal(disks_count, 1);
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_int_equal(disks_count, 2);
	assert_int_equal(build_as("app:1"), 0);
}

static void name_differently(struct rig_tree *of)
{
	for (uint32_t i = 0; i < of->count; i++)
		of->files[i].path[0] = 'e';
}

/* Two projects in directories of one name, built in turns: once each has had its key, neither's build costs the other anything. */
static void namesakes_go_on_with_their_own(void **state)
{
	static struct rig_tree other;

	rig_tree_make(&tree, 1200, 11);
	other = tree;
	name_differently(&other);
	build_as("app:1");
	for (int turn = 0; turn < 6; turn++) {
		struct rig_tree swap = tree;
		uint32_t asked_for;

		tree = other;
		other = swap;
		asked_for = build_as(turn % 2 ? "app:1" : "app:2");
		/* The second one has all brought twice: under the first's key, and under its own. */
		assert_int_equal(asked_for, turn == 0 || turn == 2 ? files_of(&tree) : 0);
	}
	assert_int_equal(disks_count, 2);
	/* A machine that is not known goes on with what was built last. */
	assert_int_equal(build_as("app:3"), 0);
	assert_int_equal(disks_count, 2);
}

/* ---- ahead of the root ---- */

/* The daemon hears of what is the same while the edge still lists; then of the rest, whether the root is that of the last time or not. */
static void what_is_the_same_is_told_before_the_root(void **state)
{
	rig_tree_make(&tree, 300, 13);
	same = 150;
	build_as("app:1");
	assert_false(edge.asked_same);           /* nothing was known of it */
	touch_all(1000000007);
	assert_int_equal(build_as("app:1"), 0);
	assert_true(edge.asked_same);
	assert_int_equal(rig.play.counters.plays_same, 1);
	tree.files[151].seed += 1;
	tree.files[290].seed += 1;
	assert_int_equal(build_as("app:2"), 2);
	same = tree.count;
	assert_int_equal(build_as("app:1"), 0);
	assert_int_equal(rig.play.counters.plays_same, 3);
	/* The daemon lost what it had: it is given it, also of what it heard of first. */
	disk->count = 0;
	same = 1;
	assert_int_equal(build_as("app:1"), files_of(&tree));
	assert_int_equal(disks_count, 1);
}

/* It is looked at again. */
static void what_is_said_to_be_the_same_and_is_not(void **state)
{
	rig_tree_make(&tree, 300, 14);
	same = 150;
	build_as("app:1");
	tree.files[5].seed += 1;
	ends = GRPC_INTERNAL;
	build_as("app:1");
	ends = GRPC_OK;
	same = 4;
	assert_int_equal(build_as("app:1"), 1);
}

static void say_less(void)
{
	stand_in_say_same(&edge, same - 1);
}

static void say_more_than_there_is(void)
{
	stand_in_say_same(&edge, tree.count + 5);
}

static void say_end(void)
{
	call_finish(&edge.call, GRPC_INTERNAL, "the edge ends");
}

static void say_unfit(void)
{
	stand_in_say_unfit(&edge);
}

static void counts_that_make_no_sense(void **state)
{
	rig_tree_make(&tree, 300, 15);
	build_as("app:1");
	same = 150;
	meanwhile = say_more_than_there_is;
	ends = GRPC_INTERNAL;
	build_as("app:1");
	/* Its edge is not asked any more; the client has it all. */
	meanwhile = say_less;
	ends = GRPC_OK;
	unfit = "lies";
	build_as("app:1");
}

/* The rest comes from the client, under times that are new; what it had is not taken for that. And the key is given up. */
static void unfit_behind_what_is_the_same(void **state)
{
	void (*const ways[])(void) = { say_unfit, say_end };

	for (unsigned i = 0; i < 2; i++) {
		char key[8];

		snprintf(key, sizeof(key), "app%u:1", i);
		rig_tree_make(&tree, 300, 16);
		same = 0;
		unfit = NULL;
		build_as(key);
		touch_all(1000000007);
		same = 150;
		unfit = "a device";
		meanwhile = ways[i];
		tree.files[170].seed += 1;       /* the same path, size and mtime */
		assert_int_equal(rig.play.counters.plays_same, i);
		assert_true(build_as(key) >= 100);
		assert_int_equal(rig.play.counters.plays_same, i + 1);
		for (uint32_t j = 0; j < tree.count; j++)
			assert_true(tree.files[j].directory || asked[j] == (j >= same));
		build_as(key);
		assert_int_equal(strcmp(disk->key, key) == 0, i == 0);   /* the client's own, where it was said what is wrong with it */
		assert_false(edge.asked_same);
	}
	meanwhile = NULL;
}

static void say_gone(void)
{
	call_finish(&edge.call, GRPC_CANCELLED, "the client ended the call");
}

static void vanish(void)
{
	rig_client_vanish(&rig.clients[rig.clients_count - 1]);
}

/*
 * Who cancels a build while the client lists has said nothing of the context, nor has an edge that is lost, whatever the daemon
 * was told by then: the key is kept, for all who have it.
 */
static void who_goes_keeps_the_key(void **state)
{
	void (*const ways[])(void) = { say_gone, vanish };

	rig_tree_make(&tree, 300, 17);
	build_as("app:1");
	for (unsigned i = 0; i < 4; i++) {
		touch_all(1000000007);
		silent = i >= 2;
		same = silent ? 0 : 150;
		meanwhile = ways[i % 2];
		ends = GRPC_UNAVAILABLE;
		build_as("app:1");
		silent = false;
		same = 0;
		meanwhile = NULL;
		ends = GRPC_OK;
		assert_int_equal(build_as("app:1"), 0);
		assert_string_not_equal(disk->key, "app:1");
	}
	/* Nor has an edge whose client had gone when it was asked. */
	touch_all(1000000007);
	refuses = true;
	ends = GRPC_UNAVAILABLE;
	build_as("app:1");
	refuses = false;
	ends = GRPC_OK;
	assert_int_equal(build_as("app:1"), 0);
	assert_string_not_equal(disk->key, "app:1");
	assert_int_equal(disks_count, 1);
}

/* A small file among what is said to be the same. */
#define LOST_FILE 5

static void damage_lost_file(void)
{
	unsigned damaged = 0;

	for (uint32_t i = 0; i < edge.blobs_count; i++)
		if (digest_equal(&edge.blobs[i].digest, &edge.names[LOST_FILE].digest))
			damaged += damage_blob(&rig.fixture, &edge.blobs[i]);
	assert_true(damaged > 0);
}

static uint64_t corrupt_reads(void)
{
	struct store_status status;

	store_status(rig.fixture.store, &status);
	return status.corrupt;
}

static void expect_loss_told(void)
{
	rig_until(&rig, &under_way->closed);
	assert_non_null(strstr(under_way->message, "store lost a part of the context"));
}

static void lose_and_say_unfit(void)
{
	rig_wait(&rig, corrupt_reads() == 1);
	assert_false(under_way->closed);         /* its root may bring it yet */
	stand_in_say_unfit(&edge);
	expect_loss_told();
}

static void say_unfit_and_lose(void)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	under_way->stays = true;
	stand_in_say_unfit(&edge);
	rig_wait(&rig, under_way->stats_ended);
	damage_lost_file();
	rig_copy_send(under_way, span_make(packet, fsutil_write_req(packet, LOST_FILE)));
	expect_loss_told();
}

/* The store lost a file of which the daemon has heard before the context was unfit: nobody brings it, and the daemon is told. */
static void what_is_lost_and_not_brought_is_told(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		char key[8];

		snprintf(key, sizeof(key), "app%u:1", i);
		rig_tree_make(&tree, 300, 19);
		same = 0;
		unfit = NULL;
		ends = GRPC_OK;
		build_as(key);
		assert_int_equal(sync_store(&rig.fixture), 0);
		same = 150;
		unfit = "a device";
		ends = GRPC_UNAVAILABLE;
		if (i == 0) {
			damage_lost_file();
			disk->files[LOST_FILE].mtime_ns++;       /* so the daemon asks for it at once */
		}
		meanwhile = i ? say_unfit_and_lose : lose_and_say_unfit;
		build_as(key);
	}
}

static void say_unfit_and_ask_beyond(void)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	stand_in_say_unfit(&edge);
	rig_wait(&rig, under_way->stats_ended);
	rig_copy_send(under_way, span_make(packet, fsutil_write_req(packet, tree.count)));
}

static void say_unfit_and_ask_for_ever(void)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];
	uint32_t file = tree.count - 1;

	stand_in_say_unfit(&edge);
	rig_wait(&rig, under_way->stats_ended);
	for (uint32_t i = 0; i < tree.count && !under_way->closed; i++)
		rig_copy_send(under_way, span_make(packet, fsutil_write_req(packet, file)));
}

/* What waits for the client is no more than it has files. */
static void who_asks_the_client_for_too_much_is_refused(void **state)
{
	void (*const ways[])(void) = { say_unfit_and_ask_beyond, say_unfit_and_ask_for_ever };

	for (unsigned i = 0; i < 2; i++) {
		char key[8];

		snprintf(key, sizeof(key), "app%u:1", i);
		rig_tree_make(&tree, 300, 18);
		same = 0;
		unfit = NULL;
		ends = GRPC_OK;
		build_as(key);
		same = 150;
		unfit = "a device";
		meanwhile = ways[i];
		ends = GRPC_INVALID_ARGUMENT;
		build_as(key);
	}
}

/* The client has something else by then: the daemon has heard of what is not there. */
static void a_context_that_changes_while_it_is_unfit(void **state)
{
	static struct rig_tree other;

	rig_tree_make(&tree, 300, 17);
	build_as("app:1");
	other = tree;
	other.files[20].path[strlen(other.files[20].path) - 1] ^= 1;
	listed = &other;
	same = 150;
	unfit = "a device";
	meanwhile = say_unfit;
	ends = GRPC_UNAVAILABLE;
	build_as("app:1");
	listed = NULL;
	ends = GRPC_OK;
	build_as("app:1");
}

static int setup(void **state)
{
	rig_init(&rig);
	same = 0;
	ends = GRPC_OK;
	listed = NULL;
	silent = false;
	meanwhile = NULL;
	rig.give = stand_in_give;
	rig.giver = &edge;
	rig.stable = true;
	ahead = false;
	unfit = NULL;
	passing = refuses = false;
	disks_count = 0;
	return 0;
}

static int teardown(void **state)
{
	rig_fini(&rig);
	stand_in_fini(&edge);
	memset(&edge, 0, sizeof(edge));
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_fresh_checkout_elsewhere_costs_nothing),
		TEST(only_what_changed_is_asked_for),
		TEST(what_looks_the_same_is_told_apart),
		TEST(a_content_that_returns_looks_new),
		TEST(histories_leave_no_old_bytes),
		TEST(a_table_that_is_gone_takes_its_key_along),
		TEST(a_torn_tail_is_no_loss),
		TEST(what_cannot_be_kept_is_not_told),
		TEST(real_times_are_the_clients),
		TEST(what_came_ahead_is_claimed),
		TEST(what_nobody_named_is_not_taken_for_known),
		TEST(what_may_pass_costs_one_key),
		TEST(another_tree_gets_another_key),
		TEST(namesakes_go_on_with_their_own),
		TEST(what_is_the_same_is_told_before_the_root),
		TEST(what_is_said_to_be_the_same_and_is_not),
		TEST(counts_that_make_no_sense),
		TEST(unfit_behind_what_is_the_same),
		TEST(who_goes_keeps_the_key),
		TEST(what_is_lost_and_not_brought_is_told),
		TEST(who_asks_the_client_for_too_much_is_refused),
		TEST(a_context_that_changes_while_it_is_unfit),
	};

	if (argc > 1)
		fixture_choose_ring(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
