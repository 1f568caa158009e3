/* All lineages: which one a directory goes by, its key, and which go. */
#include "gateway/play/stable_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"

#define SECRET_NAME      "secret"
#define FULL_ENOUGH      (CLAIMS_MAX / 2)        /* what is left is enough for any context of an edge */

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

void lineage_make_key(struct lineage *lineage)
{
	uint8_t mac[32];
	size_t at;

	stable_mac(lineage->stable, "key", lineage->head.id, mac);
	at = (size_t)snprintf(lineage->key, sizeof(lineage->key), "%s:", lineage->name);
	for (size_t i = 0; i < 16; i++)
		at += (size_t)snprintf(lineage->key + at, sizeof(lineage->key) - at, "%02x", mac[i]);
}

uint64_t lineage_seed(const struct lineage *lineage)
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

static uint64_t tenant_tag(struct span tenant)
{
	uint8_t owner[CLAIMS_FILE_OWNER_BYTES];
	uint64_t tag;

	owner_make(owner, tenant, (struct span){ 0 });
	memcpy(&tag, owner, sizeof(tag));
	return tag;
}

/* ---- what goes ---- */

/* The longest unused one, of a tenant or (0) of all. NULL: all are in use. */
static struct lineage *lineage_to_end(struct stable *stable, uint64_t tenant)
{
	for (struct list *link = stable->lineages.prev; link != &stable->lineages; link = link->prev) {
		struct lineage *lineage = container_of(link, struct lineage, link);

		if (!lineage_is_busy(lineage) && !lineage->over && (!tenant || lineage->tenant == tenant))
			return lineage;
	}
	return NULL;
}

/* Who makes room for the one that was used last: its tenant, if he has more than his share, or (0) anybody. */
static uint64_t tenant_to_yield(const struct stable *stable)
{
	const struct lineage *last = container_of(stable->lineages.next, struct lineage, link);
	unsigned count = 0;

	list_for_each(link, &stable->lineages) {
		const struct lineage *lineage = container_of(link, struct lineage, link);

		count += !lineage->over && lineage->tenant == last->tenant;
	}
	return count > STABLE_SHARE ? last->tenant : 0;
}

void stable_tidy(struct stable *stable)
{
	unsigned idle = 0, count = 0;

	list_for_each_safe(link, after, &stable->lineages) {
		struct lineage *lineage = container_of(link, struct lineage, link);

		count += !lineage->over;         /* those go already, whoever asks */
		if (lineage_is_busy(lineage) || lineage->state == LINEAGE_NAMED)
			continue;
		if (++idle > STABLE_IDLE_MAX)
			lineage_unload(lineage);
	}
	for (; count > STABLE_LINEAGES_MAX; count--) {
		struct lineage *lineage = lineage_to_end(stable, tenant_to_yield(stable));

		if (!lineage)
			lineage = lineage_to_end(stable, 0);
		if (!lineage)
			return;
		lineage_end(lineage);
	}
}

void stable_close_join(struct stable *stable)
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
	return lineage->state == LINEAGE_OPENING || lineage->claims.count < lineage->stable->full_enough;
}

/* The client's own; else the one used last; none when that is of another tree, unless there are enough already. */
static struct lineage *stable_find(struct stable *stable, const uint8_t *owner, const uint8_t *client)
{
	const uint8_t *last = recent_find(&stable->clients, client);
	struct lineage *found = NULL, *had = NULL;
	unsigned namesakes = 0;

	list_for_each(link, &stable->lineages) {
		struct lineage *lineage = container_of(link, struct lineage, link);

		if (memcmp(lineage->head.owner, owner, CLAIMS_FILE_OWNER_BYTES) != 0)
			continue;
		if (!lineage_goes_on(lineage)) {
			/* One that is over goes by itself; when its file is being removed, it will be gone before its turn. */
			if (!lineage->over)
				lineage_schedule(lineage);
			lineage->over = true;
			continue;
		}
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

static struct unfit *unfit_find(struct stable *stable, const uint8_t *owner)
{
	uint64_t now = ring_now_ns(stable->ring);

	for (unsigned i = 0; i < STABLE_UNFIT_MAX; i++)
		if (stable->unfit[i].until_ns > now && memcmp(stable->unfit[i].owner, owner, CLAIMS_FILE_OWNER_BYTES) == 0)
			return &stable->unfit[i];
	return NULL;
}

void stable_note_unfit(struct stable *stable, const uint8_t *owner, bool passing)
{
	struct unfit *unfit = unfit_find(stable, owner);

	/* What comes again may come each time, and each time a new key would cost the executor the whole context. */
	if (unfit) {
		unfit->suspect = false;
		unfit->until_ns = ring_now_ns(stable->ring) + STABLE_UNFIT_NS;
		return;
	}
	unfit = &stable->unfit[stable->unfit_next];
	stable->unfit_next = (stable->unfit_next + 1) % STABLE_UNFIT_MAX;
	*unfit = (struct unfit){ .until_ns = ring_now_ns(stable->ring) + STABLE_UNFIT_NS, .suspect = passing };
	memcpy(unfit->owner, owner, sizeof(unfit->owner));
}

int stable_get(struct stable *stable, struct stable_request *request, struct span tenant, struct span name,
               const uint8_t client[static STABLE_CLIENT_BYTES])
{
	uint8_t owner[CLAIMS_FILE_OWNER_BYTES];
	const struct unfit *unfit;
	struct lineage *lineage;

	owner_make(owner, tenant, name);
	unfit = unfit_find(stable, owner);
	if (unfit && !unfit->suspect)
		return STABLE_UNFIT;
	lineage = stable_find(stable, owner, client);
	if (!lineage)
		lineage = stable_make(stable, owner);
	request->lineage = NULL;
	request->asked = lineage;
	if (!lineage)
		return ERR_RAISE(-ENOMEM);
	lineage->tenant = tenant_tag(tenant);
	recent_remember(&stable->clients, lineage->tenant, client, lineage->head.id, CLAIMS_FILE_ID_BYTES);
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
	stable->full_enough = FULL_ENOUGH;
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
