/*
 * Shows that what a scan finds does not depend on how many threads walk, to the last byte of the snapshot, also when
 * directories move under it; and that a failure anywhere ends it, with its sentence, and with nothing left open.
 */
#include "chunker/sha256.h"
#include "gateway/base/err.h"
#include "gateway/context/links.h"
#include "gateway/context/scan.h"
#include "gateway/context/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { WIDE = 60, DEEP = 4, FILES = 7 };

struct place {
	char base[64];
	int fd;
	struct sha256 hasher;
	struct ignore *ignore;
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	strcpy(place->base, "/tmp/scan-test-XXXXXX");
	if (!mkdtemp(place->base))
		return -1;
	place->fd = open(place->base, O_RDONLY | O_DIRECTORY);
	sha256_init(&place->hasher, SHA256_AUTO);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	char command[192];

	close(place->fd);
	ignore_destroy(place->ignore);
	snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", place->base, place->base);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

__attribute__((format(printf, 2, 3))) static const char *name_of(char name[256], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(name, 256, format, arguments);
	va_end(arguments);
	return name;
}

static void write_file(struct place *place, const char *name, size_t size, unsigned seed)
{
	int fd = openat(place->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	uint8_t *data = malloc(size + 1);

	assert_true(fd >= 0);
	for (size_t i = 0; i < size; i++) {
		seed = seed * 1103515245u + 12345u;
		data[i] = (uint8_t)(seed >> 16);
	}
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	free(data);
	close(fd);
}

static void add_xattr(struct place *place, const char *name)
{
	int fd = openat(place->fd, name, O_RDONLY);

	assert_true(fd >= 0);
	if (fsetxattr(fd, "user.note", name, strlen(name), 0) < 0)
		assert_int_equal(errno, ENOTSUP);
	close(fd);
}

/*
 * A directory with some of everything, and a name of a file that lies elsewhere: a small one without xattrs, since what
 * two threads read is in the table twice.
 */
static void make_directory(struct place *place, unsigned i, const char *path)
{
	char name[256], other[256];

	assert_int_equal(mkdirat(place->fd, path, 0755), 0);
	for (unsigned f = 0; f < FILES; f++)
		write_file(place, name_of(name, "%s/file-%u", path, f), i % 11 == 1 && f == 3 ? 200000 + i : 13 * f + i,
			   i + f);
	assert_int_equal(symlinkat(name_of(other, "to-%u", i), place->fd, name_of(name, "%s/symlink", path)), 0);
	assert_int_equal(linkat(place->fd, name_of(other, "d-0/file-%u", 1 + i % 5), place->fd,
				name_of(name, "%s/linked", path), 0), 0);
	if (i % 3 == 0)
		add_xattr(place, path);
	if (i % 4 == 1)
		add_xattr(place, name_of(name, "%s/file-2", path));
}

static void make_tree(struct place *place)
{
	char path[256], deeper[256];

	for (unsigned i = 0; i < WIDE; i++) {
		make_directory(place, i, name_of(path, "d-%u", i));
		for (unsigned depth = 0; i % 5 == 0 && depth < DEEP; depth++) {
			make_directory(place, i, name_of(deeper, "%s/e-%u", path, depth));
			strcpy(path, deeper);
		}
	}
}

/* See SCAN_FRESH_TICKS. */
static void grow_old(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (SCAN_FRESH_TICKS + 1) * (1000000000 / sysconf(_SC_CLK_TCK)) + 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL))
		;
}

static int scan(struct place *place, unsigned threads, const struct table *former, struct table *table,
		struct scan_totals *totals, char why[512])
{
	struct scan_options options = {
		.dir_fd = place->fd,
		.former = former,
		.ignore = place->ignore,
		.threads = threads,
		.hasher = &place->hasher,
		.why = { why, 512 },
	};

	*table = table_make(former);
	why[0] = 0;
	return scan_run(table, &options, totals);
}

static int sink(void *context, const void *data, size_t size)
{
	buffer_put(context, data, size);
	return 0;
}

/* The table as a file, without what only the scan itself and the assembly look at. */
static void encode(const struct table *table, struct buffer *out)
{
	struct snapshot snapshot = { .table = *table };

	for (uint32_t i = 0; i < table->rows_count; i++)
		table->rows[i].flags &= (uint8_t)~TABLE_ROW_CHANGED;
	for (uint32_t i = 0; i < table->directories_count; i++)
		table->directories[i].flags &= ~(uint32_t)TABLE_DIRECTORY_DIRTY;
	*out = buffer_heap(64u << 20);
	assert_int_equal(snapshot_encode(&snapshot, sink, out), 0);
}

static void assert_same(const struct table *a, const struct table *b)
{
	struct buffer one, other;

	encode(a, &one);
	encode(b, &other);
	assert_int_equal(one.size, other.size);
	assert_memory_equal(one.data, other.data, one.size);
	buffer_fini(&one);
	buffer_fini(&other);
}

/* The same tree, whatever lies where in the arena. */
static void assert_equivalent(const struct table *a, const struct table *b)
{
	assert_int_equal(a->rows_count, b->rows_count);
	assert_int_equal(a->directories_count, b->directories_count);
	for (uint32_t i = 0; i < a->rows_count; i++) {
		struct tree_xattr some[TREE_XATTRS_MAX], others[TREE_XATTRS_MAX];
		const struct table_row *row = &a->rows[i], *other = &b->rows[i];
		size_t count = table_xattrs(a, row, some);

		assert_true(span_equal(table_name(a, row), table_name(b, other)));
		assert_memory_equal(row->hash, other->hash, sizeof(row->hash));
		assert_int_equal(row->inode, other->inode);
		assert_int_equal(row->mode, other->mode);
		assert_int_equal(row->flags & TABLE_ROW_RECIPE, other->flags & TABLE_ROW_RECIPE);
		assert_true(!S_ISLNK(row->mode) || span_equal(table_target(a, row), table_target(b, other)));
		assert_int_equal(count, table_xattrs(b, other, others));
		assert_true(count == 0 || span_equal(some[0].value, others[0].value));
	}
	for (uint32_t i = 0; i < a->directories_count; i++) {
		assert_int_equal(a->directories[i].first, b->directories[i].first);
		assert_int_equal(a->directories[i].parent, b->directories[i].parent);
		assert_int_equal(a->directories[i].row, b->directories[i].row);
		assert_int_equal(a->directories[i].depth, b->directories[i].depth);
	}
}

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void test_threads(void **state)
{
	static const unsigned threads[] = { 2, 3, 8, 8, 8, 2, 8, 0 };
	struct place *place = *state;
	struct table first, table, later;
	struct scan_totals expected, totals;
	unsigned open = descriptors();
	char why[512], name[256];

	make_tree(place);
	grow_old();
	assert_int_equal(scan(place, 1, NULL, &first, &expected, why), 0);
	assert_int_equal(first.directories_count, 1 + WIDE + WIDE / 5 * DEEP);
	for (unsigned i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
		assert_int_equal(scan(place, threads[i], NULL, &table, &totals, why), 0);
		assert_same(&first, &table);
		assert_int_equal(totals.entries, expected.entries);
		assert_int_equal(totals.changed, expected.changed);
		table_fini(&table);
	}
	/* Along the former table, nothing is read; then a little. */
	assert_int_equal(scan(place, 8, &first, &table, &totals, why), 0);
	assert_int_equal(totals.changed, 0);
	assert_int_equal(totals.reads.files, 0);
	assert_ptr_equal(table.rows, first.rows);
	write_file(place, "d-5/e-0/file-4", 300000, 99);
	write_file(place, "d-7/new", 10, 98);
	assert_int_equal(unlinkat(place->fd, "d-20/symlink", 0), 0);
	assert_int_equal(renameat(place->fd, "d-10/e-0", place->fd, "d-11/moved"), 0);
	assert_int_equal(mkdirat(place->fd, name_of(name, "d-12/empty"), 0700), 0);
	grow_old();
	table_fini(&table);
	assert_int_equal(scan(place, 1, &first, &later, &expected, why), 0);
	assert_int_equal(scan(place, 1, NULL, &table, &totals, why), 0);
	assert_equivalent(&later, &table);
	table_fini(&table);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(scan(place, 8, &first, &table, &totals, why), 0);
		assert_same(&later, &table);
		assert_int_equal(totals.changed, expected.changed);
		assert_true(totals.reads.files >= expected.reads.files); /* see inodes.h */
		table_fini(&table);
	}
	table_fini(&later);
	table_fini(&first);
	assert_int_equal(descriptors(), open);
}

/* Whoever walks into a directory knows what the rules made of those above. */
static void test_ignore(void **state)
{
	static const char rules[] = "d-5\n!d-5/e-0/e-1\n**/e-2/file-*\n!d-10/**/file-4\nd-1?/e-0/e-1\n";
	struct place *place = *state;
	struct table first, table;
	struct scan_totals expected, totals;
	char why[512];

	make_tree(place);
	assert_int_equal(ignore_create(&place->ignore, span_text(rules), why, sizeof(why)), 0);
	grow_old();
	assert_int_equal(scan(place, 1, NULL, &first, &expected, why), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(scan(place, 8, NULL, &table, &totals, why), 0);
		assert_same(&first, &table);
		assert_int_equal(totals.entries, expected.entries);
		table_fini(&table);
	}
	table_fini(&first);
}

static void test_failures(void **state)
{
	struct place *place = *state;
	struct scan_totals totals;
	unsigned open = descriptors();
	struct table table;
	char why[512];

	make_tree(place);
	if (mknodat(place->fd, "d-35/e-0/e-1/device", S_IFCHR | 0600, makedev(1, 3)) < 0)
		skip();
	for (unsigned threads = 0; threads <= 8; threads++) {
		assert_int_equal(scan(place, threads, NULL, &table, &totals, why), -EPERM);
		assert_string_equal(why, "d-35/e-0/e-1/device: is a device node, which is refused");
		assert_int_equal(table.rows_count, 0);
		table_fini(&table);
	}
	assert_int_equal(descriptors(), open);
}

/* A working directory that was removed can be opened still. Within a tree such a one has nothing in it; by itself it is no tree. */
static void test_removed(void **state)
{
	struct place *place = *state;
	struct place removed = *place;
	struct scan_totals totals;
	struct table table;
	char why[512];

	assert_int_equal(mkdirat(place->fd, "gone", 0755), 0);
	removed.fd = openat(place->fd, "gone", O_RDONLY | O_DIRECTORY);
	assert_true(removed.fd >= 0);
	assert_int_equal(unlinkat(place->fd, "gone", AT_REMOVEDIR), 0);
	for (unsigned threads = 1; threads <= 8; threads += 7) {
		assert_int_equal(scan(&removed, threads, NULL, &table, &totals, why), -ENOENT);
		assert_string_equal(why, ".: the directory was removed");
		table_fini(&table);
	}
	close(removed.fd);
}

/* As long as a path may be, and a byte more; of what is ignored none is too long. */
static void test_long_paths(void **state)
{
	enum { LEVELS = 16, NAME = 250, REST = 4095 - LEVELS * (NAME + 1) };
	struct place *place = *state;
	struct scan_totals totals;
	char name[256], why[512];
	int fd = dup(place->fd);
	struct table table;

	memset(name, 'n', sizeof(name));
	name[NAME] = 0;
	for (unsigned i = 0; i < LEVELS; i++) {
		int next;

		assert_int_equal(mkdirat(fd, name, 0755), 0);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	memset(name, 'n', sizeof(name));
	name[REST] = 0;
	close(openat(fd, name, O_WRONLY | O_CREAT, 0644));
	assert_int_equal(scan(place, 1, NULL, &table, &totals, why), 0);
	assert_int_equal(totals.entries, LEVELS + 1);
	table_fini(&table);
	name[REST] = 'x';
	name[REST + 1] = 0;
	close(openat(fd, name, O_WRONLY | O_CREAT, 0644));
	for (unsigned threads = 1; threads <= 8; threads += 7) {
		assert_int_equal(scan(place, threads, NULL, &table, &totals, why), -ENAMETOOLONG);
		assert_non_null(strstr(why, "nnn"));
		table_fini(&table);
	}
	close(fd);
	assert_int_equal(ignore_create(&place->ignore, span_text("**/*x"), why, sizeof(why)), 0);
	assert_int_equal(scan(place, 1, NULL, &table, &totals, why), 0);
	table_fini(&table);
}

/* As a user to whom a file and then a directory are closed; the exit status says which check failed. */
static int denied(struct place *place)
{
	struct scan_totals totals;
	struct table table;
	char why[512];

	for (unsigned threads = 1; threads <= 8; threads += 7) {
		if (fchmodat(place->fd, "d-40/e-0/file-5", 0, 0) < 0)
			return 2;
		if (scan(place, threads, NULL, &table, &totals, why) != -EACCES ||
		    strncmp(why, "d-40/e-0/file-5: cannot be opened: EACCES", 41) != 0)
			return 3;
		if (fchmodat(place->fd, "d-40/e-0/file-5", 0644, 0) < 0 || fchmodat(place->fd, "d-41", 0, 0) < 0)
			return 4;
		if (scan(place, threads, NULL, &table, &totals, why) != -EACCES ||
		    strncmp(why, "d-41: cannot be opened: EACCES", 30) != 0)
			return 5;
		if (fchmodat(place->fd, "d-41", 0755, 0) < 0)
			return 6;
	}
	return 0;
}

static void test_denied(void **state)
{
	struct place *place = *state;
	char command[192];
	int status;
	pid_t pid;

	make_tree(place);
	if (geteuid() == 0) {
		snprintf(command, sizeof(command), "chown -R 65534:65534 %s", place->base);
		assert_int_equal(system(command), 0);
	}
	pid = fork();
	if (pid == 0)
		_exit(geteuid() == 0 && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) ? 7 :
		      denied(place));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Where many threads cannot have all the descriptors that they would like, one still can. */
static void test_few_descriptors(void **state)
{
	struct place *place = *state;
	struct table first, table;
	struct scan_totals totals;
	struct rlimit before, few;
	char why[512];
	int r;

	make_tree(place);
	grow_old();
	assert_int_equal(scan(place, 1, NULL, &first, &totals, why), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ .rlim_cur = (rlim_t)dup(place->fd) + DEEP + 10, .rlim_max = before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	r = scan(place, 8, NULL, &table, &totals, why);
	close((int)few.rlim_cur - DEEP - 10);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	if (r)
		fail_msg("%s (%s)", why, err_text(r));
	assert_same(&first, &table);
	table_fini(&table);
	table_fini(&first);
}

struct mover {
	struct place *place;
	atomic_bool stop;
};

/* Directories and files come and go while others look. */
static void *move_about(void *argument)
{
	struct mover *mover = argument;
	char name[256], other[256];

	for (unsigned i = 0; !atomic_load(&mover->stop); i = (i + 1) % WIDE) {
		renameat(mover->place->fd, name_of(name, "d-%u/e-0", i), mover->place->fd,
			 name_of(other, "d-%u/moved", i));
		unlinkat(mover->place->fd, name_of(name, "d-%u/symlink", i), 0);
		unlinkat(mover->place->fd, name_of(name, "d-%u/file-6", i), 0);
		mkdirat(mover->place->fd, name_of(name, "d-%u/made", i), 0755);
		renameat(mover->place->fd, name_of(name, "d-%u/moved", i), mover->place->fd,
			 name_of(other, "d-%u/e-0", i));
		assert_int_equal(symlinkat("back", mover->place->fd, name_of(name, "d-%u/symlink", i)), 0);
		unlinkat(mover->place->fd, name_of(name, "d-%u/made", i), AT_REMOVEDIR);
	}
	return NULL;
}

static void test_moving(void **state)
{
	struct place *place = *state;
	struct mover mover = { .place = place };
	struct table table, former = table_make(NULL);
	struct scan_totals totals;
	unsigned open = descriptors();
	bool has_former = false;
	pthread_t thread;
	char why[512];

	make_tree(place);
	assert_int_equal(pthread_create(&thread, NULL, move_about, &mover), 0);
	for (unsigned i = 0; i < 20; i++) {
		struct buffer encoded;
		int r = scan(place, 8, has_former ? &former : NULL, &table, &totals, why);

		if (r)
			fail_msg("%s (%s)", why, err_text(r));
		encode(&table, &encoded);        /* its numbers lead somewhere */
		buffer_fini(&encoded);
		assert_true(table.directories_count > WIDE);
		if (has_former) {
			table_fini(&table);
		} else {
			former = table;
			has_former = true;
		}
	}
	atomic_store(&mover.stop, true);
	pthread_join(thread, NULL);
	table_fini(&former);
	assert_int_equal(descriptors(), open);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* A file that was written between the visits of two of its names: as one file they would have one content under two digests. */
static void names_that_disagree_are_no_links(void **state)
{
	struct place *place = *state;
	struct scan_totals totals;
	struct table table;
	char why[512];

	write_file(place, "one", 100, 1);
	assert_int_equal(linkat(place->fd, "one", place->fd, "two", 0), 0);
	assert_int_equal(scan(place, 1, NULL, &table, &totals, why), 0);
	for (int agree = 1; agree >= 0; agree--) {
		unsigned linked = 0;

		for (uint32_t i = 0; i < table.rows_count; i++) {
			struct table_row *row = &table.rows[i];

			if (row->flags & TABLE_ROW_LINKED)
				row->ctime_ns += agree ? 0 : i;
		}
		assert_int_equal(links_resolve(&table), 0);
		for (uint32_t i = 0; i < table.rows_count; i++)
			linked += table_hardlink(&table, &table.rows[i]).size > 0;
		assert_int_equal(linked, agree);
	}
	table_fini(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_threads),
		TEST(test_ignore),
		TEST(test_failures),
		TEST(test_removed),
		TEST(test_long_paths),
		TEST(test_denied),
		TEST(test_few_descriptors),
		TEST(test_moving),
		TEST(names_that_disagree_are_no_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
