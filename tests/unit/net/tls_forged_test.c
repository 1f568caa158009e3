/*
 * Shows what an end of TLS 1.3 makes of records that its peer seals by hand, to say what no library says: out of order, of no known
 * type, too long, behind the end. Each case is one handshake between two ends of ours; then the test speaks with the client's key.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include "gateway/net/tls_seal.h"
#include "tests/unit/net/keys.h"
#include "tests/unit/net/tls_ends.h"

struct forger {
	struct end client, server;
	struct tls_keys keys;            /* the client's */
	struct buffer wire;
};

static void forger_init(struct forger *forger)
{
	struct span secret;

	*forger = (struct forger){ .wire = buffer_heap(1u << 20) };
	clients_end(&forger->client, "ca", NULL, "localhost");
	servers_end(&forger->server, "server", NULL, false);
	ends_talk(&forger->client, &forger->server, SIZE_MAX);
	assert_true(forger->server.tls->opens);
	secret = span_make(forger->client.tls->sealing.secret, 32);
	assert_int_equal(tls_keys_init(&forger->keys, 0x1301, secret, true), 0);
}

static void forger_fini(struct forger *forger)
{
	tls_keys_fini(&forger->keys);
	buffer_fini(&forger->wire);
	end_fini(&forger->client);
	end_fini(&forger->server);
}

static void forge(struct forger *forger, uint8_t type, struct span content)
{
	assert_int_equal(tls_seal_put(&forger->keys, type, (struct span){ 0 }, content, &forger->wire), 0);
}

#define FORGE(forger, type, ...) \
	forge(forger, type, span_make(((const uint8_t[]){ __VA_ARGS__ }), sizeof((const uint8_t[]){ __VA_ARGS__ })))

/* All that was forged arrives. */
static int arrive(struct forger *forger)
{
	struct end *server = &forger->server;

	server->result = tls_feed(server->tls, buffer_span(&forger->wire), end_on_plain, server);
	buffer_clear(&forger->wire);
	return server->result;
}

static void nothing_comes_between_parts_of_a_message(void **state)
{
	struct forger forger;

	forger_init(&forger);
	FORGE(&forger, RECORD_HANDSHAKE, 24, 0);
	FORGE(&forger, RECORD_DATA, 'x');
	assert_int_equal(arrive(&forger), -EPROTO);
	assert_int_equal(forger.server.received.size, 0);
	forger_fini(&forger);
}

static void other_types_are_refused(void **state)
{
	static const uint8_t types[] = { 1, 20, 24, 255 };

	for (size_t i = 0; i < sizeof(types); i++) {
		struct forger forger;

		forger_init(&forger);
		FORGE(&forger, types[i], 1);
		assert_int_equal(arrive(&forger), -EPROTO);
		assert_non_null(strstr(tls_error(forger.server.tls), "unexpected message"));
		forger_fini(&forger);
	}
}

static void nothing_comes_behind_the_end(void **state)
{
	struct forger forger;

	forger_init(&forger);
	FORGE(&forger, RECORD_DATA, 'x');
	FORGE(&forger, RECORD_ALERT, 1, 90);             /* user_canceled: its close_notify follows */
	FORGE(&forger, RECORD_DATA, 'y');
	FORGE(&forger, RECORD_ALERT, 1, 0);
	FORGE(&forger, RECORD_DATA, 'z');
	assert_int_equal(arrive(&forger), TLS_CLOSED);
	assert_true(span_is(buffer_span(&forger.server.received), "xy"));
	FORGE(&forger, RECORD_DATA, 'z');
	assert_int_equal(arrive(&forger), TLS_CLOSED);
	assert_int_equal(forger.server.received.size, 2);
	forger_fini(&forger);
}

static void alerts_have_two_bytes(void **state)
{
	struct forger forger;

	forger_init(&forger);
	FORGE(&forger, RECORD_ALERT, 1, 0, 1, 0);
	assert_int_equal(arrive(&forger), -EPROTO);
	forger_fini(&forger);
	forger_init(&forger);
	FORGE(&forger, RECORD_ALERT, 2, 80);
	assert_int_equal(arrive(&forger), -EPROTO);
	assert_non_null(strstr(tls_error(forger.server.tls), "internal error"));
	forger_fini(&forger);
}

/* 2^14 bytes of content and a type; sealed with its own type as the last byte of what is called content here. */
static void content_has_a_bound(void **state)
{
	static uint8_t content[TLS_RECORD_BYTES + 1];
	struct forger forger;

	memset(content, RECORD_DATA, sizeof(content));
	forger_init(&forger);
	forge(&forger, RECORD_DATA, span_make(content, TLS_RECORD_BYTES));
	assert_int_equal(arrive(&forger), TLS_OK);
	assert_int_equal(forger.server.received.size, TLS_RECORD_BYTES);
	/* One byte more than tls_seal_put() makes. */
	assert_true(tls_keys_begin(&forger.keys, (const uint8_t[]){ 23, 3, 3, 0x40, 0x12 }));
	forger.wire.size = 0;
	buffer_put(&forger.wire, (const uint8_t[]){ 23, 3, 3, 0x40, 0x12 }, 5);
	buffer_put(&forger.wire, content, sizeof(content));
	buffer_put(&forger.wire, content, 1 + 16);
	assert_true(tls_keys_take(&forger.keys, forger.wire.data + 5, span_make(content, sizeof(content))));
	assert_true(tls_keys_take(&forger.keys, forger.wire.data + 5 + sizeof(content), span_make(content, 1)));
	assert_true(tls_keys_end(&forger.keys, forger.wire.data + 5 + sizeof(content) + 1));
	assert_int_equal(arrive(&forger), -EPROTO);
	assert_int_equal(forger.server.received.size, TLS_RECORD_BYTES);
	forger_fini(&forger);
}

static int ask_for_updates(struct forger *forger, unsigned count)
{
	int r = TLS_OK;

	for (unsigned i = 0; i < count && r == TLS_OK; i++) {
		FORGE(forger, RECORD_HANDSHAKE, 24, 0, 0, 1, 1);
		assert_int_equal(tls_keys_update(&forger->keys), 0);
		r = arrive(forger);
	}
	return r;
}

/* Nothing but empty data between them changes nothing; real data does, and each record that was sent allows one more. */
static void updates_have_a_bound(void **state)
{
	struct forger forger;

	forger_init(&forger);
	assert_int_equal(ask_for_updates(&forger, 20), TLS_OK);
	forge(&forger, RECORD_DATA, (struct span){ 0 });
	assert_int_equal(ask_for_updates(&forger, 12), TLS_OK);
	assert_int_equal(ask_for_updates(&forger, 1), -EPROTO);
	forger_fini(&forger);

	forger_init(&forger);
	assert_int_equal(ask_for_updates(&forger, 32), TLS_OK);
	FORGE(&forger, RECORD_DATA, 'x');
	assert_int_equal(ask_for_updates(&forger, 32), TLS_OK);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(tls_write(forger.server.tls, span_text("hello"), (struct span){ 0 }), 0);
	assert_int_equal(ask_for_updates(&forger, 100), TLS_OK);
	assert_int_equal(ask_for_updates(&forger, 1), -EPROTO);
	forger_fini(&forger);
}

/* RFC 8446 section 4.6.3: one KeyUpdate answers all that came together, and before any data. */
static void updates_are_answered(void **state)
{
	uint8_t before[32], once[32];
	struct forger forger;
	struct tls_keys *sealing;

	forger_init(&forger);
	sealing = &forger.server.tls->sealing;
	memcpy(before, sealing->secret, sizeof(before));
	FORGE(&forger, RECORD_HANDSHAKE, 24, 0, 0, 1, 0);
	assert_int_equal(tls_keys_update(&forger.keys), 0);
	assert_int_equal(arrive(&forger), TLS_OK);
	assert_memory_equal(sealing->secret, before, sizeof(before));
	assert_int_equal(tls_output_bytes(forger.server.tls), 0);
	for (unsigned i = 0; i < 3; i++) {
		FORGE(&forger, RECORD_HANDSHAKE, 24, 0, 0, 1, 1);
		assert_int_equal(tls_keys_update(&forger.keys), 0);
	}
	assert_int_equal(arrive(&forger), TLS_OK);
	assert_memory_not_equal(sealing->secret, before, sizeof(before));
	memcpy(once, sealing->secret, sizeof(once));
	assert_int_equal(tls_output_bytes(forger.server.tls), 5 + 5 + 1 + 16);
	assert_int_equal(tls_write(forger.server.tls, span_text("hello"), (struct span){ 0 }), 0);
	ends_carry(&forger.server, &forger.client, SIZE_MAX);
	assert_true(span_is(buffer_span(&forger.client.received), "hello"));
	assert_memory_equal(sealing->secret, once, sizeof(once));
	forger_fini(&forger);
}

static void trim(struct end *end)
{
	tls_trim(end->tls);
}

/* A record in two parts lies in room of its own, which stays while it is lent, and goes when nothing is in progress. */
static void room_stays_while_it_is_lent(void **state)
{
	static uint8_t content[10000];
	struct forger forger;

	memset(content, 'x', sizeof(content));
	forger_init(&forger);
	forger.server.meanwhile = trim;
	forge(&forger, RECORD_DATA, span_make(content, sizeof(content)));
	for (size_t at = 0; at < forger.wire.size; at += 5000)
		assert_int_equal(tls_feed(forger.server.tls, span_make(forger.wire.data + at, forger.wire.size - at < 5000 ?
		                                                       forger.wire.size - at : 5000), end_on_plain, &forger.server), TLS_OK);
	assert_int_equal(forger.server.received.size, sizeof(content));
	assert_non_null(forger.server.tls->opening.part);
	tls_trim(forger.server.tls);
	assert_null(forger.server.tls->opening.part);
	forger_fini(&forger);
}

/* What is sealed under keys that could not be made new is nothing: their numbers would come twice. */
static void keys_without_a_cipher_seal_nothing(void **state)
{
	struct forger forger;

	forger_init(&forger);
	EVP_CIPHER_CTX_free(forger.client.tls->sealing.cipher);
	forger.client.tls->sealing.cipher = NULL;
	assert_int_equal(end_put(&forger.client, span_text("hello")), -EPROTO);
	assert_int_equal(tls_output_bytes(forger.client.tls), 0);
	assert_true(tls_failed(forger.client.tls));
	forger_fini(&forger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_comes_between_parts_of_a_message),
		cmocka_unit_test(other_types_are_refused),
		cmocka_unit_test(nothing_comes_behind_the_end),
		cmocka_unit_test(alerts_have_two_bytes),
		cmocka_unit_test(content_has_a_bound),
		cmocka_unit_test(updates_have_a_bound),
		cmocka_unit_test(updates_are_answered),
		cmocka_unit_test(room_stays_while_it_is_lent),
		cmocka_unit_test(keys_without_a_cipher_seal_nothing),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
