/* Shows records of TLS 1.3 against those of RFC 8448, and what is refused. That OpenSSL reads them: tls_peer_test.c. */
#include "gateway/net/tls_seal.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

/* RFC 8448 section 3: client_application_traffic_secret_0, and the record with which that client says 0 to 49. */
static const uint8_t secret[] = {
	0x9e, 0x40, 0x64, 0x6c, 0xe7, 0x9a, 0x7f, 0x9d, 0xc0, 0x5a, 0xf8, 0x88, 0x9b, 0xce, 0x65, 0x52,
	0x87, 0x5a, 0xfa, 0x0b, 0x06, 0xdf, 0x00, 0x87, 0xf7, 0x92, 0xeb, 0xb7, 0xc1, 0x75, 0x04, 0xa5,
};
static const uint8_t record[] = {
	0x17, 0x03, 0x03, 0x00, 0x43, 0xa2, 0x3f, 0x70, 0x54, 0xb6, 0x2c, 0x94, 0xd0, 0xaf, 0xfa, 0xfe, 0x82, 0x28, 0xba, 0x55, 0xcb,
	0xef, 0xac, 0xea, 0x42, 0xf9, 0x14, 0xaa, 0x66, 0xbc, 0xab, 0x3f, 0x2b, 0x98, 0x19, 0xa8, 0xa5, 0xb4, 0x6b, 0x39, 0x5b, 0xd5,
	0x4a, 0x9a, 0x20, 0x44, 0x1e, 0x2b, 0x62, 0x97, 0x4e, 0x1f, 0x5a, 0x62, 0x92, 0xa2, 0x97, 0x70, 0x14, 0xbd, 0x1e, 0x3d, 0xea,
	0xe6, 0x3a, 0xee, 0xbb, 0x21, 0x69, 0x49, 0x15, 0xe4,
};
/* The alert with which it closes (close_notify), its second record. */
static const uint8_t farewell[] = {
	0x17, 0x03, 0x03, 0x00, 0x13, 0xc9, 0x87, 0x27, 0x60, 0x65, 0x56, 0x66, 0xb7, 0x4d, 0x7f, 0xf1, 0x15, 0x3e, 0xfd, 0x6d, 0xb6,
	0xd0, 0xb0, 0xe3,
};

static void records_are_those_of_the_rfc(void **state)
{
	static const uint8_t close_notify[] = { 1, 0 };
	uint8_t said[50];

	for (size_t i = 0; i < sizeof(said); i++)
		said[i] = (uint8_t)i;
	for (size_t head = 0; head <= sizeof(said); head++) {
		struct buffer out = buffer_heap(4096);
		struct tls_keys keys;

		assert_int_equal(tls_keys_init(&keys, 0x1301, span_make(secret, sizeof(secret)), true), 0);
		assert_int_equal(tls_seal_put(&keys, 23, span_make(said, head), span_make(said + head, sizeof(said) - head), &out), 0);
		assert_true(span_equal(buffer_span(&out), span_make(record, sizeof(record))));
		assert_int_equal(out.size, sizeof(said) + TLS_SEAL_ADDED_BYTES);
		buffer_clear(&out);
		assert_int_equal(tls_seal_put(&keys, 21, (struct span){ 0 }, span_make(close_notify, 2), &out), 0);
		assert_true(span_equal(buffer_span(&out), span_make(farewell, sizeof(farewell))));
		tls_keys_fini(&keys);
		buffer_fini(&out);
	}
}

/* A full buffer takes none of it, and the record's number is not used up. */
static void a_record_fits_or_is_not_made(void **state)
{
	uint8_t said[50], storage[sizeof(record)];
	struct buffer small = buffer_over(storage, sizeof(storage) - 1), out = buffer_over(storage, sizeof(storage));
	struct tls_keys keys;

	for (size_t i = 0; i < sizeof(said); i++)
		said[i] = (uint8_t)i;
	assert_int_equal(tls_keys_init(&keys, 0x1301, span_make(secret, sizeof(secret)), true), 0);
	assert_int_equal(tls_seal_put(&keys, 23, (struct span){ 0 }, span_make(said, sizeof(said)), &small), -ENOMEM);
	assert_int_equal(small.size, 0);
	assert_int_equal(tls_seal_put(&keys, 23, (struct span){ 0 }, span_make(said, sizeof(said)), &out), 0);
	assert_true(span_equal(buffer_span(&out), span_make(record, sizeof(record))));
	tls_keys_fini(&keys);
}

/* All eight bytes of the number are in the nonce (section 5.3). */
static void far_records_have_their_own_nonce(void **state)
{
	static const uint8_t number[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	struct buffer out = buffer_heap(4096);
	uint8_t nonce[12], inner[6];
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	struct tls_keys keys;
	uint8_t key[16] = { 0x17, 0x42, 0x2d, 0xda, 0x59, 0x6e, 0xd5, 0xd9, 0xac, 0xd8, 0x90, 0xe3, 0xc6, 0x3f, 0x50, 0x51 };
	int n;

	assert_int_equal(tls_keys_init(&keys, 0x1301, span_make(secret, sizeof(secret)), true), 0);
	keys.records = 0x0102030405060708;
	assert_int_equal(tls_seal_put(&keys, 23, (struct span){ 0 }, span_make("hello", 5), &out), 0);
	memcpy(nonce, (const uint8_t[]){ 0x5b, 0x78, 0x92, 0x3d, 0xee, 0x08, 0x57, 0x90, 0x33, 0xe5, 0x23, 0xd9 }, 12);
	for (size_t i = 0; i < sizeof(number); i++)
		nonce[4 + i] ^= number[i];
	assert_int_equal(EVP_DecryptInit_ex(cipher, EVP_aes_128_gcm(), NULL, key, nonce), 1);
	assert_int_equal(EVP_DecryptUpdate(cipher, NULL, &n, out.data, 5), 1);
	assert_int_equal(EVP_DecryptUpdate(cipher, inner, &n, out.data + 5, 6), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, 16, out.data + 5 + 6), 1);
	assert_int_equal(EVP_DecryptFinal_ex(cipher, inner, &n), 1);
	assert_memory_equal(inner, "hello\x17", 6);
	EVP_CIPHER_CTX_free(cipher);
	tls_keys_fini(&keys);
	buffer_fini(&out);
}

static void what_is_not_known_is_left_to_others(void **state)
{
	struct tls_keys keys;

	assert_int_equal(tls_keys_init(&keys, 0x1304, span_make(secret, sizeof(secret)), true), -ENOTSUP);
	assert_int_equal(tls_keys_init(&keys, 0x1302, span_make(secret, sizeof(secret)), true), -ENOTSUP);
	assert_int_equal(tls_keys_init(&keys, 0x1301, (struct span){ 0 }, true), -ENOTSUP);
	tls_keys_fini(&keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_are_those_of_the_rfc),
		cmocka_unit_test(a_record_fits_or_is_not_made),
		cmocka_unit_test(far_records_have_their_own_nonce),
		cmocka_unit_test(what_is_not_known_is_left_to_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
