/*
 * One digest at a time, by OpenSSL.
 *
 * Through SHA256_CTX and not EVP: it lives in the caller's memory, so a digest allocates nothing and cannot fail; and
 * its chaining value is open, so what the lanes began can be ended here. OpenSSL 3 marks it deprecated, in favour of
 * one interface to all algorithms, and runs the same code underneath, SHA instructions included.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "chunker/sha256.h"
#include "chunker/sha256_schedule.h"

#include <assert.h>
#include <string.h>

void sha256_stream_init(struct sha256_stream *stream)
{
	SHA256_Init(&stream->context);
}

void sha256_stream_update(struct sha256_stream *stream, const uint8_t *data, size_t size)
{
	if (size)
		SHA256_Update(&stream->context, data, size);
}

void sha256_stream_final(struct sha256_stream *stream, uint8_t digest[static SHA256_BYTES])
{
	SHA256_Final(digest, &stream->context);
}

void sha256_once(const uint8_t *data, size_t size, uint8_t digest[static SHA256_BYTES])
{
	struct sha256_stream stream;

	sha256_stream_init(&stream);
	sha256_stream_update(&stream, data, size);
	sha256_stream_final(&stream, digest);
}

size_t sha256_stream_wants(const struct sha256_stream *stream)
{
	return (SHA256_BLOCK_BYTES - stream->context.num) % SHA256_BLOCK_BYTES;
}

void sha256_stream_words(const struct sha256_stream *stream, uint32_t words[static SHA256_WORDS])
{
	assert(stream->context.num == 0);
	for (size_t i = 0; i < SHA256_WORDS; i++)
		words[i] = stream->context.h[i];
}

void sha256_stream_advanced(struct sha256_stream *stream, const uint32_t words[static SHA256_WORDS], size_t bytes)
{
	uint64_t bits = ((uint64_t)stream->context.Nh << 32 | stream->context.Nl) + (uint64_t)bytes * 8;

	assert(stream->context.num == 0);
	assert(bytes % SHA256_BLOCK_BYTES == 0);
	for (size_t i = 0; i < SHA256_WORDS; i++)
		stream->context.h[i] = words[i];
	stream->context.Nl = (SHA_LONG)bits;
	stream->context.Nh = (SHA_LONG)(bits >> 32);
}

void sha256_resume(const uint32_t words[static SHA256_WORDS], struct sha256_job *job, size_t done)
{
	struct sha256_stream stream;

	assert(done <= job->size);
	sha256_stream_init(&stream);
	sha256_stream_advanced(&stream, words, done);
	sha256_stream_update(&stream, done < job->size ? job->data + done : NULL, job->size - done);
	sha256_stream_final(&stream, job->digest);
}
