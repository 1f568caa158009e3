/* A small certificate authority over OpenSSL's X.509: P-256 keys, v3 certificates, PEM files. */
#include "gateway/net/certificate.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "proto/span.h"

#define PATH_BYTES      4096
#define DAYS_MAX        36500
/* Clocks differ: valid from an hour ago. */
#define BACKDATE_S      3600
#define SERIAL_BYTES    16

static void key_freep(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void x509_freep(X509 **certificate)
{
	X509_free(*certificate);
}

static void bio_freep(BIO **bio)
{
	BIO_free(*bio);
}

/* OpenSSL's own words: what can fail here is memory, and input that it does not like. */
static int openssl_failure(const char *what, char *why, size_t why_size)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	snprintf(why, why_size, "%s: %s", what, reason ? reason : "OpenSSL gives no reason");
	ERR_clear_error();
	return ERR_RAISE(-EINVAL);
}

/* ---- files ---- */

static int path_join(char path[static PATH_BYTES], const char *dir, const char *name, char *why, size_t why_size)
{
	if (snprintf(path, PATH_BYTES, "%s/%s", dir, name) < PATH_BYTES)
		return 0;
	snprintf(why, why_size, "the path %.100s... is too long", dir);
	return ERR_RAISE(-ENAMETOOLONG);
}

static int file_failure(const char *verb, const char *path, char *why, size_t why_size)
{
	int r = -errno;

	snprintf(why, why_size, "cannot %s %s: %s", verb, path, strerror(-r));
	return ERR_RAISE(r);
}

/* 1 when `dir` has it, 0 when not, or -errno; `path` is then its path. */
static int file_exists(char path[static PATH_BYTES], const char *dir, const char *name, char *why, size_t why_size)
{
	int r = path_join(path, dir, name, why, why_size);

	return r < 0 ? r : faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool write_all(int fd, struct span data)
{
	while (data.size) {
		ssize_t n = write(fd, data.data, data.size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data = span_make(data.data + n, data.size - (size_t)n);
	}
	return true;
}

/* Written aside, then renamed: nobody ever reads half a key, nor one with a wider mode than it shall have. */
static int file_write(const char *dir, const char *name, struct span data, mode_t mode, char *why, size_t why_size)
{
	char path[PATH_BYTES], aside[PATH_BYTES];
	CLEANUP(fd_closep) int fd = -1;
	char aside_name[64];
	int r;

	snprintf(aside_name, sizeof(aside_name), ".%s.%ld", name, (long)getpid());
	r = path_join(path, dir, name, why, why_size);
	if (r == 0)
		r = path_join(aside, dir, aside_name, why, why_size);
	if (r < 0)
		return ERR_RAISE(r);
	unlink(aside);
	fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0 || fchmod(fd, mode) < 0 || !write_all(fd, data) || fsync(fd) < 0 || rename(aside, path) < 0) {
		r = file_failure("write", path, why, why_size);
		unlink(aside);
		return r;
	}
	return 0;
}

static struct span bio_span(BIO *bio)
{
	char *data;
	long size = BIO_get_mem_data(bio, &data);

	return span_make(data, size > 0 ? (size_t)size : 0);
}

static int certificate_write(const char *dir, const char *name, X509 *certificate, char *why, size_t why_size)
{
	CLEANUP(bio_freep) BIO *bio = BIO_new(BIO_s_mem());

	if (!bio || PEM_write_bio_X509(bio, certificate) != 1)
		return openssl_failure("cannot encode the certificate", why, why_size);
	return file_write(dir, name, bio_span(bio), 0644, why, why_size);
}

/*
 * Takes the key away again when it fails: it would be in the way of another attempt, and belongs to nothing. One that was
 * replaced stays: the former one is gone, and a gateway starts with neither.
 */
static int certificate_write_beside(const char *dir, const char *name, X509 *certificate, const char *key_name, bool replaced,
                                    char *why, size_t why_size)
{
	int r = certificate_write(dir, name, certificate, why, why_size);
	char path[PATH_BYTES], ignored[PATH_BYTES];

	if (r < 0 && !replaced && path_join(path, dir, key_name, ignored, sizeof(ignored)) == 0)
		unlink(path);
	return r;
}

static int key_write(const char *dir, const char *name, EVP_PKEY *key, char *why, size_t why_size)
{
	CLEANUP(bio_freep) BIO *bio = BIO_new(BIO_s_secmem());

	if (!bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		return openssl_failure("cannot encode the key", why, why_size);
	return file_write(dir, name, bio_span(bio), 0600, why, why_size);
}

static int directory_make(const char *dir, char *why, size_t why_size)
{
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return file_failure("make the directory", dir, why, why_size);
	return 0;
}

/* ---- what a certificate says ---- */

static bool name_add(X509_NAME *name, const char *attribute, const char *text)
{
	return !text || X509_NAME_add_entry_by_txt(name, attribute, MBSTRING_UTF8, (const unsigned char *)text, -1, -1, 0) == 1;
}

static bool extension_add(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX context;
	bool added;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	added = extension && X509_add_ext(certificate, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return added;
}

static GENERAL_NAME *general_name(const char *text)
{
	ASN1_OCTET_STRING *address = a2i_IPADDRESS(text);
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *host;

	ERR_clear_error();
	if (name && address) {
		GENERAL_NAME_set0_value(name, GEN_IPADD, address);
		return name;
	}
	ASN1_OCTET_STRING_free(address);
	host = name ? ASN1_IA5STRING_new() : NULL;
	if (!host || ASN1_STRING_set(host, text, -1) != 1) {
		ASN1_IA5STRING_free(host);
		GENERAL_NAME_free(name);
		return NULL;
	}
	GENERAL_NAME_set0_value(name, GEN_DNS, host);
	return name;
}

/* Built from its parts, not from a configuration line: a name with a comma stays one name. */
static bool names_add(X509 *certificate, const char *const *names)
{
	GENERAL_NAMES *list = sk_GENERAL_NAME_new_null();
	bool added = list != NULL;

	for (size_t i = 0; added && names[i]; i++) {
		GENERAL_NAME *name = i < CERTIFICATE_NAMES_MAX ? general_name(names[i]) : NULL;

		added = name && sk_GENERAL_NAME_push(list, name) > 0;
		if (!added)
			GENERAL_NAME_free(name);
	}
	added = added && X509_add1_ext_i2d(certificate, NID_subject_alt_name, list, 0, X509V3_ADD_DEFAULT) == 1;
	sk_GENERAL_NAME_pop_free(list, GENERAL_NAME_free);
	return added;
}

static bool serial_set(X509 *certificate)
{
	uint8_t bytes[SERIAL_BYTES];
	BIGNUM *number = NULL;
	bool set;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40);          /* positive, and never short */
	number = BN_bin2bn(bytes, sizeof(bytes), NULL);
	set = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
	BN_free(number);
	return set;
}

static bool validity_set(X509 *certificate, int days)
{
	time_t end_day = days < 0 ? days - 1 : 0;

	return X509_time_adj_ex(X509_getm_notBefore(certificate), (int)end_day, -BACKDATE_S, NULL) &&
	       X509_time_adj_ex(X509_getm_notAfter(certificate), days, 0, NULL);
}

static X509 *certificate_new(EVP_PKEY *key, const char *organisation, const char *common_name, int days)
{
	X509 *certificate = X509_new();

	if (certificate && X509_set_version(certificate, X509_VERSION_3) == 1 && serial_set(certificate) &&
	    validity_set(certificate, days) && X509_set_pubkey(certificate, key) == 1 &&
	    name_add(X509_get_subject_name(certificate), "O", organisation) &&
	    name_add(X509_get_subject_name(certificate), "CN", common_name))
		return certificate;
	X509_free(certificate);
	return NULL;
}

/* ---- the authority ---- */

/* Either of the two: a certificate without its key is still what every gateway and client was given. */
static int ca_refuse_existing(const char *dir, char *why, size_t why_size)
{
	static const char *const names[] = { "ca-key.pem", "ca.pem" };
	char path[PATH_BYTES];

	for (size_t i = 0; i < 2; i++) {
		int r = file_exists(path, dir, names[i], why, why_size);

		if (r < 0)
			return r;
		if (r) {
			snprintf(why, why_size, "there is a CA already: %s (remove it first if it is really no longer needed)", path);
			return ERR_RAISE(-EEXIST);
		}
	}
	return 0;
}

int certificate_make_ca(const char *dir, const char *name, unsigned days, char *why, size_t why_size)
{
	CLEANUP(x509_freep) X509 *certificate = NULL;
	CLEANUP(key_freep) EVP_PKEY *key = NULL;
	int r = directory_make(dir, why, why_size);

	if (r == 0)
		r = ca_refuse_existing(dir, why, why_size);
	if (r < 0)
		return ERR_RAISE(r);
	if (days == 0 || days > DAYS_MAX) {
		snprintf(why, why_size, "a certificate is valid for 1 to %d days", DAYS_MAX);
		return ERR_RAISE(-EINVAL);
	}
	ERR_clear_error();
	key = EVP_EC_gen("P-256");
	certificate = key ? certificate_new(key, NULL, name, (int)days) : NULL;
	if (!certificate || X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) != 1 ||
	    !extension_add(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
	    !extension_add(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") ||
	    !extension_add(certificate, certificate, NID_subject_key_identifier, "hash") ||
	    X509_sign(certificate, key, EVP_sha256()) == 0)
		return openssl_failure("cannot make the CA", why, why_size);
	r = key_write(dir, "ca-key.pem", key, why, why_size);
	if (r == 0)
		r = certificate_write_beside(dir, "ca.pem", certificate, "ca-key.pem", false, why, why_size);
	return r < 0 ? ERR_RAISE(r) : 0;
}

struct authority {
	X509 *certificate;
	EVP_PKEY *key;
};

static void authority_fini(struct authority *authority)
{
	X509_free(authority->certificate);
	EVP_PKEY_free(authority->key);
}

static int authority_load(struct authority *authority, const char *dir, char *why, size_t why_size)
{
	CLEANUP(bio_freep) BIO *certificate = NULL;
	CLEANUP(bio_freep) BIO *key = NULL;
	char path[PATH_BYTES], key_path[PATH_BYTES];
	int r = path_join(path, dir, "ca.pem", why, why_size);

	if (r == 0)
		r = path_join(key_path, dir, "ca-key.pem", why, why_size);
	if (r < 0)
		return ERR_RAISE(r);
	if (access(path, R_OK) < 0)
		return file_failure("read the CA's certificate", path, why, why_size);
	if (access(key_path, R_OK) < 0)
		return file_failure("read the CA's key", key_path, why, why_size);
	ERR_clear_error();
	certificate = BIO_new_file(path, "r");
	key = BIO_new_file(key_path, "r");
	authority->certificate = certificate ? PEM_read_bio_X509(certificate, NULL, NULL, NULL) : NULL;
	authority->key = key ? PEM_read_bio_PrivateKey(key, NULL, NULL, NULL) : NULL;
	if (!authority->certificate || !authority->key)
		return openssl_failure("cannot read the CA", why, why_size);
	if (X509_check_private_key(authority->certificate, authority->key) != 1)
		return openssl_failure("the CA's key does not belong to its certificate", why, why_size);
	if (X509_cmp_current_time(X509_get0_notAfter(authority->certificate)) < 0) {
		snprintf(why, why_size, "the CA in %s has expired: make a new one with `sluice cert ca`, for gateways and clients alike", dir);
		return ERR_RAISE(-EINVAL);
	}
	return 0;
}

/* ---- issuing ---- */

static const char *usage(const struct certificate_request *request)
{
	if (request->server && request->client)
		return "serverAuth,clientAuth";
	return request->server ? "serverAuth" : "clientAuth";
}

static int request_check(const struct certificate_request *request, char *why, size_t why_size)
{
	const char *fault = NULL;

	if (!request->server && !request->client)
		fault = "a certificate is for a server, for a client, or for both";
	else if (request->days == 0 || request->days > DAYS_MAX || request->days < -DAYS_MAX)
		fault = "the number of days makes no sense";
	else if (!request->common_name || strlen(request->common_name) > 64)
		fault = "the common name has 1 to 64 bytes";              /* RFC 5280 ub-common-name */
	else if (request->organisation && strlen(request->organisation) > 64)
		fault = "the organisation (tenant) has at most 64 bytes"; /* ub-organization-name */
	else if (request->server && (!request->names || !request->names[0]))
		fault = "a server's certificate needs the host names or addresses it is reached by";
	if (!fault)
		return 0;
	snprintf(why, why_size, "%s", fault);
	return ERR_RAISE(-EINVAL);
}

static int issue_refuse_existing(const struct certificate_request *request, char *why, size_t why_size)
{
	static const char *const names[] = { "key.pem", "cert.pem" };
	char path[PATH_BYTES];

	for (size_t i = 0; i < 2 && !request->replace; i++) {
		int r = file_exists(path, request->dir, names[i], why, why_size);

		if (r < 0)
			return r;
		if (r) {
			snprintf(why, why_size, "%s is there already", path);
			return ERR_RAISE(-EEXIST);
		}
	}
	return 0;
}

static bool issue_fill(X509 *certificate, const struct certificate_request *request, const struct authority *authority)
{
	return X509_set_issuer_name(certificate, X509_get_subject_name(authority->certificate)) == 1 &&
	       extension_add(certificate, authority->certificate, NID_basic_constraints, "critical,CA:FALSE") &&
	       extension_add(certificate, authority->certificate, NID_key_usage, "critical,digitalSignature") &&
	       extension_add(certificate, authority->certificate, NID_ext_key_usage, usage(request)) &&
	       extension_add(certificate, authority->certificate, NID_authority_key_identifier, "keyid") &&
	       (!request->names || !request->names[0] || names_add(certificate, request->names)) &&
	       X509_sign(certificate, authority->key, EVP_sha256()) != 0;
}

/* Nobody takes it for longer than who signed it. `days`: how many it loses. */
static bool issue_end(X509 *certificate, const struct authority *authority, int *days)
{
	const ASN1_TIME *end = X509_get0_notAfter(authority->certificate);
	int seconds;

	if (ASN1_TIME_diff(days, &seconds, end, X509_get0_notAfter(certificate)) != 1)
		return false;
	return (*days <= 0 && seconds <= 0) || X509_set1_notAfter(certificate, end) == 1;
}

static int issue_tell_end(const X509 *certificate, char *why, size_t why_size)
{
	char date[16] = "?";
	struct tm end;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1)
		strftime(date, sizeof(date), "%Y-%m-%d", &end);
	snprintf(why, why_size, "the certificate is valid until %s only, when its CA expires", date);
	return CERTIFICATE_SHORTENED;
}

static int issue_write(const struct certificate_request *request, const struct authority *authority, X509 *certificate,
                       EVP_PKEY *key, char *why, size_t why_size)
{
	int r = directory_make(request->dir, why, why_size), had_key = 0;
	char path[PATH_BYTES];

	if (r == 0)
		r = had_key = file_exists(path, request->dir, "key.pem", why, why_size);
	if (r > 0)
		r = 0;
	if (r == 0 && strcmp(request->dir, request->ca_dir) != 0)
		r = certificate_write(request->dir, "ca.pem", authority->certificate, why, why_size);
	if (r == 0)
		r = key_write(request->dir, "key.pem", key, why, why_size);
	if (r == 0)
		r = certificate_write_beside(request->dir, "cert.pem", certificate, "key.pem", had_key, why, why_size);
	return r;
}

int certificate_issue(const struct certificate_request *request, char *why, size_t why_size)
{
	CLEANUP(authority_fini) struct authority authority = { 0 };
	CLEANUP(x509_freep) X509 *certificate = NULL;
	CLEANUP(key_freep) EVP_PKEY *key = NULL;
	int r = request_check(request, why, why_size), days_lost = 0;

	if (r == 0)
		r = issue_refuse_existing(request, why, why_size);
	if (r == 0)
		r = authority_load(&authority, request->ca_dir, why, why_size);
	if (r < 0)
		return ERR_RAISE(r);
	ERR_clear_error();
	key = EVP_EC_gen("P-256");
	certificate = key ? certificate_new(key, request->organisation, request->common_name, request->days) : NULL;
	if (!certificate || !issue_end(certificate, &authority, &days_lost) || !issue_fill(certificate, request, &authority))
		return openssl_failure("cannot issue the certificate", why, why_size);
	r = issue_write(request, &authority, certificate, key, why, why_size);
	return r == 0 && days_lost > 0 ? issue_tell_end(certificate, why, why_size) : r;
}
