/*
 * web_guard: whether a request that has no credential comes from this machine. That its connection does says little: web pages of
 * anybody's let browsers ask 127.0.0.1, also under a name of theirs that suddenly leads there (DNS rebinding), and a proxy that
 * runs here hands on what comes from afar. Pure.
 */
#pragma once

#include "proto/h2.h"

/*
 * True: it names this machine as its host (localhost, 127.0.0.0/8, [::1], with any port), and neither a page of another site nor a
 * proxy has part in it, as far as browsers (Origin, Sec-Fetch-Site) and proxies (Forwarded, X-Forwarded-For) say.
 */
bool web_guard_local(const struct h2_request *head);
/* What who is refused for it is told. */
#define WEB_GUARD_TEXT "without a credential only who asks for localhost or 127.0.0.1 is answered, and no web page or proxy: give a token"
