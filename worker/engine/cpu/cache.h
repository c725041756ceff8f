// The KV cache: fp32, in blocks of block_tokens tokens, the same block ids on every layer. fp32 because attention reads
// nothing else (fresh keys beside rounded ones would make a token's bits depend on the chunking) and the exact mode must
// stay within 2e-3 of an fp32 reference. Keys lie in groups of 16 tokens, [k_dim][16], so that a lane is a token; values
// [token][v_padded]. MLA has one cache head and holds [token][k_dim], latent and rotated key, nothing else: the value is the
// latent where it lies, and attention turns groups of keys as it reads them.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "worker/model/spec.h"

struct cache_layer {
    bool mla;
    uint32_t heads, k_dim, v_dim, v_padded; // v_padded: v_dim rounded up to 16
    uint32_t v_ld;                          // floats from a token's value to the next one's
    float *k, *v;                           // of block 0, head 0; MLA: the same place
    size_t k_stride, v_stride;              // floats from block to block
    size_t k_head, v_head;                  // floats from head to head inside a block
};

struct cache {
    uint32_t blocks, block_tokens, n_layers;
    struct cache_layer *layers;
    void *memory;
    uint64_t bytes;
};

// Bytes that one block takes over the layers [first, end).
uint64_t cache_block_bytes(const struct model_spec *spec, uint32_t first, uint32_t end, uint32_t block_tokens);
// NULL memory on failure: false.
bool cache_init(struct cache *c, const struct model_spec *spec, uint32_t first, uint32_t end, uint32_t blocks,
                uint32_t block_tokens);
void cache_fini(struct cache *c);
// Entry of one head at position pos of the sequence with this block table; v NULL for MLA.
void cache_write(const struct cache *c, const struct cache_layer *l, const uint32_t *table, uint32_t pos, uint32_t head,
                 const float *k, const float *v);
void cache_copy_block(const struct cache *c, uint32_t src, uint32_t dst);

// The canonical form of one token on one layer: GQA all heads' keys, then all heads' values; MLA latent, then rotated key.
uint32_t cache_elements(const struct cache_layer *l);
void cache_get(const struct cache *c, const struct cache_layer *l, const uint32_t *table, uint32_t pos, float *out);
void cache_put(const struct cache *c, const struct cache_layer *l, const uint32_t *table, uint32_t pos, const float *in);
