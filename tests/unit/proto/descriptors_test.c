/* Files are found by their names and by what they define, each kind of thing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proto/descriptors.h"
#include "proto/pb.h"

static struct span name_of(struct span file)
{
	struct pb_reader reader = pb_reader_make(file);
	struct pb_field field;

	assert_true(pb_next(&reader, &field));
	assert_int_equal(field.number, 1);
	return field.bytes;
}

static void finds_symbols(void **state)
{
	static const char *const symbols[][2] = {
		{ "build.bazel.remote.execution.v2.ContentAddressableStorage", "remote_execution.proto" },
		{ "build.bazel.remote.execution.v2.ContentAddressableStorage.SplitBlob", "remote_execution.proto" },
		{ "build.bazel.remote.execution.v2.Command.EnvironmentVariable.name", "remote_execution.proto" },
		{ "build.bazel.remote.execution.v2.DigestFunction.Value", "remote_execution.proto" },
		{ "build.bazel.remote.execution.v2.DigestFunction.SHA256", "remote_execution.proto" },
		{ "google.bytestream.ByteStream", "bytestream.proto" },
		{ "google.longrunning.Operations", "operations.proto" },
		{ "google.protobuf.Any", "google/protobuf/any.proto" },
		{ "google.rpc.Status.details", "status.proto" },
		{ "grpc.health.v1.Health", "health.proto" },
		{ "grpc.reflection.v1.ServerReflection", "reflection_v1.proto" },
		{ "grpc.reflection.v1alpha.ServerReflection", "reflection_v1alpha.proto" },
		{ "sluice.v1.Store.Push", "sluice.v1.proto" },
		{ "sluice.v1.Link", "sluice.v1.proto" },
	};

	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		struct span file = descriptors_file_of(span_text(symbols[i][0]));

		assert_non_null(file.data);
		assert_true(span_is(name_of(file), symbols[i][1]));
		assert_ptr_equal(descriptors_file(span_text(symbols[i][1])).data, file.data);
	}
}

static void does_not_find_others(void **state)
{
	static const char *const symbols[] = {
		"", ".", "sluice", "sluice.v1", "sluice.v1.", "sluice.v1.Store.", "sluice.v1.Store.Pus", "sluice.v1.Store.Push.x",
		"sluice.v1.Sto", "sluice.v1.Storeroom", ".sluice.v1.Store", "build.bazel.remote.execution.v2.DigestFunction.Value.SHA256",
		"sluice.v1.sluice.v1.Store", "Store",
	};
	static const char *const files[] = { "", "sluice", "/sluice.v1.proto", "descriptor.proto" };

	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++)
		assert_null(descriptors_file_of(span_text(symbols[i])).data);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		assert_null(descriptors_file(span_text(files[i])).data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_symbols),
		cmocka_unit_test(does_not_find_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
