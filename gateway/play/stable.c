/*
 * A lineage: NAMED (only its file's head is known) -> OPENING -> READY <-> WRITING. OVER: its key is not given any more, its
 * file is removed when its last user has gone.
 */
#include "gateway/play/stable.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/play/claims_file.h"
#include "gateway/play/recent.h"
#include "proto/buffer.h"

#define SECRET_BYTES     32
#define SECRET_NAME      "secret"
#define NAME_BYTES_MAX   255
#define PENDING_BYTES_MAX (CLAIMS_MAX * (size_t)CLAIM_BYTES)
#define FULL_ENOUGH      (CLAIMS_MAX / 4 * 3)    /* no build begins under a key that has so many */

enum lineage_state {
	LINEAGE_NAMED,
	LINEAGE_OPENING,
	LINEAGE_READY,
	LINEAGE_WRITING,
};

struct lineage {
	struct stable *stable;
	struct list link;                /* stable.lineages, the one used last first */
	enum lineage_state state;
	bool over;                       /* not for new builds, which begin another */
	bool strange;                    /* likewise, but it stays */
	bool make;                       /* its file is to be made */
	bool failed;                     /* its file cannot be written */
	bool given_up, removed;          /* given_up: its file is to go at once; and has */
	unsigned refs;
	struct claims_file_head head;
	char name[NAME_BYTES_MAX + 1], key[STABLE_KEY_BYTES];
	struct claims claims;
	int fd;
	uint64_t end;                    /* of the file */
	uint64_t made, writing, durable; /* claims since it was opened */
	struct buffer pending, written;  /* of struct claim */
	struct list requests, syncs, farewells;
	struct op op;
	struct post turn;
	bool posted;
};

struct unfit {
	uint8_t owner[CLAIMS_FILE_OWNER_BYTES];
	uint64_t until_ns;               /* 0: none */
};

struct stable {
	struct ring *ring;
	int dir_fd;
	char *directory;
	uint8_t secret[SECRET_BYTES];
	struct list lineages;
	struct recent clients;           /* the id of the lineage that each had last */
	struct unfit unfit[STABLE_UNFIT_MAX];
	unsigned unfit_next;
	unsigned count, busy;            /* busy: ops and posts under way */
	uint64_t damaged, writes_failed;
	void (*closed)(void *context);
	void *context;
	struct post closing;
};

static void lineage_schedule(struct lineage *lineage);

/* ---- keys ---- */

/* HMAC-SHA-256 of a purpose and an id. */
static void stable_mac(const struct stable *stable, const char *purpose, const uint8_t *id, uint8_t mac[static 32])
{
	uint8_t text[64];
	size_t size = strlen(purpose);
	unsigned mac_size = 32;

	CHECK(size + CLAIMS_FILE_ID_BYTES <= sizeof(text));
	memcpy(text, purpose, size);
	memcpy(text + size, id, CLAIMS_FILE_ID_BYTES);
	CHECK(HMAC(EVP_sha256(), stable->secret, SECRET_BYTES, text, size + CLAIMS_FILE_ID_BYTES, mac, &mac_size));
}

static void lineage_make_key(struct lineage *lineage)
{
	uint8_t mac[32];
	size_t at;

	stable_mac(lineage->stable, "key", lineage->head.id, mac);
	at = (size_t)snprintf(lineage->key, sizeof(lineage->key), "%s:", lineage->name);
	for (size_t i = 0; i < 16; i++)
		at += (size_t)snprintf(lineage->key + at, sizeof(lineage->key) - at, "%02x", mac[i]);
}

static uint64_t lineage_seed(const struct lineage *lineage)
{
	uint8_t mac[32];
	uint64_t seed;

	stable_mac(lineage->stable, "seed", lineage->head.id, mac);
	memcpy(&seed, mac, sizeof(seed));
	return seed;
}

static void owner_make(uint8_t owner[static CLAIMS_FILE_OWNER_BYTES], struct span tenant, struct span name)
{
	struct sha256_stream hash;
	uint64_t size = tenant.size;

	sha256_stream_init(&hash);
	sha256_stream_update(&hash, (const uint8_t *)&size, sizeof(size));
	sha256_stream_update(&hash, tenant.data, tenant.size);
	sha256_stream_update(&hash, name.data, name.size);
	sha256_stream_final(&hash, owner);
}

/* ---- a lineage's memory ---- */

static struct lineage *lineage_create(struct stable *stable, const struct claims_file_head *head)
{
	struct lineage *lineage = calloc(1, sizeof(*lineage));

	if (!lineage)
		return NULL;
	lineage->stable = stable;
	lineage->head = *head;
	lineage->fd = -1;
	lineage->pending = buffer_heap(PENDING_BYTES_MAX);
	lineage->written = buffer_heap(PENDING_BYTES_MAX);
	list_init(&lineage->requests);
	list_init(&lineage->syncs);
	list_init(&lineage->farewells);
	list_append(&stable->lineages, &lineage->link);
	stable->count++;
	return lineage;
}

/* Back to NAMED. */
static void lineage_unload(struct lineage *lineage)
{
	claims_fini(&lineage->claims);
	if (lineage->fd >= 0)
		close(lineage->fd);
	lineage->fd = -1;
	buffer_fini(&lineage->pending);
	buffer_fini(&lineage->written);
	lineage->pending = buffer_heap(PENDING_BYTES_MAX);
	lineage->written = buffer_heap(PENDING_BYTES_MAX);
	lineage->state = LINEAGE_NAMED;
}

static void lineage_free(struct lineage *lineage)
{
	list_remove(&lineage->link);
	lineage->stable->count--;
	lineage_unload(lineage);
	free(lineage);
}

static bool lineage_is_busy(const struct lineage *lineage)
{
	return lineage->refs || op_in_flight(&lineage->op) || lineage->posted || !list_empty(&lineage->requests) ||
	       !list_empty(&lineage->syncs) || !list_empty(&lineage->farewells);
}

static void stable_close_join(struct stable *stable)
{
	if (!stable->closed || stable->busy)
		return;
	while (!list_empty(&stable->lineages))
		lineage_free(container_of(stable->lineages.next, struct lineage, link));
	close(stable->dir_fd);
	recent_fini(&stable->clients);
	stable->closed(stable->context);
	free(stable->directory);
	free(stable);
}

/* ---- what goes ---- */

static int32_t lineage_remove(struct op *op)
{
	struct lineage *lineage = container_of(op, struct lineage, op);
	char name[CLAIMS_FILE_NAME_BYTES];

	claims_file_name(lineage->head.id, name);
	if (unlinkat(lineage->stable->dir_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return fsync(lineage->stable->dir_fd) < 0 ? -errno : 0;
}

static void lineage_on_removed(struct op *op, int32_t res)
{
	struct lineage *lineage = container_of(op, struct lineage, op);
	struct stable *stable = lineage->stable;

	stable->busy--;
	lineage_free(lineage);
	stable_close_join(stable);
}

/* Its key is given to nobody any more; nor is it found again. */
static void lineage_end(struct lineage *lineage)
{
	lineage->over = true;
	if (lineage_is_busy(lineage))
		return;
	lineage->op.fn = lineage_on_removed;
	lineage->stable->busy++;
	ring_work(lineage->stable->ring, &lineage->op, lineage_remove);
}

/* The longest unused first: tables leave the memory, and lineages the disk. */
static void stable_tidy(struct stable *stable)
{
	unsigned idle = 0, count = stable->count;

	list_for_each_safe(link, after, &stable->lineages) {
		struct lineage *lineage = container_of(link, struct lineage, link);

		if (lineage_is_busy(lineage) || lineage->state == LINEAGE_NAMED)
			continue;
		if (++idle > STABLE_IDLE_MAX)
			lineage_unload(lineage);
	}
	for (struct list *link = stable->lineages.prev, *before; count > STABLE_LINEAGES_MAX && link != &stable->lineages;
	     link = before) {
		struct lineage *lineage = container_of(link, struct lineage, link);

		before = link->prev;
		if (lineage_is_busy(lineage))
			continue;
		count--;
		lineage_end(lineage);
	}
}

void lineage_ref(struct lineage *lineage)
{
	lineage->refs++;
}

void lineage_unref(struct lineage *lineage)
{
	if (!lineage)
		return;
	CHECK(lineage->refs > 0);
	lineage->refs--;
	lineage_schedule(lineage);
}

/* ---- opening ---- */

static int32_t lineage_open(struct op *op)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	return claims_file_open(lineage->stable->dir_fd, &lineage->head, lineage->make, &lineage->claims, &lineage->fd,
	                        &lineage->end);
}

static void lineage_on_opened(struct op *op, int32_t res);

static void lineage_start_opening(struct lineage *lineage)
{
	lineage->state = LINEAGE_OPENING;
	lineage->op.fn = lineage_on_opened;
	lineage->made = lineage->writing = lineage->durable = 0;
	claims_init(&lineage->claims, lineage_seed(lineage), lineage->stable->directory);
	lineage->stable->busy++;
	ring_work(lineage->stable->ring, &lineage->op, lineage_open);
}

/* Another one of the same directory takes its place for those that wait; its file goes. */
static void lineage_replace(struct lineage *lineage)
{
	struct claims_file_head head = lineage->head;
	struct lineage *other;
	struct list *link;

	ring_random(lineage->stable->ring, head.id, sizeof(head.id));
	other = lineage_create(lineage->stable, &head);
	while ((link = list_take(&lineage->requests))) {
		struct stable_request *request = container_of(link, struct stable_request, link);

		request->asked = other;
		if (other)
			list_append(&other->requests, &request->link);
		else
			request->fn(request);
	}
	if (other) {
		memcpy(other->name, lineage->name, sizeof(other->name));
		lineage_make_key(other);
		other->make = true;
		list_remove(&other->link);
		list_insert_before(lineage->stable->lineages.next, &other->link);
		lineage_start_opening(other);
	}
	lineage->over = true;
}

static void lineage_on_opened(struct op *op, int32_t res)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	lineage->stable->busy--;
	lineage->state = LINEAGE_READY;
	if (res == CLAIMS_FILE_DAMAGED) {
		log_event(LOG_WARNING, "claims refused", LOG_TEXT("directory", lineage->name),
		          LOG_TEXT("cause", "damaged, of another version or too many: the executors get the context anew"));
		lineage->stable->damaged++;
		lineage_unload(lineage);
		lineage_replace(lineage);
	} else if (res < 0) {
		log_event(LOG_WARNING, "claims refused", LOG_TEXT("directory", lineage->name), LOG_TEXT("cause", strerror(-res)));
		lineage_unload(lineage);
		lineage->failed = true;
	} else {
		lineage->make = false;
	}
	lineage_schedule(lineage);
}

static void lineage_answer(struct lineage *lineage)
{
	struct list *link;

	if (lineage->state == LINEAGE_OPENING || (lineage->state == LINEAGE_NAMED && !lineage->failed))
		return;
	while ((link = list_take(&lineage->requests))) {
		struct stable_request *request = container_of(link, struct stable_request, link);

		request->asked = NULL;
		request->lineage = lineage->failed ? NULL : lineage;
		lineage->refs += !lineage->failed;
		request->fn(request);
	}
}

/* ---- finding one ---- */

static struct lineage *stable_make(struct stable *stable, const uint8_t *owner)
{
	struct claims_file_head head;
	struct lineage *lineage;

	memcpy(head.owner, owner, sizeof(head.owner));
	ring_random(stable->ring, head.id, sizeof(head.id));
	lineage = lineage_create(stable, &head);
	if (lineage)
		lineage->make = true;
	return lineage;
}

static bool lineage_goes_on(const struct lineage *lineage)
{
	if (lineage->over || lineage->failed)
		return false;
	return lineage->state == LINEAGE_OPENING || lineage->claims.count < FULL_ENOUGH;
}

/* The client's own; else the one used last; none when that is of another tree, unless there are enough already. */
static struct lineage *stable_find(struct stable *stable, const uint8_t *owner, const uint8_t *client)
{
	const uint8_t *last = recent_find(&stable->clients, client);
	struct lineage *found = NULL, *had = NULL;
	unsigned namesakes = 0;

	list_for_each(link, &stable->lineages) {
		struct lineage *lineage = container_of(link, struct lineage, link);

		if (memcmp(lineage->head.owner, owner, CLAIMS_FILE_OWNER_BYTES) != 0 || !lineage_goes_on(lineage))
			continue;
		namesakes++;
		if (last && memcmp(lineage->head.id, last, CLAIMS_FILE_ID_BYTES) == 0)
			had = lineage;
		if (!found)
			found = lineage;
	}
	if (had)
		return had;
	if (found && found->strange && namesakes < STABLE_NAMESAKES) {
		found->strange = false;
		return NULL;
	}
	return found;
}

static bool stable_is_unfit(const struct stable *stable, const uint8_t *owner)
{
	uint64_t now = ring_now_ns(stable->ring);

	for (unsigned i = 0; i < STABLE_UNFIT_MAX; i++)
		if (stable->unfit[i].until_ns > now && memcmp(stable->unfit[i].owner, owner, CLAIMS_FILE_OWNER_BYTES) == 0)
			return true;
	return false;
}

int stable_get(struct stable *stable, struct stable_request *request, struct span tenant, struct span name,
               const uint8_t client[static STABLE_CLIENT_BYTES])
{
	uint8_t owner[CLAIMS_FILE_OWNER_BYTES];
	struct lineage *lineage;

	owner_make(owner, tenant, name);
	if (stable_is_unfit(stable, owner))
		return STABLE_UNFIT;
	lineage = stable_find(stable, owner, client);
	if (!lineage)
		lineage = stable_make(stable, owner);
	request->lineage = NULL;
	request->asked = lineage;
	if (!lineage)
		return ERR_RAISE(-ENOMEM);
	recent_remember(&stable->clients, client, lineage->head.id, CLAIMS_FILE_ID_BYTES);
	snprintf(lineage->name, sizeof(lineage->name), "%.*s", (int)(name.size < NAME_BYTES_MAX ? name.size : NAME_BYTES_MAX),
	         (const char *)name.data);
	lineage_make_key(lineage);
	list_remove(&lineage->link);
	list_insert_before(stable->lineages.next, &lineage->link);
	list_append(&lineage->requests, &request->link);
	if (lineage->state == LINEAGE_NAMED)
		lineage_start_opening(lineage);
	else
		lineage_schedule(lineage);
	stable_tidy(stable);
	return 0;
}

void stable_request_cancel(struct stable_request *request)
{
	list_remove(&request->link);
	if (request->asked)
		lineage_schedule(request->asked);
	request->asked = NULL;
}

/* ---- claims ---- */

const char *lineage_key(const struct lineage *lineage)
{
	return lineage->key;
}

const struct claims *lineage_claims(const struct lineage *lineage)
{
	return &lineage->claims;
}

/* `r`: how the claim was made in memory. */
static int lineage_keep(struct lineage *lineage, const struct claim *claim, int r)
{
	if (r == CLAIMS_MADE) {
		buffer_put(&lineage->pending, claim, sizeof(*claim));
		lineage->made++;
		if (lineage->pending.failed)
			r = -ENOMEM;
	}
	/* What is in the table and will never be in the file would be forgotten: the key goes with it. */
	if (r == CLAIMS_FULL || r < 0)
		lineage->over = lineage->failed = true;
	return r;
}

int lineage_claim(struct lineage *lineage, struct claim *claim)
{
	int r = lineage->failed ? -EIO : claims_make(&lineage->claims, claim);

	return lineage_keep(lineage, claim, r);
}

int lineage_follow(struct lineage *lineage, const struct claim *claim)
{
	return lineage_keep(lineage, claim, lineage->failed ? -EIO : claims_follow(&lineage->claims, claim));
}

void lineage_name(struct lineage *lineage, const struct claim *claim)
{
	if (lineage->failed || claims_name(&lineage->claims, claim) != CLAIMS_MADE)
		return;
	buffer_put(&lineage->pending, claim, sizeof(*claim));
	lineage->made++;
	if (lineage->pending.failed)
		lineage->over = lineage->failed = true;
}

bool lineage_restat(struct lineage *lineage, struct span name, struct span path, uint64_t size, int64_t *mtime_ns)
{
	struct claim claim = { .path = claims_path(&lineage->claims, name, path), .size = size, .mtime_ns = *mtime_ns };
	int r;

	ring_random(lineage->stable->ring, claim.content.bytes, sizeof(claim.content.bytes));
	r = claims_make(&lineage->claims, &claim);
	*mtime_ns = claim.mtime_ns;
	return r == CLAIMS_MADE;
}

void lineage_set_strange(struct lineage *lineage, const uint8_t client[static STABLE_CLIENT_BYTES])
{
	recent_forget(&lineage->stable->clients, client);
	lineage->strange = true;
}

uint64_t lineage_made(const struct lineage *lineage)
{
	return lineage->made;
}

uint64_t lineage_durable(const struct lineage *lineage)
{
	return lineage->durable;
}

/* ---- writing ---- */

static int32_t lineage_write(struct op *op)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	return claims_file_append(lineage->fd, lineage->end, &lineage->head,
	                          (const struct claim *)(const void *)lineage->written.data, lineage->written.size / CLAIM_BYTES);
}

static void lineage_on_written(struct op *op, int32_t res)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	lineage->stable->busy--;
	lineage->state = LINEAGE_READY;
	if (res < 0) {
		log_event(LOG_WARNING, "claims not written", LOG_TEXT("directory", lineage->name), LOG_TEXT("cause", strerror(-res)));
		lineage->stable->writes_failed++;
		lineage->failed = lineage->over = true;
	} else {
		lineage->durable = lineage->writing;
		lineage->end += lineage->written.size / CLAIM_BYTES * CLAIMS_FILE_RECORD_BYTES;
	}
	buffer_fini(&lineage->written);
	lineage->written = buffer_heap(PENDING_BYTES_MAX);
	lineage_schedule(lineage);
}

static void lineage_start_writing(struct lineage *lineage)
{
	struct buffer written = lineage->pending;

	if (lineage->state != LINEAGE_READY || lineage->failed || written.size == 0)
		return;
	lineage->state = LINEAGE_WRITING;
	lineage->pending = lineage->written;
	lineage->written = written;
	lineage->writing = lineage->made;
	lineage->op.fn = lineage_on_written;
	lineage->stable->busy++;
	ring_work(lineage->stable->ring, &lineage->op, lineage_write);
}

/* Those whose claims are there, or never will be. */
static void lineage_tell(struct lineage *lineage)
{
	struct list done, *link;

	list_init(&done);
	list_for_each_safe(at, after, &lineage->syncs) {
		struct lineage_sync *sync = container_of(at, struct lineage_sync, link);

		if (sync->made > lineage->durable && !lineage->failed)
			continue;
		list_remove(at);
		list_append(&done, at);
	}
	while ((link = list_take(&done))) {
		struct lineage_sync *sync = container_of(link, struct lineage_sync, link);

		sync->result = sync->made <= lineage->durable ? 0 : -EIO;
		sync->fn(sync);
	}
}

void lineage_sync(struct lineage *lineage, struct lineage_sync *sync)
{
	sync->made = lineage->made;
	list_append(&lineage->syncs, &sync->link);
	lineage_schedule(lineage);
}

void lineage_sync_cancel(struct lineage_sync *sync)
{
	list_remove(&sync->link);
}

/* ---- giving up ---- */

void lineage_give_up(struct lineage *lineage, struct lineage_sync *sync)
{
	struct stable *stable = lineage->stable;
	struct unfit *unfit = &stable->unfit[stable->unfit_next];

	stable->unfit_next = (stable->unfit_next + 1) % STABLE_UNFIT_MAX;
	unfit->until_ns = ring_now_ns(stable->ring) + STABLE_UNFIT_NS;
	memcpy(unfit->owner, lineage->head.owner, sizeof(unfit->owner));
	lineage->over = lineage->given_up = true;
	list_append(&lineage->farewells, &sync->link);
	lineage_schedule(lineage);
}

static void lineage_on_given_up(struct op *op, int32_t res)
{
	struct lineage *lineage = container_of(op, struct lineage, op);

	lineage->stable->busy--;
	lineage->state = LINEAGE_READY;
	lineage->removed = res == 0;
	lineage->failed |= res < 0;
	lineage_schedule(lineage);
}

static void lineage_part(struct lineage *lineage)
{
	struct list *link;

	if (!lineage->given_up || (!lineage->removed && !lineage->failed && lineage->state != LINEAGE_READY))
		return;
	if (!lineage->removed && !lineage->failed) {
		lineage->state = LINEAGE_WRITING;
		lineage->op.fn = lineage_on_given_up;
		lineage->stable->busy++;
		ring_work(lineage->stable->ring, &lineage->op, lineage_remove);
		return;
	}
	while ((link = list_take(&lineage->farewells))) {
		struct lineage_sync *sync = container_of(link, struct lineage_sync, link);

		sync->result = lineage->removed ? 0 : -EIO;
		sync->fn(sync);
	}
}

/* ---- the turn ---- */

static void lineage_on_turn(struct post *post)
{
	struct lineage *lineage = container_of(post, struct lineage, turn);
	struct stable *stable = lineage->stable;

	lineage->posted = false;
	stable->busy--;
	lineage->refs++;                 /* it stays until the end of this */
	lineage_answer(lineage);
	lineage_tell(lineage);
	lineage_part(lineage);
	if (!list_empty(&lineage->syncs) || lineage->refs == 1)
		lineage_start_writing(lineage);
	lineage->refs--;
	if ((lineage->over || lineage->failed) && !lineage_is_busy(lineage))
		lineage_end(lineage);
	else if (!lineage_is_busy(lineage))
		stable_tidy(stable);
	stable_close_join(stable);
}

static void lineage_schedule(struct lineage *lineage)
{
	if (lineage->posted)
		return;
	lineage->posted = true;
	lineage->turn.fn = lineage_on_turn;
	lineage->stable->busy++;
	ring_post(lineage->stable->ring, &lineage->turn);
}

/* ---- life ---- */

static int secret_read(struct stable *stable)
{
	CLEANUP(fd_closep) int fd = openat(stable->dir_fd, SECRET_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) ||
	    st.st_size != SECRET_BYTES || read(fd, stable->secret, SECRET_BYTES) != SECRET_BYTES)
		return -EBADMSG;
	return 0;
}

/* Aside and renamed: half a secret is none. Who had another one had other keys: all that is here is foreign then. */
static int secret_make(struct stable *stable)
{
	CLEANUP(fd_closep) int fd = -1;

	unlinkat(stable->dir_fd, SECRET_NAME ".new", 0);
	fd = openat(stable->dir_fd, SECRET_NAME ".new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return ERR_RAISE(-errno);
	ring_random(stable->ring, stable->secret, SECRET_BYTES);
	if (write(fd, stable->secret, SECRET_BYTES) != SECRET_BYTES)
		return ERR_RAISE(-EIO);
	if (fsync(fd) < 0 || renameat(stable->dir_fd, SECRET_NAME ".new", stable->dir_fd, SECRET_NAME) < 0 ||
	    fsync(stable->dir_fd) < 0)
		return ERR_RAISE(-errno);
	return 0;
}

struct found {
	struct claims_file_head head;
	struct timespec used;
};

static int later(const void *a, const void *b)
{
	const struct timespec *left = &((const struct found *)a)->used, *right = &((const struct found *)b)->used;

	if (left->tv_sec != right->tv_sec)
		return left->tv_sec > right->tv_sec ? -1 : 1;
	return (left->tv_nsec < right->tv_nsec) - (left->tv_nsec > right->tv_nsec);
}

/* What is no claims file of ours is removed: under its name nothing may ever be believed. */
static void stable_take(struct stable *stable, const char *name, struct found *found, size_t *count)
{
	struct claims_file_head head;
	char expected[CLAIMS_FILE_NAME_BYTES];
	struct stat st;

	if (strlen(name) != CLAIMS_FILE_NAME_BYTES - 1)
		return;
	if (*count == 2 * STABLE_LINEAGES_MAX || claims_file_peek(stable->dir_fd, name, &head) != CLAIMS_FILE_OK ||
	    fstatat(stable->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		unlinkat(stable->dir_fd, name, 0);
		return;
	}
	claims_file_name(head.id, expected);
	if (strcmp(expected, name) == 0)
		found[(*count)++] = (struct found){ .head = head, .used = st.st_mtim };
	else
		unlinkat(stable->dir_fd, name, 0);
}

static int stable_list(struct stable *stable)
{
	CLEANUP(free_p) struct found *found = calloc(2 * STABLE_LINEAGES_MAX, sizeof(*found));
	int fd = openat(stable->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	size_t count = 0;

	if (!found || !dir) {
		if (dir)
			closedir(dir);
		else if (fd >= 0)
			close(fd);
		return ERR_RAISE(-ENOMEM);
	}
	while ((entry = readdir(dir)))
		stable_take(stable, entry->d_name, found, &count);
	closedir(dir);
	qsort(found, count, sizeof(*found), later);
	for (size_t i = 0; i < count; i++)
		if (!lineage_create(stable, &found[i].head))
			return ERR_RAISE(-ENOMEM);
	return 0;
}

static int stable_begin(struct stable *stable, const char *directory)
{
	int r;

	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return ERR_RAISE(-errno);
	stable->directory = strdup(directory);
	stable->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!stable->directory || stable->dir_fd < 0)
		return ERR_RAISE(stable->directory ? -errno : -ENOMEM);
	r = secret_read(stable);
	if (r == -ENOENT || r == -EBADMSG)
		r = secret_make(stable);
	return r < 0 ? ERR_RAISE(r) : stable_list(stable);
}

int stable_create(struct stable **out, struct ring *ring, const char *directory)
{
	struct stable *stable = calloc(1, sizeof(*stable));
	int r;

	if (!stable)
		return ERR_RAISE(-ENOMEM);
	stable->ring = ring;
	stable->dir_fd = -1;
	list_init(&stable->lineages);
	r = stable_begin(stable, directory);
	if (r < 0) {
		while (!list_empty(&stable->lineages))
			lineage_free(container_of(stable->lineages.next, struct lineage, link));
		if (stable->dir_fd >= 0)
			close(stable->dir_fd);
		free(stable->directory);
		free(stable);
		return r;
	}
	*out = stable;
	return 0;
}

static void stable_on_closing(struct post *post);

void stable_destroy(struct stable *stable, void (*fn)(void *context), void *context)
{
	stable->closed = fn;
	stable->context = context;
	stable->busy++;
	stable->closing.fn = stable_on_closing;
	ring_post(stable->ring, &stable->closing);
}

static void stable_on_closing(struct post *post)
{
	struct stable *stable = container_of(post, struct stable, closing);

	stable->busy--;
	stable_close_join(stable);
}

void stable_status(const struct stable *stable, struct stable_status *status)
{
	*status = (struct stable_status){ .damaged = stable->damaged, .writes_failed = stable->writes_failed };
	list_for_each(link, &stable->lineages) {
		const struct lineage *lineage = container_of(link, struct lineage, link);

		status->lineages++;
		status->loaded += lineage->state != LINEAGE_NAMED;
		if (lineage->state != LINEAGE_OPENING)
			status->claims += lineage->claims.count;
	}
}
