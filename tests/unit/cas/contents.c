/* Files' bytes for tests. */
#include "tests/unit/cas/contents.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chunker/sha256.h"
#include "gateway/cas/ingest.h"
#include "gateway/context/digester.h"
#include "proto/recipe.h"

uint64_t content_random(uint64_t *state)
{
	uint64_t word = *state += 0x9e3779b97f4a7c15ull;

	word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9ull;
	word = (word ^ word >> 27) * 0x94d049bb133111ebull;
	return word ^ word >> 31;
}

struct content content_make(uint64_t number, size_t size, enum content_kind kind)
{
	struct content content = { .data = calloc(1, size + 8), .size = size };
	uint64_t state = number;

	assert_non_null(content.data);
	for (size_t i = 0; kind != CONTENT_ZEROS && i < size; i += 8) {
		uint64_t word = content_random(&state);

		if (kind == CONTENT_REPEATING && i % 100000 == 0)
			state = number;
		memcpy(content.data + i, &word, 8);
	}
	if (kind == CONTENT_SQLITE && size >= 16)
		memcpy(content.data, "SQLite format 3", 16);
	if (kind == CONTENT_TAR && size >= 262)
		memcpy(content.data + 257, "ustar", 5);
	return content;
}

void content_free(struct content *content)
{
	free(content->data);
	content->data = NULL;
}

bool content_name_equal(const struct content_name *a, const struct content_name *b)
{
	return digest_equal(&a->digest, &b->digest) && a->size == b->size && a->recipe == b->recipe;
}

static struct content_name name_of_row(const struct table *table, uint32_t row)
{
	const struct table_row *found = &table->rows[row];
	struct content_name name = { .size = found->size, .recipe = found->flags & TABLE_ROW_RECIPE };

	memcpy(name.digest.hash, found->hash, sizeof(name.digest.hash));
	name.digest.size = name.recipe ? table->recipes[found->link].size : found->size;
	return name;
}

struct content_name content_client_name(const struct content *content)
{
	char path[] = "/tmp/content-test-XXXXXX", why[256] = "";
	struct table table = table_make(NULL);
	uint32_t row, directory;
	struct digester *digester;
	struct content_name name;
	struct sha256 hasher;
	int dir, fd;

	assert_non_null(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(dir, "f", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, content->data, content->size), (ssize_t)content->size);
	close(fd);
	sha256_init(&hasher, SHA256_AUTO);
	assert_int_equal(table_add_row(&table, span_text(""), &row), 0);
	table.rows[row].mode = S_IFDIR;
	assert_int_equal(table_add_directory(&table, 0, row, &directory), 0);
	assert_int_equal(table_add_row(&table, span_text("f"), &row), 0);
	digester = digester_create(&(struct digester_options){
		.table = &table, .hasher = &hasher, .why = { why, sizeof(why) } });
	assert_non_null(digester);
	assert_int_equal(digester_add(digester, dir, "f", row), 0);
	digester_flush(digester);
	name = name_of_row(&table, row);
	digester_destroy(digester);
	table_fini(&table);
	unlinkat(dir, "f", 0);
	close(dir);
	rmdir(path);
	return name;
}

/* ---- the store ---- */

struct reading {
	struct store_read read;
	bool done;
};

static void on_read(struct store_read *read)
{
	container_of(read, struct reading, read)->done = true;
}

static uint8_t *read_whole(struct fixture *fixture, const struct scope *scope, const struct digest *digest, struct span *blob)
{
	uint8_t *buffer = malloc((size_t)digest->size + STORE_READ_EXTRA_BYTES);
	struct reading reading = { .read = { .scope = *scope, .digest = *digest, .buffer = buffer, .fn = on_read } };

	store_read(fixture->store, &reading.read);
	run_until(fixture, &reading.done);
	assert_int_equal(reading.read.result, STORE_OK);
	*blob = reading.read.blob;
	return buffer;
}

static size_t assert_recipe(struct fixture *fixture, const struct scope *scope, const struct digest *digest,
                            const uint8_t *data, size_t size)
{
	struct recipe_reader reader;
	struct digest entry;
	struct span blob;
	uint8_t *buffer = read_whole(fixture, scope, digest, &blob);
	size_t at = 0;

	assert_true(recipe_open(&reader, blob));
	while (recipe_next(&reader, &entry)) {
		struct span chunk;
		uint8_t *bytes;

		if (reader.head.level == 1) {
			at += assert_recipe(fixture, scope, &entry, data + at, size - at);
			continue;
		}
		bytes = read_whole(fixture, scope, &entry, &chunk);
		assert_true(chunk.size <= size - at);
		assert_memory_equal(chunk.data, data + at, chunk.size);
		at += chunk.size;
		free(bytes);
	}
	assert_false(reader.failed);
	assert_int_equal(at, reader.head.file_size);
	free(buffer);
	return at;
}

void content_assert_stored(struct fixture *fixture, const struct scope *scope, const struct content_name *name,
                           const struct content *content)
{
	struct span blob;
	uint8_t *buffer;

	assert_int_equal(name->size, content->size);
	if (name->recipe) {
		assert_int_equal(assert_recipe(fixture, scope, &name->digest, content->data, content->size), content->size);
		return;
	}
	buffer = read_whole(fixture, scope, &name->digest, &blob);
	assert_int_equal(blob.size, content->size);
	if (blob.size)
		assert_memory_equal(blob.data, content->data, blob.size);
	free(buffer);
}

void content_cas(struct fixture *fixture, struct cas *cas, const struct sha256 *hasher)
{
	*cas = (struct cas){ .ring = fixture->ring, .store = fixture->store, .hasher = hasher };
	cas_init(cas);
}

struct storing {
	struct ingest_file file;
	bool done;
};

static void on_named(struct ingest_file *file)
{
	container_of(file, struct storing, file)->done = true;
}

static void on_room(struct ingest *ingest)
{
}

struct content_name content_store(struct fixture *fixture, struct cas *cas, const struct scope *scope,
                                  const struct content *content)
{
	static const struct ingest_events events = { .on_named = on_named, .on_room = on_room };
	struct ingest *ingest = ingest_create(cas, scope, &events, NULL);
	struct storing storing = { 0 };
	size_t at = 0;

	ingest_file_begin(ingest, &storing.file, content->size);
	while (at < content->size) {
		at += ingest_file_write(&storing.file, span_make(content->data + at, content->size - at));
		if (at < content->size)
			ring_run(fixture->ring, 100000000);
	}
	ingest_file_end(&storing.file);
	ingest_flush(ingest);
	run_until(fixture, &storing.done);
	assert_int_equal(storing.file.result, STORE_OK);
	ingest_destroy(ingest);
	return storing.file.name;
}
