// One run of a template: its arena, its budget, its scopes and its output. Shared by the files of the interpreter.
#pragma once
#include "worker/text/jinja_ast.h"
#include "worker/text/jinja_value.h"
#include "worker/text/template.h"

enum jflow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

struct jvariable {
    const char *name; // interned: compared by address
    struct jvalue value;
};
struct jscope {
    struct jscope *parent;
    struct jvariable *variables;
    uint32_t n, cap;
};

struct jloop {
    struct jlist items;
    uint32_t index0;
    int64_t depth0;
    struct jvalue changed; // last arguments of loop.changed()
    bool has_changed;
    const struct jnode *node; // a recursive loop
    struct jscope *scope;     // where it was begun
};

struct jmacro {
    const struct jnode *node; // NODE_MACRO or NODE_CALL_BLOCK
    struct jscope *scope;     // where it was defined
};

struct jrun {
    const struct chat_template *t;
    struct jchunk *chunks;
    size_t memory; // bytes
    size_t steps;
    int depth;
    int line;
    struct jscope *scope, *top;
    struct jdict *context; // the caller's variables
    struct buf *out;
    enum jflow flow;
    int64_t now_unix_s;
    struct error *e;
};

// Deeper nesting fails; every call needs its jrun_leave.
err_id jrun_enter(struct jrun *r);
static inline void jrun_leave(struct jrun *r) { r->depth--; }

struct jscope *jscope_push(struct jrun *r, struct jscope *parent);
void jscope_set(struct jrun *r, struct jscope *s, const char *name, struct jvalue value);

// Arguments of a call, a filter or a test.
struct jargs {
    struct jvalue *values; // positional
    uint32_t n;
    const struct jentry *named; // keys are strings
    uint32_t n_named;
};
// The argument at this position or of this name; NULL when it was not given.
const struct jvalue *jargs_get(const struct jargs *a, uint32_t index, const char *name);
// Fails when there are more positional arguments than max, or a named one that is not in names (NULL-terminated).
err_id jargs_check(struct jrun *r, const struct jargs *a, const char *what, uint32_t max, const char *const *names);
// Typed reading with a default; fails with `what` in the sentence.
err_id jargs_int(struct jrun *r, const struct jargs *a, uint32_t index, const char *name, int64_t absent, int64_t *out);
err_id jargs_string(struct jrun *r, const struct jargs *a, uint32_t index, const char *name, const char *absent,
                    struct jvalue *out);
bool jargs_flag(const struct jargs *a, uint32_t index, const char *name, bool absent);

// ---- jinja_eval.c, jinja_expr.c ----
err_id jinja_exec(struct jrun *r, const struct jnode *body); // a chain of statements
err_id jinja_eval(struct jrun *r, const struct jnode *expression, struct jvalue *out);
err_id jinja_call(struct jrun *r, struct jvalue callee, const struct jargs *args, struct jvalue *out);
err_id jinja_call_macro(struct jrun *r, const struct jmacro *m, const struct jargs *args, struct jvalue *out);
err_id jinja_call_loop(struct jrun *r, struct jloop *loop, const struct jargs *args, struct jvalue *out);
err_id jinja_eval_args(struct jrun *r, const struct jnode *args, struct jargs *out);
err_id jinja_attribute(struct jrun *r, struct jvalue object, const char *name, size_t len,
                       struct jvalue *out);                                                     // object.name
err_id jinja_item(struct jrun *r, struct jvalue object, struct jvalue key, struct jvalue *out); // object[key]
err_id jinja_undefined_error(struct jrun *r, struct jvalue undefined);
enum jop;
err_id jinja_binary(struct jrun *r, int op, struct jvalue a, struct jvalue b, struct jvalue *out);
err_id jinja_contains(struct jrun *r, struct jvalue container, struct jvalue item, bool *found);
err_id jinja_format_percent(struct jrun *r, struct jvalue format, const struct jvalue *args, uint32_t n, struct jvalue *out);
err_id jinja_format_braces(struct jrun *r, struct jvalue format, const struct jargs *args, struct jvalue *out);

// ---- tables: filters, tests, methods, functions ----
struct jfilter {
    const char *name;
    err_id (*run)(struct jrun *r, struct jvalue v, const struct jargs *a, struct jvalue *out);
};
const struct jfilter *jinja_filter_find(const char *name); // NULL: unknown
struct jtest {
    const char *name;
    err_id (*run)(struct jrun *r, struct jvalue v, const struct jargs *a, bool *out);
};
const struct jtest *jinja_test_find(const char *name);
struct jmethod_kind {
    const char *name;
    err_id (*run)(struct jrun *r, struct jvalue object, const struct jargs *a, struct jvalue *out);
};
// A method of this type of object; NULL: none.
const struct jmethod_kind *jinja_method_find(enum jtype type, const char *name, size_t len);
struct jfunction {
    const char *name;
    err_id (*run)(struct jrun *r, const struct jargs *a, struct jvalue *out);
};
const struct jfunction *jinja_function_find(const char *name);
