/*
 * Shows what goes ahead of a root that is not there yet: entries, the names of files that the gateway lacks, those that the
 * executor waits for before others; and that a number that is no entry's is refused. Run with both ring engines.
 */
#include "tests/unit/edge/giver_rig.h"

#include <stdio.h>


/* Entries before anything was pushed, each name once; contents that nobody else has. */
static void what_is_lacking_comes_ahead(void **state)
{
	struct rig_client *client;
	static struct give give;
	uint32_t files = 0;

	rig_tree_make(&tree, 1000, 9);
	give.ahead = true;
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, true);
	rig_wait(&rig, give.entries_ended && give.names > 0);
	rig_until(&rig, &give.rooted);
	assert_string_equal(give.unfit, "");
	assert_int_equal(give.entries, tree.count);
	for (uint32_t i = 0; i < tree.count; i++)
		files += !tree.files[i].directory;
	assert_int_equal(give.names, files);
	assert_int_equal(give.times_count, 0);
	give_end(&give);
	assert_committed(&give);
	rig_client_end(client);
	/* And the next time it has them: nothing goes ahead, but for the root. */
	client = rig_client_start(&rig, &tree, "app:2");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[1], NULL, true);
	rig_until(&rig, &give.rooted);
	assert_int_equal(give.entries, 0);
	assert_int_equal(give.names, 0);
	assert_int_equal(give.told.bytes_sent, 0);
	give_end(&give);
	rig_client_end(client);
}

static void give_urge(struct give *give, const uint32_t *numbers, size_t count)
{
	struct context_request request = { 0 };
	struct buffer list = buffer_heap(4096);
	uint64_t previous = ENTRY_NUMBER_BEFORE;

	for (size_t i = 0; i < count; i++)
		number_list_put(&list, &previous, numbers[i]);
	request.files = buffer_span(&list);
	give_ask(give, &request);
	buffer_fini(&list);
}

static uint32_t last_file(void)
{
	uint32_t i = tree.count;

	while (tree.files[--i].directory || tree.files[i].size == 0)
		;
	return i;
}

/*
 * What the executor waits for: a file at the end of the directory, which is read before others; and one whose content the edge
 * has from an earlier build, and would have sent last, with the root: a large one, of which a part at a time is brought forward. The
 * gateway has nothing of either.
 */
static void what_is_waited_for_comes_first(void **state)
{
	static struct rig_tree small;
	struct rig_client *client;
	static struct give give;
	uint32_t urgent[2] = { 0 };
	uint64_t sent;

	rig_tree_make(&tree, 1000, 14);
	while (tree.files[urgent[0]].directory || tree.files[urgent[0]].size == 0)
		urgent[0]++;
	tree.files[urgent[0]].size = 24u << 20;
	(void)give_once(&tree, NULL, &sent);
	pusher_close(&pusher);
	rig_wait(&rig, pusher_idle(&pusher));
	gateway_thread_stop(gateway, true);
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	snprintf(upstream.address.host, sizeof(upstream.address.host), "%s/sock", gateway_thread_path(gateway));
	rig_tree_make(&small, 5, 18);
	(void)give_once_as("app:warm", &small, NULL, &sent);     /* the new gateway is connected */
	known_fini(&service.known);
	known_init(&service.known);
	/* Of the first files each is as it was, the others have changed; one of those that have not is waited for. */
	for (uint32_t i = 100; i < tree.count; i++)
		if (!tree.files[i].directory) {
			tree.files[i].seed += 77777;
			tree.files[i].mtime_ns++;
		}
	urgent[1] = last_file();
	give.ahead = true;
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[rig.daemons_count - 1], NULL, true);
	rig_wait(&rig, give.entries_ended);
	give_urge(&give, urgent, 2);
	rig_until(&rig, &give.rooted);
	assert_string_equal(give.unfit, "");
	assert_true(give.named[urgent[0]] && give.named[urgent[1]]);
	assert_true(give.place[urgent[0]] < 700 && give.place[urgent[1]] < 700);
	assert_int_equal(service.counters.files_urged, 2);
	give_end(&give);
	assert_committed(&give);
	rig_client_end(client);
}

/* Nor is a wrong number taken. */
static void what_is_no_entry_is_not_waited_for(void **state)
{
	struct rig_client *client;
	static struct give give;
	uint32_t beyond;

	rig_tree_make(&tree, 1000, 15);
	beyond = tree.count;
	give.ahead = true;
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, true);
	rig_wait(&rig, give.entries_ended);
	give_urge(&give, &beyond, 1);
	rig_until(&rig, &give.closed);
	assert_int_equal(give.status, GRPC_INVALID_ARGUMENT);
	rig_client_end(client);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		GIVER_TEST(what_is_lacking_comes_ahead),
		GIVER_TEST(what_is_waited_for_comes_first),
		GIVER_TEST(what_is_no_entry_is_not_waited_for),
	};

	return giver_run(argc, argv, tests);
}
