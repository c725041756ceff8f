// Statements: what the body of a template does.
#include "common/base/check.h"
#include "worker/text/jinja_run.h"

#include <string.h>

// ---- assignment ----

static err_id assign(struct jrun *r, const struct jnode *target, struct jvalue value);

static err_id assign_tuple(struct jrun *r, const struct jnode *target, struct jvalue value) {
    struct jlist items;
    TRY(jv_iterate(r, value, &items));
    uint32_t n = 0;
    for (const struct jnode *t = target->list; t != NULL; t = t->next) n++;
    if (n != items.len) return jrun_fail(r, "%u names for %u values", n, items.len);
    const struct jnode *t = target->list;
    for (uint32_t i = 0; i < n; i++, t = t->next) TRY(assign(r, t, items.items[i]));
    return ERR_NONE;
}

static err_id lookup(struct jrun *r, const char *name, struct jvalue *out);

static err_id assign_attribute(struct jrun *r, const struct jnode *target, struct jvalue value) {
    struct jvalue object;
    TRY(lookup(r, target->name, &object));
    if (object.type != J_NAMESPACE) return jrun_fail(r, "cannot assign attribute on non-namespace object");
    jv_put(r, object.dict, jv_string(target->text, target->text_len), value);
    return ERR_NONE;
}

static err_id assign(struct jrun *r, const struct jnode *target, struct jvalue value) {
    if (target->kind == NODE_TARGET_TUPLE) return assign_tuple(r, target, value);
    if (target->kind == NODE_TARGET_ATTRIBUTE) return assign_attribute(r, target, value);
    jscope_set(r, r->scope, target->name, value);
    return ERR_NONE;
}

static err_id lookup(struct jrun *r, const char *name, struct jvalue *out) {
    struct jnode n = {.kind = NODE_NAME, .line = r->line, .name = name};
    return jinja_eval(r, &n, out);
}

// ---- blocks in a scope or an output of their own ----

static err_id exec_in(struct jrun *r, struct jscope *scope, const struct jnode *body) {
    struct jscope *before = r->scope;
    r->scope = scope;
    err_id id = jinja_exec(r, body);
    r->scope = before;
    return id;
}

// The text that the body puts out, in a new scope.
static err_id capture(struct jrun *r, const struct jnode *body, struct jvalue *out) {
    struct buf text = {0}, *before = r->out;
    r->out = &text;
    err_id id = exec_in(r, jscope_push(r, r->scope), body);
    r->out = before;
    *out = jv_take_buf(r, &text);
    return id;
}

// Filters over a captured text: NODE_CAPTURED reads it from the variable whose name is no name.
static const char captured_name[] = " captured";

static err_id filter_captured(struct jrun *r, const struct jnode *filters, struct jvalue *text) {
    if (filters == NULL) return ERR_NONE;
    struct jscope *before = r->scope;
    r->scope = jscope_push(r, before);
    jscope_set(r, r->scope, captured_name, *text);
    err_id id = jinja_eval(r, filters, text);
    r->scope = before;
    return id;
}

static err_id exec_set_block(struct jrun *r, const struct jnode *n) {
    struct jvalue text;
    TRY(capture(r, n->body, &text));
    TRY(filter_captured(r, n->b, &text));
    return assign(r, n->a, text);
}

static err_id exec_filter_block(struct jrun *r, const struct jnode *n) {
    struct jvalue text;
    TRY(capture(r, n->body, &text));
    TRY(filter_captured(r, n->b, &text));
    if (text.type != J_STRING)
        return jrun_fail(r, "the filters of a filter block must give a string, not %s", jv_type_name(&text));
    return jv_print(r, text, r->out);
}

static err_id exec_with(struct jrun *r, const struct jnode *n) {
    struct jscope *before = r->scope, *inner = jscope_push(r, before);
    for (const struct jnode *s = n->list; s != NULL; s = s->next) {
        struct jvalue value;
        TRY(jinja_eval(r, s->b, &value));
        r->scope = inner;
        err_id id = assign(r, s->a, value);
        r->scope = before;
        if (id != ERR_NONE) return id;
    }
    return exec_in(r, inner, n->body);
}

// ---- loops ----

// The items that pass "for … if condition"; the condition sees the loop's names but no `loop`.
static err_id filter_items(struct jrun *r, const struct jnode *n, struct jlist *items) {
    struct jvalue kept = jv_list(r, J_LIST);
    struct jscope *before = r->scope;
    err_id id = ERR_NONE;
    for (uint32_t i = 0; i < items->len && id == ERR_NONE; i++) {
        r->scope = jscope_push(r, before);
        struct jvalue passes;
        id = assign(r, n->a, items->items[i]);
        if (id == ERR_NONE) id = jinja_eval(r, n->c, &passes);
        if (id == ERR_NONE && jv_truth(passes)) jv_push(r, kept, items->items[i]);
    }
    r->scope = before;
    *items = *kept.list;
    return id;
}

// *completed: some round ran to its end, which is when the reference leaves the else branch out.
static err_id run_items(struct jrun *r, struct jloop *loop, const char *loop_name, bool *completed) {
    const struct jnode *n = loop->node;
    struct jscope *before = r->scope, *scope = jscope_push(r, before);
    err_id id = ERR_NONE;
    r->scope = scope;
    for (uint32_t i = 0; i < loop->items.len && id == ERR_NONE; i++) {
        loop->index0 = i;
        scope->n = 0; // a new scope for each round
        jscope_set(r, scope, loop_name, (struct jvalue){.type = J_LOOP, .loop = loop});
        id = jrun_charge(r, 1);
        if (id == ERR_NONE) id = assign(r, n->a, loop->items.items[i]);
        if (id == ERR_NONE) id = jinja_exec(r, n->body);
        if (r->flow == FLOW_NEXT) *completed = true;
        if (r->flow == FLOW_BREAK) break;
        r->flow = FLOW_NEXT;
    }
    r->flow = FLOW_NEXT;
    r->scope = before;
    return id;
}

static err_id run_loop(struct jrun *r, const struct jnode *n, struct jvalue iterable, int64_t depth0) {
    struct jloop *loop = jrun_alloc(r, sizeof *loop);
    *loop = (struct jloop){.depth0 = depth0, .node = n, .scope = r->scope};
    TRY(jv_iterate(r, iterable, &loop->items));
    if (n->c != NULL) TRY(filter_items(r, n, &loop->items));
    const char *name = jinja_find_name(r->t, "loop", 4);
    bool completed = false;
    TRY(run_items(r, loop, name ? name : "loop", &completed));
    return completed || n->other == NULL ? ERR_NONE : exec_in(r, jscope_push(r, r->scope), n->other);
}

static err_id exec_for(struct jrun *r, const struct jnode *n) {
    struct jvalue iterable;
    TRY(jinja_eval(r, n->b, &iterable));
    return run_loop(r, n, iterable, 0);
}

err_id jinja_call_loop(struct jrun *r, struct jloop *loop, const struct jargs *args, struct jvalue *out) {
    if (!loop->node->flag) return jrun_fail(r, "the loop must have the 'recursive' marker to be called recursively");
    if (args->n != 1) return jrun_fail(r, "loop() takes what to loop over");
    TRY(jrun_enter(r));
    struct buf text = {0}, *out_before = r->out;
    struct jscope *scope_before = r->scope;
    r->out = &text, r->scope = loop->scope;
    err_id id = run_loop(r, loop->node, args->values[0], loop->depth0 + 1);
    r->out = out_before, r->scope = scope_before;
    jrun_leave(r);
    *out = jv_take_buf(r, &text);
    return id;
}

// ---- macros ----

static err_id bind_parameters(struct jrun *r, const struct jmacro *m, const struct jargs *args) {
    uint32_t index = 0, used = 0;
    for (const struct jnode *p = m->node->list; p != NULL; p = p->next, index++) {
        const struct jvalue *given = jargs_get(args, index, p->name);
        struct jvalue value = jv_undefined(p->name, strlen(p->name));
        if (given != NULL) {
            value = *given;
            used += index >= args->n;
        } else if (p->a != NULL) {
            TRY(jinja_eval(r, p->a, &value));
        }
        jscope_set(r, r->scope, p->name, value);
    }
    if (args->n > index) return jrun_fail(r, "macro '%s' takes not more than %u argument(s)", m->node->name, index);
    for (uint32_t i = 0; i < args->n_named; i++) {
        const struct jvalue *key = &args->named[i].key;
        const char *name = jinja_find_name(r->t, key->s, key->len);
        bool caller = key->len == 6 && memcmp(key->s, "caller", 6) == 0;
        if (caller) jscope_set(r, r->scope, name, args->named[i].value), used++;
    }
    if (used < args->n_named) return jrun_fail(r, "macro '%s' was given an argument that it doesn't know", m->node->name);
    return ERR_NONE;
}

err_id jinja_call_macro(struct jrun *r, const struct jmacro *m, const struct jargs *args, struct jvalue *out) {
    TRY(jrun_enter(r));
    struct buf text = {0}, *out_before = r->out;
    struct jscope *scope_before = r->scope;
    r->out = &text;
    r->scope = jscope_push(r, m->scope);
    err_id id = bind_parameters(r, m, args);
    if (id == ERR_NONE) id = jinja_exec(r, m->node->body);
    r->flow = FLOW_NEXT;
    r->out = out_before, r->scope = scope_before;
    jrun_leave(r);
    *out = jv_take_buf(r, &text);
    return id;
}

static struct jvalue macro_value(struct jrun *r, const struct jnode *n) {
    struct jmacro *m = jrun_alloc(r, sizeof *m);
    *m = (struct jmacro){n, r->scope};
    return (struct jvalue){.type = J_MACRO, .macro = m};
}

static err_id exec_call_block(struct jrun *r, const struct jnode *n) {
    struct jvalue callee, result;
    struct jargs args;
    TRY(jinja_eval(r, n->b->a, &callee));
    TRY(jinja_eval_args(r, n->b->list, &args));
    struct jentry *named = jrun_alloc(r, (args.n_named + 1) * sizeof *named);
    if (args.n_named > 0) memcpy(named, args.named, args.n_named * sizeof *named);
    named[args.n_named] = (struct jentry){jv_string("caller", 6), macro_value(r, n)};
    args.named = named, args.n_named++;
    TRY(jinja_call(r, callee, &args, &result));
    return jv_print(r, result, r->out);
}

// ---- one statement ----

static err_id exec_if(struct jrun *r, const struct jnode *n) {
    struct jvalue condition;
    for (;;) {
        r->line = n->line;
        TRY(jinja_eval(r, n->a, &condition));
        if (jv_truth(condition)) return jinja_exec(r, n->body);
        const struct jnode *other = n->other;
        // An elif is an IF that stands alone in the else branch: a chain of them needs no depth.
        if (other == NULL || other->kind != NODE_IF || other->next != NULL) return jinja_exec(r, other);
        n = other;
    }
}

static err_id exec_one(struct jrun *r, const struct jnode *n) {
    struct jvalue value;
    switch (n->kind) {
    case NODE_DATA:
        return jv_print(r, jv_string(n->text, n->text_len), r->out);
    case NODE_OUTPUT:
        TRY(jinja_eval(r, n->a, &value));
        return jv_print(r, value, r->out);
    case NODE_SET:
        TRY(jinja_eval(r, n->b, &value));
        return assign(r, n->a, value);
    case NODE_SET_BLOCK:
        return exec_set_block(r, n);
    case NODE_FILTER_BLOCK:
        return exec_filter_block(r, n);
    case NODE_IF:
        return exec_if(r, n);
    case NODE_FOR:
        return exec_for(r, n);
    case NODE_MACRO:
        jscope_set(r, r->scope, n->name, macro_value(r, n));
        return ERR_NONE;
    case NODE_CALL_BLOCK:
        return exec_call_block(r, n);
    case NODE_WITH:
        return exec_with(r, n);
    case NODE_SCOPE:
        return exec_in(r, jscope_push(r, r->scope), n->body);
    case NODE_BREAK:
        r->flow = FLOW_BREAK;
        return ERR_NONE;
    case NODE_CONTINUE:
        r->flow = FLOW_CONTINUE;
        return ERR_NONE;
    default:
        return jrun_fail(r, "not a statement");
    }
}

err_id jinja_exec(struct jrun *r, const struct jnode *body) {
    TRY(jrun_enter(r));
    err_id id = ERR_NONE;
    for (const struct jnode *n = body; n != NULL && id == ERR_NONE && r->flow == FLOW_NEXT; n = n->next) {
        r->line = n->line;
        id = jrun_charge(r, 1);
        if (id == ERR_NONE) id = exec_one(r, n);
    }
    jrun_leave(r);
    return id;
}
