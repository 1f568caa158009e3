/* What directories and recipes name: the edges that both the closure walk and eviction's pins follow. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/cas/references.h"
#include "proto/recipe.h"
#include "proto/tree.h"

const char references_no_memory[] = "out of memory";

static bool reference_node(const struct tree_node *node, reference_fn *visit, void *context)
{
	struct reference reference = { .digest = node->digest, .kind = STORE_DATA, .name = node->name };

	if (node->kind == TREE_DIRECTORY)
		reference.kind = STORE_DIRECTORY;
	else if (node->recipe)
		reference.kind = STORE_RECIPE;
	/* Nobody needs to send what is empty: an empty file, or a directory of mode 0755 with nothing in it. */
	return digest_equal(&reference.digest, &digest_empty) || visit(context, &reference);
}

static const char *references_of_directory(struct span blob, reference_fn *visit, void *context, char *name)
{
	struct tree_reader *reader = calloc(1, sizeof(*reader));      /* two tables of xattrs: too large for a stack */
	const char *fault = NULL;
	struct tree_node node;
	bool go_on = true;

	if (!reader)
		return references_no_memory;
	if (tree_open(reader, blob)) {
		while (go_on && tree_next(reader, &node)) {
			if (node.kind == TREE_CHAR_DEVICE || node.kind == TREE_BLOCK_DEVICE)
				fault = "it has a device node";
			else if (node.kind == TREE_DIRECTORY || node.kind == TREE_FILE)
				go_on = reference_node(&node, visit, context);
			if (!fault)
				continue;
			snprintf(name, TREE_NAME_MAX + 1, "%.*s", (int)node.name.size, (const char *)node.name.data);
			break;
		}
	}
	if (reader->failed)
		fault = reader->fault ? reader->fault : "malformed directory";
	tree_close(reader);
	free(reader);
	return fault;
}

static const char *references_of_recipe(struct span blob, reference_fn *visit, void *context)
{
	struct recipe_reader reader;
	struct digest entry;

	if (!recipe_open(&reader, blob))
		return "malformed recipe";
	while (recipe_next(&reader, &entry)) {
		struct reference reference = {
			.digest = entry,
			.kind = reader.head.level ? STORE_RECIPE : STORE_DATA,
		};

		if (!visit(context, &reference))
			return NULL;
	}
	return reader.failed ? "malformed recipe" : NULL;
}

const char *references_of(enum store_kind kind, struct span blob, reference_fn *visit, void *context,
                          char name[static TREE_NAME_MAX + 1])
{
	*name = 0;
	switch (kind) {
	case STORE_DIRECTORY:
		return references_of_directory(blob, visit, context, name);
	case STORE_RECIPE:
		return references_of_recipe(blob, visit, context);
	case STORE_DATA:
		break;
	}
	return NULL;
}

struct store_visit {
	void (*visit)(void *context, const struct store_reference *reference);
	void *context;
};

static bool store_visit_one(void *context, const struct reference *reference)
{
	struct store_visit *to = context;

	to->visit(to->context, &(struct store_reference){ .digest = reference->digest, .kind = reference->kind });
	return true;
}

bool closure_references(enum store_kind kind, struct span blob,
                        void (*visit)(void *context, const struct store_reference *reference), void *context)
{
	struct store_visit to = { .visit = visit, .context = context };
	char name[TREE_NAME_MAX + 1];

	return references_of(kind, blob, store_visit_one, &to, name) == NULL;
}
