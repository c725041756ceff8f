// The KV blocks of a worker: which are free, how many sequences hold each of the others, and what is in them. Ids only; the
// memory is the engine's. Pure; nothing is allocated after blocks_init().
//
// A full block may be named by its key, which stands for all tokens up to its end: then a sequence that begins with the same
// tokens finds it and holds it too. A named block that nobody holds any more keeps its content until room is needed: the one
// that was held longest ago goes first. Names are claimed before the block is computed, so that who comes with the same
// tokens meanwhile can wait for it: a claimed block is found, but is not ready.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define BLOCK_NONE UINT32_MAX

struct block_key { // all zero: no name
    uint64_t a, b;
};

struct block {
    uint32_t refs;                // sequences that hold it
    bool ready;                   // named, and its content is computed
    bool doubled;                 // by the planted bug: gets no name any more
    uint32_t owner;               // claimed by the sequence in this slot
    bool saved;                   // named, and needs not be written to the store (any more)
    struct block_key key, before; // before: of the tokens up to its beginning
    uint32_t next_named;          // in its bucket
    uint32_t newer, older;        // named and held by nobody: in the order of the last hold
};

struct blocks {
    struct block *block; // [count]
    uint32_t *tokens;    // [count][block_tokens] of the named ones
    uint32_t *buckets;   // [n_buckets] named blocks by key
    uint32_t *free;      // a stack of those that are neither held nor named
    uint32_t count, block_tokens, n_buckets;
    uint32_t n_unused;       // in the stack
    uint32_t n_kept;         // named and held by nobody
    uint32_t n_free;         // can be taken: n_unused + n_kept
    uint32_t newest, oldest; // of those kept
    uint32_t held_most;      // held at once, so far
    uint64_t evictions;      // kept ones that had to go
};

void blocks_init(struct blocks *b, uint32_t count, uint32_t block_tokens);
void blocks_fini(struct blocks *b);
// A block with no name, held once now. False: there is none.
bool blocks_take(struct blocks *b, uint32_t *block);
// One more holder of a held or kept block.
void blocks_share(struct blocks *b, uint32_t block);
// One holder less. The last one's drop frees the block, or keeps it if it is ready; a mere claim ends.
void blocks_drop(struct blocks *b, uint32_t block);

// The block of this key and these tokens; BLOCK_NONE: there is none.
uint32_t blocks_find(const struct blocks *b, const struct block_key *key, const uint32_t *tokens);
uint32_t blocks_before(const struct blocks *b, uint32_t block); // the named one; BLOCK_NONE: none is named so
// The chain of ready blocks that ends in `last`, from the first behind `root` on: its length, chain[] is filled ([count]).
// 0: a part of it is not there any more.
uint32_t blocks_chain(const struct blocks *b, uint32_t last, const struct block_key *root, uint32_t *chain);
// Names a held block. False, and nothing happens, if it or another one has a name for that.
struct block_claim {
    struct block_key key, before;
    const uint32_t *tokens;
    uint32_t owner;
};
bool blocks_claim(struct blocks *b, uint32_t block, const struct block_claim *claim);
void blocks_ready(struct blocks *b, uint32_t block);  // what was claimed is computed
void blocks_forget(struct blocks *b, uint32_t block); // it is not found any more
void blocks_forget_all(struct blocks *b);

// The planted bug WORKER_BUG_DOUBLE_FREE: a block that was just dropped goes to the free list once more, so that two
// sequences will be given it. No CHECK of this file stands in its way, because it is for the simulator's oracle to notice
// from wrong contents, or for blocks_check().
void blocks_drop_again(struct blocks *b, uint32_t block);
// CHECKs that the counts are those expected ([count]; used up as scratch), that the free list holds exactly the blocks that
// nobody holds or knows, once each, and that every name leads to its block.
void blocks_check(const struct blocks *b, uint32_t *expected);

static inline bool block_is_named(const struct blocks *b, uint32_t block) {
    return (b->block[block].key.a | b->block[block].key.b) != 0;
}

static inline uint32_t blocks_for(uint32_t tokens, uint32_t block_tokens) {
    return tokens / block_tokens + (tokens % block_tokens != 0);
}
