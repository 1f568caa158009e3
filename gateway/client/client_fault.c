/* Why the connection failed or ended, in one sentence that says what to do. */
#include "gateway/client/client_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int connect_failure(const struct client *client, int error, char *text, size_t size)
{
	char name[ADDRESS_TEXT_MAX];

	address_format(&client->address, name);
	switch (-error) {
	case ECONNREFUSED:
		return snprintf(text, size, "cannot reach %s: connection refused: is `sluice serve` running there?", name);
	case ENOENT:
		return snprintf(text, size, "cannot reach %s: there is no such socket: is `sluice serve` running, and listening "
		                            "there?", name);
	case EACCES:
	case EPERM:
		return snprintf(text, size, "cannot reach %s: permission denied: the socket's owner or group may connect", name);
	case ETIMEDOUT:
		return snprintf(text, size, "cannot reach %s: no answer within %llu s: is the address right, and does a "
		                            "firewall let it through?", name,
		                (unsigned long long)((client->connect_timeout_ns + 999999999) / 1000000000));
	default:
		return snprintf(text, size, "cannot reach %s: %s", name, strerror(-error));
	}
}

struct fault {
	enum conn_end end;
	int error;
	const char *reason;
};

static void describe_end(const struct client *client, const struct fault *fault, char *text, size_t size)
{
	bool closed_early = fault->error == -ECONNRESET && fault->end == CONN_END_HANDSHAKE;
	char name[ADDRESS_TEXT_MAX];

	if (client->adopted)
		snprintf(name, sizeof(name), "the gateway");
	else
		address_format(&client->address, name);
	switch (fault->end) {
	case CONN_END_CONNECT:
		connect_failure(client, fault->error, text, size);
		break;
	case CONN_END_HANDSHAKE:
		snprintf(text, size, "cannot talk to %s: %s%s", name, fault->reason,
		         closed_early && !client->address.tls && !client->adopted ? " (is it a TLS listener, grpcs://?)" : "");
		break;
	case CONN_END_HANDSHAKE_TIMEOUT:
		snprintf(text, size, "cannot talk to %s: it took the connection but said nothing: is it a sluice gateway?", name);
		break;
	case CONN_END_DRAINED:
	case CONN_END_IDLE:
		snprintf(text, size, "%s closed the connection in good order (GOAWAY): it shuts down or restarts; try again",
		         name);
		break;
	default:
		snprintf(text, size, "connection to %s lost: %s", name, fault->reason);
		break;
	}
}

void client_note_end(struct client *client)
{
	if (client->error || !client->conn || conn_end(client->conn) == CONN_END_NONE)
		return;
	client->error = conn_error(client->conn) ? conn_error(client->conn) : -ECONNRESET;
	describe_end(client, &(struct fault){ conn_end(client->conn), conn_error(client->conn), conn_reason(client->conn) },
	             client->why, sizeof(client->why));
}

/* A link that was never up failed as a connection does, and is told as one. */
void client_note_link_lost(struct client *client)
{
	const struct link *link = client->link;

	if (client->error)
		return;
	client->error = link_conn_error(link) ? link_conn_error(link) : -ECONNRESET;
	if (!client->link_up && link_how_ended(link) != CONN_END_NONE)
		describe_end(client, &(struct fault){ link_how_ended(link), link_conn_error(link), link_reason(link) }, client->why,
		             sizeof(client->why));
	else
		snprintf(client->why, sizeof(client->why), "%s", link_reason(link));
}
