/* Channels: sockets on one side, frames on the other. */
#include "gateway/link/link_channel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/link/link_mux.h"

/* A read that fills no more of the spare frame is copied into one of its own: no frame costs more than twice what it holds. */
#define COPY_BYTES_MAX (LINK_FRAME_BYTES / 2)

static void channel_on_poll(struct op *op, int32_t res);
static void channel_on_send(struct op *op, int32_t res);

/* ---- the table ---- */

void link_channels_init(struct link_channels *channels)
{
	*channels = (struct link_channels){ 0 };
	list_init(&channels->ready);
	list_init(&channels->dirty);
}

void link_channels_fini(struct link_channels *channels)
{
	CHECK(channels->count == 0 && channels->landing == 0);
	free(channels->spare);
	channels->spare = NULL;
}

static struct link_channel **channels_place(const struct link_channels *channels, uint32_t id)
{
	struct link_channel *const *table = channels->table;

	for (unsigned i = 0; i < LINK_CHANNELS_MAX; i++)
		if (table[i] ? table[i]->id == id : id == 0)
			return (struct link_channel **)&table[i];
	return NULL;
}

struct link_channel *link_channels_find(const struct link_channels *channels, uint32_t id)
{
	struct link_channel **place = id ? channels_place(channels, id) : NULL;

	return place ? *place : NULL;
}

/* ---- life ---- */

static void channel_free(struct link_channel *channel)
{
	buffer_fini(&channel->incoming);
	buffer_fini(&channel->sending);
	free(channel);
}

int link_channel_create(struct link_channel **out, struct link_mux *mux, uint32_t id, int *user)
{
	struct link_channel **place = channels_place(&mux->channels, 0);
	struct link_channel *channel;
	int fds[2];

	if (!place)
		return ERR_RAISE(-EAGAIN);
	channel = calloc(1, sizeof(*channel));
	if (!channel)
		return ERR_RAISE(-ENOMEM);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
		free(channel);
		return ERR_RAISE(-errno);
	}
	*channel = (struct link_channel){
		.mux = mux, .id = id, .fd = fds[0], .poll.fn = channel_on_poll, .send.fn = channel_on_send,
		.incoming = buffer_heap(LINK_CREDIT_MAX), .sending = buffer_heap(LINK_CREDIT_MAX),
	};
	link_credit_init(&channel->credit, &mux->channels.granted);
	*place = channel;
	mux->channels.count++;
	mux->channels.total++;
	ring_poll(mux->ring, &channel->poll, channel->fd);
	*user = fds[1];
	*out = channel;
	return 0;
}

static void channel_join(struct link_channel *channel)
{
	struct link_mux *mux = channel->mux;

	if (op_in_flight(&channel->poll) || op_in_flight(&channel->send))
		return;
	ring_close(mux->ring, NULL, channel->fd);
	CHECK(mux->channels.landing > 0);
	mux->channels.landing--;
	channel_free(channel);
	if (mux->closing)
		link_mux_wake(mux);
}

void link_channel_close(struct link_channel *channel)
{
	struct link_channels *channels = &channel->mux->channels;

	if (channel->closing)
		return;
	channel->closing = true;
	*channels_place(channels, channel->id) = NULL;
	channels->count--;
	channels->landing++;
	if (channels->count == 0) {
		channel->mux->idle_owed = true;
		link_mux_wake(channel->mux);
	}
	link_credit_fini(&channel->credit, &channels->granted);
	list_remove(&channel->ready);
	list_remove(&channel->dirty);
	/* Now and not when the ops have landed: the user sees the end at once. */
	shutdown(channel->fd, SHUT_RDWR);
	ring_cancel(channel->mux->ring, &channel->poll);
	ring_cancel(channel->mux->ring, &channel->send);
	channel_join(channel);
}

static void channel_push(struct link_channel *channel, uint32_t kind, uint64_t credit)
{
	struct link_frame *frame = link_frame_create(kind, channel->id, 0);

	if (!frame) {
		link_mux_fail(channel->mux, LINK_TROUBLE_MEMORY);
		return;
	}
	frame->credit = credit;
	link_core_push(&channel->mux->core, frame);
	link_mux_wake(channel->mux);
}

static void channel_reset(struct link_channel *channel)
{
	channel_push(channel, LINK_RESET, 0);
	link_channel_close(channel);
}

static void channel_dirty(struct link_channel *channel)
{
	if (!list_linked(&channel->dirty))
		list_append(&channel->mux->channels.dirty, &channel->dirty);
	link_mux_wake(channel->mux);
}

/* ---- from the user ---- */

/* It may be read, and what is read may go. */
static void channel_watch(struct link_channel *channel)
{
	if (!channel->closing && !channel->end_sent && channel->credit.may_send && !list_linked(&channel->ready) &&
	    !op_in_flight(&channel->poll))
		ring_poll(channel->mux->ring, &channel->poll, channel->fd);
}

static void channel_on_poll(struct op *op, int32_t res)
{
	struct link_channel *channel = container_of(op, struct link_channel, poll);

	if (channel->closing) {
		channel_join(channel);
		return;
	}
	if (res < 0) {
		channel_reset(channel);
		return;
	}
	if (channel->end_sent || channel->credit.may_send == 0 || list_linked(&channel->ready))
		return;
	list_append(&channel->mux->channels.ready, &channel->ready);
	link_mux_wake(channel->mux);
}

static struct link_frame *spare_frame(struct link_channels *channels)
{
	struct link_frame *frame = channels->spare;

	channels->spare = NULL;
	return frame ? frame : link_frame_create(LINK_DATA, 0, LINK_FRAME_BYTES);
}

/* What was read becomes a frame, as small as it may be. NULL: no memory. */
static struct link_frame *fit(struct link_channels *channels, struct link_frame *read, size_t size)
{
	struct link_frame *frame = read;

	if (size <= COPY_BYTES_MAX) {
		frame = link_frame_create(LINK_DATA, 0, size);
		channels->spare = read;
		if (!frame)
			return NULL;
		memcpy(frame->data, read->data, size);
	}
	frame->size = size;
	return frame;
}

/* One read of one channel. It is put at the end of the row, or watched again. */
static void channel_read(struct link_channel *channel, size_t bytes_max)
{
	struct link_mux *mux = channel->mux;
	struct link_frame *frame = spare_frame(&mux->channels);
	size_t wanted = channel->credit.may_send < bytes_max ? (size_t)channel->credit.may_send : bytes_max;
	ssize_t n;

	if (!frame) {
		link_mux_fail(mux, LINK_TROUBLE_MEMORY);
		return;
	}
	n = recv(channel->fd, frame->data, wanted, MSG_DONTWAIT);
	if (n <= 0) {
		mux->channels.spare = frame;
		if (n == 0) {
			channel->end_sent = true;
			channel_push(channel, LINK_END, 0);
			channel_dirty(channel);
		} else if (errno == EAGAIN || errno == EINTR) {
			channel_watch(channel);
		} else {
			channel_reset(channel);
		}
		return;
	}
	frame = fit(&mux->channels, frame, (size_t)n);
	if (!frame) {
		link_mux_fail(mux, LINK_TROUBLE_MEMORY);
		return;
	}
	frame->channel = channel->id;
	link_core_push(&mux->core, frame);
	channel->credit.may_send -= (size_t)n;
	if (channel->credit.may_send && (size_t)n == wanted)
		list_append(&mux->channels.ready, &channel->ready);
	else
		channel_watch(channel);
}

bool link_channels_read(struct link_mux *mux, size_t bytes_max)
{
	while (!list_empty(&mux->channels.ready) && mux->trouble == LINK_TROUBLE_NONE) {
		struct list *first = list_take(&mux->channels.ready);

		channel_read(container_of(first, struct link_channel, ready), bytes_max);
		if (link_core_pending(&mux->core))
			return true;
	}
	return false;
}

/* ---- to the user ---- */

static void channel_on_send(struct op *op, int32_t res)
{
	struct link_channel *channel = container_of(op, struct link_channel, send);
	uint64_t grant;

	if (channel->closing) {
		channel_join(channel);
		return;
	}
	if (res < 0) {
		channel_reset(channel);          /* the user has closed it */
		return;
	}
	CHECK((size_t)res == channel->sending.size);
	buffer_clear(&channel->sending);
	grant = link_credit_consumed(&channel->credit, (size_t)res, &channel->mux->channels.granted);
	if (grant && !channel->end_received)
		channel_push(channel, LINK_CREDIT, grant);
	channel_dirty(channel);
}

static void channel_flush(struct link_channel *channel)
{
	struct buffer empty = channel->sending;

	if (op_in_flight(&channel->send))
		return;
	if (channel->incoming.size) {
		channel->sending = channel->incoming;
		channel->incoming = empty;
		ring_send(channel->mux->ring, &channel->send, channel->fd, buffer_span(&channel->sending));
		return;
	}
	if (channel->end_received && !channel->shut) {
		channel->shut = true;
		shutdown(channel->fd, SHUT_WR);
	}
	if (channel->shut && channel->end_sent)
		link_channel_close(channel);
}

void link_channels_flush(struct link_mux *mux)
{
	struct list *link;

	while ((link = list_take(&mux->channels.dirty)))
		channel_flush(container_of(link, struct link_channel, dirty));
}

void link_channels_trim(struct link_mux *mux)
{
	for (unsigned i = 0; i < LINK_CHANNELS_MAX; i++) {
		struct link_channel *channel = mux->channels.table[i];

		if (!channel || op_in_flight(&channel->send) || channel->incoming.size)
			continue;
		buffer_fini(&channel->incoming);
		buffer_fini(&channel->sending);
		channel->incoming = buffer_heap(LINK_CREDIT_MAX);
		channel->sending = buffer_heap(LINK_CREDIT_MAX);
	}
}

/* ---- from the peer ---- */

static int channel_take_data(struct link_channel *channel, struct span data)
{
	if (channel->end_received || !link_credit_arrived(&channel->credit, data.size))
		return ERR_RAISE(-EPROTO);
	buffer_put(&channel->incoming, data.data, data.size);
	if (channel->incoming.failed)
		return ERR_RAISE(-ENOMEM);
	channel_dirty(channel);
	return 0;
}

int link_channel_take(struct link_channel *channel, const struct link_message *frame)
{
	switch ((enum link_kind)frame->kind) {
	case LINK_DATA:
		return channel_take_data(channel, frame->data);
	case LINK_END:
		if (channel->end_received)
			return ERR_RAISE(-EPROTO);
		channel->end_received = true;
		channel_dirty(channel);
		return 0;
	case LINK_RESET:
		/* What came before it is the user's. */
		channel->end_received = channel->end_sent = true;
		list_remove(&channel->ready);
		channel_dirty(channel);
		return 0;
	case LINK_CREDIT:
		if (!link_credit_add(&channel->credit, frame->credit))
			return ERR_RAISE(-EPROTO);
		channel_watch(channel);
		return 0;
	case LINK_OPEN:
		break;
	}
	return ERR_RAISE(-EPROTO);
}
