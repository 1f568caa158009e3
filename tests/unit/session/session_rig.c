/* The rig: the wires, the gateway, and what it rests on. */
#include "tests/unit/session/rig_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/cas/references.h"

/* ---- wires ---- */

void rig_ignore_output(void *owner)
{
}

static bool carry(struct h2 *from, struct h2 *to)
{
	struct span data;
	bool moved = false;

	while ((data = h2_output(from)).size) {
		moved = true;
		if (h2_feed(to, data) < 0)
			break;
	}
	return moved;
}

static bool wire_pump(struct rig_wire *wire)
{
	bool moved = false, more = true;

	if (!wire->client || wire->cut)
		return false;
	for (; more; moved |= more) {
		more = carry(wire->client, wire->server);
		more |= carry(wire->server, wire->client);
	}
	return moved;
}

void rig_wire_cut(struct rig_wire *wire)
{
	wire->cut = true;
	h2_carrier_closed(wire->client);
	h2_carrier_closed(wire->server);
}

void rig_wire_free(struct rig_wire *wire)
{
	h2_destroy(wire->client);
	h2_destroy(wire->server);
	*wire = (struct rig_wire){ .cut = true };
}

static bool turn(struct rig *rig)
{
	bool moved = false;

	for (unsigned i = 0; i < rig->clients_count; i++)
		moved |= wire_pump(&rig->clients[i].wire);
	for (unsigned i = 0; i < rig->daemons_count; i++)
		moved |= wire_pump(&rig->daemons[i].wire);
	return moved | (ring_run(rig->fixture.ring, moved ? 0 : 1000000) > 0);
}

static uint64_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

void rig_turn(struct rig *rig, uint64_t *since)
{
	uint64_t now = seconds_now();

	if (!*since)
		*since = now;
	if (now - *since > 60)
		fail_msg("what was waited for never came");
	turn(rig);
}

void rig_until(struct rig *rig, const bool *done)
{
	rig_wait(rig, *done);
}

/* ---- the gateway ---- */

static void rig_on_executor_closed(struct session *session, enum grpc_status status, struct span message)
{
	struct rig_client *client = session_owner(session);

	client->rig->executor_closed++;
	if (client->rig->finish_on_loss)
		session_finish(session, GRPC_UNAVAILABLE, "executor one was lost");
}

static void rig_on_session_closed(struct session *session)
{
	struct rig_client *client = session_owner(session);

	client->session = NULL;
}

static int rig_on_call(struct session *session, struct stream *stream, const struct grpc_request *head)
{
	struct rig *rig = ((struct rig_client *)session_owner(session))->rig;

	return rig->on_call ? rig->on_call(rig, session, stream, head) : SESSION_PASS;
}

static const struct session_events rig_session_events = {
	.on_call = rig_on_call, .on_executor_closed = rig_on_executor_closed, .on_closed = rig_on_session_closed,
};

static int gateway_on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	struct rig_client *client = owner;
	struct session_config config = {
		.ring = client->rig->fixture.ring, .broker = &client->rig->service, .play = &client->rig->play,
		.scope = client->rig->other ? client->rig->fixture.b : client->rig->fixture.a,
		.tenant = span_text(client->rig->other ? "b" : "a"), .subject = span_text("someone"), .events = &rig_session_events, .owner = client,
		.siblings = client->rig->siblings, .spools = &client->rig->spools, .probe_interval_ns = client->rig->probe_interval_ns,
		.probe_timeout_ns = client->rig->probe_timeout_ns,
	};
	struct grpc_request head;

	assert_true(grpc_request_parse(&head, request));
	return session_accept(&client->session, &config, stream, &head);
}

const struct h2_events rig_gateway_events = { .on_stream = gateway_on_stream, .on_output = rig_ignore_output };
const struct h2_events rig_plain_events = { .on_output = rig_ignore_output };

/* ---- life ---- */

static void memory_open(struct rig *rig)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/snapshots", rig->fixture.path);
	assert_int_equal(stat_memory_create(&rig->memory, rig->fixture.ring, path), 0);
	rig->service.memory = rig->memory;
}

static void on_destroyed(void *context)
{
	*(bool *)context = true;
}

static void memory_close(struct rig *rig)
{
	bool destroyed = false;

	stat_memory_destroy(rig->memory, on_destroyed, &destroyed);
	rig_until(rig, &destroyed);
}

static void cas_open(struct rig *rig)
{
	rig->cas = (struct cas){ .ring = rig->fixture.ring, .store = rig->fixture.store, .hasher = &rig->hasher };
	cas_init(&rig->cas);
}

static void stable_open(struct rig *rig)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/claims", rig->fixture.path);
	assert_int_equal(stable_create(&rig->play.stable, rig->fixture.ring, path), 0);
}

static void stable_close(struct rig *rig)
{
	bool destroyed = false;

	stable_destroy(rig->play.stable, on_destroyed, &destroyed);
	rig_until(rig, &destroyed);
}

void rig_reopen_stable(struct rig *rig, const char *command)
{
	char line[512];

	stable_close(rig);
	snprintf(line, sizeof(line), "cd %s/claims && %s", rig->fixture.path, command);
	assert_int_equal(system(line), 0);
	stable_open(rig);
}

void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	fixture_init(&rig->fixture);
	rig->fixture.config.references = closure_references;
	rig->fixture.config.ceiling_bytes = 256u << 20;
	fixture_open(&rig->fixture);
	sha256_init(&rig->hasher, SHA256_AUTO);
	cas_open(rig);
	rig->service = (struct diffcopy_service){ .cas = &rig->cas, .mtime_trust = true, .directory = rig->fixture.path };
	rig->spools = (struct spool_room){ .directory = rig->fixture.path, .bytes_max = SPOOL_ALL_BYTES_MAX,
	                                   .spool_bytes_max = SPOOL_BYTES_MAX };
	memory_open(rig);
	stable_open(rig);
}

void rig_reopen_memory(struct rig *rig)
{
	memory_close(rig);
	memory_open(rig);
}

static void wait_for_cas(struct rig *rig)
{
	rig_wait(rig, cas_idle(&rig->cas));
}

void rig_lose_store(struct rig *rig)
{
	char command[256];

	wait_for_cas(rig);
	memory_close(rig);
	stable_close(rig);
	fixture_close(&rig->fixture);
	snprintf(command, sizeof(command), "cp -a %s/snapshots %s.kept && rm -rf %s/* && mv %s.kept %s/snapshots", rig->fixture.path,
	         rig->fixture.path, rig->fixture.path, rig->fixture.path, rig->fixture.path);
	assert_int_equal(system(command), 0);
	fixture_open(&rig->fixture);
	cas_open(rig);
	memory_open(rig);
	stable_open(rig);
}

void rig_fini(struct rig *rig)
{
	for (unsigned i = 0; i < rig->clients_count; i++)
		if (!rig->clients[i].closed)
			rig_wire_cut(&rig->clients[i].wire);
	for (unsigned i = 0; i < rig->daemons_count; i++)
		if (!rig->daemons[i].wire.cut)
			rig_wire_cut(&rig->daemons[i].wire);
	for (unsigned i = 0; i < rig->clients_count; i++) {
		rig_wait(rig, !rig->clients[i].session && !nest_in_use(&rig->clients[i].nest));
		rig_client_free(&rig->clients[i]);
	}
	for (unsigned i = 0; i < rig->daemons_count; i++) {
		rig_wait(rig, !nest_in_use(&rig->daemons[i].nest));
		rig_wire_free(&rig->daemons[i].wire);
	}
	assert_int_equal(rig->spools.bytes, 0);
	wait_for_cas(rig);
	memory_close(rig);
	stable_close(rig);
	play_service_fini(&rig->play);
	fixture_close(&rig->fixture);
	fixture_fini(&rig->fixture);
}
