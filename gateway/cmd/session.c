/* A connection and its end. */
#include "gateway/cmd/session.h"

#include <errno.h>
#include <signal.h>

static struct client *interruptible;
static volatile sig_atomic_t interrupted;

/* The first one ends what waits; the second one, with the default action, ends us. */
static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
	if (interruptible)
		client_interrupt(interruptible);
}

bool session_interrupted(void)
{
	return interrupted;
}

int session_open(struct client **client, const struct command *command, struct client_options *options)
{
	struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESETHAND };
	struct client_config config;
	char why[512];
	int r;

	if (!client_options_config(options, &config, why, sizeof(why)))
		return command_usage(command, "%s", why);
	signal(SIGPIPE, SIG_IGN);
	r = client_open(client, &config, why, sizeof(why));
	if (r == -EINTR)
		return STATUS_INTERRUPTED;
	if (r < 0) {
		command_fail(command, "%s", why);
		return command_status_errno(r);
	}
	interruptible = *client;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return STATUS_OK;
}

void session_close(struct client *client)
{
	interruptible = NULL;
	client_close(client);
}

int session_unary_failed(const struct command *command, struct client *client, struct client_call *call, int r)
{
	enum grpc_status status;
	const char *text = "";

	if (r == CLIENT_INTERRUPTED)
		return STATUS_INTERRUPTED;
	if (r < 0)
		return session_failed(command, r, GRPC_OK, client_error(client));
	status = client_call_status(call, &text);
	return session_failed(command, 0, status, text);
}

int session_status(int r, enum grpc_status status)
{
	if (r == -EINTR)
		return STATUS_INTERRUPTED;
	if (status != GRPC_OK)
		return command_status_grpc(status);
	return r < 0 ? command_status_errno(r) : STATUS_FAILURE;
}

int session_failed(const struct command *command, int r, enum grpc_status status, const char *why)
{
	if (r != -EINTR)
		command_fail(command, "%s", why);
	return session_status(r, status);
}
