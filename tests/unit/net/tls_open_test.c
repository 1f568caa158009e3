/*
 * Shows records of TLS 1.3 that are received, sealed by hand: in any split, padded, changed, too long, of no type, none at all; and
 * what a peer may say beside data. That OpenSSL's are read: tls_peer_test.c.
 */
#include "gateway/net/tls_open.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include "gateway/net/tls.h"
#include "gateway/net/tls_alert.h"
#include "gateway/net/tls_post.h"
#include "gateway/net/tls_seal.h"

static const uint8_t secret[32] = { 7, 7, 7 };
static uint8_t room[TLS_OPEN_ROOM_BYTES], said[TLS_RECORD_BYTES];

struct line {
	struct tls_keys keys;
	struct tls_open open;
	struct buffer wire;
};

static void line_init(struct line *line)
{
	*line = (struct line){ .wire = buffer_heap(1u << 20) };
	assert_int_equal(tls_keys_init(&line->keys, 0x1301, span_make(secret, sizeof(secret)), true), 0);
	assert_int_equal(tls_open_init(&line->open, 0x1301, span_make(secret, sizeof(secret))), 0);
	for (size_t i = 0; i < sizeof(said); i++)
		said[i] = (uint8_t)(i * 31 >> 3);
}

static void line_fini(struct line *line)
{
	tls_keys_fini(&line->keys);
	tls_open_fini(&line->open);
	buffer_fini(&line->wire);
}

static void put(struct line *line, uint8_t type, struct span content)
{
	assert_int_equal(tls_seal_put(&line->keys, type, content, (struct span){ 0 }, &line->wire), 0);
}

/* What all that waits comes to, as the last call says it. */
static int receive(struct line *line, struct tls_record *record)
{
	struct span rest = buffer_span(&line->wire);
	int r = 0;

	while (r >= 0 && rest.size)
		r = tls_open_next(&line->open, &rest, room, record);
	buffer_clear(&line->wire);
	return r;
}

static void records_come_in_any_split(void **state)
{
	static const size_t sizes[] = { 0, 1, 15, 16, 17, 1000, TLS_RECORD_BYTES };
	static const size_t splits[] = { 1, 4, 5, 6, 20, 21, 22, 16000, 16390, SIZE_MAX };

	for (size_t s = 0; s < sizeof(splits) / sizeof(splits[0]); s++) {
		struct tls_record record;
		struct line line;
		size_t seen = 0, n;

		line_init(&line);
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			put(&line, 23, span_make(said, sizes[i]));
		for (size_t at = 0; at < line.wire.size; at += n) {
			struct span rest;

			n = splits[s] < line.wire.size - at ? splits[s] : line.wire.size - at;
			rest = span_make(line.wire.data + at, n);
			while (rest.size) {
				int r = tls_open_next(&line.open, &rest, room, &record);

				assert_true(r >= 0);
				if (r == 0)
					continue;
				assert_int_equal(record.type, 23);
				assert_true(span_equal(record.content, span_make(said, sizes[seen++])));
			}
			tls_open_trim(&line.open);
		}
		assert_int_equal(seen, sizeof(sizes) / sizeof(sizes[0]));
		assert_null(line.open.part);
		line_fini(&line);
	}
}

/* Zeros behind the type are no content (RFC 8446 section 5.4); what is nothing but zeros has no type. */
static void padding_is_taken_off(void **state)
{
	static uint8_t padded[300] = { 1, 2, 3, 23 };
	struct tls_record record;
	struct line line;

	line_init(&line);
	put(&line, 0, span_make(padded, sizeof(padded)));
	assert_int_equal(receive(&line, &record), 1);
	assert_int_equal(record.type, 23);
	assert_true(span_equal(record.content, span_make(padded, 3)));
	put(&line, 0, span_make(padded + 4, 100));
	assert_int_equal(receive(&line, &record), -TLS_ALERT_UNEXPECTED_MESSAGE);
	line_fini(&line);
}

static int with(size_t at, uint8_t change)
{
	struct tls_record record;
	struct line line;
	int r;

	line_init(&line);
	put(&line, 23, span_make(said, 40));
	line.wire.data[at] ^= change;
	r = receive(&line, &record);
	line_fini(&line);
	return r;
}

static void what_is_none_of_theirs_is_refused(void **state)
{
	assert_int_equal(with(0, 23 ^ 21), -TLS_ALERT_UNEXPECTED_MESSAGE);       /* a cleartext alert */
	assert_int_equal(with(0, 23 ^ 20), -TLS_ALERT_UNEXPECTED_MESSAGE);       /* change_cipher_spec: over with the handshake */
	assert_int_equal(with(1, 1), -TLS_ALERT_BAD_RECORD_MAC);
	assert_int_equal(with(3, 0x41), -TLS_ALERT_RECORD_OVERFLOW);
	assert_int_equal(with(4, 57 ^ 16), -TLS_ALERT_BAD_RECORD_MAC);           /* nothing but a tag */
	assert_int_equal(with(5, 1), -TLS_ALERT_BAD_RECORD_MAC);
	assert_int_equal(with(45, 1), -TLS_ALERT_BAD_RECORD_MAC);                /* its type */
	assert_int_equal(with(61, 128), -TLS_ALERT_BAD_RECORD_MAC);
	assert_int_equal(with(61, 0), 1);
}

/* A record twice, or one that was left out, is none of the sequence. */
static void records_are_numbered(void **state)
{
	struct tls_record record;
	struct line line;

	line_init(&line);
	put(&line, 23, span_make(said, 10));
	buffer_put(&line.wire, line.wire.data, line.wire.size);
	assert_int_equal(receive(&line, &record), -TLS_ALERT_BAD_RECORD_MAC);
	line_fini(&line);
	line_init(&line);
	put(&line, 23, span_make(said, 10));
	buffer_clear(&line.wire);
	put(&line, 23, span_make(said, 10));
	assert_int_equal(receive(&line, &record), -TLS_ALERT_BAD_RECORD_MAC);
	line_fini(&line);
}

static void keys_follow_each_other(void **state)
{
	struct tls_record record;
	struct line line;

	line_init(&line);
	for (unsigned i = 0; i < 3; i++) {
		put(&line, 23, span_make(said, 10));
		assert_int_equal(receive(&line, &record), 1);
		assert_int_equal(tls_keys_update(&line.keys), 0);
		assert_int_equal(tls_keys_update(&line.open.keys), 0);
	}
	assert_int_equal(tls_keys_update(&line.keys), 0);
	put(&line, 23, span_make(said, 10));
	assert_int_equal(receive(&line, &record), -TLS_ALERT_BAD_RECORD_MAC);
	line_fini(&line);
}

#define POST(post, ...) \
	tls_post_feed(post, span_make(((const uint8_t[]){ __VA_ARGS__ }), sizeof((const uint8_t[]){ __VA_ARGS__ })))

static void updates_are_told_from_tickets(void **state)
{
	struct tls_post client = { .client = true }, server = { 0 };

	assert_int_equal(POST(&server, 24, 0, 0, 1, 0), TLS_POST_UPDATE);
	assert_int_equal(POST(&client, 24, 0, 0, 1, 1), TLS_POST_UPDATE_BOTH);
	assert_int_equal(POST(&client, 4, 0, 0, 3, 1), TLS_POST_NOTHING);
	assert_true(tls_post_unfinished(&client));
	assert_int_equal(POST(&client, 2, 3, 4, 0, 0, 0, 24), TLS_POST_NOTHING);
	assert_true(tls_post_unfinished(&client));
	assert_int_equal(POST(&client, 0, 0, 1), TLS_POST_NOTHING);
	assert_int_equal(POST(&client, 0), TLS_POST_UPDATE);
	assert_false(tls_post_unfinished(&client));
}

static void other_messages_are_refused(void **state)
{
	struct tls_post post;

	post = (struct tls_post){ 0 };
	assert_int_equal(POST(&post, 4, 0, 0, 1), -TLS_ALERT_UNEXPECTED_MESSAGE);        /* a ticket to a server */
	post = (struct tls_post){ .client = true };
	assert_int_equal(POST(&post, 13, 0, 0, 1), -TLS_ALERT_UNEXPECTED_MESSAGE);       /* a request for a certificate */
	post = (struct tls_post){ .client = true };
	assert_int_equal(POST(&post, 4, 3, 0, 0), -TLS_ALERT_DECODE_ERROR);
	post = (struct tls_post){ 0 };
	assert_int_equal(POST(&post, 24, 0, 0, 2), -TLS_ALERT_DECODE_ERROR);
	post = (struct tls_post){ 0 };
	assert_int_equal(POST(&post, 24, 0, 0, 1, 2), -TLS_ALERT_ILLEGAL_PARAMETER);
	post = (struct tls_post){ 0 };
	assert_int_equal(POST(&post, 24, 0, 0, 1, 0, 24), -TLS_ALERT_UNEXPECTED_MESSAGE);
	post = (struct tls_post){ 0 };
	assert_int_equal(tls_post_feed(&post, (struct span){ 0 }), -TLS_ALERT_UNEXPECTED_MESSAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_come_in_any_split),
		cmocka_unit_test(padding_is_taken_off),
		cmocka_unit_test(what_is_none_of_theirs_is_refused),
		cmocka_unit_test(records_are_numbered),
		cmocka_unit_test(keys_follow_each_other),
		cmocka_unit_test(updates_are_told_from_tickets),
		cmocka_unit_test(other_messages_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
