/* A client whose records its library does not know. */
#include "tests/unit/net/sealed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include "tests/unit/net/wire.h"

#define CONTENT_MAX  256
#define SECRET_BYTES 32
#define SECRET_LABEL "CLIENT_TRAFFIC_SECRET_0 "

/* A line of the key log: label, client random, secret, the last two in hex. */
static void on_key(const SSL *ssl, const char *line)
{
	struct sealed *sealed = SSL_get_app_data(ssl);
	const char *hex = strrchr(line, ' ') + 1;
	uint8_t secret[SECRET_BYTES];

	if (strncmp(line, SECRET_LABEL, strlen(SECRET_LABEL)) != 0)
		return;
	assert_int_equal(strlen(hex), 2 * sizeof(secret));
	for (size_t i = 0; i < sizeof(secret); i++)
		assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &secret[i]), 1);
	assert_int_equal(tls_keys_init(&sealed->keys, 0x1301, span_make(secret, sizeof(secret)), true), 0);
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
	tls_keys_fini(&sealed->keys);
	SSL_free(sealed->ssl);
	SSL_CTX_free(sealed->context);
}

void sealed_send(struct sealed *sealed, uint8_t type, struct span content)
{
	uint8_t record[CONTENT_MAX + TLS_SEAL_ADDED_BYTES];
	struct buffer out = buffer_over(record, sizeof(record));

	assert_int_equal(tls_seal_put(&sealed->keys, type, (struct span){ 0 }, content, &out), 0);
	wire_send(SSL_get_fd(sealed->ssl), buffer_span(&out));
}
