/* Records of TLS 1.3 to send. */
#include "gateway/net/tls_seal.h"

#include <errno.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/net/tls.h"

int tls_seal_put(struct tls_keys *keys, uint8_t type, struct span head, struct span body, struct buffer *out)
{
	size_t content = head.size + body.size, size = content + 1 + TLS_KEYS_TAG_BYTES;
	uint8_t *record, *at;

	CHECK(content <= TLS_RECORD_BYTES);
	record = buffer_reserve(out, TLS_KEYS_HEADER_BYTES + size);
	if (!record)
		return ERR_RAISE(-ENOMEM);
	/* What is seen of it (section 5.2): application data of TLS 1.2. */
	record[0] = 23, record[1] = 3, record[2] = 3, record[3] = (uint8_t)(size >> 8), record[4] = (uint8_t)size;
	at = record + TLS_KEYS_HEADER_BYTES;
	if (!tls_keys_begin(keys, record) || !tls_keys_take(keys, at, head) || !tls_keys_take(keys, at + head.size, body) ||
	    !tls_keys_take(keys, at + content, span_make(&type, 1)) || !tls_keys_end(keys, at + content + 1))
		return ERR_RAISE(-ENOMEM);
	out->size += TLS_KEYS_HEADER_BYTES + size;
	return 0;
}
