/* The snapshot's file format. */
#include "gateway/context/snapshot.h"

#include "gateway/base/check.h"

#include <errno.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static const char magic[8] = "sluiceSN";

struct header {
	char magic[8];
	uint32_t version;
	uint32_t byte_order;
	uint64_t file_bytes;
	uint32_t rows_count, directories_count, recipes_count, names_bytes;
	uint64_t chunks_count;
	uint32_t path_bytes, gateway_bytes;
	uint8_t rules[SNAPSHOT_RULES_BYTES];
	uint8_t committed_hash[DIGEST_HASH_BYTES];
	uint64_t committed_size;
};

#define BYTE_ORDER_MARK 0x01020304u

_Static_assert(sizeof(struct header) % 8 == 0, "sections are aligned");
_Static_assert(sizeof(struct table_row) == 96, "the file's layout is fixed by its version");
_Static_assert(sizeof(struct table_directory) == 64, "the file's layout is fixed by its version");
_Static_assert(sizeof(struct table_recipe) == 32, "the file's layout is fixed by its version");
_Static_assert(sizeof(struct table_chunk) == 40, "the file's layout is fixed by its version");

/* The sections that follow the header, in order. Those of bytes come last, so that the others are aligned. */
enum { ROWS, DIRECTORIES, RECIPES, CHUNKS, NAMES, PATH, GATEWAY, SECTIONS };

static bool layout(const struct header *header, uint64_t sizes[static SECTIONS])
{
	if (header->rows_count == 0 || header->rows_count > TABLE_ROWS_MAX || header->directories_count == 0 ||
	    header->directories_count > header->rows_count || header->recipes_count > header->rows_count ||
	    header->chunks_count > TABLE_CHUNKS_MAX || header->path_bytes > SNAPSHOT_PATH_BYTES_MAX ||
	    header->gateway_bytes > SNAPSHOT_GATEWAY_BYTES_MAX)
		return false;
	sizes[ROWS] = header->rows_count * sizeof(struct table_row);
	sizes[DIRECTORIES] = header->directories_count * sizeof(struct table_directory);
	sizes[RECIPES] = header->recipes_count * sizeof(struct table_recipe);
	sizes[CHUNKS] = header->chunks_count * sizeof(struct table_chunk);
	sizes[NAMES] = header->names_bytes;
	sizes[PATH] = header->path_bytes;
	sizes[GATEWAY] = header->gateway_bytes;
	return true;
}

static uint64_t file_bytes(const uint64_t sizes[static SECTIONS])
{
	uint64_t total = sizeof(struct header) + sizeof(XXH64_hash_t);

	for (int i = 0; i < SECTIONS; i++)
		total += sizes[i];
	return total;
}

struct encoder {
	snapshot_sink *sink;
	void *context;
	XXH3_state_t *checksum;
};

static int put(struct encoder *encoder, const void *data, uint64_t size)
{
	if (size == 0)
		return 0;
	XXH3_64bits_update(encoder->checksum, data, size);
	return encoder->sink(encoder->context, data, size);
}

/* Renumbered: the chunks of all recipes follow each other, wherever they are now. */
static int put_recipes(struct encoder *encoder, const struct table *table)
{
	uint64_t first = 0;
	int r = 0;

	for (uint32_t i = 0; !r && i < table->recipes_count; i++) {
		struct table_recipe recipe = table->recipes[i];

		recipe.first = first;
		recipe.borrowed = 0;
		first += recipe.count;
		r = put(encoder, &recipe, sizeof(recipe));
	}
	return r;
}

static int put_chunks(struct encoder *encoder, const struct table *table)
{
	int r = 0;

	for (uint32_t i = 0; !r && i < table->recipes_count; i++) {
		const struct table_recipe *recipe = &table->recipes[i];

		r = put(encoder, table_chunks(table, recipe), recipe->count * sizeof(struct table_chunk));
	}
	return r;
}

static struct header header_of(const struct snapshot *snapshot)
{
	const struct table *table = &snapshot->table;
	struct header header = {
		.version = SNAPSHOT_VERSION,
		.byte_order = BYTE_ORDER_MARK,
		.rows_count = table->rows_count,
		.directories_count = table->directories_count,
		.recipes_count = table->recipes_count,
		.names_bytes = table->names_bytes,
		.path_bytes = (uint32_t)snapshot->path.size,
		.gateway_bytes = (uint32_t)snapshot->gateway.size,
		.committed_size = snapshot->committed.size,
	};

	memcpy(header.magic, magic, sizeof(magic));
	memcpy(header.rules, snapshot->rules, sizeof(header.rules));
	memcpy(header.committed_hash, snapshot->committed.hash, sizeof(header.committed_hash));
	for (uint32_t i = 0; i < table->recipes_count; i++)
		header.chunks_count += table->recipes[i].count;
	return header;
}

static int put_all(struct encoder *encoder, const struct snapshot *snapshot, const struct header *header,
                   const uint64_t sizes[static SECTIONS])
{
	int r = put(encoder, header, sizeof(*header));

	if (!r)
		r = put(encoder, snapshot->table.rows, sizes[ROWS]);
	if (!r)
		r = put(encoder, snapshot->table.directories, sizes[DIRECTORIES]);
	if (!r)
		r = put_recipes(encoder, &snapshot->table);
	if (!r)
		r = put_chunks(encoder, &snapshot->table);
	if (!r)
		r = put(encoder, snapshot->table.names, sizes[NAMES]);
	if (!r)
		r = put(encoder, snapshot->path.data, sizes[PATH]);
	if (!r)
		r = put(encoder, snapshot->gateway.data, sizes[GATEWAY]);
	return r;
}

int snapshot_encode(const struct snapshot *snapshot, snapshot_sink *sink, void *context)
{
	XXH3_state_t checksum;
	struct encoder encoder = { .sink = sink, .context = context, .checksum = &checksum };
	struct header header = header_of(snapshot);
	uint64_t sizes[SECTIONS];
	XXH64_hash_t sum;
	int r;

	if (!layout(&header, sizes))
		return -EOVERFLOW;
	header.file_bytes = file_bytes(sizes);
	XXH3_64bits_reset(&checksum);
	r = put_all(&encoder, snapshot, &header, sizes);
	if (r)
		return r;
	sum = XXH3_64bits_digest(&checksum);
	return sink(context, &sum, sizeof(sum));
}

static bool in_names(const struct table *table, uint64_t offset, uint64_t size)
{
	return offset <= table->names_bytes && size <= table->names_bytes - offset;
}

static bool directory_row_valid(const struct table *table, uint32_t number)
{
	const struct table_row *row = &table->rows[number];

	return row->link == TABLE_NONE ||
	       (row->link < table->directories_count && table->directories[row->link].row == number);
}

/* Whoever takes a row over goes by these numbers alone, so what means nothing in it has to be zero, as a scan leaves it. */
static bool unmeant_is_zero(const struct table_row *row)
{
	if (row->flags & TABLE_ROW_IGNORED)
		return !(row->flags & TABLE_ROW_RECIPE) && !row->target_size && !row->xattrs && !row->hardlink;
	return !row->target_size || (S_ISLNK(row->mode) && !(row->flags & TABLE_ROW_EXCLUDED));
}

static bool row_valid(const struct table *table, uint32_t number)
{
	const struct table_row *row = &table->rows[number];

	if (!in_names(table, row->name, row->name_size))
		return false;
	if ((number && !tree_name_valid(table_name(table, row))) || !unmeant_is_zero(row))
		return false;
	if (row->flags & TABLE_ROW_IGNORED)
		return true;
	if (!S_ISREG(row->mode) && !S_ISDIR(row->mode) && !S_ISLNK(row->mode) && !S_ISFIFO(row->mode))
		return false;
	if (S_ISDIR(row->mode) && !directory_row_valid(table, number))
		return false;
	if (S_ISLNK(row->mode) && !(row->flags & TABLE_ROW_EXCLUDED) &&
	    (!in_names(table, row->link, row->target_size) || !tree_target_valid(table_target(table, row))))
		return false;
	if (row->flags & TABLE_ROW_RECIPE && (!S_ISREG(row->mode) || row->link >= table->recipes_count ||
	                                      table->recipes[row->link].file_size != row->size))
		return false;
	if (row->hardlink && (!in_names(table, row->hardlink, 2) ||
	                      !in_names(table, row->hardlink + 2, table_hardlink(table, row).size) ||
	                      !tree_path_valid(table_hardlink(table, row))))
		return false;
	if (row->xattrs) {
		struct tree_xattr xattrs[TREE_XATTRS_MAX];

		return table_xattrs(table, row, xattrs) != SIZE_MAX;
	}
	return true;
}

/* Blocks of rows lie in order and leave nothing out; parents come first. */
static bool directories_valid(const struct table *table)
{
	uint32_t next = 1;

	for (uint32_t i = 0; i < table->directories_count; i++) {
		const struct table_directory *directory = &table->directories[i];
		const struct table_directory *parent;

		if (directory->first != next || directory->count > table->rows_count - next)
			return false;
		next += directory->count;
		if (directory->flags & TABLE_DIRECTORY_DIRTY || directory->row >= table->rows_count ||
		    table->rows[directory->row].flags & TABLE_ROW_IGNORED)
			return false;
		if (i == 0) {
			if (directory->row != 0 || directory->parent != 0 || directory->depth != 0)
				return false;
			continue;
		}
		if (directory->parent >= i)
			return false;
		parent = &table->directories[directory->parent];
		if (directory->depth != parent->depth + 1 || directory->depth >= TREE_DEPTH_MAX ||
		    directory->row < parent->first || directory->row - parent->first >= parent->count ||
		    table->rows[directory->row].link != i || !S_ISDIR(table->rows[directory->row].mode))
			return false;
	}
	return next == table->rows_count && S_ISDIR(table->rows[0].mode) && table->rows[0].link == 0;
}

static bool recipes_valid(const struct table *table)
{
	uint64_t first = 0;

	for (uint32_t i = 0; i < table->recipes_count; i++) {
		const struct table_recipe *recipe = &table->recipes[i];
		uint64_t last = 0;

		if (recipe->first != first || recipe->count == 0 || recipe->count > table->chunks_count - first ||
		    recipe->borrowed)
			return false;
		for (uint32_t chunk = 0; chunk < recipe->count; chunk++) {
			uint64_t offset = table->chunks[first + chunk].offset;

			if (chunk ? offset <= last : offset != 0)
				return false;
			last = offset;
		}
		if (last >= recipe->file_size)
			return false;
		first += recipe->count;
	}
	return first == table->chunks_count;
}

static bool table_valid(const struct table *table)
{
	if (!directories_valid(table) || !recipes_valid(table))
		return false;
	for (uint32_t i = 0; i < table->rows_count; i++) {
		if (!row_valid(table, i))
			return false;
	}
	return true;
}

static bool read_header(struct header *header, struct span file, uint64_t sizes[static SECTIONS])
{
	if (file.size < sizeof(*header))
		return false;
	memcpy(header, file.data, sizeof(*header));
	if (memcmp(header->magic, magic, sizeof(magic)) != 0 || header->version != SNAPSHOT_VERSION ||
	    header->byte_order != BYTE_ORDER_MARK || header->file_bytes != file.size)
		return false;
	return layout(header, sizes) && file_bytes(sizes) == file.size;
}

static bool checksum_matches(struct span file)
{
	size_t covered = file.size - sizeof(XXH64_hash_t);
	XXH64_hash_t sum;

	memcpy(&sum, file.data + covered, sizeof(sum));
	return XXH3_64bits(file.data, covered) == sum;
}

bool snapshot_decode(struct snapshot *snapshot, struct span file, struct span path)
{
	const uint8_t *sections[SECTIONS];
	uint64_t sizes[SECTIONS];
	struct snapshot found;
	struct header header;
	size_t at = sizeof(header);

	CHECK((uintptr_t)file.data % 8 == 0);
	if (!read_header(&header, file, sizes))
		return false;
	for (int i = 0; i < SECTIONS; i++) {
		sections[i] = file.data + at;
		at += sizes[i];
	}
	if (!span_equal(path, span_make(sections[PATH], sizes[PATH])) || !checksum_matches(file))
		return false;
	found = (struct snapshot){
		.table = {
			.rows = (struct table_row *)sections[ROWS],
			.directories = (struct table_directory *)sections[DIRECTORIES],
			.recipes = (struct table_recipe *)sections[RECIPES],
			.chunks = (struct table_chunk *)sections[CHUNKS],
			.names = (uint8_t *)sections[NAMES],
			.rows_count = header.rows_count,
			.directories_count = header.directories_count,
			.recipes_count = header.recipes_count,
			.names_bytes = header.names_bytes,
			.chunks_count = header.chunks_count,
		},
		.path = span_make(sections[PATH], sizes[PATH]),
		.gateway = span_make(sections[GATEWAY], sizes[GATEWAY]),
		.committed = { .size = header.committed_size },
	};
	memcpy(found.rules, header.rules, sizeof(found.rules));
	memcpy(found.committed.hash, header.committed_hash, sizeof(found.committed.hash));
	if (!table_valid(&found.table))
		return false;
	*snapshot = found;
	return true;
}
