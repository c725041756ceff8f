// A chained hash table of nodes that live inside their owners: sessions by key, links by number. The caller hashes and
// compares; the table grows by doubling, so finding is O(1).
#pragma once
#include "router/core/list.h"
#include <stdint.h>

struct key_node {
    struct key_node *next;
    uint64_t hash;
};

struct key_table {
    struct key_node **buckets; // owned
    uint32_t count, capacity;  // capacity: a power of two, or 0
};

void key_table_insert(struct key_table *t, struct key_node *node, uint64_t hash);
void key_table_remove(struct key_table *t, struct key_node *node); // CHECKs that it is there
// The first node with this hash, then the next: compare the keys themselves. NULL: no more.
struct key_node *key_table_first(const struct key_table *t, uint64_t hash);
struct key_node *key_node_next(const struct key_node *node);
void key_table_free(struct key_table *t); // its memory, not the nodes
