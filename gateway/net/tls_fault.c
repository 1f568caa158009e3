/* OpenSSL's error codes as sentences; a table of those that people meet. */
#include "gateway/net/tls_fault.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>

struct sentence {
	int reason;
	/* By the side that we are: a gateway, its client, a gateway at a buildkitd. NULL: OpenSSL's own words. */
	const char *server, *client, *executor;
};

#define ALL(text) text, text, text

static const struct sentence sentences[] = {
	{ SSL_R_WRONG_VERSION_NUMBER, "the client speaks no TLS: it should use a grpcs:// address",
	  "the other side speaks no TLS: is this a grpc:// (plain) listener?",
	  "the buildkitd speaks no TLS: name it tcp://, or start it with --tlscert and --tlskey" },
	{ SSL_R_HTTP_REQUEST, ALL("the client speaks plain HTTP: it should use a grpcs:// address") },
	{ SSL_R_UNSUPPORTED_PROTOCOL, ALL("the other side offers no TLS version that is accepted (1.2 or 1.3)") },
	{ SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, ALL("the other side accepts no TLS version of ours (1.2 or 1.3)") },
	{ SSL_R_NO_APPLICATION_PROTOCOL, "the client offers HTTP/1.1 only by ALPN; h2 is needed", NULL, NULL },
	{ SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, NULL, "the other side does not speak HTTP/2 (ALPN h2)",
	  "the other side does not speak HTTP/2 (ALPN h2): is it a buildkitd?" },
	{ SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "the client gave no certificate, and this listener requires one", NULL, NULL },
	{ SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, NULL,
	  "the gateway requires a client certificate: give one and its key (SLUICE_TLS_CERT, SLUICE_TLS_KEY)",
	  "the buildkitd requires a client certificate: give one and its key (cert=, key= in --buildkit)" },
	{ SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE,  "the client refused the handshake",
	  "the gateway refused the handshake: does it require a client certificate (SLUICE_TLS_CERT, SLUICE_TLS_KEY)?",
	  "the buildkitd refused the handshake: does it require a client certificate (cert=, key= in --buildkit)?" },
	{ SSL_R_TLSV1_ALERT_UNKNOWN_CA, "the client does not know the CA of our certificate: it needs our ca.pem",
	  "the gateway does not know the CA of our certificate: is it one that the gateway's CA issued?",
	  "the buildkitd does not know the CA of our certificate (cert= in --buildkit): its --tlscacert must name that" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "the client says that our certificate has expired: issue a new one",
	  "the gateway says that our certificate has expired: issue a new one (`sluice cert issue`)",
	  "the buildkitd says that our certificate (cert= in --buildkit) has expired: issue a new one, then SIGHUP" },
	{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "the client does not accept our certificate",
	  "the gateway does not accept our certificate, or wants one",
	  "the buildkitd does not accept our certificate (cert= in --buildkit), or wants one: did the CA of its --tlscacert issue it?" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "the client does not accept our certificate",
	  "the gateway does not accept our certificate",
	  "the buildkitd does not accept our certificate (cert= in --buildkit): did the CA of its --tlscacert issue it?" },
	{ SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, "the client says that our certificate is not one for a server",
	  "the gateway says that our certificate is not one for a client",
	  "the buildkitd says that our certificate (cert= in --buildkit) is not one for a client" },
	{ SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, ALL("a TLS record was damaged on the way") },
};

/* What the certificate of a server lacks; who reads it is a user of the gateway, or the one who named a buildkitd to it. */
static void describe_server_verify(const struct tls_fault *fault, char *text, size_t size)
{
	const char *reason = X509_verify_cert_error_string(fault->verify);
	bool executor = fault->to_executor;

	if (fault->verify == X509_V_ERR_HOSTNAME_MISMATCH || fault->verify == X509_V_ERR_IP_ADDRESS_MISMATCH)
		snprintf(text, size, "certificate verify failed: it is not made out for \"%.128s\" (%s)", fault->server_name,
		         executor ? "--buildkit must name the buildkitd as its certificate does" :
		         "is the address right? SLUICE_TLS_SERVER_NAME says which name to expect");
	else if (fault->verify == X509_V_ERR_CERT_HAS_EXPIRED || fault->verify == X509_V_ERR_CERT_NOT_YET_VALID)
		snprintf(text, size, "certificate verify failed: %s (does the %s need a new one, and is the clock right?)", reason,
		         executor ? "buildkitd" : "gateway");
	else if (fault->verify == X509_V_ERR_INVALID_PURPOSE)
		snprintf(text, size, "certificate verify failed: it is not one for a server (`sluice cert issue` makes those)");
	else
		snprintf(text, size, "certificate verify failed: %s (%s)", reason,
		         executor ? "is ca= in --buildkit the CA of the buildkitd's certificate?" :
		         "is ca.pem of this gateway given? SLUICE_TLS_CA");
}

static void describe_verify(const struct tls_fault *fault, char *text, size_t size)
{
	if (fault->server)
		snprintf(text, size, "client certificate refused: %s", X509_verify_cert_error_string(fault->verify));
	else
		describe_server_verify(fault, text, size);
}

bool tls_fault_is_cleartext(unsigned long error)
{
	int reason = ERR_GET_REASON(error);

	return ERR_GET_LIB(error) == ERR_LIB_SSL && (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST);
}

void tls_fault_describe(const struct tls_fault *fault, char *text, size_t size)
{
	int reason = ERR_GET_REASON(fault->error);
	const char *words;

	if (fault->output_full) {
		snprintf(text, size, "the peer asks for more answers than it reads");
		return;
	}
	if (ERR_GET_LIB(fault->error) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		describe_verify(fault, text, size);
		return;
	}
	for (size_t i = 0; ERR_GET_LIB(fault->error) == ERR_LIB_SSL && i < sizeof(sentences) / sizeof(sentences[0]); i++) {
		words = fault->server ? sentences[i].server : fault->to_executor ? sentences[i].executor : sentences[i].client;
		if (sentences[i].reason == reason && words) {
			snprintf(text, size, "%s", words);
			return;
		}
	}
	words = fault->error ? ERR_reason_error_string(fault->error) : NULL;
	snprintf(text, size, "TLS %s failed: %s", fault->ready ? "connection" : "handshake", words ? words : "no reason given");
}
