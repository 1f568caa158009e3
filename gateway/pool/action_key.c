/* From an action's digest to the key of its result. */
#include "gateway/pool/action_key.h"

#include <errno.h>

#include "gateway/pool/execute.h"

#define ACTION_KEY_TAG "sluice action cache 1"

void action_key_make(uint8_t key[static SHA256_BYTES], const struct digest *action, const struct pool_resolve *resolve)
{
	struct sha256_stream stream;

	sha256_stream_init(&stream);
	sha256_stream_update(&stream, (const uint8_t *)ACTION_KEY_TAG, sizeof(ACTION_KEY_TAG));
	sha256_stream_update(&stream, action->hash, sizeof(action->hash));
	sha256_stream_update(&stream, resolve->environment, sizeof(resolve->environment));
	sha256_stream_final(&stream, key);
}

/* Blobs are not kept while the host is asked: they may be 2 MiB, and many ask. */
static void drop_blobs(struct action_key *key)
{
	blob_get_fini(&key->blobs[0]);
	blob_get_fini(&key->blobs[1]);
	key->task = (struct task){ 0 };
}

static void not_known(struct action_key *key)
{
	drop_blobs(key);
	key->fn(key);
}

/* Whether it is there to be read. One that is longer than what is run here never ran. */
static bool take_part(struct action_key *key, const struct blob_get *get)
{
	if (get->result < 0 && get->result != -EMSGSIZE)
		key->result = get->result;
	return get->result == STORE_OK;
}

/* Of the wait for the host: its time is over, or the answer came and ended it. */
static void on_timer(struct op *op, int32_t res)
{
	struct action_key *key = container_of(op, struct action_key, timer);
	struct pool *pool = key->pool;

	if (list_linked(&key->resolve.link))
		pool_resolve_cancel(pool, &key->resolve);
	key->fn(key);
	pool_leave(pool);
}

static void on_resolved(struct pool_resolve *resolve)
{
	struct action_key *key = container_of(resolve, struct action_key, resolve);

	key->known = resolve->status == GRPC_OK;
	if (key->known)
		action_key_make(key->key, &key->action, resolve);
	ring_cancel(key->cas->ring, &key->timer);
}

static void ask_host(struct action_key *key, size_t image_size)
{
	uint64_t now = ring_now_ns(key->cas->ring);

	key->resolve = (struct pool_resolve){ .image = span_make(key->image, image_size), .fn = on_resolved };
	key->timer.fn = on_timer;
	pool_enter(key->pool);
	ring_timer(key->cas->ring, &key->timer, key->deadline_ns > now ? key->deadline_ns - now : 0);
	pool_resolve(key->pool, &key->resolve);
}

static void on_command(struct blob_get *get)
{
	struct action_key *key = container_of(get, struct action_key, blobs[1]);
	size_t size;

	if (!take_part(key, get) || task_take_command(&key->task, get->blob) || key->task.image.size > sizeof(key->image)) {
		not_known(key);
		return;
	}
	size = key->task.image.size;
	if (size)
		memcpy(key->image, key->task.image.data, size);
	drop_blobs(key);
	ask_host(key, size);
}

static void read_part(struct action_key *key, struct blob_get *get, const struct digest *digest, void (*fn)(struct blob_get *get))
{
	*get = (struct blob_get){
		.cas = key->cas, .scope = key->scope, .digest = *digest, .bytes_max = EXECUTE_COMMAND_BYTES_MAX, .fn = fn,
	};
	blob_get(get);
}

static void on_action(struct blob_get *get)
{
	struct action_key *key = container_of(get, struct action_key, blobs[0]);

	/* What is not to be kept never was. */
	if (!take_part(key, get) || task_take_action(&key->task, get->blob) || key->task.do_not_cache)
		not_known(key);
	else
		read_part(key, &key->blobs[1], &key->task.command_digest, on_command);
}

void action_key_find(struct action_key *key)
{
	char why[256];

	if (!key->pool || ring_now_ns(key->cas->ring) >= key->deadline_ns || pool_ready(key->pool, why, sizeof(why)) != GRPC_OK)
		not_known(key);
	else
		read_part(key, &key->blobs[0], &key->action, on_action);
}
