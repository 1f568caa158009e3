/* A gateway of its own for each test. */
#include "calls_rig.h"

#include "proto/pb.h"
#include "tests/unit/store/index_delay.h"

struct gateway_thread *gateway;
struct client *client;

int calls_setup(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .index = &index_late });
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

int calls_setup_tenants(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .tokens = ACME });
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

int calls_teardown(void **state)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
	return 0;
}

bool calls_are_idle(struct gateway_parts *parts, void *context)
{
	return cas_idle(&parts->cas) && !parts->cas.packs.busy && !parts->cas.closures.busy;
}

struct buffer request_pin(const struct digest *root)
{
	struct buffer request = buffer_heap(4096), list = buffer_heap(64);

	digest_list_put(&list, root);
	pb_put_bytes(&request, 1, buffer_span(&list));
	buffer_fini(&list);
	return request;
}
