/*
 * Shows TLS between spans, without sockets: two ends whose bytes this test carries, in splits of its choice, or one end
 * against OpenSSL used directly (to offer another ALPN). What is decrypted must equal what was written; each refusal must
 * say what to do.
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "tests/unit/net/keys.h"
#include "tests/unit/net/tls_ends.h"

static void bytes_arrive_in_any_split(void **state)
{
	static const size_t splits[] = { 1, 2, 5, 6, 1000, SIZE_MAX };
	static uint8_t sent[40000];

	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 31 >> 3);
	for (size_t i = 0; i < sizeof(splits) / sizeof(splits[0]); i++) {
		struct end client, server;

		clients_end(&client, "ca", NULL, "localhost");
		servers_end(&server, "server", NULL, false);
		ends_talk(&client, &server, splits[i]);
		assert_true(tls_ready(client.tls) && tls_ready(server.tls));
		for (size_t at = 0, n = 1; at < sizeof(sent); at += n, n = n * 3 < sizeof(sent) - at ? n * 3 : sizeof(sent) - at)
			assert_int_equal(end_put(&client, span_make(sent + at, n)), 0);
		assert_int_equal(end_put(&server, span_make(sent, 100)), 0);
		ends_talk(&client, &server, splits[i]);
		assert_true(span_equal(buffer_span(&server.received), span_make(sent, sizeof(sent))));
		assert_true(span_equal(buffer_span(&client.received), span_make(sent, 100)));
		tls_shutdown(client.tls);
		ends_talk(&client, &server, splits[i]);
		assert_int_equal(server.result, TLS_CLOSED);
		end_fini(&client);
		end_fini(&server);
	}
}

/* The budget of a push that has nothing to send: 4 KB with P-256 certificates on both sides. */
static void the_handshake_is_small(void **state)
{
	struct end client, server;

	clients_end(&client, "ca", "client", "localhost");
	servers_end(&server, "server", "ca", true);
	ends_talk(&client, &server, SIZE_MAX);
	assert_true(tls_ready(client.tls) && tls_ready(server.tls));
	print_message("handshake with client certificate: client %zu, server %zu bytes\n", client.carried, server.carried);
	assert_true(client.carried + server.carried < 2500);
	end_fini(&client);
	end_fini(&server);
}

/* What tls_output lent stays in place while more is written, as a send in flight needs it. */
static void output_stays_in_place(void **state)
{
	static uint8_t sent[100000];
	struct end client, server;
	struct span lent;
	uint8_t *copy;

	clients_end(&client, "ca", NULL, "localhost");
	servers_end(&server, "server", NULL, false);
	ends_talk(&client, &server, SIZE_MAX);
	assert_int_equal(end_put(&client, span_make(sent, 1000)), 0);
	lent = tls_output(client.tls);
	copy = malloc(lent.size);
	assert_non_null(copy);
	memcpy(copy, lent.data, lent.size);
	assert_int_equal(end_put(&client, span_make(sent, sizeof(sent))), 0);
	assert_memory_equal(lent.data, copy, lent.size);
	assert_ptr_equal(tls_output(client.tls).data, lent.data);
	assert_true(tls_output_bytes(client.tls) > lent.size + sizeof(sent));
	ends_talk(&client, &server, SIZE_MAX);
	assert_int_equal(server.received.size, 1000 + sizeof(sent));
	tls_trim(client.tls);
	assert_int_equal(tls_output_bytes(client.tls), 0);
	assert_int_equal(end_put(&client, span_make(sent, 10)), 0);
	ends_talk(&client, &server, SIZE_MAX);
	assert_int_equal(server.received.size, 1010 + sizeof(sent));
	free(copy);
	end_fini(&client);
	end_fini(&server);
}

static void output_is_bounded(void **state)
{
	static uint8_t sent[65536];
	struct end client, server;
	int r = 0;

	clients_end(&client, "ca", NULL, "localhost");
	servers_end(&server, "server", NULL, false);
	ends_talk(&client, &server, SIZE_MAX);
	for (unsigned i = 0; i < 1000 && r == 0; i++)
		r = end_put(&client, span_make(sent, sizeof(sent)));
	assert_int_equal(r, -EPROTO);
	assert_true(tls_output_bytes(client.tls) <= 1u << 20);
	assert_true(tls_failed(client.tls));
	end_fini(&client);
	end_fini(&server);
}

/* Before a key has been used for too much there is another: of 2^24 records a few are seen here. */
static void a_key_is_not_used_for_ever(void **state)
{
	static const uint64_t before = (1u << 24) - 2;
	struct end client, server;

	clients_end(&client, "ca", NULL, "localhost");
	servers_end(&server, "server", NULL, false);
	ends_talk(&client, &server, SIZE_MAX);
	client.tls->sealing.records = server.tls->opening.keys.records = before;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(end_put(&client, span_text("hello")), 0);
	ends_talk(&client, &server, SIZE_MAX);
	assert_int_equal(server.received.size, 5 * 5);
	assert_int_equal(client.tls->sealing.records, 3);
	assert_int_equal(server.tls->opening.keys.records, 3);
	end_fini(&client);
	end_fini(&server);
}

static void the_peers_name_is_known(void **state)
{
	char organisation[256], common_name[256];
	struct end client, server;

	clients_end(&client, "ca", "client", "127.0.0.1");
	servers_end(&server, "server", "ca", true);
	ends_talk(&client, &server, SIZE_MAX);
	assert_true(tls_peer(server.tls, organisation, common_name));
	assert_string_equal(organisation, "acme");
	assert_string_equal(common_name, "ci");
	end_fini(&client);
	end_fini(&server);
	/* Asked for, not required, not given. */
	clients_end(&client, "ca", NULL, "127.0.0.1");
	servers_end(&server, "server", "ca", false);
	ends_talk(&client, &server, SIZE_MAX);
	assert_true(tls_ready(server.tls));
	assert_false(tls_peer(server.tls, organisation, common_name));
	end_fini(&client);
	end_fini(&server);
	clients_end(&client, "ca", "nobody", "localhost");
	servers_end(&server, "server", "ca", true);
	ends_talk(&client, &server, SIZE_MAX);
	assert_true(tls_peer(server.tls, organisation, common_name));
	assert_string_equal(organisation, "");
	assert_string_equal(common_name, "nobody");
	end_fini(&client);
	end_fini(&server);
}

static void refusals_say_what_to_do(void **state)
{
	static const struct {
		const char *ca, *client, *name, *server, *server_ca;
		bool required;
		const char *client_says, *server_says;   /* NULL: that side is content, or was told by an alert only */
	} cases[] = {
		{ "other-ca", NULL, "localhost", "server", NULL, false, "is ca.pem of this gateway given? SLUICE_TLS_CA",
		  "needs our ca.pem" },
		{ "ca", NULL, "localhost", "expired", NULL, false, "has expired", "has expired" },
		{ "ca", NULL, "localhost", "misnamed", NULL, false, "not made out for \"localhost\"", "our certificate" },
		{ "ca", NULL, "127.0.0.1", "misnamed", NULL, false, "not made out for \"127.0.0.1\"", "our certificate" },
		{ "ca", NULL, "gateway.example", "server", NULL, false, "SLUICE_TLS_SERVER_NAME", "our certificate" },
		{ "ca", NULL, "localhost", "client", NULL, false, "not one for a server", "not one for a server" },
		{ "ca", NULL, "localhost", "server", "ca", true, "SLUICE_TLS_CERT", "gave no certificate" },
		{ "ca", "stranger", "localhost", "server", "ca", true, "that the gateway's CA issued", "client certificate refused" },
		{ "ca", "stranger", "localhost", "server", "ca", false, "that the gateway's CA issued", "client certificate refused" },
		{ "ca", "late-client", "localhost", "server", "ca", true, "issue a new one", "client certificate refused" },
		{ "ca", "server", "localhost", "server", "ca", true, "not one for a client", "client certificate refused" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct end client, server;

		clients_end(&client, cases[i].ca, cases[i].client, cases[i].name);
		servers_end(&server, cases[i].server, cases[i].server_ca, cases[i].required);
		ends_talk(&client, &server, SIZE_MAX);
		if (!strstr(tls_error(client.tls), cases[i].client_says) || !strstr(tls_error(server.tls), cases[i].server_says))
			fail_msg("case %zu: client: %s; server: %s", i, tls_error(client.tls), tls_error(server.tls));
		assert_int_equal(client.result, -EPROTO);
		assert_int_equal(server.result, -EPROTO);
		end_fini(&client);
		end_fini(&server);
	}
}

/* A gateway at a buildkitd: who reads it has named that to the gateway, and has no SLUICE_TLS_CA to set. */
static void refusals_of_a_buildkitd_say_what_to_do(void **state)
{
	static const struct {
		const char *ca, *client, *name, *server, *server_ca;
		const char *says;
	} cases[] = {
		{ "other-ca", NULL, "localhost", "server", NULL, "is ca= in --buildkit the CA of the buildkitd's certificate?" },
		{ "ca", NULL, "localhost", "expired", NULL, "does the buildkitd need a new one" },
		{ "ca", NULL, "localhost", "misnamed", NULL, "--buildkit must name the buildkitd as its certificate does" },
		{ "ca", NULL, "localhost", "server", "ca", "the buildkitd requires a client certificate" },
		{ "ca", "stranger", "localhost", "server", "ca", "its --tlscacert must name that" },
		{ "ca", "late-client", "localhost", "server", "ca", "(cert= in --buildkit) has expired" },
		{ "ca", "server", "localhost", "server", "ca", "(cert= in --buildkit) is not one for a client" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tls_config config = {
			.to_executor = true, .ca_path = keys_path(cases[i].ca, "ca.pem"),
			.certificate_path = cases[i].client ? keys_path(cases[i].client, "cert.pem") : NULL,
			.key_path = cases[i].client ? keys_path(cases[i].client, "key.pem") : NULL,
		};
		struct end client, server;

		end_init(&client, &config, cases[i].name);
		servers_end(&server, cases[i].server, cases[i].server_ca, cases[i].server_ca);
		ends_talk(&client, &server, SIZE_MAX);
		if (!strstr(tls_error(client.tls), cases[i].says) || strstr(tls_error(client.tls), "SLUICE_"))
			fail_msg("case %zu: %s", i, tls_error(client.tls));
		end_fini(&client);
		end_fini(&server);
	}
}

/* A client made with OpenSSL alone; `alpn` in wire form. Returns what the server selected, "" for none, NULL: refused. */
static const char *alpn_result(const char *alpn, size_t alpn_size, struct end *server)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(context);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	static char selected[16];
	const unsigned char *name;
	unsigned name_size;
	bool done = false;
	char *data;
	long size;

	servers_end(server, "server", NULL, false);
	SSL_set_bio(ssl, in, out);
	if (alpn)
		assert_int_equal(SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, (unsigned)alpn_size), 0);
	for (unsigned round = 0; round < 5 && server->result == TLS_OK; round++) {
		done = SSL_connect(ssl) == 1;
		size = BIO_get_mem_data(out, &data);
		server->result = tls_feed(server->tls, span_make(data, (size_t)size), end_on_plain, server);
		(void)BIO_reset(out);
		BIO_write(in, tls_output(server->tls).data, (int)tls_output(server->tls).size);
		tls_sent(server->tls, tls_output(server->tls).size);
	}
	SSL_get0_alpn_selected(ssl, &name, &name_size);
	snprintf(selected, sizeof(selected), "%.*s", (int)name_size, (const char *)name);
	done = done && tls_ready(server->tls);
	SSL_free(ssl);
	SSL_CTX_free(context);
	return done ? selected : NULL;
}

static void alpn_is_h2_or_none(void **state)
{
	struct end server;

	assert_string_equal(alpn_result("\2h2", 3, &server), "h2");
	end_fini(&server);
	assert_string_equal(alpn_result("\10http/1.1\2h2", 12, &server), "h2");
	end_fini(&server);
	assert_string_equal(alpn_result(NULL, 0, &server), "");
	end_fini(&server);
	assert_null(alpn_result("\10http/1.1", 9, &server));
	assert_non_null(strstr(tls_error(server.tls), "h2 is needed"));
	end_fini(&server);
	assert_null(alpn_result("\2h1\3h2c", 7, &server));
	end_fini(&server);
}

static void what_is_no_tls_is_named(void **state)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", get[] = "GET / HTTP/1.1\r\n\r\n",
	                  settings[] = "\0\0\0\4\0\0\0\0\0";
	struct end client, server;

	servers_end(&server, "server", NULL, false);
	assert_int_equal(tls_feed(server.tls, span_text(preface), end_on_plain, &server), -EPROTO);
	assert_non_null(strstr(tls_error(server.tls), "grpcs://"));
	/* One alert, so that a client can tell what it met. */
	assert_int_equal(tls_output(server.tls).size, 7);
	assert_int_equal(tls_output(server.tls).data[0], 21);
	end_fini(&server);
	servers_end(&server, "server", NULL, false);
	assert_int_equal(tls_feed(server.tls, span_text(get), end_on_plain, &server), -EPROTO);
	assert_non_null(strstr(tls_error(server.tls), "grpcs://"));
	assert_int_equal(tls_feed(server.tls, span_text(get), end_on_plain, &server), -EPROTO);
	end_fini(&server);
	clients_end(&client, "ca", NULL, "localhost");
	assert_int_equal(tls_feed(client.tls, span_make(settings, 9), end_on_plain, &client), -EPROTO);
	assert_non_null(strstr(tls_error(client.tls), "grpc://"));
	end_fini(&client);
}

static void damage_is_noticed(void **state)
{
	struct end client, server;
	struct span out;
	uint8_t *copy;

	clients_end(&client, "ca", NULL, "localhost");
	servers_end(&server, "server", NULL, false);
	ends_talk(&client, &server, SIZE_MAX);
	assert_int_equal(end_put(&client, span_text("hello")), 0);
	out = tls_output(client.tls);
	copy = malloc(out.size);
	memcpy(copy, out.data, out.size);
	copy[out.size - 1] ^= 1;
	assert_int_equal(tls_feed(server.tls, span_make(copy, out.size), end_on_plain, &server), -EPROTO);
	assert_int_equal(server.received.size, 0);
	assert_non_null(strstr(tls_error(server.tls), "damaged"));
	free(copy);
	end_fini(&client);
	end_fini(&server);
}

static void bad_files_are_named(void **state)
{
	const char *nowhere = "/nonexistent/x.pem", *key = keys_path("server", "key.pem");
	const char *certificate = keys_path("server", "cert.pem"), *other_key = keys_path("client", "key.pem");
	struct tls_context *context = NULL;
	struct tls_config config;
	char why[256];

	config = (struct tls_config){ .server = true, .certificate_path = nowhere, .key_path = key };
	assert_int_equal(tls_context_create(&context, &config, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, nowhere));
	config = (struct tls_config){ .server = true, .certificate_path = certificate, .key_path = nowhere };
	assert_int_equal(tls_context_create(&context, &config, why, sizeof(why)), -ENOENT);
	config = (struct tls_config){ .server = true, .certificate_path = key, .key_path = key };
	assert_int_equal(tls_context_create(&context, &config, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, key));
	config = (struct tls_config){ .server = true, .certificate_path = certificate, .key_path = other_key };
	assert_int_equal(tls_context_create(&context, &config, why, sizeof(why)), -EINVAL);
	config = (struct tls_config){ .server = true };
	assert_int_equal(tls_context_create(&context, &config, why, sizeof(why)), -EINVAL);
	config = (struct tls_config){ .certificate_path = certificate };
	assert_int_equal(tls_context_create(&context, &config, why, sizeof(why)), -EINVAL);
	config = (struct tls_config){ .ca_path = nowhere };
	assert_int_equal(tls_context_create(&context, &config, why, sizeof(why)), -ENOENT);
	config = keys_server("server", NULL, true);
	assert_int_equal(tls_context_create(&context, &config, why, sizeof(why)), -EINVAL);
	assert_null(context);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_arrive_in_any_split),
		cmocka_unit_test(the_handshake_is_small),
		cmocka_unit_test(output_stays_in_place),
		cmocka_unit_test(output_is_bounded),
		cmocka_unit_test(a_key_is_not_used_for_ever),
		cmocka_unit_test(the_peers_name_is_known),
		cmocka_unit_test(refusals_say_what_to_do),
		cmocka_unit_test(refusals_of_a_buildkitd_say_what_to_do),
		cmocka_unit_test(alpn_is_h2_or_none),
		cmocka_unit_test(what_is_no_tls_is_named),
		cmocka_unit_test(damage_is_noticed),
		cmocka_unit_test(bad_files_are_named),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
