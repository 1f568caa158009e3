/* Records sealed by hand. */
#include "tests/unit/net/sealed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "tests/unit/net/wire.h"

#define HEAD_BYTES    5
#define TAG_BYTES     16
#define CONTENT_MAX   256
#define SECRET_LABEL  "CLIENT_TRAFFIC_SECRET_0 "

/* A line of the key log: label, client random, secret, the last two in hex. */
static void on_key(const SSL *ssl, const char *line)
{
	struct sealed *sealed = SSL_get_app_data(ssl);
	const char *hex = strrchr(line, ' ') + 1;

	if (strncmp(line, SECRET_LABEL, strlen(SECRET_LABEL)) != 0)
		return;
	assert_int_equal(strlen(hex), 2 * sizeof(sealed->secret));
	for (size_t i = 0; i < sizeof(sealed->secret); i++)
		assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &sealed->secret[i]), 1);
}

void sealed_begin(struct sealed *sealed, int fd)
{
	*sealed = (struct sealed){ .context = SSL_CTX_new(TLS_client_method()) };
	assert_non_null(sealed->context);
	SSL_CTX_set_min_proto_version(sealed->context, TLS1_3_VERSION);
	assert_int_equal(SSL_CTX_set_ciphersuites(sealed->context, "TLS_AES_128_GCM_SHA256"), 1);
	SSL_CTX_set_keylog_callback(sealed->context, on_key);
	sealed->ssl = SSL_new(sealed->context);
	SSL_set_app_data(sealed->ssl, sealed);
	SSL_set_alpn_protos(sealed->ssl, (const uint8_t *)"\2h2", 3);
	SSL_set_fd(sealed->ssl, fd);
	assert_int_equal(SSL_connect(sealed->ssl), 1);
}

void sealed_end(struct sealed *sealed)
{
	SSL_free(sealed->ssl);
	SSL_CTX_free(sealed->context);
}

/* HKDF-Expand-Label without a context (section 7.1). */
static void expand(const struct sealed *sealed, const char *label, uint8_t *out, size_t size)
{
	uint8_t info[64] = { 0, (uint8_t)size, (uint8_t)(6 + strlen(label)) };
	size_t info_size = 3 + (size_t)sprintf((char *)info + 3, "tls13 %s", label) + 1;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)sealed->secret, sizeof(sealed->secret)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, info_size),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);

	assert_int_equal(EVP_KDF_derive(context, out, size, params), 1);
	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
}

void sealed_send(struct sealed *sealed, uint8_t type, struct span content)
{
	uint8_t key[16], nonce[12], record[HEAD_BYTES + CONTENT_MAX + 1 + TAG_BYTES];
	size_t size = content.size + 1 + TAG_BYTES;
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	int n;

	assert_true(content.size <= CONTENT_MAX);
	expand(sealed, "key", key, sizeof(key));
	expand(sealed, "iv", nonce, sizeof(nonce));
	for (size_t i = 0; i < 8; i++)
		nonce[11 - i] ^= (uint8_t)(sealed->records >> 8 * i);
	sealed->records++;
	memcpy(record, (const uint8_t[]){ SEALED_APPLICATION, 3, 3, (uint8_t)(size >> 8), (uint8_t)size }, HEAD_BYTES);
	assert_int_equal(EVP_EncryptInit_ex(cipher, EVP_aes_128_gcm(), NULL, key, nonce), 1);
	EVP_EncryptUpdate(cipher, NULL, &n, record, HEAD_BYTES);
	EVP_EncryptUpdate(cipher, record + HEAD_BYTES, &n, content.data, (int)content.size);
	EVP_EncryptUpdate(cipher, record + HEAD_BYTES + content.size, &n, &type, 1);
	EVP_EncryptFinal_ex(cipher, record + HEAD_BYTES + content.size + 1, &n);
	EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, record + HEAD_BYTES + content.size + 1);
	EVP_CIPHER_CTX_free(cipher);
	wire_send(SSL_get_fd(sealed->ssl), span_make(record, HEAD_BYTES + size));
}
