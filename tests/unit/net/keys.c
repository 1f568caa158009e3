/* Certificates for the tests. */
#include "tests/unit/net/keys.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/base/log.h"
#include "gateway/net/certificate.h"

static char directory[] = "/tmp/sluice-keys-XXXXXX";

static const char *const local_names[] = { "localhost", "127.0.0.1", NULL };
static const char *const other_names[] = { "gateway.example", "192.0.2.1", NULL };

static const struct set {
	const char *name, *ca;           /* `ca` NULL: it is one */
	const char *organisation, *common_name;
	const char *const *names;
	bool server;
	int days;
} sets[] = {
	{ .name = "ca", .common_name = "Test CA" },
	{ .name = "other-ca", .common_name = "Other CA" },
	{ "server", "ca", NULL, "gateway", local_names, true, 30 },
	{ "expired", "ca", NULL, "gateway", local_names, true, -2 },
	{ "misnamed", "ca", NULL, "localhost", other_names, true, 30 },
	{ "client", "ca", "acme", "ci", NULL, false, 30 },
	{ "nobody", "ca", NULL, "nobody", NULL, false, 30 },
	{ "late-client", "ca", "acme", "late", NULL, false, -2 },
	{ "stranger", "other-ca", "acme", "mallory", NULL, false, 30 },
	{ "stranger-server", "other-ca", NULL, "gateway", local_names, true, 30 },
};

const char *keys_path(const char *set, const char *file)
{
	static char paths[16][128];
	static unsigned next;
	char *path = paths[next++ % 16];

	snprintf(path, sizeof(paths[0]), "%s/%s/%s", directory, set, file);
	return path;
}

static void make(const struct set *set)
{
	char dir[128], ca_dir[128], why[256] = "";
	struct certificate_request request = {
		.ca_dir = ca_dir, .dir = dir, .common_name = set->common_name, .organisation = set->organisation,
		.names = set->names, .server = set->server, .client = !set->server, .days = set->days,
	};
	int r;

	snprintf(dir, sizeof(dir), "%s/%s", directory, set->name);
	snprintf(ca_dir, sizeof(ca_dir), "%s/%s", directory, set->ca ? set->ca : "");
	r = set->ca ? certificate_issue(&request, why, sizeof(why)) :
	              certificate_make_ca(dir, set->common_name, 30, why, sizeof(why));
	if (r < 0)
		fail_msg("%s", why);
}

int keys_make(void **state)
{
	log_setup(STDERR_FILENO, LOG_ERROR, false);
	assert_non_null(mkdtemp(directory));
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		make(&sets[i]);
	return 0;
}

int keys_remove(void **state)
{
	static const char *const files[] = { "ca.pem", "ca-key.pem", "cert.pem", "key.pem" };
	char dir[128];

	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		for (size_t j = 0; j < sizeof(files) / sizeof(files[0]); j++)
			unlink(keys_path(sets[i].name, files[j]));
		snprintf(dir, sizeof(dir), "%s/%s", directory, sets[i].name);
		rmdir(dir);
	}
	return rmdir(directory);
}

struct tls_config keys_server(const char *set, const char *ca, bool required)
{
	return (struct tls_config){
		.server = true,
		.certificate_path = keys_path(set, "cert.pem"),
		.key_path = keys_path(set, "key.pem"),
		.ca_path = ca ? keys_path(ca, "ca.pem") : NULL,
		.require_client_certificate = required,
	};
}
