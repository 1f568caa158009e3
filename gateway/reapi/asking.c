/* Who was to ask, and does not. */
#include "gateway/reapi/asking.h"

void asking_begin(struct asking *asking, struct reapi *reapi, struct call *call)
{
	asking->call = call;
	asking->received = call->bytes_received;
	asking->moved_ns = ring_now_ns(reapi->cas->ring);
	list_append(&reapi->askings, &asking->link);
	reapi_watch(reapi);
}

void asking_end(struct asking *asking)
{
	list_remove(&asking->link);
}

/* No status gets past an answer that is not taken, which a call of many questions may have had before. */
static void expire(struct call *call)
{
	if (call->finishing)
		call_cancel(call);
	else
		call_finish(call, GRPC_DEADLINE_EXCEEDED, "the request did not come for too long");
}

void askings_sweep(struct reapi *reapi, uint64_t now)
{
	bool crowded = reapi->crowded_ns && now - reapi->crowded_ns < REAPI_CROWDED_NS;
	uint64_t idle_max = crowded ? REAPI_CROWDED_NS : REAPI_WRITE_IDLE_NS;

	list_for_each_safe(link, after, &reapi->askings) {
		struct asking *asking = container_of(link, struct asking, link);

		if (asking->call->bytes_received != asking->received) {
			asking->received = asking->call->bytes_received;
			asking->moved_ns = now;
		} else if (now - asking->moved_ns >= idle_max) {
			asking->moved_ns = now;
			expire(asking->call);
		}
	}
}
