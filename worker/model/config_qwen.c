// Qwen2 and 2.5 (biases on q, k and v), Qwen3 (none, but norms over each head of q and k), and Qwen3-MoE: experts scored by
// a softmax over all, on the layers that decoder_sparse_step and mlp_only_layers leave to them.
#include "worker/model/config_gqa.h"

enum { HEAD_DIM_QWEN3 = 128, WINDOW_DEFAULT = 4096, KV_HEADS_MOE = 4, EXPERTS_DEFAULT = 128, TOP_K_DEFAULT = 8 };

static err_id map_qwen2(const json_t *c, struct model_spec *spec, struct error *e) {
    const struct gqa_traits traits = {.qkv_bias = true, .window = GQA_WINDOW_LAYERS, .window_default = WINDOW_DEFAULT};
    return gqa_map(c, &traits, spec, e);
}

static err_id map_qwen3(const json_t *c, struct model_spec *spec, struct error *e) {
    struct gqa_traits traits = {.bias_key = true, .qk_norm = true, .head_dim = HEAD_DIM_QWEN3};
    traits.window = GQA_WINDOW_LAYERS;
    traits.window_default = WINDOW_DEFAULT;
    return gqa_map(c, &traits, spec, e);
}

static bool is_listed(const json_t *list, uint32_t layer) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_integer_value(json_array_get(list, i)) == layer) return true;
    }
    return false;
}

static err_id map_qwen3_moe(const json_t *c, struct model_spec *spec, struct error *e) {
    struct gqa_traits traits = {.bias_key = true, .qk_norm = true, .kv_heads = KV_HEADS_MOE};
    traits.window = GQA_WINDOW_ASKED;
    traits.window_default = WINDOW_DEFAULT;
    struct gqa_experts keys = {"num_experts", EXPERTS_DEFAULT, TOP_K_DEFAULT, .inter_key = "moe_intermediate_size"};
    struct mlp_spec moe;
    uint32_t step;
    TRY(gqa_map(c, &traits, spec, e));
    TRY(config_bool(c, "norm_topk_prob", &keys.norm_topk, e));
    TRY(gqa_experts(c, &keys, &moe, e));
    TRY(config_u32(c, "decoder_sparse_step", (struct config_range){1, 1, 1 << 16}, &step, e));
    const json_t *only = json_object_get(c, "mlp_only_layers");
    if (only != NULL && !json_is_null(only) && !json_is_array(only)) {
        return error_set(e, ERR_MODEL_FILES, "config.json: \"mlp_only_layers\" must be a list of layers");
    }
    for (uint32_t l = 0; l < spec->layers; l++) {
        if (!is_listed(only, l) && (l + 1) % step == 0) spec->layer[l].mlp = moe;
    }
    return ERR_NONE;
}

const struct config_architecture config_qwen_table[] = {
    {"Qwen2ForCausalLM", map_qwen2},
    {"Qwen3ForCausalLM", map_qwen3},
    {"Qwen3MoeForCausalLM", map_qwen3_moe},
    {NULL, NULL},
};
