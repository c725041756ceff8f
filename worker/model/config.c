// The table of architectures, and reading keys with bounds.
#include "worker/model/config.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/base/check.h"

static const struct config_architecture *const families[] = {config_deepseek_table, config_llama_table, config_mistral_table,
                                                             config_qwen_table};

static err_id unknown_architecture(const char *name, struct error *e) {
    char known[256] = "";
    size_t n = 0;
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        for (const struct config_architecture *a = families[f]; a->name != NULL && n < sizeof known; a++) {
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n > 0 ? ", " : "", a->name);
        }
    }
    return error_set(e, ERR_UNSUPPORTED, "config.json: the architecture \"%.60s\" is not supported; supported are %s", name,
                     known);
}

err_id config_map(const json_t *config, struct model_spec *spec, struct error *e) {
    if (!json_is_object(config)) return error_set(e, ERR_MODEL_FILES, "config.json is not a JSON object");
    const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    if (name == NULL)
        return error_set(e, ERR_MODEL_FILES, "config.json: \"architectures\" must be a list with a name in it");
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        for (const struct config_architecture *a = families[f]; a->name != NULL; a++) {
            if (strcmp(a->name, name) != 0) continue;
            memset(spec, 0, sizeof *spec);
            snprintf(spec->architecture, sizeof spec->architecture, "%s", name);
            return a->map(config, spec, e);
        }
    }
    return unknown_architecture(name, e);
}

static const json_t *present(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

err_id config_u32(const json_t *o, const char *key, struct config_range r, uint32_t *value, struct error *e) {
    const json_t *v = present(o, key);
    if (v == NULL && r.fallback != CONFIG_NEEDED) {
        *value = r.fallback;
        return ERR_NONE;
    }
    if (v == NULL) return error_set(e, ERR_MODEL_FILES, "config.json: \"%s\" is missing", key);
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    if (n < (json_int_t)r.min || n > (json_int_t)r.max) {
        return error_set(e, ERR_MODEL_FILES, "config.json: \"%s\" must be a whole number from %u to %u", key, r.min, r.max);
    }
    *value = (uint32_t)n;
    return ERR_NONE;
}

err_id config_number(const json_t *o, const char *key, double *value, struct error *e) {
    const json_t *v = present(o, key);
    if (v == NULL) return ERR_NONE;
    if (!json_is_number(v) || !isfinite(json_number_value(v))) {
        return error_set(e, ERR_MODEL_FILES, "config.json: \"%s\" must be a number", key);
    }
    *value = json_number_value(v);
    return ERR_NONE;
}

err_id config_bool(const json_t *o, const char *key, bool *value, struct error *e) {
    const json_t *v = present(o, key);
    if (v == NULL) return ERR_NONE;
    if (!json_is_boolean(v)) return error_set(e, ERR_MODEL_FILES, "config.json: \"%s\" must be true or false", key);
    *value = json_is_true(v);
    return ERR_NONE;
}

err_id config_string(const json_t *o, const char *key, const char *fallback, const char **value, struct error *e) {
    const json_t *v = present(o, key);
    *value = v == NULL ? fallback : json_string_value(v);
    if (v != NULL && *value == NULL) return error_set(e, ERR_MODEL_FILES, "config.json: \"%s\" must be a string", key);
    return ERR_NONE;
}

// FP8 as DeepSeek publishes it. Formats of other tools (GPTQ, AWQ, bitsandbytes, compressed-tensors) are refused by name.
static err_id quantization(const json_t *config, struct model_spec *spec, struct error *e) {
    const json_t *q = present(config, "quantization_config");
    if (q == NULL) return ERR_NONE;
    const char *method = json_string_value(json_object_get(q, "quant_method")), *format;
    if (method != NULL && strcmp(method, "shoal") == 0) {
        TRY(config_string(q, "format", "", &format, e));
        spec->quant = strcmp(format, "int8") == 0 ? QUANT_INT8 : strcmp(format, "int4") == 0 ? QUANT_INT4 : QUANT_NONE;
        if (spec->quant != QUANT_NONE) return ERR_NONE;
        return error_set(e, ERR_UNSUPPORTED,
                         "config.json: of \"shoal\" quantisation only \"format\" int8 and int4 are known");
    }
    if (method == NULL || strcmp(method, "fp8") != 0) {
        return error_set(
            e, ERR_UNSUPPORTED,
            "config.json: the weights are quantised by %.40s (\"quantization_config\"); supported are BF16, F16, "
            "F32 and FP8 in blocks as DeepSeek publishes it: take the checkpoint that this one was made from",
            method == NULL ? "an unnamed method" : method);
    }
    TRY(config_string(q, "fmt", "e4m3", &format, e));
    const json_t *block = present(q, "weight_block_size");
    if (strcmp(format, "e4m3") != 0 || json_array_size(block) != 2) {
        return error_set(e, ERR_UNSUPPORTED,
                         "config.json: of FP8 only \"fmt\" e4m3 with a \"weight_block_size\" of two numbers is supported");
    }
    for (size_t i = 0; i < 2; i++) {
        json_int_t n = json_integer_value(json_array_get(block, i));
        if (n < 1 || n > 1 << 20) {
            return error_set(e, ERR_MODEL_FILES, "config.json: \"weight_block_size\" must be two whole numbers above 0");
        }
        spec->fp8_block[i] = (uint32_t)n;
    }
    return ERR_NONE;
}

err_id config_common(const json_t *config, struct model_spec *spec, struct error *e) {
    const struct config_range size = {CONFIG_NEEDED, 1, 1 << 20}, layers = {CONFIG_NEEDED, 1, MODEL_LAYERS_MAX};
    TRY(config_u32(config, "vocab_size", (struct config_range){CONFIG_NEEDED, 2, 1 << 22}, &spec->vocab, e));
    TRY(config_u32(config, "hidden_size", size, &spec->hidden, e));
    TRY(config_u32(config, "num_hidden_layers", layers, &spec->layers, e));
    TRY(config_u32(config, "max_position_embeddings", (struct config_range){2048, 1, 1 << 20}, &spec->context, e));
    if (spec->hidden % 2 != 0) return error_set(e, ERR_MODEL_FILES, "config.json: \"hidden_size\" must be even");
    double eps = spec->norm_eps > 0 ? (double)spec->norm_eps : 1e-6;
    TRY(config_number(config, "rms_norm_eps", &eps, e));
    if (!(eps > 0 && eps < 1)) return error_set(e, ERR_MODEL_FILES, "config.json: \"rms_norm_eps\" must be between 0 and 1");
    spec->norm_eps = (float)eps;
    TRY(config_bool(config, "tie_word_embeddings", &spec->tied, e));
    const char *act;
    TRY(config_string(config, "hidden_act", "silu", &act, e));
    if (strcmp(act, "silu") != 0) {
        return error_set(e, ERR_UNSUPPORTED, "config.json: the activation \"%.40s\" is not supported, only \"silu\"", act);
    }
    TRY(quantization(config, spec, e));
    return config_eos(config, spec, e);
}

err_id config_eos(const json_t *config, struct model_spec *spec, struct error *e) {
    const json_t *v = present(config, "eos_token_id");
    size_t n = json_is_array(v) ? json_array_size(v) : v != NULL;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= spec->vocab || spec->n_eos >= MODEL_EOS_MAX) {
            return error_set(e, ERR_MODEL_FILES,
                             "\"eos_token_id\" must be a token id below %u or a list of at most %d of them", spec->vocab,
                             MODEL_EOS_MAX);
        }
        bool known = false;
        for (uint32_t k = 0; k < spec->n_eos; k++) known |= spec->eos[k] == id;
        if (!known) spec->eos[spec->n_eos++] = (uint32_t)id;
    }
    return ERR_NONE;
}
