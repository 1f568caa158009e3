/*
 * executing: an Operation as a gateway sends it. Whatever it is, it is read or refused; one that ends has a status, and with
 * OK a result; what it says of output and result lies within its bytes.
 */
#include "gateway/cmd/executing.h"

#include <stdlib.h>

#include "gateway/cmd/command.h"

const struct command *const command_table[] = { NULL };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static bool lies_in(struct span inner, const uint8_t *data, size_t size)
{
	return inner.size == 0 || (inner.data >= data && inner.data + inner.size <= data + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct executing_news news;

	if (!executing_read(&news, span_make(data, size)))
		return 0;
	REQUIRE(lies_in(news.output.data, data, size) && lies_in(news.why, data, size) && lies_in(news.result.stdout_raw, data, size));
	REQUIRE(!news.done || news.has_result || news.status != GRPC_OK);
	REQUIRE(news.done || (!news.has_result && !news.changed));
	return 0;
}
