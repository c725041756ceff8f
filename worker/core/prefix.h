// Prefix reuse: the chain of keys over a sequence's full blocks, and what of them the worker holds already. The key of block
// i is a 128-bit hash (XXH3-64 twice) over its tokens and the key of block i − 1; before block 0 stands the salt. So a key
// stands for all tokens from the start, and tokens of another salt are never found. A find compares the block's own tokens
// too. At least one token of a sequence is left to compute, because the logits behind it are not kept.
#pragma once
#include "worker/core/blocks.h"
#include "worker/core/sequence.h"

// What of a sequence that has no slot is in blocks already.
struct prefix_match {
    uint32_t n_blocks; // ready, from the start; found in seq->blocks[0 …]
    uint32_t claimed;  // the block behind them, which another sequence is computing; BLOCK_NONE: there is none
};
// What stands before block 0: of this process, whose engine and weights (fingerprint) are the same all its life, and of a
// tenant (0: of all).
struct block_key prefix_root(uint64_t process, uint64_t tenant);
// Fills seq->blocks[0 … n_blocks), but holds none of them.
void prefix_find(const struct blocks *b, struct sequence *seq, struct prefix_match *match);
// How many of those somebody holds now.
uint32_t prefix_held(const struct blocks *b, const struct sequence *seq, const struct prefix_match *match);
// Claims the names of the blocks that the sequence, which holds all blocks of its tokens, will fill.
void prefix_claim(struct blocks *b, struct sequence *seq);
// More of it is computed: full blocks are ready to be found.
void prefix_computed(struct blocks *b, struct sequence *seq);
// What it computed can't be trusted: none of its blocks is found any more.
void prefix_forget(struct blocks *b, struct sequence *seq);
