/* Who asked, and takes it. */
#include "gateway/reapi/sending.h"

void sending_begin(struct sending *sending, struct reapi *reapi, struct call *call)
{
	sending->call = call;
	sending_moved(sending, reapi);
	list_append(&reapi->sendings, &sending->link);
	reapi_watch(reapi);
}

void sending_moved(struct sending *sending, const struct reapi *reapi)
{
	sending->moved_ns = ring_now_ns(reapi->cas->ring);
}

void sending_end(struct sending *sending)
{
	list_remove(&sending->link);
}

void sendings_sweep(struct reapi *reapi, uint64_t now)
{
	list_for_each_safe(link, after, &reapi->sendings) {
		struct sending *sending = container_of(link, struct sending, link);

		size_t left = call_untaken(sending->call);

		if (left != sending->left) {
			sending->left = left;
			sending->moved_ns = now;
		} else if (now - sending->moved_ns >= REAPI_READ_IDLE_NS) {
			call_cancel(sending->call);
		}
	}
}
