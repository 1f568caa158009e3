/* Of all entries the tree: Directory messages, and their digests from the deepest to the root. */
#include "gateway/edge/listing_private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define BATCH_DIRECTORIES 256
#define BATCH_BYTES       (4u << 20)

/* ---- messages ---- */

struct maker {
	struct tree_node *nodes;
	struct tree_xattr *xattrs;
	struct buffer paths;             /* of hard links */
};

static void fill_file(const struct listing *listing, const struct listing_entry *entry, struct tree_node *node)
{
	const struct listing_entry *first = entry->hardlink == LISTING_NONE ? entry : listing_at(listing, entry->hardlink);

	node->kind = TREE_FILE;
	node->digest = listing_digest(first);
	node->recipe = first->flags & LISTING_RECIPE;
	node->file_size = first->size;
}

static void fill_node(const struct listing *listing, const struct listing_entry *entry, struct tree_node *node)
{
	*node = (struct tree_node){ .name = listing_name(listing, entry), .mode = entry->mode & 07777 };
	switch (entry->mode & S_IFMT) {
	case S_IFREG:
		fill_file(listing, entry, node);
		return;
	case S_IFDIR:
		node->kind = TREE_DIRECTORY;
		node->digest = listing_digest(entry);
		return;
	case S_IFLNK:
		node->kind = TREE_SYMLINK;
		node->target = span_make(listing->texts.data + entry->target, entry->target_size);
		return;
	}
	CHECK(S_ISFIFO(entry->mode));
	node->kind = TREE_FIFO;
}

static void count_below(const struct listing *listing, uint32_t directory, size_t *nodes, size_t *xattrs)
{
	*nodes = *xattrs = 0;
	for (uint32_t i = listing_first(listing, directory); i != LISTING_NONE; i = listing_next(listing, directory, i)) {
		++*nodes;
		*xattrs += listing_at(listing, i)->xattrs_count;
	}
}

/* Paths of hard links lie in one buffer, which may move while it grows: first all of them, then the spans. */
static void fill_links(const struct listing *listing, uint32_t directory, struct maker *maker)
{
	size_t at = 0, k = 0;

	for (uint32_t i = listing_first(listing, directory); i != LISTING_NONE; i = listing_next(listing, directory, i)) {
		uint32_t first = listing_at(listing, i)->hardlink;

		if (first != LISTING_NONE) {
			listing_path(listing, first, &maker->paths);
			maker->nodes[k].hardlink.size = maker->paths.size - at;
			at = maker->paths.size;
		}
		k++;
	}
	at = 0;
	for (size_t i = 0; i < k; i++) {
		if (!maker->nodes[i].hardlink.size)
			continue;
		maker->nodes[i].hardlink.data = maker->paths.data + at;
		at += maker->nodes[i].hardlink.size;
	}
}

static int fill_nodes(const struct listing *listing, uint32_t directory, struct maker *maker)
{
	size_t xattrs = 0, k = 0;

	for (uint32_t i = listing_first(listing, directory); i != LISTING_NONE; i = listing_next(listing, directory, i)) {
		const struct listing_entry *entry = listing_at(listing, i);
		struct tree_node *node = &maker->nodes[k++];

		fill_node(listing, entry, node);
		if (node->kind != TREE_FILE)     /* a directory's are in its own message */
			continue;
		node->xattrs = maker->xattrs + xattrs;
		node->xattrs_count = listing_get_xattrs(listing, entry, maker->xattrs + xattrs);
		xattrs += node->xattrs_count;
	}
	fill_links(listing, directory, maker);
	return maker->paths.failed ? -ENOMEM : 0;
}

int listing_encode(const struct listing *listing, uint32_t directory, struct buffer *out)
{
	struct tree_xattr own[TREE_XATTRS_MAX];
	struct tree_directory head = { .mode = 0755, .xattrs = own };
	struct maker maker = { .paths = buffer_heap(LISTING_TEXT_MAX) };
	size_t nodes, xattrs;
	int r = -ENOMEM;

	if (directory != LISTING_NONE) {
		head.mode = listing_at(listing, directory)->mode & 07777;
		head.xattrs_count = listing_get_xattrs(listing, listing_at(listing, directory), own);
	}
	count_below(listing, directory, &nodes, &xattrs);
	maker.nodes = malloc((nodes + 1) * sizeof(*maker.nodes));
	maker.xattrs = malloc((xattrs + 1) * sizeof(*maker.xattrs));
	if (maker.nodes && maker.xattrs)
		r = fill_nodes(listing, directory, &maker);
	if (r == 0)
		r = tree_encode(out, &head, maker.nodes, nodes);
	free(maker.nodes);
	free(maker.xattrs);
	buffer_fini(&maker.paths);
	return r;
}

/* ---- digests ---- */

struct batch {
	struct buffer bytes;
	uint32_t numbers[BATCH_DIRECTORIES];
	size_t starts[BATCH_DIRECTORIES + 1];
	size_t count;
};

static void set_directory(struct listing *listing, uint32_t number, const struct sha256_job *job)
{
	if (number == LISTING_NONE) {
		listing->root.size = job->size;
		memcpy(listing->root.hash, job->digest, sizeof(listing->root.hash));
		return;
	}
	listing_at(listing, number)->digest_size = job->size;
	memcpy(listing_at(listing, number)->hash, job->digest, sizeof(job->digest));
}

static void hash_batch(struct listing *listing, const struct sha256 *hasher, struct batch *batch)
{
	struct sha256_job jobs[BATCH_DIRECTORIES];

	for (size_t i = 0; i < batch->count; i++) {
		jobs[i] = (struct sha256_job){ .size = batch->starts[i + 1] - batch->starts[i] };
		if (jobs[i].size)                /* an empty one may be all there is: no bytes, no array */
			jobs[i].data = batch->bytes.data + batch->starts[i];
	}
	sha256_batch(hasher, jobs, batch->count);
	for (size_t i = 0; i < batch->count; i++)
		set_directory(listing, batch->numbers[i], &jobs[i]);
	batch->count = 0;
	buffer_clear(&batch->bytes);
}

static int add_to_batch(struct listing *listing, const struct sha256 *hasher, struct batch *batch, uint32_t number)
{
	int r;

	if (batch->count == BATCH_DIRECTORIES || batch->bytes.size >= BATCH_BYTES)
		hash_batch(listing, hasher, batch);
	batch->starts[batch->count] = batch->bytes.size;
	r = listing_encode(listing, number, &batch->bytes);
	if (r < 0)
		return r;
	batch->numbers[batch->count++] = number;
	batch->starts[batch->count] = batch->bytes.size;
	return 0;
}

/* Those of one depth can be hashed side by side: deepest first, the root last. */
static int list_directories(struct listing *listing)
{
	uint32_t starts[TREE_DEPTH_MAX + 1] = { 0 }, count = 0;

	for (uint32_t i = 0; i < listing->count; i++) {
		if (!S_ISDIR(listing_at(listing, i)->mode))
			continue;
		starts[TREE_DEPTH_MAX - 1 - listing_at(listing, i)->depth]++;
		count++;
	}
	for (uint32_t i = 0, sum = 0; i < TREE_DEPTH_MAX; i++) {
		uint32_t here = starts[i];

		starts[i] = sum;
		sum += here;
	}
	listing->directories = malloc(((size_t)count + 1) * sizeof(*listing->directories));
	if (!listing->directories)
		return ERR_RAISE(-ENOMEM);
	for (uint32_t i = 0; i < listing->count; i++)
		if (S_ISDIR(listing_at(listing, i)->mode))
			listing->directories[starts[TREE_DEPTH_MAX - 1 - listing_at(listing, i)->depth]++] = i;
	listing->directories[count] = LISTING_NONE;
	listing->directories_count = count + 1;
	return 0;
}

static const uint8_t *hash_of(const struct listing *listing, uint32_t number)
{
	return number == LISTING_NONE ? listing->root.hash : listing_at(listing, number)->hash;
}

static int by_digest(const void *a, const void *b, void *context)
{
	return memcmp(hash_of(context, *(const uint32_t *)a), hash_of(context, *(const uint32_t *)b), DIGEST_HASH_BYTES);
}

static uint32_t depth_of(const struct listing *listing, uint32_t number)
{
	return number == LISTING_NONE ? LISTING_NONE : listing_at(listing, number)->depth;
}

int listing_seal(struct listing *listing, const struct sha256 *hasher)
{
	struct batch batch = { .bytes = buffer_heap(BATCH_BYTES + 2 * TREE_DIRECTORY_BYTES_MAX) };
	int r;

	CHECK(listing->ended && listing->unnamed == 0 && !listing->sealed);
	r = list_directories(listing);
	for (uint32_t i = 0; r == 0 && i < listing->directories_count; i++) {
		uint32_t number = listing->directories[i];

		if (i && depth_of(listing, number) != depth_of(listing, listing->directories[i - 1]))
			hash_batch(listing, hasher, &batch);
		r = add_to_batch(listing, hasher, &batch, number);
	}
	if (r == 0)
		hash_batch(listing, hasher, &batch);
	buffer_fini(&batch.bytes);
	if (r == -EFBIG)
		return listing_refuse(listing, "a directory has too many entries for a tree");
	if (r < 0)
		return r == -ENOMEM ? ERR_RAISE(r) : listing_refuse(listing, "a directory is none that a tree can hold");
	qsort_r(listing->directories, listing->directories_count, sizeof(*listing->directories), by_digest, listing);
	listing->sealed = true;
	return 0;
}

static bool is_directory(const struct listing *listing, uint32_t number, const struct digest *digest)
{
	struct digest own = number == LISTING_NONE ? listing->root : listing_digest(listing_at(listing, number));

	return digest_equal(&own, digest);
}

/* Asked for what a peer names, too: with the hash of a directory and another size it is none of ours. */
bool listing_find(const struct listing *listing, const struct digest *directory, uint32_t *number)
{
	uint32_t low = 0, high = listing->directories_count;

	CHECK(listing->sealed);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = memcmp(hash_of(listing, listing->directories[middle]), directory->hash, DIGEST_HASH_BYTES);

		if (order == 0) {
			*number = listing->directories[middle];
			return is_directory(listing, *number, directory);
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}
