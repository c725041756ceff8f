// The KV blocks of a worker: which are free, and how many sequences hold each of the others. Ids only; the memory is the
// engine's. Pure; nothing is allocated after blocks_init().
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct blocks {
    uint32_t *refs; // [count] sequences that hold the block; 0: it is in the free list
    uint32_t *free; // a stack
    uint32_t count, n_free;
};

void blocks_init(struct blocks *b, uint32_t count);
void blocks_fini(struct blocks *b);
// A free block, held once now. False: there is none.
bool blocks_take(struct blocks *b, uint32_t *block);
// One more holder of a held block.
void blocks_share(struct blocks *b, uint32_t block);
// One holder less; the last one's drop frees the block.
void blocks_drop(struct blocks *b, uint32_t block);
// The planted bug WORKER_BUG_DOUBLE_FREE: a block that was just dropped goes to the free list once more, so that two
// sequences will be given it. No CHECK of this file stands in its way, because it is for the simulator's oracle to notice
// from wrong contents, or for blocks_check().
void blocks_drop_again(struct blocks *b, uint32_t block);
// CHECKs that the counts are those expected ([count]; used up as scratch) and that the free list holds exactly the blocks
// that nobody holds, once each.
void blocks_check(const struct blocks *b, uint32_t *expected);

static inline uint32_t blocks_for(uint32_t tokens, uint32_t block_tokens) {
    return tokens / block_tokens + (tokens % block_tokens != 0);
}
