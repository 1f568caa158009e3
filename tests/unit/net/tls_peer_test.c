/*
 * Shows one end of ours against OpenSSL used directly, as client and as server, with each suite of TLS 1.3 and with TLS 1.2: it reads
 * our records, ours reads its; it may ask for other keys at any time; each farewell and each complaint arrives.
 */
#include "gateway/net/tls_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>
#include "tests/unit/net/keys.h"

struct pair {
	struct tls_context *context;
	struct tls *tls;
	struct buffer received;          /* by tls */
	int result;                      /* of the last feed */
	SSL_CTX *peer_context;
	SSL *peer;
	BIO *in, *out;                   /* the peer's */
	struct buffer taken;             /* by the peer */
};

struct policy {
	const char *name;
	int version;
	const char *ciphers;
};

static const struct policy policies[] = {
	{ "TLS 1.3 with AES-128", TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
	{ "TLS 1.3 with AES-256", TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384" },
	{ "TLS 1.3 with ChaCha20", TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },
	{ "TLS 1.2 with AES-128", TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256" },
	{ "TLS 1.2 with ChaCha20", TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305" },
};
#define POLICIES_COUNT (sizeof(policies) / sizeof(policies[0]))

static void on_plain(void *context, struct span data)
{
	struct pair *pair = context;

	buffer_put(&pair->received, data.data, data.size);
	assert_false(pair->received.failed);
}

/* Carries bytes until none wait, and reads what the peer got. */
static void talk(struct pair *pair)
{
	struct span out;
	size_t n;
	char *data;
	bool any;

	do {
		any = false;
		while ((out = tls_output(pair->tls)).size) {
			assert_int_equal(BIO_write(pair->in, out.data, (int)out.size), out.size);
			tls_sent(pair->tls, out.size);
			any = true;
		}
		if (!SSL_is_init_finished(pair->peer))
			(void)SSL_do_handshake(pair->peer);
		while (SSL_is_init_finished(pair->peer) && buffer_reserve(&pair->taken, TLS_RECORD_BYTES) &&
		       SSL_read_ex(pair->peer, pair->taken.data + pair->taken.size, TLS_RECORD_BYTES, &n) == 1)
			pair->taken.size += n;
		n = (size_t)BIO_get_mem_data(pair->out, &data);
		if (n && pair->result == TLS_OK)
			pair->result = tls_feed(pair->tls, span_make(data, n), on_plain, pair);
		any |= n > 0;
		(void)BIO_reset(pair->out);
	} while (any);
}

static SSL_CTX *peer_context(const struct policy *policy, bool server)
{
	SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	assert_non_null(context);
	assert_int_equal(SSL_CTX_set_min_proto_version(context, policy->version), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(context, policy->version), 1);
	if (policy->version == TLS1_3_VERSION)
		assert_int_equal(SSL_CTX_set_ciphersuites(context, policy->ciphers), 1);
	else
		assert_int_equal(SSL_CTX_set_cipher_list(context, policy->ciphers), 1);
	if (server) {
		assert_int_equal(SSL_CTX_use_certificate_file(context, keys_path("server", "cert.pem"), SSL_FILETYPE_PEM), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey_file(context, keys_path("server", "key.pem"), SSL_FILETYPE_PEM), 1);
	}
	return context;
}

static void pair_init(struct pair *pair, const struct policy *policy, bool server, uint8_t fragment)
{
	struct tls_config config = { .ca_path = keys_path("ca", "ca.pem") };
	char why[256] = "";

	*pair = (struct pair){ .received = buffer_heap(16u << 20), .taken = buffer_heap(16u << 20) };
	if (server)
		config = keys_server("server", NULL, false);
	if (tls_context_create(&pair->context, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(tls_create(&pair->tls, pair->context, server ? NULL : "localhost"), 0);
	pair->peer_context = peer_context(policy, !server);
	pair->peer = SSL_new(pair->peer_context);
	pair->in = BIO_new(BIO_s_mem()), pair->out = BIO_new(BIO_s_mem());
	SSL_set_bio(pair->peer, pair->in, pair->out);
	assert_int_equal(SSL_set_tlsext_max_fragment_length(pair->peer, fragment), 1);
	if (server)
		SSL_set_connect_state(pair->peer);
	else
		SSL_set_accept_state(pair->peer);
	talk(pair);
	assert_true(tls_ready(pair->tls) && SSL_is_init_finished(pair->peer));
	assert_int_equal(SSL_version(pair->peer), policy->version);
}

static void pair_fini(struct pair *pair)
{
	SSL_free(pair->peer);
	SSL_CTX_free(pair->peer_context);
	tls_destroy(pair->tls);
	tls_context_destroy(pair->context);
	buffer_fini(&pair->received);
	buffer_fini(&pair->taken);
	ERR_clear_error();
}

/* Records of all kinds of sizes and of splits, and something back. */
static void say_much(struct pair *pair)
{
	static uint8_t said[3 * TLS_RECORD_BYTES];
	size_t at = 0, n, head, written;

	for (size_t i = 0; i < sizeof(said); i++)
		said[i] = (uint8_t)(i * 31 >> 3);
	pair->taken.size = pair->received.size = 0;
	for (unsigned round = 0; at < sizeof(said); round++, at += n) {
		n = round % 3 == 0 ? 1 + round : round % 3 == 1 ? TLS_RECORD_BYTES : 5000 + round;
		n = n < sizeof(said) - at ? n : sizeof(said) - at;
		head = round % 4 == 0 ? 0 : round % 4 == 1 ? 9 : round % 4 == 2 ? n / 2 : n;
		head = head < n ? head : n;
		assert_int_equal(tls_write(pair->tls, span_make(said + at, head), span_make(said + at + head, n - head)), 0);
	}
	assert_int_equal(SSL_write_ex(pair->peer, said, 20000, &written), 1);
	talk(pair);
	assert_true(span_equal(buffer_span(&pair->taken), span_make(said, sizeof(said))));
	assert_true(span_equal(buffer_span(&pair->received), span_make(said, 20000)));
}

static void for_each(void (*show)(struct pair *pair, const struct policy *policy))
{
	for (size_t i = 0; i < 2 * POLICIES_COUNT; i++) {
		const struct policy *policy = &policies[i / 2];
		struct pair pair;

		print_message("ours is the %s: %s\n", i % 2 ? "server" : "client", policy->name);
		pair_init(&pair, policy, i % 2, TLSEXT_max_fragment_length_DISABLED);
		show(&pair, policy);
		pair_fini(&pair);
	}
}

/* What TLS 1.3 sends is encrypted from where it lies: none of it is copied. */
static void show_bytes(struct pair *pair, const struct policy *policy)
{
	struct tls_copies before = tls_copies(pair->tls);

	say_much(pair);
	assert_int_equal(pair->tls->seals && pair->tls->opens, policy->version == TLS1_3_VERSION);
	if (policy->version == TLS1_3_VERSION) {
		assert_int_equal(tls_copies(pair->tls).sent, before.sent);
		assert_int_equal(tls_copies(pair->tls).received, before.received);
	}
	tls_shutdown(pair->tls);
	talk(pair);
	assert_int_equal(SSL_get_shutdown(pair->peer), SSL_RECEIVED_SHUTDOWN);
}

static void bytes_go_both_ways(void **state)
{
	for_each(show_bytes);
}

/* RFC 8446 section 4.6.3: whoever is asked answers with a KeyUpdate of its own before anything else. */
static void show_new_keys(struct pair *pair, const struct policy *policy)
{
	if (policy->version != TLS1_3_VERSION)
		return;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(SSL_key_update(pair->peer, i == 1 ? SSL_KEY_UPDATE_NOT_REQUESTED : SSL_KEY_UPDATE_REQUESTED), 1);
		say_much(pair);
	}
}

static void the_peer_may_ask_for_new_keys(void **state)
{
	for_each(show_new_keys);
}

/* RFC 6066 section 4: records of that length are OpenSSL's to make, also with TLS 1.3. */
static void short_fragments_are_left_to_openssl(void **state)
{
	struct pair pair;

	pair_init(&pair, &policies[0], true, TLSEXT_max_fragment_length_1024);
	assert_false(pair.tls->seals || pair.tls->opens);
	assert_int_equal(pair.tls->ours.size + pair.tls->theirs.size, 0);
	say_much(&pair);
	assert_int_equal(SSL_key_update(pair.peer, SSL_KEY_UPDATE_REQUESTED), 1);
	say_much(&pair);
	pair_fini(&pair);
}

/* That is all it has to say. */
static void show_flood(struct pair *pair, const struct policy *policy)
{
	if (policy->version != TLS1_3_VERSION)
		return;
	for (unsigned i = 0; i < 100 && pair->result == TLS_OK; i++) {
		assert_int_equal(SSL_key_update(pair->peer, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(pair->peer), 1);
		talk(pair);
		if (i < 32)
			assert_int_equal(pair->result, TLS_OK);
	}
	assert_int_equal(pair->result, -EPROTO);
}

static void a_flood_of_new_keys_ends(void **state)
{
	for_each(show_flood);
}

static void show_complaint(struct pair *pair, const struct policy *policy)
{
	static const uint8_t nonsense[5 + 40] = { 23, 3, 3, 0, 40 };
	char byte;
	size_t n;

	(void)policy;
	assert_int_equal(tls_feed(pair->tls, span_make(nonsense, sizeof(nonsense)), on_plain, pair), -EPROTO);
	ERR_clear_error();
	while (tls_output(pair->tls).size) {
		struct span out = tls_output(pair->tls);

		assert_int_equal(BIO_write(pair->in, out.data, (int)out.size), out.size);
		tls_sent(pair->tls, out.size);
	}
	assert_int_equal(SSL_read_ex(pair->peer, &byte, 1, &n), 0);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
}

static void complaints_arrive(void **state)
{
	for_each(show_complaint);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_go_both_ways),
		cmocka_unit_test(the_peer_may_ask_for_new_keys),
		cmocka_unit_test(short_fragments_are_left_to_openssl),
		cmocka_unit_test(a_flood_of_new_keys_ends),
		cmocka_unit_test(complaints_arrive),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
