// From config.json to a model_spec. One file per family (config_*.c) maps its keys; config.c holds the table of
// architectures and what families share. An architecture that is not in the table is refused by name.
#pragma once
#include <jansson.h>
#include "common/base/error.h"
#include "worker/model/spec.h"

struct config_architecture {
    const char *name; // as in "architectures"
    err_id (*map)(const json_t *config, struct model_spec *spec, struct error *e);
};
// They end with a NULL name.
extern const struct config_architecture config_deepseek_table[], config_llama_table[], config_mistral_table[],
    config_qwen_table[];

// ERR_MODEL_FILES names the key and what was expected; ERR_UNSUPPORTED what this program can't run.
err_id config_map(const json_t *config, struct model_spec *spec, struct error *e);

// ---- for the families: reading keys ----

// A whole number in [min, max]. An absent or null key gives *value its default, or an error where the default is
// CONFIG_NEEDED.
#define CONFIG_NEEDED UINT32_MAX
struct config_range {
    uint32_t fallback, min, max;
};
err_id config_u32(const json_t *o, const char *key, struct config_range range, uint32_t *value, struct error *e);
// A finite number; absent or null leaves *value as it is.
err_id config_number(const json_t *o, const char *key, double *value, struct error *e);
err_id config_bool(const json_t *o, const char *key, bool *value, struct error *e);
// The string, or fallback when absent or null. ERR when it is something else.
err_id config_string(const json_t *o, const char *key, const char *fallback, const char **value, struct error *e);
// vocab_size, hidden_size, num_hidden_layers, max_position_embeddings, rms_norm_eps (the spec's norm_eps when absent, 1e-6
// when that is 0), tie_word_embeddings, hidden_act, quantization_config.
err_id config_common(const json_t *config, struct model_spec *spec, struct error *e);
// rope_theta with rope_scaling, or rope_parameters; partial_rotary_factor, the part of a head's elements (from the first
// on) that are rotated.
struct config_rope {
    uint32_t head_dim; // what could be rotated of a head
    bool interleaved;
    double theta; // of a config without one; 0 = 10000
};
err_id config_rope(const json_t *config, const struct config_rope *rope, struct model_spec *spec, struct error *e);
// eos_token_id, a number or a list, added to the spec's without doubling.
err_id config_eos(const json_t *config, struct model_spec *spec, struct error *e);
