/*
 * Shows how little the edge asks a gateway about, and sends, of what others pushed or push: a sample, and a
 * little of each window; that what a sibling sends is left to it; and that a window smaller than the context is enough. Run with
 * both ring engines.
 */
#include "tests/unit/edge/giver_rig.h"

/*
 * Another edge pushed the directory. This one has looked at one file of it before, as BuildKit looks at a .dockerignore, and knows
 * of nothing else: it asks about a few contents, whether the gateway knows the root or not.
 */
static void what_others_pushed_is_not_asked_about(void **state)
{
	static struct rig_tree look;
	struct give first, other;
	uint64_t sent, asked;

	rig_tree_make(&tree, 1000, 11);
	first = give_once_as("app:other", &tree, NULL, &sent);
	rig_tree_make(&look, 1, 12);
	(void)give_once(&look, NULL, &sent);
	asked = service.counters.blobs_asked;
	other = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_int_equal(other.told.bytes_sent, 0);
	assert_true(service.counters.blobs_asked - asked <= GIVER_SAMPLE);
	rig_tree_make(&look, 1, 13);
	(void)give_once_as("app:third", &look, NULL, &sent);
	asked = service.counters.blobs_asked;
	other = give_once_as("app:third", &tree, NULL, &sent);
	assert_true(digest_equal(&first.root, &other.root));
	assert_int_equal(other.told.bytes_sent, 0);
	assert_true(service.counters.blobs_asked - asked <= GIVER_SAMPLE + 1);   /* and the root */
}

/* More than the window of what the gateway has: it is asked about a little of each window, and what it lacks all the same is sent. */
static void a_full_window_is_no_reason_to_ask_about_all(void **state)
{
	struct give first, other;
	uint64_t sent, asked;

	rig_tree_make(&tree, 1000, 16);
	first = give_once_as("app:other", &tree, NULL, &sent);
	service.window_bytes = 8 << 20;
	asked = service.counters.blobs_asked;
	other = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_true(digest_equal(&first.root, &other.root));
	assert_int_equal(other.told.bytes_sent, 0);
	assert_true(service.counters.blobs_asked > asked && service.counters.blobs_asked - asked <= 10 * GIVER_SAMPLE_AGAIN);
	for (uint32_t i = 0; i < tree.count; i += 250)
		tree.files[i].seed += 88888;
	other = give_once_as("app:third", &tree, &first.root, &sent);
	assert_false(digest_equal(&first.root, &other.root));
	assert_committed(&other);
}

/* All was touched: it is read again, and nothing of it is new. No answer of the gateway's wakes who waits for the window. */
static void what_is_known_does_not_fill_the_window(void **state)
{
	struct give first, touched;
	uint64_t sent;

	rig_tree_make(&tree, 1000, 19);
	first = give_once(&tree, NULL, &sent);
	service.window_bytes = 1 << 20;
	for (uint32_t i = 0; i < tree.count; i++)
		tree.files[i].mtime_ns++;
	touched = give_once(&tree, &first.root, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_true(digest_equal(&first.root, &touched.root));
	assert_int_equal(touched.told.bytes_sent, 0);
}

static void count_received(struct gateway_parts *parts, void *context)
{
	*(uint64_t *)context = parts->cas.counters.blobs_received;
}

static uint64_t blobs_received(void)
{
	uint64_t count;

	gateway_thread_call(gateway, count_received, &count);
	return count;
}

/* Two machines with the same tree, the second when the first is well under way: it sends little more than its sample. */
static void what_a_sibling_sends_is_left_to_it(void **state)
{
	static struct give gives[2];
	struct rig_client *clients[2];

	rig_tree_make(&tree, 1000, 21);
	for (int i = 0; i < 2; i++) {
		clients[i] = rig_client_start(&rig, &tree, i ? "app:2" : "app:1");
		rig_carry(clients[i], rig_daemon_start(&rig));
		give_start(&gives[i], &rig.daemons[rig.daemons_count - 1], NULL, false);
		if (i == 0)
			rig_wait(&rig, blobs_received() > 4 * GIVER_SAMPLE);
	}
	for (int i = 0; i < 2; i++) {
		rig_until(&rig, &gives[i].rooted);
		assert_string_equal(gives[i].unfit, "");
		give_end(&gives[i]);
		assert_committed(&gives[i]);
		rig_client_end(clients[i]);
	}
	assert_true(digest_equal(&gives[0].root, &gives[1].root));
	assert_true(gives[1].told.bytes_sent < gives[0].told.bytes_sent / 4);
}

static void a_small_window_is_enough(void **state)
{
	struct give give;
	uint64_t sent;

	service.window_bytes = 1 << 20;
	rig_tree_make(&tree, 1000, 6);
	assert_true(tree_bytes() > 8 * service.window_bytes);
	give = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_committed(&give);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		GIVER_TEST(what_others_pushed_is_not_asked_about),
		GIVER_TEST(a_full_window_is_no_reason_to_ask_about_all),
		GIVER_TEST(what_is_known_does_not_fill_the_window),
		GIVER_TEST(what_a_sibling_sends_is_left_to_it),
		GIVER_TEST(a_small_window_is_enough),
	};

	return giver_run(argc, argv, tests);
}
