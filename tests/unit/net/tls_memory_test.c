/*
 * Shows that a connection for which there was no memory breaks none that come after it: once there is a context, what all connections
 * share is there, or is made by the next. Each allocation of OpenSSL's in turn fails, in a process of its own, since only the first
 * use in one tells.
 */
#include "gateway/net/tls.h"
#include "gateway/net/tls_keys.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define ALLOCATIONS_MAX 4096

static long until_failure = -1;          /* allocations that are still granted; below 0: all are */

static bool fails(void)
{
	return until_failure >= 0 && until_failure-- == 0;
}

static void *take(size_t size, const char *file, int line)
{
	return fails() ? NULL : malloc(size);
}

static void *take_again(void *block, size_t size, const char *file, int line)
{
	return fails() ? NULL : realloc(block, size);
}

static void give(void *block, const char *file, int line)
{
	free(block);
}

static struct tls_context *context;

static bool connection_begins(void)
{
	struct tls *tls;

	if (tls_create(&tls, context, "localhost") < 0)
		return false;
	tls_destroy(tls);
	return true;
}

static bool keys_are_made(void)
{
	static const uint8_t secret[32] = { 1 };
	struct tls_keys keys;

	if (tls_keys_init(&keys, 0x1301, span_make(secret, sizeof(secret)), true) < 0)
		return false;
	tls_keys_fini(&keys);
	return true;
}

enum verdict {
	VERDICT_WORKED,                  /* without what failed, or before it */
	VERDICT_RECOVERED,
	VERDICT_BROKEN,
};

static enum verdict try_in_child(bool (*use)(void), long granted)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		until_failure = granted;
		if (use())
			_exit(VERDICT_WORKED);
		until_failure = -1;
		_exit(use() ? VERDICT_RECOVERED : VERDICT_BROKEN);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return (enum verdict)WEXITSTATUS(status);
}

/* Until one is granted more than it asks for. */
static void recovers(bool (*use)(void))
{
	unsigned recovered = 0, in_a_row = 0;

	for (long granted = 0; in_a_row < 16; granted++) {
		enum verdict verdict = try_in_child(use, granted);

		assert_true(granted < ALLOCATIONS_MAX);
		if (verdict == VERDICT_BROKEN)
			fail_msg("what failed at allocation %ld fails for ever", granted);
		recovered += verdict == VERDICT_RECOVERED;
		in_a_row = verdict == VERDICT_WORKED ? in_a_row + 1 : 0;
	}
	assert_true(recovered > 0);
}

static void a_connection_recovers(void **state)
{
	recovers(connection_begins);
}

static void keys_recover(void **state)
{
	recovers(keys_are_made);
}

static int make_context(void **state)
{
	char why[256];

	return tls_context_create(&context, &(struct tls_config){ 0 }, why, sizeof(why));
}

static int free_context(void **state)
{
	tls_context_destroy(context);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connection_recovers),
		cmocka_unit_test(keys_recover),
	};

	/* Only before OpenSSL has taken anything. */
	if (!CRYPTO_set_mem_functions(take, take_again, give))
		return 1;
	return cmocka_run_group_tests(tests, make_context, free_context);
}
