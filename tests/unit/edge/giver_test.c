/*
 * Shows the edge's end of Context/Give between a client as buildx is one and a real gateway's Push: the root that is told
 * is committed there, and its tree is the client's directory; what was read once is not read again, nor what was committed sent
 * again, and what was edited is told by what it was; calls side by side read a file once; what the gateway or the edge's store
 * lost is brought again; a gateway that is not there makes the context unfit; and ends that vanish leave nothing. Run with both
 * ring engines.
 */
#include "tests/unit/edge/giver_rig.h"

#include <stdio.h>
#include <string.h>

static void what_is_given_is_committed(void **state)
{
	struct give give;
	uint64_t sent;

	rig_tree_make(&tree, 300, 1);
	give = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_int_equal(give.told.bytes_read, sent);
	assert_true(give.told.bytes_sent > 0);
	assert_committed(&give);
	assert_int_equal(give.times_count, tree.count);
	for (uint32_t i = 0; i < tree.count; i++)
		assert_true(give.times[i] == tree.files[i].mtime_ns);
}

static void what_is_known_is_neither_read_nor_sent(void **state)
{
	struct give first, again, unchanged, edited;
	uint64_t sent, edited_at = 7;

	rig_tree_make(&tree, 300, 2);
	first = give_once(&tree, NULL, &sent);
	again = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, 0);
	assert_int_equal(again.told.bytes_sent, 0);
	assert_true(digest_equal(&first.root, &again.root));
	unchanged = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, 0);
	assert_true(digest_equal(&first.root, &unchanged.root));
	assert_int_equal(service.counters.gives_unchanged, 1);
	while (tree.files[edited_at].directory || tree.files[edited_at].size == 0)
		edited_at++;
	tree.files[edited_at].seed += 77777;
	tree.files[edited_at].mtime_ns++;
	rig_reopen_memory(&rig);
	service.memory = rig.memory;
	edited = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, tree.files[edited_at].size);
	assert_int_equal(edited.told.files_read, 1);
	assert_false(digest_equal(&first.root, &edited.root));
	assert_committed(&edited);
}

/* Of files that were edited a little goes to the gateway what differs, also by an edge that was started anew. */
static void what_was_edited_is_told_by_what_it_was(void **state)
{
	struct give first, edited;
	uint64_t sent, bytes = 0, bytes_sent;

	rig_tree_make(&tree, 300, 20);
	first = give_once(&tree, NULL, &sent);
	for (uint32_t i = 0; i < tree.count; i++) {
		if (tree.files[i].directory || tree.files[i].size < 256)
			continue;
		tree.files[i].seed |= RIG_EDITED;
		tree.files[i].mtime_ns++;
		bytes += tree.files[i].size;
	}
	rig_reopen_memory(&rig);
	service.memory = rig.memory;
	known_fini(&service.known);
	known_init(&service.known);
	bytes_sent = service.counters.bytes_sent;
	edited = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, bytes);
	assert_committed(&edited);
	bytes_sent = service.counters.bytes_sent - bytes_sent;
	assert_int_equal(edited.told.bytes_sent, bytes_sent);
	if (bytes_sent * 50 > bytes)
		fail_msg("%lu bytes were sent for %lu that were edited", (unsigned long)bytes_sent, (unsigned long)bytes);
}

static void a_file_is_read_once(void **state)
{
	struct rig_client *clients[3];
	static struct give gives[3];
	uint64_t bytes = 0;

	rig_tree_make(&tree, 500, 3);
	for (int i = 0; i < 3; i++) {
		clients[i] = rig_client_start(&rig, &tree, "app:1");
		rig_carry(clients[i], rig_daemon_start(&rig));
	}
	for (int i = 0; i < 3; i++)
		give_start(&gives[i], &rig.daemons[i], NULL, false);
	for (int i = 0; i < 3; i++) {
		rig_until(&rig, &gives[i].rooted);
		assert_string_equal(gives[i].unfit, "");
	}
	for (int i = 0; i < 3; i++) {
		give_end(&gives[i]);
		assert_true(digest_equal(&gives[i].root, &gives[0].root));
		bytes += clients[i]->bytes_sent;
		rig_client_end(clients[i]);
	}
	assert_int_equal(bytes, tree_bytes());
	assert_committed(&gives[0]);
}

/* The gateway is another one now, and the edge's store has nothing either: all is read again, and the root is the same. */
static void what_was_lost_is_brought_again(void **state)
{
	struct rig_client *client;
	struct context_request request = { 0 };
	uint8_t bytes[64];
	struct buffer list = buffer_over(bytes, sizeof(bytes));
	struct give first, again;
	static struct give give;
	uint64_t sent;

	rig_tree_make(&tree, 200, 5);
	first = give_once(&tree, NULL, &sent);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[rig.daemons_count - 1], &first.root, false);
	rig_until(&rig, &give.rooted);
	assert_int_equal(give.roots, 1);
	digest_list_put(&list, &first.root);
	request.missing = buffer_span(&list);
	give_ask(&give, &request);
	rig_wait(&rig, give.roots == 2);
	assert_true(digest_equal(&give.root, &first.root));
	give_end(&give);
	rig_client_end(client);

	pusher_close(&pusher);
	rig_wait(&rig, pusher_idle(&pusher));
	rig_lose_store(&rig);                    /* and its ring */
	upstream.ring = pusher.ring = rig.fixture.ring;
	service.memory = rig.memory;
	service.scope = rig.fixture.a;
	gateway_thread_stop(gateway, true);
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	snprintf(upstream.address.host, sizeof(upstream.address.host), "%s/sock", gateway_thread_path(gateway));
	again = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_true(digest_equal(&first.root, &again.root));
	assert_true(service.counters.files_read_again > 0);
	assert_committed(&again);
}

static void without_a_gateway_it_is_unfit(void **state)
{
	struct rig_client *client;
	static struct give give;

	rig_tree_make(&tree, 20, 7);
	snprintf(upstream.address.host, sizeof(upstream.address.host), "/nowhere/at/all");
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, false);
	rig_until(&rig, &give.closed);
	assert_int_equal(give.status, GRPC_OK);
	assert_int_equal(give.roots, 0);
	assert_non_null(strstr(give.unfit, "push"));
	assert_true(give.passing);
	assert_int_equal(service.counters.gives_unfit, 1);
	rig_client_end(client);
}

/* It is the context that is at fault, and will be the next time. */
static void what_is_no_tree_is_unfit(void **state)
{
	struct rig_client *client;
	static struct give give;

	rig_tree_make(&tree, 20, 7);
	snprintf(tree.files[3].path, sizeof(tree.files[3].path), "../outside");
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, false);
	rig_until(&rig, &give.closed);
	assert_true(give.unfit[0]);
	assert_false(give.passing);
	rig_client_end(client);
}

/* Either end goes away in the middle: nothing is left. That a client has gone makes nothing unfit. */
static void ends_that_vanish_leave_nothing(void **state)
{
	struct rig_client *client;
	static struct give give;

	rig_tree_make(&tree, 1000, 8);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, false);
	rig_wait(&rig, client->bytes_sent > 100000);
	call_cancel(&give.call);
	rig_until(&rig, &give.closed);
	rig_wait(&rig, service.open == 0);
	give_start(&give, &rig.daemons[0], NULL, false);
	rig_wait(&rig, service.open == 1);
	rig_client_vanish(client);
	rig_until(&rig, &give.closed);
	assert_int_equal(service.counters.gives_unfit, 0);
	rig_wait(&rig, service.open == 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		GIVER_TEST(what_is_given_is_committed),
		GIVER_TEST(what_is_known_is_neither_read_nor_sent),
		GIVER_TEST(what_was_edited_is_told_by_what_it_was),
		GIVER_TEST(a_file_is_read_once),
		GIVER_TEST(what_was_lost_is_brought_again),
		GIVER_TEST(without_a_gateway_it_is_unfit),
		GIVER_TEST(what_is_no_tree_is_unfit),
		GIVER_TEST(ends_that_vanish_leave_nothing),
	};

	return giver_run(argc, argv, tests);
}
