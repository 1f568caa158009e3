/* SipHash (Aumasson, Bernstein: "SipHash: a fast short-input PRF"), of five words. */
#include "gateway/base/digest_hash.h"

#include <string.h>
#include <sys/random.h>

#define HASH_WORDS   (DIGEST_HASH_BYTES / sizeof(uint64_t))
#define FINAL_ROUNDS 3

struct state {
	uint64_t a, b, c, d;
};

struct digest_secret digest_secret_make(void)
{
	/* Where memory lies is a secret, too, should there be no other. */
	struct digest_secret secret = { { (uintptr_t)&secret, (uintptr_t)&digest_secret_make } };

	(void)!getrandom(&secret, sizeof(secret), GRND_NONBLOCK);
	return secret;
}

static uint64_t rotate(uint64_t word, unsigned by)
{
	return word << by | word >> (64 - by);
}

static void mix(struct state *state)
{
	state->a += state->b;
	state->b = rotate(state->b, 13) ^ state->a;
	state->a = rotate(state->a, 32);
	state->c += state->d;
	state->d = rotate(state->d, 16) ^ state->c;
	state->a += state->d;
	state->d = rotate(state->d, 21) ^ state->a;
	state->c += state->b;
	state->b = rotate(state->b, 17) ^ state->c;
	state->c = rotate(state->c, 32);
}

static void take(struct state *state, uint64_t word)
{
	state->d ^= word;
	mix(state);
	state->a ^= word;
}

uint64_t digest_hash(const struct digest *digest, const struct digest_secret *secret)
{
	struct state state = {
		secret->words[0] ^ 0x736f6d6570736575u, secret->words[1] ^ 0x646f72616e646f6du,
		secret->words[0] ^ 0x6c7967656e657261u, secret->words[1] ^ 0x7465646279746573u,
	};
	uint64_t words[HASH_WORDS];

	memcpy(words, digest->hash, sizeof(words));
	for (size_t i = 0; i < HASH_WORDS; i++)
		take(&state, words[i]);
	take(&state, digest->size);              /* the same hash with another size is another name */
	take(&state, (uint64_t)(DIGEST_HASH_BYTES + sizeof(digest->size)) << 56);
	state.c ^= 0xff;
	for (int i = 0; i < FINAL_ROUNDS; i++)
		mix(&state);
	return state.a ^ state.b ^ state.c ^ state.d;
}
