/*
 * Shows the claims made under a stable key: no (path, size, mtime) ever names two contents, however long and odd the history; what
 * is said of an unchanged content stays; a table and its file agree, wherever the file ends, and a file that is not as it
 * was written is refused.
 */
#include "gateway/play/claims_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static struct claim claim_of(const struct claims *claims, unsigned path, unsigned content, uint64_t size, int64_t mtime_ns)
{
	const struct span part = span_make(&content, sizeof(content));
	char text[32];

	snprintf(text, sizeof(text), "d/f%u", path);
	return (struct claim){ .path = claims_path(claims, span_text("context"), span_text(text)),
		               .content = claims_content(claims, &part, 1), .size = size, .mtime_ns = mtime_ns };
}

#define PATHS    20
#define CONTENTS 5
#define HISTORY  4000

/* A model: all that was ever said, looked through from the beginning. */
static void nothing_names_two_contents(void **state)
{
	static struct { unsigned path, content; uint64_t size; int64_t mtime_ns; } said[HISTORY];
	unsigned now[PATHS];
	struct claims claims;

	random_state = 88172645463325252ull;
	claims_init(&claims, 7, NULL);
	memset(now, 0xff, sizeof(now));
	for (unsigned i = 0; i < HISTORY; i++) {
		unsigned path = (unsigned)(next_random() % PATHS), content = (unsigned)(next_random() % CONTENTS);
		struct claim claim = claim_of(&claims, path, content, content / 2, (int64_t)(next_random() % 3));
		int64_t wanted = claim.mtime_ns;
		int r = claims_make(&claims, &claim);

		assert_int_equal(r, now[path] == content ? CLAIMS_KNOWN : CLAIMS_MADE);
		assert_true(r == CLAIMS_KNOWN || claim.mtime_ns >= wanted);
		said[i].path = path;
		said[i].content = content;
		said[i].size = claim.size;
		said[i].mtime_ns = claim.mtime_ns;
		now[path] = content;
		for (unsigned j = 0; j < i; j++) {
			if (said[j].path != path || said[j].size != claim.size || said[j].mtime_ns != claim.mtime_ns)
				continue;
			assert_int_equal(said[j].content, content);
			/* Nor does one that returns get what it had. */
			for (unsigned k = j; k < i; k++)
				assert_true(said[k].path != path || said[k].content == content);
		}
	}
	claims_fini(&claims);
}

static void many_are_kept_apart(void **state)
{
	enum { MANY = 150000 };
	struct claims claims;
	int64_t mtime_ns;

	claims_init(&claims, 9, "/tmp");
	for (unsigned i = 0; i < MANY; i++) {
		struct claim claim = claim_of(&claims, i, i, 1, 100);

		assert_int_equal(claims_make(&claims, &claim), CLAIMS_MADE);
		assert_int_equal(claim.mtime_ns, 100);
	}
	assert_int_equal(claims.rows_count, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		struct claim claim = claim_of(&claims, i, i, 1, 0), other = claim_of(&claims, i, i + 1, 1, 0);

		assert_true(claims_find(&claims, &claim.path, &claim.content, &mtime_ns) && mtime_ns == 100);
		assert_false(claims_find(&claims, &claim.path, &other.content, &mtime_ns));
	}
	claims_fini(&claims);
}

static int compare_mtimes(const void *one, const void *other)
{
	const int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;

	return (a > b) - (a < b);
}

/* In a row that took as many looks as there were claims before, for each of them: minutes here, days when the key is full. */
static void one_mtime_wanted_again_and_again(void **state)
{
	enum { MANY = 200000, WANTED = 1000 };
	int64_t *said = calloc(MANY, sizeof(*said));
	struct claims claims;

	claims_init(&claims, 7, "/tmp");
	for (unsigned i = 0; i < MANY; i++) {
		struct claim claim = claim_of(&claims, 1, i, 100, WANTED);

		assert_int_equal(claims_make(&claims, &claim), CLAIMS_MADE);
		assert_in_range(claim.mtime_ns, WANTED, WANTED + CLAIMS_SPREAD_NS);
		assert_true(i > CLAIMS_IN_A_ROW || claim.mtime_ns == WANTED + i);
		said[i] = claim.mtime_ns;
	}
	qsort(said, MANY, sizeof(*said), compare_mtimes);
	for (unsigned i = 1; i < MANY; i++)
		assert_true(said[i - 1] != said[i]);
	claims_fini(&claims);
	free(said);
}

/* A further name has its file's mtime, whatever its path had before; a file of its own gets one that was never the path's. */
static void a_further_name_follows(void **state)
{
	struct claims claims;
	struct claim own, link, other;

	claims_init(&claims, 7, NULL);
	own = claim_of(&claims, 1, 1, 100, 5);
	assert_int_equal(claims_make(&claims, &own), CLAIMS_MADE);
	link = claim_of(&claims, 1, 2, 100, 5);
	assert_int_equal(claims_follow(&claims, &link), CLAIMS_MADE);
	assert_int_equal(link.mtime_ns, 5);
	assert_int_equal(claims_follow(&claims, &link), CLAIMS_KNOWN);
	link.mtime_ns = 9;
	assert_int_equal(claims_follow(&claims, &link), CLAIMS_MADE);
	other = claim_of(&claims, 1, 3, 100, 9);
	assert_int_equal(claims_make(&claims, &other), CLAIMS_MADE);
	assert_int_equal(other.mtime_ns, 10);
	claims_fini(&claims);
}

static void the_last_instant_is_the_last(void **state)
{
	struct claims claims;
	struct claim claim;

	claims_init(&claims, 1, NULL);
	claim = claim_of(&claims, 0, 0, 1, INT64_MAX);
	assert_int_equal(claims_make(&claims, &claim), CLAIMS_MADE);
	claim = claim_of(&claims, 0, 1, 1, INT64_MAX);
	assert_int_equal(claims_make(&claims, &claim), CLAIMS_FULL);
	claims_fini(&claims);
}

/* ---- the file ---- */

static const struct claims_file_head head = { .id = "0123456789abcdef", .owner = "somebody" };
#define RECORDS 40

/* Written in two pieces, read back whole. */
static size_t write_file(uint8_t *bytes, size_t capacity, struct claims *claims)
{
	char directory[] = "/tmp/claims.XXXXXX", path[64], name[CLAIMS_FILE_NAME_BYTES];
	struct claim made[RECORDS];
	ssize_t size;
	uint64_t end;
	int dir_fd, fd;

	assert_non_null(mkdtemp(directory));
	dir_fd = open(directory, O_RDONLY | O_DIRECTORY);
	assert_int_equal(claims_file_open(dir_fd, &head, false, claims, &fd, &end), CLAIMS_FILE_DAMAGED);      /* not there */
	assert_int_equal(claims_file_open(dir_fd, &head, true, claims, &fd, &end), CLAIMS_FILE_OK);
	assert_int_equal(end, CLAIMS_FILE_HEAD_BYTES);
	for (unsigned i = 0; i < RECORDS; i++) {
		made[i] = claim_of(claims, i % 7, i, 3, 5);
		assert_int_equal(claims_make(claims, &made[i]), CLAIMS_MADE);
	}
	assert_int_equal(claims_file_append(fd, end, &head, made, 15), 0);
	end += 15 * CLAIMS_FILE_RECORD_BYTES;
	assert_int_equal(claims_file_append(fd, end, &head, made + 15, RECORDS - 15), 0);
	size = pread(fd, bytes, capacity, 0);
	assert_int_equal(size, CLAIMS_FILE_HEAD_BYTES + RECORDS * CLAIMS_FILE_RECORD_BYTES);
	claims_file_name(head.id, name);
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
	close(fd);
	close(dir_fd);
	return (size_t)size;
}

static int parse(struct span bytes, struct claims *claims, uint64_t *end)
{
	claims_fini(claims);
	claims_init(claims, 5, NULL);
	return claims_file_parse(claims, bytes, &head, end);
}

static void a_file_is_what_was_written(void **state)
{
	uint8_t bytes[CLAIMS_FILE_HEAD_BYTES + RECORDS * CLAIMS_FILE_RECORD_BYTES + 200] = { 0 };
	struct claims made, claims = { 0 };
	struct claims_file_head other = head;
	size_t size;
	uint64_t end;

	claims_init(&made, 5, NULL);
	size = write_file(bytes, sizeof(bytes), &made);
	/* Cut anywhere: what is whole counts, and nothing else. */
	for (size_t cut = 0; cut <= size; cut++) {
		size_t whole = cut < CLAIMS_FILE_HEAD_BYTES ? 0 : (cut - CLAIMS_FILE_HEAD_BYTES) / CLAIMS_FILE_RECORD_BYTES;
		int r = parse(span_make(bytes, cut), &claims, &end);

		assert_int_equal(r, cut < CLAIMS_FILE_HEAD_BYTES ? CLAIMS_FILE_DAMAGED : CLAIMS_FILE_OK);
		assert_int_equal(claims.count, whole);
		assert_true(r || end == CLAIMS_FILE_HEAD_BYTES + whole * CLAIMS_FILE_RECORD_BYTES);
	}
	for (unsigned i = RECORDS - 7; i < RECORDS; i++) {
		struct claim claim = claim_of(&claims, i % 7, i, 3, 5);
		int64_t there, here;

		assert_true(claims_find(&made, &claim.path, &claim.content, &there));
		assert_true(claims_find(&claims, &claim.path, &claim.content, &here));
		assert_int_equal(there, here);
	}
	/* Zeros behind it are a write that never came; any other byte that changed is damage. */
	assert_int_equal(parse(span_make(bytes, size + 150), &claims, &end), CLAIMS_FILE_OK);
	assert_int_equal(end, size);
	for (size_t i = 0; i < size; i++) {
		bytes[i] ^= 1;
		assert_int_equal(parse(span_make(bytes, size), &claims, &end), CLAIMS_FILE_DAMAGED);
		bytes[i] ^= 1;
	}
	/* A record at another's place, and the file of another. */
	memcpy(bytes + size, bytes + size - CLAIMS_FILE_RECORD_BYTES, CLAIMS_FILE_RECORD_BYTES);
	assert_int_equal(parse(span_make(bytes, size + CLAIMS_FILE_RECORD_BYTES), &claims, &end), CLAIMS_FILE_DAMAGED);
	other.owner[3] ^= 1;
	assert_int_equal(claims_file_parse(&claims, span_make(bytes, size), &other, &end), CLAIMS_FILE_DAMAGED);
	claims_fini(&claims);
	claims_fini(&made);
}

/* What a path was told has its content said later, and that is no claim more, nor when it is read from a file again. */
static void a_content_said_later_is_no_other_claim(void **state)
{
	struct claims claims, again;

	claims_init(&claims, 7, NULL);
	claims_init(&again, 7, NULL);
	for (unsigned i = 0; i < 100; i++) {
		struct claim unnamed = claim_of(&claims, i, 1000 + i, 5, 3), named = claim_of(&claims, i, i, 5, 3);

		assert_int_equal(claims_make(&claims, &unnamed), CLAIMS_MADE);
		named.mtime_ns = unnamed.mtime_ns;
		assert_int_equal(claims_name(&claims, &named), CLAIMS_MADE);
		assert_int_equal(claims_replay(&again, &unnamed), CLAIMS_MADE);
		assert_int_equal(claims_replay(&again, &named), CLAIMS_MADE);
	}
	assert_int_equal(claims.count, 100);
	assert_int_equal(claims.records, 200);
	assert_int_equal(again.count, 100);
	assert_int_equal(again.records, 200);
	claims_fini(&claims);
	claims_fini(&again);
}

/* The mtime was looked for with the size that was told: with another one the path may have had it before. */
static void a_content_of_another_size_is_not_that(void **state)
{
	struct claims claims;
	struct claim former, unnamed, named;
	int64_t mtime_ns;

	claims_init(&claims, 7, NULL);
	former = claim_of(&claims, 1, 1, 20, 3);
	assert_int_equal(claims_make(&claims, &former), CLAIMS_MADE);
	unnamed = claim_of(&claims, 1, 1000, 10, 3);
	assert_int_equal(claims_make(&claims, &unnamed), CLAIMS_MADE);
	assert_int_equal(unnamed.mtime_ns, former.mtime_ns);
	named = claim_of(&claims, 1, 2, 20, 3);
	assert_int_equal(claims_name(&claims, &named), CLAIMS_KNOWN);
	assert_false(claims_find(&claims, &named.path, &named.content, &mtime_ns));
	named.size = 10;
	assert_int_equal(claims_name(&claims, &named), CLAIMS_MADE);
	assert_true(claims_find(&claims, &named.path, &named.content, &mtime_ns));
	claims_fini(&claims);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_names_two_contents),
		cmocka_unit_test(many_are_kept_apart),
		cmocka_unit_test(one_mtime_wanted_again_and_again),
		cmocka_unit_test(a_further_name_follows),
		cmocka_unit_test(a_content_said_later_is_no_other_claim),
		cmocka_unit_test(a_content_of_another_size_is_not_that),
		cmocka_unit_test(the_last_instant_is_the_last),
		cmocka_unit_test(a_file_is_what_was_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
