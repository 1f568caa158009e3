/* Capabilities/GetCapabilities: what this gateway takes and gives; the same for every instance. */
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "chunker/profile.h"
#include "proto/pb.h"

#define REQUEST_BYTES_MAX 4096

static void put_version(struct buffer *out, uint32_t number, uint64_t major, uint64_t minor)
{
	size_t mark = pb_begin(out, number);

	pb_put_varint(out, 1, major);
	pb_put_varint(out, 2, minor);
	pb_end(out, mark);
}

static void put_cache(struct buffer *out, bool may_update)
{
	const struct fastcdc *cuts = profile_fastcdc(PROFILE_REAPI);
	size_t cache = pb_begin(out, 1), nested;

	pb_put_varint_always(out, 1, REAPI_SHA256);
	nested = pb_begin(out, 2);               /* ActionCacheUpdateCapabilities */
	pb_put_bool(out, 1, may_update);
	pb_end(out, nested);
	pb_put_varint(out, 4, REAPI_BATCH_ADVERTISED);
	pb_put_varint(out, 5, REAPI_SYMLINKS_ALLOWED);
	pb_put_varint_always(out, 6, REAPI_ZSTD);
	pb_put_varint_always(out, 7, REAPI_ZSTD);
	pb_put_varint(out, 8, REAPI_BLOB_BYTES_MAX);
	pb_put_bool(out, 9, true);               /* SplitBlob */
	pb_put_bool(out, 10, true);              /* SpliceBlob */
	nested = pb_begin(out, 11);              /* FastCdc2020Params; seed 0 */
	pb_put_varint(out, 1, cuts->average);
	pb_end(out, nested);
	pb_end(out, cache);
}

static void put_execution(struct buffer *out)
{
	size_t execution = pb_begin(out, 2);

	pb_put_varint(out, 1, REAPI_SHA256);
	pb_put_bool(out, 2, true);
	pb_put_text(out, 4, "unix_mode");        /* of outputs, where a Command asks for it */
	pb_put_varint_always(out, 5, REAPI_SHA256);
	pb_end(out, execution);
}

static void on_request(struct rpc *rpc, struct span request)
{
	const uint32_t rights = rpc->caller.executor ? rpc->caller.scope.rights : rpc->caller.rights;
	const uint32_t to_update = SCOPE_WRITE | SCOPE_COMMIT;           /* who may not bring blobs brings no result either */
	struct buffer out = buffer_heap(REQUEST_BYTES_MAX);
	char why[256];

	put_cache(&out, (rights & to_update) == to_update);
	if (rpc->reapi->pool && pool_ready(rpc->reapi->pool, why, sizeof(why)) != GRPC_FAILED_PRECONDITION)
		put_execution(&out);
	put_version(&out, 4, 2, 0);
	put_version(&out, 5, 2, 12);
	rpc_reply(rpc, &out);
	buffer_fini(&out);
}

static const struct rpc_type type = {
	.size = sizeof(struct rpc), .request_bytes_max = REQUEST_BYTES_MAX, .on_request = on_request,
};

int reapi_get_capabilities(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	return rpc_start(reapi, &type, request, why, why_size);
}
