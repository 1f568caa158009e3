/* sluice cert: a certificate authority of one's own, and certificates for gateways and clients. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/options.h"
#include "gateway/net/certificate.h"
#include "gateway/tenant/tenant.h"

enum {
	CA_DAYS = 3650,
	ISSUE_DAYS = 365,
};

struct cert_options {
	const char *ca_dir, *subject, *tenant;
	struct option_list names;
	bool server, client, force;
	uint64_t days;
};

#define MEMBER(name) offsetof(struct cert_options, name)
static const struct option cert_options[] = {
	{ .name = "ca-dir", .kind = OPTION_TEXT, .offset = MEMBER(ca_dir), .argument = "DIR",
	  .help = "issue: the directory that `sluice cert ca` filled" },
	{ .name = "server", .kind = OPTION_FLAG, .offset = MEMBER(server), .help = "issue: for a gateway; needs --name" },
	{ .name = "client", .kind = OPTION_FLAG, .offset = MEMBER(client), .help = "issue: for a client; needs --tenant" },
	{ .name = "name", .kind = OPTION_LIST, .offset = MEMBER(names), .argument = "HOST",
	  .help = "issue: a host name or address that the gateway is reached by; may be given several times" },
	{ .name = "tenant", .kind = OPTION_TEXT, .offset = MEMBER(tenant), .argument = "TENANT",
	  .help = "issue: whose client it is; becomes the certificate's O" },
	{ .name = "subject", .kind = OPTION_TEXT, .offset = MEMBER(subject), .argument = "NAME",
	  .help = "who it is, for logs and snapshots; becomes the CN; without it the first --name, else \"sluice\"" },
	{ .name = "days", .kind = OPTION_NUMBER, .offset = MEMBER(days), .argument = "DAYS", .least = 1, .most = 36500,
	  .help = "how long it is valid, a certificate no longer than its CA; without it a CA 3650, a certificate 365 days" },
	{ .name = "force", .kind = OPTION_FLAG, .offset = MEMBER(force),
	  .help = "issue: replace the key and the certificate that DIR has" },
};
#undef MEMBER
static const struct option_group cert_group = OPTION_GROUP("Options", cert_options);
static const struct option_group *const cert_groups[] = { &cert_group, NULL };

static const char *subject_of(const struct cert_options *cert)
{
	if (cert->subject)
		return cert->subject;
	return cert->names.count ? cert->names.items[0] : "sluice";
}

static int make_ca(const struct cert_options *cert, const char *dir)
{
	char why[512];

	if (certificate_make_ca(dir, cert->subject ? cert->subject : "sluice CA",
	                        cert->days ? (unsigned)cert->days : CA_DAYS, why, sizeof(why)) < 0)
		return command_fail(&command_cert, "%s", why);
	printf("%s/ca.pem      give it to every gateway and client\n"
	       "%s/ca-key.pem  signs: keep it off those machines\n\n"
	       "Next, a certificate for the gateway, and one for each client:\n"
	       "  sluice cert issue --ca-dir %s --server --name HOST gateway\n"
	       "  sluice cert issue --ca-dir %s --client --tenant TENANT --subject NAME client\n", dir, dir, dir, dir);
	return STATUS_OK;
}

/* buildx keeps the paths as they are given, and reads them later from wherever it is called. */
static void print_use_with_buildx(const char *dir)
{
	char path[PATH_MAX];

	if (!realpath(dir, path))
		snprintf(path, sizeof(path), "%s", dir);
	printf("docker buildx, with a gateway that has a buildkitd (--buildkit or --spawn):\n"
	       "  docker buildx create --name sluice --driver remote "
	       "--driver-opt cacert=%s/ca.pem,cert=%s/cert.pem,key=%s/key.pem tcp://HOST:8372\n", path, path, path);
}

static void print_use(const struct cert_options *cert, const char *dir)
{
	printf("%s/ca.pem %s/cert.pem %s/key.pem\n", dir, dir, dir);
	if (cert->server)
		printf("\nThe gateway, asking clients for a certificate:\n"
		       "  sluice serve --listen grpcs://0.0.0.0:8372 --store DIR --tls-cert %s/cert.pem --tls-key %s/key.pem "
		       "--tls-ca %s/ca.pem\n", dir, dir, dir);
	if (cert->client) {
		printf("\nThe client, tenant %s:\n"
		       "  sluice push --gateway grpcs://HOST --tls-ca %s/ca.pem --tls-cert %s/cert.pem --tls-key %s/key.pem DIR\n"
		       "or once for all commands:\n"
		       "  export SLUICE_GATEWAY=grpcs://HOST SLUICE_TLS_CA=%s/ca.pem SLUICE_TLS_CERT=%s/cert.pem "
		       "SLUICE_TLS_KEY=%s/key.pem\n", cert->tenant, dir, dir, dir, dir, dir, dir);
		print_use_with_buildx(dir);
	}
}

static int issue(const struct cert_options *cert, const char *dir)
{
	const char *names[CERTIFICATE_NAMES_MAX + 1] = { NULL };
	struct certificate_request request = {
		.ca_dir = cert->ca_dir, .dir = dir, .common_name = subject_of(cert), .organisation = cert->tenant,
		.names = names, .server = cert->server, .client = cert->client, .replace = cert->force,
		.days = cert->days ? (int)cert->days : ISSUE_DAYS,
	};
	char why[512];
	int r;

	if (!cert->ca_dir)
		return command_usage(&command_cert, "--ca-dir is needed: the directory that `sluice cert ca` filled");
	if (!cert->server && !cert->client)
		return command_usage(&command_cert, "say what it is for: --server or --client");
	if (cert->server && cert->names.count == 0)
		return command_usage(&command_cert, "--server needs the --name that clients will use");
	if (cert->client && !cert->tenant)
		return command_usage(&command_cert, "--client needs its --tenant");
	/* Of any other name each call would be refused. */
	if (cert->tenant && !tenant_name_valid(span_text(cert->tenant)))
		return command_usage(&command_cert, "--tenant: \"%s\" is no name of a tenant: letters, digits, or any of . _ - @, not starting "
		                     "with a dot", cert->tenant);
	if (cert->names.count > CERTIFICATE_NAMES_MAX)
		return command_usage(&command_cert, "at most %d names", CERTIFICATE_NAMES_MAX);
	for (size_t i = 0; i < cert->names.count; i++)
		names[i] = cert->names.items[i];
	r = certificate_issue(&request, why, sizeof(why));
	if (r < 0)
		return command_fail(&command_cert, "%s%s", why, r == -EEXIST ? ": --force replaces it, key and certificate" : "");
	if (r == CERTIFICATE_SHORTENED)
		fprintf(stderr, "sluice cert: %s\n", why);
	print_use(cert, dir);
	return STATUS_OK;
}

static int cert_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	struct cert_options cert;
	void *const values[] = { &cert };
	int status;

	if (!options_parse(&options, &command_cert, values, argc, argv, &status))
		return status;
	if (options.operand_count == 2 && strcmp(options.operands[0], "ca") == 0)
		return make_ca(&cert, options.operands[1]);
	if (options.operand_count == 2 && strcmp(options.operands[0], "issue") == 0)
		return issue(&cert, options.operands[1]);
	return command_usage(&command_cert, "use `sluice cert ca DIR` or `sluice cert issue [OPTION]... DIR`");
}

const struct command command_cert = {
	.name = "cert",
	.summary = "make a certificate authority, and certificates for gateways and clients",
	.help = "`cert ca` makes an authority of your own: DIR/ca.pem and DIR/ca-key.pem. `cert issue` makes a certificate\n"
	        "signed by it: DIR/ca.pem, cert.pem and key.pem (ECDSA P-256); those that are there stay, unless --force\n"
	        "replaces them. Both print how to use what they made.\n\n"
	        "  sluice cert ca ca\n"
	        "  sluice cert issue --ca-dir ca --server --name gateway.example.net gateway\n"
	        "  sluice cert issue --ca-dir ca --client --tenant acme --subject ci-7 ci-7",
	.run = cert_run,
	.operands = "ca|issue DIR",
	.groups = cert_groups,
};
