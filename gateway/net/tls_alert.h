/* tls_alert: what is wrong, as one peer of TLS 1.3 tells it the other (RFC 8446 section 6). */
#pragma once

enum tls_alert {
	TLS_ALERT_CLOSE_NOTIFY       = 0,
	TLS_ALERT_UNEXPECTED_MESSAGE = 10,
	TLS_ALERT_BAD_RECORD_MAC     = 20,
	TLS_ALERT_RECORD_OVERFLOW    = 22,
	TLS_ALERT_ILLEGAL_PARAMETER  = 47,
	TLS_ALERT_DECODE_ERROR       = 50,
	TLS_ALERT_INTERNAL_ERROR     = 80,
	TLS_ALERT_USER_CANCELED      = 90,
};
