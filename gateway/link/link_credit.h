/*
 * link_credit: how much a channel's two ends may still send: the receiver grants, so that a reader that does not read keeps no
 * more than its window here, and stops nobody else. Windows begin with LINK_CREDIT_FIRST and double while what is granted to
 * all channels of the link stays within LINK_CREDIT_LINK_MAX. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_CREDIT_MAX      (4u << 20)          /* a channel's window */
#define LINK_CREDIT_LINK_MAX (32u << 20)         /* all windows of a link */

struct link_credit {
	uint64_t may_send;                       /* of ours, until the peer grants more */
	uint64_t may_arrive;                     /* of the peer's */
	uint64_t window, consumed;               /* consumed: not granted anew yet */
};

/* `granted` is the sum of the windows of a link's channels. */
void link_credit_init(struct link_credit *credit, uint64_t *granted);
void link_credit_fini(struct link_credit *credit, uint64_t *granted);
/* The peer grants more. False: beyond all measure. */
bool link_credit_add(struct link_credit *credit, uint64_t bytes);
/* Bytes came in. False: more than were granted. */
bool link_credit_arrived(struct link_credit *credit, size_t bytes);
/* The reader took bytes. How many to grant now: 0 until it is worth a frame. */
uint64_t link_credit_consumed(struct link_credit *credit, size_t bytes, uint64_t *granted);
