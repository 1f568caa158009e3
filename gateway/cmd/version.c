/* sluice version: of the program and of the libraries that it runs with. */
#include <jansson.h>
#include <lmdb.h>
#include <microhttpd.h>
#include <nghttp2/nghttp2.h>
#include <openssl/crypto.h>
#include <yaml.h>
#include <zstd.h>
#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/json.h"
#include "gateway/cmd/options.h"

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

struct version_options {
	bool json;
};

static const struct option version_options[] = {
	{ .name = "json", .kind = OPTION_FLAG, .offset = offsetof(struct version_options, json),
	  .help = "print one JSON object" },
};
static const struct option_group version_group = OPTION_GROUP("Options", version_options);
static const struct option_group *const version_groups[] = { &version_group, NULL };

static int version_run(int argc, char **argv)
{
	struct version_options version;
	void *const values[] = { &version };
	CLEANUP(options_fini) struct options options;
	char lmdb[32];
	const struct {
		const char *name, *version;
	} libraries[] = {
		{ "libyaml", yaml_get_version_string() },
		{ "jansson", JANSSON_VERSION },
		{ "libmicrohttpd", MHD_get_version() },
		{ "lmdb", lmdb },
		{ "nghttp2", nghttp2_version(0)->version_str },
		{ "openssl", OpenSSL_version(OPENSSL_VERSION_STRING) },
		{ "zstd", ZSTD_versionString() },
	};
	int status, major, minor, patch;
	json_t *object;

	mdb_version(&major, &minor, &patch);
	snprintf(lmdb, sizeof(lmdb), "%d.%d.%d", major, minor, patch);
	if (!options_parse(&options, &command_version, values, argc, argv, &status))
		return status;
	if (!version.json) {
		printf("sluice %s (%s)\n", SLUICE_VERSION, COMPILER);
		for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++)
			printf("  %-14s %s\n", libraries[i].name, libraries[i].version);
		return STATUS_OK;
	}
	object = json_pack("{s:s, s:s, s:{}}", "version", SLUICE_VERSION, "compiler", COMPILER, "libraries");
	for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++)
		json_object_set_new(json_object_get(object, "libraries"), libraries[i].name,
		                    json_string(libraries[i].version));
	return json_print(object);
}

const struct command command_version = {
	.name = "version",
	.summary = "tell the version of sluice and of its libraries",
	.help = "Prints the version of sluice, the compiler that made it and the libraries it runs with.\n\n"
	        "  sluice version --json",
	.run = version_run,
	.groups = version_groups,
};
