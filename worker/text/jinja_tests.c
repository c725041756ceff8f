// Tests: what stands behind "is".
#include "common/base/check.h"
#include "worker/text/jinja_run.h"
#include "worker/text/jinja_string.h"

#include <string.h>

#define TEST(name) static err_id test_##name(struct jrun *r, struct jvalue v, const struct jargs *a, bool *out)

static err_id one_argument(struct jrun *r, const struct jargs *a) {
    return a->n == 1 ? ERR_NONE : jrun_fail(r, "this test takes one argument");
}

TEST(boolean) { return *out = v.type == J_BOOL, ERR_NONE; }
TEST(callable) { return *out = v.type >= J_LOOP || v.type == J_UNDEFINED, ERR_NONE; }
TEST(defined) { return *out = v.type != J_UNDEFINED, ERR_NONE; }
TEST(undefined) { return *out = v.type == J_UNDEFINED, ERR_NONE; }
TEST(none) { return *out = v.type == J_NONE, ERR_NONE; }
TEST(false) { return *out = v.type == J_BOOL && !v.b, ERR_NONE; }
TEST(true) { return *out = v.type == J_BOOL && v.b, ERR_NONE; }
TEST(float) { return *out = v.type == J_FLOAT, ERR_NONE; }
TEST(integer) { return *out = v.type == J_INT, ERR_NONE; }
TEST(number) { return *out = jv_is_number(v), ERR_NONE; }
TEST(string) { return *out = v.type == J_STRING, ERR_NONE; }
TEST(mapping) { return *out = v.type == J_DICT, ERR_NONE; }
TEST(escaped) { return *out = false, ERR_NONE; }

TEST(iterable) {
    *out = v.type == J_STRING || v.type == J_DICT || v.type == J_UNDEFINED || v.type == J_LOOP || jv_is_list(v);
    return ERR_NONE;
}

TEST(sequence) {
    *out = v.type == J_STRING || v.type == J_DICT || v.type == J_UNDEFINED || v.type == J_LIST || v.type == J_TUPLE;
    return ERR_NONE;
}

static err_id string_test(struct jrun *r, struct jvalue v, enum jstring_class class, bool *out) {
    err_id id;
    struct jvalue s = jv_to_string(r, v, &id);
    *out = jstring_is(class, s.s, s.len);
    return id;
}

TEST(lower) { return string_test(r, v, JSTRING_LOWER, out); }
TEST(upper) { return string_test(r, v, JSTRING_UPPER, out); }

static err_id remainder_is(struct jrun *r, struct jvalue v, struct jvalue divisor, int64_t wanted, bool *out) {
    struct jvalue rest;
    TRY(jinja_binary(r, OP_MOD, v, divisor, &rest));
    *out = jv_equal(rest, jv_int(wanted));
    return ERR_NONE;
}

TEST(even) { return remainder_is(r, v, jv_int(2), 0, out); }
TEST(odd) { return remainder_is(r, v, jv_int(2), 1, out); }
TEST(divisibleby) {
    TRY(one_argument(r, a));
    return remainder_is(r, v, a->values[0], 0, out);
}

static err_id by_operator(struct jrun *r, int op, struct jvalue v, const struct jargs *a, bool *out) {
    struct jvalue result;
    TRY(one_argument(r, a));
    TRY(jinja_binary(r, op, v, a->values[0], &result));
    *out = jv_truth(result);
    return ERR_NONE;
}

TEST(eq) { return by_operator(r, OP_EQ, v, a, out); }
TEST(ne) { return by_operator(r, OP_NE, v, a, out); }
TEST(lt) { return by_operator(r, OP_LT, v, a, out); }
TEST(le) { return by_operator(r, OP_LE, v, a, out); }
TEST(gt) { return by_operator(r, OP_GT, v, a, out); }
TEST(ge) { return by_operator(r, OP_GE, v, a, out); }
TEST(in) { return by_operator(r, OP_IN, v, a, out); }

TEST(sameas) {
    TRY(one_argument(r, a));
    struct jvalue b = a->values[0];
    bool plain = v.type <= J_STRING;
    *out = v.type == b.type && (plain ? jv_equal(v, b) : v.list == b.list);
    return ERR_NONE;
}

static err_id known_name(struct jrun *r, struct jvalue v, bool filter, bool *out) {
    char name[40] = "";
    if (v.type == J_LIST || v.type == J_DICT) return jrun_fail(r, "unhashable type: '%s'", jv_type_name(&v));
    if (v.type == J_STRING && v.len < sizeof name) memcpy(name, v.s, v.len);
    *out = filter ? jinja_filter_find(name) != NULL : jinja_test_find(name) != NULL;
    return ERR_NONE;
}

TEST(filter) { return known_name(r, v, true, out); }
TEST(test) { return known_name(r, v, false, out); }

const struct jtest *jinja_test_find(const char *name) {
    static const struct jtest tests[] = {
        {"!=", test_ne},
        {"<", test_lt},
        {"<=", test_le},
        {"==", test_eq},
        {">", test_gt},
        {">=", test_ge},
        {"boolean", test_boolean},
        {"callable", test_callable},
        {"defined", test_defined},
        {"divisibleby", test_divisibleby},
        {"eq", test_eq},
        {"equalto", test_eq},
        {"escaped", test_escaped},
        {"even", test_even},
        {"false", test_false},
        {"filter", test_filter},
        {"float", test_float},
        {"ge", test_ge},
        {"greaterthan", test_gt},
        {"gt", test_gt},
        {"in", test_in},
        {"integer", test_integer},
        {"iterable", test_iterable},
        {"le", test_le},
        {"lessthan", test_lt},
        {"lower", test_lower},
        {"lt", test_lt},
        {"mapping", test_mapping},
        {"ne", test_ne},
        {"none", test_none},
        {"number", test_number},
        {"odd", test_odd},
        {"sameas", test_sameas},
        {"sequence", test_sequence},
        {"string", test_string},
        {"test", test_test},
        {"true", test_true},
        {"undefined", test_undefined},
        {"upper", test_upper},
    };
    for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
        if (strcmp(tests[i].name, name) == 0) return &tests[i];
    }
    return NULL;
}
