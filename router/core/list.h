// An intrusive doubly linked ring: the head is a node of its own, an empty list points to itself, so adding and removing
// never branch. A node that is in no list points to itself too: list_remove() is idempotent.
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

#define LIST_ENTRY(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))
// Not for loops that remove entries other than the present one's predecessors: use list_first() until empty, or take `next`.
#define LIST_FOREACH(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)

static inline void list_init(struct list *l) { l->prev = l->next = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_insert(struct list *before, struct list *node) {
    node->prev = before->prev;
    node->next = before;
    before->prev->next = node;
    before->prev = node;
}
static inline void list_append(struct list *head, struct list *node) { list_insert(head, node); }
static inline void list_remove(struct list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
