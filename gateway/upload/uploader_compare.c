/* The tree held against a base that the gateway has: comparison.h over the call. */
#include "gateway/upload/uploader_private.h"

#include <errno.h>
#include "gateway/base/err.h"

bool uploader_has_base(const struct uploader *uploader)
{
	const struct uploader_source *source = uploader->config.source;

	return source->ops->encode && source->base.size && !source->assume;
}

bool uploader_compare(struct uploader *uploader)
{
	struct comparison *comparison = &uploader->comparison;
	struct buffer *request = &uploader->request;

	if (comparison->base.size == 0 &&
	    comparison_begin(comparison, &uploader->config.source->base, &uploader->root) < 0) {
		uploader_fail_memory(uploader);
		return false;
	}
	if (comparison_over(comparison))
		return true;
	if (comparison->asked > comparison->first || !uploader_may_send(uploader))
		return false;
	buffer_clear(request);
	comparison_ask(comparison, request);
	if (request->failed)
		uploader_fail_memory(uploader);
	else if (call_send(&uploader->call, buffer_span(request), 0) == CALL_SENT)
		uploader_flight_add(uploader, (struct uploader_flight){ .kind = UPLOADER_FLIGHT_COMPARE });
	return false;
}

static int encode_ours(void *owner, const struct digest *directory, struct buffer *out)
{
	struct uploader_source *source = owner;

	return source->ops->encode(source, directory, out);
}

void uploader_take_compared(struct uploader *uploader, struct span message)
{
	int r;

	if (uploader->state != UPLOADER_COMPARING)
		return;
	if (message.data)
		r = comparison_take(&uploader->comparison, message, encode_ours, uploader->config.source);
	else
		r = ERR_RAISE(-EPROTO);
	if (r == -EPROTO)
		uploader_fail(uploader, r, GRPC_OK, "the gateway sent an answer to something else");
	else if (r < 0)
		uploader_fail(uploader, r, GRPC_OK, "the tree cannot be read back: %s", err_text(r));
}
