/* Shows which texts name executors, what their options mean, and what is said about those that do not. */
#include "gateway/buildkitd/executor_address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static struct executor_address parse(const char *text)
{
	struct executor_address executor = { 0 };
	char why[600] = "";

	if (!executor_address_parse(&executor, text, why, sizeof(why)))
		fail_msg("%s", why);
	return executor;
}

static void addresses_are_taken_apart(void **state)
{
	static const struct {
		const char *text, *host, *port;
		bool tls, local, dns;
	} good[] = {
		{ "tcp://127.0.0.1:1234", "127.0.0.1", "1234", false, false, false },
		{ "tcp://builder.example:1234", "builder.example", "1234", false, false, false },
		{ "tcp://[::1]:1234", "::1", "1234", false, false, false },
		{ "tcps://builder.example:1234", "builder.example", "1234", true, false, false },
		{ "unix:///run/buildkit/buildkitd.sock", "/run/buildkit/buildkitd.sock", "", false, true, false },
		{ "dns://builders.example:1234", "builders.example", "1234", false, false, true },
		{ "dns://builders.example:1234,ca=/ca.pem", "builders.example", "1234", true, false, true },
		{ "grpc://[::1]:5", "::1", "5", false, false, false },
		{ "grpcs://h:5", "h", "5", true, false, false },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct executor_address executor = parse(good[i].text);

		assert_string_equal(executor.address.host, good[i].host);
		assert_string_equal(executor.address.port, good[i].port);
		assert_int_equal(executor.address.tls, good[i].tls);
		assert_int_equal(executor.address.local, good[i].local);
		assert_int_equal(executor.dns, good[i].dns);
		assert_int_equal(strncmp(executor.name, good[i].text, strlen(executor.name)), 0);
		assert_false(executor.named);
		assert_string_equal(executor.tenant, "");
		assert_int_equal(executor.slots, 0);
	}
}

static void options_are_taken(void **state)
{
	struct executor_address executor =
		parse("tcps://h:1,key=/k.pem,slots=1024,name=the big one,tenant=acme@eu,cert=/c.pem,ca=/a.pem");

	assert_string_equal(executor.address.host, "h");
	assert_int_equal(executor.slots, EXECUTOR_SLOTS_MAX);
	assert_string_equal(executor.name, "the big one");
	assert_true(executor.named);
	assert_string_equal(executor.tenant, "acme@eu");
	assert_string_equal(executor.ca, "/a.pem");
	assert_string_equal(executor.certificate, "/c.pem");
	assert_string_equal(executor.key, "/k.pem");
	assert_string_equal(parse("unix:///run/a,slots=1").address.host, "/run/a");
	assert_string_equal(parse("unix:///run/a,slots=1").name, "unix:///run/a");
}

static void others_are_refused(void **state)
{
	static const char form[] = "use tcp://host:port";
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "", form }, { "tcp://", form }, { "tcp://h", form }, { "tcp://[::1]", form }, { "tcp://h:", form },
		{ "tcp://h:x", form }, { "tcp://h:65536", form }, { "tcps://h", form }, { "dns://h", form }, { "dns://", form },
		{ "unix://x", form }, { "unix://", form }, { "http://h:1", form }, { "h:1", form }, { ",slots=1", form },
		{ "TCP://h:1", form }, { "docker-container://x", form },
		{ "tcp://h:1,", "is none of" }, { "tcp://h:1,slots", "is none of" }, { "tcp://h:1,color=red", "\"color\" is none of" },
		{ "tcp://h:1,slots=0", "slots=0 is not" }, { "tcp://h:1,slots=1025", "is not a number of builds" },
		{ "tcp://h:1,slots=", "slots=" }, { "tcp://h:1,slots=-1", "slots=-1" }, { "tcp://h:1,slots=99999999999", "slots=" },
		{ "tcp://h:1,slots=1,slots=1", "slots= is there twice" },
		{ "tcp://h:1,tenant=", "tenant=" }, { "tcp://h:1,tenant=a b", "is not the name of a tenant" },
		{ "tcp://h:1,name=", "name=" }, { "tcp://h:1,name=a\nb", "name=" },
		{ "tcp://h:1,ca=/x", "for tcps:// and dns://" }, { "unix:///x,cert=/x,key=/y", "for tcps:// and dns://" },
		{ "tcps://h:1,cert=/x", "go together" }, { "dns://h:1,key=/x", "go together" }, { "tcps://h:1,ca=", "is not a file" },
	};
	struct executor_address executor = { .slots = 77 };
	char why[600], longest[2000] = "tcps://h:1,ca=";

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(executor_address_parse(&executor, bad[i].text, why, sizeof(why)));
		if (!strstr(why, bad[i].why))
			fail_msg("%s: %s", bad[i].text, why);
		assert_int_equal(executor.slots, 77);
	}
	memset(longest + strlen(longest), 'a', EXECUTOR_FILE_MAX);
	assert_false(executor_address_parse(&executor, longest, why, sizeof(why)));
	memset(longest + strlen("tcp"), 'a', 600);
	assert_false(executor_address_parse(&executor, longest, why, sizeof(why)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_taken_apart),
		cmocka_unit_test(options_are_taken),
		cmocka_unit_test(others_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
