// config.json and generation_config.json from the metadata.
//
// Llama 3.1's rope is not in the metadata: the file has a tensor rope_freqs.weight with a divisor per pair instead. Its
// parameters are recovered (factor = the largest divisor, the rest as all published models have it) and then every divisor
// is compared with what they give; anything else is refused.
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/base/check.h"
#include "common/base/scalar_math.h"
#include "worker/gguf/documents.h"

static const struct {
    const char *name, *hugging_face;
    bool interleaved;
} architectures[] = {
    {"llama", "LlamaForCausalLM", true},
    {"qwen2", "Qwen2ForCausalLM", false},
    {"qwen3", "Qwen3ForCausalLM", false},
};

// A metadata key under the architecture's own name.
struct reader {
    const struct gguf *g;
    char architecture[32];
    char key[96];
};

static const char *key_of(struct reader *r, const char *name) {
    snprintf(r->key, sizeof r->key, "%s.%s", r->architecture, name);
    return r->key;
}

static err_id copy_u64(struct reader *r, const char *name, json_t *to, const char *as, bool needed, struct error *e) {
    uint64_t v = UINT64_MAX;
    TRY(gguf_u64(r->g, key_of(r, name), &v, e));
    if (v != UINT64_MAX) json_object_set_new(to, as, json_integer((json_int_t)v));
    if (v == UINT64_MAX && needed) return error_set(e, ERR_MODEL_FILES, "the metadata \"%s\" is missing", r->key);
    return ERR_NONE;
}

static err_id copy_number(struct reader *r, const char *name, json_t *to, const char *as, struct error *e) {
    double v = NAN;
    TRY(gguf_number(r->g, key_of(r, name), &v, e));
    if (!isnan(v)) json_object_set_new(to, as, json_real(v));
    return ERR_NONE;
}

static err_id architecture(struct reader *r, size_t *which, struct error *e) {
    struct gguf_text name = {"", 0};
    TRY(gguf_string(r->g, "general.architecture", &name, e));
    for (size_t i = 0; i < ARRAY_LEN(architectures); i++) {
        if (name.len != strlen(architectures[i].name) || memcmp(name.data, architectures[i].name, name.len) != 0) continue;
        snprintf(r->architecture, sizeof r->architecture, "%s", architectures[i].name);
        *which = i;
        return ERR_NONE;
    }
    return error_set(e, ERR_UNSUPPORTED,
                     "the architecture \"%.*s\" is not supported in GGUF files; llama, qwen2 and qwen3 are",
                     (int)(name.len < 60 ? name.len : 60), name.data);
}

// Vocabulary: the token list counts; the embedding may have more rows.
static err_id vocabulary(struct reader *r, json_t *c, struct error *e) {
    const struct gguf_value *tokens = gguf_find(r->g, "tokenizer.ggml.tokens");
    const struct gguf_tensor *embed = gguf_tensor(r->g, "token_embd.weight");
    if (tokens == NULL || tokens->kind != GGUF_ARRAY || tokens->element != GGUF_STRING)
        return error_set(e, ERR_MODEL_FILES, "the metadata \"tokenizer.ggml.tokens\" is missing or not a list of strings");
    uint64_t n = embed != NULL && embed->n_dims == 2 && embed->dims[1] > tokens->count ? embed->dims[1] : tokens->count;
    json_object_set_new(c, "vocab_size", json_integer((json_int_t)n));
    return ERR_NONE;
}

// ---- rope ----

static err_id scaling(struct reader *r, json_t *c, struct error *e) {
    struct gguf_text type = {"none", 4};
    TRY(gguf_string(r->g, key_of(r, "rope.scaling.type"), &type, e));
    if (type.len == 4 && memcmp(type.data, "none", 4) == 0) return ERR_NONE;
    json_t *s = json_object();
    json_object_set_new(c, "rope_scaling", s);
    if (json_object_set_new(s, "rope_type", json_stringn(type.data, type.len)) != 0)
        return error_set(e, ERR_MODEL_FILES, "the metadata \"%s\" is not text", r->key);
    TRY(copy_number(r, "rope.scaling.factor", s, "factor", e));
    TRY(copy_number(r, "rope.scaling.original_context_length", s, "original_max_position_embeddings", e));
    return copy_number(r, "rope.scaling.attn_factor", s, "attention_factor", e);
}

static float divisor(const struct gguf_tensor *t, uint64_t i) {
    float f;
    memcpy(&f, t->data + 4 * i, 4);
    return f;
}

// The llama3 divisor of a pair: 1 for short waves, factor for long ones, a blend between.
static double llama3_divisor(double theta, double factor, uint64_t pair, uint64_t pairs) {
    const double low = 1, high = 4, context = 8192, pi = 3.14159265358979323846;
    double wave = 2 * pi * math_pow(theta, (double)pair / (double)pairs);
    if (wave < context / high) return 1;
    if (wave > context / low) return factor;
    double blend = (context / wave - low) / (high - low);
    return 1 / ((1 - blend) / factor + blend);
}

static err_id frequencies(struct reader *r, json_t *c, struct error *e) {
    const struct gguf_tensor *t = gguf_tensor(r->g, "rope_freqs.weight");
    if (t == NULL) return ERR_NONE;
    double theta = 10000, factor = 0;
    TRY(gguf_number(r->g, key_of(r, "rope.freq_base"), &theta, e));
    uint64_t n = t->dims[0];
    bool known = t->type == GGUF_TYPE_F32 && t->n_dims == 1 && n > 0 && theta > 1;
    for (uint64_t i = 0; i < n && known; i++) factor = divisor(t, i) > factor ? divisor(t, i) : factor;
    known = known && factor >= 1 && factor < 1e4;
    for (uint64_t i = 0; i < n && known; i++) known = fabs(divisor(t, i) / llama3_divisor(theta, factor, i, n) - 1) < 1e-4;
    if (!known)
        return error_set(e, ERR_UNSUPPORTED, "rope_freqs.weight is not of the kind of Llama 3, which alone is supported");
    json_t *s = json_pack("{s:s, s:f, s:f, s:f, s:f}", "rope_type", "llama3", "factor", factor, "low_freq_factor", 1.0,
                          "high_freq_factor", 4.0, "original_max_position_embeddings", 8192.0);
    json_object_set_new(c, "rope_scaling", s);
    return ERR_NONE;
}

static err_id rope(struct reader *r, json_t *c, struct error *e) {
    uint64_t heads = 0, width = 0, head = 0, rotated = 0;
    TRY(gguf_u64(r->g, key_of(r, "attention.head_count"), &heads, e));
    TRY(gguf_u64(r->g, key_of(r, "embedding_length"), &width, e));
    TRY(gguf_u64(r->g, key_of(r, "attention.key_length"), &head, e));
    if (head == 0 && heads > 0) head = width / heads;
    rotated = head;
    TRY(gguf_u64(r->g, key_of(r, "rope.dimension_count"), &rotated, e));
    if (rotated != head) {
        return error_set(e, ERR_UNSUPPORTED, "\"%s\" is %llu of a head's %llu: rope over a part of it is not supported",
                         r->key, (unsigned long long)rotated, (unsigned long long)head);
    }
    TRY(copy_number(r, "rope.freq_base", c, "rope_theta", e));
    TRY(scaling(r, c, e));
    return frequencies(r, c, e);
}

// ---- the whole ----

static err_id refuse_unknown(struct reader *r, struct error *e) {
    uint64_t experts = 0, key = 0, value = 0;
    TRY(gguf_u64(r->g, key_of(r, "expert_count"), &experts, e));
    if (experts != 0) return error_set(e, ERR_UNSUPPORTED, "mixtures of experts are not supported in GGUF files");
    TRY(gguf_u64(r->g, key_of(r, "attention.key_length"), &key, e));
    value = key;
    TRY(gguf_u64(r->g, key_of(r, "attention.value_length"), &value, e));
    if (key != value)
        return error_set(e, ERR_UNSUPPORTED, "keys and values of different lengths are not supported in GGUF files");
    return ERR_NONE;
}

static err_id fill(struct reader *r, size_t which, json_t *c, struct error *e) {
    json_object_set_new(c, "architectures", json_pack("[s]", architectures[which].hugging_face));
    TRY(refuse_unknown(r, e));
    TRY(vocabulary(r, c, e));
    TRY(copy_u64(r, "embedding_length", c, "hidden_size", true, e));
    TRY(copy_u64(r, "block_count", c, "num_hidden_layers", true, e));
    TRY(copy_u64(r, "context_length", c, "max_position_embeddings", true, e));
    TRY(copy_u64(r, "feed_forward_length", c, "intermediate_size", true, e));
    TRY(copy_u64(r, "attention.head_count", c, "num_attention_heads", true, e));
    TRY(copy_u64(r, "attention.head_count_kv", c, "num_key_value_heads", false, e));
    TRY(copy_u64(r, "attention.key_length", c, "head_dim", false, e));
    TRY(copy_number(r, "attention.layer_norm_rms_epsilon", c, "rms_norm_eps", e));
    TRY(rope(r, c, e));
    if (architectures[which].interleaved) json_object_set_new(c, "rope_interleave", json_true());
    json_object_set_new(c, "tie_word_embeddings", json_boolean(gguf_tensor(r->g, "output.weight") == NULL));
    if (strcmp(r->architecture, "llama") == 0 && gguf_tensor(r->g, "blk.0.attn_q.bias") != NULL)
        json_object_set_new(c, "attention_bias", json_true());
    return ERR_NONE;
}

err_id gguf_config(const struct gguf *g, json_t **out, struct error *e) {
    struct reader r = {.g = g};
    size_t which = 0;
    TRY(architecture(&r, &which, e));
    json_t *c = json_object();
    err_id id = fill(&r, which, c, e);
    if (id != ERR_NONE) {
        json_decref(c);
        return id;
    }
    *out = c;
    return ERR_NONE;
}

err_id gguf_generation_config(const struct gguf *g, json_t **out, struct error *e) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"};
    uint64_t ids[ARRAY_LEN(keys)];
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        ids[i] = UINT64_MAX;
        TRY(gguf_u64(g, keys[i], &ids[i], e));
        if (ids[i] != UINT64_MAX && ids[i] >= INT32_MAX)
            return error_set(e, ERR_MODEL_FILES, "\"%s\" is no token id", keys[i]);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (ids[i] != UINT64_MAX) json_array_append_new(list, json_integer((json_int_t)ids[i]));
    }
    *out = json_object();
    json_object_set_new(*out, "eos_token_id", list);
    return ERR_NONE;
}
