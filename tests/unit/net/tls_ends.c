/* Ends of TLS, between spans. */
#include "tests/unit/net/tls_ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include "tests/unit/net/keys.h"

void end_on_plain(void *context, struct span data)
{
	struct end *end = context;
	size_t begin = end->received.size;

	buffer_put(&end->received, data.data, data.size);
	assert_false(end->received.failed);
	if (end->meanwhile)
		end->meanwhile(end);
	assert_memory_equal(data.data, end->received.data + begin, data.size);   /* lent until now */
}

void end_init(struct end *end, const struct tls_config *config, const char *server_name)
{
	char why[256] = "";

	*end = (struct end){ .received = buffer_heap(256u << 20) };
	if (tls_context_create(&end->context, config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(tls_create(&end->tls, end->context, server_name), 0);
}

void end_fini(struct end *end)
{
	tls_destroy(end->tls);
	tls_context_destroy(end->context);
	buffer_fini(&end->received);
}

int end_put(struct end *end, struct span data)
{
	int r = 0;

	while (r == 0 && data.size) {
		size_t n = data.size < TLS_RECORD_BYTES ? data.size : TLS_RECORD_BYTES, head = n % 50;

		r = tls_write(end->tls, span_make(data.data, head), span_make(data.data + head, n - head));
		data = span_make(data.data + n, data.size - n);
	}
	return r;
}

void clients_end(struct end *end, const char *ca, const char *set, const char *server_name)
{
	struct tls_config config = {
		.ca_path = keys_path(ca, "ca.pem"),
		.certificate_path = set ? keys_path(set, "cert.pem") : NULL,
		.key_path = set ? keys_path(set, "key.pem") : NULL,
	};

	end_init(end, &config, server_name);
}

void servers_end(struct end *end, const char *set, const char *ca, bool required)
{
	struct tls_config config = keys_server(set, ca, required);

	end_init(end, &config, NULL);
}

bool ends_carry(struct end *from, struct end *to, size_t split)
{
	struct span out = tls_output(from->tls);
	bool any = out.size > 0;

	while ((out = tls_output(from->tls)).size) {
		size_t n = out.size < split ? out.size : split;

		if (to->result == TLS_OK)
			to->result = tls_feed(to->tls, span_make(out.data, n), end_on_plain, to);
		tls_trim(to->tls);
		tls_sent(from->tls, n);
		from->carried += n;
	}
	return any;
}

void ends_talk(struct end *a, struct end *b, size_t split)
{
	bool any;

	do {
		any = ends_carry(a, b, split);
		any |= ends_carry(b, a, split);
	} while (any);
}
