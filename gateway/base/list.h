/* list: intrusive doubly linked list. A zeroed link is in no list; a list head must be initialised. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
	head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline bool list_linked(const struct list *link)
{
	return link->next != NULL;
}

static inline void list_insert_before(struct list *at, struct list *link)
{
	link->next = at;
	link->prev = at->prev;
	at->prev->next = link;
	at->prev = link;
}

static inline void list_append(struct list *head, struct list *link)
{
	list_insert_before(head, link);
}

/* Unlinking what is in no list does nothing. */
static inline void list_remove(struct list *link)
{
	if (!link->next)
		return;
	link->next->prev = link->prev;
	link->prev->next = link->next;
	link->next = link->prev = NULL;
}

/* The first link, taken out; NULL when empty. */
static inline struct list *list_take(struct list *head)
{
	struct list *link = head->next;

	if (link == head)
		return NULL;
	list_remove(link);
	return link;
}

#define list_for_each(link, head) for (struct list *link = (head)->next; link != (head); link = link->next)
#define list_for_each_safe(link, after, head)                                                                          \
	for (struct list *link = (head)->next, *after = link->next; link != (head); link = after, after = link->next)
