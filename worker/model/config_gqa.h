// What the families with grouped-query attention have in common: Llama, Mistral, Qwen. Each family's own file says by its
// traits what sets it apart where config.json does not say it, and what a missing key means, as its authors' configuration
// classes do.
#pragma once
#include "worker/model/config.h"

enum gqa_window {
    GQA_WINDOW_NONE,   // attention is full whatever the config says
    GQA_WINDOW_ALWAYS, // sliding_window counts on every layer
    GQA_WINDOW_ASKED,  // … where use_sliding_window is true
    GQA_WINDOW_LAYERS, // … and then from max_window_layers on, or as layer_types says
};

struct gqa_traits {
    bool qkv_bias;     // always, on q, k and v
    bool bias_key;     // attention_bias, on q, k, v and out
    bool mlp_bias_key; // mlp_bias
    bool qk_norm;
    uint32_t kv_heads, head_dim; // when config.json doesn't say; 0 = heads, and hidden / heads
    enum gqa_window window;
    uint32_t window_default; // of a config without sliding_window; null is none
    double rope_theta;       // of a config without one; 0 = 10000
    double norm_eps;         // likewise; 0 = 1e-6
};

// Fills the spec with layers that are all alike, dense and windowed as the traits say.
err_id gqa_map(const json_t *config, const struct gqa_traits *traits, struct model_spec *spec, struct error *e);
// Experts of a layer without groups or shared ones, chosen by softmax: names of the keys, the width of one.
struct gqa_experts {
    const char *count_key;
    uint32_t count, top_k; // when config.json doesn't say
    bool norm_topk;
    const char *inter_key;
};
err_id gqa_experts(const json_t *config, const struct gqa_experts *keys, struct mlp_spec *moe, struct error *e);
