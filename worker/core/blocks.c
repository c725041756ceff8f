#include "worker/core/blocks.h"

#include "common/base/check.h"

#include <stdlib.h>
#include <string.h>

void blocks_init(struct blocks *b, uint32_t count, uint32_t block_tokens) {
    *b = (struct blocks){.count = count, .block_tokens = block_tokens, .n_unused = count, .n_free = count};
    for (b->n_buckets = 16; b->n_buckets < count && b->n_buckets < 1u << 30;) b->n_buckets *= 2;
    b->newest = b->oldest = BLOCK_NONE;
    b->block = xcalloc(count, sizeof *b->block);
    b->tokens = xcalloc((size_t)count * block_tokens, sizeof *b->tokens);
    b->buckets = xmalloc(b->n_buckets * sizeof *b->buckets);
    b->free = xcalloc(2 * (size_t)count, sizeof *b->free); // twice, for the planted bug
    for (uint32_t i = 0; i < b->n_buckets; i++) b->buckets[i] = BLOCK_NONE;
    for (uint32_t i = 0; i < count; i++) b->free[i] = count - 1 - i;
}

void blocks_fini(struct blocks *b) {
    free(b->block);
    free(b->tokens);
    free(b->buckets);
    free(b->free);
    *b = (struct blocks){0};
}

static void count_free(struct blocks *b) {
    b->n_free = b->n_unused + b->n_kept;
    uint32_t held = b->n_free < b->count ? b->count - b->n_free : 0;
    if (held > b->held_most) b->held_most = held;
}

// ---- kept blocks, by age ----

static void keep(struct blocks *b, uint32_t i) {
    struct block *block = &b->block[i];
    block->older = b->newest;
    block->newer = BLOCK_NONE;
    *(b->newest != BLOCK_NONE ? &b->block[b->newest].newer : &b->oldest) = i;
    b->newest = i;
    b->n_kept++;
}

static void unkeep(struct blocks *b, uint32_t i) {
    struct block *block = &b->block[i];
    *(block->newer != BLOCK_NONE ? &b->block[block->newer].older : &b->newest) = block->older;
    *(block->older != BLOCK_NONE ? &b->block[block->older].newer : &b->oldest) = block->newer;
    b->n_kept--;
}

// ---- names ----

static uint32_t *bucket_of(const struct blocks *b, const struct block_key *key) {
    return &b->buckets[key->a & (b->n_buckets - 1)];
}

uint32_t blocks_find(const struct blocks *b, const struct block_key *key, const uint32_t *tokens) {
    uint32_t i = *bucket_of(b, key);
    for (; i != BLOCK_NONE; i = b->block[i].next_named) {
        const struct block *block = &b->block[i];
        bool same = block->key.a == key->a && block->key.b == key->b;
        size_t size = b->block_tokens * sizeof *tokens;
        if (same && memcmp(b->tokens + (size_t)i * b->block_tokens, tokens, size) == 0) break;
    }
    return i;
}

bool blocks_claim(struct blocks *b, uint32_t i, const struct block_claim *claim) {
    CHECK(i < b->count && b->block[i].refs > 0);
    struct block *block = &b->block[i];
    if (block->doubled || block_is_named(b, i) || blocks_find(b, &claim->key, claim->tokens) != BLOCK_NONE) return false;
    uint32_t *bucket = bucket_of(b, &claim->key);
    block->key = claim->key;
    block->before = claim->before;
    block->ready = block->saved = false;
    block->owner = claim->owner;
    block->next_named = *bucket;
    *bucket = i;
    memcpy(b->tokens + (size_t)i * b->block_tokens, claim->tokens, b->block_tokens * sizeof *claim->tokens);
    return true;
}

static bool same_key(const struct block_key *x, const struct block_key *y) { return x->a == y->a && x->b == y->b; }

uint32_t blocks_before(const struct blocks *b, uint32_t block) {
    const struct block_key *before = &b->block[block].before;
    uint32_t i = *bucket_of(b, before);
    while (i != BLOCK_NONE && !same_key(&b->block[i].key, before)) i = b->block[i].next_named;
    return i;
}

uint32_t blocks_chain(const struct blocks *b, uint32_t last, const struct block_key *root, uint32_t *chain) {
    uint32_t n = 0, i = last;
    while (i != BLOCK_NONE && b->block[i].ready && n < b->count) {
        chain[n++] = i;
        const struct block_key *before = &b->block[i].before;
        if (same_key(before, root)) {
            for (uint32_t k = 0; k < n / 2; k++) {
                uint32_t other = chain[k];
                chain[k] = chain[n - 1 - k];
                chain[n - 1 - k] = other;
            }
            return n;
        }
        i = blocks_before(b, i);
    }
    return 0;
}

void blocks_ready(struct blocks *b, uint32_t block) {
    CHECK(block_is_named(b, block));
    b->block[block].ready = true;
}

static void unname(struct blocks *b, uint32_t i) {
    uint32_t *at = bucket_of(b, &b->block[i].key);
    while (*at != i) at = &b->block[*at].next_named;
    *at = b->block[i].next_named;
    b->block[i].key = (struct block_key){0, 0};
    b->block[i].ready = false;
}

void blocks_forget(struct blocks *b, uint32_t i) {
    if (!block_is_named(b, i)) return;
    unname(b, i);
    if (b->block[i].refs > 0) return;
    unkeep(b, i);
    b->free[b->n_unused++] = i;
}

void blocks_forget_all(struct blocks *b) {
    for (uint32_t i = 0; i < b->count; i++) blocks_forget(b, i);
}

// ---- taking and dropping ----

bool blocks_take(struct blocks *b, uint32_t *block) {
    if (b->n_unused == 0 && b->n_kept > 0) {
        blocks_forget(b, b->oldest);
        b->evictions++;
    }
    if (b->n_unused == 0) return false;
    *block = b->free[--b->n_unused];
    b->block[*block].refs++; // from 0, which blocks_check() proves; a CHECK here would hide the planted bug
    count_free(b);
    return true;
}

void blocks_share(struct blocks *b, uint32_t block) {
    CHECK(block < b->count && (b->block[block].refs > 0 || block_is_named(b, block)));
    if (b->block[block].refs++ > 0) return;
    unkeep(b, block);
    count_free(b);
}

void blocks_drop(struct blocks *b, uint32_t block) {
    CHECK(block < b->count && b->block[block].refs > 0);
    if (--b->block[block].refs > 0) return;
    if (block_is_named(b, block) && b->block[block].ready) {
        keep(b, block);
    } else {
        if (block_is_named(b, block)) unname(b, block);
        CHECK(b->n_unused < 2 * b->count);
        b->free[b->n_unused++] = block;
    }
    count_free(b);
}

void blocks_drop_again(struct blocks *b, uint32_t block) {
    if (block_is_named(b, block)) {
        if (b->block[block].refs > 0)
            unname(b, block);
        else
            blocks_forget(b, block);
    }
    b->block[block].doubled = true;
    if (b->n_unused < b->count) b->free[b->n_unused++] = block;
    count_free(b);
}

static void check_names(const struct blocks *b) {
    uint32_t named = 0, found = 0;
    for (uint32_t i = 0; i < b->count; i++) named += block_is_named(b, i);
    for (uint32_t k = 0; k < b->n_buckets; k++)
        for (uint32_t i = b->buckets[k]; i != BLOCK_NONE; i = b->block[i].next_named, found++)
            CHECK(blocks_find(b, &b->block[i].key, b->tokens + (size_t)i * b->block_tokens) == i && found < named);
    CHECK(found == named);
}

void blocks_check(const struct blocks *b, uint32_t *expected) {
    uint32_t unheld = 0, kept = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        CHECK(b->block[i].refs == expected[i]);
        bool named = block_is_named(b, i);
        CHECK(!b->block[i].ready || named);
        CHECK(b->block[i].refs > 0 || !named || b->block[i].ready);
        unheld += b->block[i].refs == 0 && !named;
        kept += b->block[i].refs == 0 && named;
    }
    CHECK(b->n_unused == unheld && b->n_kept == kept && b->n_free == unheld + kept);
    // From here on expected[] marks what has been seen in the free list and among the kept.
    for (uint32_t i = 0; i < b->n_unused; i++) CHECK(b->free[i] < b->count && expected[b->free[i]]++ == 0);
    uint32_t newer = BLOCK_NONE;
    for (uint32_t i = b->newest; i != BLOCK_NONE; newer = i, i = b->block[i].older) {
        CHECK(b->block[i].newer == newer && expected[i]++ == 0);
        kept--;
    }
    CHECK(b->oldest == newer && kept == 0);
    check_names(b);
}
