// Mistral, and Mixtral: the same attention, but every layer a mixture of experts, whose scores are a softmax over all
// experts, the chosen ones' then divided by their sum.
#include "worker/model/config_gqa.h"

enum { KV_HEADS_DEFAULT = 8, WINDOW_DEFAULT = 4096, EXPERTS_DEFAULT = 8, TOP_K_DEFAULT = 2 };

static err_id map_mistral(const json_t *c, struct model_spec *spec, struct error *e) {
    const struct gqa_traits traits = {
        .kv_heads = KV_HEADS_DEFAULT, .window = GQA_WINDOW_ALWAYS, .window_default = WINDOW_DEFAULT};
    return gqa_map(c, &traits, spec, e);
}

static err_id map_mixtral(const json_t *c, struct model_spec *spec, struct error *e) {
    const struct gqa_traits traits = {
        .kv_heads = KV_HEADS_DEFAULT, .window = GQA_WINDOW_ALWAYS, .rope_theta = 1e6, .norm_eps = 1e-5};
    const struct gqa_experts keys = {"num_local_experts", EXPERTS_DEFAULT, TOP_K_DEFAULT, .norm_topk = true,
                                     .inter_key = "intermediate_size"};
    struct mlp_spec moe;
    TRY(gqa_map(c, &traits, spec, e));
    TRY(gqa_experts(c, &keys, &moe, e));
    for (uint32_t l = 0; l < spec->layers; l++) spec->layer[l].mlp = moe;
    spec->names = TENSOR_NAMES_MIXTRAL;
    return ERR_NONE;
}

const struct config_architecture config_mistral_table[] = {
    {"MistralForCausalLM", map_mistral},
    {"MixtralForCausalLM", map_mixtral},
    {NULL, NULL},
};
