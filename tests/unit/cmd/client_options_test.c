/*
 * Shows what a client's command makes of its settings: an address, and a token only where it goes encrypted or stays on this
 * machine; of one that does not, the address that it would go to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/cmd/client_options.h"
#include "gateway/cmd/command.h"

const struct command *const command_table[] = { NULL };

static void takes(const char *gateway, const char *token)
{
	struct client_options options = { .gateway = gateway, .token = token };
	struct client_config config;
	char why[512] = "";

	if (!client_options_config(&options, &config, why, sizeof(why)))
		fail_msg("%s: %s", gateway, why);
	assert_string_equal(config.token, token);
	assert_int_equal(config.fd, -1);
}

static void refuses(const char *gateway, const char *token, const char *words)
{
	struct client_options options = { .gateway = gateway, .token = token };
	struct client_config config;
	char why[512] = "";

	assert_false(client_options_config(&options, &config, why, sizeof(why)));
	if (!strstr(why, words) || strstr(why, token))
		fail_msg("%s: \"%s\" is not in \"%s\"", gateway, words, why);
}

static void a_token_goes_where_nobody_reads_it(void **state)
{
	takes("grpcs://gateway.example", "hush");
	takes("grpcs://[2001:db8::1]:99", "hush");
	takes("grpc://127.0.0.1:8372", "hush");
	takes("grpc://[::1]", "hush");
	takes("grpc://localhost", "hush");
	takes("unix:///run/sluice.sock", "hush");
}

/* What is named can be typed, and leads to the same port. */
static void a_token_does_not_go_elsewhere(void **state)
{
	refuses("grpc://gateway.example", "hush", "use grpcs://gateway.example:8372");
	refuses("grpc://gateway.example:99", "hush", "use grpcs://gateway.example:99");
	refuses("grpc://[2001:db8::1]:99", "hush", "use grpcs://[2001:db8::1]:99");
	refuses("grpc://192.0.2.1", "hush", "use grpcs://192.0.2.1:8372");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_goes_where_nobody_reads_it),
		cmocka_unit_test(a_token_does_not_go_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
