#include "tests/unit/net/server_rig.h"

#include <unistd.h>

#include "gateway/base/log.h"

const enum ring_engine rig_uring = RING_ENGINE_URING, rig_epoll = RING_ENGINE_EPOLL;

int rig_quiet(void **state)
{
	log_setup(STDERR_FILENO, LOG_ERROR, false);
	return 0;
}

void rig_start(struct echo *echo, void **state, struct echo_config config)
{
	config.engine = *(const enum ring_engine *)*state;
	if (!echo_start(echo, &config))
		fail_msg("%s", echo->why);
}

struct client *rig_client_begin(const struct echo *echo)
{
	struct client_config config = { .fd = -1, .engine = (int)echo->config.engine };
	struct client *client = NULL;
	char why[256] = "";

	if (!address_parse(&config.address, echo->bound, why, sizeof(why)) ||
	    client_open_begin(&client, &config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return client;
}

struct client *rig_client(const struct echo *echo)
{
	struct client *client = rig_client_begin(echo);
	char why[256] = "";

	if (client_open_finish(client, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return client;
}

bool rig_connections_are(const struct server_status *status, uint64_t value)
{
	return status->connections == value;
}

bool rig_one_is_left_of(const struct server_status *status, uint64_t value)
{
	return status->connections_total == value && status->connections == 1;
}

bool rig_stalls_are(const struct server_status *status, uint64_t value)
{
	return status->stalls == value && status->connections == 0;
}

bool rig_streams_are(const struct server_status *status, uint64_t value)
{
	return status->streams == value;
}
