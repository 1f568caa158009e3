/* A stack of directories, and those that are read ahead of it. */
#include "gateway/play/walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/play/walk_directory.h"

#define WALK_DEPTH_MAX (TREE_DEPTH_MAX + 1)      /* the root too */
#define WALK_KEPT      2                 /* the nearest directories on the way, which stay in memory */

/* One directory, coming or there. */
struct load {
	struct walk *walk;
	struct list link;                /* frame.ahead */
	struct store_read read;
	struct walk_directory directory;
	size_t bytes;                    /* as counted in walk.bytes */
	bool landed;
	int outcome;                     /* once landed: 0, WALK_MISSING, WALK_MALFORMED or -errno */
};

/* A directory on the way from the root to the present entry. */
struct frame {
	struct load *load;               /* NULL: given up for want of room, to be read again */
	struct digest digest;
	uint32_t position;               /* the next node */
	uint32_t examined;               /* nodes before it are behind us, or in `ahead` when they are directories */
	struct list ahead;               /* of loads, in order */
	unsigned ahead_count;
	size_t path_bytes;               /* of its own path */
};

struct walk {
	struct cas *cas;
	struct scope scope;
	void (*on_more)(void *owner);
	void *owner;
	struct frame frames[WALK_DEPTH_MAX];
	size_t depth;
	struct buffer path;
	size_t bytes;                    /* of directories in memory, and of what is being read */
	unsigned reads;                  /* in flight */
	struct post turn;
	bool posted, starved, closing;
};

/* ---- a directory is read ---- */

static void walk_free(struct walk *walk)
{
	if (walk->reads || walk->posted)
		return;
	walk->cas->walks_open--;
	buffer_fini(&walk->path);
	free(walk);
}

static void walk_schedule(struct walk *walk)
{
	if (walk->posted)
		return;
	walk->posted = true;
	ring_post(walk->cas->ring, &walk->turn);
}

static void load_count(struct load *load, size_t bytes)
{
	load->walk->bytes = load->walk->bytes - load->bytes + bytes;
	load->bytes = bytes;
}

/* Not while it is being read. */
static void load_free(struct load *load)
{
	if (!load)
		return;
	CHECK(load->landed);
	list_remove(&load->link);
	load_count(load, 0);
	walk_directory_fini(&load->directory);
	free(load);
}

static void load_land(struct load *load, int outcome)
{
	free(load->read.buffer);
	load->read.buffer = NULL;
	load->landed = true;
	load->outcome = outcome;
	load_count(load, walk_directory_bytes(&load->directory));
	walk_schedule(load->walk);
}

static void load_take(struct load *load, struct span blob)
{
	load_land(load, walk_directory_read(&load->directory, blob) ? WALK_MALFORMED : 0);
}

static void load_on_read(struct store_read *read)
{
	struct load *load = container_of(read, struct load, read);
	struct walk *walk = load->walk;

	walk->reads--;
	if (walk->closing) {
		load_land(load, WALK_MISSING);
		load_free(load);
	} else if (read->result == STORE_OK) {
		load_take(load, read->blob);
	} else {
		load_land(load, read->result < 0 ? read->result : WALK_MISSING);
	}
}

static void load_read(struct load *load)
{
	const struct digest *digest = &load->read.digest;

	load->landed = false;
	if (digest_equal(digest, &digest_empty)) {
		load_take(load, (struct span){ 0 });
		return;
	}
	load_count(load, digest->size + STORE_READ_EXTRA_BYTES);
	load->read.buffer = digest->size <= TREE_DIRECTORY_BYTES_MAX ? malloc(load->bytes) : NULL;
	if (!load->read.buffer) {
		load_land(load, digest->size <= TREE_DIRECTORY_BYTES_MAX ? -ENOMEM : WALK_MALFORMED);
		return;
	}
	load->walk->reads++;
	store_read(load->walk->cas->store, &load->read);
}

/* NULL: no memory. */
static struct load *load_create(struct walk *walk, const struct digest *digest)
{
	struct load *load = calloc(1, sizeof(*load));

	if (!load)
		return NULL;
	load->walk = walk;
	load->read = (struct store_read){ .scope = walk->scope, .digest = *digest, .fn = load_on_read };
	load_read(load);
	return load;
}

static struct digest node_digest(const struct walk_node *node)
{
	struct digest digest = { .size = node->size };

	memcpy(digest.hash, node->hash, sizeof(digest.hash));
	return digest;
}

/* ---- reading ahead ---- */

/* The next directory in it that nobody reads yet; NULL: there is none. */
static const struct walk_node *frame_next_directory(struct frame *frame)
{
	const struct walk_directory *directory = &frame->load->directory;

	if (frame->examined < frame->position)
		frame->examined = frame->position;
	for (; frame->examined < directory->count; frame->examined++) {
		const struct walk_node *node = walk_directory_node(directory, frame->examined);

		if (node->kind == TREE_DIRECTORY)
			return node;
	}
	return NULL;
}

static bool frame_read_ahead(struct frame *frame, struct walk *walk)
{
	const struct walk_node *node = frame_next_directory(frame);
	struct digest digest;
	struct load *load;

	if (!node)
		return false;
	digest = node_digest(node);
	load = load_create(walk, &digest);
	if (!load)
		return false;
	list_append(&frame->ahead, &load->link);
	frame->ahead_count++;
	frame->examined++;
	return true;
}

/* The nearest first, as they are needed first. */
static void walk_read_ahead(struct walk *walk)
{
	for (size_t i = walk->depth; i-- > 0;) {
		struct frame *frame = &walk->frames[i];

		if (!frame->load || !frame->load->landed || frame->load->outcome)
			continue;
		while (frame->ahead_count < WALK_AHEAD_MAX) {
			if (walk->reads >= WALK_READS_MAX || walk->bytes >= WALK_BYTES_MAX)
				return;
			if (!frame_read_ahead(frame, walk))
				break;
		}
	}
}

/* ---- the stack ---- */

static void frame_clear(struct frame *frame)
{
	struct list *link;

	while ((link = list_take(&frame->ahead)))
		load_free(container_of(link, struct load, link));
	frame->ahead_count = 0;
	load_free(frame->load);
	frame->load = NULL;
}

static bool frame_reads(const struct frame *frame)
{
	if (frame->load && !frame->load->landed)
		return true;
	list_for_each(link, &frame->ahead)
		if (!container_of(link, struct load, link)->landed)
			return true;
	return false;
}

/* The farthest first: they are needed last. */
static void walk_make_room(struct walk *walk)
{
	for (size_t i = 0; i + WALK_KEPT < walk->depth && walk->bytes > WALK_BYTES_MAX; i++) {
		struct frame *frame = &walk->frames[i];

		if (frame_reads(frame))
			continue;
		frame_clear(frame);
		frame->examined = frame->position;
	}
}

static void walk_push(struct walk *walk, struct load *load, const struct digest *digest)
{
	struct frame *frame = &walk->frames[walk->depth++];

	*frame = (struct frame){ .load = load, .digest = *digest, .path_bytes = walk->path.size };
	list_init(&frame->ahead);
	walk_make_room(walk);
	walk_read_ahead(walk);
}

static bool walk_pop(struct walk *walk)
{
	frame_clear(&walk->frames[walk->depth - 1]);
	walk->depth--;
	walk_read_ahead(walk);
	return walk->depth > 0;
}

/* ---- entries ---- */

static int load_outcome(struct walk *walk, const struct load *load)
{
	if (!load)
		return ERR_RAISE(-ENOMEM);
	if (load->landed)
		return load->outcome;
	walk->starved = true;
	return WALK_WAIT;
}

static int walk_path(struct walk *walk, const struct frame *frame, const struct walk_node *node)
{
	walk->path.size = frame->path_bytes;
	if (walk->path.size)
		buffer_put(&walk->path, "/", 1);
	buffer_put(&walk->path, node->bytes, node->name_bytes);
	return walk->path.failed ? ERR_RAISE(-ENOMEM) : 0;
}

static int walk_enter(struct walk *walk, struct frame *frame, const struct walk_node *node, struct walk_entry *entry)
{
	struct digest digest = node_digest(node);
	struct load *load;
	int r;

	if (list_empty(&frame->ahead) && !frame_read_ahead(frame, walk))
		return ERR_RAISE(-ENOMEM);
	load = container_of(frame->ahead.next, struct load, link);
	r = load_outcome(walk, load);
	if (r == 0 && walk->depth == WALK_DEPTH_MAX)
		r = WALK_MALFORMED;
	if (r)
		return r;
	list_remove(&load->link);
	frame->ahead_count--;
	frame->position++;
	walk_node_entry(node, walk_directory_self(&load->directory), buffer_span(&walk->path), entry);
	walk_push(walk, load, &digest);
	return WALK_ENTRY;
}

int walk_next(struct walk *walk, struct walk_entry *entry)
{
	const struct walk_node *node;
	struct frame *frame;
	int r;

	do {
		if (walk->depth == 0)
			return WALK_END;
		frame = &walk->frames[walk->depth - 1];
		if (!frame->load)
			frame->load = load_create(walk, &frame->digest);
		r = load_outcome(walk, frame->load);
		if (r)
			return r;
	} while (frame->position == frame->load->directory.count && (walk_pop(walk), true));
	node = walk_directory_node(&frame->load->directory, frame->position);
	r = walk_path(walk, frame, node);
	if (r)
		return r;
	if (node->kind == TREE_DIRECTORY)
		return walk_enter(walk, frame, node, entry);
	frame->position++;
	walk_node_entry(node, NULL, buffer_span(&walk->path), entry);
	return WALK_ENTRY;
}

/* ---- the turn ---- */

static void walk_on_turn(struct post *post)
{
	struct walk *walk = container_of(post, struct walk, turn);
	bool starved = walk->starved;

	walk->posted = false;
	if (walk->closing) {
		walk_free(walk);
		return;
	}
	walk_read_ahead(walk);
	walk->starved = false;
	if (starved)
		walk->on_more(walk->owner);
}

static void load_retry(struct load *load)
{
	if (load && load->landed && load->outcome == WALK_MISSING)
		load_read(load);
}

void walk_retry(struct walk *walk)
{
	walk->starved = true;
	for (size_t i = 0; i < walk->depth; i++) {
		load_retry(walk->frames[i].load);
		list_for_each(link, &walk->frames[i].ahead)
			load_retry(container_of(link, struct load, link));
	}
	walk_schedule(walk);
}

/* ---- life ---- */

int walk_create(struct walk **out, struct cas *cas, const struct scope *scope, const struct digest *root,
                void (*on_more)(void *owner), void *owner)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	struct load *load;

	if (!walk)
		return ERR_RAISE(-ENOMEM);
	walk->cas = cas;
	walk->scope = *scope;
	walk->on_more = on_more;
	walk->owner = owner;
	walk->turn.fn = walk_on_turn;
	walk->path = buffer_heap((size_t)WALK_DEPTH_MAX * (TREE_NAME_MAX + 1));
	cas->walks_open++;
	load = load_create(walk, root);
	if (!load) {
		walk_free(walk);
		return ERR_RAISE(-ENOMEM);
	}
	walk_push(walk, load, root);
	*out = walk;
	return 0;
}

/* What is being read is freed when it lands. */
static void load_abandon(struct load *load)
{
	if (load && load->landed)
		load_free(load);
	else if (load)
		list_remove(&load->link);
}

void walk_destroy(struct walk *walk)
{
	if (!walk)
		return;
	walk->closing = true;
	for (; walk->depth > 0; walk->depth--) {
		struct frame *frame = &walk->frames[walk->depth - 1];
		struct list *link;

		while ((link = list_take(&frame->ahead)))
			load_abandon(container_of(link, struct load, link));
		load_abandon(frame->load);
	}
	walk_free(walk);
}

size_t walk_memory(const struct walk *walk)
{
	return walk->bytes;
}
