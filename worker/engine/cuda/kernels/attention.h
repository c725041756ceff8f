// Attention of queries against the paged cache alone, GQA and MLA (absorbed: keys [latent | rotated key], values the
// latent).
//
// A query's context is cut into segments at multiples of a fixed number of positions; a segment is one exact softmax and one
// sum, and segments are merged in ascending order, by the same operations whether one block walks them or several make them
// and another kernel merges. So a query's bits depend neither on the other queries nor on the chunking.
//
// Cache of one layer: key of position p, head h at k + table[p / block_tokens] block_step + h head_step + p % block_tokens
// k_row; the values likewise at v with v_row. k_pad and v_pad: multiples of 32, zero past the own size.
#pragma once
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { ATTEND_ROWS_SPLIT = 16, ATTEND_ROWS_LOOP = 64, ATTEND_V_MAX = 512 };

// Consecutive tokens of one sequence, handled together: count x (heads per cache head, at most 16) <= rows of the kernel.
struct attend_tile {
    uint32_t token, count;
};

struct attend_call {
    const void *q;                                // bf16 [tokens][heads][k_pad]
    const void *k, *v;                            // bf16, this layer's block 0
    uint64_t block_step, head_step, k_row, v_row; // elements
    const uint32_t *table;                        // [slots][table_ld]
    uint32_t table_ld, block_tokens;
    const uint32_t *pos, *slot;      // [tokens]
    const struct attend_tile *tiles; // device
    uint32_t n_tiles;
    uint32_t heads, kv_heads, k_pad, v_dim, v_pad, window;
    float scale; // of q.k, before the softmax
    void *out;   // bf16: head h of token t at out + t out_token + h out_head
    uint64_t out_token, out_head;
    uint32_t segments; // split: most segments that a token here has; 0 = loop
    float *parts;      // split: attend_parts_floats()
};
uint32_t attend_segment(uint32_t v_pad); // positions in a segment
// Rows that a tile may have in loop mode; in split mode ATTEND_ROWS_SPLIT.
uint32_t attend_loop_rows(uint32_t v_pad);
uint64_t attend_parts_floats(const struct attend_call *call, uint32_t tiles, uint32_t segments);
cudaError_t attend_run(const struct attend_call *call, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
