// DeepSeek V2 (and V2-Lite) and V3 (and R1): multi-head latent attention, a few dense layers, then mixture of experts.
// Formulas: the technical reports arXiv 2405.04434 and 2412.19437. V3's masks out-of-group experts with -inf (the reports'
// reference; some ports mask with 0), and its choice bias counts for choosing only.
#include <string.h>
#include "common/base/scalar_math.h"
#include "worker/model/config.h"

enum { HEADS_MAX = 4096, DIM_MAX = 8192, EXPERTS_MAX = 4096 };

static err_id attention(const json_t *c, struct attention_spec *a, struct error *e) {
    const struct config_range dim = {CONFIG_NEEDED, 2, DIM_MAX};
    a->kind = ATTENTION_MLA;
    TRY(config_u32(c, "num_attention_heads", (struct config_range){CONFIG_NEEDED, 1, HEADS_MAX}, &a->heads, e));
    TRY(config_u32(c, "q_lora_rank", (struct config_range){0, 0, DIM_MAX}, &a->q_lora, e));
    TRY(config_u32(c, "kv_lora_rank", dim, &a->kv_lora, e));
    TRY(config_u32(c, "qk_nope_head_dim", dim, &a->nope_dim, e));
    TRY(config_u32(c, "qk_rope_head_dim", dim, &a->rope_dim, e));
    TRY(config_u32(c, "v_head_dim", dim, &a->v_dim, e));
    if ((a->q_lora | a->kv_lora | a->nope_dim | a->rope_dim | a->v_dim) & 1) {
        return error_set(e, ERR_MODEL_FILES, "config.json: the ranks and head dimensions of latent attention must be even");
    }
    bool bias = false;
    TRY(config_bool(c, "attention_bias", &bias, e));
    if (bias) return error_set(e, ERR_UNSUPPORTED, "config.json: \"attention_bias\" is not supported with latent attention");
    a->scale = (float)math_pow(a->nope_dim + a->rope_dim, -0.5);
    a->lora_norm_eps = 1e-6f;
    return ERR_NONE;
}

static err_id experts(const json_t *c, bool v3, struct mlp_spec *m, struct error *e) {
    m->kind = MLP_MOE;
    TRY(config_u32(c, "num_experts_per_tok", (struct config_range){CONFIG_NEEDED, 1, m->experts}, &m->top_k, e));
    TRY(config_u32(c, "moe_intermediate_size", (struct config_range){CONFIG_NEEDED, 2, 1 << 20}, &m->expert_inter, e));
    uint32_t shared;
    TRY(config_u32(c, "n_shared_experts", (struct config_range){0, 0, 64}, &shared, e));
    m->shared_inter = shared * m->expert_inter;
    TRY(config_u32(c, "n_group", (struct config_range){1, 1, m->experts}, &m->groups, e));
    TRY(config_u32(c, "topk_group", (struct config_range){1, 1, m->groups}, &m->topk_groups, e));
    if (m->expert_inter % 2 != 0)
        return error_set(e, ERR_MODEL_FILES, "config.json: \"moe_intermediate_size\" must be even");
    const char *method, *score;
    TRY(config_string(c, "topk_method", v3 ? "noaux_tc" : "greedy", &method, e));
    TRY(config_string(c, "scoring_func", v3 ? "sigmoid" : "softmax", &score, e));
    bool noaux = strcmp(method, "noaux_tc") == 0, greedy = strcmp(method, "greedy") == 0;
    if (!noaux && !greedy && strcmp(method, "group_limited_greedy") != 0) {
        return error_set(e, ERR_UNSUPPORTED, "config.json: \"topk_method\" \"%.40s\" is not supported", method);
    }
    if (strcmp(score, "sigmoid") != 0 && strcmp(score, "softmax") != 0) {
        return error_set(e, ERR_UNSUPPORTED, "config.json: \"scoring_func\" \"%.40s\" is not supported", score);
    }
    m->score = strcmp(score, "sigmoid") == 0 ? MOE_SIGMOID : MOE_SOFTMAX;
    m->group_score = noaux ? MOE_GROUP_TOP2 : MOE_GROUP_MAX;
    m->choice_bias = noaux;
    if (greedy) m->groups = m->topk_groups = 1;
    uint32_t per_group = m->experts / m->groups;
    if (m->experts % m->groups != 0 || m->top_k > m->topk_groups * per_group || (noaux && per_group < 2 && m->groups > 1)) {
        return error_set(e, ERR_MODEL_FILES,
                         "config.json: %u experts in %u groups, %u of them kept, don't allow a choice of %u", m->experts,
                         m->groups, m->topk_groups, m->top_k);
    }
    double scale = v3 ? 2.5 : 1;
    m->norm_topk = v3;
    TRY(config_bool(c, "norm_topk_prob", &m->norm_topk, e));
    TRY(config_number(c, "routed_scaling_factor", &scale, e));
    if (!v3) m->norm_topk = m->norm_topk && m->top_k > 1;
    if (!v3 && m->norm_topk) scale = 1; // V2 does one or the other
    m->routed_scale = (float)scale;
    return ERR_NONE;
}

static err_id map(const json_t *c, bool v3, struct model_spec *spec, struct error *e) {
    TRY(config_common(c, spec, e));
    struct attention_spec a = {0};
    struct mlp_spec dense = {.kind = MLP_DENSE}, moe = {0};
    TRY(attention(c, &a, e));
    bool interleaved = true;
    TRY(config_bool(c, "rope_interleave", &interleaved, e));
    TRY(config_rope(c, &(struct config_rope){.head_dim = a.rope_dim, .interleaved = interleaved}, spec, e));
    a.scale *= (float)rope_scale_correction(&spec->rope);
    uint32_t first_dense, every;
    TRY(config_u32(c, "intermediate_size", (struct config_range){CONFIG_NEEDED, 2, 1 << 22}, &dense.inter, e));
    TRY(config_u32(c, "n_routed_experts", (struct config_range){0, 1, EXPERTS_MAX}, &moe.experts, e));
    TRY(config_u32(c, "first_k_dense_replace", (struct config_range){0, 0, 1 << 16}, &first_dense, e));
    TRY(config_u32(c, "moe_layer_freq", (struct config_range){1, 1, MODEL_LAYERS_MAX}, &every, e));
    if (dense.inter % 2 != 0) return error_set(e, ERR_MODEL_FILES, "config.json: \"intermediate_size\" must be even");
    if (moe.experts > 0) TRY(experts(c, v3, &moe, e));
    for (uint32_t l = 0; l < spec->layers; l++) {
        bool is_moe = moe.experts > 0 && l >= first_dense && l % every == 0;
        spec->layer[l] = (struct layer_spec){a, is_moe ? moe : dense};
    }
    return ERR_NONE;
}

static err_id map_v2(const json_t *c, struct model_spec *spec, struct error *e) { return map(c, false, spec, e); }
static err_id map_v3(const json_t *c, struct model_spec *spec, struct error *e) { return map(c, true, spec, e); }

const struct config_architecture config_deepseek_table[] = {
    {"DeepseekV3ForCausalLM", map_v3},
    {"DeepseekV2ForCausalLM", map_v2},
    {NULL, NULL},
};
