// Statements of a template, the parser's helpers, and a look at the finished tree for what the template wants of its
// messages.
#include "common/base/check.h"
#include "worker/text/jinja_parser.h"
#include "worker/text/jinja_run.h"
#include "worker/text/template.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- helpers ----

err_id jparse_fail(struct jparser *p, const char *format, ...) {
    char text[300];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    const struct jtoken *t = p->at;
    bool named = t->kind == TOK_NAME || t->kind == TOK_OPERATOR;
    return error_set(p->e, ERR_MODEL_FILES, "line %d: %s%s%.*s%s", t->line, text, named ? " (at \"" : "",
                     named ? (int)t->len : 0, named ? t->text : "", named ? "\")" : "");
}

struct jnode *jparse_node(struct jparser *p, enum jnode_kind kind) {
    struct jnode *n = jchunk_alloc(&p->t->chunks, sizeof *n, NULL);
    *n = (struct jnode){.kind = kind, .line = p->at->line};
    return n;
}

err_id jparse_enter(struct jparser *p) {
    if (++p->depth > TEMPLATE_DEPTH_MAX) return jparse_fail(p, "nested over %d deep", TEMPLATE_DEPTH_MAX);
    return ERR_NONE;
}

static bool token_is(const struct jtoken *t, enum jtoken_kind kind, const char *text) {
    return t->kind == kind && strlen(text) == t->len && memcmp(t->text, text, t->len) == 0;
}

bool jparse_is_name(const struct jparser *p, const char *name) { return token_is(p->at, TOK_NAME, name); }
bool jparse_is_op(const struct jparser *p, const char *op) { return token_is(p->at, TOK_OPERATOR, op); }

bool jparse_take_name(struct jparser *p, const char *name) {
    bool is = jparse_is_name(p, name);
    p->at += is;
    return is;
}

bool jparse_take_op(struct jparser *p, const char *op) {
    bool is = jparse_is_op(p, op);
    p->at += is;
    return is;
}

err_id jparse_expect_op(struct jparser *p, const char *op) {
    return jparse_take_op(p, op) ? ERR_NONE : jparse_fail(p, "\"%s\" is expected", op);
}

err_id jparse_expect_name(struct jparser *p, const char **name) {
    if (p->at->kind != TOK_NAME) return jparse_fail(p, "a name is expected");
    *name = jinja_intern(p->t, p->at->text, p->at->len);
    p->at++;
    return ERR_NONE;
}

const char *jinja_find_name(const struct chat_template *t, const char *name, size_t len) {
    for (uint32_t i = 0; i < t->n_names; i++) {
        if (strlen(t->names[i]) == len && memcmp(t->names[i], name, len) == 0) return t->names[i];
    }
    return NULL;
}

const char *jinja_intern(struct chat_template *t, const char *name, size_t len) {
    const char *known = jinja_find_name(t, name, len);
    if (known != NULL) return known;
    char *copy = jchunk_alloc(&t->chunks, len + 1, NULL);
    memcpy(copy, name, len);
    copy[len] = '\0';
    if (t->n_names == t->cap_names) {
        t->cap_names = t->cap_names ? t->cap_names * 2 : 64;
        t->names = xrealloc(t->names, t->cap_names * sizeof *t->names);
    }
    t->names[t->n_names++] = copy;
    return copy;
}

// ---- statements ----

static err_id parse_body(struct jparser *p, const char *const *ends, struct jnode **out);

static err_id expect_block_end(struct jparser *p) {
    if (p->at->kind != TOK_BLOCK_END) return jparse_fail(p, "the end of the tag is expected");
    p->at++;
    return ERR_NONE;
}

// "%}", statements, "{% end": stands on the end's name afterwards.
static err_id parse_inner(struct jparser *p, const char *const *ends, struct jnode **out) {
    TRY(expect_block_end(p));
    TRY(jparse_enter(p));
    TRY(parse_body(p, ends, out));
    jparse_leave(p);
    return ERR_NONE;
}

static err_id parse_until(struct jparser *p, const char *end, struct jnode **out) {
    const char *const ends[] = {end, NULL};
    TRY(parse_inner(p, ends, out));
    p->at++;
    return ERR_NONE;
}

static err_id parse_target_item(struct jparser *p, bool with_attributes, struct jnode **out) {
    if (jparse_take_op(p, "(")) {
        TRY(jparse_enter(p));
        TRY(jparse_target(p, with_attributes, out));
        jparse_leave(p);
        return jparse_expect_op(p, ")");
    }
    *out = jparse_node(p, NODE_TARGET_NAME);
    TRY(jparse_expect_name(p, &(*out)->name));
    if (!with_attributes || !jparse_take_op(p, ".")) return ERR_NONE;
    (*out)->kind = NODE_TARGET_ATTRIBUTE;
    TRY(jparse_expect_name(p, &(*out)->text));
    (*out)->text_len = (uint32_t)strlen((*out)->text);
    return ERR_NONE;
}

err_id jparse_target(struct jparser *p, bool with_attributes, struct jnode **out) {
    TRY(parse_target_item(p, with_attributes, out));
    if (!jparse_is_op(p, ",")) return ERR_NONE;
    struct jnode *tuple = jparse_node(p, NODE_TARGET_TUPLE);
    tuple->list = *out;
    struct jnode **tail = &tuple->list->next;
    while (jparse_take_op(p, ",")) {
        if (p->at->kind != TOK_NAME || jparse_is_name(p, "in")) {
            if (!jparse_is_op(p, "(")) break;
        }
        TRY(parse_target_item(p, with_attributes, tail));
        tail = &(*tail)->next;
    }
    *out = tuple;
    return ERR_NONE;
}

static err_id parse_for(struct jparser *p, struct jnode *n) {
    TRY(jparse_target(p, false, &n->a));
    if (!jparse_take_name(p, "in")) return jparse_fail(p, "\"in\" is expected");
    TRY(jparse_tuple(p, false, &n->b));
    if (jparse_take_name(p, "if")) TRY(jparse_expression(p, &n->c));
    n->flag = jparse_take_name(p, "recursive");
    static const char *const ends[] = {"endfor", "else", NULL};
    p->loops++;
    TRY(parse_inner(p, ends, &n->body));
    p->loops--;
    bool other = jparse_is_name(p, "else");
    p->at++;
    return other ? parse_until(p, "endfor", &n->other) : ERR_NONE;
}

static err_id parse_if(struct jparser *p, struct jnode *n) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    for (;;) {
        TRY(jparse_tuple(p, false, &n->a));
        TRY(parse_inner(p, ends, &n->body));
        if (jparse_take_name(p, "endif")) return ERR_NONE;
        if (jparse_take_name(p, "else")) return parse_until(p, "endif", &n->other);
        p->at++;
        n->other = jparse_node(p, NODE_IF);
        n = n->other;
    }
}

static err_id parse_set(struct jparser *p, struct jnode *n) {
    TRY(jparse_target(p, true, &n->a));
    if (jparse_take_op(p, "=")) return jparse_tuple(p, true, &n->b);
    n->kind = NODE_SET_BLOCK;
    TRY(jparse_filters(p, false, &n->b));
    return parse_until(p, "endset", &n->body);
}

static err_id parse_parameters(struct jparser *p, struct jnode *n) {
    TRY(jparse_expect_op(p, "("));
    struct jnode **tail = &n->list;
    bool defaults = false;
    while (!jparse_is_op(p, ")")) {
        if (n->list != NULL) TRY(jparse_expect_op(p, ","));
        *tail = jparse_node(p, NODE_PARAMETER);
        TRY(jparse_expect_name(p, &(*tail)->name));
        if (jparse_take_op(p, "=")) {
            TRY(jparse_expression(p, &(*tail)->a));
            defaults = true;
        } else if (defaults) {
            return jparse_fail(p, "a parameter without default follows one with");
        }
        tail = &(*tail)->next;
    }
    return jparse_expect_op(p, ")");
}

static err_id parse_macro(struct jparser *p, struct jnode *n) {
    TRY(jparse_expect_name(p, &n->name));
    TRY(parse_parameters(p, n));
    int loops = p->loops;
    p->loops = 0;
    TRY(parse_until(p, "endmacro", &n->body));
    p->loops = loops;
    return ERR_NONE;
}

static err_id parse_call_block(struct jparser *p, struct jnode *n) {
    if (jparse_is_op(p, "(")) TRY(parse_parameters(p, n));
    TRY(jparse_expression(p, &n->b));
    if (n->b->kind != NODE_CALL) return jparse_fail(p, "a call is expected");
    n->name = jinja_intern(p->t, "caller", 6);
    int loops = p->loops;
    p->loops = 0;
    TRY(parse_until(p, "endcall", &n->body));
    p->loops = loops;
    return ERR_NONE;
}

static err_id parse_filter_block(struct jparser *p, struct jnode *n) {
    TRY(jparse_filters(p, true, &n->b));
    return parse_until(p, "endfilter", &n->body);
}

static err_id parse_with(struct jparser *p, struct jnode *n) {
    struct jnode **tail = &n->list;
    while (p->at->kind != TOK_BLOCK_END) {
        if (n->list != NULL) TRY(jparse_expect_op(p, ","));
        *tail = jparse_node(p, NODE_SET);
        TRY(parse_target_item(p, false, &(*tail)->a));
        TRY(jparse_expect_op(p, "="));
        TRY(jparse_expression(p, &(*tail)->b));
        tail = &(*tail)->next;
    }
    return parse_until(p, "endwith", &n->body);
}

static err_id parse_generation(struct jparser *p, struct jnode *n) { return parse_until(p, "endgeneration", &n->body); }

static err_id parse_jump(struct jparser *p, struct jnode *n) {
    return p->loops > 0 ? ERR_NONE : jparse_fail(p, "break and continue belong into a loop");
}

static err_id parse_statement(struct jparser *p, struct jnode **out) {
    static const struct {
        const char *name;
        enum jnode_kind kind;
        err_id (*parse)(struct jparser *p, struct jnode *n);
    } statements[] = {
        {"for", NODE_FOR, parse_for},
        {"if", NODE_IF, parse_if},
        {"set", NODE_SET, parse_set},
        {"macro", NODE_MACRO, parse_macro},
        {"call", NODE_CALL_BLOCK, parse_call_block},
        {"filter", NODE_FILTER_BLOCK, parse_filter_block},
        {"with", NODE_WITH, parse_with},
        {"generation", NODE_SCOPE, parse_generation},
        {"break", NODE_BREAK, parse_jump},
        {"continue", NODE_CONTINUE, parse_jump},
    };
    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        if (!jparse_is_name(p, statements[i].name)) continue;
        *out = jparse_node(p, statements[i].kind);
        p->at++;
        TRY(statements[i].parse(p, *out));
        return expect_block_end(p);
    }
    return jparse_fail(p, "this tag is not supported here");
}

static err_id parse_output(struct jparser *p, struct jnode **out) {
    p->at++;
    *out = jparse_node(p, NODE_OUTPUT);
    TRY(jparse_tuple(p, true, &(*out)->a));
    if (p->at->kind != TOK_PRINT_END) return jparse_fail(p, "}} is expected");
    p->at++;
    return ERR_NONE;
}

static void parse_data(struct jparser *p, struct jnode **out) {
    *out = jparse_node(p, NODE_DATA);
    char *text = jchunk_alloc(&p->t->chunks, p->at->len + 1, NULL);
    memcpy(text, p->at->text, p->at->len);
    text[p->at->len] = '\0';
    (*out)->text = text;
    (*out)->text_len = p->at->len;
    p->at++;
}

static bool at_end(const struct jparser *p, const char *const *ends) {
    for (; ends != NULL && *ends != NULL; ends++) {
        if (jparse_is_name(p, *ends)) return true;
    }
    return false;
}

// Statements up to a tag that begins with one of these names, or to the end of the template.
static err_id parse_body(struct jparser *p, const char *const *ends, struct jnode **out) {
    for (; p->at->kind != TOK_END; out = &(*out)->next) {
        if (p->at->kind == TOK_DATA) {
            parse_data(p, out);
        } else if (p->at->kind == TOK_PRINT) {
            TRY(parse_output(p, out));
        } else {
            p->at++;
            if (at_end(p, ends)) return ERR_NONE;
            TRY(parse_statement(p, out));
        }
    }
    return ends == NULL ? ERR_NONE : jparse_fail(p, "{%% %s %%} is missing", ends[0]);
}

// ---- what the template wants ----

// Is this "….name" or "…['name']"?
static bool ends_in(const struct jnode *n, const char *name) {
    if (n == NULL) return false;
    if (n->kind == NODE_ATTRIBUTE) return strcmp(n->text, name) == 0;
    if (n->kind == NODE_NAME) return strcmp(n->name, name) == 0;
    return n->kind == NODE_ITEM && n->b->kind == NODE_CONST && n->b->value.type == J_STRING &&
           n->b->value.len == strlen(name) && memcmp(n->b->value.s, name, n->b->value.len) == 0;
}

struct wants {
    bool loops_over_content, tests_content, objects;
};

// False: the tree is nested deeper than the interpreter goes. Chains of `next` are loops.
static bool look(const struct jnode *n, struct wants *w, int depth) {
    if (depth > JINJA_NODE_DEPTH_MAX) return false;
    for (; n != NULL; n = n->next) {
        if (n->kind == NODE_FOR && ends_in(n->b, "content")) w->loops_over_content = true;
        if (n->kind == NODE_FOR && n->b->kind == NODE_FILTER && ends_in(n->b->a, "arguments")) w->objects = true;
        if (n->kind == NODE_TEST && strcmp(n->text, "string") == 0 && ends_in(n->a, "content")) w->tests_content = true;
        if (n->kind == NODE_FILTER && strcmp(n->text, "tojson") == 0 && ends_in(n->a, "arguments")) w->objects = true;
        if (n->kind == NODE_CALL && ends_in(n->a, "items") && ends_in(n->a->a, "arguments")) w->objects = true;
        bool children = look(n->a, w, depth + 1) && look(n->b, w, depth + 1) && look(n->c, w, depth + 1) &&
                        look(n->list, w, depth + 1) && look(n->body, w, depth + 1) && look(n->other, w, depth + 1);
        if (!children) return false;
    }
    return true;
}

err_id jinja_parse(struct chat_template *t, const char *source, size_t len, struct error *e) {
    struct jlexed lexed;
    err_id id = jinja_lex(source, len, &lexed, e);
    if (id == ERR_NONE) {
        struct jparser p = {.t = t, .at = lexed.tokens, .e = e};
        id = parse_body(&p, NULL, &t->body);
    }
    jlexed_free(&lexed);
    if (id != ERR_NONE) return id;
    struct wants w = {0};
    if (!look(t->body, &w, 0))
        return error_set(e, ERR_MODEL_FILES, "an expression is nested over %d deep", JINJA_NODE_DEPTH_MAX);
    t->wants_parts = w.loops_over_content && !w.tests_content;
    t->wants_objects = w.objects;
    return ERR_NONE;
}
