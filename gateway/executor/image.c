/* image: index, manifest and config, by jansson; layers by image_layer.c. */
#include "gateway/executor/image.h"

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/context/beneath.h"
#include "gateway/context/why.h"
#include "gateway/executor/image_layer.h"
#include "proto/digest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

struct loading {
	struct why why;
	int layout_fd;
	const struct image_options *options;
};

static int malformed(const struct loading *loading, const char *path, const char *what)
{
	return WHY_RAISE(loading->why, -EBADMSG, path, "%s", what);
}

static int fail(const struct loading *loading, const char *path, int r)
{
	return WHY_RAISE(loading->why, r, path, "%s", strerror(-r));
}

/* The whole of a small file, on the heap. */
static int read_file(const struct loading *loading, const char *path, char **text, size_t *size)
{
	CLEANUP(fd_closep) int fd = beneath_open(loading->layout_fd, path, O_RDONLY | O_NONBLOCK, 0);
	CLEANUP(free_p) char *data = NULL;
	struct stat stat;
	size_t used = 0;

	if (fd < 0)
		return fail(loading, path, fd);
	if (fstat(fd, &stat) || !S_ISREG(stat.st_mode))
		return malformed(loading, path, "not a file");
	if (stat.st_size > IMAGE_JSON_MAX)
		return WHY_RAISE(loading->why, -E2BIG, path, "longer than %u bytes", IMAGE_JSON_MAX);
	data = malloc((size_t)stat.st_size + 1);
	if (!data)
		return ERR_RAISE(-ENOMEM);
	while (used < (size_t)stat.st_size) {
		ssize_t got = read(fd, data + used, (size_t)stat.st_size - used);

		if (got <= 0)
			return fail(loading, path, got < 0 ? -errno : -EIO);
		used += (size_t)got;
	}
	*text = data;
	*size = used;
	data = NULL;
	return 0;
}

/* "sha256:HEX" as "blobs/sha256/HEX": only what looks like that becomes a path. */
static bool blob_path(const char *digest, char path[static 96], struct digest *parsed)
{
	if (!digest || strncmp(digest, "sha256:", 7) != 0 || strlen(digest) != 7 + DIGEST_HEX_BYTES ||
	    !digest_from_hex(parsed, span_make(digest + 7, DIGEST_HEX_BYTES)))
		return false;
	snprintf(path, 96, "blobs/sha256/%s", digest + 7);
	return true;
}

static int parse(const struct loading *loading, const char *path, const char *text, size_t size, json_t **json)
{
	*json = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	return json_is_object(*json) ? 0 : malformed(loading, path, "not a JSON object");
}

static int read_json_blob(const struct loading *loading, const char *digest, json_t **json)
{
	CLEANUP(free_p) char *text = NULL;
	uint8_t hash[SHA256_BYTES];
	struct digest wanted;
	char path[96];
	size_t size;
	int r;

	if (!blob_path(digest, path, &wanted))
		return malformed(loading, "index.json", "a digest is not sha256:HEX");
	r = read_file(loading, path, &text, &size);
	if (r)
		return r;
	sha256_once((const uint8_t *)text, size, hash);
	if (memcmp(hash, wanted.hash, sizeof(hash)) != 0)
		return malformed(loading, path, "its bytes do not match its digest");
	return parse(loading, path, text, size, json);
}

static const char *machine(void)
{
	static struct utsname name;

	CHECK(uname(&name) == 0);
	if (strcmp(name.machine, "x86_64") == 0)
		return "amd64";
	return strcmp(name.machine, "aarch64") == 0 ? "arm64" : name.machine;
}

/* A descriptor without a platform is taken as it is; attestations have the platform "unknown". */
static bool fits(json_t *descriptor)
{
	json_t *platform = json_object_get(descriptor, "platform");
	const char *architecture = json_string_value(json_object_get(platform, "architecture"));
	const char *system = json_string_value(json_object_get(platform, "os"));

	return (!architecture || strcmp(architecture, machine()) == 0) && (!system || strcmp(system, "linux") == 0);
}

static bool is_index(json_t *descriptor)
{
	const char *type = json_string_value(json_object_get(descriptor, "mediaType"));

	return type && (strstr(type, "image.index") || strstr(type, "manifest.list"));
}

/* The first descriptor that fits this machine; an index may hold an index (buildx writes such), no deeper. */
static int choose(const struct loading *loading, json_t *index, int depth, char digest[static IMAGE_DIGEST_TEXT])
{
	json_t *manifests = json_object_get(index, "manifests"), *descriptor;
	size_t i;

	json_array_foreach(manifests, i, descriptor) {
		const char *text = json_string_value(json_object_get(descriptor, "digest"));
		json_t *inner = NULL;
		int r;

		if (!text || !fits(descriptor))
			continue;
		if (!is_index(descriptor)) {
			snprintf(digest, IMAGE_DIGEST_TEXT, "%s", text);
			return 0;
		}
		r = depth ? malformed(loading, "index.json", "an index in an index in an index") : read_json_blob(loading, text, &inner);
		if (!r)
			r = choose(loading, inner, depth + 1, digest);
		json_decref(inner);
		if (r != -ENOENT)
			return r;
	}
	return WHY_RAISE(loading->why, -ENOENT, "index.json", "no image for linux/%s", machine());
}

static int find_manifest(const struct loading *loading, char digest[static IMAGE_DIGEST_TEXT])
{
	CLEANUP(free_p) char *text = NULL;
	json_t *index = NULL;
	size_t size;
	int r = read_file(loading, "index.json", &text, &size);

	if (!r)
		r = parse(loading, "index.json", text, size, &index);
	if (!r)
		r = choose(loading, index, 0, digest);
	json_decref(index);
	return r;
}

static int open_layout(struct loading *loading, const char *layout)
{
	loading->layout_fd = open(layout, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return loading->layout_fd < 0 ? fail(loading, layout, -errno) : 0;
}

int image_digest(const char *layout, char digest[static IMAGE_DIGEST_TEXT], char *why, size_t why_size)
{
	struct loading loading = { .why = { why, why_size }, .layout_fd = -1 };
	int r = open_layout(&loading, layout);

	if (r)
		return r;
	r = find_manifest(&loading, digest);
	close(loading.layout_fd);
	return r;
}

static int unpack_layer(const struct loading *loading, int root_fd, json_t *descriptor, uint64_t *entries, uint64_t *bytes)
{
	const char *text = json_string_value(json_object_get(descriptor, "digest"));
	CLEANUP(fd_closep) int blob_fd = -1;
	struct image_layer layer = {
		.root_fd = root_fd, .uid_base = loading->options->uid_base, .uid_count = loading->options->uid_count,
		.entries = entries, .bytes = bytes,
	};
	struct digest digest;
	char path[96];

	if (!blob_path(text, path, &digest))
		return malformed(loading, "manifest", "a layer's digest is not sha256:HEX");
	blob_fd = beneath_open(loading->layout_fd, path, O_RDONLY | O_NONBLOCK, 0);
	if (blob_fd < 0)
		return fail(loading, path, blob_fd);
	layer.blob_fd = blob_fd;
	layer.name = path;
	memcpy(layer.hash, digest.hash, sizeof(layer.hash));
	return image_layer_unpack(&layer, loading->why);
}

/* Where the container's own mounts go: the root is read-only by then. */
static int put_mount_points(const struct loading *loading, int root_fd)
{
	static const char *const directories[] = { "proc", "dev", "tmp", "run", "var/tmp", "work", "etc" };
	static const char hosts[] = "127.0.0.1 localhost sluice\n::1 localhost\n";
	uint32_t id = loading->options->uid_base;
	int fd = -1, file_fd;

	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) {
		if (fd >= 0)
			close(fd);
		fd = image_layer_make_directory(root_fd, directories[i], id, id);
		if (fd < 0)
			return fail(loading, directories[i], fd);
	}
	file_fd = beneath_open(fd, "hosts", O_CREAT | O_EXCL | O_WRONLY, 0644);      /* an image may lack it */
	close(fd);
	if (file_fd < 0)
		return file_fd == -EEXIST || file_fd == -ELOOP ? 0 : fail(loading, "etc/hosts", file_fd);
	if (write(file_fd, hosts, sizeof(hosts) - 1) < 0 || fchmod(file_fd, 0644)) {
		close(file_fd);
		return fail(loading, "etc/hosts", -EIO);
	}
	close(file_fd);
	return 0;
}

static int unpack_all(const struct loading *loading, json_t *manifest, int root_fd)
{
	json_t *layers = json_object_get(manifest, "layers"), *descriptor;
	uint64_t entries = 0, bytes = 0;
	size_t i;
	int r = 0;

	if (!json_is_array(layers) || json_array_size(layers) > IMAGE_LAYERS_MAX)
		return malformed(loading, "manifest", "no layers, or too many");
	json_array_foreach(layers, i, descriptor) {
		r = unpack_layer(loading, root_fd, descriptor, &entries, &bytes);
		if (r)
			return r;
	}
	return put_mount_points(loading, root_fd);
}

static int make_directory(int parent_fd, const char *name, uint32_t uid, uint32_t gid, mode_t mode)
{
	int fd;

	if (mkdirat(parent_fd, name, 0700))
		return -errno;
	fd = beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd >= 0 && (fchown(fd, uid, gid) || fchmod(fd, mode))) {
		close(fd);
		return -errno;
	}
	return fd;
}

/* Into a directory of another name first: what has the right name is whole, and on the disk. */
static int unpack_into(const struct loading *loading, json_t *manifest, int cache_fd, const char *name)
{
	CLEANUP(fd_closep) int fd = -1, root_fd = -1;
	uint32_t id = loading->options->uid_base;
	char temporary[128];
	int r;

	snprintf(temporary, sizeof(temporary), "%s.part", name);
	r = beneath_remove(cache_fd, temporary);
	if (r)
		return fail(loading, temporary, r);
	fd = make_directory(cache_fd, temporary, 0, id, 0710);
	if (fd < 0)
		return fail(loading, temporary, fd);
	root_fd = make_directory(fd, "rootfs", id, id, 0755);
	if (root_fd < 0)
		return fail(loading, "rootfs", root_fd);
	r = unpack_all(loading, manifest, root_fd);
	if (!r && syncfs(root_fd))
		r = fail(loading, temporary, -errno);
	if (!r && renameat2(cache_fd, temporary, cache_fd, name, RENAME_NOREPLACE))
		r = fail(loading, name, -errno);
	if (r)
		beneath_remove(cache_fd, temporary);
	return r;
}

/* "HEX-UIDBASE" of this slot, with `end` behind it. */
static bool is_ours(const struct image_options *options, const char *name, const char *end)
{
	char suffix[32];
	size_t name_size = strlen(name), size = (size_t)snprintf(suffix, sizeof(suffix), "-%u%s", options->uid_base, end);

	return name_size > size && strcmp(name + name_size - size, suffix) == 0;
}

/* What a process of this slot that died had begun to unpack or to remove. */
static void remove_remains(DIR *cache, const struct image_options *options)
{
	const struct dirent *entry;

	rewinddir(cache);
	while ((entry = readdir(cache)))
		if (is_ours(options, entry->d_name, ".part") || is_ours(options, entry->d_name, ".gone"))
			beneath_remove(dirfd(cache), entry->d_name);
}

/* How many images of this slot there are in the cache; the one that was used longest ago, or "". */
static unsigned find_oldest(DIR *cache, const struct image_options *options, char oldest[static NAME_MAX + 1])
{
	struct timespec used = { 0 };
	const struct dirent *entry;
	unsigned count = 0;
	struct stat st;

	*oldest = 0;
	rewinddir(cache);
	while ((entry = readdir(cache))) {
		if (!is_ours(options, entry->d_name, ""))
			continue;
		count++;
		if (fstatat(dirfd(cache), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (*oldest && (st.st_mtim.tv_sec > used.tv_sec ||
		                (st.st_mtim.tv_sec == used.tv_sec && st.st_mtim.tv_nsec >= used.tv_nsec)))
			continue;
		used = st.st_mtim;
		strcpy(oldest, entry->d_name);
	}
	return count;
}

/* Of another name first: one that is removed in part is not whole. */
static int remove_image(int cache_fd, const char *name)
{
	char gone[NAME_MAX + 8];

	snprintf(gone, sizeof(gone), "%s.gone", name);
	if (renameat2(cache_fd, name, cache_fd, gone, RENAME_NOREPLACE))
		return -errno;
	return beneath_remove(cache_fd, gone);
}

/* For one more image of this slot, which has no other in use now. */
static void remove_unused(int cache_fd, const struct image_options *options)
{
	int fd = beneath_open(cache_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *cache = fd < 0 ? NULL : fdopendir(fd);
	char oldest[NAME_MAX + 1];

	if (!cache) {
		if (fd >= 0)
			close(fd);
		return;
	}
	remove_remains(cache, options);
	while (find_oldest(cache, options, oldest) >= IMAGES_KEPT && *oldest)
		if (remove_image(cache_fd, oldest))
			break;
	closedir(cache);
}

static int unpack_once(const struct loading *loading, json_t *manifest, struct image *image)
{
	const struct image_options *options = loading->options;
	CLEANUP(fd_closep) int cache_fd = -1;
	char name[96];

	if (mkdir(options->cache, 0711) && errno != EEXIST)
		return fail(loading, options->cache, -errno);
	cache_fd = open(options->cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cache_fd < 0 || fchmod(cache_fd, 0711))
		return fail(loading, options->cache, -errno);
	snprintf(name, sizeof(name), "%s-%u", image->digest + 7, options->uid_base);
	if ((size_t)snprintf(image->rootfs, sizeof(image->rootfs), "%s/%s/rootfs", options->cache, name) >= sizeof(image->rootfs))
		return fail(loading, options->cache, -ENAMETOOLONG);
	if (faccessat(cache_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		(void)utimensat(cache_fd, name, NULL, AT_SYMLINK_NOFOLLOW);      /* when it was used */
		return 0;
	}
	remove_unused(cache_fd, options);
	return unpack_into(loading, manifest, cache_fd, name);
}

/* Finds "NAME:x:NUMBER:NUMBER" in a file of the image. False: not there. */
static bool look_up(const struct image *image, const char *file, const char *name, unsigned numbers[2])
{
	CLEANUP(fd_closep) int root_fd = open(image->rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = root_fd < 0 ? -1 : beneath_open(root_fd, file, O_RDONLY | O_NONBLOCK, 0);
	FILE *stream = fd < 0 ? NULL : fdopen(fd, "r");
	char line[1024];
	bool found = false;

	while (stream && !found && fgets(line, sizeof(line), stream)) {
		size_t size = strcspn(line, ":");

		found = size == strlen(name) && strncmp(line, name, size) == 0 &&
		        sscanf(line + size, ":%*[^:]:%u:%u", &numbers[0], &numbers[1]) >= 1;
	}
	if (stream)
		fclose(stream);
	else if (fd >= 0)
		close(fd);
	return found;
}

static bool is_number(const char *text, uint32_t *number)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || value > UINT32_MAX)
		return false;
	*number = (uint32_t)value;
	return true;
}

/* "user", "user:group", by name or number. */
static int set_user(const struct loading *loading, struct image *image, const char *user)
{
	char copy[256], *group;
	unsigned numbers[2] = { 0, 0 };

	if (!user || !*user)
		return 0;
	snprintf(copy, sizeof(copy), "%s", user);
	group = strchr(copy, ':');
	if (group)
		*group++ = 0;
	if (!is_number(copy, &image->uid)) {
		if (!look_up(image, "etc/passwd", copy, numbers))
			return malformed(loading, "config", "its user is not in the image's /etc/passwd");
		image->uid = numbers[0];
		image->gid = numbers[1];
	}
	if (group && !is_number(group, &image->gid)) {
		if (!look_up(image, "etc/group", group, numbers))
			return malformed(loading, "config", "its group is not in the image's /etc/group");
		image->gid = numbers[0];
	}
	if (image->uid >= loading->options->uid_count || image->gid >= loading->options->uid_count)
		return malformed(loading, "config", "its user is beyond the range of ids");
	return 0;
}

static int set_environment(const struct loading *loading, struct image *image, json_t *list)
{
	json_t *variable;
	size_t i, count = json_array_size(list);

	if (count > IMAGE_ENV_MAX)
		return malformed(loading, "config", "too many variables");
	image->env = calloc(count + 1, sizeof(*image->env));
	if (!image->env)
		return ERR_RAISE(-ENOMEM);
	json_array_foreach(list, i, variable) {
		const char *text = json_string_value(variable);

		if (!text || !strchr(text, '='))
			return malformed(loading, "config", "a variable is not NAME=value");
		image->env[i] = strdup(text);
		if (!image->env[i])
			return ERR_RAISE(-ENOMEM);
	}
	return 0;
}

static int read_config(const struct loading *loading, json_t *manifest, struct image *image)
{
	const char *digest = json_string_value(json_object_get(json_object_get(manifest, "config"), "digest")), *cwd;
	json_t *blob = NULL, *config;
	int r = read_json_blob(loading, digest, &blob);

	if (!r) {
		config = json_object_get(blob, "config");
		cwd = json_string_value(json_object_get(config, "WorkingDir"));
		if (cwd && *cwd == '/')
			snprintf(image->cwd, sizeof(image->cwd), "%s", cwd);
		r = set_environment(loading, image, json_object_get(config, "Env"));
		if (!r)
			r = set_user(loading, image, json_string_value(json_object_get(config, "User")));
	}
	json_decref(blob);
	return r;
}

int image_open(struct image *image, const struct image_options *options, char *why, size_t why_size)
{
	struct loading loading = { .why = { why, why_size }, .layout_fd = -1, .options = options };
	json_t *manifest = NULL;
	int r = open_layout(&loading, options->layout);

	*image = (struct image){ 0 };
	CHECK(options->uid_base && options->uid_count);
	if (!r)
		r = find_manifest(&loading, image->digest);
	if (!r)
		r = read_json_blob(&loading, image->digest, &manifest);
	if (!r)
		r = unpack_once(&loading, manifest, image);
	if (!r)
		r = read_config(&loading, manifest, image);
	json_decref(manifest);
	if (loading.layout_fd >= 0)
		close(loading.layout_fd);
	if (r)
		image_fini(image);
	return r;
}

void image_fini(struct image *image)
{
	for (char **variable = image->env; variable && *variable; variable++)
		free(*variable);
	free(image->env);
	*image = (struct image){ 0 };
}
