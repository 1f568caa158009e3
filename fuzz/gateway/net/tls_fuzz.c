/*
 * tls_feed: any bytes, in any split, to either side of TLS before and after a handshake. It must refuse or wait, hand out
 * nothing that was not authenticated, stay refused once it has refused, and answer no more than it may hold.
 * Input: side and state, split, then what arrives.
 */
#include "gateway/net/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "gateway/net/certificate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define OUTPUT_MAX (1u << 20)

static struct tls_context *server_context, *client_context;

static void make_contexts(void)
{
	char dir[] = "/tmp/sluice-fuzz-XXXXXX", why[256];
	static const char *const names[] = { "localhost", NULL }, *const files[] = { "ca.pem", "ca-key.pem", "cert.pem", "key.pem" };
	struct certificate_request request = { .ca_dir = dir, .dir = dir, .common_name = "x", .names = names, .server = true,
		                               .client = true, .days = 10 };
	struct tls_config config = { .server = true };
	char paths[4][64];

	REQUIRE(mkdtemp(dir));
	REQUIRE(certificate_make_ca(dir, "CA", 10, why, sizeof(why)) == 0);
	REQUIRE(certificate_issue(&request, why, sizeof(why)) == 0);
	for (unsigned i = 0; i < 4; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", dir, files[i]);
	config.ca_path = paths[0];
	config.certificate_path = paths[2];
	config.key_path = paths[3];
	REQUIRE(tls_context_create(&server_context, &config, why, sizeof(why)) == 0);
	config.server = false;
	REQUIRE(tls_context_create(&client_context, &config, why, sizeof(why)) == 0);
	for (unsigned i = 0; i < 4; i++)
		unlink(paths[i]);
	rmdir(dir);
}

static void on_plain(void *context, struct span data)
{
	*(size_t *)context += data.size;
}

static void carry(struct tls *from, struct tls *to, size_t *plain)
{
	struct span out;

	while ((out = tls_output(from)).size) {
		REQUIRE(tls_feed(to, out, on_plain, plain) == TLS_OK);
		tls_sent(from, out.size);
	}
}

static void shake_hands(struct tls *a, struct tls *b)
{
	size_t plain = 0;

	for (unsigned i = 0; i < 4; i++) {
		carry(a, b, &plain);
		carry(b, a, &plain);
	}
	REQUIRE(tls_ready(a) && tls_ready(b) && plain == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls *server, *client, *tls;
	size_t split, plain = 0;
	int r = TLS_OK, before;

	if (!server_context)
		make_contexts();
	if (size < 2)
		return 0;
	REQUIRE(tls_create(&server, server_context, NULL) == 0 && tls_create(&client, client_context, "localhost") == 0);
	if (data[0] & 2)
		shake_hands(client, server);
	tls = data[0] & 1 ? server : client;
	split = data[1] ? data[1] : SIZE_MAX;
	for (size_t at = 2; at < size; at += split < size - at ? split : size - at) {
		before = r;
		r = tls_feed(tls, span_make(data + at, split < size - at ? split : size - at), on_plain, &plain);
		REQUIRE(before >= 0 || r < 0);
		REQUIRE((r < 0) == tls_failed(tls));
		REQUIRE((r < 0) == (tls_error(tls)[0] != '\0'));
	}
	REQUIRE(plain == 0);
	REQUIRE(tls_output_bytes(tls) <= OUTPUT_MAX);
	tls_destroy(server);
	tls_destroy(client);
	return 0;
}
