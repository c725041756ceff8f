// Grouped-query attention from config.json: heads, biases, rotation, windows; and plain mixtures of experts.
#include "worker/model/config_gqa.h"
#include <string.h>
#include "common/base/scalar_math.h"

enum { HEADS_MAX = 4096, HEAD_DIM_MAX = 1024, EXPERTS_MAX = 4096, WINDOW_LAYERS_DEFAULT = 28 };

static err_id heads(const json_t *c, uint32_t hidden, const struct gqa_traits *t, struct attention_spec *a,
                    struct error *e) {
    const struct config_range range = {CONFIG_NEEDED, 1, HEADS_MAX};
    TRY(config_u32(c, "num_attention_heads", range, &a->heads, e));
    uint32_t kv_heads = t->kv_heads > 0 ? t->kv_heads : a->heads;
    TRY(config_u32(c, "num_key_value_heads", (struct config_range){kv_heads, 1, HEADS_MAX}, &a->kv_heads, e));
    uint32_t fallback = t->head_dim > 0 ? t->head_dim : hidden % a->heads == 0 ? hidden / a->heads : CONFIG_NEEDED;
    TRY(config_u32(c, "head_dim", (struct config_range){fallback, 2, HEAD_DIM_MAX}, &a->head_dim, e));
    if (a->head_dim < 2 || a->head_dim > HEAD_DIM_MAX || a->head_dim % 2 != 0) {
        return error_set(e, ERR_MODEL_FILES,
                         "config.json: a head of %u elements is not supported, only even sizes from 2 to %d", a->head_dim,
                         HEAD_DIM_MAX);
    }
    if (a->heads % a->kv_heads != 0) {
        return error_set(e, ERR_MODEL_FILES,
                         "config.json: \"num_attention_heads\" (%u) must be a multiple of "
                         "\"num_key_value_heads\" (%u)",
                         a->heads, a->kv_heads);
    }
    return ERR_NONE;
}

static err_id windows(const json_t *c, const struct gqa_traits *t, struct model_spec *spec, struct error *e) {
    if (t->window == GQA_WINDOW_NONE) return ERR_NONE;
    bool use = t->window == GQA_WINDOW_ALWAYS, layered = t->window == GQA_WINDOW_LAYERS;
    uint32_t window = t->window_default, from;
    if (!use) TRY(config_bool(c, "use_sliding_window", &use, e));
    if (json_object_get(c, "sliding_window") != NULL) {
        TRY(config_u32(c, "sliding_window", (struct config_range){0, 1, 1 << 24}, &window, e));
    }
    TRY(config_u32(c, "max_window_layers", (struct config_range){WINDOW_LAYERS_DEFAULT, 0, 1 << 16}, &from, e));
    if (!use || window == 0) return ERR_NONE;
    const json_t *types = json_object_get(c, "layer_types");
    for (uint32_t l = 0; l < spec->layers; l++) {
        const char *type = json_string_value(json_array_get(types, l));
        bool slides = type != NULL ? strcmp(type, "sliding_attention") == 0 : l >= from;
        spec->layer[l].attention.window = slides || !layered ? window : 0;
    }
    return ERR_NONE;
}

err_id gqa_map(const json_t *c, const struct gqa_traits *t, struct model_spec *spec, struct error *e) {
    if (t->norm_eps > 0) spec->norm_eps = (float)t->norm_eps;
    TRY(config_common(c, spec, e));
    struct layer_spec layer = {.attention = {.kind = ATTENTION_GQA, .qk_norm = t->qk_norm}, .mlp = {.kind = MLP_DENSE}};
    struct attention_spec *a = &layer.attention;
    TRY(heads(c, spec->hidden, t, a, e));
    if (t->bias_key) TRY(config_bool(c, "attention_bias", &a->out_bias, e));
    a->qkv_bias = a->out_bias || t->qkv_bias;
    a->scale = (float)math_pow(a->head_dim, -0.5);
    TRY(config_u32(c, "intermediate_size", (struct config_range){CONFIG_NEEDED, 2, 1 << 22}, &layer.mlp.inter, e));
    if (layer.mlp.inter % 2 != 0) return error_set(e, ERR_MODEL_FILES, "config.json: \"intermediate_size\" must be even");
    if (t->mlp_bias_key) TRY(config_bool(c, "mlp_bias", &layer.mlp.bias, e));
    bool interleaved = false; // rows of q and k in the other order: how GGUF files hold Llama
    TRY(config_bool(c, "rope_interleave", &interleaved, e));
    struct config_rope rope = {.head_dim = a->head_dim, .interleaved = interleaved, .theta = t->rope_theta};
    TRY(config_rope(c, &rope, spec, e));
    for (uint32_t l = 0; l < spec->layers; l++) spec->layer[l] = layer;
    return windows(c, t, spec, e);
}

err_id gqa_experts(const json_t *c, const struct gqa_experts *k, struct mlp_spec *m, struct error *e) {
    *m = (struct mlp_spec){.kind = MLP_MOE, .groups = 1, .topk_groups = 1, .score = MOE_SOFTMAX, .routed_scale = 1};
    TRY(config_u32(c, k->count_key, (struct config_range){k->count, 1, EXPERTS_MAX}, &m->experts, e));
    TRY(config_u32(c, "num_experts_per_tok", (struct config_range){k->top_k, 1, m->experts}, &m->top_k, e));
    TRY(config_u32(c, k->inter_key, (struct config_range){CONFIG_NEEDED, 2, 1 << 20}, &m->expert_inter, e));
    m->norm_topk = k->norm_topk;
    if (m->top_k > m->experts || m->expert_inter % 2 != 0) {
        return error_set(e, ERR_MODEL_FILES, "config.json: \"%s\" must be even and \"num_experts_per_tok\" at most \"%s\"",
                         k->inter_key, k->count_key);
    }
    return ERR_NONE;
}
