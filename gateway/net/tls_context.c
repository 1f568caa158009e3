/* Keys, trust and policy of TLS connections. */
#include "gateway/net/tls_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/base/err.h"
#include "gateway/base/user.h"

/* Whether a client offers it. */
static bool offers(const unsigned char *in, unsigned in_size, const char *protocol, const unsigned char **out,
                   unsigned char *out_size)
{
	size_t size = strlen(protocol);

	for (unsigned at = 0; at < in_size && at + in[at] < in_size; at += 1u + in[at]) {
		if (in[at] != size || memcmp(in + at + 1, protocol, size) != 0)
			continue;
		*out = in + at + 1;
		*out_size = in[at];
		return true;
	}
	return false;
}

/* buildx offers no ALPN at all and never gets here; who offers only others is refused. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in,
                       unsigned in_size, void *context)
{
	(void)ssl, (void)context;
	return offers(in, in_size, "h2", out, out_size) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int select_alpn_with_http1(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in,
                                  unsigned in_size, void *context)
{
	if (select_alpn(ssl, out, out_size, in, in_size, context) == SSL_TLSEXT_ERR_OK)
		return SSL_TLSEXT_ERR_OK;
	return offers(in, in_size, "http/1.1", out, out_size) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A key with a passphrase is refused instead of asking on the terminal. */
static int no_passphrase(char *out, int size, int writing, void *context)
{
	(void)out, (void)size, (void)writing, (void)context;
	return -1;
}

/* A gateway reads as the user that it has become, which is not who made the file. */
static void describe_denied(const char *what, const char *path, char *why, size_t why_size)
{
	char name[USER_NAME_BYTES];

	user_name(geteuid(), name);
	snprintf(why, why_size, "cannot use %s %s: the user %s, as whom this runs, may not read it: `chown %s %s`, and let %s into the "
	                        "directories above it", what, path, name, name, path, name);
}

static int load_failure(const char *what, const char *path, char *why, size_t why_size)
{
	unsigned long error = ERR_peek_last_error();
	int system = ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SYS ? ERR_GET_REASON(ERR_peek_error()) : 0;
	const char *reason = system ? strerror(system) : ERR_reason_error_string(error);

	if (system == EACCES)
		describe_denied(what, path, why, why_size);
	else
		snprintf(why, why_size, "cannot use %s %s: %s", what, path, reason ? reason : "not a PEM file of that kind");
	ERR_clear_error();
	return ERR_RAISE(system > 0 ? -system : -EINVAL);
}

static int load_identity(SSL_CTX *ssl, const struct tls_config *config, char *why, size_t why_size)
{
	if (!config->certificate_path && !config->key_path && !config->server)
		return 0;
	if (!config->certificate_path || !config->key_path) {
		snprintf(why, why_size, "TLS needs both a certificate and its key (`sluice cert issue` makes them)");
		return ERR_RAISE(-EINVAL);
	}
	if (SSL_CTX_use_certificate_chain_file(ssl, config->certificate_path) != 1)
		return load_failure("the certificate", config->certificate_path, why, why_size);
	if (SSL_CTX_use_PrivateKey_file(ssl, config->key_path, SSL_FILETYPE_PEM) != 1)
		return load_failure("the key", config->key_path, why, why_size);
	if (SSL_CTX_check_private_key(ssl) != 1) {
		ERR_clear_error();
		snprintf(why, why_size, "the key %s does not belong to the certificate %s", config->key_path,
		         config->certificate_path);
		return ERR_RAISE(-EINVAL);
	}
	return 0;
}

static int load_trust(SSL_CTX *ssl, const struct tls_config *config, char *why, size_t why_size)
{
	if (config->ca_path && SSL_CTX_load_verify_file(ssl, config->ca_path) != 1)
		return load_failure("the CA certificate", config->ca_path, why, why_size);
	if (!config->server) {
		if (!config->ca_path && SSL_CTX_set_default_verify_paths(ssl) != 1)
			return load_failure("the system's CA certificates", "", why, why_size);
		SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
		return 0;
	}
	if (config->require_client_certificate && !config->ca_path) {
		snprintf(why, why_size, "to require client certificates a CA certificate to check them by is needed");
		return ERR_RAISE(-EINVAL);
	}
	if (config->ca_path)
		SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | (config->require_client_certificate ?
		                                                   SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	return 0;
}

/* Before these, SSL_free_buffers() also freed what a record lies in of which a part has come (CVE-2024-4741). */
static bool frees_buffers_rightly(unsigned long version)
{
	unsigned long series = version >> 20, patch = version >> 4 & 0xff;

	switch (series) {
	case 0x300:
		return patch >= 14;
	case 0x301:
		return patch >= 6;
	case 0x302:
		return patch >= 2;
	case 0x303:
		return patch >= 1;
	default:
		return series > 0x303;
	}
}

/*
 * What a connection costs is decided here: no tickets and no CA in the chain keep the handshake under 2 KB, released
 * buffers keep an idle connection under 14 KiB: by tls_trim(), as making them anew for each record costs 5 % of a download's
 * CPU, or else by OpenSSL. AES-128-GCM first: 1.6 times as fast as AES-256-GCM where measured.
 */
static bool set_policy(SSL_CTX *ssl, bool server, bool http1)
{
	static const unsigned char h2[] = { 2, 'h', '2' };

	SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
	                         SSL_OP_ENABLE_KTLS);
	SSL_CTX_set_keylog_callback(ssl, tls_on_secret);
	SSL_CTX_set_mode(ssl, SSL_MODE_NO_AUTO_CHAIN);
	if (!frees_buffers_rightly(OpenSSL_version_num()))
		SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
	if (server)
		SSL_CTX_set_alpn_select_cb(ssl, http1 ? select_alpn_with_http1 : select_alpn, NULL);
	return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 && SSL_CTX_set_num_tickets(ssl, 0) == 1 &&
	       SSL_CTX_set_ciphersuites(ssl, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
	                                     "TLS_CHACHA20_POLY1305_SHA256") == 1 &&
	       SSL_CTX_set_cipher_list(ssl, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
	       SSL_CTX_set1_groups_list(ssl, "X25519:P-256:P-384") == 1 &&
	       SSL_CTX_set_session_id_context(ssl, (const unsigned char *)"sluice", 6) == 1 &&
	       (server || SSL_CTX_set_alpn_protos(ssl, h2, sizeof(h2)) == 0);
}

int tls_context_create(struct tls_context **context, const struct tls_config *config, char *why, size_t why_size)
{
	struct tls_context *made;
	int r;

	made = calloc(1, sizeof(*made));
	if (made)
		made->ssl = SSL_CTX_new(config->server ? TLS_server_method() : TLS_client_method());
	/* At the start, which fails then; of a connection's want of memory OpenSSL would make one for all that come after it. */
	if (!made || !made->ssl || !set_policy(made->ssl, config->server, config->http1) || !tls_bio_prepare() ||
	    !tls_keys_prepare()) {
		snprintf(why, why_size, "no memory for TLS");
		ERR_clear_error();
		tls_context_destroy(made);
		return ERR_RAISE(-ENOMEM);
	}
	made->server = config->server;
	made->to_executor = config->to_executor;
	r = load_identity(made->ssl, config, why, why_size);
	if (r == 0)
		r = load_trust(made->ssl, config, why, why_size);
	if (r < 0) {
		tls_context_destroy(made);
		return ERR_RAISE(r);
	}
	*context = made;
	return 0;
}

void tls_context_destroy(struct tls_context *context)
{
	if (!context)
		return;
	SSL_CTX_free(context->ssl);
	free(context);
}
