// The GGUF part of a tensor set: which tensor of a Hugging Face folder each one is. Names that are not known keep theirs,
// for the note about unused tensors. A GGUF file's dimensions are innermost first.
#include <stdio.h>
#include <string.h>
#include "common/base/check.h"
#include "worker/model/tensor_set.h"

static const struct {
    const char *gguf, *hugging_face;
} whole[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
    {"rope_freqs.weight", "rotary_emb.inv_freq"}, // read by the config
};

static const struct {
    const char *gguf, *hugging_face;
} per_layer[] = {
    {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

enum { NAME_BYTES = 1200 };

static void translate(struct gguf_text name, char out[NAME_BYTES]) {
    snprintf(out, NAME_BYTES, "%.*s", (int)name.len, name.data);
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        if (strcmp(out, whole[i].gguf) == 0) {
            snprintf(out, NAME_BYTES, "%s", whole[i].hugging_face);
            return;
        }
    }
    unsigned layer;
    char part[32], kind[8], again[96];
    if (sscanf(out, "blk.%u.%31[a-z_].%7[a-z]", &layer, part, kind) != 3) return;
    snprintf(again, sizeof again, "blk.%u.%s.%s", layer, part, kind);
    if (strcmp(again, out) != 0) return; // written another way, like blk.007
    for (size_t i = 0; i < ARRAY_LEN(per_layer); i++) {
        if (strcmp(part, per_layer[i].gguf) == 0)
            snprintf(out, NAME_BYTES, "model.layers.%u.%s.%s", layer, per_layer[i].hugging_face, kind);
    }
}

static enum dtype dtype_of(enum gguf_type type) {
    static const enum dtype dtypes[GGUF_TYPES] = {
        [GGUF_TYPE_F32] = DTYPE_F32,   [GGUF_TYPE_F16] = DTYPE_F16,   [GGUF_TYPE_BF16] = DTYPE_BF16,
        [GGUF_TYPE_Q4_0] = DTYPE_Q4_0, [GGUF_TYPE_Q4_1] = DTYPE_Q4_1, [GGUF_TYPE_Q5_0] = DTYPE_Q5_0,
        [GGUF_TYPE_Q5_1] = DTYPE_Q5_1, [GGUF_TYPE_Q8_0] = DTYPE_Q8_0, [GGUF_TYPE_Q4_K] = DTYPE_Q4_K,
        [GGUF_TYPE_Q5_K] = DTYPE_Q5_K, [GGUF_TYPE_Q6_K] = DTYPE_Q6_K,
    };
    return dtypes[type];
}

err_id tensors_gguf_open(struct tensor_set *set, const char *path, struct error *e) {
    TRY(gguf_open(path, &set->gguf, e));
    snprintf(set->source, sizeof set->source, "%s", gguf_name(set->gguf));
    uint64_t n;
    const struct gguf_tensor *all = gguf_tensors(set->gguf, &n);
    for (uint64_t i = 0; i < n; i++) {
        char name[NAME_BYTES];
        translate(all[i].name, name);
        struct tensor *t = tensor_set_add(set, name);
        t->dtype = dtype_of(all[i].type);
        t->n_dims = all[i].n_dims;
        for (uint32_t d = 0; d < t->n_dims; d++) t->dims[d] = all[i].dims[t->n_dims - 1 - d];
        t->data = all[i].data;
        t->bytes = all[i].bytes;
    }
    return tensor_set_sort(set, e);
}
