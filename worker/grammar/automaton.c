// Design notes. A regular expression becomes Thompson's automaton, whose sets of states become states. ^ and $ are edges
// that take nothing: ^ can be passed only before the first character, $ only when asked whether a set accepts.
#include "worker/grammar/automaton.h"
#include "common/base/check.h"
#include "common/base/hash.h"
#include "worker/grammar/regex_ast.h"
#include "worker/grammar/utf8_ranges.h"
#include <stdlib.h>
#include <string.h>

enum { NFA_STATES_MAX = 100000, NFA_NONE = UINT32_MAX };
enum nfa_kind { NFA_SPLIT, NFA_SET, NFA_BEGIN, NFA_END, NFA_ACCEPT };

struct nfa_state {
    enum nfa_kind kind;
    const struct ast *set; // SET
    uint32_t a, b;         // where to; b: SPLIT
};

struct nfa {
    struct nfa_state *s;
    uint32_t n, cap;
};

void automaton_free(struct automaton *a) {
    if (a == NULL) return;
    free(a->range_lo);
    free(a->to);
    free(a->accept);
    free(a);
}

static err_id too_large(struct error *e) {
    return error_set(e, ERR_INVALID_ARGUMENT, "a pattern, or several together, need more than %d states: make it simpler",
                     AUTOMATON_STATES_MAX);
}

// ---- from the tree to Thompson's automaton, from the end to the start ----

static uint32_t nfa_add(struct nfa *n, struct nfa_state s) {
    if (n->n >= NFA_STATES_MAX) return 0;
    if (n->n == n->cap) {
        n->cap = n->cap ? n->cap * 2 : 64;
        n->s = xrealloc(n->s, n->cap * sizeof *n->s);
    }
    n->s[n->n] = s;
    return n->n++;
}

static uint32_t nfa_build(struct nfa *n, const struct ast *a, uint32_t next);

static uint32_t nfa_repeat(struct nfa *n, const struct ast *a, uint32_t next) {
    if (a->max == AST_UNBOUNDED) {
        uint32_t loop = nfa_add(n, (struct nfa_state){.kind = NFA_SPLIT, .a = NFA_NONE, .b = next});
        uint32_t body = nfa_build(n, a->left, loop);
        n->s[loop].a = body;
        next = loop;
    } else {
        uint32_t end = next;
        for (uint32_t i = a->min; i < a->max && n->n < NFA_STATES_MAX; i++)
            next = nfa_add(n, (struct nfa_state){.kind = NFA_SPLIT, .a = nfa_build(n, a->left, next), .b = end});
    }
    for (uint32_t i = 0; i < a->min && n->n < NFA_STATES_MAX; i++) next = nfa_build(n, a->left, next);
    return next;
}

static uint32_t nfa_build(struct nfa *n, const struct ast *a, uint32_t next) {
    for (; a->kind == AST_CONCAT; a = a->left) next = nfa_build(n, a->right, next);
    switch (a->kind) {
    case AST_SET:
        return nfa_add(n, (struct nfa_state){.kind = NFA_SET, .set = a, .a = next, .b = NFA_NONE});
    case AST_BEGIN:
        return nfa_add(n, (struct nfa_state){.kind = NFA_BEGIN, .a = next, .b = NFA_NONE});
    case AST_END:
        return nfa_add(n, (struct nfa_state){.kind = NFA_END, .a = next, .b = NFA_NONE});
    case AST_REPEAT:
        return nfa_repeat(n, a, next);
    case AST_ALTERNATE: {
        uint32_t left = nfa_build(n, a->left, next), right = nfa_build(n, a->right, next);
        return nfa_add(n, (struct nfa_state){.kind = NFA_SPLIT, .a = left, .b = right});
    }
    default:
        return next;
    }
}

// ---- sets of states ----

struct subsets {
    const struct nfa *nfa;
    struct automaton *a;
    uint32_t **members, *n_members; // by state of the automaton, ascending
    uint32_t cap, *slots, n_slots;  // a table from sets to states + 1
    uint8_t *in;                    // scratch by state of the nfa
    uint32_t *list, n_list;
};

static void enter(struct subsets *s, uint32_t state, bool at_begin, bool at_end) {
    uint32_t from = s->n_list;
    if (!s->in[state]) s->in[state] = 1, s->list[s->n_list++] = state;
    for (; from < s->n_list; from++) {
        const struct nfa_state *x = &s->nfa->s[s->list[from]];
        bool passes = x->kind == NFA_SPLIT || (x->kind == NFA_BEGIN && at_begin) || (x->kind == NFA_END && at_end);
        uint32_t to[2] = {x->a, x->b};
        for (uint32_t k = 0; k < 2 && passes; k++)
            if (to[k] != NFA_NONE && !s->in[to[k]]) s->in[to[k]] = 1, s->list[s->n_list++] = to[k];
    }
}

static int by_number(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

// Does the set in s->list accept? Empties it.
static bool accepts(struct subsets *s, bool at_begin) {
    bool yes = false;
    for (uint32_t i = 0; i < s->n_list; i++) s->in[s->list[i]] = 0;
    uint32_t n = s->n_list, *members = xmalloc((n + 1) * sizeof *members);
    memcpy(members, s->list, n * sizeof *members);
    s->n_list = 0;
    for (uint32_t i = 0; i < n; i++) enter(s, members[i], at_begin, true);
    for (uint32_t i = 0; i < s->n_list; i++) {
        yes |= s->nfa->s[s->list[i]].kind == NFA_ACCEPT;
        s->in[s->list[i]] = 0;
    }
    s->n_list = 0;
    free(members);
    return yes;
}

static void resize(struct subsets *s) {
    s->cap = s->cap ? s->cap * 2 : 16;
    s->members = xrealloc(s->members, s->cap * sizeof *s->members);
    s->n_members = xrealloc(s->n_members, s->cap * sizeof *s->n_members);
    s->a->accept = xrealloc(s->a->accept, s->cap * sizeof *s->a->accept);
    s->a->to = xrealloc(s->a->to, (size_t)s->cap * s->a->n_ranges * sizeof *s->a->to);
}

// The state for the set in s->list, which is emptied.
static uint32_t intern(struct subsets *s, bool at_begin) {
    qsort(s->list, s->n_list, sizeof *s->list, by_number);
    uint32_t i = (uint32_t)hash_bytes(s->list, s->n_list * sizeof *s->list, at_begin) & (s->n_slots - 1);
    for (; s->slots[i] != 0; i = (i + 1) & (s->n_slots - 1)) {
        uint32_t found = s->slots[i] - 1;
        bool same = s->n_members[found] == s->n_list && (found == 0) == at_begin &&
                    memcmp(s->members[found], s->list, s->n_list * sizeof *s->list) == 0;
        if (!same) continue;
        accepts(s, false);
        return found;
    }
    if (s->a->n_states == s->cap) resize(s);
    uint32_t state = s->a->n_states++;
    s->slots[i] = state + 1;
    s->members[state] = xmalloc((s->n_list + 1) * sizeof **s->members);
    memcpy(s->members[state], s->list, s->n_list * sizeof **s->members);
    s->n_members[state] = s->n_list;
    s->a->accept[state] = accepts(s, at_begin);
    return state;
}

static bool set_has(const struct ast *set, uint32_t cp) {
    for (uint32_t i = 0; i < set->n_ranges; i++)
        if (cp >= set->ranges[i].lo && cp <= set->ranges[i].hi) return true;
    return false;
}

static void find_ranges(const struct nfa *n, struct automaton *a) {
    uint32_t count = 1, *lo = xmalloc(sizeof *lo), cap = 1;
    lo[0] = 0;
    for (uint32_t i = 0; i < n->n; i++) {
        for (uint32_t k = 0; n->s[i].kind == NFA_SET && k < n->s[i].set->n_ranges; k++) {
            if (count + 2 > cap) lo = xrealloc(lo, (cap = cap * 2 + 2) * sizeof *lo);
            lo[count++] = n->s[i].set->ranges[k].lo;
            if (n->s[i].set->ranges[k].hi < CODE_POINT_MAX) lo[count++] = n->s[i].set->ranges[k].hi + 1;
        }
    }
    qsort(lo, count, sizeof *lo, by_number);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || lo[i] != lo[a->n_ranges - 1]) lo[a->n_ranges++] = lo[i];
    a->range_lo = lo;
}

static err_id determinise(struct subsets *s, uint32_t start, struct error *e) {
    enter(s, start, true, false);
    intern(s, true);
    for (uint32_t q = 0; q < s->a->n_states; q++) {
        for (uint32_t r = 0; r < s->a->n_ranges; r++) {
            for (uint32_t i = 0; i < s->n_members[q]; i++) {
                const struct nfa_state *x = &s->nfa->s[s->members[q][i]];
                if (x->kind == NFA_SET && set_has(x->set, s->a->range_lo[r])) enter(s, x->a, false, false);
            }
            uint32_t to = intern(s, false);
            s->a->to[(size_t)q * s->a->n_ranges + r] = to;
            if (s->a->n_states >= AUTOMATON_STATES_MAX || (size_t)s->a->n_states * s->a->n_ranges > AUTOMATON_CELLS_MAX)
                return too_large(e);
        }
    }
    return ERR_NONE;
}

static err_id from_nfa(const struct nfa *n, uint32_t start, struct automaton **out, struct error *e) {
    struct subsets s = {.nfa = n, .a = xcalloc(1, sizeof *s.a), .n_slots = 65536};
    s.slots = xcalloc(s.n_slots, sizeof *s.slots);
    s.in = xcalloc(n->n + 1, 1);
    s.list = xmalloc((n->n + 1) * sizeof *s.list);
    find_ranges(n, s.a);
    err_id id = determinise(&s, start, e);
    for (uint32_t i = 0; i < s.a->n_states; i++) free(s.members[i]);
    free(s.members);
    free(s.n_members);
    free(s.slots);
    free(s.in);
    free(s.list);
    if (id != ERR_NONE) automaton_free(s.a);
    *out = id == ERR_NONE ? s.a : NULL;
    return id;
}

err_id automaton_regex(const char *pattern, size_t len, bool search, struct automaton **out, struct error *e) {
    struct ast *tree;
    *out = NULL;
    TRY(regex_parse(pattern, len, &tree, e));
    struct code_range all = {0, CODE_POINT_MAX};
    struct ast any = {.kind = AST_SET, .ranges = &all, .n_ranges = 1};
    struct ast anything = {.kind = AST_REPEAT, .left = &any, .max = AST_UNBOUNDED};
    struct nfa n = {0};
    uint32_t start = nfa_add(&n, (struct nfa_state){.kind = NFA_ACCEPT, .a = NFA_NONE, .b = NFA_NONE});
    if (search) start = nfa_build(&n, &anything, start);
    start = nfa_build(&n, tree, start);
    if (search) start = nfa_build(&n, &anything, start);
    err_id id = n.n >= NFA_STATES_MAX ? too_large(e) : from_nfa(&n, start, out, e);
    free(n.s);
    ast_free(tree);
    return id;
}

// ---- operations ----

void automaton_negate(struct automaton *a) {
    for (uint32_t i = 0; i < a->n_states; i++) a->accept[i] = !a->accept[i];
}

static uint32_t range_of(const struct automaton *a, uint32_t cp) {
    uint32_t lo = 0, hi = a->n_ranges;
    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;
        if (a->range_lo[mid] <= cp)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

bool automaton_matches(const struct automaton *a, const char *text, size_t len) {
    uint32_t state = 0;
    for (size_t at = 0; at < len;) {
        uint32_t cp, n = utf8_read(text + at, len - at, &cp);
        if (n == 0) return false;
        state = a->to[(size_t)state * a->n_ranges + range_of(a, cp)];
        at += n;
    }
    return a->accept[state];
}

static uint32_t pair_of(struct automaton *out, uint64_t *pairs, uint32_t *slots, uint64_t pair) {
    uint32_t i = (uint32_t)(hash_mix(pair) % (4 * AUTOMATON_STATES_MAX));
    for (; slots[i] != 0; i = (i + 1) % (4 * AUTOMATON_STATES_MAX))
        if (pairs[slots[i] - 1] == pair) return slots[i] - 1;
    pairs[out->n_states] = pair;
    slots[i] = ++out->n_states;
    return out->n_states - 1;
}

err_id automaton_intersect(const struct automaton *a, const struct automaton *b, struct automaton **result,
                           struct error *e) {
    struct automaton *out = xcalloc(1, sizeof *out);
    uint64_t *pairs = xmalloc((AUTOMATON_STATES_MAX + 1) * sizeof *pairs);
    uint32_t *slots = xcalloc(4 * AUTOMATON_STATES_MAX, sizeof *slots), cap = 0, n = a->n_ranges + b->n_ranges;
    uint32_t *lo = xmalloc(n * sizeof *lo);
    memcpy(lo, a->range_lo, a->n_ranges * sizeof *lo);
    memcpy(lo + a->n_ranges, b->range_lo, b->n_ranges * sizeof *lo);
    qsort(lo, n, sizeof *lo, by_number);
    for (uint32_t i = 0; i < n; i++)
        if (i == 0 || lo[i] != lo[out->n_ranges - 1]) lo[out->n_ranges++] = lo[i];
    out->range_lo = lo;
    pair_of(out, pairs, slots, 0);
    bool fits = true;
    for (uint32_t q = 0; q < out->n_states && fits; q++) {
        if (q == cap) {
            cap = cap ? cap * 2 : 16;
            out->to = xrealloc(out->to, (size_t)cap * out->n_ranges * sizeof *out->to);
            out->accept = xrealloc(out->accept, cap * sizeof *out->accept);
        }
        uint32_t x = (uint32_t)(pairs[q] >> 32), y = (uint32_t)pairs[q];
        out->accept[q] = a->accept[x] && b->accept[y];
        for (uint32_t r = 0; r < out->n_ranges && fits; r++) {
            uint64_t to_x = a->to[(size_t)x * a->n_ranges + range_of(a, lo[r])];
            uint32_t to_y = b->to[(size_t)y * b->n_ranges + range_of(b, lo[r])];
            out->to[(size_t)q * out->n_ranges + r] = pair_of(out, pairs, slots, to_x << 32 | to_y);
            fits = out->n_states < AUTOMATON_STATES_MAX && (size_t)out->n_states * out->n_ranges < AUTOMATON_CELLS_MAX;
        }
    }
    free(pairs);
    free(slots);
    if (!fits) automaton_free(out);
    *result = fits ? out : NULL;
    return fits ? ERR_NONE : too_large(e);
}

// States from which an accepting one can be reached.
static bool *alive_states(const struct automaton *a) {
    bool *alive = xcalloc(a->n_states + 1, sizeof *alive);
    memcpy(alive, a->accept, a->n_states * sizeof *alive);
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t q = a->n_states; q-- > 0;)
            for (uint32_t r = 0; r < a->n_ranges && !alive[q]; r++)
                if (alive[a->to[(size_t)q * a->n_ranges + r]]) alive[q] = changed = true;
    }
    return alive;
}

bool automaton_empty(const struct automaton *a) {
    bool *alive = alive_states(a), empty = !alive[0];
    free(alive);
    return empty;
}

// ---- as bytes ----

struct emitter {
    struct network *net;
    uint32_t from, to; // of the edge at hand
};

static void emit_sequence(void *ctx, const struct utf8_sequence *s) {
    struct emitter *m = ctx;
    uint32_t at = m->from;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t next = i + 1 == s->n ? m->to : network_node(m->net);
        network_byte(m->net, at, s->lo[i], s->hi[i], next);
        at = next;
    }
}

static void emit_escape(struct emitter *m, uint32_t cp) {
    static const char FROM[] = "\"\\\b\f\n\r\t", TO[] = "\"\\bfnrt";
    char text[8] = "\\", hex[] = "0123456789abcdef";
    const char *simple = cp != 0 ? strchr(FROM, (int)cp) : NULL;
    size_t len = 2;
    if (simple != NULL) {
        text[1] = TO[simple - FROM];
    } else {
        memcpy(text + 1, "u00", 3);
        text[4] = hex[cp >> 4];
        text[5] = hex[cp & 15];
        len = 6;
    }
    network_text(m->net, m->from, text, len, m->to);
}

static void emit_range(struct emitter *m, uint32_t lo, uint32_t hi, bool json) {
    while (json && lo <= hi && lo <= '\\') { // one by one where some need an escape
        if (lo < 0x20 || lo == '"' || lo == '\\')
            emit_escape(m, lo);
        else
            network_byte(m->net, m->from, (uint8_t)lo, (uint8_t)lo, m->to);
        lo++;
    }
    if (lo <= hi) utf8_ranges(lo, hi, emit_sequence, m);
}

// Any plain character comes back here: then all plain tokens do.
static bool is_free(const struct automaton *a, uint32_t q) {
    for (uint32_t r = 0; r < a->n_ranges; r++) {
        uint32_t lo = a->range_lo[r], hi = r + 1 < a->n_ranges ? a->range_lo[r + 1] - 1 : CODE_POINT_MAX;
        bool plain = hi >= 0x20 && !(lo == hi && (lo == '"' || lo == '\\'));
        if (plain && a->to[(size_t)q * a->n_ranges + r] != q) return false;
    }
    return true;
}

void automaton_emit(const struct automaton *a, bool json, struct network *net, uint32_t from, uint32_t to) {
    bool *alive = alive_states(a);
    uint32_t *node = xcalloc(a->n_states + 1, sizeof *node);
    for (uint32_t q = 0; q < a->n_states; q++) node[q] = alive[q] ? network_node(net) : NET_NONE;
    if (alive[0]) network_jump(net, from, node[0]);
    for (uint32_t q = 0; q < a->n_states && !net->over; q++) {
        if (!alive[q]) continue;
        if (a->accept[q]) network_jump(net, node[q], to);
        if (is_free(a, q)) net->nodes[node[q]].free = FREE_ALWAYS;
        for (uint32_t r = 0; r < a->n_ranges; r++) {
            uint32_t target = node[a->to[(size_t)q * a->n_ranges + r]], lo = a->range_lo[r];
            while (r + 1 < a->n_ranges && node[a->to[(size_t)q * a->n_ranges + r + 1]] == target) r++;
            uint32_t hi = r + 1 < a->n_ranges ? a->range_lo[r + 1] - 1 : CODE_POINT_MAX;
            struct emitter m = {.net = net, .from = node[q], .to = target};
            if (target != NET_NONE) emit_range(&m, lo, hi, json);
        }
    }
    free(alive);
    free(node);
}
