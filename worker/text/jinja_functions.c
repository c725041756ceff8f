// Functions that every template can call.
#include "common/base/check.h"
#include "worker/text/jinja_run.h"

#include <string.h>
#include <time.h>

enum { RANGE_MAX = 100000 }; // the reference sandbox's own limit

static err_id function_range(struct jrun *r, const struct jargs *a, struct jvalue *out) {
    int64_t v[3] = {0, 0, 1};
    if (a->n < 1 || a->n > 3 || a->n_named > 0) return jrun_fail(r, "range takes one to three integers");
    for (uint32_t i = 0; i < a->n; i++) {
        if (!jv_is_integer(a->values[i])) return jrun_fail(r, "range needs integers, not %s", jv_type_name(&a->values[i]));
        v[a->n == 1 ? 1 : i] = jv_integer(a->values[i]);
    }
    if (v[2] == 0) return jrun_fail(r, "range() arg 3 must not be zero");
    *out = jv_list(r, J_LIST);
    for (int64_t i = v[0]; v[2] > 0 ? i < v[1] : i > v[1];) {
        if (out->list->len == RANGE_MAX) return jrun_fail(r, "range too big: more than %d", RANGE_MAX);
        jv_push(r, *out, jv_int(i));
        if (__builtin_add_overflow(i, v[2], &i)) break;
    }
    return jrun_charge(r, out->list->len);
}

static err_id fill_dict(struct jrun *r, const struct jargs *a, const char *what, struct jvalue out) {
    if (a->n > 1) return jrun_fail(r, "%s takes at most one mapping and named values", what);
    if (a->n == 1) {
        struct jvalue from = a->values[0];
        if (from.type == J_DICT) {
            for (uint32_t i = 0; i < from.dict->len; i++)
                jv_put(r, out.dict, from.dict->entries[i].key, from.dict->entries[i].value);
        } else {
            struct jlist pairs, pair;
            TRY(jv_iterate(r, from, &pairs));
            for (uint32_t i = 0; i < pairs.len; i++) {
                TRY(jv_iterate(r, pairs.items[i], &pair));
                if (pair.len != 2) return jrun_fail(r, "%s needs pairs", what);
                TRY(jrun_charge(r, 1 + out.dict->len / 16));
                jv_put(r, out.dict, pair.items[0], pair.items[1]);
            }
        }
    }
    for (uint32_t i = 0; i < a->n_named; i++) jv_put(r, out.dict, a->named[i].key, a->named[i].value);
    return jrun_charge(r, out.dict->len);
}

static err_id function_dict(struct jrun *r, const struct jargs *a, struct jvalue *out) {
    *out = jv_dict(r, J_DICT);
    return fill_dict(r, a, "dict", *out);
}

static err_id function_namespace(struct jrun *r, const struct jargs *a, struct jvalue *out) {
    *out = jv_dict(r, J_NAMESPACE);
    return fill_dict(r, a, "namespace", *out);
}

static err_id function_raise_exception(struct jrun *r, const struct jargs *a, struct jvalue *out) {
    if (a->n != 1) return jrun_fail(r, "raise_exception takes one argument");
    err_id id;
    struct jvalue text = jv_to_string(r, a->values[0], &id);
    if (id != ERR_NONE) return id;
    return error_set(r->e, ERR_INVALID_ARGUMENT, "the model's chat template refuses the messages: %.*s",
                     text.len > 400 ? 400 : (int)text.len, text.s);
}

static err_id function_strftime_now(struct jrun *r, const struct jargs *a, struct jvalue *out) {
    struct jvalue format;
    TRY(jargs_string(r, a, 0, "format", NULL, &format));
    struct jvalue copy = jv_copy_string(r, format.s, format.len);
    char text[256] = "";
    time_t now = (time_t)r->now_unix_s;
    struct tm tm;
    gmtime_r(&now, &tm);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof text, copy.s, &tm);
#pragma GCC diagnostic pop
    *out = jv_copy_string(r, text, n);
    return ERR_NONE;
}

const struct jfunction *jinja_function_find(const char *name) {
    static const struct jfunction functions[] = {
        {"dict", function_dict},   {"namespace", function_namespace},       {"raise_exception", function_raise_exception},
        {"range", function_range}, {"strftime_now", function_strftime_now},
    };
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        if (strcmp(functions[i].name, name) == 0) return &functions[i];
    }
    return NULL;
}
