// Matrix times a few vectors by streaming the weights: out[i][j] (+)= bias[j] + sum over k of w[j][k] x[i][k].
//
// Each output is one chain of operations in an order that depends on k alone: neither m nor the tile changes its bits. Eight
// warps of a block take every eighth chunk of k (64 bf16 or 128 FP8) and are added in the order of the warps. Fast for m up
// to 8 (bf16) and 32 (FP8); right for every m, which makes it the deterministic class's product.
//
// FP8: e4m3 weights with a scale per 128 x 128 (DeepSeek's weight_scale_inv, multiplied) times vectors whose values are e4m3
// held as half, with a scale per 128 of k (quantise.h); products are exact, sums fp32.
#pragma once
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

struct stream_call {
    const void *w; // [n][ldw] bf16, or e4m3 with w_scale
    uint64_t ldw;  // elements, a multiple of 64 (bf16) or 128 (FP8); zero past the matrix's own k
    const float *w_scale;
    uint32_t scale_ld; // floats in a row of w_scale
    uint32_t n, k;     // k: a multiple of 64 (bf16) or 128 (FP8)
    const void *x;     // [m][ldx] bf16, or half with x_scale [m][k / 128]; 16-byte aligned rows, finite past the own k
    uint64_t ldx;
    const float *x_scale;
    uint32_t m;
    void *out; // [m][ldo] bf16, or float with out_f32
    uint64_t ldo;
    bool out_f32, add; // add: to what is there (float only)
    const float *bias; // [n] or NULL
    // Several products at once: b-th with w + b w_step, x + b x_step, out + b out_step (elements).
    uint32_t batch; // 0 = 1
    uint64_t w_step, scale_step, x_step, out_step;
    // Or groups of rows, each with its own matrix: matrix b takes the rows group_first[b] ... group_first[b + 1] - 1 (device
    // memory); gather: the vector of a row, else the row itself. m is the most rows that a group can have.
    const uint32_t *group_first, *gather;
};
cudaError_t stream_run(const struct stream_call *call, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
