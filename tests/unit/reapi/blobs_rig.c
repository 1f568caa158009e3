#include "tests/unit/reapi/blobs_rig.h"

#include <string.h>

#include "proto/pb.h"
#include "tests/unit/store/index_delay.h"

/* The tokens are "reader", "writer", "committer" and "keeper". */
#define TOKENS \
	"3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30 acme read\n" \
	"b93006774cbdd4b299389a03ac3d88c3a76b460d538795bc12718011a909fba5 acme read,write\n" \
	"d232610c6784c2c1bc4feead39914e3072306000ff215748dff743bd5bdeb413 acme read,commit\n" \
	"00aa8942525b763cbe72e4a0fbfbb027b909dd8299e9c6c85c28d3d42d2cc28b acme read,write,commit\n"

struct gateway_thread *gateway;
struct client *client;
static const struct index_engine *engine;

void blobs_choose(int argc, char **argv)
{
	engine = argc > 1 && !strcmp(argv[1], "late") ? &index_late : NULL;
}

int blobs_setup(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .index = engine, .tokens = TOKENS });
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

int blobs_teardown(void **state)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
	return 0;
}

bool blobs_are_idle(struct gateway_parts *parts, void *context)
{
	return parts->reapi.open == 0;
}

uint32_t response_status(const struct answer *answer, size_t which)
{
	struct pb_reader reader = pb_reader_make(buffer_span(&answer->body));
	struct pb_field field, inner, code;
	uint32_t status = 0;

	while (pb_next(&reader, &field)) {
		struct pb_reader response = pb_enter(&reader, &field);

		if (which--)
			continue;
		while (pb_next(&response, &inner)) {
			struct pb_reader nested;

			/* Field 2 of an update's response, 3 of a read's; a read's 2 is the data. */
			if (inner.wire != PB_BYTES || (inner.number != 2 && inner.number != 3))
				continue;
			nested = pb_reader_make(inner.bytes);
			if (pb_next(&nested, &code) && code.number == 1 && code.wire == PB_VARINT)
				status = (uint32_t)code.value;
		}
	}
	return status;
}
