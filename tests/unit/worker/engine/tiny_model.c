#include "tests/unit/worker/engine/tiny_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "worker/model/model.h"

#define COMMON                                                                                                              \
    "\"vocab_size\":96,\"hidden_size\":64,\"num_hidden_layers\":3,\"max_position_embeddings\":640,\"eos_token_id\":1"
const char tiny_v3[] =
    "{\"architectures\":[\"DeepseekV3ForCausalLM\"]," COMMON
    ",\"intermediate_size\":96,\"moe_intermediate_size\":24,\"n_routed_experts\":8,\"n_shared_experts\":1,"
    "\"num_experts_per_tok\":2,\"n_group\":4,\"topk_group\":2,\"first_k_dense_replace\":1,\"moe_layer_freq\":1,"
    "\"num_attention_heads\":10,\"q_lora_rank\":36,\"kv_lora_rank\":20,\"qk_nope_head_dim\":12,"
    "\"qk_rope_head_dim\":8,\"v_head_dim\":10,\"norm_topk_prob\":true,\"routed_scaling_factor\":2.5,"
    "\"topk_method\":\"noaux_tc\",\"scoring_func\":\"sigmoid\",\"rope_theta\":10000,\"rope_scaling\":{\"type\":"
    "\"yarn\",\"factor\":4,\"original_max_position_embeddings\":160,\"beta_fast\":32,\"beta_slow\":1,"
    "\"mscale\":0.707,\"mscale_all_dim\":0.707}}";
const char tiny_v2[] =
    "{\"architectures\":[\"DeepseekV2ForCausalLM\"]," COMMON
    ",\"intermediate_size\":96,\"moe_intermediate_size\":24,\"n_routed_experts\":6,\"n_shared_experts\":2,"
    "\"num_experts_per_tok\":3,\"first_k_dense_replace\":1,\"num_attention_heads\":3,\"q_lora_rank\":null,"
    "\"kv_lora_rank\":32,\"qk_nope_head_dim\":16,\"qk_rope_head_dim\":8,\"v_head_dim\":16,"
    "\"topk_method\":\"greedy\",\"norm_topk_prob\":false,\"routed_scaling_factor\":1.0}";
const char tiny_llama[] =
    "{\"architectures\":[\"LlamaForCausalLM\"]," COMMON
    ",\"intermediate_size\":112,\"num_attention_heads\":6,\"num_key_value_heads\":2,\"head_dim\":12,"
    "\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
    "\"high_freq_factor\":4,\"original_max_position_embeddings\":128}}";
const char tiny_qwen2[] = "{\"architectures\":[\"Qwen2ForCausalLM\"]," COMMON
                          ",\"intermediate_size\":80,\"num_attention_heads\":4,\"num_key_value_heads\":4,"
                          "\"tie_word_embeddings\":true}";
const char tiny_qwen3[] = "{\"architectures\":[\"Qwen3ForCausalLM\"]," COMMON
                          ",\"intermediate_size\":80,\"num_attention_heads\":20,\"num_key_value_heads\":2,\"head_dim\":16}";
const char tiny_mistral[] =
    "{\"architectures\":[\"MistralForCausalLM\"]," COMMON
    ",\"intermediate_size\":80,\"num_attention_heads\":4,\"num_key_value_heads\":1,\"sliding_window\":70}";

struct writer {
    FILE *header, *data;
    uint64_t seed, offset, count;
    enum tiny_dtype dtype;
    uint32_t poison;
    const struct model_spec *spec;
    uint32_t first, end; // layers whose tensors are numbers
};

// Uniform in [-1, 1), the same for the same (seed, tensor, element).
static float noise(const struct writer *w, uint32_t i) {
    struct philox r = philox4x32((struct philox){{i / 4, (uint32_t)w->count, 0, 7}}, w->seed);
    return (float)((double)r.v[i % 4] * 0x1p-31 - 1);
}

static void put_element(const struct writer *w, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (w->dtype == TINY_F32) {
        fwrite(&bits, 4, 1, w->data);
        return;
    }
    uint16_t half = (uint16_t)(bits >> 16);
    if (w->dtype == TINY_F16) { // of normal size; the fraction is cut
        uint32_t exponent = bits >> 23 & 255;
        half = (uint16_t)(bits >> 16 & 0x8000);
        if (exponent > 112) half = (uint16_t)(half | (exponent - 112) << 10 | (bits >> 13 & 1023));
    }
    fwrite(&half, 2, 1, w->data);
}

static bool is_needed(const struct writer *w, const struct tensor_need *n) {
    if (n->role == TENSOR_EMBED) return w->first == 0 || (w->spec->tied && w->end == w->spec->layers);
    return n->layer >= w->first && n->layer < w->end;
}

static void put_tensor(void *context, const struct tensor_need *n) {
    static const char *const dtypes[] = {"BF16", "F32", "F16"};
    struct writer *w = context;
    char name[MODEL_NAME_MAX], shape[48];
    spec_tensor_name(w->spec, n->role, n->layer, n->expert, name);
    uint32_t count = n->rows * (n->cols > 0 ? n->cols : 1);
    snprintf(shape, sizeof shape, n->cols > 0 ? "%u,%u" : "%u", n->rows, n->cols);
    uint64_t end = w->offset + (uint64_t)count * (w->dtype == TINY_F32 ? 4 : 2);
    fprintf(w->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}", w->count > 0 ? "," : "",
            name, dtypes[w->dtype], shape, (unsigned long long)w->offset, (unsigned long long)end);
    bool is_norm = strstr(name, "norm") != NULL;
    float scale = n->cols > 0 ? 2.0f / __builtin_sqrtf((float)n->cols) : 0.2f;
    if (n->role == TENSOR_EMBED) scale = 1;
    for (uint32_t i = 0; i < count; i++) {
        float x = noise(w, i) * scale + (is_norm ? 1 : 0);
        if (n->role == TENSOR_EMBED && i / n->cols == w->poison) x = __builtin_nanf("");
        if (!is_needed(w, n)) x = __builtin_nanf("");
        put_element(w, x);
    }
    w->offset = end;
    w->count++;
}

static void write_text(const char *folder, const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void write_tensors(const char *folder, struct writer *w, const struct model_spec *spec) {
    char path[300], *header = NULL, *data = NULL;
    size_t header_size = 0, data_size = 0;
    w->header = open_memstream(&header, &header_size);
    w->data = open_memstream(&data, &data_size);
    fputc('{', w->header);
    spec_needs(spec, 0, spec->layers, put_tensor, w);
    fputc('}', w->header);
    fclose(w->header);
    fclose(w->data);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    uint64_t length = header_size;
    fwrite(&length, sizeof length, 1, f);
    fwrite(header, 1, header_size, f);
    fwrite(data, 1, data_size, f);
    fclose(f);
    free(header);
    free(data);
}

static char *write_model(const char *config, struct writer *w) {
    char *folder = xstrdup("/tmp/shoal-tiny-XXXXXX");
    assert_non_null(mkdtemp(folder));
    write_text(folder, "config.json", config);
    struct model *m;
    struct error e = {0};
    if (model_open_config(folder, &m, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    w->spec = model_spec(m);
    if (w->end == 0) w->end = w->spec->layers;
    write_tensors(folder, w, w->spec);
    model_close(&m);
    return folder;
}

char *tiny_model_write(const char *config, uint64_t seed, enum tiny_dtype dtype, uint32_t poison_token) {
    struct writer w = {.seed = seed, .dtype = dtype, .poison = poison_token};
    return write_model(config, &w);
}

char *tiny_model_write_part(const char *config, uint64_t seed, uint32_t first, uint32_t end) {
    struct writer w = {.seed = seed, .dtype = TINY_BF16, .poison = UINT32_MAX, .first = first, .end = end};
    return write_model(config, &w);
}

void tiny_model_remove(char *folder) {
    static const char *const names[] = {"config.json", "model.safetensors", "generation_config.json"};
    char path[300];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
    free(folder);
}
