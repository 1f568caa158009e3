/* A connection of TLS between spans: its life, and what is sent. */
#include "gateway/net/tls_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/net/tls_alert.h"
#include "gateway/net/tls_fault.h"
#include "gateway/net/tls_seal.h"

/* What a peer can make us hold for it: beyond, it asks for answers without ever reading them. */
#define TLS_OUTPUT_MAX (1u << 20)

/* Under one key: of AES-GCM no more than 2^24.5 are thought safe (RFC 8446 section 5.5). */
#define RECORDS_MAX    (1u << 24)

/* A record of which OpenSSL gets the parts in one. */
static _Thread_local uint8_t joined[TLS_RECORD_BYTES];

static bool set_server_name(struct tls *tls, const char *name)
{
	X509_VERIFY_PARAM *verify = SSL_get0_param(tls->ssl);

	if (strlen(name) >= sizeof(tls->server_name))
		return false;
	snprintf(tls->server_name, sizeof(tls->server_name), "%s", name);
	X509_VERIFY_PARAM_set_hostflags(verify, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (X509_VERIFY_PARAM_set1_ip_asc(verify, name) == 1)
		return true;
	ERR_clear_error();
	return X509_VERIFY_PARAM_set1_host(verify, name, 0) == 1 && SSL_set_tlsext_host_name(tls->ssl, name) == 1;
}

/* OpenSSL says nothing to a client that speaks no TLS; an alert lets ours tell what it met (RFC 8446 section 6.2). */
static void answer_cleartext(struct tls *tls)
{
	static const uint8_t protocol_version[] = { 21, 3, 3, 0, 2, 2, 70 };

	if (tls->server && !tls_ready(tls) && tls_output_bytes(tls) == 0)
		buffer_put(&tls->gathering, protocol_version, sizeof(protocol_version));
}

/* The first fault is the one to tell. */
int tls_fail(struct tls *tls)
{
	struct tls_fault fault = {
		.server = tls->server,
		.to_executor = tls->to_executor,
		.ready = tls_ready(tls),
		.server_name = tls->server_name,
		.verify = SSL_get_verify_result(tls->ssl),
		.error = ERR_peek_error(),
		.output_full = tls->gathering.failed,
	};

	if (tls->failed && tls->error[0]) {
		ERR_clear_error();
		return ERR_RAISE(-EPROTO);
	}
	if (tls_fault_is_cleartext(fault.error))
		answer_cleartext(tls);
	tls_fault_describe(&fault, tls->error, sizeof(tls->error));
	ERR_clear_error();
	tls->failed = true;
	return ERR_RAISE(-EPROTO);
}

int tls_fail_memory(struct tls *tls)
{
	ERR_clear_error();
	ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
	return tls_fail(tls);
}

int tls_create(struct tls **out, struct tls_context *context, const char *server_name)
{
	struct tls *tls = calloc(1, sizeof(*tls));

	CHECK(context->server || server_name);
	if (!tls)
		return ERR_RAISE(-ENOMEM);
	tls->record_type = RECORD_DATA;
	tls->post.client = !context->server;
	tls->server = context->server;
	tls->to_executor = context->to_executor;
	tls->gathering = buffer_heap(TLS_OUTPUT_MAX);
	tls->sending = buffer_heap(TLS_OUTPUT_MAX);
	tls->ssl = SSL_new(context->ssl);
	if (!tls->ssl || !tls_bio_attach(tls) || (!tls->server && !set_server_name(tls, server_name))) {
		ERR_clear_error();
		tls_destroy(tls);
		return ERR_RAISE(-ENOMEM);
	}
	if (tls->server) {
		SSL_set_accept_state(tls->ssl);
	} else {
		SSL_set_connect_state(tls->ssl);
		ERR_clear_error();
		(void)SSL_do_handshake(tls->ssl);        /* writes the ClientHello, then wants to read */
		ERR_clear_error();
	}
	*out = tls;
	return 0;
}

void tls_destroy(struct tls *tls)
{
	if (!tls)
		return;
	SSL_free(tls->ssl);
	tls_keys_fini(&tls->sealing);
	tls_open_fini(&tls->opening);
	tls_secret_forget(&tls->ours);
	tls_secret_forget(&tls->theirs);
	buffer_fini(&tls->gathering);
	buffer_fini(&tls->sending);
	free(tls);
}

int tls_say(struct tls *tls, uint8_t type, const uint8_t *message, size_t size)
{
	return tls_seal_put(&tls->sealing, type, (struct span){ 0 }, span_make(message, size), &tls->gathering);
}

void tls_expect(struct tls *tls, size_t bytes)
{
	CHECK(bytes <= TLS_OUTPUT_MAX);
	if (tls->gathering.capacity == 0 && !buffer_reserve(&tls->gathering, bytes))
		tls->gathering.failed = false;           /* it may do with less */
}

int tls_say_key_update(struct tls *tls)
{
	static const uint8_t key_update[] = { 24, 0, 0, 1, 0 };  /* RFC 8446 section 4.6.3; asks for none */
	int r = tls_say(tls, RECORD_HANDSHAKE, key_update, sizeof(key_update));

	tls->owes_update = false;
	return r < 0 ? r : tls_keys_update(&tls->sealing);
}

static int write_by_openssl(struct tls *tls, struct span head, struct span body)
{
	size_t written = 0;

	if (head.size) {
		memcpy(joined, head.data, head.size);
		if (body.size)
			memcpy(joined + head.size, body.data, body.size);
		tls->copies.sent += head.size + body.size;
		body = span_make(joined, head.size + body.size);
	}
	ERR_clear_error();
	if (SSL_write_ex(tls->ssl, body.data, body.size, &written) != 1)
		return tls_fail(tls);
	CHECK(written == body.size);
	return 0;
}

int tls_write(struct tls *tls, struct span head, struct span body)
{
	CHECK(tls_ready(tls) && head.size + body.size <= TLS_RECORD_BYTES);
	if (tls->failed)
		return ERR_RAISE(-EPROTO);
	if (head.size + body.size == 0)
		return 0;
	if (!tls->seals)
		return write_by_openssl(tls, head, body);
	if ((tls->owes_update || tls->sealing.records >= RECORDS_MAX) && tls_say_key_update(tls) < 0)
		return tls_fail_memory(tls);
	tls_post_sent(&tls->post);
	return tls_seal_put(&tls->sealing, RECORD_DATA, head, body, &tls->gathering) < 0 ? tls_fail_memory(tls) : 0;
}

struct span tls_output(struct tls *tls)
{
	if (tls->sent == tls->sending.size) {
		struct buffer empty = tls->sending;

		buffer_clear(&empty);
		tls->sending = tls->gathering;
		tls->sending.failed = false;
		tls->gathering = empty;
		tls->sent = 0;
	}
	if (tls->sending.size == 0)
		return (struct span){ 0 };
	return span_make(tls->sending.data + tls->sent, tls->sending.size - tls->sent);
}

size_t tls_output_bytes(const struct tls *tls)
{
	return tls->sending.size - tls->sent + tls->gathering.size;
}

/* An idle connection keeps no output buffers; a busy one keeps both. */
void tls_sent(struct tls *tls, size_t bytes)
{
	CHECK(bytes <= tls->sending.size - tls->sent);
	tls->sent += bytes;
}

void tls_trim(struct tls *tls)
{
	if (tls_output_bytes(tls))
		return;
	if (tls->opens && !tls->input.data)      /* not while it is lent */
		tls_open_trim(&tls->opening);
	if (!tls->opens && !(SSL_get_mode(tls->ssl) & SSL_MODE_RELEASE_BUFFERS))
		(void)SSL_free_buffers(tls->ssl);        /* not those of a record of which a part has come */
	buffer_fini(&tls->gathering);
	buffer_fini(&tls->sending);
	tls->gathering = buffer_heap(TLS_OUTPUT_MAX);
	tls->sending = buffer_heap(TLS_OUTPUT_MAX);
	tls->sent = 0;
}

bool tls_ready(const struct tls *tls)
{
	return SSL_is_init_finished(tls->ssl) == 1;
}

bool tls_unfinished(const struct tls *tls)
{
	return tls->opens ? tls_post_unfinished(&tls->post) : !tls_ready(tls);
}

void tls_shutdown(struct tls *tls)
{
	static const uint8_t close_notify[] = { 1, TLS_ALERT_CLOSE_NOTIFY };

	if (tls->failed || !tls_ready(tls))
		return;
	if (tls->seals) {
		(void)tls_say(tls, RECORD_ALERT, close_notify, sizeof(close_notify));
		return;
	}
	ERR_clear_error();
	(void)SSL_shutdown(tls->ssl);
	ERR_clear_error();
}

struct tls_copies tls_copies(const struct tls *tls)
{
	return tls->copies;
}

bool tls_failed(const struct tls *tls)
{
	return tls->failed;
}

const char *tls_error(const struct tls *tls)
{
	return tls->error;
}

/* ---- the peer's certificate ---- */

/* The one value of an attribute. Empty when it is missing, there twice, too long, or holds a NUL: never half a name. */
static void copy_name(const X509_NAME *name, int attribute, char out[static 256])
{
	int at = X509_NAME_get_index_by_NID(name, attribute, -1), size;
	unsigned char *text = NULL;

	out[0] = '\0';
	if (at < 0 || X509_NAME_get_index_by_NID(name, attribute, at) >= 0)
		return;
	size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
	if (size > 0 && size < 256 && !memchr(text, '\0', (size_t)size)) {
		memcpy(out, text, (size_t)size);
		out[size] = '\0';
	}
	OPENSSL_free(text);
}

bool tls_peer(const struct tls *tls, char organisation[static 256], char common_name[static 256])
{
	X509 *certificate = SSL_get0_peer_certificate(tls->ssl);

	if (!certificate || SSL_get_verify_result(tls->ssl) != X509_V_OK)
		return false;
	copy_name(X509_get_subject_name(certificate), NID_organizationName, organisation);
	copy_name(X509_get_subject_name(certificate), NID_commonName, common_name);
	return true;
}
