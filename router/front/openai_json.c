#include "router/front/openai_json.h"

#include <math.h>

json_t *openai_field(const json_t *object, const char *name) {
    json_t *v = json_object_get(object, name);
    return json_is_null(v) ? NULL : v;
}

err_id openai_wrong(struct error *e, const char *name, const char *expected) {
    return error_set_param(e, ERR_INVALID_ARGUMENT, name, "'%s' must be %s", name, expected);
}

err_id openai_number(const json_t *o, const char *name, double min, double max, bool *has, float *out, struct error *e) {
    json_t *v = openai_field(o, name);
    if (v == NULL) return ERR_NONE;
    double d = json_number_value(v);
    if (!json_is_number(v) || !isfinite(d) || d < min || d > max)
        return error_set_param(e, ERR_INVALID_ARGUMENT, name, "'%s' must be a number from %g to %g", name, min, max);
    if (has) *has = true;
    *out = (float)d;
    return ERR_NONE;
}

err_id openai_integer(const json_t *o, const char *name, json_int_t min, json_int_t max, bool *has, json_int_t *out,
                      struct error *e) {
    json_t *v = openai_field(o, name);
    if (v == NULL) return ERR_NONE;
    double d = json_number_value(v);
    bool whole = json_is_integer(v) || (json_is_real(v) && d == floor(d) && fabs(d) < 9e15);
    json_int_t i = json_is_integer(v) ? json_integer_value(v) : whole ? (json_int_t)d : 0;
    if (!whole || i < min || i > max)
        return error_set_param(e, ERR_INVALID_ARGUMENT, name,
                               "'%s' must be a whole number from %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT, name,
                               min, max);
    if (has) *has = true;
    *out = i;
    return ERR_NONE;
}

err_id openai_bool(const json_t *o, const char *name, bool *out, struct error *e) {
    json_t *v = openai_field(o, name);
    if (v == NULL) return ERR_NONE;
    if (!json_is_boolean(v)) return openai_wrong(e, name, "true or false");
    *out = json_is_true(v);
    return ERR_NONE;
}
