// The run's memory, budget, scopes and arguments.
#include "worker/text/jinja_run.h"

#include "common/base/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 32 << 10, RUN_DEPTH_MAX = 2500 };

// ---- arenas ----

struct jchunk {
    struct jchunk *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

void *jchunk_alloc(struct jchunk **chunks, size_t n, size_t *total) {
    n = (n + 15) & ~(size_t)15;
    struct jchunk *c = *chunks;
    if (c == NULL || c->size - c->used < n) {
        size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;
        c = xmalloc(sizeof *c + size);
        *c = (struct jchunk){.next = *chunks, .size = size};
        *chunks = c;
        if (total != NULL) *total += size;
    }
    void *p = c->bytes + c->used;
    c->used += n;
    return p;
}

void jchunk_free(struct jchunk *chunks) {
    while (chunks != NULL) {
        struct jchunk *next = chunks->next;
        free(chunks);
        chunks = next;
    }
}

void *jrun_alloc(struct jrun *r, size_t n) { return jchunk_alloc(&r->chunks, n, &r->memory); }

// ---- budget ----

err_id jrun_charge(struct jrun *r, size_t n) {
    r->steps += n;
    if (r->steps > TEMPLATE_STEPS_MAX) return jrun_fail(r, "the template runs for more than %d steps", TEMPLATE_STEPS_MAX);
    if (r->memory > TEMPLATE_MEMORY_MAX) return jrun_fail(r, "the template needs more than %d bytes", TEMPLATE_MEMORY_MAX);
    return ERR_NONE;
}

err_id jrun_enter(struct jrun *r) {
    if (++r->depth > RUN_DEPTH_MAX) return jrun_fail(r, "calls or values are nested too deep");
    return ERR_NONE;
}

err_id jrun_fail(struct jrun *r, const char *format, ...) {
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return error_set(r->e, ERR_INVALID_ARGUMENT, "chat template, line %d: %s", r->line, text);
}

// ---- scopes ----

struct jscope *jscope_push(struct jrun *r, struct jscope *parent) {
    struct jscope *s = jrun_alloc(r, sizeof *s);
    *s = (struct jscope){.parent = parent};
    return s;
}

void jscope_set(struct jrun *r, struct jscope *s, const char *name, struct jvalue value) {
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->variables[i].name == name) {
            s->variables[i].value = value;
            return;
        }
    }
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 8;
        struct jvariable *v = jrun_alloc(r, cap * sizeof *v);
        if (s->n > 0) memcpy(v, s->variables, s->n * sizeof *v);
        s->variables = v, s->cap = cap;
    }
    s->variables[s->n++] = (struct jvariable){name, value};
}

// ---- arguments ----

const struct jvalue *jargs_get(const struct jargs *a, uint32_t index, const char *name) {
    if (index < a->n) return &a->values[index];
    for (uint32_t i = 0; i < a->n_named; i++) {
        const struct jvalue *key = &a->named[i].key;
        if (key->len == strlen(name) && memcmp(key->s, name, key->len) == 0) return &a->named[i].value;
    }
    return NULL;
}

err_id jargs_check(struct jrun *r, const struct jargs *a, const char *what, uint32_t max, const char *const *names) {
    if (a->n > max) return jrun_fail(r, "%s takes at most %u arguments, %u were given", what, max, a->n);
    for (uint32_t i = 0; i < a->n_named; i++) {
        const struct jvalue *key = &a->named[i].key;
        bool known = false;
        for (const char *const *n = names; n != NULL && *n != NULL && !known; n++)
            known = strlen(*n) == key->len && memcmp(*n, key->s, key->len) == 0;
        if (!known) return jrun_fail(r, "%s has no argument \"%.*s\"", what, (int)key->len, key->s);
    }
    return ERR_NONE;
}

err_id jargs_int(struct jrun *r, const struct jargs *a, uint32_t index, const char *name, int64_t absent, int64_t *out) {
    const struct jvalue *v = jargs_get(a, index, name);
    *out = absent;
    if (v == NULL || v->type == J_NONE) return ERR_NONE;
    if (!jv_is_integer(*v)) return jrun_fail(r, "argument \"%s\" must be an integer, not %s", name, jv_type_name(v));
    *out = jv_integer(*v);
    return ERR_NONE;
}

err_id jargs_string(struct jrun *r, const struct jargs *a, uint32_t index, const char *name, const char *absent,
                    struct jvalue *out) {
    const struct jvalue *v = jargs_get(a, index, name);
    bool given = v != NULL && v->type != J_NONE;
    if (!given && absent == NULL) return jrun_fail(r, "argument \"%s\" is missing", name);
    *out = given ? *v : jv_string(absent, strlen(absent));
    if (out->type == J_UNDEFINED) return jinja_undefined_error(r, *out);
    if (out->type != J_STRING) return jrun_fail(r, "argument \"%s\" must be a string, not %s", name, jv_type_name(out));
    return ERR_NONE;
}

bool jargs_flag(const struct jargs *a, uint32_t index, const char *name, bool absent) {
    const struct jvalue *v = jargs_get(a, index, name);
    return v == NULL ? absent : jv_truth(*v);
}
