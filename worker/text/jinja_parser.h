// The parser's state, shared by its two halves: jinja_parse.c (statements) and jinja_parse_expr.c (expressions).
#pragma once
#include "worker/text/jinja_ast.h"
#include "worker/text/jinja_lex.h"

struct jparser {
    struct chat_template *t;
    const struct jtoken *at;
    int depth, loops;
    struct error *e;
};

err_id jparse_fail(struct jparser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct jnode *jparse_node(struct jparser *p, enum jnode_kind kind);
// Fails when nesting is over TEMPLATE_DEPTH_MAX; every success needs a jparse_leave.
err_id jparse_enter(struct jparser *p);
static inline void jparse_leave(struct jparser *p) { p->depth--; }

bool jparse_is_name(const struct jparser *p, const char *name);
bool jparse_is_op(const struct jparser *p, const char *op);
bool jparse_take_name(struct jparser *p, const char *name); // moves on when it is that
bool jparse_take_op(struct jparser *p, const char *op);
err_id jparse_expect_op(struct jparser *p, const char *op);
err_id jparse_expect_name(struct jparser *p, const char **name); // any; interned

err_id jparse_expression(struct jparser *p, struct jnode **out);
// One expression, or a tuple when there are commas. with_condition: "a if b" is allowed.
err_id jparse_tuple(struct jparser *p, bool with_condition, struct jnode **out);
// "|a|b(1)" over NODE_CAPTURED; NULL when there is no filter. first: without the leading bar.
err_id jparse_filters(struct jparser *p, bool first, struct jnode **out);
// What an assignment assigns to. with_attributes: "ns.x" is allowed.
err_id jparse_target(struct jparser *p, bool with_attributes, struct jnode **out);
