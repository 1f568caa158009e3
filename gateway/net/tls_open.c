/* Records of TLS 1.3 that are received. */
#include "gateway/net/tls_open.h"

#include <stdlib.h>
#include "gateway/net/tls.h"
#include "gateway/net/tls_alert.h"

#define OUTER_TYPE         23            /* application data of TLS 1.2, whatever is inside */
#define CIPHERTEXT_MAX     (TLS_OPEN_ROOM_BYTES + TLS_KEYS_TAG_BYTES)

int tls_open_init(struct tls_open *open, uint16_t suite, struct span secret)
{
	*open = (struct tls_open){ 0 };
	return tls_keys_init(&open->keys, suite, secret, false);
}

void tls_open_fini(struct tls_open *open)
{
	tls_keys_fini(&open->keys);
	free(open->part);
	open->part = NULL;
}

void tls_open_trim(struct tls_open *open)
{
	if (open->had > TLS_KEYS_HEADER_BYTES)
		return;
	free(open->part);
	open->part = NULL;
}

static void take(struct span *ciphertext, uint8_t *out, size_t size)
{
	if (size)
		memcpy(out, ciphertext->data, size);
	*ciphertext = span_make(ciphertext->data + size, ciphertext->size - size);
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Of what follows the header. */
static size_t record_size(const struct tls_open *open)
{
	return (size_t)open->header[3] << 8 | open->header[4];
}

static size_t inner_size(const struct tls_open *open)
{
	return record_size(open) - TLS_KEYS_TAG_BYTES;
}

/* 1: there is a header. */
static int take_header(struct tls_open *open, struct span *ciphertext)
{
	size_t n = least(TLS_KEYS_HEADER_BYTES - open->had, ciphertext->size);

	take(ciphertext, open->header + open->had, n);
	open->had += n;
	if (open->had < TLS_KEYS_HEADER_BYTES)
		return 0;
	if (open->header[0] != OUTER_TYPE)
		return -TLS_ALERT_UNEXPECTED_MESSAGE;
	if (record_size(open) > CIPHERTEXT_MAX)
		return -TLS_ALERT_RECORD_OVERFLOW;
	if (record_size(open) <= TLS_KEYS_TAG_BYTES)     /* the content has a type at least */
		return -TLS_ALERT_BAD_RECORD_MAC;
	return tls_keys_begin(&open->keys, open->header) ? 1 : -TLS_ALERT_INTERNAL_ERROR;
}

/* Behind the content are its type and zeros (section 5.2). */
static int take_content(const uint8_t *inner, size_t size, struct tls_record *record)
{
	while (size && inner[size - 1] == 0)
		size--;
	if (size == 0)
		return -TLS_ALERT_UNEXPECTED_MESSAGE;
	if (size - 1 > TLS_RECORD_BYTES)
		return -TLS_ALERT_RECORD_OVERFLOW;
	*record = (struct tls_record){ .type = inner[size - 1], .content = span_make(inner, size - 1) };
	return 1;
}

/* Where it is decrypted to: one that is all here, where it is wanted. NULL: no memory. */
static uint8_t *place(struct tls_open *open, bool whole, uint8_t *room)
{
	if (whole)
		return room;
	if (!open->part)
		open->part = malloc(TLS_OPEN_ROOM_BYTES);
	return open->part;
}

/* 1: all of what is encrypted is there. */
static int take_inner(struct tls_open *open, struct span *ciphertext, uint8_t *out)
{
	size_t at = open->had - TLS_KEYS_HEADER_BYTES, left = inner_size(open) - least(at, inner_size(open));
	size_t n = least(left, ciphertext->size);

	if (n && !tls_keys_take(&open->keys, out + at, span_make(ciphertext->data, n)))
		return -TLS_ALERT_INTERNAL_ERROR;
	*ciphertext = span_make(ciphertext->data + n, ciphertext->size - n);
	open->had += n;
	return n == left;
}

/* 1: so is the tag. */
static int take_tag(struct tls_open *open, struct span *ciphertext)
{
	size_t at = open->had - TLS_KEYS_HEADER_BYTES - inner_size(open), left = TLS_KEYS_TAG_BYTES - at;
	size_t n = least(left, ciphertext->size);

	take(ciphertext, open->tag + at, n);
	open->had += n;
	return n == left;
}

int tls_open_next(struct tls_open *open, struct span *ciphertext, uint8_t room[static TLS_OPEN_ROOM_BYTES],
                  struct tls_record *record)
{
	int r = open->had < TLS_KEYS_HEADER_BYTES ? take_header(open, ciphertext) : 1;
	uint8_t *out;

	if (r <= 0)
		return r;
	out = place(open, open->had == TLS_KEYS_HEADER_BYTES && ciphertext->size >= record_size(open), room);
	if (!out)
		return -TLS_ALERT_INTERNAL_ERROR;
	r = take_inner(open, ciphertext, out);
	if (r == 1)
		r = take_tag(open, ciphertext);
	if (r <= 0)
		return r;
	open->had = 0;
	if (!tls_keys_end(&open->keys, open->tag))
		return -TLS_ALERT_BAD_RECORD_MAC;
	return take_content(out, inner_size(open), record);
}
