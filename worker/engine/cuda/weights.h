// A shard's weights on the device. Matrices are bf16 [n][ld], rows padded with zeros to a multiple of 128 elements; FP8
// matrices in DeepSeek's form (e4m3 with a scale per 128 x 128) stay so; all other forms (fp32, fp16, GGUF's, int8, int4)
// are expanded to bf16 here, which rounds. The router and vectors are fp32. MLA's kv_b is split per head into W_UK
// (transposed) and W_UV, in bf16.
#pragma once
#include <cuda_runtime_api.h>
#include "worker/engine/cpu/pool.h"
#include "worker/engine/cuda/device.h"
#include "worker/model/model.h"

enum { STACK_MAX = 3 };

struct cuda_matrix {
    void *w;
    float *scale; // FP8: [ceil(n / 128)][ld / 128]; else NULL
    uint32_t n, k, ld;
};

// Matrices over the same input whose outputs lie beside each other; those that can be are one matrix.
struct cuda_stack {
    struct cuda_matrix part[STACK_MAX];
    uint32_t column[STACK_MAX], parts; // where a part's outputs begin
};

struct cuda_mlp {
    struct cuda_stack gate_up; // up begins at round_up(inter, 128)
    struct cuda_matrix down;
    float *gate_up_bias[2], *down_bias; // or NULL
};

struct cuda_layer {
    float *attention_norm, *mlp_norm;
    struct cuda_stack qkv; // GQA
    float *qkv_bias, *out_bias, *q_norm, *k_norm;
    struct cuda_matrix q, q_a, q_b, kv_a, out;
    float *q_a_norm, *kv_a_norm;
    struct cuda_matrix uk, uv; // MLA: heads matrices of kv_lora x nope and v x kv_lora, one after the other
    struct cuda_mlp mlp, shared;
    float *router, *router_bias;                            // [experts][hidden]
    struct cuda_matrix expert_gate, expert_up, expert_down; // experts matrices, one after the other (n: of one)
};

struct cuda_weights {
    struct cuda_layer *layers;
    uint32_t n_layers;
    void *embed; // bf16 [vocab][ld]
    uint32_t embed_ld;
    float *final_norm;
    struct cuda_matrix head;
    struct arena memory;
    bool expanded; // some matrix was not bf16 or FP8
};

struct cuda_load {
    const struct model *model;
    const struct model_spec *spec;
    uint32_t first, end;
    struct pool *pool; // for reading
    cudaStream_t stream;
    engine_load_fn *progress; // or NULL
    void *context;
};

uint64_t cuda_weights_bytes(const struct cuda_load *load);
err_id cuda_weights_load(struct cuda_weights *w, const struct cuda_load *load, struct error *e);
void cuda_weights_fini(struct cuda_weights *w);
