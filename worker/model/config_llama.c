// The dense family with grouped-query attention: Llama 2 and 3, Mistral, Qwen 2 and 3, and what is built like them.
#include <string.h>
#include "common/base/scalar_math.h"
#include "worker/model/config.h"

enum { HEADS_MAX = 4096, HEAD_DIM_MAX = 1024 };

// What sets the members of the family apart where config.json doesn't say it.
struct traits {
    bool qkv_bias, qk_norm;
    bool window_by_default; // sliding_window counts without use_sliding_window
};

static err_id heads(const json_t *c, uint32_t hidden, struct attention_spec *a, struct error *e) {
    const struct config_range range = {CONFIG_NEEDED, 1, HEADS_MAX};
    TRY(config_u32(c, "num_attention_heads", range, &a->heads, e));
    TRY(config_u32(c, "num_key_value_heads", (struct config_range){a->heads, 1, HEADS_MAX}, &a->kv_heads, e));
    uint32_t fallback = hidden % a->heads == 0 ? hidden / a->heads : CONFIG_NEEDED;
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

// layer_types names each layer's reach; without it every layer from max_window_layers on slides where sliding is on.
static err_id windows(const json_t *c, const struct traits *t, struct model_spec *spec, struct error *e) {
    bool use = t->window_by_default;
    uint32_t window, from;
    TRY(config_bool(c, "use_sliding_window", &use, e));
    TRY(config_u32(c, "sliding_window", (struct config_range){0, 1, 1 << 24}, &window, e));
    TRY(config_u32(c, "max_window_layers", (struct config_range){0, 0, 1 << 16}, &from, e));
    if (!use || window == 0) return ERR_NONE;
    const json_t *types = json_object_get(c, "layer_types");
    for (uint32_t l = 0; l < spec->layers; l++) {
        const char *type = json_string_value(json_array_get(types, l));
        bool slides = type != NULL ? strcmp(type, "sliding_attention") == 0 : l >= from;
        spec->layer[l].attention.window = slides ? window : 0;
    }
    return ERR_NONE;
}

static err_id map(const json_t *c, const struct traits *t, struct model_spec *spec, struct error *e) {
    TRY(config_common(c, spec, e));
    struct layer_spec layer = {.attention = {.kind = ATTENTION_GQA, .qk_norm = t->qk_norm}, .mlp = {.kind = MLP_DENSE}};
    struct attention_spec *a = &layer.attention;
    TRY(heads(c, spec->hidden, a, e));
    TRY(config_bool(c, "attention_bias", &a->out_bias, e));
    a->qkv_bias = a->out_bias || t->qkv_bias;
    a->scale = (float)math_pow(a->head_dim, -0.5);
    TRY(config_u32(c, "intermediate_size", (struct config_range){CONFIG_NEEDED, 2, 1 << 22}, &layer.mlp.inter, e));
    if (layer.mlp.inter % 2 != 0) return error_set(e, ERR_MODEL_FILES, "config.json: \"intermediate_size\" must be even");
    TRY(config_bool(c, "mlp_bias", &layer.mlp.bias, e));
    TRY(config_rope(c, a->head_dim, false, spec, e));
    a->scale *= (float)rope_scale_correction(&spec->rope);
    for (uint32_t l = 0; l < spec->layers; l++) spec->layer[l] = layer;
    return windows(c, t, spec, e);
}

static err_id map_llama(const json_t *c, struct model_spec *spec, struct error *e) {
    return map(c, &(struct traits){0}, spec, e);
}
static err_id map_mistral(const json_t *c, struct model_spec *spec, struct error *e) {
    return map(c, &(struct traits){.window_by_default = true}, spec, e);
}
static err_id map_qwen2(const json_t *c, struct model_spec *spec, struct error *e) {
    return map(c, &(struct traits){.qkv_bias = true}, spec, e);
}
static err_id map_qwen3(const json_t *c, struct model_spec *spec, struct error *e) {
    return map(c, &(struct traits){.qk_norm = true}, spec, e);
}

const struct config_architecture config_llama_table[] = {
    {"LlamaForCausalLM", map_llama},
    {"MistralForCausalLM", map_mistral},
    {"Qwen2ForCausalLM", map_qwen2},
    {"Qwen3ForCausalLM", map_qwen3},
    {NULL, NULL},
};
