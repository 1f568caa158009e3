/*
 * TLS between spans: OpenSSL with a read BIO over lent bytes and a write BIO into a bounded buffer. Behind the handshake of TLS 1.3
 * the write BIO gives itself out as a socket whose kernel encrypts (SSL_OP_ENABLE_KTLS): OpenSSL hands it cleartext then, and
 * tls_seal makes the records, of what tls_write() gets too, which OpenSSL never sees.
 */
#include "gateway/net/tls_private.h"

#include <errno.h>
#include <linux/tls.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/net/tls_fault.h"
#include "gateway/net/tls_seal.h"

/* Decrypted bytes gather here before they are handed on: four records, so that the consumer sees few long runs. */
#define TLS_SCRATCH_BYTES 65536
/* What a peer can make us hold for it: beyond, it asks for answers without ever reading them. */
#define TLS_OUTPUT_MAX (1u << 20)
/* How OpenSSL asks a BIO to encrypt from here on, and says of what type the next record is: openssl/bio.h names them in a comment. */
#define BIO_ENCRYPT_FROM_HERE 72
#define BIO_NEXT_RECORD_TYPE  74
/* RFC 8446 sections 5.1 and 4. */
#define RECORD_HANDSHAKE      22
#define RECORD_DATA           23
#define MESSAGE_KEY_UPDATE    24

struct tls {
	SSL *ssl;
	struct tls_seal *seal;           /* NULL: OpenSSL makes the records, of the handshake or of TLS 1.2 */
	uint8_t record_type;             /* of what OpenSSL writes next; sealed alone */
	uint8_t secret[TLS_SEAL_SECRET_MAX];     /* until the seal is made of it */
	size_t secret_size;
	struct span input;               /* lent by tls_feed; empty outside it */
	struct buffer gathering;         /* what the write BIO got */
	struct buffer sending;           /* what tls_output lent; stays in place until tls_sent has taken it all */
	size_t sent;
	struct tls_copies copies;
	bool server, to_executor, failed, closed;
	char server_name[256];
	char error[320];
};

static _Thread_local uint8_t scratch[TLS_SCRATCH_BYTES], joined[TLS_RECORD_BYTES];

/* ---- BIO ---- */

/* OpenSSL asks for what the record in progress lacks and keeps it itself, so the lent span is always used up. */
static int bio_read(BIO *bio, char *out, int size)
{
	struct tls *tls = BIO_get_data(bio);
	size_t n = tls->input.size;

	BIO_clear_retry_flags(bio);
	if (size <= 0)
		return 0;
	if (n == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	if (n > (size_t)size)
		n = (size_t)size;
	memcpy(out, tls->input.data, n);
	tls->copies.received += n;
	tls->input = span_make(tls->input.data + n, tls->input.size - n);
	return (int)n;
}

/* What OpenSSL has to say behind the handshake: an alert, or a KeyUpdate that the peer asked for. */
static int seal_message(struct tls *tls, struct span message)
{
	uint8_t type = tls->record_type;
	int r = tls_seal_put(tls->seal, type, (struct span){ 0 }, message, &tls->gathering);

	tls->record_type = RECORD_DATA;
	if (r == 0 && type == RECORD_HANDSHAKE && message.data[0] == MESSAGE_KEY_UPDATE)
		r = tls_seal_update(tls->seal);
	return r;
}

static int bio_write(BIO *bio, const char *data, int size)
{
	struct tls *tls = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (size <= 0)
		return 0;
	if (tls->seal)
		return seal_message(tls, span_make(data, (size_t)size)) == 0 ? size : -1;
	buffer_put(&tls->gathering, data, (size_t)size);
	tls->copies.sent += (size_t)size;
	return tls->gathering.failed ? -1 : size;
}

/* The secrets come by tls_on_secret() before. False: OpenSSL goes on by itself. */
static bool take_over(struct tls *tls, const struct tls_crypto_info *info)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);

	if (info->version == TLS_1_3_VERSION && cipher && !tls->seal &&
	    tls_seal_create(&tls->seal, SSL_CIPHER_get_protocol_id(cipher), span_make(tls->secret, tls->secret_size)) < 0)
		tls->seal = NULL;
	OPENSSL_cleanse(tls->secret, sizeof(tls->secret));
	return tls->seal;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	struct tls *tls = BIO_get_data(bio);

	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_ENCRYPT_FROM_HERE:
		return number /* to send */ && take_over(tls, pointer);
	case BIO_CTRL_GET_KTLS_SEND:
		return tls->seal != NULL;
	case BIO_NEXT_RECORD_TYPE:
		tls->record_type = (uint8_t)number;
		return 1;
	default:
		return 0;
	}
}

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static void bio_method_make(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "span");

	if (!method)
		return;
	if (BIO_meth_set_read(method, bio_read) && BIO_meth_set_write(method, bio_write) &&
	    BIO_meth_set_ctrl(method, bio_ctrl))
		bio_method = method;
	else
		BIO_meth_free(method);
}

static int nibble(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* "SERVER_TRAFFIC_SECRET_0 <the client's random> <the secret>", in hexadecimal. */
void tls_on_secret(const SSL *ssl, const char *line)
{
	struct tls *tls = SSL_get_app_data(ssl);
	const char *label = tls->server ? "SERVER_TRAFFIC_SECRET_0 " : "CLIENT_TRAFFIC_SECRET_0 ";
	const char *at = strrchr(line, ' ');

	if (strncmp(line, label, strlen(label)) != 0)
		return;
	tls->secret_size = 0;
	for (at++; nibble(at[0]) >= 0 && nibble(at[1]) >= 0 && tls->secret_size < sizeof(tls->secret); at += 2)
		tls->secret[tls->secret_size++] = (uint8_t)(nibble(at[0]) << 4 | nibble(at[1]));
}

/* ---- a connection ---- */

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

static bool set_bio(struct tls *tls)
{
	BIO *bio;

	pthread_once(&bio_once, bio_method_make);
	bio = bio_method ? BIO_new(bio_method) : NULL;
	if (!bio)
		return false;
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio);
	SSL_set_app_data(tls->ssl, tls);
	return true;
}

/* OpenSSL says nothing to a client that speaks no TLS; an alert lets ours tell what it met (RFC 8446 section 6.2). */
static void answer_cleartext(struct tls *tls)
{
	static const uint8_t protocol_version[] = { 21, 3, 3, 0, 2, 2, 70 };

	if (tls->server && !tls_ready(tls) && tls_output_bytes(tls) == 0)
		buffer_put(&tls->gathering, protocol_version, sizeof(protocol_version));
}

static int tls_fail(struct tls *tls)
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

	if (tls_fault_is_cleartext(fault.error))
		answer_cleartext(tls);
	tls_fault_describe(&fault, tls->error, sizeof(tls->error));
	ERR_clear_error();
	tls->failed = true;
	return ERR_RAISE(-EPROTO);
}

int tls_create(struct tls **out, struct tls_context *context, const char *server_name)
{
	struct tls *tls = calloc(1, sizeof(*tls));

	CHECK(context->server || server_name);
	if (!tls)
		return ERR_RAISE(-ENOMEM);
	tls->record_type = RECORD_DATA;
	tls->server = context->server;
	tls->to_executor = context->to_executor;
	tls->gathering = buffer_heap(TLS_OUTPUT_MAX);
	tls->sending = buffer_heap(TLS_OUTPUT_MAX);
	tls->ssl = SSL_new(context->ssl);
	if (!tls->ssl || !set_bio(tls) || (!tls->server && !set_server_name(tls, server_name))) {
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
	tls_seal_destroy(tls->seal);
	OPENSSL_cleanse(tls->secret, sizeof(tls->secret));
	buffer_fini(&tls->gathering);
	buffer_fini(&tls->sending);
	free(tls);
}

/* One SSL_read: the bytes read, 0 when no more can be had now, or a negative errno. */
static int read_once(struct tls *tls, uint8_t *out, size_t size)
{
	size_t n = 0;

	ERR_clear_error();
	if (SSL_read_ex(tls->ssl, out, size, &n) == 1) {
		CHECK(n > 0 && n <= size);
		return (int)n;
	}
	switch (SSL_get_error(tls->ssl, 0)) {
	case SSL_ERROR_WANT_READ:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		tls->closed = true;
		return 0;
	default:
		return tls_fail(tls);
	}
}

int tls_feed(struct tls *tls, struct span ciphertext, void (*plain)(void *context, struct span data), void *context)
{
	size_t filled = 0;
	int n = 0;

	if (tls->failed)
		return ERR_RAISE(-EPROTO);
	if (tls->closed)
		return TLS_CLOSED;
	tls->input = ciphertext;
	do {
		n = read_once(tls, scratch + filled, sizeof(scratch) - filled);
		filled += n > 0 ? (size_t)n : 0;
		if (filled && (n <= 0 || filled == sizeof(scratch))) {
			plain(context, span_make(scratch, filled));
			filled = 0;
		}
	} while (n > 0);
	CHECK(n < 0 || tls->closed || tls->input.size == 0);
	tls->input = (struct span){ 0 };
	if (n < 0)
		return n;
	return tls->closed ? TLS_CLOSED : TLS_OK;
}

void tls_expect(struct tls *tls, size_t bytes)
{
	CHECK(bytes <= TLS_OUTPUT_MAX);
	if (tls->gathering.capacity == 0 && !buffer_reserve(&tls->gathering, bytes))
		tls->gathering.failed = false;           /* it may do with less */
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
	if (!tls->seal)
		return write_by_openssl(tls, head, body);
	return tls_seal_put(tls->seal, RECORD_DATA, head, body, &tls->gathering) == 0 ? 0 : tls_fail(tls);
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
	if (!(SSL_get_mode(tls->ssl) & SSL_MODE_RELEASE_BUFFERS))
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

void tls_shutdown(struct tls *tls)
{
	if (tls->failed || !tls_ready(tls))
		return;
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
