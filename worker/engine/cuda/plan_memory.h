// What a CUDA engine with these options takes and accepts: a function of options and model (and, where KV has no size of its
// own, of the device's free memory).
#pragma once
#include "worker/engine/cuda/device.h"
#include "worker/model/model.h"

struct cuda_plan {
    struct engine_opts opts; // no zero where zero means a default
    const struct model_spec *spec;
    struct engine_mem mem;
    struct engine_info info;
    uint32_t logits;
};
struct plan_caps plan_caps_of(const struct cuda_plan *plan);
err_id cuda_plan(const struct engine_opts *opts, struct cuda_plan *plan, struct error *e);
// Elements of one token's row in the cache of a layer: all heads' keys and values, padded.
struct cache_shape {
    uint32_t heads, k_dim, v_dim, k_pad, v_pad;
    bool shared;    // MLA: the value is the key's first part
    uint64_t token; // elements in all
};
struct cache_shape cache_shape(const struct attention_spec *a);
