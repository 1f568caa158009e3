/* GET and HEAD of /cas/, and of a long value of /ac/: the blob is found by its hash, then it goes out as ByteStream's Read sends it. */
#include <stdlib.h>

#include "gateway/cas/blob_find.h"
#include "gateway/cas/presence.h"
#include "gateway/reapi/delivery.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/web.h"

struct get {
	struct web web;
	struct blob_find find;
	struct presence presence;
	bool present;
	uint64_t left;
	struct delivery *delivery;
	bool sending, stepping;
};

static struct get *get_of(const struct stream *stream)
{
	return container_of((struct web *)stream->owner, struct get, web);
}

static void get_fini(struct web *web)
{
	delivery_destroy(container_of(web, struct get, web)->delivery);
}

static void get_step(struct get *get)
{
	struct web *web = &get->web;

	if (get->stepping || !web->stream || !get->sending)
		return;
	get->stepping = true;
	web->idle_since_ns = ring_now_ns(web->reapi->cas->ring);
	while (get->left) {
		struct span data = delivery_data(get->delivery);
		size_t taken;

		if (!data.size) {
			web->idle_since_ns = 0;          /* it is the disk's turn, not the client's */
			break;
		}
		if (data.size > get->left)
			data.size = get->left;
		taken = stream_write(web->stream, data);
		web->reapi->counters.bytes_sent += taken;
		get->left -= taken;
		delivery_taken(get->delivery, taken);
		if (taken < data.size)
			break;
	}
	get->stepping = false;
	if (get->left)
		return;
	get->sending = false;
	stream_end(web->stream);
}

static void on_ready(void *owner, int result)
{
	struct get *get = owner;

	if (result != STORE_OK) {
		web_answer_store(&get->web, result);
		return;
	}
	get->web.reapi->counters.downloads++;
	web_begin(&get->web, get->left);
	get->sending = get->left > 0;
	get_step(get);
}

static void on_data(void *owner)
{
	get_step(owner);
}

/* The client sees that the rest does not come. */
static void on_failed(void *owner, int result)
{
	struct get *get = owner;

	get->sending = false;
	if (get->web.stream)
		stream_reset(get->web.stream, 2);        /* INTERNAL_ERROR */
}

static const struct delivery_events delivery_events = { .on_ready = on_ready, .on_data = on_data, .on_failed = on_failed };

/* HEAD says what GET would: the chunks of a long blob are looked for, too. */
static void on_presence(struct presence *presence)
{
	struct get *get = container_of(presence, struct get, presence);

	if (presence->result < 0)
		web_answer_store(&get->web, presence->result);
	else if (!get->present)
		web_miss(&get->web);
	else
		web_begin(&get->web, get->left);
	web_release(&get->web);
}

static void get_found(struct get *get)
{
	struct web *web = &get->web;

	get->left = web->digest.size;
	if (web->head) {
		get->presence = (struct presence){
			.cas = web->reapi->cas, .scope = web->scope, .digests = &web->digest, .count = 1, .present = &get->present,
			.fn = on_presence,
		};
		web_hold(web);
		presence_look(&get->presence);
	} else if (!delivery_start(&get->delivery, web->reapi, &web->scope, &web->digest, 0, &delivery_events, get)) {
		web_answer(web, 503, RPC_TEXT_MEMORY);
	}
}

static void on_found(struct blob_find *find)
{
	struct get *get = container_of(find, struct get, find);

	get->web.digest = find->digest;
	if (!get->web.stream)
		;                                /* nobody waits any more */
	else if (find->result != STORE_OK)
		web_answer_store(&get->web, find->result);
	else
		get_found(get);
	web_release(&get->web);
}

static void on_writable(struct stream *stream)
{
	get_step(get_of(stream));
}

static void on_close(struct stream *stream, uint32_t code)
{
	struct get *get = get_of(stream);

	get->sending = false;
	web_closed(&get->web);
}

static const struct stream_events stream_events = { .on_data = web_drop, .on_writable = on_writable, .on_close = on_close };

static struct get *get_accept(const struct web *web)
{
	struct get *get = calloc(1, sizeof(*get));

	if (get)
		web_accept(&get->web, web, &stream_events, get_fini);
	else
		web_refuse(web, 503, RPC_TEXT_MEMORY);
	return get;
}

void web_get_blob(const struct web *web)
{
	struct get *get = get_accept(web);

	if (!get)
		return;
	get->find = (struct blob_find){ .cas = web->reapi->cas, .scope = web->scope, .digest = web->digest, .fn = on_found };
	web_hold(&get->web);
	blob_find(&get->find);
}

void web_get_known(const struct web *web)
{
	struct get *get = get_accept(web);

	if (get)
		get_found(get);
}
