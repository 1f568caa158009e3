/* Messages behind the handshake of TLS 1.3. */
#include "gateway/net/tls_post.h"

#include <limits.h>
#include "gateway/net/tls_alert.h"

#define HEAD_BYTES         4             /* type, and three bytes of size (section 4) */
#define NEW_SESSION_TICKET 4
#define KEY_UPDATE         24
/* Its fields' longest (section 4.6.1): lifetime, age, nonce, ticket, extensions. */
#define TICKET_BYTES_MAX   (4 + 4 + 1 + 255 + 2 + 65535 + 2 + 65534)

bool tls_post_unfinished(const struct tls_post *post)
{
	return post->had || post->skip;
}

void tls_post_received(struct tls_post *post)
{
	if (post->updates > 0)
		post->updates = 0;
}

void tls_post_sent(struct tls_post *post)
{
	if (post->updates > INT_MIN)
		post->updates--;
}

static void take_byte(struct tls_post *post, struct span *content)
{
	post->head[post->had++] = content->data[0];
	*content = span_make(content->data + 1, content->size - 1);
}

/* Its head is whole. */
static int take_head(struct tls_post *post)
{
	size_t size = (size_t)post->head[1] << 16 | (size_t)post->head[2] << 8 | post->head[3];

	if (post->head[0] == KEY_UPDATE)
		return size == 1 ? TLS_POST_NOTHING : -TLS_ALERT_DECODE_ERROR;
	if (post->head[0] != NEW_SESSION_TICKET || !post->client)
		return -TLS_ALERT_UNEXPECTED_MESSAGE;
	if (size > TICKET_BYTES_MAX)
		return -TLS_ALERT_DECODE_ERROR;
	post->skip = size;
	post->had = 0;
	return TLS_POST_NOTHING;
}

static int take_key_update(struct tls_post *post, struct span rest)
{
	post->had = 0;
	if (post->head[HEAD_BYTES] > 1)
		return -TLS_ALERT_ILLEGAL_PARAMETER;
	if (rest.size)                   /* what follows is under other keys: section 5.1 */
		return -TLS_ALERT_UNEXPECTED_MESSAGE;
	if (post->updates >= TLS_POST_UPDATES_MAX)
		return -TLS_ALERT_UNEXPECTED_MESSAGE;
	post->updates++;
	return post->head[HEAD_BYTES] ? TLS_POST_UPDATE_BOTH : TLS_POST_UPDATE;
}

int tls_post_feed(struct tls_post *post, struct span content)
{
	int r = TLS_POST_NOTHING;

	if (content.size == 0)
		return -TLS_ALERT_UNEXPECTED_MESSAGE;
	while (r == TLS_POST_NOTHING && content.size) {
		size_t n = post->skip < content.size ? post->skip : content.size;

		post->skip -= n;
		content = span_make(content.data + n, content.size - n);
		if (content.size == 0)
			break;
		take_byte(post, &content);
		if (post->had == HEAD_BYTES)
			r = take_head(post);
		else if (post->had > HEAD_BYTES)
			r = take_key_update(post, content);
	}
	return r;
}
