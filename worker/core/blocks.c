#include "worker/core/blocks.h"

#include "common/base/check.h"

#include <stdlib.h>

void blocks_init(struct blocks *b, uint32_t count) {
    *b = (struct blocks){.count = count, .n_free = count};
    b->refs = xcalloc(count, sizeof *b->refs);
    b->free = xcalloc(2 * (size_t)count, sizeof *b->free); // twice, for the planted bug
    for (uint32_t i = 0; i < count; i++) b->free[i] = count - 1 - i;
}

void blocks_fini(struct blocks *b) {
    free(b->refs);
    free(b->free);
    *b = (struct blocks){0};
}

bool blocks_take(struct blocks *b, uint32_t *block) {
    if (b->n_free == 0) return false;
    *block = b->free[--b->n_free];
    b->refs[*block]++; // from 0, which blocks_check() proves; a CHECK here would hide the planted bug
    return true;
}

void blocks_share(struct blocks *b, uint32_t block) {
    CHECK(block < b->count && b->refs[block] > 0);
    b->refs[block]++;
}

void blocks_drop(struct blocks *b, uint32_t block) {
    CHECK(block < b->count && b->refs[block] > 0);
    if (--b->refs[block] > 0) return;
    CHECK(b->n_free < 2 * b->count);
    b->free[b->n_free++] = block;
}

void blocks_drop_again(struct blocks *b, uint32_t block) {
    if (b->n_free < b->count) b->free[b->n_free++] = block;
}

void blocks_check(const struct blocks *b, uint32_t *expected) {
    uint32_t unheld = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        CHECK(b->refs[i] == expected[i]);
        unheld += b->refs[i] == 0;
    }
    CHECK(b->n_free == unheld);
    // From here on expected[] marks what has been seen in the free list.
    for (uint32_t i = 0; i < b->n_free; i++) CHECK(b->free[i] < b->count && expected[b->free[i]]++ == 0);
}
