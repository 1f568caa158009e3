#include "tests/unit/context/place.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "chunker/sha256.h"
#include "gateway/base/err.h"
#include "proto/recipe.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

int place_setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	strcpy(place->base, "/tmp/manifest-test-XXXXXX");
	if (!mkdtemp(place->base))
		return -1;
	snprintf(place->tree, sizeof(place->tree), "%s/tree", place->base);
	snprintf(place->snapshot, sizeof(place->snapshot), "%s/cache/snapshot", place->base);
	if (mkdir(place->tree, 0755) < 0)
		return -1;
	place->fd = open(place->tree, O_RDONLY | O_DIRECTORY);
	*state = place;
	return 0;
}

int place_teardown(void **state)
{
	struct place *place = *state;
	char command[128];

	close(place->fd);
	snprintf(command, sizeof(command), "rm -rf %s", place->base);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

void place_write(struct place *place, const char *name, const void *data, size_t size)
{
	int fd = openat(place->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	assert_int_equal(fchmod(fd, 0644), 0);
	close(fd);
}

void place_write_text(struct place *place, const char *name, const char *text)
{
	place_write(place, name, text, strlen(text));
}

void place_make_directory(struct place *place, const char *name)
{
	assert_int_equal(mkdirat(place->fd, name, 0755), 0);
	assert_int_equal(fchmodat(place->fd, name, 0755, 0), 0);
}

uint8_t *noise(size_t size, uint64_t seed)
{
	uint8_t *data = malloc(size);

	for (size_t i = 0; i < size; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		data[i] = (uint8_t)(seed >> 56);
	}
	return data;
}

void grow_old(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 3 * (1000000000 / sysconf(_SC_CLK_TCK)) + 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL))
		;
}

struct manifest *place_build_with(struct place *place, const struct manifest_options *options)
{
	struct manifest *manifest = NULL;
	char why[512];
	int r = manifest_build(&manifest, options, why, sizeof(why));

	if (r)
		fail_msg("%s (%s)", why, err_text(r));
	return manifest;
}

struct manifest_options place_options(struct place *place)
{
	return (struct manifest_options){ .path = place->tree, .snapshot_path = place->snapshot, .use_ignore = true };
}

struct manifest *place_build(struct place *place)
{
	struct manifest_options options = place_options(place);

	return place_build_with(place, &options);
}

void place_refuses(struct place *place, int expected, const char *sentence)
{
	struct manifest_options options = place_options(place);
	struct manifest *manifest = NULL;
	char why[512];

	assert_int_equal(manifest_build(&manifest, &options, why, sizeof(why)), expected);
	assert_string_equal(why, sentence);
	assert_null(manifest);
}

uint64_t place_build_and_save(struct place *place, struct digest *root)
{
	struct manifest *manifest = place_build(place);
	uint64_t files_read = manifest_totals(manifest)->files_read;

	*root = *manifest_root(manifest);
	assert_int_equal(manifest_save(manifest), 0);
	manifest_destroy(manifest);
	return files_read;
}

static void *read_blob(struct manifest *manifest, const struct digest *digest)
{
	uint8_t *data = malloc(digest->size + 1), hash[SHA256_BYTES];
	char why[512] = "";

	if (manifest_read(manifest, digest, data, why, sizeof(why)))
		fail_msg("blob cannot be read: %s", why);
	sha256_once(data, digest->size, hash);
	assert_memory_equal(hash, digest->hash, sizeof(hash));
	return data;
}

/* Puts the content together from its pieces, as the other side will. */
static void append_content(struct manifest *manifest, const struct digest *digest, bool recipe, struct buffer *out)
{
	void *blob = read_blob(manifest, digest);
	const struct digest *children;
	struct recipe_reader reader;
	struct digest entry;
	size_t count, seen = 0;
	bool recipes;

	if (!recipe) {
		buffer_put(out, blob, digest->size);
		free(blob);
		return;
	}
	assert_true(recipe_open(&reader, span_make(blob, digest->size)));
	while (recipe_next(&reader, &entry)) {
		append_content(manifest, &entry, reader.head.level == 1, out);
		assert_int_equal(manifest_recipe_children(manifest, digest, &children, &recipes, &count), 0);
		assert_int_equal(recipes, reader.head.level == 1);
		assert_true(seen < count && digest_equal(&children[seen], &entry));
		seen++;
	}
	assert_false(reader.failed);
	assert_int_equal(seen, count);
	free(blob);
}

static void compare_file(struct manifest *manifest, int dir_fd, const char *name, const struct tree_node *node)
{
	struct buffer content = buffer_heap(1u << 30);
	struct stat st;
	uint8_t *data;
	int fd;

	append_content(manifest, &node->digest, node->recipe, &content);
	assert_int_equal(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(node->mode, st.st_mode & 07777);
	assert_int_equal(node->file_size, st.st_size);
	assert_int_equal(content.size, st.st_size);
	assert_int_equal(node->recipe, st.st_size > RECIPE_WHOLE_MAX);
	data = malloc((size_t)st.st_size + 1);
	fd = openat(dir_fd, name, O_RDONLY);
	assert_int_equal(read(fd, data, (size_t)st.st_size + 1), st.st_size);
	close(fd);
	if (content.size)
		assert_memory_equal(data, content.data, content.size);
	free(data);
	buffer_fini(&content);
}

static void compare_symlink(int dir_fd, const char *name, const struct tree_node *node)
{
	char target[PATH_MAX];
	ssize_t size = readlinkat(dir_fd, name, target, sizeof(target));

	assert_true(size > 0);
	assert_true(span_equal(node->target, span_make(target, (size_t)size)));
}

unsigned place_compare(struct manifest *manifest, int dir_fd, const struct digest *digest)
{
	void *blob = read_blob(manifest, digest);
	struct tree_reader reader;
	struct tree_node node;
	unsigned count = 0;
	struct stat st;

	assert_true(tree_open(&reader, span_make(blob, digest->size)));
	assert_int_equal(fstat(dir_fd, &st), 0);
	assert_int_equal(reader.directory.mode, st.st_mode & 07777);
	while (tree_next(&reader, &node)) {
		char name[TREE_NAME_MAX + 1];

		memcpy(name, node.name.data, node.name.size);
		name[node.name.size] = 0;
		count++;
		if (node.kind == TREE_FILE) {
			compare_file(manifest, dir_fd, name, &node);
		} else if (node.kind == TREE_SYMLINK) {
			compare_symlink(dir_fd, name, &node);
		} else if (node.kind == TREE_DIRECTORY) {
			int below = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

			assert_true(below >= 0);
			count += place_compare(manifest, below, &node.digest);
			close(below);
		} else {
			assert_int_equal(node.kind, TREE_FIFO);
		}
	}
	if (reader.failed)
		fail_msg("%s", reader.fault);
	tree_close(&reader);
	free(blob);
	return count;
}

bool place_find(struct manifest *manifest, const char *path, struct tree_node *found)
{
	static struct tree_reader reader;
	static void *blob;
	struct digest digest = *manifest_root(manifest);

	for (;;) {
		size_t size = strcspn(path, "/");
		bool there = false;

		tree_close(&reader);
		free(blob);
		blob = read_blob(manifest, &digest);
		assert_true(tree_open(&reader, span_make(blob, digest.size)));
		while (!there && tree_next(&reader, found))
			there = span_equal(found->name, span_make(path, size));
		assert_false(reader.failed);
		if (!there || !path[size]) {
			if (!there) {
				tree_close(&reader);
				free(blob);
				blob = NULL;
			}
			return there;
		}
		digest = found->digest;
		path += size + 1;
	}
}

bool place_holds(struct manifest *manifest, const char *path)
{
	struct tree_node node;

	return place_find(manifest, path, &node);
}

unsigned place_make_everything(struct place *place)
{
	static const size_t sizes[] = { 0, 1, 65535, 65536, 65537, 70000, 262144, 1000000, 9000000 };
	char long_name[256];
	unsigned count = 0;

	for (size_t i = 0; i < COUNT(sizes); i++, count++) {
		uint8_t *data = noise(sizes[i] + 1, i);
		char name[32];

		snprintf(name, sizeof(name), "size-%zu", sizes[i]);
		place_write(place, name, data, sizes[i]);
		free(data);
	}
	place_write_text(place, "script", "#!/bin/sh\n");
	assert_int_equal(fchmodat(place->fd, "script", 0755, 0), 0);
	place_write_text(place, "setuid", "x");
	assert_int_equal(fchmodat(place->fd, "setuid", 06711, 0), 0);
	place_write_text(place, "\xff\xfe not UTF-8", "x");
	place_write_text(place, "%FF%FE not UTF-8", "y");
	place_write_text(place, ".wh.white-out", "");
	place_write_text(place, "new\nline", "z");
	memset(long_name, 'n', 255);
	long_name[255] = 0;
	place_write_text(place, long_name, "long");
	place_make_directory(place, "empty");
	place_make_directory(place, "sticky");
	assert_int_equal(fchmodat(place->fd, "sticky", 01777, 0), 0);
	place_make_directory(place, "\xc3");
	place_write_text(place, "\xc3/below", "deep");
	assert_int_equal(symlinkat("loop", place->fd, "loop"), 0);
	assert_int_equal(symlinkat("/etc/../passwd", place->fd, "absolute"), 0);
	assert_int_equal(symlinkat("\xe9", place->fd, "to-\xe9"), 0);
	assert_int_equal(mkfifoat(place->fd, "pipe", 0600), 0);
	assert_int_equal(linkat(place->fd, "script", place->fd, "\xc3/second", 0), 0);
	assert_int_equal(linkat(place->fd, "size-9000000", place->fd, "\xc3/large", 0), 0);
	return count + 17;
}

void place_make_small(struct place *place)
{
	char name[32];

	for (int d = 0; d < 5; d++) {
		snprintf(name, sizeof(name), "d%d", d);
		place_make_directory(place, name);
		for (int f = 0; f < 10; f++) {
			snprintf(name, sizeof(name), "d%d/f%d", d, f);
			place_write_text(place, name, name);
		}
	}
	place_write_text(place, "top", "top");
}
