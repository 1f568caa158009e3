/*
 * Shows what the small CA makes: files with the right modes, certificates that OpenSSL's own verification takes for their
 * purpose and names and for nothing else, and that end with the CA at the latest; and that it replaces no CA.
 */
#include "gateway/net/certificate.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char directory[] = "/tmp/sluice-ca-XXXXXX";
static char ca[64], out[64];
static const char *const names[] = { "gw.example", "*.gw.example", "192.0.2.7", "2001:db8::7", "a,DNS:evil.example", NULL };

static int setup(void **state)
{
	assert_non_null(mkdtemp(directory));
	snprintf(ca, sizeof(ca), "%s/ca", directory);
	snprintf(out, sizeof(out), "%s/out", directory);
	return 0;
}

static const char *path_of(const char *dir, const char *file)
{
	static char paths[4][128];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, file);
	return path;
}

static int teardown(void **state)
{
	static const char *const files[] = { "ca.pem", "ca-key.pem", "cert.pem", "key.pem" };

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		unlink(path_of(ca, files[i]));
		unlink(path_of(out, files[i]));
	}
	rmdir(ca);
	rmdir(out);
	return rmdir(directory);
}

static X509 *load(const char *path)
{
	FILE *file = fopen(path, "r");
	X509 *certificate;

	assert_non_null(file);
	certificate = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	assert_non_null(certificate);
	return certificate;
}

static unsigned mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 0777;
}

/* X509_V_OK or the error, for a purpose. */
static int verify(int purpose)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	X509 *authority = load(path_of(ca, "ca.pem")), *certificate = load(path_of(out, "cert.pem"));
	int error;

	X509_STORE_add_cert(store, authority);
	assert_int_equal(X509_STORE_CTX_init(context, store, certificate, NULL), 1);
	X509_STORE_CTX_set_purpose(context, purpose);
	X509_verify_cert(context);
	error = X509_STORE_CTX_get_error(context);
	X509_STORE_CTX_free(context);
	X509_STORE_free(store);
	X509_free(authority);
	X509_free(certificate);
	return error;
}

static void a_ca_is_made_once(void **state)
{
	char why[256];

	assert_int_equal(certificate_make_ca(ca, "Test CA", 100, why, sizeof(why)), 0);
	assert_int_equal(mode_of(path_of(ca, "ca-key.pem")), 0600);
	assert_int_equal(mode_of(path_of(ca, "ca.pem")), 0644);
	assert_int_equal(certificate_make_ca(ca, "Test CA", 100, why, sizeof(why)), -EEXIST);
	assert_non_null(strstr(why, "ca-key.pem"));
	/* Either of the two is enough: what is taken apart, the key elsewhere, is still in use. */
	assert_int_equal(rename(path_of(ca, "ca-key.pem"), path_of(ca, "aside")), 0);
	assert_int_equal(certificate_make_ca(ca, "Test CA", 100, why, sizeof(why)), -EEXIST);
	assert_non_null(strstr(why, "ca.pem"));
	assert_int_equal(access(path_of(ca, "ca-key.pem"), F_OK), -1);
	assert_int_equal(rename(path_of(ca, "aside"), path_of(ca, "ca-key.pem")), 0);
	assert_int_equal(certificate_make_ca("/nonexistent/a/b", "x", 100, why, sizeof(why)), -ENOENT);
	assert_int_equal(certificate_make_ca(out, "x", 0, why, sizeof(why)), -EINVAL);
}

static void a_servers_certificate_fits_its_names(void **state)
{
	struct certificate_request request = {
		.ca_dir = ca, .dir = out, .common_name = "gateway", .names = names, .server = true, .days = 10,
	};
	X509 *certificate;
	char why[256];

	if (certificate_issue(&request, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(mode_of(path_of(out, "key.pem")), 0600);
	assert_int_equal(mode_of(path_of(out, "cert.pem")), 0644);
	assert_int_equal(mode_of(path_of(out, "ca.pem")), 0644);
	assert_int_equal(verify(X509_PURPOSE_SSL_SERVER), X509_V_OK);
	assert_int_equal(verify(X509_PURPOSE_SSL_CLIENT), X509_V_ERR_INVALID_PURPOSE);
	certificate = load(path_of(out, "cert.pem"));
	assert_int_equal(X509_check_host(certificate, "gw.example", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(certificate, "a.gw.example", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(certificate, "other.example", 0, 0, NULL), 0);
	/* A name with a comma is one odd name, not two. */
	assert_int_equal(X509_check_host(certificate, "evil.example", 0, 0, NULL), 0);
	assert_int_equal(X509_check_ip_asc(certificate, "192.0.2.7", 0), 1);
	assert_int_equal(X509_check_ip_asc(certificate, "2001:db8::7", 0), 1);
	assert_int_equal(X509_check_ip_asc(certificate, "192.0.2.8", 0), 0);
	X509_free(certificate);
}

static void a_clients_certificate_names_its_tenant(void **state)
{
	struct certificate_request request = {
		.ca_dir = ca, .dir = out, .common_name = "ci", .organisation = "acme", .client = true, .days = 10, .replace = true,
	};
	X509 *certificate;
	char why[256], text[64];

	assert_int_equal(certificate_issue(&request, why, sizeof(why)), 0);
	assert_int_equal(verify(X509_PURPOSE_SSL_CLIENT), X509_V_OK);
	assert_int_equal(verify(X509_PURPOSE_SSL_SERVER), X509_V_ERR_INVALID_PURPOSE);
	certificate = load(path_of(out, "cert.pem"));
	assert_true(X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_organizationName, text, 64) > 0);
	assert_string_equal(text, "acme");
	assert_true(X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, text, 64) > 0);
	assert_string_equal(text, "ci");
	X509_free(certificate);
	request.days = -1;
	request.replace = true;
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), 0);
	assert_int_equal(verify(X509_PURPOSE_SSL_CLIENT), X509_V_ERR_CERT_HAS_EXPIRED);
}

/* The CA, signed anew with an end so many days and seconds from now. */
static void end_authority(long days, long seconds)
{
	X509 *authority = load(path_of(ca, "ca.pem"));
	FILE *file = fopen(path_of(ca, "ca-key.pem"), "r");
	EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);

	assert_non_null(key);
	fclose(file);
	assert_non_null(X509_time_adj_ex(X509_getm_notBefore(authority), -2, 0, NULL));
	assert_non_null(X509_time_adj_ex(X509_getm_notAfter(authority), (int)days, seconds, NULL));
	assert_true(X509_sign(authority, key, EVP_sha256()) > 0);
	file = fopen(path_of(ca, "ca.pem"), "w");
	assert_int_equal(PEM_write_X509(file, authority), 1);
	assert_int_equal(fclose(file), 0);
	EVP_PKEY_free(key);
	X509_free(authority);
}

static void expect_end_of_authority(void)
{
	X509 *authority = load(path_of(ca, "ca.pem")), *certificate = load(path_of(out, "cert.pem"));

	assert_int_equal(ASN1_TIME_compare(X509_get0_notAfter(certificate), X509_get0_notAfter(authority)), 0);
	assert_int_equal(verify(X509_PURPOSE_SSL_CLIENT), X509_V_OK);
	X509_free(authority);
	X509_free(certificate);
}

static void a_certificate_ends_with_its_ca(void **state)
{
	struct certificate_request request = {
		.ca_dir = ca, .dir = out, .common_name = "ci", .organisation = "acme", .client = true, .days = 101, .replace = true,
	};
	X509 *before, *after;
	char why[256] = "";

	end_authority(100, 0);
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), CERTIFICATE_SHORTENED);
	assert_non_null(strstr(why, "when its CA expires"));
	expect_end_of_authority();
	/* A moment is not worth a word: made one after the other, for as long. */
	request.days = 100;
	end_authority(100, -60);
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), 0);
	expect_end_of_authority();
	end_authority(100, 60);
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), 0);
	before = load(path_of(out, "cert.pem"));
	end_authority(0, -1);
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "has expired: make a new one"));
	after = load(path_of(out, "cert.pem"));
	assert_int_equal(X509_cmp(before, after), 0);
	X509_free(before);
	X509_free(after);
	end_authority(100, 0);
}

static void nothing_is_replaced_unasked(void **state)
{
	struct certificate_request request = { .ca_dir = ca, .dir = out, .common_name = "x", .client = true, .days = 1 };
	X509 *before = load(path_of(out, "cert.pem")), *after;
	char why[256];

	assert_int_equal(certificate_issue(&request, why, sizeof(why)), -EEXIST);
	assert_non_null(strstr(why, "key.pem"));
	after = load(path_of(out, "cert.pem"));
	assert_int_equal(X509_cmp(before, after), 0);
	X509_free(before);
	X509_free(after);
	/* A key whose certificate could not be written belongs to nothing, and goes. */
	assert_int_equal(unlink(path_of(out, "cert.pem")) | unlink(path_of(out, "key.pem")), 0);
	assert_int_equal(mkdir(path_of(out, "cert.pem"), 0755), 0);
	request.replace = true;
	assert_true(certificate_issue(&request, why, sizeof(why)) < 0);
	assert_int_equal(access(path_of(out, "key.pem"), F_OK), -1);
	assert_int_equal(rmdir(path_of(out, "cert.pem")), 0);
}

static void senseless_requests_are_refused(void **state)
{
	static const char long_name[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	struct certificate_request good = { .ca_dir = ca, .dir = out, .common_name = "x", .client = true, .days = 1 };
	struct certificate_request request;
	char why[256];

	request = good, request.client = false;
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), -EINVAL);
	request = good, request.days = 0;
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), -EINVAL);
	request = good, request.common_name = long_name;
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), -EINVAL);
	request = good, request.organisation = long_name;
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), -EINVAL);
	request = good, request.server = true;
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "host names"));
	request = good, request.ca_dir = "/nonexistent";
	assert_int_equal(certificate_issue(&request, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "/nonexistent/ca.pem"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ca_is_made_once),
		cmocka_unit_test(a_servers_certificate_fits_its_names),
		cmocka_unit_test(a_clients_certificate_names_its_tenant),
		cmocka_unit_test(a_certificate_ends_with_its_ca),
		cmocka_unit_test(nothing_is_replaced_unasked),
		cmocka_unit_test(senseless_requests_are_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
