/* What comes: the handshake, and TLS 1.2, by OpenSSL; behind that of TLS 1.3 the records are opened here. */
#include "gateway/net/tls_private.h"

#include <errno.h>
#include <openssl/err.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/net/tls_alert.h"

/* Decrypted bytes gather here before they are handed on: four records, so that the consumer sees few long runs. */
#define TLS_SCRATCH_BYTES (3 * TLS_RECORD_BYTES + TLS_OPEN_ROOM_BYTES)

static _Thread_local uint8_t scratch[TLS_SCRATCH_BYTES];

/* ---- what comes: the handshake, and TLS 1.2, by OpenSSL ---- */

/* 0: no more can be had now; or a negative errno. */
static int stopped(struct tls *tls, int result)
{
	switch (SSL_get_error(tls->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		tls->closed = true;
		return 0;
	default:
		return tls_fail(tls);
	}
}

/* OpenSSL has read up to the end of the peer's handshake and not beyond: what follows is under other keys. */
static int take_over_receiving(struct tls *tls)
{
	int r = tls_open_init(&tls->opening, tls_suite(tls), span_make(tls->theirs.bytes, tls->theirs.size));

	if (r < 0)
		return tls_fail_memory(tls);
	tls->opens = true;
	(void)SSL_free_buffers(tls->ssl);        /* no record is in progress */
	return 0;
}

static int shake_hands(struct tls *tls)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(tls->ssl);
	if (r != 1)
		return stopped(tls, r);
	r = tls->seals && !tls->opens ? take_over_receiving(tls) : 0;
	tls_secret_forget(&tls->ours);
	tls_secret_forget(&tls->theirs);
	return r;
}

/* One SSL_read: the bytes read, 0 when no more can be had now, or a negative errno. */
static int read_once(struct tls *tls, uint8_t *out, size_t size)
{
	size_t n = 0;

	ERR_clear_error();
	if (SSL_read_ex(tls->ssl, out, size, &n) != 1)
		return stopped(tls, 0);
	CHECK(n > 0 && n <= size);
	return (int)n;
}

struct taker {
	void (*plain)(void *context, struct span data);
	void *context;
	size_t filled;                   /* of the scratch buffer, to be handed on */
};

static void hand_on(struct taker *taker)
{
	if (taker->filled)
		taker->plain(taker->context, span_make(scratch, taker->filled));
	taker->filled = 0;
}

static int feed_openssl(struct tls *tls, struct taker *taker)
{
	int n;

	do {
		n = read_once(tls, scratch + taker->filled, sizeof(scratch) - taker->filled);
		taker->filled += n > 0 ? (size_t)n : 0;
		if (n <= 0 || taker->filled == sizeof(scratch))
			hand_on(taker);
	} while (n > 0);
	return n;
}

/* ---- what comes: records of TLS 1.3 ---- */

/* As OpenSSL would have called it. */
static int reason(int alert)
{
	switch (alert) {
	case TLS_ALERT_BAD_RECORD_MAC:
		return SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC;
	case TLS_ALERT_RECORD_OVERFLOW:
		return SSL_R_PACKET_LENGTH_TOO_LONG;
	case TLS_ALERT_DECODE_ERROR:
		return SSL_R_LENGTH_MISMATCH;
	case TLS_ALERT_ILLEGAL_PARAMETER:
		return SSL_R_BAD_KEY_UPDATE;
	case TLS_ALERT_UNEXPECTED_MESSAGE:
		return SSL_R_UNEXPECTED_MESSAGE;
	default:
		return ERR_R_MALLOC_FAILURE;
	}
}

/* Tells the peer why, and is over. */
static int refuse(struct tls *tls, int alert)
{
	const uint8_t fatal[] = { 2, (uint8_t)alert };
	int r;

	ERR_clear_error();
	ERR_raise(ERR_LIB_SSL, reason(alert));
	r = tls_fail(tls);
	(void)tls_say(tls, RECORD_ALERT, fatal, sizeof(fatal));
	return r;
}

static int take_alert(struct tls *tls, struct span content)
{
	if (content.size != 2)
		return refuse(tls, TLS_ALERT_DECODE_ERROR);
	if (content.data[1] == TLS_ALERT_USER_CANCELED)  /* its close_notify follows: section 6.1 */
		return 0;
	tls->closed = content.data[1] == TLS_ALERT_CLOSE_NOTIFY;
	if (tls->closed)
		return 0;
	ERR_clear_error();
	ERR_raise(ERR_LIB_SSL, SSL_AD_REASON_OFFSET + content.data[1]);
	return tls_fail(tls);
}

static int take_handshake(struct tls *tls, struct span content)
{
	int outcome = tls_post_feed(&tls->post, content);

	if (outcome < 0)
		return refuse(tls, -outcome);
	if (outcome == TLS_POST_NOTHING)
		return 0;
	if (tls_keys_update(&tls->opening.keys) < 0)
		return refuse(tls, TLS_ALERT_INTERNAL_ERROR);
	tls->owes_update |= outcome == TLS_POST_UPDATE_BOTH;
	return 0;
}

static int take_record(struct tls *tls, const struct tls_record *record, struct taker *taker)
{
	if (tls_post_unfinished(&tls->post) && record->type != RECORD_HANDSHAKE)
		return refuse(tls, TLS_ALERT_UNEXPECTED_MESSAGE);
	switch (record->type) {
	case RECORD_DATA:
		if (record->content.size)
			tls_post_received(&tls->post);
		if (record->content.data == scratch + taker->filled) {
			taker->filled += record->content.size;
		} else if (record->content.size) {
			hand_on(taker);
			taker->plain(taker->context, record->content);
		}
		if (taker->filled > sizeof(scratch) - TLS_OPEN_ROOM_BYTES)
			hand_on(taker);
		return 0;
	case RECORD_HANDSHAKE:
		return take_handshake(tls, record->content);
	case RECORD_ALERT:
		return take_alert(tls, record->content);
	default:
		return refuse(tls, TLS_ALERT_UNEXPECTED_MESSAGE);
	}
}

static int feed_records(struct tls *tls, struct taker *taker)
{
	struct tls_record record;
	int r = 0;

	while (r == 0 && !tls->closed && tls->input.size) {
		r = tls_open_next(&tls->opening, &tls->input, scratch + taker->filled, &record);
		if (r > 0)
			r = take_record(tls, &record, taker);
		else if (r < 0)
			r = refuse(tls, -r);
		if (r == 0 && tls->failed)       /* who was handed something had an answer that failed */
			r = -EPROTO;
	}
	hand_on(taker);
	/* One answers all that were asked for: RFC 8446 section 4.6.3. */
	if (r == 0 && tls->owes_update && !tls->failed && tls_say_key_update(tls) < 0)
		r = tls_fail_memory(tls);
	return r == 0 && tls->failed ? -EPROTO : r;
}

int tls_feed(struct tls *tls, struct span ciphertext, void (*plain)(void *context, struct span data), void *context)
{
	struct taker taker = { .plain = plain, .context = context };
	int r = 0;

	if (tls->failed)
		return ERR_RAISE(-EPROTO);
	if (tls->closed)
		return TLS_CLOSED;
	tls->input = ciphertext;
	if (!tls_ready(tls))
		r = shake_hands(tls);
	if (r == 0 && tls->opens)
		r = feed_records(tls, &taker);
	else if (r == 0 && tls_ready(tls))
		r = feed_openssl(tls, &taker);
	CHECK(r < 0 || tls->closed || tls->input.size == 0);
	tls->input = (struct span){ 0 };
	if (r < 0)
		return r;
	return tls->closed ? TLS_CLOSED : TLS_OK;
}
