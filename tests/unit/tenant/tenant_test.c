/*
 * Shows who a caller is taken for: certificate, token, local caller, nobody; and that a tokens file is taken as a whole or
 * refused with the line's number. Files are written to a temporary directory; the hashes are computed by OpenSSL here.
 */
#include "gateway/tenant/tenant.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/tenant/tokens.h"

static char directory[] = "/tmp/tenant-test-XXXXXX";
static char path[64];

static int make_directory(void **state)
{
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/tokens", directory);
	return 0;
}

static int remove_directory(void **state)
{
	unlink(path);
	return rmdir(directory);
}

static const char *hash_of(const char *token)
{
	static char text[65];
	uint8_t hash[32];

	SHA256((const unsigned char *)token, strlen(token), hash);
	for (size_t i = 0; i < 32; i++)
		snprintf(text + 2 * i, 3, "%02x", hash[i]);
	return text;
}

static void write_tokens(const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static struct tenant_registry *registry_of(const char *text, const char *anonymous, const char *rights)
{
	struct tenant_config config = { .tokens_path = path, .anonymous = anonymous, .anonymous_rights = rights };
	struct tenant_registry *registry;
	char why[512] = "";

	write_tokens(text, 0600);
	if (tenant_registry_create(&registry, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return registry;
}

static int identify(const struct tenant_registry *registry, const char *authorization, struct tenant_identity *identity)
{
	struct tenant_credential credential = { .authorization = span_text(authorization) };
	char why[256] = "";
	int r = tenant_identify(registry, &credential, identity, why, sizeof(why));

	assert_true((r == 0) == (why[0] == '\0'));
	return r;
}

static void tokens_name_tenant_and_rights(void **state)
{
	struct tenant_registry *registry;
	struct tenant_identity identity;
	char text[1024], first[65];

	snprintf(first, sizeof(first), "%s", hash_of("alpha"));
	snprintf(text, sizeof(text), "# who may what\n\n  %s  acme\tread,write \r\n%s other all", first, hash_of("beta"));
	registry = registry_of(text, NULL, NULL);
	assert_int_equal(tenant_registry_count(registry), 2);
	assert_int_equal(identify(registry, "Bearer alpha", &identity), 0);
	assert_string_equal(identity.tenant, "acme");
	assert_int_equal(identity.rights, SCOPE_READ | SCOPE_WRITE);
	assert_memory_equal(identity.subject, "token:", 6);
	assert_memory_equal(identity.subject + 6, first, 8);
	assert_int_equal(identify(registry, "bearer   beta", &identity), 0);
	assert_string_equal(identity.tenant, "other");
	assert_int_equal(identity.rights, SCOPE_ALL);
	tenant_registry_destroy(registry);
}

static void wrong_tokens_are_refused(void **state)
{
	static const char *const wrong[] = { "Bearer gamma", "Bearer alph", "Bearer alphaa", "Bearer ", "Bearer", "alpha",
		                             "Basic alpha", "Bearer\talpha", "Bearer alpha " };
	struct tenant_identity identity = { .tenant = "untouched" };
	struct tenant_registry *registry;
	char text[256];

	snprintf(text, sizeof(text), "%s acme all\n", hash_of("alpha"));
	registry = registry_of(text, "public", NULL);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(identify(registry, wrong[i], &identity), -EACCES);
	assert_string_equal(identity.tenant, "untouched");
	tenant_registry_destroy(registry);
}

static void each_of_many_tokens_is_found(void **state)
{
	enum { TOKENS = 1000 };
	char *text = malloc(TOKENS * 100), token[32], tenant[32];
	struct tenant_identity identity;
	struct tenant_registry *registry;
	size_t size = 0;

	for (int i = 0; i < TOKENS; i++) {
		snprintf(token, sizeof(token), "token-%d", i);
		size += (size_t)sprintf(text + size, "%s tenant-%d all\n", hash_of(token), i);
	}
	registry = registry_of(text, NULL, NULL);
	for (int i = 0; i < TOKENS; i++) {
		snprintf(token, sizeof(token), "Bearer token-%d", i);
		snprintf(tenant, sizeof(tenant), "tenant-%d", i);
		assert_int_equal(identify(registry, token, &identity), 0);
		assert_string_equal(identity.tenant, tenant);
		snprintf(token, sizeof(token), "Bearer token-%d", TOKENS + i);
		assert_int_not_equal(identify(registry, token, &identity), 0);
	}
	tenant_registry_destroy(registry);
	free(text);
}

static void certificates_name_tenant_and_subject(void **state)
{
	struct tenant_credential credential = {
		.certificate = true, .organisation = span_text("acme"), .common_name = span_text("ci 7"),
	};
	struct tenant_registry *registry = registry_of("", NULL, NULL);
	struct tenant_identity identity;
	char why[256];

	assert_int_equal(tenant_identify(registry, &credential, &identity, why, sizeof(why)), 0);
	assert_string_equal(identity.tenant, "acme");
	assert_string_equal(identity.subject, "ci 7");
	assert_int_equal(identity.rights, SCOPE_ALL);
	credential.organisation = span_text("");
	assert_int_equal(tenant_identify(registry, &credential, &identity, why, sizeof(why)), -EACCES);
	assert_non_null(strstr(why, "organisation"));
	credential.organisation = span_text("../acme");
	assert_int_equal(tenant_identify(registry, &credential, &identity, why, sizeof(why)), -EACCES);
	/* A certificate without a tenant is no better on a local listener. */
	credential.loopback = true;
	assert_int_equal(tenant_identify(registry, &credential, &identity, why, sizeof(why)), -EACCES);
	tenant_registry_destroy(registry);
}

static void a_token_stays_within_its_certificates_tenant(void **state)
{
	struct tenant_credential credential = {
		.certificate = true, .organisation = span_text("acme"), .common_name = span_text("ci"),
		.authorization = span_text("Bearer alpha"),
	};
	struct tenant_registry *registry;
	struct tenant_identity identity;
	char text[256], why[256];

	snprintf(text, sizeof(text), "%s acme read\n", hash_of("alpha"));
	registry = registry_of(text, NULL, NULL);
	assert_int_equal(tenant_identify(registry, &credential, &identity, why, sizeof(why)), 0);
	assert_int_equal(identity.rights, SCOPE_READ);
	credential.organisation = span_text("rival");
	assert_int_equal(tenant_identify(registry, &credential, &identity, why, sizeof(why)), -EACCES);
	tenant_registry_destroy(registry);
}

static void nobody_is_default_only_when_local(void **state)
{
	struct tenant_credential nobody = { 0 };
	struct tenant_registry *registry = registry_of("", NULL, "read");
	struct tenant_identity identity;
	char why[256];

	assert_int_equal(tenant_identify(registry, &nobody, &identity, why, sizeof(why)), -EACCES);
	assert_non_null(strstr(why, "SLUICE_TOKEN"));
	nobody.loopback = true;
	assert_int_equal(tenant_identify(registry, &nobody, &identity, why, sizeof(why)), 0);
	assert_string_equal(identity.tenant, "default");
	assert_int_equal(identity.rights, SCOPE_ALL);
	tenant_registry_destroy(registry);
	registry = registry_of("", "public", "read");
	for (int local = 0; local < 2; local++) {
		nobody.loopback = local;
		assert_int_equal(tenant_identify(registry, &nobody, &identity, why, sizeof(why)), 0);
		assert_string_equal(identity.tenant, "public");
		assert_int_equal(identity.rights, SCOPE_READ);
	}
	tenant_registry_destroy(registry);
}

static void bad_lines_are_named(void **state)
{
	static const struct {
		const char *after_hash, *says;
	} lines[] = {
		{ " acme", "line 3: the third word" },
		{ "", "line 3: the second word" },
		{ " acme read,", "line 3: the third word" },
		{ " acme ,read", "line 3: the third word" },
		{ " acme read write", "line 3: there is more" },
		{ " acme everything", "line 3: the third word" },
		{ " .acme all", "line 3: the second word" },
		{ " a/b all", "line 3: the second word" },
		{ "0 acme all", "line 3: the first word" },
	};
	struct tenant_config config = { .tokens_path = path };
	struct tenant_registry *registry = NULL;
	char text[512], why[512];

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(text, sizeof(text), "# one\n\n%s%s\n", hash_of("alpha"), lines[i].after_hash);
		write_tokens(text, 0600);
		assert_int_equal(tenant_registry_create(&registry, &config, why, sizeof(why)), -EINVAL);
		assert_non_null(strstr(why, lines[i].says));
		assert_non_null(strstr(why, path));
		assert_null(strstr(why, hash_of("alpha")));
	}
	assert_null(registry);
}

static void the_same_token_twice_is_refused(void **state)
{
	struct tenant_config config = { .tokens_path = path };
	struct tenant_registry *registry;
	char text[512], why[512];
	int n = snprintf(text, sizeof(text), "%s acme all\n", hash_of("alpha"));

	n += snprintf(text + n, sizeof(text) - (size_t)n, "%s acme all\n", hash_of("beta"));
	snprintf(text + n, sizeof(text) - (size_t)n, "%s rival read\n", hash_of("alpha"));
	write_tokens(text, 0600);
	assert_int_equal(tenant_registry_create(&registry, &config, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "twice"));
}

static void a_file_that_others_may_touch_is_refused(void **state)
{
	static const mode_t open_modes[] = { 0644, 0604, 0602, 0601, 0620, 0666 };
	struct tenant_config config = { .tokens_path = path };
	struct tenant_registry *registry;
	char why[512];

	for (size_t i = 0; i < sizeof(open_modes) / sizeof(open_modes[0]); i++) {
		write_tokens("", open_modes[i]);
		assert_int_equal(tenant_registry_create(&registry, &config, why, sizeof(why)), -EPERM);
		assert_non_null(strstr(why, "chmod 600"));
	}
	write_tokens("", 0640);
	assert_int_equal(tenant_registry_create(&registry, &config, why, sizeof(why)), 0);
	tenant_registry_destroy(registry);
	config.tokens_path = "/nonexistent/tokens";
	assert_int_equal(tenant_registry_create(&registry, &config, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "/nonexistent/tokens"));
	config.tokens_path = directory;
	assert_int_equal(tenant_registry_create(&registry, &config, why, sizeof(why)), -EINVAL);
}

static void names_of_tenants(void **state)
{
	char longest[130];

	memset(longest, 'a', sizeof(longest));
	assert_true(tenant_name_valid(span_make(longest, 128)));
	assert_false(tenant_name_valid(span_make(longest, 129)));
	assert_true(tenant_name_valid(span_text("Team-1.build@acme_x")));
	assert_false(tenant_name_valid(span_text("")));
	assert_false(tenant_name_valid(span_text("..")));
	assert_false(tenant_name_valid(span_text("a b")));
	assert_false(tenant_name_valid(span_text("a\nb")));
	assert_false(tenant_name_valid(span_text("\xc3\xa4")));
	assert_false(tenant_name_valid(span_make("a\0b", 3)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_name_tenant_and_rights),
		cmocka_unit_test(wrong_tokens_are_refused),
		cmocka_unit_test(each_of_many_tokens_is_found),
		cmocka_unit_test(certificates_name_tenant_and_subject),
		cmocka_unit_test(a_token_stays_within_its_certificates_tenant),
		cmocka_unit_test(nobody_is_default_only_when_local),
		cmocka_unit_test(bad_lines_are_named),
		cmocka_unit_test(the_same_token_twice_is_refused),
		cmocka_unit_test(a_file_that_others_may_touch_is_refused),
		cmocka_unit_test(names_of_tenants),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
