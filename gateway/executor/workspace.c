/* workspace: see workspace.h. */
#include "gateway/executor/workspace.h"

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/context/beneath.h"
#include "gateway/context/why.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define BASE_FILE       "tree.base"
#define BOOT_ID_BYTES   36
#define OWNER_TEXT_MAX  24               /* " UID:GID\n" */
#define BASE_TEXT_MAX   (2 * DIGEST_TEXT_MAX + BOOT_ID_BYTES + OWNER_TEXT_MAX + 3)
#define MOUNTS_MAX      1024             /* left by a former host */

struct workspace {
	uint32_t uid_base, uid_count;
	int slot_fd;
	bool has_base, mounted;
	struct digest base;
	uint32_t owner[2], base_owner[2];        /* uid and gid inside: of the next tree, and of the one that is there */
	struct digest scope, base_scope;         /* of tenant and instance: whose these are */
	char boot_id[BOOT_ID_BYTES + 1];
	char path[PATH_MAX / 2];
	char merged[PATH_MAX], upper[PATH_MAX], bundle[PATH_MAX];
};

static int fail(struct why why, const char *path, const char *what)
{
	int r = -errno;

	return WHY_RAISE(why, r, path, "%s: %s", what, strerror(-r));
}

static int fail_with(struct why why, int r, const char *path, const char *what)
{
	errno = -r;
	return fail(why, path, what);
}

/* One that is there stays as it is: the tree's own mode and owner among it. */
static int put_directory(int parent_fd, const char *name, uint32_t uid, uint32_t gid, mode_t mode, struct why why)
{
	CLEANUP(fd_closep) int fd = -1;

	if (mkdirat(parent_fd, name, 0700))
		return errno == EEXIST ? 0 : fail(why, name, "cannot create directory");
	fd = beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fail_with(why, fd, name, "cannot open");
	if (fchown(fd, uid, gid) || fchmod(fd, mode))
		return fail(why, name, "cannot set its owner and mode");
	return 0;
}

static int clear_directory(int parent_fd, const char *name, struct why why)
{
	CLEANUP(fd_closep) int fd = beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : beneath_clear(fd);

	return r && r != -ENOENT ? fail_with(why, r, name, "cannot empty") : 0;
}

/* Octal escapes of mountinfo: "\040" is a blank. */
static void unescape(char *text)
{
	char *out = text;

	for (; *text; text++) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] && text[3]) {
			*out++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
			text += 3;
		} else {
			*out++ = *text;
		}
	}
	*out = 0;
}

static bool is_below(const char *path, const char *root)
{
	size_t size = strlen(root);

	return strncmp(path, root, size) == 0 && path[size] == '/';
}

/* The mount points below `root`, in the order in which they were mounted. */
static size_t find_mounts(const char *root, char **paths, size_t max)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	size_t count = 0, capacity = 0;
	char *line = NULL;

	while (file && count < max && getline(&line, &capacity, file) > 0) {
		char *path = NULL;

		if (sscanf(line, "%*s %*s %*s %*s %ms", &path) != 1)
			continue;
		unescape(path);
		if (is_below(path, root))
			paths[count++] = path;
		else
			free(path);
	}
	free(line);
	if (file)
		fclose(file);
	return count;
}

static void unmount_below(const char *root)
{
	char *paths[MOUNTS_MAX];
	size_t count = find_mounts(root, paths, MOUNTS_MAX);

	while (count-- > 0) {
		umount2(paths[count], MNT_DETACH | UMOUNT_NOFOLLOW);
		free(paths[count]);
	}
}

static int recover_slot(const char *root, int root_fd, const char *name, struct why why)
{
	static const char *const directories[] = { "upper", "work", "bundle", "merged" };
	CLEANUP(fd_closep) int fd = -1;
	char path[PATH_MAX / 2];
	int r = 0;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	unmount_below(path);
	fd = beneath_open(root_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fail_with(why, fd, name, "cannot open");
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]) && !r; i++)
		r = clear_directory(fd, directories[i], why);
	return r;
}

static int check_root(const char *root, struct why why)
{
	if (root[0] != '/' || strpbrk(root, ",:\\") || strlen(root) >= PATH_MAX / 4)
		return WHY_RAISE(why, -EINVAL, root, "no absolute path, too long, or with one of , : \\ in it");
	return 0;
}

int workspace_recover(const char *root, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	CLEANUP(fd_closep) int root_fd = -1;
	int r = check_root(root, why);

	if (r)
		return r;
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return fail(why, root, "cannot open");
	for (uint32_t slot = 0; slot < WORKSPACE_SLOTS_MAX && !r; slot++) {
		char name[16];

		snprintf(name, sizeof(name), "slot-%u", slot);
		if (faccessat(root_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			r = recover_slot(root, root_fd, name, why);
	}
	return r;
}

static void read_boot_id(char boot_id[static BOOT_ID_BYTES + 1])
{
	CLEANUP(fd_closep) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(boot_id, 0, BOOT_ID_BYTES + 1);
	if (fd < 0 || read(fd, boot_id, BOOT_ID_BYTES) != BOOT_ID_BYTES)
		boot_id[0] = 0;          /* then no base is believed */
}

/* "sha256:HEX/SIZE BOOTID UID:GID sha256:HEX/SIZE\n": of another boot, what was written may not have reached the disk. */
static void base_read(struct workspace *workspace)
{
	CLEANUP(fd_closep) int fd = beneath_open(workspace->slot_fd, BASE_FILE, O_RDONLY, 0);
	char text[BASE_TEXT_MAX];
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	char *blank, *owner;
	int size = 0;

	if (got <= 0)
		return;
	text[got] = 0;
	blank = strchr(text, ' ');
	if (!blank || !workspace->boot_id[0] || strncmp(blank + 1, workspace->boot_id, BOOT_ID_BYTES) != 0)
		return;
	owner = blank + 1 + BOOT_ID_BYTES;
	if (sscanf(owner, " %u:%u %n", &workspace->base_owner[0], &workspace->base_owner[1], &size) != 2 ||
	    !digest_from_text(&workspace->base_scope, span_make(owner + size, strcspn(owner + size, "\n"))))
		return;
	workspace->has_base = digest_from_text(&workspace->base, span_make(text, (size_t)(blank - text)));
}

static int base_forget(struct workspace *workspace, struct why why)
{
	workspace->has_base = false;
	if (unlinkat(workspace->slot_fd, BASE_FILE, 0) && errno != ENOENT)
		return fail(why, BASE_FILE, "cannot remove");
	return 0;
}

/* Without the file the tree is made anew next time: so no error is one. */
static void base_write(struct workspace *workspace, const struct digest *root)
{
	CLEANUP(fd_closep) int fd = beneath_open(workspace->slot_fd, BASE_FILE ".new", O_CREAT | O_TRUNC | O_WRONLY, 0600);
	char digest[DIGEST_TEXT_MAX], scope[DIGEST_TEXT_MAX], text[BASE_TEXT_MAX];
	int size = snprintf(text, sizeof(text), "%s %s %u:%u %s\n", digest_text(root, digest), workspace->boot_id,
	                    workspace->owner[0], workspace->owner[1], digest_text(&workspace->scope, scope));

	workspace->has_base = true;
	workspace->base = *root;
	memcpy(workspace->base_owner, workspace->owner, sizeof(workspace->base_owner));
	workspace->base_scope = workspace->scope;
	if (fd >= 0 && write(fd, text, (size_t)size) == size)
		renameat(workspace->slot_fd, BASE_FILE ".new", workspace->slot_fd, BASE_FILE);
}

static int make_directories(struct workspace *workspace, struct why why)
{
	static const struct {
		const char *name;
		bool mapped;
		mode_t mode;
	} directories[] = {
		{ "tree", true, 0755 }, { "upper", true, 0755 }, { "work", false, 0700 }, { "merged", true, 0755 }, { "bundle", false, 0711 },
	};
	int r = 0;

	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]) && !r; i++) {
		uint32_t id = directories[i].mapped ? workspace->uid_base : 0;

		r = put_directory(workspace->slot_fd, directories[i].name, id, id, directories[i].mode, why);
	}
	return r;
}

/* A slot that was made for another range of ids is of no use: all in it has the wrong owner. */
static int put_slot(const struct workspace *workspace, int root_fd, const char *name, struct why why)
{
	struct stat stat;

	if (fstatat(root_fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (!S_ISDIR(stat.st_mode) || stat.st_uid != 0 || stat.st_gid != workspace->uid_base)) {
		int r = beneath_remove(root_fd, name);

		if (r)
			return fail_with(why, r, name, "cannot remove");
	}
	return put_directory(root_fd, name, 0, workspace->uid_base, 0710, why);
}

static int open_slot(struct workspace *workspace, const char *root, uint32_t slot, struct why why)
{
	CLEANUP(fd_closep) int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[16];
	int r;

	if (root_fd < 0)
		return fail(why, root, "cannot open");
	snprintf(name, sizeof(name), "slot-%u", slot);
	snprintf(workspace->path, sizeof(workspace->path), "%s/%s", root, name);
	unmount_below(workspace->path);  /* a slot's process that was killed left its overlay */
	r = put_slot(workspace, root_fd, name, why);
	if (r)
		return r;
	workspace->slot_fd = beneath_open(root_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (workspace->slot_fd < 0)
		return fail_with(why, workspace->slot_fd, name, "cannot open");
	snprintf(workspace->merged, sizeof(workspace->merged), "%s/merged", workspace->path);
	snprintf(workspace->upper, sizeof(workspace->upper), "%s/upper", workspace->path);
	snprintf(workspace->bundle, sizeof(workspace->bundle), "%s/bundle", workspace->path);
	return make_directories(workspace, why);
}

int workspace_open(struct workspace **out, const struct workspace_options *options, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	struct workspace *workspace;
	int r = check_root(options->root, why);

	if (r)
		return r;
	if (options->slot >= WORKSPACE_SLOTS_MAX)
		return WHY_RAISE(why, -EINVAL, options->root, "slot %u; there are at most %d", options->slot, WORKSPACE_SLOTS_MAX);
	workspace = calloc(1, sizeof(*workspace));
	if (!workspace)
		return ERR_RAISE(-ENOMEM);
	workspace->slot_fd = -1;
	workspace->uid_count = options->uid_count ? options->uid_count : WORKSPACE_UID_COUNT;
	workspace->uid_base = options->uid_base ? options->uid_base : WORKSPACE_UID_BASE + options->slot * WORKSPACE_UID_COUNT;
	read_boot_id(workspace->boot_id);
	r = open_slot(workspace, options->root, options->slot, why);
	if (r) {
		workspace_close(workspace);
		return r;
	}
	base_read(workspace);
	*out = workspace;
	return 0;
}

void workspace_close(struct workspace *workspace)
{
	if (!workspace)
		return;
	workspace_unmount(workspace, NULL, 0);
	if (workspace->slot_fd >= 0)
		close(workspace->slot_fd);
	free(workspace);
}

const struct digest *workspace_base(const struct workspace *workspace)
{
	return workspace->has_base ? &workspace->base : NULL;
}

uint32_t workspace_uid_base(const struct workspace *workspace)
{
	return workspace->uid_base;
}

uint32_t workspace_uid_count(const struct workspace *workspace)
{
	return workspace->uid_count;
}

const char *workspace_merged_path(const struct workspace *workspace)
{
	return workspace->merged;
}

const char *workspace_upper_path(const struct workspace *workspace)
{
	return workspace->upper;
}

const char *workspace_bundle_path(const struct workspace *workspace)
{
	return workspace->bundle;
}

bool workspace_bundle_of(const char *root, uint32_t slot, char *path, size_t path_size)
{
	return (size_t)snprintf(path, path_size, "%s/slot-%u/bundle", root, slot) < path_size;
}

void workspace_set_owner(struct workspace *workspace, uint32_t uid, uint32_t gid)
{
	CHECK(uid < workspace->uid_count && gid < workspace->uid_count);
	workspace->owner[0] = uid;
	workspace->owner[1] = gid;
}

void workspace_set_scope(struct workspace *workspace, struct span tenant, uint32_t instance)
{
	struct sha256_stream stream;

	/* The number has one length, so it runs into no name. */
	sha256_stream_init(&stream);
	sha256_stream_update(&stream, (const uint8_t *)&instance, sizeof(instance));
	sha256_stream_update(&stream, tenant.data, tenant.size);
	sha256_stream_final(&stream, workspace->scope.hash);
	workspace->scope.size = sizeof(instance) + tenant.size;
}

int workspace_materialise(struct workspace *workspace, const struct digest *root, struct source *source,
                          struct materialise_totals *totals, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	CLEANUP(fd_closep) int tree_fd = beneath_open(workspace->slot_fd, "tree", O_RDONLY | O_DIRECTORY, 0);
	bool had_base = workspace->has_base && memcmp(workspace->base_owner, workspace->owner, sizeof(workspace->owner)) == 0 &&
	                digest_equal(&workspace->base_scope, &workspace->scope);
	struct digest base = workspace->base;
	int r;

	CHECK(!workspace->mounted);
	if (tree_fd < 0)
		return fail_with(why, tree_fd, "tree", "cannot open");
	if (had_base && digest_equal(&base, root)) {
		if (totals)
			*totals = (struct materialise_totals){ .directories_same = 1 };
		return 0;
	}
	r = base_forget(workspace, why);
	if (r)
		return r;
	r = materialise(&(struct materialise_options){
		.dir_fd = tree_fd, .base = had_base ? &base : NULL, .root = *root, .source = source, .replace = true,
		.set_owner = true, .uid = workspace->uid_base + workspace->owner[0], .gid = workspace->uid_base + workspace->owner[1],
	}, totals, why_text, why_size);
	if (!r)
		base_write(workspace, root);
	return r;
}

/* The merged root shows the upper directory's own mode and owner: those of the tree's root. */
static int copy_root_mode(struct workspace *workspace, struct why why)
{
	struct stat stat;

	if (fstatat(workspace->slot_fd, "tree", &stat, AT_SYMLINK_NOFOLLOW) ||
	    fchownat(workspace->slot_fd, "upper", stat.st_uid, stat.st_gid, AT_SYMLINK_NOFOLLOW) ||
	    fchmodat(workspace->slot_fd, "upper", stat.st_mode & 0777, 0))
		return fail(why, "upper", "cannot set its owner and mode");
	return 0;
}

/*
 * redirect_dir, metacopy and index would leave things in the upper directory that only an overlay understands; a
 * volatile overlay does not sync what is thrown away anyway.
 */
static int mount_overlay(struct workspace *workspace, struct why why)
{
	char options[3 * PATH_MAX];

	snprintf(options, sizeof(options), "lowerdir=%s/tree,upperdir=%s,workdir=%s/work,redirect_dir=off,metacopy=off,index=off,"
	         "xino=off,volatile", workspace->path, workspace->upper, workspace->path);
	if (mount("overlay", workspace->merged, "overlay", MS_NOSUID | MS_NODEV, options))
		return fail(why, workspace->merged, "cannot mount overlay");
	workspace->mounted = true;
	if (mount(NULL, workspace->merged, NULL, MS_PRIVATE, NULL))
		return fail(why, workspace->merged, "cannot make the mount private");
	return 0;
}

int workspace_mount(struct workspace *workspace, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	int r = workspace_clean(workspace, why_text, why_size);

	if (!r)
		r = copy_root_mode(workspace, why);
	if (!r)
		r = mount_overlay(workspace, why);
	if (r)
		workspace_unmount(workspace, NULL, 0);
	return r;
}

/* A container that was killed may take a moment to let go: then the mount is detached and goes when it does. */
int workspace_unmount(struct workspace *workspace, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };

	if (!workspace->mounted)
		return 0;
	if (umount2(workspace->merged, UMOUNT_NOFOLLOW) && umount2(workspace->merged, MNT_DETACH | UMOUNT_NOFOLLOW))
		return fail(why, workspace->merged, "cannot unmount");
	workspace->mounted = false;
	return 0;
}

int workspace_collect(struct workspace *workspace, int (*deleted)(void *context, enum collect_kind kind, const char *path),
                      void *context, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	CLEANUP(fd_closep) int upper_fd = beneath_open(workspace->slot_fd, "upper", O_RDONLY | O_DIRECTORY, 0);

	CHECK(!workspace->mounted);
	if (upper_fd < 0)
		return fail_with(why, upper_fd, "upper", "cannot open");
	return collect_prepare(&(struct collect_options){ .upper_fd = upper_fd, .deleted = deleted, .context = context }, why_text,
	                       why_size);
}

/* The directories go too: the action may have changed the mode and the attributes of its root. */
int workspace_clean(struct workspace *workspace, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	static const char *const directories[] = { "upper", "work", "bundle" };
	int r = 0;

	CHECK(!workspace->mounted);
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]) && !r; i++) {
		r = beneath_remove(workspace->slot_fd, directories[i]);
		if (r)
			return fail_with(why, r, directories[i], "cannot remove");
	}
	return make_directories(workspace, why);
}
