/* Shows which texts are addresses, that formatting gives back what was parsed, and what counts as loopback. */
#include "gateway/net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <cmocka.h>

static void addresses_are_taken_apart(void **state)
{
	static const struct {
		const char *text, *host, *port, *formatted;
		bool tls, local;
	} good[] = {
		{ "grpcs://gw.example:1", "gw.example", "1", NULL, true, false },
		{ "grpc://127.0.0.1:8372", "127.0.0.1", "8372", NULL, false, false },
		{ "grpc://localhost", "localhost", "8372", "grpc://localhost:8372", false, false },
		{ "grpc://localhost/", "localhost", "8372", "grpc://localhost:8372", false, false },
		{ "grpcs://[::1]:443", "::1", "443", NULL, true, false },
		{ "grpc://[fe80::1]", "fe80::1", "8372", "grpc://[fe80::1]:8372", false, false },
		{ "grpc://h:0", "h", "0", NULL, false, false },
		{ "grpc://h:065535", NULL, NULL, NULL, false, false },
		{ "grpc://h:65535", "h", "65535", NULL, false, false },
		{ "unix:///run/sluice.sock", "/run/sluice.sock", "", NULL, false, true },
	};
	char why[256], text[ADDRESS_TEXT_MAX];
	struct address address;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!good[i].host) {
			assert_false(address_parse(&address, good[i].text, why, sizeof(why)));
			continue;
		}
		assert_true(address_parse(&address, good[i].text, why, sizeof(why)));
		assert_string_equal(address.host, good[i].host);
		assert_string_equal(address.port, good[i].port);
		assert_int_equal(address.tls, good[i].tls);
		assert_int_equal(address.local, good[i].local);
		assert_string_equal(address_format(&address, text), good[i].formatted ? good[i].formatted : good[i].text);
	}
}

/* As the admin port is named: no scheme, no slash, a default of its own. */
static void a_host_alone_is_taken_apart(void **state)
{
	static const char *const bad[] = { "", ":1", "h:", "h:65536", "::1", "[::1", "h/", "h:1/", "grpc://h", "unix:///s" };
	struct address address = { .host = "untouched" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(address_parse_host(&address, bad[i], 9));
	assert_string_equal(address.host, "untouched");
	assert_true(address_parse_host(&address, "h", 9));
	assert_string_equal(address.host, "h");
	assert_string_equal(address.port, "9");
	assert_true(address_parse_host(&address, "[::1]:0", 9));
	assert_string_equal(address.host, "::1");
	assert_string_equal(address.port, "0");
	assert_false(address.tls || address.local);
}

static void other_texts_are_refused(void **state)
{
	static const char *const bad[] = {
		"", "localhost", "localhost:8372", "http://x", "https://x:1", "grpc:/x", "grpc://", "grpc:///", "grpcs://:1",
		"grpc://h:", "grpc://h:x", "grpc://h:1x", "grpc://h:-1", "grpc://h:65536", "grpc://h:1:2", "grpc://a b",
		"grpc://a/b", "grpc://u@h", "grpc://[::1", "grpc://[::1]x", "grpc://[]:1", "grpc://::1:8372", "unix://x",
		"unix://", "GRPC://h", "grpc://h\n", "grpc://\x7fh",
		"unix:///aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};
	struct address address = { .host = "untouched" };
	char why[256], longest[400];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why[0] = '\0';
		if (address_parse(&address, bad[i], why, sizeof(why)))
			fail_msg("taken: %s", bad[i]);
		assert_non_null(strstr(why, "unix:///path"));
	}
	memset(longest, 'h', sizeof(longest));
	memcpy(longest, "grpc://", 7);
	longest[7 + 256] = '\0';
	assert_false(address_parse(&address, longest, why, sizeof(why)));
	assert_string_equal(address.host, "untouched");
	longest[7 + 255] = '\0';
	assert_true(address_parse(&address, longest, why, sizeof(why)));
}

static void resolve(const char *text, struct sockaddr_storage *sockaddr)
{
	struct address address;
	socklen_t size;
	char why[256];

	assert_true(address_parse(&address, text, why, sizeof(why)));
	assert_int_equal(address_resolve(&address, false, sockaddr, &size, why, sizeof(why)), 0);
}

static void loopback_is_recognised(void **state)
{
	static const struct {
		const char *text, *described;
		bool loopback;
	} cases[] = {
		{ "grpc://127.0.0.1:5", "127.0.0.1:5", true },
		{ "grpc://127.255.0.9:5", "127.255.0.9:5", true },
		{ "grpc://[::1]:5", "[::1]:5", true },
		{ "grpc://[::ffff:127.0.0.1]:5", "[::ffff:127.0.0.1]:5", true },
		{ "grpc://[::ffff:10.0.0.1]:5", "[::ffff:10.0.0.1]:5", false },
		{ "grpc://128.0.0.1:5", "128.0.0.1:5", false },
		{ "grpc://0.0.0.0:5", "0.0.0.0:5", false },
		{ "grpc://[::]:5", "[::]:5", false },
		{ "grpc://[fe80::1]:5", "[fe80::1]:5", false },
		{ "unix:///x", "unix", true },
	};
	struct sockaddr_storage sockaddr;
	char text[80];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		resolve(cases[i].text, &sockaddr);
		assert_int_equal(address_is_loopback((struct sockaddr *)&sockaddr), cases[i].loopback);
		assert_string_equal(address_describe((struct sockaddr *)&sockaddr, text, sizeof(text)), cases[i].described);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_taken_apart),
		cmocka_unit_test(a_host_alone_is_taken_apart),
		cmocka_unit_test(other_texts_are_refused),
		cmocka_unit_test(loopback_is_recognised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
