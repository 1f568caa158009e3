/* rig_private: what session_rig.c, rig_client.c, rig_daemon.c and rig_tree.c share. */
#pragma once

#include "tests/unit/session/session_rig.h"

/* ---- session_rig.c ---- */

/* Of a gateway's end of a client's connection, whose owner the rig_client is; and of an end at which no stream arrives. */
extern const struct h2_events rig_gateway_events, rig_plain_events;
/* For h2_events.on_output: a turn looks for itself. */
void rig_ignore_output(void *owner);
void rig_wire_cut(struct rig_wire *wire);
void rig_wire_free(struct rig_wire *wire);

/* ---- rig_client.c ---- */

/* Its session has ended, and all its calls. */
void rig_client_free(struct rig_client *client);

/* ---- rig_tree.c ---- */

/* One of rig_content(), without RIG_EDITED. */
uint8_t rig_byte(uint32_t seed, uint64_t offset);
