// The operations between the matrix products. Vectors lie in rows of ld elements (a multiple of 64, zero past their length).
#pragma once
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

// Block tables and copies of a plan: deltas {slot, index, block}, copies {src, dst}; 32-bit words in device memory.
struct tables_call {
    uint32_t *table;
    uint32_t table_ld, n_deltas, n_copies;
    const uint32_t *deltas, *copies;
    void *cache;                       // copies run one after the other
    uint64_t layer_bytes, block_bytes; // of one layer's pool, of a block in it; bytes are multiples of 16
    uint32_t layers;
};
cudaError_t tables_run(const struct tables_call *call, cudaStream_t stream);

// hidden[i] = embed[token of i]: tokens[at[i]] where at[i] is an index into the slots' tokens, or with bit 31 the id itself.
cudaError_t embed_run(const void *embed, uint64_t embed_ld, const uint32_t *at, const uint32_t *tokens, float *hidden,
                      uint64_t ld, uint32_t n, uint32_t m, cudaStream_t stream);

// out = x / sqrt(mean of x^2 + eps) * weight as bf16, and where out_f32 is given there too. gather: rows of x, or NULL.
struct norm_call {
    const float *x;
    uint64_t ldx, ldo;
    const uint32_t *gather;
    const float *weight;
    uint32_t n, m;
    float eps;
    void *out;
    float *out_f32; // rows of ldo
};
cudaError_t norm_run(const struct norm_call *call, cudaStream_t stream);

// out = silu(gate) * up as bf16; up lies up_off elements after gate.
cudaError_t silu_run(const float *gate, uint64_t ld, uint32_t up_off, void *out, uint64_t ldo, uint32_t n, uint32_t m,
                     cudaStream_t stream);

// GQA: biases, norms over heads, rotation; keys and values to the cache. qkv: [tokens][ld] = q heads, k heads, v heads.
struct rope_call {
    const float *qkv;
    uint64_t ld;
    const float *bias; // of all of qkv, or NULL
    const float *q_norm, *k_norm;
    float eps;
    const float *cosine, *sine; // [position][dim / 2]
    uint32_t dim;
    bool interleaved;
    uint32_t tokens, heads, kv_heads, head_dim, k_pad;
    const uint32_t *pos, *slot, *table;
    uint32_t table_ld, block_tokens;
    void *q; // bf16 [tokens][heads][k_pad]
    void *k, *v;
    uint64_t block_step, head_step, k_row, v_row;
};
cudaError_t rope_run(const struct rope_call *call, cudaStream_t stream);

// MLA: norm of the latent, rotation of the shared key, both to the cache; q = [nope | rope] per head is cut up: nope to
// q_nope [tokens][heads][nope_pad], the rotated rest to q_full [tokens][heads][k_pad] past kv_lora.
struct mla_call {
    const float *q, *kv; // [tokens][ld_q], [tokens][ld_kv] = latent, key
    uint64_t ld_q, ld_kv;
    const float *norm;
    float eps;
    const float *cosine, *sine;
    bool interleaved;
    bool round_latent; // to e4m3 values with a scale per 128: the latent is what an FP8 matrix takes
    uint32_t tokens, heads, nope_dim, nope_pad, rope_dim, kv_lora, k_pad;
    const uint32_t *pos, *slot, *table;
    uint32_t table_ld, block_tokens;
    void *q_nope, *q_full, *k;
    uint64_t block_step, k_row;
};
cudaError_t mla_run(const struct mla_call *call, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
