/*
 * fanout: calls that concern all of a tenant's executors, asked of each that is ready and answered as one: DiskUsage's
 * records one after the other, Prune's and ListenBuildHistory's streams merged message by message. A record's worker is
 * nowhere named in it, so the records stay as they are. UpdateBuildHistory of a Ref that nobody remembers is asked of each,
 * too: whoever has it does it. So is content, whose digest does not say where it is: first of the executor whose Ref was named
 * last, then of the others, and the first that has it gives it.
 *
 * It ends when the last executor has ended: OK, or the first failure with the executor's name; that one of them does not
 * know a Ref is no failure as long as another one does. A history that is followed ends with the first failure.
 * Back-pressure: while the client does not take what is there, none of them is read from.
 */
#pragma once

#include "gateway/buildkit/binding.h"

#define FANOUT_ANSWER_BYTES_MAX FORWARD_MESSAGE_BYTES_MAX        /* of DiskUsage, all executors together */

struct fanout;

/* The request is whole. With one executor, or for a Ref whose executor is known and there, the call goes there as it is. */
void fanout_begin(struct buildkit_call *call, struct span request);
/* The client has taken all. */
void fanout_resume(struct fanout *fanout);
/* The client's call has gone. NULL is accepted. */
void fanout_leave(struct fanout *fanout);
