/* Records of TLS 1.3, sealed by OpenSSL's ciphers and derived by its KDF. */
#include "gateway/net/tls_seal.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define HEADER_BYTES 5
#define NONCE_BYTES  12
#define TAG_BYTES    16
#define KEY_MAX      32

struct suite {
	uint16_t number;
	const EVP_CIPHER *(*cipher)(void);
	const char *digest;
	size_t secret_size;              /* the digest's */
};

static const struct suite suites[] = {
	{ 0x1301, EVP_aes_128_gcm, "SHA2-256", 32 },
	{ 0x1302, EVP_aes_256_gcm, "SHA2-384", 48 },
	{ 0x1303, EVP_chacha20_poly1305, "SHA2-256", 32 },
};

struct tls_seal {
	const struct suite *suite;
	EVP_CIPHER_CTX *cipher;          /* has the key */
	uint8_t secret[TLS_SEAL_SECRET_MAX];
	uint8_t iv[NONCE_BYTES];
	uint64_t records;                /* under this key */
};

/* HKDF-Expand-Label(secret, label, "", size), RFC 8446 section 7.1. */
static bool expand(const struct tls_seal *seal, const char *label, uint8_t *out, size_t size)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
	EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)seal->suite->digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)seal->secret, seal->suite->secret_size),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, "tls13 ", 6),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)label, strlen(label)),
		OSSL_PARAM_construct_end(),
	};
	bool made = context && EVP_KDF_derive(context, out, size, params) == 1;

	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
	return made;
}

/* The key and the nonces' base of the present secret (section 7.3). */
static bool take_key(struct tls_seal *seal)
{
	const EVP_CIPHER *cipher = seal->suite->cipher();
	uint8_t key[KEY_MAX];
	bool taken;

	seal->records = 0;
	taken = expand(seal, "key", key, (size_t)EVP_CIPHER_get_key_length(cipher)) &&
	        expand(seal, "iv", seal->iv, sizeof(seal->iv)) &&
	        EVP_EncryptInit_ex(seal->cipher, cipher, NULL, key, NULL) == 1;
	OPENSSL_cleanse(key, sizeof(key));
	return taken;
}

static const struct suite *suite_find(uint16_t number)
{
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		if (suites[i].number == number)
			return &suites[i];
	return NULL;
}

int tls_seal_create(struct tls_seal **out, uint16_t number, struct span secret)
{
	const struct suite *suite = suite_find(number);
	struct tls_seal *seal;

	if (!suite || secret.size != suite->secret_size)
		return ERR_RAISE(-ENOTSUP);
	seal = calloc(1, sizeof(*seal));
	if (!seal)
		return ERR_RAISE(-ENOMEM);
	seal->suite = suite;
	memcpy(seal->secret, secret.data, secret.size);
	seal->cipher = EVP_CIPHER_CTX_new();
	if (!seal->cipher || !take_key(seal)) {
		ERR_clear_error();
		tls_seal_destroy(seal);
		return ERR_RAISE(-ENOMEM);
	}
	*out = seal;
	return 0;
}

void tls_seal_destroy(struct tls_seal *seal)
{
	if (!seal)
		return;
	EVP_CIPHER_CTX_free(seal->cipher);
	OPENSSL_cleanse(seal, sizeof(*seal));
	free(seal);
}

int tls_seal_update(struct tls_seal *seal)
{
	uint8_t next[TLS_SEAL_SECRET_MAX];
	bool updated = expand(seal, "traffic upd", next, seal->suite->secret_size);

	if (updated)
		memcpy(seal->secret, next, seal->suite->secret_size);
	OPENSSL_cleanse(next, sizeof(next));
	if (updated && take_key(seal))
		return 0;
	ERR_clear_error();
	return ERR_RAISE(-ENOMEM);
}

/* The iv with the record's number in its end (section 5.3). */
static void make_nonce(const struct tls_seal *seal, uint8_t nonce[static NONCE_BYTES])
{
	memcpy(nonce, seal->iv, NONCE_BYTES);
	for (unsigned i = 0; i < 8; i++)
		nonce[NONCE_BYTES - 1 - i] ^= (uint8_t)(seal->records >> (8 * i));
}

static bool encrypt(EVP_CIPHER_CTX *cipher, uint8_t **at, const uint8_t *data, size_t size)
{
	int written = 0;

	if (size == 0)
		return true;
	if (EVP_EncryptUpdate(cipher, *at, &written, data, (int)size) != 1 || (size_t)written != size)
		return false;
	*at += size;
	return true;
}

int tls_seal_put(struct tls_seal *seal, uint8_t type, struct span head, struct span body, struct buffer *out)
{
	size_t size = head.size + body.size + 1 + TAG_BYTES;
	uint8_t *record = buffer_reserve(out, HEADER_BYTES + size), *at, nonce[NONCE_BYTES];
	int none = 0;

	CHECK(head.size + body.size <= TLS_SEAL_PLAIN_MAX);
	if (!record)
		return ERR_RAISE(-ENOMEM);
	/* What is seen of it (section 5.2): application data of TLS 1.2. */
	record[0] = 23, record[1] = 3, record[2] = 3, record[3] = (uint8_t)(size >> 8), record[4] = (uint8_t)size;
	at = record + HEADER_BYTES;
	make_nonce(seal, nonce);
	if (EVP_EncryptInit_ex(seal->cipher, NULL, NULL, NULL, nonce) != 1 ||
	    EVP_EncryptUpdate(seal->cipher, NULL, &none, record, HEADER_BYTES) != 1 ||
	    !encrypt(seal->cipher, &at, head.data, head.size) || !encrypt(seal->cipher, &at, body.data, body.size) ||
	    !encrypt(seal->cipher, &at, &type, 1) || EVP_EncryptFinal_ex(seal->cipher, at, &none) != 1 ||
	    EVP_CIPHER_CTX_ctrl(seal->cipher, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, at) != 1) {
		ERR_clear_error();
		return ERR_RAISE(-ENOMEM);
	}
	seal->records++;
	out->size += HEADER_BYTES + size;
	return 0;
}
