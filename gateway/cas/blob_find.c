/* A record says how long it is; of longer blobs their pair does. */
#include "gateway/cas/blob_find.h"

static void blob_find_end(struct blob_find *find, int result)
{
	find->result = result;
	find->fn(find);
}

static void on_pair(struct pair *pair)
{
	struct blob_find *find = container_of(pair, struct blob_find, pair);

	if (pair->result == STORE_OK)
		find->digest.size = pair->blob.size;
	blob_find_end(find, pair->result);
}

static void on_lookup(struct store_lookup *lookup)
{
	struct blob_find *find = container_of(lookup, struct blob_find, lookup);

	if (lookup->result < 0) {
		blob_find_end(find, lookup->result);
	} else if (find->place) {
		find->digest.size = find->size;
		blob_find_end(find, STORE_OK);
	} else {
		find->pair = (struct pair){ .scope = find->scope, .blob = find->digest, .fn = on_pair };
		pair_find_sized(find->cas->store, &find->pair);
	}
}

void blob_find(struct blob_find *find)
{
	find->digest.size = 0;
	if (digest_equal(&find->digest, &digest_empty)) {
		blob_find_end(find, STORE_OK);
		return;
	}
	find->lookup = (struct store_lookup){
		.scope = find->scope, .digests = &find->digest, .count = 1, .places = &find->place, .sizes = &find->size,
		.fn = on_lookup,
	};
	store_lookup(find->cas->store, &find->lookup);
}
