/*
 * push_below: directories looked up by their names in others that a pusher has here: which digests had they there? So one who
 * knows a root and nothing below it finds what a tree has in common with that, a level at a time. What a tenant does not have
 * has no names in it, whoever else has it; nothing has, for who may not read. On the ring's thread; one take, one start, one `fn`.
 */
#pragma once

#include "gateway/cas/blob_reads.h"
#include "proto/sluice_v1.h"

struct push_below {
	struct digest *found;            /* out, a name each, in the order asked; size 0: there is none */
	size_t count;                    /* of names */
	int result;                      /* 0, or -errno */
	/* The rest is its own. */
	void (*fn)(struct push_below *below);
	struct span *names;              /* borrowed from the request */
	struct digest *directories;
	size_t *ends;                    /* parallel to these: behind the last of its names */
	size_t directories_count;
	struct blob_reads reads;
};

/*
 * `list` of push_below_names, kept until `fn`. 0, -ENOMEM; -EINVAL: malformed or no names, -E2BIG: more than SLUICE_LIST_MAX names,
 * or in directories of more than SLUICE_BASES_BYTES together.
 */
int push_below_take(struct push_below *below, const struct message_list *list);
/* `fn` may come inline. */
void push_below_start(struct push_below *below, struct store *store, const struct scope *scope,
                      void (*fn)(struct push_below *below));
void push_below_fini(struct push_below *below);          /* not between start and `fn`; all-zero is accepted */
