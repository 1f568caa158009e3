/*
 * descriptors: what the services that the gateway serves look like, as protobuf describes itself: a FileDescriptorProto each of
 * proto/descriptors/, proto/sluice.v1.proto and what these import, compiled into the program.
 * Source: google/protobuf/descriptor.proto.
 */
#pragma once

#include "proto/span.h"

/* The file of this name, as `import` has it; its `data` is NULL when there is none. Lives as long as the program. */
struct span descriptors_file(struct span name);

/* The file that defines a service, method, message, field, enum or a value of it, by its full name without a dot before it. */
struct span descriptors_file_of(struct span symbol);
