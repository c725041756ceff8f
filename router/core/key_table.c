#include "router/core/key_table.h"

#include "common/base/check.h"

#include <stdlib.h>

enum { CAPACITY_MIN = 64 };

static struct key_node **bucket(const struct key_table *t, uint64_t hash) { return &t->buckets[hash & (t->capacity - 1)]; }

static void grow(struct key_table *t) {
    struct key_table wider = {.count = t->count, .capacity = t->capacity ? t->capacity * 2 : CAPACITY_MIN};
    wider.buckets = xcalloc(wider.capacity, sizeof *wider.buckets);
    for (uint32_t i = 0; i < t->capacity; i++) {
        for (struct key_node *node = t->buckets[i], *next; node; node = next) {
            next = node->next;
            struct key_node **head = bucket(&wider, node->hash);
            node->next = *head;
            *head = node;
        }
    }
    free(t->buckets);
    *t = wider;
}

void key_table_insert(struct key_table *t, struct key_node *node, uint64_t hash) {
    if (t->count >= t->capacity) grow(t);
    node->hash = hash;
    struct key_node **head = bucket(t, hash);
    node->next = *head;
    *head = node;
    t->count++;
}

void key_table_remove(struct key_table *t, struct key_node *node) {
    CHECK(t->count > 0);
    struct key_node **p = bucket(t, node->hash);
    while (*p != node) {
        CHECK(*p != NULL);
        p = &(*p)->next;
    }
    *p = node->next;
    node->next = NULL;
    t->count--;
}

static struct key_node *matching(struct key_node *node, uint64_t hash) {
    while (node && node->hash != hash) node = node->next;
    return node;
}

struct key_node *key_table_first(const struct key_table *t, uint64_t hash) {
    return t->capacity ? matching(*bucket(t, hash), hash) : NULL;
}

struct key_node *key_node_next(const struct key_node *node) { return matching(node->next, node->hash); }

void key_table_free(struct key_table *t) {
    free(t->buckets);
    *t = (struct key_table){0};
}
