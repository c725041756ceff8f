// One shard's forward pass on the device: buffers, and the launches of a step in order. Nothing allocates after
// forward_create. The residual stream is fp32, what goes into matrix products bf16 (or quantised), sums fp32.
#pragma once
#include "worker/engine/cuda/batch.h"
#include "worker/engine/cuda/gemm.h"
#include "worker/engine/cuda/plan_memory.h"

// Rows of bf16; ld elements from one to the next, zero past their length.
struct vectors {
    void *x;
    uint64_t ld;
};
// What products leave for the operations between them: fp32.
struct floats {
    float *x;
    uint64_t ld;
};

struct forward {
    const struct cuda_plan *plan;
    const struct model_spec *spec;
    uint32_t first, end; // layers
    const struct cuda_weights *weights;
    struct gemm *gemm;
    cudaStream_t stream;
    struct arena memory, cache;

    // The cache: [layer][block][head]{keys [block_tokens][k_pad], values [block_tokens][v_pad]}, bf16; MLA has keys alone.
    struct cache_shape shape;
    uint64_t layer_elements, block_elements, head_elements;

    // State of the slots, and the step's batch.
    uint32_t *table, indexes;       // [slots][indexes]
    uint32_t *tokens, tokens_ld;    // [slots][context + 1]
    struct sampling_params *params; // [slots]
    uint8_t *batch;

    uint64_t ld;   // of the residual stream
    float *hidden; // [batch_tokens][ld]
    struct vectors norm, q_a_norm, latent, attended, act, shared_act, expert_act;
    struct floats norm_f32, q_a, qkv, kv_a, gate_up, shared_gate_up, expert_gate_up; // norm_f32: what routers read
    void *q, *q_nope; // [tokens][heads][k_pad], [tokens][heads][nope_pad]
    void *quantised;  // half, and a scale per 128
    float *q_scale;
    float *shared_out, *expert_out, *logits;
    uint64_t ld_logits;
    float *cosine, *sine; // [context][rope dim / 2]
    float *parts;
    uint64_t parts_floats;
    float *scores, *choice_weight;
    uint32_t *choice, *expert_first, *expert_of, *expert_place;
    float *sample_w, *sample_order;
    uint64_t *sample_mass;
    uint32_t *sample_counts;
    struct sample_answer *answers; // [rows]
};

uint64_t forward_bytes(const struct cuda_plan *plan);
// plan and weights are borrowed; deterministic: own kernels alone.
err_id forward_create(struct forward *f, const struct cuda_plan *plan, const struct cuda_weights *weights,
                      bool deterministic, cudaStream_t stream, struct error *e);
void forward_destroy(struct forward *f);

// Keys of a layer's block 0.
void *forward_cache(const struct forward *f, uint32_t layer);
// Fits split attention of so many tiles and segments into the parts' memory?
bool forward_can_split(const struct forward *f, uint32_t tiles, uint32_t segments);
// Block tables, layers, logits; b lies in device memory. incoming: f->hidden holds the hidden states of the stage before.
err_id forward_run(struct forward *f, const struct batch *b, const struct batch_size *n, bool incoming, struct error *e);
err_id forward_sample(struct forward *f, const struct batch *b, const struct batch_size *n, struct error *e);
// attention.c, mlp.c: a sublayer, from f->norm to what it adds to f->hidden.
err_id attention_run(struct forward *f, uint32_t layer, const struct batch *b, const struct batch_size *n, struct error *e);
err_id mlp_run(struct forward *f, uint32_t layer, uint32_t tokens, struct error *e);
// x [m][n] as a product with w takes it: bf16 as it is, and quantised where the matrix is FP8.
err_id forward_vectors(struct forward *f, struct gemm_vectors *v, const struct vectors *x, const struct cuda_matrix *w,
                       uint32_t m, struct error *e);
err_id forward_product(struct forward *f, const struct cuda_matrix *w, const struct vectors *x, const struct floats *out,
                       uint32_t m, struct error *e);
// All parts of a stack.
err_id forward_stack(struct forward *f, const struct cuda_stack *s, const struct vectors *x, const struct floats *out,
                     uint32_t m, struct error *e);
// f->hidden += w x + bias.
err_id forward_add(struct forward *f, const struct cuda_matrix *w, const struct vectors *x, const float *bias, uint32_t m,
                   struct error *e);
