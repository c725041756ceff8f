// Expressions: names, attributes, items, slices, calls, logic. Operators on values are in jinja_operators.c.
#include "common/base/check.h"
#include "worker/text/jinja_run.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>

err_id jinja_undefined_error(struct jrun *r, struct jvalue u) {
    static const char *const objects[] = {
        [J_UNDEFINED] = "Undefined",        [J_NONE] = "None",
        [J_BOOL] = "bool object",           [J_INT] = "int object",
        [J_FLOAT] = "float object",         [J_STRING] = "str object",
        [J_LIST] = "list object",           [J_TUPLE] = "tuple object",
        [J_GENERATOR] = "generator object", [J_DICT] = "dict object",
        [J_NAMESPACE] = "Namespace object", [J_LOOP] = "LoopContext object",
        [J_MACRO] = "Macro object",         [J_METHOD] = "function object",
        [J_FUNCTION] = "function object",
    };
    if (u.lacking == 0) return jrun_fail(r, "'%.*s' is undefined", (int)u.len, u.s);
    return jrun_fail(r, "'%s' has no attribute '%.*s'", objects[u.lacking - 1], (int)u.len, u.s);
}

// ---- names ----

static const char captured_name_prefix = ' ';

static err_id eval_name(struct jrun *r, const char *name, struct jvalue *out) {
    for (const struct jscope *s = r->scope; s != NULL; s = s->parent) {
        for (uint32_t i = 0; i < s->n; i++) {
            if (s->variables[i].name == name) {
                *out = s->variables[i].value;
                return ERR_NONE;
            }
        }
    }
    struct jvalue key = jv_string(name, strlen(name));
    const struct jvalue *given = jv_find(r->context, key);
    const struct jfunction *function = given ? NULL : jinja_function_find(name);
    if (given != NULL) {
        *out = *given;
    } else if (function != NULL) {
        *out = (struct jvalue){.type = J_FUNCTION, .function = function};
    } else {
        *out = jv_undefined(name, key.len);
    }
    return ERR_NONE;
}

// The captured text stands in the innermost scope under a name that no template can write.
static err_id eval_captured(struct jrun *r, struct jvalue *out) {
    for (const struct jscope *s = r->scope; s != NULL; s = s->parent) {
        for (uint32_t i = 0; i < s->n; i++) {
            if (s->variables[i].name[0] != captured_name_prefix) continue;
            *out = s->variables[i].value;
            return ERR_NONE;
        }
    }
    return jrun_fail(r, "a filter has nothing to filter");
}

// ---- attributes and items ----

static struct jvalue lacking(struct jvalue object, const char *name, size_t len) {
    struct jvalue u = jv_undefined(name, len);
    u.lacking = (uint8_t)(1 + object.type);
    return u;
}

static bool is(const char *name, size_t len, const char *what) {
    return strlen(what) == len && memcmp(name, what, len) == 0;
}

// loop.index and its kin; false: no such attribute.
static bool loop_attribute(const struct jloop *l, const char *name, size_t len, struct jvalue *out) {
    int64_t i = l->index0, n = l->items.len;
    if (is(name, len, "index")) {
        *out = jv_int(i + 1);
    } else if (is(name, len, "index0")) {
        *out = jv_int(i);
    } else if (is(name, len, "revindex")) {
        *out = jv_int(n - i);
    } else if (is(name, len, "revindex0")) {
        *out = jv_int(n - i - 1);
    } else if (is(name, len, "first")) {
        *out = jv_bool(i == 0);
    } else if (is(name, len, "last")) {
        *out = jv_bool(i == n - 1);
    } else if (is(name, len, "length")) {
        *out = jv_int(n);
    } else if (is(name, len, "depth")) {
        *out = jv_int(l->depth0 + 1);
    } else if (is(name, len, "depth0")) {
        *out = jv_int(l->depth0);
    } else if (is(name, len, "previtem")) {
        *out = i > 0 ? l->items.items[i - 1] : jv_undefined("previtem", 8);
    } else if (is(name, len, "nextitem")) {
        *out = i + 1 < n ? l->items.items[i + 1] : jv_undefined("nextitem", 8);
    } else {
        return false;
    }
    return true;
}

// What Python's getattr finds.
static bool own_attribute(struct jrun *r, struct jvalue object, const char *name, size_t len, struct jvalue *out) {
    if (object.type == J_LOOP && loop_attribute(object.loop, name, len, out)) return true;
    if (object.type == J_NAMESPACE) {
        const struct jvalue *found = jv_find(object.dict, jv_string(name, len));
        if (found != NULL) *out = *found;
        return found != NULL;
    }
    const struct jmethod_kind *kind = jinja_method_find((enum jtype)object.type, name, len);
    if (kind == NULL) return false;
    struct jmethod *m = jrun_alloc(r, sizeof *m);
    *m = (struct jmethod){object, kind};
    *out = (struct jvalue){.type = J_METHOD, .method = m};
    return true;
}

err_id jinja_attribute(struct jrun *r, struct jvalue object, const char *name, size_t len, struct jvalue *out) {
    if (object.type == J_UNDEFINED) return jinja_undefined_error(r, object);
    if (own_attribute(r, object, name, len, out)) return ERR_NONE;
    const struct jvalue *found = object.type == J_DICT ? jv_find(object.dict, jv_string(name, len)) : NULL;
    if (object.type == J_DICT) TRY(jrun_charge(r, object.dict->len / 16));
    *out = found ? *found : lacking(object, name, len);
    return ERR_NONE;
}

// Bytes [*start, *end) of the i-th character of a string; false: out of range.
static bool string_index(struct jvalue s, int64_t i, uint32_t *start, uint32_t *end) {
    if (i < 0) i += (int64_t)utf8_count(s.s, s.len);
    if (i < 0) return false;
    uint32_t at = 0, cp;
    for (; at < s.len && i > 0; i--) at += (uint32_t)utf8_next(s.s + at, s.len - at, &cp);
    if (at >= s.len) return false;
    *start = at;
    *end = at + (uint32_t)utf8_next(s.s + at, s.len - at, &cp);
    return true;
}

static bool sequence_item(struct jvalue object, int64_t i, struct jvalue *out) {
    if (object.type == J_STRING) {
        uint32_t start, end;
        if (!string_index(object, i, &start, &end)) return false;
        *out = jv_string(object.s + start, end - start);
        return true;
    }
    if (object.type != J_LIST && object.type != J_TUPLE) return false;
    if (i < 0) i += object.list->len;
    if (i < 0 || i >= (int64_t)object.list->len) return false;
    *out = object.list->items[i];
    return true;
}

err_id jinja_item(struct jrun *r, struct jvalue object, struct jvalue key, struct jvalue *out) {
    if (object.type == J_UNDEFINED) return jinja_undefined_error(r, object);
    if (object.type == J_DICT) {
        TRY(jrun_charge(r, object.dict->len / 16));
        const struct jvalue *found = jv_find(object.dict, key);
        if (found != NULL) {
            *out = *found;
            return ERR_NONE;
        }
    } else if (jv_is_integer(key)) {
        TRY(jrun_charge(r, object.type == J_STRING ? object.len / 16 : 0));
        if (sequence_item(object, jv_integer(key), out)) return ERR_NONE;
    }
    if (key.type == J_STRING) {
        if (own_attribute(r, object, key.s, key.len, out)) return ERR_NONE;
        *out = lacking(object, key.s, key.len);
        return ERR_NONE;
    }
    struct buf text = {0};
    err_id id = jv_repr(r, key, &text);
    struct jvalue name = jv_take_buf(r, &text);
    *out = lacking(object, name.s, name.len);
    return id;
}

// ---- slices ----

static err_id slice_bound(struct jrun *r, const struct jnode *n, bool *given, int64_t *out) {
    *given = false;
    if (n == NULL) return ERR_NONE;
    struct jvalue v;
    TRY(jinja_eval(r, n, &v));
    if (v.type == J_NONE) return ERR_NONE;
    if (!jv_is_integer(v)) return jrun_fail(r, "slice indices must be integers or None");
    *given = true;
    *out = jv_integer(v);
    return ERR_NONE;
}

// Python's slice.indices: where to start, where to stop, for a sequence of n items.
static int64_t slice_clip(bool given, int64_t v, int64_t absent, int64_t low, int64_t high, int64_t n) {
    if (!given) return absent;
    if (v < 0) v = v < -n ? low : v + n;
    return v < low ? low : v > high ? high : v;
}

static err_id eval_slice(struct jrun *r, struct jvalue object, const struct jnode *n, struct jvalue *out) {
    if (object.type == J_UNDEFINED) return jinja_undefined_error(r, object);
    bool has_start, has_stop, has_step;
    int64_t start = 0, stop = 0, step = 1;
    TRY(slice_bound(r, n->a, &has_start, &start));
    TRY(slice_bound(r, n->b, &has_stop, &stop));
    TRY(slice_bound(r, n->c, &has_step, &step));
    if (step == 0) return jrun_fail(r, "slice step cannot be zero");
    if (object.type != J_STRING && object.type != J_LIST && object.type != J_TUPLE)
        return jrun_fail(r, "'%s' object can't be sliced", jv_type_name(&object));
    struct jlist items;
    TRY(jv_iterate(r, object, &items));
    int64_t len = items.len, low = step > 0 ? 0 : -1, high = step > 0 ? len : len - 1;
    start = slice_clip(has_start, start, step > 0 ? 0 : len - 1, low, high, len);
    stop = slice_clip(has_stop, stop, step > 0 ? len : -1, low, high, len);
    if (step > len) step = len + 1;
    if (step < -len) step = -len - 1;
    struct buf text = {0};
    if (object.type != J_STRING) *out = jv_list(r, (enum jtype)object.type);
    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
        if (object.type == J_STRING) {
            buf_append(&text, items.items[i].s, items.items[i].len);
        } else {
            jv_push(r, *out, items.items[i]);
        }
    }
    if (object.type == J_STRING) *out = jv_take_buf(r, &text);
    return jrun_charge(r, (size_t)len);
}

static err_id eval_item(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    struct jvalue object, key;
    TRY(jinja_eval(r, n->a, &object));
    if (n->b->kind == NODE_SLICE) return eval_slice(r, object, n->b, out);
    TRY(jinja_eval(r, n->b, &key));
    return jinja_item(r, object, key, out);
}

// ---- calls ----

static err_id spread_argument(struct jrun *r, const struct jnode *n, struct jvalue v, struct jvalue values,
                              struct jdict *named) {
    if (n->op == 1) {
        struct jlist items;
        TRY(jv_iterate(r, v, &items));
        for (uint32_t i = 0; i < items.len; i++) jv_push(r, values, items.items[i]);
        return jrun_charge(r, items.len);
    }
    if (v.type != J_DICT) return jrun_fail(r, "what stands behind ** must be a mapping");
    for (uint32_t i = 0; i < v.dict->len; i++) {
        if (v.dict->entries[i].key.type != J_STRING) return jrun_fail(r, "keywords must be strings");
        jv_put(r, named, v.dict->entries[i].key, v.dict->entries[i].value);
    }
    return jrun_charge(r, v.dict->len);
}

err_id jinja_eval_args(struct jrun *r, const struct jnode *args, struct jargs *out) {
    *out = (struct jargs){0};
    if (args == NULL) return ERR_NONE;
    struct jvalue values = jv_list(r, J_LIST);
    struct jdict named = {0};
    for (const struct jnode *n = args; n != NULL; n = n->next) {
        struct jvalue v;
        TRY(jinja_eval(r, n->a, &v));
        if (n->op != 0) {
            TRY(spread_argument(r, n, v, values, &named));
        } else if (n->text != NULL) {
            jv_put(r, &named, jv_string(n->text, strlen(n->text)), v);
        } else {
            jv_push(r, values, v);
        }
    }
    *out = (struct jargs){values.list->items, values.list->len, named.entries, named.len};
    return ERR_NONE;
}

err_id jinja_call(struct jrun *r, struct jvalue callee, const struct jargs *args, struct jvalue *out) {
    TRY(jrun_charge(r, 1 + args->n));
    switch (callee.type) {
    case J_MACRO:
        return jinja_call_macro(r, callee.macro, args, out);
    case J_METHOD:
        return callee.method->kind->run(r, callee.method->object, args, out);
    case J_FUNCTION:
        return callee.function->run(r, args, out);
    case J_LOOP:
        return jinja_call_loop(r, callee.loop, args, out);
    case J_UNDEFINED:
        return jinja_undefined_error(r, callee);
    default:
        return jrun_fail(r, "'%s' object is not callable", jv_type_name(&callee));
    }
}

static err_id eval_call(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    struct jvalue callee;
    struct jargs args;
    TRY(jinja_eval(r, n->a, &callee));
    TRY(jinja_eval_args(r, n->list, &args));
    r->line = n->line;
    return jinja_call(r, callee, &args, out);
}

static err_id eval_filter(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    struct jvalue v;
    struct jargs args;
    TRY(jinja_eval(r, n->a, &v));
    TRY(jinja_eval_args(r, n->list, &args));
    r->line = n->line;
    return n->filter->run(r, v, &args, out);
}

static err_id eval_test(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    struct jvalue v;
    struct jargs args;
    bool passes = false;
    TRY(jinja_eval(r, n->a, &v));
    TRY(jinja_eval_args(r, n->list, &args));
    TRY(n->test->run(r, v, &args, &passes));
    *out = jv_bool(passes);
    return ERR_NONE;
}

// ---- literals and logic ----

static err_id eval_list(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    *out = jv_list(r, n->kind == NODE_TUPLE ? J_TUPLE : J_LIST);
    for (const struct jnode *item = n->list; item != NULL; item = item->next) {
        struct jvalue v;
        TRY(jinja_eval(r, item, &v));
        jv_push(r, *out, v);
    }
    return ERR_NONE;
}

static err_id eval_dict(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    *out = jv_dict(r, J_DICT);
    for (const struct jnode *pair = n->list; pair != NULL; pair = pair->next) {
        struct jvalue key, value;
        TRY(jinja_eval(r, pair->a, &key));
        TRY(jinja_eval(r, pair->b, &value));
        if (key.type == J_LIST || key.type == J_DICT) return jrun_fail(r, "unhashable type: '%s'", jv_type_name(&key));
        TRY(jrun_charge(r, out->dict->len / 16));
        jv_put(r, out->dict, key, value);
    }
    return ERR_NONE;
}

static err_id eval_concat(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    struct buf text = {0};
    err_id id = ERR_NONE;
    for (const struct jnode *part = n->list; part != NULL && id == ERR_NONE; part = part->next) {
        struct jvalue v;
        id = jinja_eval(r, part, &v);
        if (id == ERR_NONE) id = jv_print(r, v, &text);
    }
    *out = jv_take_buf(r, &text);
    return id;
}

static err_id eval_compare(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    struct jvalue left, right;
    TRY(jinja_eval(r, n->a, &left));
    for (const struct jnode *o = n->list; o != NULL; o = o->next, left = right) {
        TRY(jinja_eval(r, o->a, &right));
        TRY(jinja_binary(r, o->op, left, right, out));
        if (!jv_truth(*out)) return ERR_NONE;
    }
    return ERR_NONE;
}

static err_id eval_condition(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    struct jvalue condition;
    TRY(jinja_eval(r, n->b, &condition));
    if (jv_truth(condition)) return jinja_eval(r, n->a, out);
    if (n->c != NULL) return jinja_eval(r, n->c, out);
    static const char name[] = "the inline if-expression evaluated to false and no else section was defined";
    *out = jv_undefined(name, sizeof name - 1);
    return ERR_NONE;
}

static err_id eval_sign(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    struct jvalue v;
    TRY(jinja_eval(r, n->a, &v));
    if (v.type == J_UNDEFINED) return jinja_undefined_error(r, v);
    if (!jv_is_number(v)) return jrun_fail(r, "bad operand type for a sign: '%s'", jv_type_name(&v));
    bool minus = n->kind == NODE_NEGATIVE;
    if (v.type == J_FLOAT) {
        *out = jv_float(minus ? -v.f : v.f);
    } else {
        return jinja_binary(r, minus ? OP_SUB : OP_ADD, jv_int(0), v, out);
    }
    return ERR_NONE;
}

static err_id eval(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    struct jvalue a, b;
    switch (n->kind) {
    case NODE_CONST:
        *out = n->value;
        return ERR_NONE;
    case NODE_NAME:
        return eval_name(r, n->name, out);
    case NODE_CAPTURED:
        return eval_captured(r, out);
    case NODE_LIST:
    case NODE_TUPLE:
        return eval_list(r, n, out);
    case NODE_DICT:
        return eval_dict(r, n, out);
    case NODE_NOT:
        TRY(jinja_eval(r, n->a, &a));
        *out = jv_bool(!jv_truth(a));
        return ERR_NONE;
    case NODE_NEGATIVE:
    case NODE_POSITIVE:
        return eval_sign(r, n, out);
    case NODE_BINARY:
        TRY(jinja_eval(r, n->a, &a));
        TRY(jinja_eval(r, n->b, &b));
        return jinja_binary(r, n->op, a, b, out);
    case NODE_AND:
    case NODE_OR:
        TRY(jinja_eval(r, n->a, out));
        return jv_truth(*out) == (n->kind == NODE_AND) ? jinja_eval(r, n->b, out) : ERR_NONE;
    case NODE_CONCAT:
        return eval_concat(r, n, out);
    case NODE_COMPARE:
        return eval_compare(r, n, out);
    case NODE_CONDITION:
        return eval_condition(r, n, out);
    case NODE_ATTRIBUTE:
        TRY(jinja_eval(r, n->a, &a));
        return jinja_attribute(r, a, n->text, n->text_len, out);
    case NODE_ITEM:
        return eval_item(r, n, out);
    case NODE_CALL:
        return eval_call(r, n, out);
    case NODE_FILTER:
        return eval_filter(r, n, out);
    case NODE_TEST:
        return eval_test(r, n, out);
    default:
        return jrun_fail(r, "not an expression");
    }
}

err_id jinja_eval(struct jrun *r, const struct jnode *n, struct jvalue *out) {
    TRY(jrun_enter(r));
    r->line = n->line;
    err_id id = jrun_charge(r, 1);
    if (id == ERR_NONE) id = eval(r, n, out);
    jrun_leave(r);
    return id;
}
