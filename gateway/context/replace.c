/* replace: see replace.h. */
#include "gateway/context/replace.h"

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/context/aside_name.h"
#include "gateway/context/beneath.h"
#include "gateway/context/content.h"
#include "gateway/context/file_xattrs.h"
#include "gateway/context/names.h"
#include "gateway/context/why.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define ASIDE_PREFIX ".sluice-pull-"
#define MODE_RWX 0700u                   /* what its owner needs on a directory whose entries move */

struct replacement {
	struct why why;
	int dir_fd;
	char aside[ASIDE_NAME_BYTES];         /* the directory within it, which holds the two below, and is locked as long as we live */
	int aside_fd, new_fd;
	int old_fd;                      /* made when all of the tree is there */
	struct names staying;            /* of what is there: what overlayfs will not rename, a directory of a lower layer */
	struct names placed;             /* of the tree: in its place */
};

static int fail(const struct replacement *replacement, int r, const char *name, const char *what)
{
	return WHY_RAISE(replacement->why, r, name, "%s: %s", what,
	                 r == -EBUSY ? "something is mounted there" :
	                 r == -EEXIST ? "somebody made another one meanwhile" : strerror(-r));
}

static void closedir_p(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* Visits what a directory holds; a visit that returns anything but 0 ends it with that. */
static int each_entry(int dir_fd, int (*visit)(struct replacement *replacement, const char *name, void *context),
                      struct replacement *replacement, void *context)
{
	CLEANUP(fd_closep) int fd = beneath_open(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	CLEANUP(closedir_p) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return fail(replacement, fd < 0 ? fd : -errno, "", "cannot be read");
	fd_take(&fd);
	while (r == 0 && (errno = 0, entry = readdir(dir))) {
		const char *name = entry->d_name;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
			r = visit(replacement, name, context);
	}
	return r || !errno ? r : fail(replacement, -errno, "", "cannot be read");
}

/* Where entries move. */
struct move {
	int from_fd, to_fd;
	struct names *staying;           /* what cannot be renamed is noted here, and is no failure */
	struct names *placed;            /* what was moved is noted here */
	const struct names *awaited;     /* what has one of these names waits for it to go */
	bool goes_on;                    /* behind what cannot be moved */
	bool moved;
};

/* Over nothing that is there: it is somebody's who does not know of us. A file system that cannot refuse does without. */
static int move_name(const struct move *move, const char *name)
{
	if (renameat2(move->from_fd, name, move->to_fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	return renameat(move->from_fd, name, move->to_fd, name) < 0 ? -errno : 0;
}

/* A directory that is moved is written to, as its ".." changes: one that its owner may not write to has to let him. */
static int move_open_up(const struct move *move, const char *name)
{
	struct stat st;
	mode_t mode;
	int r;

	if (fstatat(move->from_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	mode = st.st_mode & 07777;
	if (!S_ISDIR(st.st_mode) || (mode & MODE_RWX) == MODE_RWX)
		return -EACCES;
	if (fchmodat(move->from_fd, name, mode | MODE_RWX, AT_SYMLINK_NOFOLLOW) < 0)
		return -EACCES;          /* not his own */
	r = move_name(move, name);
	if (fchmodat(r ? move->from_fd : move->to_fd, name, mode, AT_SYMLINK_NOFOLLOW) == 0 || r)
		return r;
	r = -errno;
	move_name(&(struct move){ .from_fd = move->to_fd, .to_fd = move->from_fd }, name);
	return r;
}

static int move_one(const struct move *move, const char *name)
{
	int r = move_name(move, name);

	return r == -EACCES ? move_open_up(move, name) : r;
}

/* Noted before it is done: what is not noted could not be taken back. */
static int move_noted(const struct move *move, const char *name)
{
	int r;

	if (!move->placed)
		return move_one(move, name);
	if (!names_add(move->placed, name))
		return -ENOMEM;
	r = move_one(move, name);
	if (r)
		names_drop(move->placed, name);
	return r;
}

static int move_entry(struct replacement *replacement, const char *name, void *context)
{
	struct move *move = context;
	int r;

	if (strcmp(name, replacement->aside) == 0)
		return 0;
	r = move_noted(move, name);
	if (r == 0)
		move->moved = true;
	if (r == -EXDEV && move->staying)
		r = names_have(move->staying, name) || names_add(move->staying, name) ? 0 : -ENOMEM;
	if (r == -EEXIST && move->awaited && names_have(move->awaited, name))
		r = 0;
	return r == -ENOENT || r == 0 || move->goes_on ? 0 : fail(replacement, r, name, "cannot be moved");
}

/* All entries but `aside`. Some may be skipped when a directory changes while it is read: until none is found. */
static int move_all(struct replacement *replacement, struct move move)
{
	int r = 0;

	do {
		move.moved = false;
		r = each_entry(move.from_fd, move_entry, replacement, &move);
	} while (r == 0 && move.moved);
	return r;
}

/* Where it is; all else of the tree is in its place by now. */
static int staying_remove(const struct replacement *replacement)
{
	for (const char *name = names_next(&replacement->staying, NULL); name; name = names_next(&replacement->staying, name)) {
		int r = beneath_remove(replacement->dir_fd, name);

		if (r)
			return fail(replacement, r, name, "cannot remove all of what a lower layer has of it");
	}
	return 0;
}

/* What is ours, and nothing that somebody made meanwhile; then whatever was there. */
static void put_back(const struct replacement *replacement)
{
	const struct move out = { .from_fd = replacement->dir_fd, .to_fd = replacement->new_fd };
	struct replacement quiet = *replacement;

	quiet.why = (struct why){ 0 };   /* the first reason is the one to tell */
	for (const char *name = names_next(&replacement->placed, NULL); name; name = names_next(&replacement->placed, name))
		move_one(&out, name);
	move_all(&quiet, (struct move){ .from_fd = replacement->old_fd, .to_fd = replacement->dir_fd, .goes_on = true });
}

/*
 * By renames, so that what is there can be put back when one of its entries may not be moved: it is a mount point, or somebody
 * else's. What cannot be renamed is removed, and is gone then: so that comes last, but for what takes its place.
 */
static int exchange(struct replacement *replacement)
{
	struct move in = { .from_fd = replacement->new_fd, .to_fd = replacement->dir_fd, .placed = &replacement->placed };
	int r = move_all(replacement, (struct move){ .from_fd = replacement->dir_fd, .to_fd = replacement->old_fd,
	                                             .staying = &replacement->staying });

	in.awaited = &replacement->staying;
	if (r == 0)
		r = move_all(replacement, in);
	if (r == 0)
		r = staying_remove(replacement);
	in.awaited = NULL;
	if (r == 0)
		r = move_all(replacement, in);
	if (r)
		put_back(replacement);
	return r;
}

static bool holds(int fd, const char *name)
{
	struct stat st;

	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/*
 * What somebody left who was killed, of which nobody needs anything: it holds a part of a tree. His lock went with him; who has it
 * still is at work. What cannot be removed here goes with all else that is there, or is in the way of that, and is named.
 */
static int stale_remove(struct replacement *replacement, const char *name, void *context)
{
	CLEANUP(fd_closep) int fd = -1;

	(void)context;
	if (!aside_name_is(name, ASIDE_PREFIX) || strcmp(name, replacement->aside) == 0)
		return 0;
	fd = beneath_open(replacement->dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return 0;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno != EWOULDBLOCK ? 0 : WHY_RAISE(replacement->why, -EBUSY, name, "somebody else is replacing this directory");
	if (holds(fd, "new") && !holds(fd, "old"))
		beneath_remove(replacement->dir_fd, name);
	return 0;
}

static int make_directory(const struct replacement *replacement, int parent_fd, const char *name, int *fd)
{
	int r = mkdirat(parent_fd, name, MODE_RWX) < 0 ? -errno : 0;

	if (r == 0) {
		*fd = beneath_open(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
		r = *fd < 0 ? *fd : 0;
	}
	return r ? fail(replacement, r, name, "cannot create directory") : 0;
}

static int make_aside(struct replacement *replacement)
{
	int r;

	aside_name_make(replacement->aside, ASIDE_PREFIX);
	r = make_directory(replacement, replacement->dir_fd, replacement->aside, &replacement->aside_fd);
	if (r)
		return r;
	flock(replacement->aside_fd, LOCK_EX | LOCK_NB); /* a file system without locks: two at a time are as safe as they were */
	return make_directory(replacement, replacement->aside_fd, "new", &replacement->new_fd);
}

/* What the tree's topmost directory says of itself, which its copy has. */
static int set_xattrs(const struct replacement *replacement)
{
	struct file_xattrs xattrs;
	int r;

	file_xattrs_init(&xattrs);
	r = file_xattrs_read(&xattrs, replacement->new_fd);
	if (r)
		why_write(replacement->why, "", "%s", xattrs.fault);
	else
		r = content_set_xattrs(replacement->why, replacement->dir_fd, "", xattrs.xattrs, xattrs.count, false);
	file_xattrs_fini(&xattrs);
	return r;
}

/* The sentence that is said next goes behind the one that says what failed first. */
static void why_go_on(struct why *why)
{
	size_t used = why->size ? strlen(why->text) : 0;

	if (used == 0 || used + 3 > why->size)
		return;
	memcpy(why->text + used, "; ", 3);
	*why = (struct why){ why->text + used + 2, why->size - used - 2 };
}

/* `aside` goes, unless something is left in it that was there before and is nowhere else. */
static int remove_aside(struct replacement *replacement, bool replaced)
{
	char old[ASIDE_NAME_BYTES + 8];
	int r = 0;

	if (!replaced && replacement->old_fd >= 0 && unlinkat(replacement->aside_fd, "old", AT_REMOVEDIR) < 0)
		r = -errno;
	if (r == 0)
		r = beneath_remove(replacement->dir_fd, replacement->aside);
	if (r == 0)
		return 0;
	why_go_on(&replacement->why);
	snprintf(old, sizeof(old), "%s/old", replacement->aside);
	return fail(replacement, r, old, replaced ? "the tree is there, but what was there before cannot be removed" :
	                                            "what was there could not be put back, and is left here");
}

static int fill(struct replacement *replacement, const struct materialise_options *options, struct materialise_totals *totals)
{
	struct materialise_options aside = *options;
	int r = make_aside(replacement);

	if (r == 0)                      /* who began at the same moment is seen by one of the two, at least */
		r = each_entry(replacement->dir_fd, stale_remove, replacement, NULL);
	if (r)
		return r;
	aside.dir_fd = replacement->new_fd;
	return materialise(&aside, totals, replacement->why.text, replacement->why.size);
}

/* Of the tree, whole: its topmost directory's mode may forbid what has to be done with it first. */
static int put_in_place(struct replacement *replacement, mode_t *mode)
{
	struct stat st;
	int r;

	if (fstat(replacement->new_fd, &st) < 0 || fchmod(replacement->new_fd, MODE_RWX) < 0)
		return fail(replacement, -errno, replacement->aside, "cannot set its mode");
	/* Who may not set it is told so while nothing has changed. */
	if ((st.st_mode & 07777) != *mode && fchmod(replacement->dir_fd, *mode | MODE_RWX) < 0)
		return fail(replacement, -errno, "", "cannot set its mode");
	r = make_directory(replacement, replacement->aside_fd, "old", &replacement->old_fd);
	if (r == 0)
		r = exchange(replacement);
	if (r == 0)
		*mode = st.st_mode & 07777;
	return r;
}

static int replace_open(struct replacement *replacement, const struct materialise_options *options,
                        struct materialise_totals *totals, mode_t mode)
{
	bool opened_up = (mode & MODE_RWX) != MODE_RWX, replaced = false;
	mode_t before = mode;
	int r, removed;

	if (opened_up && fchmod(replacement->dir_fd, mode | MODE_RWX) < 0)
		return fail(replacement, -errno, "", "cannot set its mode");
	r = each_entry(replacement->dir_fd, stale_remove, replacement, NULL);
	if (r == 0)
		r = fill(replacement, options, totals);
	if (r == 0)
		r = put_in_place(replacement, &mode);
	if (r == 0) {
		replaced = true;
		r = set_xattrs(replacement);
	}
	removed = replacement->aside_fd < 0 ? 0 : remove_aside(replacement, replaced);
	if ((opened_up || mode != before) && fchmod(replacement->dir_fd, mode) < 0 && r == 0)
		r = fail(replacement, -errno, "", "cannot set its mode");
	return r ? r : removed;
}

int replace_directory(const struct materialise_options *options, struct materialise_totals *totals, char *why_text,
                      size_t why_size)
{
	struct replacement replacement = {
		.why = { why_text, why_size }, .dir_fd = options->dir_fd, .aside_fd = -1, .new_fd = -1, .old_fd = -1,
	};
	struct stat st;
	int r;

	CHECK(!options->base);
	CHECK(!options->replace);
	CHECK(!options->set_owner);
	if (why_size)
		*why_text = 0;
	if (beneath_is_empty(options->dir_fd) == 1)
		return materialise(options, totals, why_text, why_size);
	if (fstat(options->dir_fd, &st) < 0)
		return fail(&replacement, -errno, "", "cannot be read");
	r = replace_open(&replacement, options, totals, st.st_mode & 07777);
	names_fini(&replacement.staying);
	names_fini(&replacement.placed);
	fd_closep(&replacement.old_fd);
	fd_closep(&replacement.new_fd);
	fd_closep(&replacement.aside_fd);
	return r;
}
