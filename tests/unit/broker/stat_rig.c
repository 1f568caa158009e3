#include "tests/unit/broker/stat_rig.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/recipe.h"

char rig_snapshots[80];
struct ring *rig_ring;
struct stat_memory *rig_memory;
static char directory[64];
static enum ring_engine engine = RING_ENGINE_AUTO;

void rig_take_engine(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "epoll") == 0)
		engine = RING_ENGINE_EPOLL;
}

void rig_open_memory(void)
{
	assert_int_equal(stat_memory_create(&rig_memory, rig_ring, rig_snapshots), 0);
}

static void set_true(void *context)
{
	*(bool *)context = true;
}

void rig_run_until(const bool *done)
{
	for (unsigned turns = 0; !*done; turns++) {
		assert_true(turns < 100000);
		ring_run(rig_ring, 1000000000);
	}
}

void rig_close_memory(void)
{
	bool done = false;

	stat_memory_destroy(rig_memory, set_true, &done);
	rig_run_until(&done);
	rig_memory = NULL;
}

int rig_setup(void **state)
{
	struct ring_config config = { .engine = engine };

	snprintf(directory, sizeof(directory), "/var/tmp/sluice-stat-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(rig_snapshots, sizeof(rig_snapshots), "%s/snapshots", directory);
	assert_int_equal(ring_create(&rig_ring, &config), 0);
	rig_open_memory();
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

int rig_teardown(void **state)
{
	rig_close_memory();
	ring_destroy(rig_ring);
	nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

void rig_on_table(struct stat_request *request)
{
	container_of(request, struct rig_asking, request)->done = true;
}

void rig_trust_key(unsigned number, uint8_t key[STAT_KEY_BYTES])
{
	memset(key, 0x5c, STAT_KEY_BYTES);
	memcpy(key, &number, sizeof(number));
}

struct stat_table *rig_get(unsigned number)
{
	struct rig_asking asking = { .request.fn = rig_on_table };
	uint8_t key[STAT_KEY_BYTES];

	rig_trust_key(number, key);
	stat_memory_get(rig_memory, &asking.request, key);
	assert_false(asking.done);
	rig_run_until(&asking.done);
	assert_non_null(asking.request.table);
	return asking.request.table;
}

struct stat_entry_key rig_entry_key(unsigned number)
{
	char path[32];

	return stat_entry_key(span_make(path, (size_t)snprintf(path, sizeof(path), "dir/file-%u", number)), number, number * 1000ll);
}

struct content_name rig_name_of(unsigned number)
{
	struct content_name name = { .recipe = number % 3 == 0 };

	memset(name.digest.hash, (int)(number % 251), sizeof(name.digest.hash));
	memcpy(name.digest.hash, &number, sizeof(number));
	name.size = name.recipe ? RECIPE_WHOLE_MAX + 1 + number : number % (RECIPE_WHOLE_MAX + 1);
	name.digest.size = name.recipe ? 75 + number % 1000 : name.size;
	return name;
}

void rig_learn_one(struct stat_table *table, unsigned number)
{
	struct stat_entry_key key = rig_entry_key(number);
	struct content_name name = rig_name_of(number);

	stat_table_learn(table, &key, &name);
}

void rig_learn(struct stat_table *table, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++) {
		struct stat_entry_key key = rig_entry_key(i);

		rig_learn_one(table, i);
		while (!stat_table_touch(table, &key)) {
			ring_run(rig_ring, 1000000);
			rig_learn_one(table, i);
		}
	}
}

bool rig_knows(struct stat_table *table, unsigned number)
{
	struct stat_entry_key key = rig_entry_key(number);
	struct content_name found, name = rig_name_of(number);

	if (!stat_table_find(table, &key, &found))
		return false;
	assert_true(digest_equal(&found.digest, &name.digest));
	assert_int_equal(found.size, name.size);
	assert_int_equal(found.recipe, name.recipe);
	return true;
}

void rig_assert_knows(struct stat_table *table, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		assert_true(rig_knows(table, i));
}

struct stat_memory_status rig_status(void)
{
	struct stat_memory_status status;

	stat_memory_status(rig_memory, &status);
	return status;
}
