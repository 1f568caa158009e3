/*
 * What OpenSSL reads and writes during a handshake, and with TLS 1.2: a read BIO over lent bytes and a write BIO into a bounded buffer.
 * The write BIO gives itself out as a socket whose kernel encrypts (SSL_OP_ENABLE_KTLS). So OpenSSL says in clear what it has to say
 * once the keys of TLS 1.3 are there, when a handshake fails late, and it is sealed here as all that follows.
 */
#include "gateway/net/tls_private.h"

#include <linux/tls.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include "gateway/net/tls_seal.h"

/* How OpenSSL asks a BIO to encrypt from here on, and says of what type the next record is: openssl/bio.h names them in a comment. */
#define BIO_ENCRYPT_FROM_HERE 72
#define BIO_NEXT_RECORD_TYPE  74

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

static int bio_write(BIO *bio, const char *data, int size)
{
	struct tls *tls = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (size <= 0)
		return 0;
	if (tls->seals) {
		uint8_t type = tls->record_type;

		tls->record_type = RECORD_DATA;
		return tls_seal_put(&tls->sealing, type, (struct span){ 0 }, span_make(data, (size_t)size), &tls->gathering) < 0 ?
		       -1 : size;
	}
	buffer_put(&tls->gathering, data, (size_t)size);
	tls->copies.sent += (size_t)size;
	return tls->gathering.failed ? -1 : size;
}

uint16_t tls_suite(const struct tls *tls)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);

	return cipher ? SSL_CIPHER_get_protocol_id(cipher) : 0;
}

void tls_secret_forget(struct tls_secret *secret)
{
	OPENSSL_cleanse(secret, sizeof(*secret));
}

/* OpenSSL has the key and more in it, and leaves it on its stack. */
static void crypto_info_wipe(struct tls_crypto_info *info)
{
	switch (info->cipher_type) {
	case TLS_CIPHER_AES_GCM_128:
		OPENSSL_cleanse(info, sizeof(struct tls12_crypto_info_aes_gcm_128));
		break;
	case TLS_CIPHER_AES_GCM_256:
		OPENSSL_cleanse(info, sizeof(struct tls12_crypto_info_aes_gcm_256));
		break;
	case TLS_CIPHER_AES_CCM_128:
		OPENSSL_cleanse(info, sizeof(struct tls12_crypto_info_aes_ccm_128));
		break;
	case TLS_CIPHER_CHACHA20_POLY1305:
		OPENSSL_cleanse(info, sizeof(struct tls12_crypto_info_chacha20_poly1305));
		break;
	}
}

/* False: OpenSSL goes on by itself. */
static bool take_over_sending(struct tls *tls, const struct tls_crypto_info *info)
{
	if (tls->seals) {                /* never seen: under the same keys it would begin at the same numbers */
		tls->failed = true;
		return true;
	}
	tls->seals = info->version == TLS_1_3_VERSION &&
	             tls_keys_init(&tls->sealing, tls_suite(tls), span_make(tls->ours.bytes, tls->ours.size), true) == 0;
	tls_secret_forget(&tls->ours);
	return tls->seals;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	struct tls *tls = BIO_get_data(bio);
	bool taken;

	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_ENCRYPT_FROM_HERE:
		taken = number /* to send */ && take_over_sending(tls, pointer);
		crypto_info_wipe(pointer);
		return taken;
	case BIO_CTRL_GET_KTLS_SEND:
		return tls->seals;
	case BIO_NEXT_RECORD_TYPE:
		tls->record_type = (uint8_t)number;
		return 1;
	default:
		return 0;
	}
}

static BIO_METHOD *bio_method_make(int index)
{
	BIO_METHOD *method = BIO_meth_new(index | BIO_TYPE_SOURCE_SINK, "span");

	if (method && BIO_meth_set_read(method, bio_read) && BIO_meth_set_write(method, bio_write) &&
	    BIO_meth_set_ctrl(method, bio_ctrl))
		return method;
	BIO_meth_free(method);
	return NULL;
}

/* For all connections. What could not be made, for want of memory, is tried again by the next; OpenSSL has few indexes. */
static const BIO_METHOD *bio_method_get(void)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static BIO_METHOD *method;
	static int index;
	const BIO_METHOD *got;

	pthread_mutex_lock(&mutex);
	if (index <= 0)
		index = BIO_get_new_index();
	if (!method && index > 0)
		method = bio_method_make(index);
	got = method;
	pthread_mutex_unlock(&mutex);
	return got;
}

static int nibble(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static bool begins(const char *line, const char *label)
{
	return strncmp(line, label, strlen(label)) == 0;
}

/* "SERVER_TRAFFIC_SECRET_0 <the client's random> <the secret>", in hexadecimal, and the client's. */
void tls_on_secret(const SSL *ssl, const char *line)
{
	struct tls *tls = SSL_get_app_data(ssl);
	const char *at = strrchr(line, ' ');
	struct tls_secret *secret;

	if (begins(line, "SERVER_TRAFFIC_SECRET_0 "))
		secret = tls->server ? &tls->ours : &tls->theirs;
	else if (begins(line, "CLIENT_TRAFFIC_SECRET_0 "))
		secret = tls->server ? &tls->theirs : &tls->ours;
	else
		return;
	secret->size = 0;
	for (at++; nibble(at[0]) >= 0 && nibble(at[1]) >= 0 && secret->size < sizeof(secret->bytes); at += 2)
		secret->bytes[secret->size++] = (uint8_t)(nibble(at[0]) << 4 | nibble(at[1]));
}

bool tls_bio_prepare(void)
{
	return bio_method_get() != NULL;
}

bool tls_bio_attach(struct tls *tls)
{
	const BIO_METHOD *method = bio_method_get();
	BIO *bio = method ? BIO_new(method) : NULL;

	if (!bio)
		return false;
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio);
	return SSL_set_app_data(tls->ssl, tls) == 1;     /* tls_on_secret() needs it */
}
