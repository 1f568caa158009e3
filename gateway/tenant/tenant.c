/* Who a caller is: certificate, token, or nobody on a local listener. */
#include "gateway/tenant/tenant.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/base/user.h"
#include "gateway/tenant/tokens.h"

#define TENANT_DEFAULT "default"
#define TENANT_NAME_MAX 128

struct tenant_registry {
	struct token_row *rows;
	size_t count;
	char anonymous[TENANT_NAME_MAX + 1];     /* "": nobody from afar */
	uint32_t anonymous_rights;
};

/* ---- names and rights ---- */

static bool is_name_byte(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
	       c == '-' || c == '@';
}

bool tenant_name_valid(struct span name)
{
	if (name.size == 0 || name.size > TENANT_NAME_MAX || name.data[0] == '.')
		return false;
	for (size_t i = 0; i < name.size; i++)
		if (!is_name_byte(name.data[i]))
			return false;
	return true;
}

static uint32_t right_of(struct span word)
{
	static const struct {
		const char *word;
		uint32_t right;
	} words[] = {
		{ "read", SCOPE_READ }, { "write", SCOPE_WRITE }, { "commit", SCOPE_COMMIT }, { "execute", SCOPE_EXECUTE },
		{ "all", SCOPE_ALL },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (span_is(word, words[i].word))
			return words[i].right;
	return 0;
}

bool tenant_rights_parse(struct span text, uint32_t *rights)
{
	uint32_t all = 0, right;

	do {
		const uint8_t *comma = text.size ? memchr(text.data, ',', text.size) : NULL;
		struct span word = span_make(text.data, comma ? (size_t)(comma - text.data) : text.size);

		right = right_of(word);
		if (!right)
			return false;
		all |= right;
		if (!comma)
			break;
		text = span_make(comma + 1, text.size - word.size - 1);
	} while (true);
	*rights = all;
	return true;
}

/* ---- the registry ---- */

static int file_failure(const char *path, char *why, size_t why_size)
{
	char error[USER_ERROR_BYTES];
	int r = -errno;

	snprintf(why, why_size, "cannot read the tokens file %s: %s", path, user_error(r, error));
	return ERR_RAISE(r);
}

static int file_check(int fd, const char *path, off_t *size, char *why, size_t why_size)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return file_failure(path, why, why_size);
	if (!S_ISREG(stat.st_mode) || stat.st_size > (off_t)TENANT_FILE_BYTES_MAX) {
		snprintf(why, why_size, "the tokens file %s is no regular file of at most %u MiB", path,
		         TENANT_FILE_BYTES_MAX >> 20);
		return ERR_RAISE(-EINVAL);
	}
	if (stat.st_mode & 0027) {
		snprintf(why, why_size, "the tokens file %s is open to other users (mode %03o): chmod 600 %s", path,
		         (unsigned)stat.st_mode & 0777, path);
		return ERR_RAISE(-EPERM);
	}
	*size = stat.st_size;
	return 0;
}

/* The whole file, on the heap. It may shrink or grow meanwhile: what one pass reads counts. */
static int file_read(const char *path, uint8_t **data, size_t *size, char *why, size_t why_size)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	off_t expected = 0;
	size_t done = 0;
	ssize_t n;
	int r;

	if (fd < 0)
		return file_failure(path, why, why_size);
	r = file_check(fd, path, &expected, why, why_size);
	if (r < 0)
		return ERR_RAISE(r);
	*data = malloc((size_t)expected + 1);
	if (!*data)
		return ERR_RAISE(-ENOMEM);
	while (done < (size_t)expected) {
		n = read(fd, *data + done, (size_t)expected - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return file_failure(path, why, why_size);
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*size = done;
	return 0;
}

static int registry_load(struct tenant_registry *registry, const char *path, char *why, size_t why_size)
{
	CLEANUP(free_p) uint8_t *data = NULL;
	char line_why[256] = "no memory";
	size_t size = 0;
	int r = file_read(path, &data, &size, why, why_size);

	if (r < 0)
		return ERR_RAISE(r);
	r = tokens_parse(&registry->rows, &registry->count, span_make(data, size), line_why, sizeof(line_why));
	if (r < 0) {
		snprintf(why, why_size, "the tokens file %s, %s", path, line_why);
		return ERR_RAISE(r);
	}
	return 0;
}

static int registry_anonymous(struct tenant_registry *registry, const struct tenant_config *config, char *why,
                              size_t why_size)
{
	registry->anonymous_rights = SCOPE_ALL;
	if (config->anonymous_rights && !tenant_rights_parse(span_text(config->anonymous_rights), &registry->anonymous_rights)) {
		snprintf(why, why_size, "--anonymous-rights: \"%.64s\" are no rights: use all, or read,write,commit,execute",
		         config->anonymous_rights);
		return ERR_RAISE(-EINVAL);
	}
	if (!config->anonymous)
		return 0;
	if (!tenant_name_valid(span_text(config->anonymous))) {
		snprintf(why, why_size, "\"%.64s\" is no name of a tenant: 1 to 128 letters, digits, or any of . _ - @",
		         config->anonymous);
		return ERR_RAISE(-EINVAL);
	}
	snprintf(registry->anonymous, sizeof(registry->anonymous), "%s", config->anonymous);
	return 0;
}

int tenant_registry_create(struct tenant_registry **out, const struct tenant_config *config, char *why, size_t why_size)
{
	struct tenant_registry *registry = calloc(1, sizeof(*registry));
	int r;

	if (!registry) {
		snprintf(why, why_size, "no memory");
		return ERR_RAISE(-ENOMEM);
	}
	r = registry_anonymous(registry, config, why, why_size);
	if (r == 0 && config->tokens_path)
		r = registry_load(registry, config->tokens_path, why, why_size);
	if (r < 0) {
		tenant_registry_destroy(registry);
		return ERR_RAISE(r);
	}
	*out = registry;
	return 0;
}

void tenant_registry_destroy(struct tenant_registry *registry)
{
	if (!registry)
		return;
	free(registry->rows);
	free(registry);
}

size_t tenant_registry_count(const struct tenant_registry *registry)
{
	return registry->count;
}

/* ---- identifying ---- */

static int refuse(const char *sentence, char *why, size_t why_size)
{
	snprintf(why, why_size, "%s", sentence);
	return ERR_RAISE(-EACCES);
}

/* RFC 6750: "Bearer", in any case, one or more blanks, the token. */
static bool take_bearer(struct span *text)
{
	static const char scheme[] = "bearer";
	size_t at = sizeof(scheme) - 1;

	if (text->size <= at)
		return false;
	for (size_t i = 0; i < at; i++)
		if ((text->data[i] | 0x20) != scheme[i])
			return false;
	if (text->data[at] != ' ')
		return false;
	while (at < text->size && text->data[at] == ' ')
		at++;
	*text = span_make(text->data + at, text->size - at);
	return text->size > 0;
}

/*
 * How long it takes may tell how the SHA-256 of what was tried lies among those of tokens, of which nobody can make a token; it is
 * asked with each call, so not all of 65,536 rows are looked at.
 */
static const struct token_row *find_token(const struct tenant_registry *registry, struct span token)
{
	const struct token_row *rows = registry->rows, *found = NULL;
	size_t low = 0, high = registry->count;
	uint8_t hash[TOKEN_HASH_BYTES];

	SHA256(token.data, token.size, hash);
	while (low < high && !found) {
		size_t middle = low + (high - low) / 2;
		int order = memcmp(rows[middle].hash, hash, sizeof(hash));

		if (order == 0)
			found = &rows[middle];
		else if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	OPENSSL_cleanse(hash, sizeof(hash));
	return found;
}

static int identify_token(const struct tenant_registry *registry, const struct tenant_credential *credential,
                          struct tenant_identity *identity, char *why, size_t why_size)
{
	struct span token = credential->authorization;
	const struct token_row *row;

	if (!take_bearer(&token))
		return refuse("the authorization is not \"Bearer TOKEN\"", why, why_size);
	row = find_token(registry, token);
	if (!row)
		return refuse("unknown token: is it in the gateway's tokens file, as SHA-256? (SLUICE_TOKEN)", why, why_size);
	if (credential->certificate && !span_is(credential->organisation, row->tenant))
		return refuse("the token belongs to another tenant than the client certificate", why, why_size);
	snprintf(identity->tenant, sizeof(identity->tenant), "%s", row->tenant);
	snprintf(identity->subject, sizeof(identity->subject), "token:%02x%02x%02x%02x", row->hash[0], row->hash[1],
	         row->hash[2], row->hash[3]);
	identity->rights = row->rights;
	return 0;
}

static int identify_certificate(const struct tenant_credential *credential, struct tenant_identity *identity, char *why,
                                size_t why_size)
{
	if (credential->organisation.size == 0)
		return refuse("the client certificate names no organisation (O), which is the tenant: issue one with "
		              "`sluice cert issue --tenant NAME`", why, why_size);
	if (!tenant_name_valid(credential->organisation))
		return refuse("the client certificate's organisation (O) is no name of a tenant: 1 to 128 letters, digits, or "
		              "any of . _ - @", why, why_size);
	if (credential->common_name.size >= sizeof(identity->subject))
		return refuse("the client certificate's common name is too long", why, why_size);
	memcpy(identity->tenant, credential->organisation.data, credential->organisation.size);
	if (credential->common_name.size)
		memcpy(identity->subject, credential->common_name.data, credential->common_name.size);
	identity->rights = SCOPE_ALL;
	return 0;
}

static int identify_nobody(const struct tenant_registry *registry, bool loopback, struct tenant_identity *identity,
                           char *why, size_t why_size)
{
	if (!registry->anonymous[0] && !loopback)
		return refuse("no credential: give a token (SLUICE_TOKEN) or a client certificate (SLUICE_TLS_CERT, "
		              "SLUICE_TLS_KEY)", why, why_size);
	snprintf(identity->tenant, sizeof(identity->tenant), "%s",
	         registry->anonymous[0] ? registry->anonymous : TENANT_DEFAULT);
	snprintf(identity->subject, sizeof(identity->subject), "anonymous");
	identity->rights = registry->anonymous[0] ? registry->anonymous_rights : SCOPE_ALL;
	return 0;
}

int tenant_identify(const struct tenant_registry *registry, const struct tenant_credential *credential,
                    struct tenant_identity *identity, char *why, size_t why_size)
{
	struct tenant_identity found = { .subject = "" };
	int r = 0;

	if (credential->authorization.size) {
		r = identify_token(registry, credential, &found, why, why_size);
	} else if (credential->certificate) {
		r = identify_certificate(credential, &found, why, why_size);
	} else {
		r = identify_nobody(registry, credential->loopback, &found, why, why_size);
	}
	if (r < 0)
		return ERR_RAISE(r);
	*identity = found;
	return 0;
}
