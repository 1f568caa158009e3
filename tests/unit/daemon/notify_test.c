/*
 * notify: what is told arrives, by a path and by a name in the abstract space, one datagram each; the variable is gone afterwards,
 * also where it says nothing that can be used; a manager that has gone or does not read holds nobody up.
 */
#include "gateway/daemon/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int manager(const char *text)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text));

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", text);
	if (*text == '@')
		address.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&address, size + (*text == '/')), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", text, 1), 0);
	return fd;
}

static void told(int fd, const char *wanted)
{
	char text[64] = "";

	assert_int_equal(recv(fd, text, sizeof(text) - 1, 0), (int)strlen(wanted));
	assert_string_equal(text, wanted);
}

static void open_good(struct notify *notify)
{
	notify_open(notify);
	assert_true(notify->fd >= 0);
	assert_null(getenv("NOTIFY_SOCKET"));
}

static void by_a_path(void **state)
{
	char path[] = "/tmp/notify-XXXXXX/socket";
	struct notify notify;
	int fd;

	(void)state;
	path[18] = '\0';
	assert_non_null(mkdtemp(path));
	path[18] = '/';
	fd = manager(path);
	open_good(&notify);
	notify_send(&notify, "READY=1");
	notify_send(&notify, "STOPPING=1");
	told(fd, "READY=1");
	told(fd, "STOPPING=1");
	close(fd);
	notify_send(&notify, "STATUS=nobody hears");
	notify_close(&notify);
	notify_send(&notify, "READY=1");
	unlink(path);
	path[18] = '\0';
	rmdir(path);
}

static void by_a_name(void **state)
{
	struct notify notify;
	char name[64];
	int fd;

	(void)state;
	snprintf(name, sizeof(name), "@sluice-notify-test-%d", (int)getpid());
	fd = manager(name);
	open_good(&notify);
	for (int i = 0; i < 10000; i++)  /* more than the socket holds */
		notify_send(&notify, "STATUS=1");
	told(fd, "STATUS=1");
	notify_close(&notify);
	close(fd);
}

static void nobody_wants_to_hear(void **state)
{
	static const char *const texts[] = { "", "/", "@", "vsock:2:1", "relative", "/nonexistent/socket" };
	char longest[300];
	struct notify notify;

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	notify_open(&notify);
	assert_int_equal(notify.fd, -1);
	memset(longest, '/', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	for (size_t i = 0; i <= sizeof(texts) / sizeof(texts[0]); i++) {
		setenv("NOTIFY_SOCKET", i < sizeof(texts) / sizeof(texts[0]) ? texts[i] : longest, 1);
		notify_open(&notify);
		assert_int_equal(notify.fd, -1);
		assert_null(getenv("NOTIFY_SOCKET"));
		notify_send(&notify, "READY=1");
		notify_close(&notify);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_a_path),
		cmocka_unit_test(by_a_name),
		cmocka_unit_test(nobody_wants_to_hear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
