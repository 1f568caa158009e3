/* Calls without a request. */
#include "gateway/net/silence.h"

#include "proto/call.h"

static void look(struct stream *stream)
{
	struct call *call = call_of(stream);

	if (!call || call->bytes_received || call->finishing)
		return;
	if (++call->silent_looks >= SILENCE_LOOKS)
		call_finish(call, GRPC_DEADLINE_EXCEEDED, "nothing came in this call for too long");
}

void silence_look(struct h2 *h2)
{
	h2_each_stream(h2, look);
}
