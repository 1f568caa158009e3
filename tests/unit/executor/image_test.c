/*
 * image: layouts written here, layer by layer: what an unpacked image holds, whose it is, that white-outs work as the
 * specification says, that nothing outside the root is touched, and that wrong bytes are refused. Needs root (owners): skipped loudly
 * without.
 */
#include "chunker/sha256.h"
#include "gateway/context/beneath.h"
#include "gateway/executor/image.h"
#include "gateway/executor/image_layer.h"
#include "proto/digest.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define UID_BASE    1900000000u
#define LAYER_MAX   65536
#define ENTRIES_MAX 16

struct entry {
	const char *path;
	mode_t type;                     /* 0: a regular file */
	const char *text;                /* content, target of a symlink */
	const char *hardlink;
	unsigned mode, uid;
};

enum packing { PLAIN, GZIP, ZSTD };

struct layer {
	enum packing packing;
	struct entry entries[ENTRIES_MAX];
};

static char top[64];
static char why[512];

static int setup(void **state)
{
	strcpy(top, "/tmp/image-XXXXXX");
	return mkdtemp(top) ? chdir(top) : -1;
}

static int teardown(void **state)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY);

	assert_int_equal(beneath_clear(fd), 0);
	close(fd);
	return chdir("/") | rmdir(top);
}

static void put_file(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
}

/* A blob of the layout; `digest` gets "sha256:HEX". */
static void put_blob(const void *data, size_t size, char digest[static 80])
{
	struct digest named = { .size = size };
	char path[128];

	sha256_once(data, size, named.hash);
	memcpy(digest, "sha256:", 7);
	digest_hex(&named, digest + 7);
	digest[7 + DIGEST_HEX_BYTES] = 0;
	snprintf(path, sizeof(path), "layout/blobs/sha256/%s", digest + 7);
	put_file(path, data, size);
}

static size_t make_layer(const struct layer *layer, uint8_t *out)
{
	struct archive *archive = archive_write_new();
	size_t used = 0;

	archive_write_set_format_pax_restricted(archive);
	if (layer->packing == GZIP)
		archive_write_add_filter_gzip(archive);
	if (layer->packing == ZSTD)
		archive_write_add_filter_zstd(archive);
	assert_int_equal(archive_write_open_memory(archive, out, LAYER_MAX, &used), ARCHIVE_OK);
	for (const struct entry *entry = layer->entries; entry->path; entry++) {
		struct archive_entry *header = archive_entry_new();
		mode_t type = entry->type ? entry->type : S_IFREG;

		archive_entry_set_pathname(header, entry->path);
		archive_entry_set_filetype(header, type);
		archive_entry_set_perm(header, (mode_t)(entry->mode ? entry->mode : 0755));
		archive_entry_set_uid(header, entry->uid);
		archive_entry_set_gid(header, entry->uid);
		archive_entry_set_mtime(header, 1000000000, 0);
		if (entry->hardlink)
			archive_entry_set_hardlink(header, entry->hardlink);
		else if (type == S_IFLNK)
			archive_entry_set_symlink(header, entry->text);
		else if (type == S_IFREG)
			archive_entry_set_size(header, entry->text ? (int64_t)strlen(entry->text) : 0);
		assert_int_equal(archive_write_header(archive, header), ARCHIVE_OK);
		if (type == S_IFREG && !entry->hardlink && entry->text)
			archive_write_data(archive, entry->text, strlen(entry->text));
		archive_entry_free(header);
	}
	archive_write_close(archive);
	archive_write_free(archive);
	return used;
}

static const char *architecture(void)
{
	static struct utsname name;

	uname(&name);
	return strcmp(name.machine, "x86_64") == 0 ? "amd64" : strcmp(name.machine, "aarch64") == 0 ? "arm64" : name.machine;
}

static void make_layout(const struct layer *layers, size_t count, const char *config_text)
{
	static uint8_t bytes[LAYER_MAX];
	char digest[80], config[80], manifest[16384], index[1024];
	int used;

	assert_int_equal(mkdir("layout", 0755) | mkdir("layout/blobs", 0755) | mkdir("layout/blobs/sha256", 0755), 0);
	put_blob(config_text, strlen(config_text), config);
	used = snprintf(manifest, sizeof(manifest), "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\"},\"layers\":[", config);
	for (size_t i = 0; i < count; i++) {
		put_blob(bytes, make_layer(&layers[i], bytes), digest);
		used += snprintf(manifest + used, sizeof(manifest) - (size_t)used, "%s{\"digest\":\"%s\"}", i ? "," : "", digest);
	}
	used += snprintf(manifest + used, sizeof(manifest) - (size_t)used, "]}");
	put_blob(manifest, (size_t)used, digest);
	used = snprintf(index, sizeof(index), "{\"manifests\":[{\"digest\":\"sha256:%064d\",\"platform\":{\"architecture\":\"unknown\",\"os\":"
	                "\"unknown\"}},{\"digest\":\"%s\",\"platform\":{\"architecture\":\"%s\",\"os\":\"linux\"}}]}", 0, digest, architecture());
	put_file("layout/index.json", index, (size_t)used);
}

static int open_image(struct image *image)
{
	static char cache[80];

	snprintf(cache, sizeof(cache), "%s/cache", top);
	return image_open(image, &(struct image_options){ .layout = "layout", .cache = cache, .uid_base = UID_BASE, .uid_count = 65536 },
	                  why, sizeof(why));
}

static bool is_there(const struct image *image, const char *path, struct stat *stat_buffer)
{
	char full[PATH_MAX + 64];

	snprintf(full, sizeof(full), "%s/%s", image->rootfs, path);
	return lstat(full, stat_buffer) == 0;
}

static void expect_text(const struct image *image, const char *path, const char *text)
{
	char full[PATH_MAX + 64], have[256] = "";
	int fd;

	snprintf(full, sizeof(full), "%s/%s", image->rootfs, path);
	fd = open(full, O_RDONLY | O_NOFOLLOW);
	if (fd < 0)
		fail_msg("%s is missing", path);
	assert_true(read(fd, have, sizeof(have) - 1) >= 0);
	close(fd);
	assert_string_equal(have, text);
}

static void layers_lie_over_each_other(void **state)
{
	static const struct layer layers[] = {
		{ PLAIN, {
			{ .path = "./", .type = S_IFDIR, .mode = 0755 },
			{ .path = "usr/", .type = S_IFDIR },
			{ .path = "usr/bin/", .type = S_IFDIR },
			{ .path = "bin", .type = S_IFLNK, .text = "usr/bin" },
			{ .path = "usr/bin/tool", .text = "old" },
			{ .path = "etc/passwd", .text = "root:x:0:0::/:/bin/sh\nbuilder:x:1000:1001::/:/bin/sh\n", .mode = 0644 },
			{ .path = "gone", .text = "x" },
			{ .path = "opaque/lower", .text = "x" },
			{ .path = "dir/file", .text = "x" },
			{ .path = "owned", .text = "x", .uid = 1000, .mode = 04750 },
			{ .path = "dev/null", .type = S_IFCHR },
		} },
		{ GZIP, {
			{ .path = "bin/tool", .text = "new" },                  /* through the symlink */
			{ .path = "bin/also", .hardlink = "usr/bin/tool" },
			{ .path = ".wh.gone" },
			{ .path = "opaque/upper", .text = "y" },                 /* before the mark: it stays */
			{ .path = "opaque/.wh..wh..opq" },
			{ .path = "dir", .type = S_IFREG, .text = "a file now" },
		} },
		{ ZSTD, { { .path = "third", .text = "z" } } },
	};
	struct stat stat_buffer, other;
	struct image image;
	char digest[IMAGE_DIGEST_TEXT];

	make_layout(layers, 3, "{\"config\":{\"Env\":[\"A=b\",\"PATH=/bin\"],\"WorkingDir\":\"/srv\",\"User\":\"builder\"}}");
	if (open_image(&image))
		fail_msg("%s", why);
	expect_text(&image, "usr/bin/tool", "new");
	assert_true(is_there(&image, "usr/bin/also", &stat_buffer) && stat_buffer.st_nlink == 2);
	assert_true(is_there(&image, "bin", &stat_buffer) && S_ISLNK(stat_buffer.st_mode));
	assert_false(is_there(&image, "gone", &stat_buffer));
	assert_false(is_there(&image, ".wh.gone", &stat_buffer));
	assert_false(is_there(&image, "opaque/lower", &stat_buffer));
	expect_text(&image, "opaque/upper", "y");
	expect_text(&image, "dir", "a file now");
	expect_text(&image, "third", "z");
	assert_false(is_there(&image, "dev/null", &stat_buffer));
	assert_true(is_there(&image, "owned", &stat_buffer));
	assert_int_equal(stat_buffer.st_uid, UID_BASE + 1000);
	assert_int_equal(stat_buffer.st_mode & 07777, 04750);
	assert_int_equal(stat_buffer.st_mtime, 1000000000);
	assert_true(is_there(&image, "work", &stat_buffer) && S_ISDIR(stat_buffer.st_mode));
	assert_true(is_there(&image, "proc", &stat_buffer) && stat_buffer.st_uid == UID_BASE);
	expect_text(&image, "etc/hosts", "127.0.0.1 localhost sluice\n::1 localhost\n");
	assert_string_equal(image.env[0], "A=b");
	assert_string_equal(image.env[1], "PATH=/bin");
	assert_null(image.env[2]);
	assert_string_equal(image.cwd, "/srv");
	assert_int_equal(image.uid, 1000);
	assert_int_equal(image.gid, 1001);
	assert_int_equal(image_digest("layout", digest, why, sizeof(why)), 0);
	assert_string_equal(digest, image.digest);
	assert_true(is_there(&image, "third", &stat_buffer));
	image_fini(&image);

	assert_int_equal(open_image(&image), 0);                /* unpacked once */
	assert_true(is_there(&image, "third", &other));
	assert_int_equal(other.st_ino, stat_buffer.st_ino);
	assert_int_equal(other.st_ctim.tv_nsec, stat_buffer.st_ctim.tv_nsec);
	image_fini(&image);
}

/* A mark in what was no directory below: what is replaced has nothing to hide, and where it led is not meant. */
static void marks_are_of_the_layers_own_directories(void **state)
{
	static const struct layer layers[] = {
		{ PLAIN, {
			{ .path = "run/keep", .text = "kept" },
			{ .path = "run/in/keep", .text = "kept, too" },
			{ .path = "var/run", .type = S_IFLNK, .text = "/run" },
			{ .path = "dangling", .type = S_IFLNK, .text = "nowhere" },
			{ .path = "self", .type = S_IFLNK, .text = "self" },
			{ .path = "f", .text = "x" },
		} },
		{ PLAIN, {
			{ .path = "var/run/", .type = S_IFDIR },
			{ .path = "var/run/.wh..wh..opq" },
			{ .path = "var/run/in/", .type = S_IFDIR },
			{ .path = "var/run/in/.wh..wh..opq" },
			{ .path = "dangling/", .type = S_IFDIR },
			{ .path = "dangling/.wh..wh..opq" },
			{ .path = "self/", .type = S_IFDIR },
			{ .path = "self/.wh.gone" },
			{ .path = "f/", .type = S_IFDIR },
			{ .path = "f/.wh..wh..opq" },
			{ .path = "f/.wh.gone" },
			{ .path = "f/new", .text = "new" },
			{ .path = "missing/.wh.gone" },
		} },
	};
	static const char *const directories[] = { "var/run", "var/run/in", "dangling", "self", "f" };
	struct stat stat_buffer;
	struct image image;

	make_layout(layers, 2, "{}");
	if (open_image(&image))
		fail_msg("%s", why);
	expect_text(&image, "run/keep", "kept");
	expect_text(&image, "run/in/keep", "kept, too");
	expect_text(&image, "f/new", "new");
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++)
		assert_true(is_there(&image, directories[i], &stat_buffer) && S_ISDIR(stat_buffer.st_mode));
	image_fini(&image);
}

static void nothing_outside_is_touched(void **state)
{
	static const struct layer layers[] = { { PLAIN, {
		{ .path = "tmp", .type = S_IFDIR },
		{ .path = "out", .type = S_IFLNK, .text = "../../../../../../../tmp" },
		{ .path = "abs", .type = S_IFLNK, .text = "/tmp" },
		{ .path = "out/image-test-escaped", .text = "x" },
		{ .path = "abs/image-test-escaped-too", .text = "x" },
		{ .path = "/absolute", .text = "x" },
	} } };
	struct stat stat_buffer;
	struct image image;

	make_layout(layers, 1, "{}");
	if (open_image(&image))
		fail_msg("%s", why);
	assert_true(is_there(&image, "tmp/image-test-escaped", &stat_buffer));  /* inside the root, both */
	assert_true(is_there(&image, "tmp/image-test-escaped-too", &stat_buffer));
	assert_true(is_there(&image, "absolute", &stat_buffer));
	assert_int_equal(lstat("/tmp/image-test-escaped-too", &stat_buffer), -1);
	assert_int_equal(lstat("/tmp/image-test-escaped", &stat_buffer), -1);
	image_fini(&image);
}

static void expect_refused(const struct layer *layer, int error, const char *text)
{
	struct image image;
	int fd;

	make_layout(layer, 1, "{}");
	*why = 0;
	assert_int_equal(open_image(&image), error);
	if (!strstr(why, text))
		fail_msg("another reason: %s", why);
	fd = open("cache", O_RDONLY | O_DIRECTORY);
	assert_int_equal(beneath_is_empty(fd), 1);              /* nothing half unpacked stays */
	close(fd);
	fd = open(".", O_RDONLY | O_DIRECTORY);
	assert_int_equal(beneath_clear(fd), 0);
	close(fd);
}

static void hostile_layers_are_refused(void **state)
{
	static const struct layer dots = { PLAIN, { { .path = "a/../../b", .text = "x" } } };
	static const struct layer link = { PLAIN, { { .path = "a", .hardlink = "../../etc/passwd" } } };
	static const struct layer directory = { PLAIN, { { .path = "a", .type = S_IFDIR }, { .path = "b", .hardlink = "a" } } };
	static const struct layer nowhere = { PLAIN, { { .path = "a", .type = S_IFLNK, .text = "" } } };
	static const struct layer missing = { PLAIN, { { .path = "a", .hardlink = "etc/passwd" } } };
	static const struct layer whiteout = { PLAIN, { { .path = "a/.wh...", .text = "" } } };
	static const struct layer owner = { PLAIN, { { .path = "a", .text = "x", .uid = 70000 } } };
	static const struct layer root = { PLAIN, { { .path = "./", .type = S_IFDIR, .uid = 70000 } } };

	expect_refused(&dots, -EBADMSG, "leads out of the image");
	expect_refused(&link, -EBADMSG, ": a: a hard link out of the image");
	expect_refused(&directory, -EBADMSG, ": b: a hard link to a directory");
	expect_refused(&nowhere, -EBADMSG, ": a: a symlink to nothing");
	expect_refused(&missing, -ENOENT, "a: ");
	expect_refused(&whiteout, -EINVAL, "a/.wh...");
	expect_refused(&owner, -EOVERFLOW, "a: ");
	expect_refused(&root, -EOVERFLOW, "./: ");
}

/* One byte more, or that byte taken off again. */
static void change_length(const char *path, int bytes)
{
	struct stat stat_buffer;

	assert_int_equal(stat(path, &stat_buffer), 0);
	assert_int_equal(truncate(path, stat_buffer.st_size + bytes), 0);
}

static void empty_cache(void)
{
	int fd = open("cache", O_RDONLY | O_DIRECTORY);

	if (fd >= 0) {
		assert_int_equal(beneath_clear(fd), 0);
		close(fd);
	}
}

static void wrong_bytes_are_refused(void **state)
{
	static const struct layer layers[] = { { PLAIN, { { .path = "a", .text = "x" } } } };
	static const char *const indices[] = {
		"[]", "{", "{\"manifests\":[{\"digest\":\"sha256:../../../../etc/passwd\"}]}", "{\"manifests\":[{\"digest\":\"md5:00\"}]}",
	};
	char digest[IMAGE_DIGEST_TEXT], name[128], path[256];
	struct image image;
	FILE *list;

	make_layout(layers, 1, "{}");
	list = popen("ls layout/blobs/sha256", "r");
	for (int i = 0; i < 3; i++) {                           /* config, manifest and layer, one after the other */
		assert_int_equal(fscanf(list, "%100s", name), 1);
		snprintf(path, sizeof(path), "layout/blobs/sha256/%s", name);
		change_length(path, 1);
		assert_int_equal(open_image(&image), -EBADMSG);
		assert_non_null(strstr(why, "match"));
		change_length(path, -1);
		empty_cache();
	}
	pclose(list);
	assert_int_equal(open_image(&image), 0);
	image_fini(&image);
	for (size_t i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
		put_file("layout/index.json", indices[i], strlen(indices[i]));
		assert_int_equal(open_image(&image), -EBADMSG);
	}
	put_file("layout/index.json", "{\"manifests\":[]}", 16);
	assert_int_equal(open_image(&image), -ENOENT);
	assert_int_equal(image_digest("/nonexistent", digest, why, sizeof(why)), -ENOENT);
}

/* A layer is read twice; what is in it counts once. */
static void entries_are_counted_once(void **state)
{
	static const struct layer layer = { PLAIN, { { "d", S_IFDIR }, { "d/f", .text = "f" }, { "d/.wh.gone" } } };
	static uint8_t bytes[LAYER_MAX];
	size_t size = make_layer(&layer, bytes);
	uint64_t entries = 0, written = 0;
	struct image_layer unpacked = { .name = "layer", .uid_base = UID_BASE, .uid_count = 65536, .entries = &entries, .bytes = &written };

	put_file("blob", bytes, size);
	sha256_once(bytes, size, unpacked.hash);
	assert_int_equal(mkdir("root", 0755), 0);
	unpacked.root_fd = open("root", O_RDONLY | O_DIRECTORY);
	unpacked.blob_fd = open("blob", O_RDONLY);
	assert_int_equal(image_layer_unpack(&unpacked, (struct why){ why, sizeof(why) }), 0);
	assert_int_equal(entries, 3);
	assert_int_equal(written, 1);
	close(unpacked.root_fd);
	close(unpacked.blob_fd);
}

static unsigned count_cached(void)
{
	DIR *dir = opendir("cache");
	struct dirent *entry;
	unsigned count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

static void remove_layout(void)
{
	int fd = open("layout", O_RDONLY | O_DIRECTORY);

	if (fd >= 0) {
		assert_int_equal(beneath_clear(fd) | rmdir("layout"), 0);
		close(fd);
	}
}

/* Another image than the last one. */
static void open_numbered(int number)
{
	char text[16];
	const struct layer layer = { PLAIN, { { "f", .text = text } } };
	struct image image;

	remove_layout();
	snprintf(text, sizeof(text), "%d", number);
	make_layout(&layer, 1, "{}");
	assert_int_equal(open_image(&image), 0);
	expect_text(&image, "f", text);
	image_fini(&image);
}

/* One that is opened again and again stays, others make room for each other. */
static void what_is_not_used_goes(void **state)
{
	struct stat before, after;
	char first[PATH_MAX];
	struct image image;

	open_numbered(0);
	assert_int_equal(open_image(&image), 0);
	snprintf(first, sizeof(first), "%s", image.rootfs);
	image_fini(&image);
	assert_int_equal(stat(first, &before), 0);
	for (int i = 1; i < 2 * IMAGES_KEPT; i++) {
		open_numbered(i);
		assert_true(count_cached() <= IMAGES_KEPT);
		open_numbered(0);
		assert_int_equal(stat(first, &after), 0);
		assert_int_equal(after.st_ino, before.st_ino);
	}
	assert_int_equal(count_cached(), IMAGES_KEPT);
}

/* So few descriptors that a removal fails where it gets deep. */
static void limit_descriptors(struct rlimit *before)
{
	struct rlimit few;
	int fd = open("/", O_RDONLY);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
	few = (struct rlimit){ .rlim_cur = (rlim_t)fd + 14, .rlim_max = before->rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
}

static void what_is_removed_in_part_is_unpacked_again(void **state)
{
	static const struct layer layer = { PLAIN, {
		{ .path = "a", .text = "a" },
		{ .path = "b", .text = "b" },
		{ .path = "d/d/d/d/d/d/d/d/d/d/d/d/f", .text = "deep" },
		{ .path = "x", .text = "x" },
	} };
	struct rlimit before;
	struct image image;

	make_layout(&layer, 1, "{}");
	assert_int_equal(open_image(&image), 0);
	image_fini(&image);
	for (int i = 1; i < IMAGES_KEPT; i++)
		open_numbered(i);
	limit_descriptors(&before);
	open_numbered(IMAGES_KEPT);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(count_cached(), IMAGES_KEPT + 1);      /* the rest of the first, too */
	remove_layout();
	make_layout(&layer, 1, "{}");
	assert_int_equal(open_image(&image), 0);
	for (const struct entry *entry = layer.entries; entry->path; entry++)
		expect_text(&image, entry->path, entry->text);
	image_fini(&image);
}

/* Of this range of ids; another slot may be at work on its own. */
static void what_was_left_halfway_goes(void **state)
{
	static const char *const left[] = { "cache/%064d-1900000000.part", "cache/%064d-1900000000.gone", "cache/%064d-900000000.part" };
	char path[128], inner[160];

	assert_int_equal(mkdir("cache", 0711), 0);
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), left[i], 7);
		snprintf(inner, sizeof(inner), "%s/rootfs", path);
		assert_int_equal(mkdir(path, 0710) | mkdir(inner, 0755), 0);
		snprintf(inner, sizeof(inner), "%s/rootfs/f", path);
		put_file(inner, "x", 1);
	}
	open_numbered(0);
	assert_int_equal(count_cached(), 2);
	assert_int_equal(access(inner, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(layers_lie_over_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(marks_are_of_the_layers_own_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_outside_is_touched, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_layers_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_bytes_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(entries_are_counted_once, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_used_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_removed_in_part_is_unpacked_again, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_left_halfway_goes, setup, teardown),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "SKIPPED: image_test needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
