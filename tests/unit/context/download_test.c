/* Shows what is said of a gateway that ends a call well and answers nothing: no "OK", and no success. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/client/client.h"
#include "gateway/context/download.h"
#include "tests/unit/net/echo.h"

static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;

static int visit(void *context, size_t index, struct span blob)
{
	fail_msg("a blob came");
	return 0;
}

static void a_call_that_ends_well_too_early(void **state)
{
	struct client_config config = { .fd = -1, .engine = (int)*(const enum ring_engine *)*state };
	struct echo_config echo_config = { .engine = *(const enum ring_engine *)*state };
	const struct digest digest = { .hash = { 1 }, .size = 5 };
	struct download *download;
	struct client *client;
	struct echo echo;
	char why[256] = "";

	assert_true(echo_start(&echo, &echo_config));
	assert_true(address_parse(&config.address, echo.bound, why, sizeof(why)));
	assert_int_equal(client_open(&client, &config, why, sizeof(why)), 0);
	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	assert_int_equal(download_source(download)->fetch(download_source(download), &digest, 1, visit, NULL, why, sizeof(why)), -EPROTO);
	assert_string_equal(why, "the gateway ended the call without an answer");
	download_destroy(download);
	client_close(client);
	echo_stop(&echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(a_call_that_ends_well_too_early, (void *)&uring),
		cmocka_unit_test_prestate(a_call_that_ends_well_too_early, (void *)&epoll),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
