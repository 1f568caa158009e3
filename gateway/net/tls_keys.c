/* Keys of TLS 1.3 and the cipher under them. */
#include "gateway/net/tls_keys.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <pthread.h>
#include "gateway/base/err.h"

#define KEY_MAX 32

struct tls_suite {
	uint16_t number;
	const EVP_CIPHER *(*cipher)(void);
	const char *digest;
	size_t secret_size;              /* the digest's */
};

static const struct tls_suite suites[] = {
	{ 0x1301, EVP_aes_128_gcm, "SHA2-256", 32 },
	{ 0x1302, EVP_aes_256_gcm, "SHA2-384", 48 },
	{ 0x1303, EVP_chacha20_poly1305, "SHA2-256", 32 },
};

static const struct tls_suite *suite_find(uint16_t number)
{
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		if (suites[i].number == number)
			return &suites[i];
	return NULL;
}

/* To look it up takes longer than to derive by it. What could not be had, for want of memory, is looked up again by the next. */
static EVP_KDF *kdf_get(void)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static EVP_KDF *kdf;
	EVP_KDF *got;

	pthread_mutex_lock(&mutex);
	if (!kdf)
		kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
	got = kdf;
	pthread_mutex_unlock(&mutex);
	return got;
}

bool tls_keys_prepare(void)
{
	return kdf_get() != NULL;
}

/* HKDF-Expand-Label(secret, label, "", size), section 7.1. */
static bool expand(const struct tls_keys *keys, const char *label, uint8_t *out, size_t size)
{
	EVP_KDF *kdf = kdf_get();
	EVP_KDF_CTX *context;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)keys->suite->digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)keys->secret, keys->suite->secret_size),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (void *)"tls13 ", 6),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)label, strlen(label)),
		OSSL_PARAM_construct_end(),
	};
	bool made;

	context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	made = context && EVP_KDF_derive(context, out, size, params) == 1;
	EVP_KDF_CTX_free(context);
	return made;
}

/* The key and the nonces' base of the present secret (section 7.3). */
static bool take_key(struct tls_keys *keys)
{
	const EVP_CIPHER *cipher = keys->suite->cipher();
	uint8_t key[KEY_MAX];
	bool taken;

	keys->records = 0;
	taken = expand(keys, "key", key, (size_t)EVP_CIPHER_get_key_length(cipher)) &&
	        expand(keys, "iv", keys->iv, sizeof(keys->iv)) &&
	        EVP_CipherInit_ex(keys->cipher, cipher, NULL, key, NULL, keys->seals) == 1;
	OPENSSL_cleanse(key, sizeof(key));
	return taken;
}

int tls_keys_init(struct tls_keys *keys, uint16_t number, struct span secret, bool seals)
{
	const struct tls_suite *suite = suite_find(number);

	*keys = (struct tls_keys){ 0 };
	if (!suite || secret.size != suite->secret_size)
		return ERR_RAISE(-ENOTSUP);
	keys->suite = suite;
	keys->seals = seals;
	memcpy(keys->secret, secret.data, secret.size);
	keys->cipher = EVP_CIPHER_CTX_new();
	if (keys->cipher && take_key(keys))
		return 0;
	ERR_clear_error();
	tls_keys_fini(keys);
	return ERR_RAISE(-ENOMEM);
}

void tls_keys_fini(struct tls_keys *keys)
{
	EVP_CIPHER_CTX_free(keys->cipher);
	OPENSSL_cleanse(keys, sizeof(*keys));
}

int tls_keys_update(struct tls_keys *keys)
{
	uint8_t next[TLS_KEYS_SECRET_MAX];
	bool updated = expand(keys, "traffic upd", next, keys->suite->secret_size);

	if (updated)
		memcpy(keys->secret, next, keys->suite->secret_size);
	OPENSSL_cleanse(next, sizeof(next));
	if (updated && take_key(keys))
		return 0;
	/* Its numbers begin again, maybe under the former key: never twice the same. */
	EVP_CIPHER_CTX_free(keys->cipher);
	keys->cipher = NULL;
	ERR_clear_error();
	return ERR_RAISE(-ENOMEM);
}

/* The iv with the record's number in its end (section 5.3). */
static void make_nonce(const struct tls_keys *keys, uint8_t nonce[static TLS_KEYS_NONCE_BYTES])
{
	memcpy(nonce, keys->iv, TLS_KEYS_NONCE_BYTES);
	for (unsigned i = 0; i < 8; i++)
		nonce[TLS_KEYS_NONCE_BYTES - 1 - i] ^= (uint8_t)(keys->records >> (8 * i));
}

static bool done(bool well)
{
	if (!well)
		ERR_clear_error();
	return well;
}

bool tls_keys_begin(struct tls_keys *keys, const uint8_t header[static TLS_KEYS_HEADER_BYTES])
{
	uint8_t nonce[TLS_KEYS_NONCE_BYTES];
	int none = 0;

	if (!keys->cipher)
		return false;
	make_nonce(keys, nonce);
	keys->records++;
	return done(EVP_CipherInit_ex(keys->cipher, NULL, NULL, NULL, nonce, -1) == 1 &&
	            EVP_CipherUpdate(keys->cipher, NULL, &none, header, TLS_KEYS_HEADER_BYTES) == 1);
}

bool tls_keys_take(struct tls_keys *keys, uint8_t *out, struct span in)
{
	int written = 0;

	return in.size == 0 ||
	       done(EVP_CipherUpdate(keys->cipher, out, &written, in.data, (int)in.size) == 1 && (size_t)written == in.size);
}

bool tls_keys_end(struct tls_keys *keys, uint8_t tag[static TLS_KEYS_TAG_BYTES])
{
	uint8_t nothing[TLS_KEYS_TAG_BYTES];
	int none = 0;

	if (keys->seals)
		return done(EVP_CipherFinal_ex(keys->cipher, nothing, &none) == 1 &&
		            EVP_CIPHER_CTX_ctrl(keys->cipher, EVP_CTRL_AEAD_GET_TAG, TLS_KEYS_TAG_BYTES, tag) == 1);
	return done(EVP_CIPHER_CTX_ctrl(keys->cipher, EVP_CTRL_AEAD_SET_TAG, TLS_KEYS_TAG_BYTES, tag) == 1 &&
	            EVP_CipherFinal_ex(keys->cipher, nothing, &none) == 1);
}
