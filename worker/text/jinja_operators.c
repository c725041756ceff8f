// Operators on values: Python's arithmetic, comparison and membership, with integers of 64 bits.
#include "common/base/check.h"
#include "worker/text/jinja_run.h"

#include <math.h>
#include <string.h>

static err_id type_error(struct jrun *r, int op, struct jvalue a, struct jvalue b) {
    static const char *const signs[] = {[OP_ADD] = "+",        [OP_SUB] = "-", [OP_MUL] = "*", [OP_DIV] = "/",
                                        [OP_FLOOR_DIV] = "//", [OP_MOD] = "%", [OP_POW] = "**"};
    if (a.type == J_UNDEFINED) return jinja_undefined_error(r, a);
    if (b.type == J_UNDEFINED) return jinja_undefined_error(r, b);
    if (op == OP_ADD && (a.type == J_STRING || a.type == J_LIST || a.type == J_TUPLE))
        return jrun_fail(r, "can only concatenate %s (not \"%s\") to %s", jv_type_name(&a), jv_type_name(&b),
                         jv_type_name(&a));
    return jrun_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", signs[op], jv_type_name(&a), jv_type_name(&b));
}

// ---- numbers ----

static err_id integer_pow(struct jrun *r, int64_t base, int64_t exponent, int64_t *out) {
    *out = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(*out, base, out)) return jrun_fail(r, "a number is over 64 bits");
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return jrun_fail(r, "a number is over 64 bits");
    }
    return ERR_NONE;
}

static err_id integers(struct jrun *r, int op, int64_t a, int64_t b, struct jvalue *out) {
    int64_t v = 0;
    bool over = false;
    switch (op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, &v);
        break;
    case OP_SUB:
        over = __builtin_sub_overflow(a, b, &v);
        break;
    case OP_MUL:
        over = __builtin_mul_overflow(a, b, &v);
        break;
    case OP_POW:
        TRY(integer_pow(r, a, b, &v));
        break;
    default: // floor division and its remainder, with the sign of the divisor
        if (b == 0) return jrun_fail(r, "integer division or modulo by zero");
        if (b == -1) {
            over = op == OP_FLOOR_DIV && __builtin_sub_overflow((int64_t)0, a, &v);
            break;
        }
        v = op == OP_MOD ? a % b : a / b;
        if (a % b != 0 && (a < 0) != (b < 0)) v += op == OP_MOD ? b : -1;
    }
    if (over) return jrun_fail(r, "a number is over 64 bits");
    *out = jv_int(v);
    return ERR_NONE;
}

static err_id floats(struct jrun *r, int op, double a, double b, struct jvalue *out) {
    double v = 0;
    switch (op) {
    case OP_ADD:
        v = a + b;
        break;
    case OP_SUB:
        v = a - b;
        break;
    case OP_MUL:
        v = a * b;
        break;
    case OP_POW:
        if (a == 0 && b < 0) return jrun_fail(r, "0.0 cannot be raised to a negative power");
        v = pow(a, b);
        if (isinf(v) && !isinf(a) && !isinf(b)) return jrun_fail(r, "a number is out of range");
        break;
    default:
        if (b == 0) return jrun_fail(r, "float division by zero");
        if (op == OP_DIV) {
            v = a / b;
            break;
        }
        v = fmod(a, b);
        if (v != 0 && (v < 0) != (b < 0)) v += b;
        if (op == OP_FLOOR_DIV) v = floor((a - v) / b + 0.5);
    }
    *out = jv_float(v);
    return ERR_NONE;
}

static err_id numbers(struct jrun *r, int op, struct jvalue a, struct jvalue b, struct jvalue *out) {
    bool whole = jv_is_integer(a) && jv_is_integer(b) && op != OP_DIV && !(op == OP_POW && jv_integer(b) < 0);
    if (whole) return integers(r, op, jv_integer(a), jv_integer(b), out);
    return floats(r, op, jv_number(a), jv_number(b), out);
}

// ---- sequences ----

static err_id join_lists(struct jrun *r, struct jvalue a, struct jvalue b, struct jvalue *out) {
    TRY(jrun_charge(r, (size_t)a.list->len + b.list->len));
    *out = jv_list(r, (enum jtype)a.type);
    for (uint32_t i = 0; i < a.list->len; i++) jv_push(r, *out, a.list->items[i]);
    for (uint32_t i = 0; i < b.list->len; i++) jv_push(r, *out, b.list->items[i]);
    return ERR_NONE;
}

static err_id join_strings(struct jrun *r, struct jvalue a, struct jvalue b, struct jvalue *out) {
    size_t len = (size_t)a.len + b.len;
    if (len > TEMPLATE_OUTPUT_MAX) return jrun_fail(r, "a text has more than %d bytes", TEMPLATE_OUTPUT_MAX);
    TRY(jrun_charge(r, len / 16));
    char *s = jrun_alloc(r, len + 1);
    memcpy(s, a.s, a.len);
    memcpy(s + a.len, b.s, b.len);
    s[len] = '\0';
    *out = jv_string(s, len);
    return ERR_NONE;
}

static err_id repeat(struct jrun *r, struct jvalue v, int64_t times, struct jvalue *out) {
    if (times < 0) times = 0;
    size_t unit = v.type == J_STRING ? v.len : v.list->len * sizeof(struct jvalue);
    if (unit > 0 && (size_t)times > TEMPLATE_OUTPUT_MAX / unit)
        return jrun_fail(r, "a repetition has more than %d bytes", TEMPLATE_OUTPUT_MAX);
    TRY(jrun_charge(r, unit * (size_t)times / 16));
    if (v.type == J_STRING) {
        char *s = jrun_alloc(r, unit * (size_t)times + 1);
        for (int64_t i = 0; i < times && unit > 0; i++) memcpy(s + (size_t)i * unit, v.s, unit);
        *out = jv_string(s, unit * (size_t)times);
        return ERR_NONE;
    }
    *out = jv_list(r, (enum jtype)v.type);
    for (int64_t i = 0; i < times && unit > 0; i++) {
        for (uint32_t k = 0; k < v.list->len; k++) jv_push(r, *out, v.list->items[k]);
    }
    return ERR_NONE;
}

static bool is_sequence(struct jvalue v) { return v.type == J_STRING || v.type == J_LIST || v.type == J_TUPLE; }

static err_id arithmetic(struct jrun *r, int op, struct jvalue a, struct jvalue b, struct jvalue *out) {
    if (jv_is_number(a) && jv_is_number(b)) return numbers(r, op, a, b, out);
    if (op == OP_ADD && a.type == J_STRING && b.type == J_STRING) return join_strings(r, a, b, out);
    if (op == OP_ADD && a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) return join_lists(r, a, b, out);
    if (op == OP_MUL && is_sequence(a) && jv_is_integer(b)) return repeat(r, a, jv_integer(b), out);
    if (op == OP_MUL && is_sequence(b) && jv_is_integer(a)) return repeat(r, b, jv_integer(a), out);
    if (op == OP_MOD && a.type == J_STRING) {
        if (b.type == J_TUPLE) return jinja_format_percent(r, a, b.list->items, b.list->len, out);
        return jinja_format_percent(r, a, &b, 1, out);
    }
    return type_error(r, op, a, b);
}

// ---- membership ----

err_id jinja_contains(struct jrun *r, struct jvalue container, struct jvalue item, bool *found) {
    *found = false;
    if (container.type == J_STRING) {
        if (item.type != J_STRING)
            return jrun_fail(r, "'in <string>' requires string as left operand, not %s", jv_type_name(&item));
        TRY(jrun_charge(r, container.len / 16));
        *found = item.len == 0 || (container.len > 0 && memmem(container.s, container.len, item.s, item.len) != NULL);
        return ERR_NONE;
    }
    if (container.type == J_DICT) {
        TRY(jrun_charge(r, container.dict->len / 16));
        if (item.type == J_LIST || item.type == J_DICT) return jrun_fail(r, "unhashable type: '%s'", jv_type_name(&item));
        *found = jv_find(container.dict, item) != NULL;
        return ERR_NONE;
    }
    if (container.type != J_UNDEFINED && !jv_is_list(container))
        return jrun_fail(r, "argument of type '%s' is not iterable", jv_type_name(&container));
    struct jlist items;
    TRY(jv_iterate(r, container, &items));
    TRY(jrun_charge(r, items.len));
    for (uint32_t i = 0; i < items.len && !*found; i++) *found = jv_equal(items.items[i], item);
    return ERR_NONE;
}

err_id jinja_binary(struct jrun *r, int op, struct jvalue a, struct jvalue b, struct jvalue *out) {
    int cmp = 0;
    bool found;
    switch (op) {
    case OP_EQ:
    case OP_NE:
        *out = jv_bool(jv_equal(a, b) == (op == OP_EQ));
        return ERR_NONE;
    case OP_IN:
    case OP_NOT_IN:
        TRY(jinja_contains(r, b, a, &found));
        *out = jv_bool(found == (op == OP_IN));
        return ERR_NONE;
    case OP_LT:
    case OP_LE:
    case OP_GT:
    case OP_GE:
        TRY(jv_compare(r, a, b, &cmp));
        *out = jv_bool(op == OP_LT ? cmp < 0 : op == OP_LE ? cmp <= 0 : op == OP_GT ? cmp > 0 : cmp >= 0);
        return ERR_NONE;
    default:
        return arithmetic(r, op, a, b, out);
    }
}
