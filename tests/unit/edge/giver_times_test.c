/*
 * Shows that times come for the entries asked for, and that other bytes under the same size and time are seen by who distrusts
 * times, and by everybody in the Dockerfile and the ignore file; and where a time is set, with another size in between. Run with both ring
 * engines.
 */
#include "tests/unit/edge/giver_rig.h"

static void times_of_some(void **state)
{
	struct rig_client *client;
	struct context_request request = { 0 };
	struct buffer list = buffer_heap(4096);
	uint64_t previous = ENTRY_NUMBER_BEFORE;
	static struct give give;

	rig_tree_make(&tree, 50, 4);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	give_start(&give, &rig.daemons[0], NULL, false);
	rig_until(&rig, &give.rooted);
	assert_int_equal(give.times_count, 0);
	number_list_put(&list, &previous, 0);
	number_list_put(&list, &previous, 17);
	number_list_put(&list, &previous, tree.count - 1);
	request.times = buffer_span(&list);
	give_ask(&give, &request);
	rig_wait(&rig, give.times_count == 3);
	assert_true(give.times[0] == tree.files[0].mtime_ns);
	assert_true(give.times[1] == tree.files[17].mtime_ns);
	assert_true(give.times[2] == tree.files[tree.count - 1].mtime_ns);
	number_list_put(&list, &previous, tree.count);   /* there is none */
	request.times = buffer_span(&list);
	give_ask(&give, &request);
	rig_until(&rig, &give.closed);
	assert_int_equal(give.status, GRPC_INVALID_ARGUMENT);
	buffer_fini(&list);
	rig_client_end(client);
}

/* More than a message holds; what they are whole numbers of is the messages' unit, but for one time that is of none. */
static void times_of_all(void **state)
{
	static const int64_t units[] = { 1, 1000, 1000000000 };
	static struct give give;
	uint64_t sent;

	rig_tree_make(&tree, 4000, 4);
	for (size_t u = 0; u < sizeof(units) / sizeof(*units); u++) {
		for (uint32_t i = 0; i < tree.count; i++)
			tree.files[i].mtime_ns = units[u] * (int64_t)(1700000000 + i * 7919 % 100003);
		tree.files[5].mtime_ns = -1700000001;
		give = give_once(&tree, NULL, &sent);
		assert_int_equal(give.times_count, tree.count);
		for (uint32_t i = 0; i < tree.count; i++)
			assert_true(give.times[i] == tree.files[i].mtime_ns);
	}
}

/* Other bytes under the same size and time: only who distrusts times sees them. */
static void times_may_be_distrusted(void **state)
{
	struct give first, trusted, other;
	uint64_t sent, at = 3;

	rig_tree_make(&tree, 50, 10);
	first = give_once(&tree, NULL, &sent);
	while (tree.files[at].directory || tree.files[at].size == 0)
		at++;
	tree.files[at].seed += 77777;
	trusted = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, 0);
	assert_true(digest_equal(&first.root, &trusted.root));
	service.mtime_distrust = true;
	other = give_once(&tree, NULL, &sent);
	assert_int_equal(sent, tree_bytes());
	assert_false(digest_equal(&first.root, &other.root));
	assert_committed(&other);
	assert_true(other.told.bytes_sent < 2 * tree.files[at].size + 20000);
}

/* Two files of one name, size and time: a look at the Dockerfile or the ignore file tells the one that the client has. */
static void of_some_files_no_time_is_trusted(void **state)
{
	static const struct { const char *directory, *followed; } looks[] = { { "dockerfile", NULL }, { "context", ".dockerignore" } };
	static struct give give;
	struct digest before;

	tree.count = 1;
	tree.files[0] = (struct rig_file){ .path = "file", .size = 40, .mtime_ns = 1700000000123456789 };
	for (uint32_t i = 0; i < 4; i++) {
		struct rig_client *client = rig_client_start(&rig, &tree, "app:1");

		tree.files[0].seed = 1 + i;
		rig_carry(client, rig_daemon_start(&rig));
		give.directory = looks[i / 2].directory;
		give.followed = looks[i / 2].followed;
		give_start(&give, &rig.daemons[i], NULL, false);
		rig_until(&rig, &give.rooted);
		assert_string_equal(give.unfit, "");
		assert_committed(&give);
		if (i % 2)
			assert_false(digest_equal(&before, &give.root));
		before = give.root;
		give_end(&give);
		assert_int_equal(client->bytes_sent, 40);
		rig_client_end(client);
	}
}

/* As of checkouts whose times are all set to one: what has the size of before, with another one in between, is not what was before. */
static void of_a_time_that_is_set_the_last_content_is_trusted(void **state)
{
	static const struct { uint64_t size, sent; uint32_t seed; } versions[] = {
		{ 40, 40, 1 }, { 40, 0, 1 }, { 50, 50, 2 }, { 40, 40, 3 }, { 0, 0, 4 }, { 40, 40, 5 },
	};

	tree.count = 1;
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		struct give give;
		uint64_t sent;

		tree.files[0] = (struct rig_file){
			.path = "file", .size = versions[i].size, .mtime_ns = 1700000000000000000, .seed = versions[i].seed,
		};
		give = give_once(&tree, NULL, &sent);
		assert_int_equal(sent, versions[i].sent);
		assert_committed(&give);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		GIVER_TEST(times_of_some),
		GIVER_TEST(times_of_all),
		GIVER_TEST(times_may_be_distrusted),
		GIVER_TEST(of_some_files_no_time_is_trusted),
		GIVER_TEST(of_a_time_that_is_set_the_last_content_is_trusted),
	};

	return giver_run(argc, argv, tests);
}
