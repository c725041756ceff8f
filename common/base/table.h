// A hash table of pointers to things that hold their own keys: open addressing, linear probing, backward-shift deletion, so
// that there are no tombstones and lookups stay short. The caller hashes and compares. Grows at 70 %; never shrinks. All
// zero is a valid empty table.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table {
    void **entries; // NULL = free
    uint64_t *hashes;
    uint32_t count, capacity; // capacity: a power of two
};

typedef bool table_match(const void *entry, const void *key);

void *table_find(const struct table *t, uint64_t hash, table_match *match, const void *key); // NULL: none
void table_add(struct table *t, uint64_t hash, void *entry);          // the caller knows that its key is not in the table
bool table_remove(struct table *t, uint64_t hash, const void *entry); // by pointer; false: not there
void table_free(struct table *t);                                     // not what the entries point to

// for (uint32_t at = 0; (entry = table_next(t, &at)) != NULL;) — no add or remove while at it.
void *table_next(const struct table *t, uint32_t *at);
