/* Names of tenants and instances, numbered. All of them are kept in memory; new ones are written at once. */
#define XXH_INLINE_ALL
#include "gateway/store/scopes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/store/bytes.h"
#include "gateway/store/state.h"
#include "gateway/store/sync.h"

#define SCOPES_BUCKETS        64         /* at first */
#define SCOPES_INSTANCE_EMPTY 1u         /* the number of the empty instance name in every tenant */

static struct scope_name **scopes_bucket(const struct scopes *scopes, uint32_t tenant, struct span name)
{
	size_t at = XXH3_64bits_withSeed(name.data, name.size, tenant) & (scopes->buckets - 1);

	for (;; at = (at + 1) & (scopes->buckets - 1)) {
		struct scope_name *found = scopes->table[at];

		if (!found || (found->tenant == tenant && span_equal(span_make(found->name, found->size), name)))
			return &scopes->table[at];
	}
}

static int scopes_grow(struct scopes *scopes)
{
	struct scopes grown = *scopes;

	grown.buckets = scopes->buckets ? scopes->buckets * 2 : SCOPES_BUCKETS;
	grown.table = calloc(grown.buckets, sizeof(struct scope_name *));
	if (!grown.table)
		return ERR_RAISE(-ENOMEM);
	for (size_t i = 0; i < scopes->buckets; i++) {
		struct scope_name *name = scopes->table[i];

		if (name)
			*scopes_bucket(&grown, name->tenant, span_make(name->name, name->size)) = name;
	}
	free(scopes->table);
	*scopes = grown;
	return 0;
}

static int scopes_keep(struct scopes *scopes, uint32_t tenant, struct span text, uint32_t number)
{
	struct scope_name *name;

	CHECK(text.size <= SCOPES_NAME_MAX);
	if (scopes->count * 2 >= scopes->buckets) {
		int r = scopes_grow(scopes);

		if (r)
			return r;
	}
	name = calloc(1, sizeof(*name));
	if (!name)
		return ERR_RAISE(-ENOMEM);
	name->tenant = tenant;
	name->number = number;
	name->size = (uint8_t)text.size;
	if (text.size)
		memcpy(name->name, text.data, text.size);
	*scopes_bucket(scopes, tenant, text) = name;
	scopes->count++;
	if (tenant == 0 && number > scopes->tenants)
		scopes->tenants = number;
	return 0;
}

/* ---- the file ---- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_read(const char *text, size_t size, uint8_t *out)
{
	if (size % 2 || size / 2 > SCOPES_NAME_MAX)
		return false;
	for (size_t i = 0; i < size; i += 2) {
		int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i / 2] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static int scopes_load_line(struct scopes *scopes, const char *line)
{
	uint8_t name[SCOPES_NAME_MAX];
	uint32_t tenant, number;
	size_t size;
	int at = 0;

	if (sscanf(line, "%" SCNu32 " %" SCNu32 " %n", &tenant, &number, &at) != 2 || !at)
		return ERR_RAISE(-EUCLEAN);
	size = strlen(line + at);
	if (!hex_read(line + at, size, name))
		return ERR_RAISE(-EUCLEAN);
	return scopes_keep(scopes, tenant, span_make(name, size / 2), number);
}

static int scopes_load_lines(struct scopes *scopes, FILE *file)
{
	char line[2 * SCOPES_NAME_MAX + 32];
	long end = 0;

	while (fgets(line, sizeof(line), file)) {
		size_t size = strlen(line);
		bool whole = size && line[size - 1] == '\n';
		int r;

		/* A line that a crash cut off, or made zeros of, was never answered for. One that is too long is none of ours. */
		if (!whole && !feof(file))
			return ERR_RAISE(-EUCLEAN);
		if (!whole)
			return ftruncate(fileno(file), end) < 0 ? ERR_RAISE(-errno) : 0;
		line[size - 1] = 0;
		r = scopes_load_line(scopes, line);
		if (r)
			return r;
		end = ftell(file);
	}
	return ferror(file) ? ERR_RAISE(-EIO) : 0;
}

int scopes_load(struct scopes *scopes, int dir_fd, bool create)
{
	FILE *file;
	int fd, r;

	r = scopes_grow(scopes);
	if (r)
		return r;
	scopes->fd = openat(dir_fd, "scopes", O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
	if (scopes->fd < 0)
		return -errno;
	fd = fcntl(scopes->fd, F_DUPFD_CLOEXEC, 0);
	file = fd < 0 ? NULL : fdopen(fd, "r+");
	if (!file)
		return ERR_RAISE(-errno);
	r = scopes_load_lines(scopes, file);
	fclose(file);
	return r;
}

void scopes_fini(struct scopes *scopes)
{
	for (size_t i = 0; i < scopes->buckets; i++)
		free(scopes->table[i]);
	free(scopes->table);
	if (scopes->fd >= 0)
		close(scopes->fd);
	*scopes = (struct scopes){ .fd = -1 };
}

/* A line whole, synced, and kept in memory. 0 or -errno. */
static int scopes_write(struct scopes *scopes, uint32_t tenant, struct span name, uint32_t number)
{
	char line[2 * SCOPES_NAME_MAX + 32];
	int size = snprintf(line, sizeof(line), "%" PRIu32 " %" PRIu32 " ", tenant, number);

	for (size_t i = 0; i < name.size; i++)
		size += snprintf(line + size, sizeof(line) - (size_t)size, "%02x", name.data[i]);
	line[size++] = '\n';
	if (write(scopes->fd, line, (size_t)size) != size || sync_file(SYNC_SCOPES, scopes->fd) < 0)
		return ERR_RAISE(-EIO);
	return scopes_keep(scopes, tenant, name, number);
}

/* What was not kept is taken back: the next name gets the same number, and two of them may never be one after a restart. */
static int scopes_add(struct scopes *scopes, uint32_t tenant, struct span name, uint32_t number)
{
	off_t end = lseek(scopes->fd, 0, SEEK_END);
	int r;

	if (end < 0 || scopes->torn)
		return ERR_RAISE(-EIO);
	r = scopes_write(scopes, tenant, name, number);
	if (r && (ftruncate(scopes->fd, end) < 0 || sync_file(SYNC_SCOPES, scopes->fd) < 0))
		scopes->torn = true;
	return r;
}

int scopes_reserve(struct scopes *scopes, uint32_t tenants)
{
	/* No credential has a name that begins with NUL. */
	uint8_t nobody[5] = { 0 };

	if (tenants <= scopes->tenants)
		return 0;
	bytes_put32(nobody + 1, tenants);
	return scopes_add(scopes, 0, span_make(nobody, sizeof(nobody)), tenants);
}

static uint32_t scopes_next_instance(const struct scopes *scopes, uint32_t tenant)
{
	uint32_t last = SCOPES_INSTANCE_EMPTY;

	for (size_t i = 0; i < scopes->buckets; i++)
		if (scopes->table[i] && scopes->table[i]->tenant == tenant && scopes->table[i]->number > last)
			last = scopes->table[i]->number;
	return last + 1;
}

static int scope_number(struct store *store, uint32_t tenant, struct span name, uint32_t *number)
{
	struct scopes *scopes = &store->scopes;
	const struct scope_name *known = *scopes_bucket(scopes, tenant, name);
	int r;

	if (known) {
		*number = known->number;
		return 0;
	}
	*number = tenant ? scopes_next_instance(scopes, tenant) : scopes->tenants + 1;
	if (*number > (tenant ? SCOPES_INSTANCES_MAX : SCOPES_TENANTS_MAX))
		return ERR_RAISE(-ENOSPC);
	r = scopes_add(scopes, tenant, name, *number);
	return r;
}

int store_scope(struct store *store, struct span tenant, struct span instance, uint32_t rights, struct scope *scope)
{
	struct scope made = { .instance = SCOPES_INSTANCE_EMPTY, .rights = rights };
	int r;

	if (tenant.size == 0 || tenant.size > SCOPES_NAME_MAX || instance.size > SCOPES_NAME_MAX)
		return ERR_RAISE(-EINVAL);
	r = scope_number(store, 0, tenant, &made.tenant);
	if (!r && instance.size > 0)
		r = scope_number(store, made.tenant, instance, &made.instance);
	if (r)
		return r;
	*scope = made;
	return 0;
}

int store_scope_find(struct store *store, struct span tenant, struct span instance, uint32_t rights, struct scope *scope)
{
	struct scope found = { .instance = SCOPES_INSTANCE_EMPTY, .rights = rights };
	const struct scope_name *known;

	if (tenant.size == 0 || tenant.size > SCOPES_NAME_MAX || instance.size > SCOPES_NAME_MAX)
		return ERR_RAISE(-EINVAL);
	known = *scopes_bucket(&store->scopes, 0, tenant);
	if (!known)
		return -ENOENT;
	found.tenant = known->number;
	if (instance.size > 0) {
		known = *scopes_bucket(&store->scopes, found.tenant, instance);
		if (!known)
			return -ENOENT;
		found.instance = known->number;
	}
	*scope = found;
	return 0;
}
