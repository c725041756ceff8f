// A shard's weights in the kernels' layouts, in one allocation. Each matrix stays in the form that its file has (forms.h)
// but for the router, which becomes fp32: so nothing is rounded. MLA's kv_b is split per head into W_UK (transposed) and
// W_UV: attention runs in the absorbed form only. FP8's kv_b becomes fp32 for that (in DeepSeek-V3 0.15 % of the weights),
// and so do matrices whose blocks aren't multiples of 128 columns: each value multiplied by its scale.
#pragma once
#include "worker/engine/cpu/forms.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/types.h"
#include "worker/model/model.h"
#include "worker/model/quant.h"

struct matrix {
    enum weight_form form;
    uint32_t n, k; // outputs, inputs
    void *panels;
};

struct mlp_weights {
    struct matrix gate, up, down;
    float *gate_bias, *up_bias, *down_bias; // or NULL
};

struct layer_weights {
    float *attention_norm, *mlp_norm;
    struct matrix q, k, v, out;
    float *q_bias, *k_bias, *v_bias, *out_bias, *q_norm, *k_norm; // or NULL
    struct matrix q_a, q_b, kv_a;
    float *q_a_norm, *kv_a_norm;
    struct matrix *uk, *uv; // [heads] kv_lora × nope, v × kv_lora
    struct mlp_weights mlp, shared;
    struct matrix router; // fp32
    float *router_bias;
    struct mlp_weights *experts; // [experts]
};

struct weights {
    struct layer_weights *layers; // [n_layers], the shard's
    uint32_t n_layers;
    const uint8_t *embed; // [vocab] rows as in the file; NULL past the first stage
    enum dtype embed_dtype;
    float *final_norm; // last stage only
    struct matrix head;
    uint8_t *memory;
    uint64_t bytes;
};

struct weights_load {
    const struct model *model;
    const struct model_spec *spec;
    uint32_t first, end;
    enum quant quant; // quantise at load
    struct pool *pool;
    engine_load_fn *progress; // or NULL
    void *context;
};

// Bytes that weights_load will take; pool and progress may be NULL. Without tensors (a config alone) as if all were bf16.
uint64_t weights_bytes(const struct weights_load *load);
// ERR_MODEL_FILES: FP8 matrices must hold numbers. ERR_CANCELLED when progress says so, ERR_SYSTEM when memory is refused, ERR_MODEL_FILES when a file could not be read.
err_id weights_load(struct weights *w, const struct weights_load *load, struct error *e);
void weights_fini(struct weights *w);
// Token's embedding as fp32.
void weights_embed(const struct weights *w, uint32_t token, uint32_t hidden, float *out);
