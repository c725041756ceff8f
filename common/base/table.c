#include "common/base/table.h"

#include "common/base/check.h"

#include <stdlib.h>

static uint32_t home(const struct table *t, uint64_t hash) { return (uint32_t)(hash ^ hash >> 32) & (t->capacity - 1); }

void *table_find(const struct table *t, uint64_t hash, table_match *match, const void *key) {
    if (t->capacity == 0) return NULL;
    for (uint32_t i = home(t, hash); t->entries[i] != NULL; i = (i + 1) & (t->capacity - 1))
        if (t->hashes[i] == hash && match(t->entries[i], key)) return t->entries[i];
    return NULL;
}

static void place(struct table *t, uint64_t hash, void *entry) {
    uint32_t i = home(t, hash);
    while (t->entries[i] != NULL) i = (i + 1) & (t->capacity - 1);
    t->entries[i] = entry;
    t->hashes[i] = hash;
}

static void grow(struct table *t) {
    struct table bigger = {.count = t->count, .capacity = t->capacity ? t->capacity * 2 : 64};
    bigger.entries = xcalloc(bigger.capacity, sizeof *bigger.entries);
    bigger.hashes = xcalloc(bigger.capacity, sizeof *bigger.hashes);
    for (uint32_t i = 0; i < t->capacity; i++)
        if (t->entries[i] != NULL) place(&bigger, t->hashes[i], t->entries[i]);
    table_free(t);
    *t = bigger;
}

void table_add(struct table *t, uint64_t hash, void *entry) {
    if ((t->count + 1) * 10 > t->capacity * 7) grow(t);
    place(t, hash, entry);
    t->count++;
}

// Moves what follows the hole back, as long as that brings it no further than its home.
static void close_hole(struct table *t, uint32_t hole) {
    uint32_t mask = t->capacity - 1;
    for (uint32_t i = (hole + 1) & mask; t->entries[i] != NULL; i = (i + 1) & mask) {
        if (((i - home(t, t->hashes[i])) & mask) < ((i - hole) & mask)) continue;
        t->entries[hole] = t->entries[i];
        t->hashes[hole] = t->hashes[i];
        hole = i;
    }
    t->entries[hole] = NULL;
}

bool table_remove(struct table *t, uint64_t hash, const void *entry) {
    if (t->capacity == 0) return false;
    for (uint32_t i = home(t, hash); t->entries[i] != NULL; i = (i + 1) & (t->capacity - 1)) {
        if (t->entries[i] != entry) continue;
        close_hole(t, i);
        t->count--;
        return true;
    }
    return false;
}

void table_free(struct table *t) {
    free(t->entries);
    free(t->hashes);
    *t = (struct table){0};
}

void *table_next(const struct table *t, uint32_t *at) {
    while (*at < t->capacity) {
        void *entry = t->entries[(*at)++];
        if (entry != NULL) return entry;
    }
    return NULL;
}
