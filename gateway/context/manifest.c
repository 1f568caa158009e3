/* Puts scan, snapshot and assembly together, and answers what a push asks. */
#include "gateway/context/manifest.h"

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/clock.h"
#include "gateway/base/err.h"
#include "gateway/context/assemble.h"
#include "gateway/context/blob_reader.h"
#include "gateway/context/file_recipe.h"
#include "gateway/context/former.h"
#include "gateway/context/ignore_file.h"
#include "gateway/context/links.h"
#include "gateway/context/lookup.h"
#include "gateway/context/scan.h"
#include "gateway/context/snapshot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct manifest {
	char *path, *snapshot_path;
	char *real_path;                         /* of a directory that has a snapshot */
	int dir_fd;
	struct sha256 hasher;
	struct snapshot_file former;             /* all zero when there was none */
	bool has_former;
	bool changed;                            /* the snapshot on the disk is no longer right */
	struct table table;
	uint8_t rules[SNAPSHOT_RULES_BYTES];
	struct digest root;
	struct manifest_totals totals;
	struct digest committed;
	uint8_t gateway[SNAPSHOT_GATEWAY_BYTES_MAX];
	size_t gateway_size;

	struct blob_reader *reader;
	struct lookup *former_blobs;             /* made when first needed, as are the next two */
	struct former *bases;
	struct blob_reader *former_reader;

	/* Lent to the caller until the next call. */
	struct digest *digests;
	size_t digests_capacity;
	bool *recipes;
	size_t recipes_capacity;
};

static struct why why_make(char *why, size_t why_size)
{
	return (struct why){ .text = why, .size = why_size };
}

static bool rules_changed(const struct manifest *manifest)
{
	return manifest->has_former &&
	       memcmp(manifest->rules, manifest->former.snapshot.rules, sizeof(manifest->rules)) != 0;
}

static int scan(struct manifest *manifest, const struct manifest_options *options, const struct ignore *ignore,
                struct why why)
{
	const struct table *former = manifest->has_former ? &manifest->former.snapshot.table : NULL;
	struct scan_totals totals = { 0 };
	uint64_t start = clock_now_ns();
	int r;

	manifest->table = table_make(former);
	r = scan_run(&manifest->table, &(struct scan_options){
		.dir_fd = manifest->dir_fd,
		.former = former,
		.ignore = ignore,
		.rules_changed = rules_changed(manifest),
		.threads = options->threads,
		.hasher = &manifest->hasher,
		.taker = options->taker,
		.why = why,
		.progress = options->progress,
		.context = options->context,
	}, &totals);
	if (r)
		return r;
	manifest->changed = !former || totals.changed > 0 || rules_changed(manifest);
	manifest->totals.files_read = totals.reads.files;
	manifest->totals.bytes_read = totals.reads.bytes;
	manifest->totals.changed_during_read = totals.reads.changed_during_read;
	manifest->totals.read_ns = totals.reads.ns;
	manifest->totals.scan_ns = clock_now_ns() - start - totals.reads.ns;
	return 0;
}

/* When nothing has changed every directory has its digest already, and links are what they were. */
static int assemble(struct manifest *manifest, struct why why)
{
	struct assembler *assembler;
	int r;

	if (!manifest->changed)
		return 0;
	r = links_resolve(&manifest->table);
	if (r)
		return ERR_RAISE(r);
	assembler = assembler_create(&manifest->table, &manifest->hasher, why);
	if (!assembler)
		return ERR_RAISE(-ENOMEM);
	r = assembler_run(assembler);
	assembler_destroy(assembler);
	return r;
}

static void count_row(struct manifest *manifest, const struct table_row *row)
{
	struct manifest_totals *totals = &manifest->totals;

	if (!table_included(&manifest->table, row))
		return;
	switch (row->mode & S_IFMT) {
	case S_IFREG:
		totals->files++;
		totals->bytes += row->size;
		totals->chunks += row->flags & TABLE_ROW_RECIPE ? manifest->table.recipes[row->link].count : 1;
		return;
	case S_IFDIR:
		totals->directories++;
		return;
	case S_IFLNK:
		totals->symlinks++;
		return;
	}
	totals->others++;
}

static int open_root(struct manifest *manifest, struct why why)
{
	manifest->dir_fd = open(manifest->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (manifest->dir_fd < 0)
		return WHY_RAISE(why, -errno, manifest->path, "cannot be opened: %s", err_text(errno));
	if (!manifest->snapshot_path)
		return 0;
	manifest->real_path = realpath(manifest->path, NULL);
	if (!manifest->real_path)
		return WHY_RAISE(why, -errno, manifest->path, "cannot be resolved: %s", err_text(errno));
	return 0;
}

static int build(struct manifest *manifest, const struct manifest_options *options, struct why why)
{
	struct ignore_file own = { 0 };
	const struct ignore_file *ignore = options->ignore_file ? options->ignore_file : &own;
	int r = open_root(manifest, why);

	if (r)
		return r;
	sha256_init(&manifest->hasher, SHA256_AUTO);
	if (manifest->snapshot_path && !options->read_all)
		manifest->has_former =
			snapshot_file_open(&manifest->former, manifest->snapshot_path, span_text(manifest->real_path));
	if (!options->ignore_file && options->use_ignore)
		r = ignore_file_read_in(&own, manifest->dir_fd, why);
	if (!r) {
		memcpy(manifest->rules, ignore->digest, sizeof(manifest->rules));
		r = scan(manifest, options, ignore->ignore, why);
	}
	ignore_file_fini(&own);
	if (!r)
		r = assemble(manifest, why);
	if (r)
		return r;
	for (uint32_t i = 0; i < manifest->table.rows_count; i++)
		count_row(manifest, &manifest->table.rows[i]);
	manifest->root = table_directory_digest(&manifest->table.directories[0]);
	manifest->reader = blob_reader_create(&manifest->table, manifest->dir_fd, &manifest->hasher);
	return manifest->reader ? 0 : ERR_RAISE(-ENOMEM);
}

int manifest_build(struct manifest **out, const struct manifest_options *options, char *why, size_t why_size)
{
	struct manifest *manifest = calloc(1, sizeof(*manifest));
	int r = -ENOMEM;

	if (why_size)
		why[0] = 0;
	if (manifest) {
		manifest->dir_fd = -1;
		manifest->path = strdup(options->path);
		manifest->snapshot_path = options->snapshot_path ? strdup(options->snapshot_path) : NULL;
		if (manifest->path && (manifest->snapshot_path || !options->snapshot_path))
			r = build(manifest, options, why_make(why, why_size));
	}
	if (r) {
		manifest_destroy(manifest);
		/* Every refusal has its sentence; what is left is memory and limits. */
		if (why_size && !why[0])
			why_write(why_make(why, why_size), options->path, "%s", err_text(r));
		return ERR_RAISE(r);
	}
	*out = manifest;
	return 0;
}

void manifest_destroy(struct manifest *manifest)
{
	if (!manifest)
		return;
	blob_reader_destroy(manifest->reader);
	fd_closep(&manifest->dir_fd);
	lookup_destroy(manifest->former_blobs);
	former_destroy(manifest->bases);
	blob_reader_destroy(manifest->former_reader);
	table_fini(&manifest->table);
	snapshot_file_close(&manifest->former);
	free(manifest->digests);
	free(manifest->recipes);
	free(manifest->path);
	free(manifest->real_path);
	free(manifest->snapshot_path);
	free(manifest);
}

const struct digest *manifest_root(const struct manifest *manifest)
{
	return &manifest->root;
}

const struct manifest_totals *manifest_totals(const struct manifest *manifest)
{
	return &manifest->totals;
}

static int reserve(void **items, size_t *capacity, size_t wanted, size_t item_size)
{
	void *moved;

	if (wanted <= *capacity)
		return 0;
	moved = realloc(*items, wanted * item_size);
	if (!moved)
		return -ENOMEM;
	*items = moved;
	*capacity = wanted;
	return 0;
}

static int reserve_answer(struct manifest *manifest, size_t count)
{
	int r = reserve((void **)&manifest->digests, &manifest->digests_capacity, count + 1, sizeof(struct digest));

	if (!r)
		r = reserve((void **)&manifest->recipes, &manifest->recipes_capacity, count + 1, sizeof(bool));
	return r ? ERR_RAISE(r) : 0;
}

/* Contents fill the array from the front, directories from the back. */
static void fill_children(struct manifest *manifest, const struct table_directory *directory,
                          struct manifest_children *children)
{
	const struct table *table = &manifest->table;
	size_t contents = 0, directories = directory->count;

	for (uint32_t i = 0; i < directory->count; i++) {
		const struct table_row *row = &table->rows[directory->first + i];

		if (!table_included(table, row))
			continue;
		if (S_ISDIR(row->mode)) {
			manifest->digests[--directories] = table_directory_digest(&table->directories[row->link]);
		} else if (S_ISREG(row->mode) && row->size) {
			manifest->recipes[contents] = row->flags & TABLE_ROW_RECIPE;
			manifest->digests[contents++] = table_row_digest(table, row);
		}
	}
	*children = (struct manifest_children){
		.directories = manifest->digests + directories,
		.directories_count = directory->count - directories,
		.contents = manifest->digests,
		.recipes = manifest->recipes,
		.contents_count = contents,
	};
}

int manifest_children(struct manifest *manifest, const struct digest *digest, struct manifest_children *children)
{
	const struct table_directory *directory;
	struct lookup_place place;
	int r = blob_reader_find_directory(manifest->reader, digest, &place);

	if (r)
		return r;
	directory = &manifest->table.directories[place.number];
	r = reserve_answer(manifest, directory->count);
	if (r)
		return r;
	fill_children(manifest, directory, children);
	return 0;
}

static int list_parts(struct manifest *manifest, const struct table_recipe *recipe, uint32_t parts)
{
	struct buffer scratch = buffer_heap(RECIPE_BYTES_MAX);
	int r = 0;

	for (uint32_t part = 0; !r && part < parts; part++)
		r = file_recipe_part_digest(&manifest->table, recipe, part, &scratch, &manifest->digests[part]);
	buffer_fini(&scratch);
	return r;
}

int manifest_recipe_children(struct manifest *manifest, const struct digest *digest, const struct digest **blobs,
                             bool *are_recipes, size_t *count)
{
	const struct table_recipe *recipe;
	uint32_t first = 0, end, parts = 0;
	struct lookup_place place;
	int r = blob_reader_find_content(manifest->reader, digest, &place);

	if (r)
		return r;
	if (place.kind != LOOKUP_RECIPE && place.kind != LOOKUP_PART)
		return -ENOENT;
	recipe = &manifest->table.recipes[manifest->table.rows[place.number].link];
	end = recipe->count;
	if (place.kind == LOOKUP_RECIPE) {
		parts = file_recipe_parts(&manifest->table, recipe);
	} else {
		first = place.index * RECIPE_PART_ENTRIES;
		end = end - first < RECIPE_PART_ENTRIES ? end : first + RECIPE_PART_ENTRIES;
	}
	r = reserve_answer(manifest, parts ? parts : end - first);
	if (!r && parts)
		r = list_parts(manifest, recipe, parts);
	if (r)
		return r;
	for (uint32_t i = first; !parts && i < end; i++)
		manifest->digests[i - first] = table_chunk_digest(&manifest->table, recipe, i);
	*blobs = manifest->digests;
	*are_recipes = parts > 0;
	*count = parts ? parts : end - first;
	return 0;
}

int manifest_find(struct manifest *manifest, const struct digest *blob, uint32_t *row, enum lookup_kind *kind)
{
	struct lookup_place place;
	int r = blob_reader_find_directory(manifest->reader, blob, &place);

	if (r == -ENOENT)
		r = blob_reader_find_content(manifest->reader, blob, &place);
	if (r)
		return r;
	*kind = place.kind;
	*row = place.kind == LOOKUP_DIRECTORY ? manifest->table.directories[place.number].row : place.number;
	return 0;
}

const struct table *manifest_table(const struct manifest *manifest)
{
	return &manifest->table;
}

const struct table *manifest_former_table(const struct manifest *manifest)
{
	return manifest->has_former ? &manifest->former.snapshot.table : NULL;
}

/* A table that names its blobs wrongly came so from the snapshot. */
static int wrong_snapshot(const struct manifest *manifest, struct why why)
{
	CHECK(manifest->has_former);
	return WHY_RAISE(why, -EBADMSG, manifest->snapshot_path, "does not fit together; remove it and try again");
}

struct blob_reader *manifest_reader(struct manifest *manifest)
{
	return blob_reader_beside(manifest->reader);
}

int manifest_read_beside(const struct manifest *manifest, struct blob_reader *reader, const struct blob_piece *pieces, size_t count,
                         char *why, size_t why_size)
{
	int r = blob_reader_read(reader, pieces, count, why_make(why, why_size));

	return r == -EBADMSG ? wrong_snapshot(manifest, why_make(why, why_size)) : r;
}

bool manifest_disproved(const struct manifest *manifest)
{
	return blob_reader_unseen(manifest->reader);
}

int manifest_read_many(struct manifest *manifest, const struct blob_piece *pieces, size_t count, char *why,
                       size_t why_size)
{
	return manifest_read_beside(manifest, manifest->reader, pieces, count, why, why_size);
}

int manifest_read(struct manifest *manifest, const struct digest *digest, void *buffer, char *why, size_t why_size)
{
	struct blob_piece piece = { .digest = *digest, .buffer = buffer };

	return manifest_read_many(manifest, &piece, 1, why, why_size);
}

static bool is_committed(const struct snapshot *snapshot, struct span gateway)
{
	struct digest root = table_directory_digest(&snapshot->table.directories[0]);

	return gateway.size && span_equal(snapshot->gateway, gateway) && digest_equal(&snapshot->committed, &root);
}

void manifest_committed(struct manifest *manifest, struct span gateway_id)
{
	if (gateway_id.size == 0 || gateway_id.size > sizeof(manifest->gateway))
		return;
	memcpy(manifest->gateway, gateway_id.data, gateway_id.size);
	manifest->gateway_size = gateway_id.size;
	manifest->committed = manifest->root;
	if (!manifest->has_former || !is_committed(&manifest->former.snapshot, gateway_id))
		manifest->changed = true;
}

bool manifest_committed_to(const struct manifest *manifest, struct span gateway_id)
{
	return manifest->has_former && is_committed(&manifest->former.snapshot, gateway_id);
}

bool manifest_known(struct manifest *manifest, struct span gateway_id, const struct digest *blob)
{
	struct lookup_place place;

	if (!manifest_committed_to(manifest, gateway_id))
		return false;
	if (!manifest->former_blobs && lookup_create(&manifest->former_blobs, &manifest->former.snapshot.table,
						     LOOKUP_DIRECTORY | LOOKUP_CONTENTS))
		return false;
	return lookup_find(manifest->former_blobs, blob, &place);
}

size_t manifest_bases(struct manifest *manifest, struct span gateway_id, const struct digest *blob, struct digest *bases, size_t max)
{
	struct lookup_place place;

	if (!manifest_committed_to(manifest, gateway_id))
		return 0;
	if (!manifest->bases)
		manifest->bases = former_create(&manifest->table, &manifest->former.snapshot.table);
	if (!manifest->bases || (blob_reader_find_directory(manifest->reader, blob, &place) &&
	                         blob_reader_find_content(manifest->reader, blob, &place)))
		return 0;
	return former_bases(manifest->bases, &place, bases, max);
}

int manifest_read_base(struct manifest *manifest, const struct digest *digest, void *buffer)
{
	struct blob_piece piece = { .digest = *digest, .buffer = buffer };
	char why[256];

	CHECK(manifest->has_former);
	if (!manifest->former_reader)
		manifest->former_reader = blob_reader_create(&manifest->former.snapshot.table, manifest->dir_fd, &manifest->hasher);
	if (!manifest->former_reader)
		return ERR_RAISE(-ENOMEM);
	return blob_reader_make(manifest->former_reader, &piece, why_make(why, sizeof(why)));
}

int manifest_save(struct manifest *manifest)
{
	struct snapshot snapshot = {
		.table = manifest->table,
		.gateway = span_make(manifest->gateway, manifest->gateway_size),
		.committed = manifest->committed,
	};
	int r;

	if (!manifest->snapshot_path || !manifest->changed)
		return 0;
	snapshot.path = span_text(manifest->real_path);
	if (!manifest->gateway_size && manifest->has_former) {
		snapshot.gateway = manifest->former.snapshot.gateway;
		snapshot.committed = manifest->former.snapshot.committed;
	}
	memcpy(snapshot.rules, manifest->rules, sizeof(snapshot.rules));
	r = snapshot_file_save(manifest->snapshot_path, &snapshot);
	if (r)
		return r;
	manifest->changed = false;
	return 0;
}
