// Expressions, by recursive descent in jinja2's order of precedence: condition, or, and, not, comparison, + -, ~, * / // %,
// **, unary, primary with its postfixes, filters and tests.
#include "common/base/check.h"
#include "worker/text/jinja_parser.h"
#include "worker/text/jinja_run.h"

#include <string.h>

static struct jnode *binary(struct jparser *p, enum jnode_kind kind, int op, struct jnode *a, struct jnode *b) {
    struct jnode *n = jparse_node(p, kind);
    n->op = op, n->a = a, n->b = b;
    return n;
}

// ---- literals ----

static err_id parse_list(struct jparser *p, const char *close, struct jnode *list) {
    struct jnode **tail = &list->list;
    while (!jparse_is_op(p, close)) {
        if (list->list != NULL) TRY(jparse_expect_op(p, ","));
        if (jparse_is_op(p, close)) break;
        TRY(jparse_expression(p, tail));
        tail = &(*tail)->next;
    }
    return jparse_expect_op(p, close);
}

static err_id parse_dict(struct jparser *p, struct jnode *dict) {
    struct jnode **tail = &dict->list;
    while (!jparse_is_op(p, "}")) {
        if (dict->list != NULL) TRY(jparse_expect_op(p, ","));
        if (jparse_is_op(p, "}")) break;
        struct jnode *pair = jparse_node(p, NODE_PAIR);
        TRY(jparse_expression(p, &pair->a));
        TRY(jparse_expect_op(p, ":"));
        TRY(jparse_expression(p, &pair->b));
        *tail = pair;
        tail = &pair->next;
    }
    return jparse_expect_op(p, "}");
}

// Strings that stand side by side are one.
static void parse_string(struct jparser *p, struct jnode *n) {
    const struct jtoken *first = p->at;
    size_t len = 0;
    for (; p->at->kind == TOK_STRING; p->at++) len += p->at->len;
    char *s = jchunk_alloc(&p->t->chunks, len + 1, NULL);
    size_t at = 0;
    for (const struct jtoken *t = first; t < p->at; at += t->len, t++) memcpy(s + at, t->text, t->len);
    n->value = jv_string(s, len);
}

static bool parse_constant(struct jparser *p, struct jnode **out) {
    const struct jtoken *t = p->at;
    struct jvalue v;
    if (t->kind == TOK_INT) {
        v = jv_int(t->i);
    } else if (t->kind == TOK_FLOAT) {
        v = jv_float(t->f);
    } else if (jparse_is_name(p, "true") || jparse_is_name(p, "True")) {
        v = jv_bool(true);
    } else if (jparse_is_name(p, "false") || jparse_is_name(p, "False")) {
        v = jv_bool(false);
    } else if (jparse_is_name(p, "none") || jparse_is_name(p, "None")) {
        v = jv_none();
    } else {
        return false;
    }
    *out = jparse_node(p, NODE_CONST);
    (*out)->value = v;
    p->at++;
    return true;
}

static err_id parse_parenthesis(struct jparser *p, struct jnode **out) {
    p->at++;
    if (jparse_is_op(p, ")")) {
        *out = jparse_node(p, NODE_TUPLE);
    } else {
        TRY(jparse_tuple(p, true, out));
    }
    return jparse_expect_op(p, ")");
}

static err_id parse_primary(struct jparser *p, struct jnode **out) {
    if (parse_constant(p, out)) return ERR_NONE;
    if (p->at->kind == TOK_STRING) {
        *out = jparse_node(p, NODE_CONST);
        parse_string(p, *out);
        return ERR_NONE;
    }
    if (p->at->kind == TOK_NAME) {
        *out = jparse_node(p, NODE_NAME);
        return jparse_expect_name(p, &(*out)->name);
    }
    if (jparse_is_op(p, "(")) return parse_parenthesis(p, out);
    if (jparse_is_op(p, "[") || jparse_is_op(p, "{")) {
        bool list = jparse_is_op(p, "[");
        *out = jparse_node(p, list ? NODE_LIST : NODE_DICT);
        p->at++;
        return list ? parse_list(p, "]", *out) : parse_dict(p, *out);
    }
    return jparse_fail(p, "an expression is expected");
}

// ---- postfixes ----

static err_id parse_argument(struct jparser *p, struct jnode **out) {
    *out = jparse_node(p, NODE_ARGUMENT);
    if (jparse_take_op(p, "*")) {
        (*out)->op = 1;
    } else if (jparse_take_op(p, "**")) {
        (*out)->op = 2;
    } else if (p->at->kind == TOK_NAME && p->at[1].kind == TOK_OPERATOR && p->at[1].len == 1 && p->at[1].text[0] == '=') {
        const char *name;
        TRY(jparse_expect_name(p, &name));
        (*out)->text = name;
        p->at++;
    }
    return jparse_expression(p, &(*out)->a);
}

// "(a, b=1, *c, **d)": positional ones first.
static err_id parse_arguments(struct jparser *p, struct jnode **out) {
    TRY(jparse_expect_op(p, "("));
    struct jnode **tail = out;
    bool named = false;
    while (!jparse_is_op(p, ")")) {
        if (*out != NULL) TRY(jparse_expect_op(p, ","));
        if (jparse_is_op(p, ")")) break;
        TRY(parse_argument(p, tail));
        bool positional = (*tail)->text == NULL && (*tail)->op != 2;
        if (positional && named) return jparse_fail(p, "a positional argument follows a named one");
        named = named || !positional;
        tail = &(*tail)->next;
    }
    return jparse_expect_op(p, ")");
}

static bool at_slice_end(const struct jparser *p) {
    return jparse_is_op(p, "]") || jparse_is_op(p, ",") || jparse_is_op(p, ":");
}

// Inside "[ ]": an index, or a slice "a:b:c".
static err_id parse_index(struct jparser *p, struct jnode **out) {
    struct jnode *slice = jparse_node(p, NODE_SLICE);
    struct jnode **parts[] = {&slice->a, &slice->b, &slice->c};
    int colons = 0;
    for (int i = 0; i < 3; i++) {
        if (!at_slice_end(p)) TRY(jparse_expression(p, parts[i]));
        if (i == 2 || !jparse_take_op(p, ":")) break;
        colons++;
    }
    *out = colons > 0 ? slice : slice->a;
    if (*out == NULL) return jparse_fail(p, "an index is expected");
    return ERR_NONE;
}

static err_id parse_subscript(struct jparser *p, struct jnode **node) {
    struct jnode *item = jparse_node(p, NODE_ITEM);
    item->a = *node;
    TRY(parse_index(p, &item->b));
    if (jparse_is_op(p, ",")) return jparse_fail(p, "an index with commas is not supported");
    *node = item;
    return jparse_expect_op(p, "]");
}

static err_id parse_dot(struct jparser *p, struct jnode **node) {
    struct jnode *n = jparse_node(p, p->at->kind == TOK_INT ? NODE_ITEM : NODE_ATTRIBUTE);
    n->a = *node;
    if (n->kind == NODE_ITEM) {
        parse_constant(p, &n->b);
    } else {
        TRY(jparse_expect_name(p, &n->text));
        n->text_len = (uint32_t)strlen(n->text);
    }
    *node = n;
    return ERR_NONE;
}

static err_id parse_call(struct jparser *p, struct jnode **node) {
    struct jnode *call = jparse_node(p, NODE_CALL);
    call->a = *node;
    TRY(parse_arguments(p, &call->list));
    *node = call;
    return ERR_NONE;
}

static err_id parse_postfix(struct jparser *p, struct jnode **node) {
    for (;;) {
        if (jparse_take_op(p, ".")) {
            TRY(parse_dot(p, node));
        } else if (jparse_take_op(p, "[")) {
            TRY(parse_subscript(p, node));
        } else if (jparse_is_op(p, "(")) {
            TRY(parse_call(p, node));
        } else {
            return ERR_NONE;
        }
    }
}

// ---- filters and tests ----

static err_id parse_filter(struct jparser *p, struct jnode **node) {
    struct jnode *n = jparse_node(p, NODE_FILTER);
    TRY(jparse_expect_name(p, &n->text));
    n->filter = jinja_filter_find(n->text);
    if (n->filter == NULL) return jparse_fail(p, "the filter \"%s\" is not supported", n->text);
    if (jparse_is_op(p, "(")) TRY(parse_arguments(p, &n->list));
    n->a = *node;
    *node = n;
    return ERR_NONE;
}

err_id jparse_filters(struct jparser *p, bool first, struct jnode **out) {
    *out = NULL;
    if (!first && !jparse_is_op(p, "|")) return ERR_NONE;
    *out = jparse_node(p, NODE_CAPTURED);
    if (first) TRY(parse_filter(p, out));
    while (jparse_take_op(p, "|")) TRY(parse_filter(p, out));
    return ERR_NONE;
}

// A test's one argument may stand without parentheses: "is divisibleby 3".
static bool test_argument_follows(const struct jparser *p) {
    switch (p->at->kind) {
    case TOK_STRING:
    case TOK_INT:
    case TOK_FLOAT:
        return true;
    case TOK_NAME:
        return !jparse_is_name(p, "else") && !jparse_is_name(p, "or") && !jparse_is_name(p, "and");
    default:
        return jparse_is_op(p, "[") || jparse_is_op(p, "{");
    }
}

static err_id parse_test(struct jparser *p, struct jnode **node) {
    bool negated = jparse_take_name(p, "not");
    struct jnode *n = jparse_node(p, NODE_TEST);
    TRY(jparse_expect_name(p, &n->text));
    n->test = jinja_test_find(n->text);
    if (n->test == NULL) return jparse_fail(p, "the test \"%s\" is not supported", n->text);
    if (jparse_is_op(p, "(")) {
        TRY(parse_arguments(p, &n->list));
    } else if (test_argument_follows(p)) {
        if (jparse_is_name(p, "is")) return jparse_fail(p, "tests with \"is\" can't be chained");
        n->list = jparse_node(p, NODE_ARGUMENT);
        TRY(parse_primary(p, &n->list->a));
        TRY(parse_postfix(p, &n->list->a));
    }
    n->a = *node;
    *node = n;
    if (negated) *node = binary(p, NODE_NOT, 0, n, NULL);
    return ERR_NONE;
}

static err_id parse_filters_and_tests(struct jparser *p, struct jnode **node) {
    for (;;) {
        if (jparse_take_op(p, "|")) {
            TRY(parse_filter(p, node));
        } else if (jparse_take_name(p, "is")) {
            TRY(parse_test(p, node));
        } else if (jparse_is_op(p, "(")) {
            TRY(parse_call(p, node));
        } else {
            return ERR_NONE;
        }
    }
}

// ---- operators ----

static err_id parse_unary(struct jparser *p, bool with_filters, struct jnode **out) {
    TRY(jparse_enter(p));
    bool minus = jparse_is_op(p, "-");
    if (minus || jparse_is_op(p, "+")) {
        struct jnode *n = jparse_node(p, minus ? NODE_NEGATIVE : NODE_POSITIVE);
        p->at++;
        TRY(parse_unary(p, false, &n->a));
        *out = n;
    } else {
        TRY(parse_primary(p, out));
    }
    TRY(parse_postfix(p, out));
    if (with_filters) TRY(parse_filters_and_tests(p, out));
    jparse_leave(p);
    return ERR_NONE;
}

struct operator{
    const char *text;
    int op;
};

// Left-associative operators of one precedence.
typedef err_id level_parser(struct jparser *p, struct jnode **out);

static err_id parse_level(struct jparser *p, const struct operator* operators, size_t n, level_parser *next,
                          struct jnode **out) {
    TRY(next(p, out));
    for (size_t i = 0; i < n;) {
        if (!jparse_take_op(p, operators[i].text)) {
            i++;
            continue;
        }
        struct jnode *right = NULL;
        TRY(next(p, &right));
        *out = binary(p, NODE_BINARY, operators[i].op, *out, right);
        i = 0;
    }
    return ERR_NONE;
}

static err_id parse_operand(struct jparser *p, struct jnode **out) { return parse_unary(p, true, out); }

static err_id parse_pow(struct jparser *p, struct jnode **out) {
    static const struct operator operators[] = {{"**", OP_POW}};
    return parse_level(p, operators, 1, parse_operand, out);
}

static err_id parse_product(struct jparser *p, struct jnode **out) {
    static const struct operator operators[] = {{"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOOR_DIV}, {"%", OP_MOD}};
    return parse_level(p, operators, ARRAY_LEN(operators), parse_pow, out);
}

static err_id parse_concat(struct jparser *p, struct jnode **out) {
    TRY(parse_product(p, out));
    if (!jparse_is_op(p, "~")) return ERR_NONE;
    struct jnode *n = jparse_node(p, NODE_CONCAT);
    n->list = *out;
    struct jnode **tail = &n->list->next;
    while (jparse_take_op(p, "~")) {
        TRY(parse_product(p, tail));
        tail = &(*tail)->next;
    }
    *out = n;
    return ERR_NONE;
}

static err_id parse_sum(struct jparser *p, struct jnode **out) {
    static const struct operator operators[] = {{"+", OP_ADD}, {"-", OP_SUB}};
    return parse_level(p, operators, ARRAY_LEN(operators), parse_concat, out);
}

static bool take_comparison(struct jparser *p, int *op) {
    static const struct operator operators[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT},
                                                {"<=", OP_LE}, {">", OP_GT},  {">=", OP_GE}};
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (jparse_take_op(p, operators[i].text)) {
            *op = operators[i].op;
            return true;
        }
    }
    *op = OP_IN;
    if (jparse_take_name(p, "in")) return true;
    bool not_in =
        jparse_is_name(p, "not") && p->at[1].kind == TOK_NAME && p->at[1].len == 2 && memcmp(p->at[1].text, "in", 2) == 0;
    if (!not_in) return false;
    p->at += 2;
    *op = OP_NOT_IN;
    return true;
}

static err_id parse_comparison(struct jparser *p, struct jnode **out) {
    TRY(parse_sum(p, out));
    struct jnode *n = NULL, **tail = NULL;
    int op;
    while (take_comparison(p, &op)) {
        if (n == NULL) {
            n = binary(p, NODE_COMPARE, 0, *out, NULL);
            tail = &n->list;
        }
        *tail = jparse_node(p, NODE_OPERAND);
        (*tail)->op = op;
        TRY(parse_sum(p, &(*tail)->a));
        tail = &(*tail)->next;
    }
    if (n != NULL) *out = n;
    return ERR_NONE;
}

static err_id parse_not(struct jparser *p, struct jnode **out) {
    if (!jparse_is_name(p, "not")) return parse_comparison(p, out);
    struct jnode *n = jparse_node(p, NODE_NOT);
    p->at++;
    TRY(jparse_enter(p));
    TRY(parse_not(p, &n->a));
    jparse_leave(p);
    *out = n;
    return ERR_NONE;
}

static err_id parse_and(struct jparser *p, struct jnode **out) {
    TRY(parse_not(p, out));
    while (jparse_take_name(p, "and")) {
        struct jnode *right = NULL;
        TRY(parse_not(p, &right));
        *out = binary(p, NODE_AND, 0, *out, right);
    }
    return ERR_NONE;
}

static err_id parse_or(struct jparser *p, struct jnode **out) {
    TRY(parse_and(p, out));
    while (jparse_take_name(p, "or")) {
        struct jnode *right = NULL;
        TRY(parse_and(p, &right));
        *out = binary(p, NODE_OR, 0, *out, right);
    }
    return ERR_NONE;
}

err_id jparse_expression(struct jparser *p, struct jnode **out) {
    TRY(jparse_enter(p));
    TRY(parse_or(p, out));
    while (jparse_take_name(p, "if")) {
        struct jnode *n = jparse_node(p, NODE_CONDITION);
        n->a = *out;
        TRY(parse_or(p, &n->b));
        if (jparse_take_name(p, "else")) TRY(jparse_expression(p, &n->c));
        *out = n;
    }
    jparse_leave(p);
    return ERR_NONE;
}

static bool at_tuple_end(const struct jparser *p) {
    return p->at->kind == TOK_PRINT_END || p->at->kind == TOK_BLOCK_END || jparse_is_op(p, ")");
}

err_id jparse_tuple(struct jparser *p, bool with_condition, struct jnode **out) {
    level_parser *element = with_condition ? jparse_expression : parse_or;
    TRY(element(p, out));
    if (!jparse_is_op(p, ",")) return ERR_NONE;
    struct jnode *tuple = jparse_node(p, NODE_TUPLE);
    tuple->list = *out;
    struct jnode **tail = &tuple->list->next;
    while (jparse_take_op(p, ",") && !at_tuple_end(p)) {
        TRY(element(p, tail));
        tail = &(*tail)->next;
    }
    *out = tuple;
    return ERR_NONE;
}
