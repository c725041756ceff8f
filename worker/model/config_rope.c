// The two ways in which configs tell rope: rope_theta beside rope_scaling, and (newer) rope_parameters with both in it.
#include <string.h>
#include "common/base/check.h"
#include "worker/model/config.h"

enum { BETA_FAST = 32, BETA_SLOW = 1 };

static const struct {
    const char *name;
    enum rope_kind kind;
} kinds[] = {
    {"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR}, {"dynamic", ROPE_DYNAMIC},
    {"llama3", ROPE_LLAMA3},   {"yarn", ROPE_YARN},
};

static err_id kind_of(const json_t *o, enum rope_kind *kind, struct error *e) {
    const char *name, *older;
    TRY(config_string(o, "type", "default", &older, e));
    TRY(config_string(o, "rope_type", older, &name, e));
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) != 0) continue;
        *kind = kinds[i].kind;
        return ERR_NONE;
    }
    return error_set(
        e, ERR_UNSUPPORTED,
        "config.json: the rope scaling \"%.40s\" is not supported; supported are default, linear, dynamic, llama3, yarn",
        name);
}

static err_id read_scaling(const json_t *o, uint32_t context, struct rope_spec *r, struct error *e) {
    TRY(kind_of(o, &r->kind, e));
    r->original_context = context;
    TRY(config_number(o, "rope_theta", &r->theta, e));
    TRY(config_number(o, "factor", &r->factor, e));
    TRY(config_number(o, "original_max_position_embeddings", &r->original_context, e));
    TRY(config_number(o, "low_freq_factor", &r->low_freq_factor, e));
    TRY(config_number(o, "high_freq_factor", &r->high_freq_factor, e));
    TRY(config_number(o, "beta_fast", &r->beta_fast, e));
    TRY(config_number(o, "beta_slow", &r->beta_slow, e));
    TRY(config_number(o, "mscale", &r->mscale, e));
    TRY(config_number(o, "mscale_all_dim", &r->mscale_all_dim, e));
    TRY(config_number(o, "attention_factor", &r->attention_factor, e));
    if (r->beta_fast == 0) r->beta_fast = BETA_FAST; // as if not given
    if (r->beta_slow == 0) r->beta_slow = BETA_SLOW;
    return config_bool(o, "truncate", &r->truncate, e);
}

static err_id check(const struct rope_spec *r, struct error *e) {
    const char *fault = NULL;
    if (!(r->theta > 1 && r->theta < 1e15)) fault = "\"rope_theta\" must be above 1";
    if (!(r->factor >= 1 && r->factor < 1e6)) fault = "rope's \"factor\" must be at least 1";
    if (!(r->original_context >= 1 && r->original_context < 1e9)) {
        fault = "rope's \"original_max_position_embeddings\" must be at least 1";
    }
    if (!(r->beta_fast > 0 && r->beta_slow > 0)) fault = "rope's \"beta_fast\" and \"beta_slow\" must be above 0";
    if (!(r->low_freq_factor > 0 && r->high_freq_factor > r->low_freq_factor)) {
        fault = "rope's \"high_freq_factor\" must be above \"low_freq_factor\", and that above 0";
    }
    if (r->dim == 0 || r->dim % 2 != 0) fault = "the rotated part of a head must be even";
    return fault == NULL ? ERR_NONE : error_set(e, ERR_MODEL_FILES, "config.json: %s", fault);
}

err_id config_rope(const json_t *config, const struct config_rope *rope, struct model_spec *spec, struct error *e) {
    struct rope_spec *r = &spec->rope;
    *r =
        (struct rope_spec){.interleaved = rope->interleaved, .theta = 10000, .beta_fast = BETA_FAST, .beta_slow = BETA_SLOW};
    if (rope->theta > 0) r->theta = rope->theta;
    r->low_freq_factor = 1, r->high_freq_factor = 4, r->truncate = true;
    r->original_context = spec->context;
    TRY(config_number(config, "rope_theta", &r->theta, e));
    double partial = 1;
    TRY(config_number(config, "partial_rotary_factor", &partial, e));
    const char *const keys[] = {"rope_scaling", "rope_parameters"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const json_t *o = json_object_get(config, keys[i]);
        if (o == NULL || json_is_null(o)) continue;
        if (!json_is_object(o)) return error_set(e, ERR_MODEL_FILES, "config.json: \"%s\" must be an object", keys[i]);
        TRY(read_scaling(o, spec->context, r, e));
        TRY(config_number(o, "partial_rotary_factor", &partial, e));
        if (json_object_size(o) > 0) break; // both: transformers takes the older one
    }
    if (!(partial > 0 && partial <= 1)) {
        return error_set(e, ERR_MODEL_FILES, "config.json: \"partial_rotary_factor\" must be above 0 and at most 1");
    }
    r->dim = (uint32_t)(rope->head_dim * partial);
    // Without a factor, it is how much longer the context is than the original one.
    if (r->factor == 0) r->factor = r->kind == ROPE_YARN ? spec->context / r->original_context : 1;
    // A context no longer than what is to be stretched means that the config counts on the stretch.
    if (r->kind == ROPE_YARN && spec->context <= r->original_context && r->original_context * r->factor < 1 << 20) {
        spec->context = (uint32_t)(r->original_context * r->factor);
    }
    return check(r, e);
}
