// Design notes. A mask is found by walking the vocabulary's trie with the set of ways at every depth. It is kept by (node,
// the nearest frames), or by the whole stack when some token returns through more frames than that.
#include "worker/grammar/mask.h"
#include "common/base/check.h"
#include "common/base/hash.h"
#include <stdlib.h>
#include <string.h>

enum { FRAMES_LOOKED_AT = 4 };

struct kept {
    uint64_t key;
    bool used, deep; // deep: tokens return through more than FRAMES_LOOKED_AT frames, look by the whole stack
    uint32_t *mask;  // owned; NULL when deep
};

struct mask_cache {
    const struct vocabulary *v;
    struct kept *slots; // open addressing
    uint32_t n, cap;
    size_t bytes, bytes_max;
    struct ways walk; // scratch: the ways at every depth of the trie, one behind the other
    uint32_t *first;  // [bytes_max + 2] where those of a depth begin
};

struct mask_cache *mask_cache_create(const struct vocabulary *v, size_t bytes_max) {
    struct mask_cache *c = xcalloc(1, sizeof *c);
    c->v = v;
    c->bytes_max = bytes_max;
    c->cap = 64;
    c->slots = xcalloc(c->cap, sizeof *c->slots);
    c->first = xcalloc(v->bytes_max + 2, sizeof *c->first);
    return c;
}

static void forget_all(struct mask_cache *c) {
    for (uint32_t i = 0; i < c->cap; i++) free(c->slots[i].mask);
    memset(c->slots, 0, c->cap * sizeof *c->slots);
    c->n = 0;
    c->bytes = 0;
}

void mask_cache_destroy(struct mask_cache *c) {
    if (c == NULL) return;
    forget_all(c);
    free(c->slots);
    free(c->walk.list);
    free(c->first);
    free(c);
}

size_t mask_cache_bytes(const struct mask_cache *c) { return c->bytes + c->cap * sizeof *c->slots; }

static struct kept *slot_of(struct mask_cache *c, uint64_t key) {
    uint32_t i = (uint32_t)key & (c->cap - 1);
    while (c->slots[i].used && c->slots[i].key != key) i = (i + 1) & (c->cap - 1);
    return &c->slots[i];
}

static void grow(struct mask_cache *c) {
    struct kept *old = c->slots;
    uint32_t old_cap = c->cap;
    c->cap *= 2;
    c->slots = xcalloc(c->cap, sizeof *c->slots);
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i].used) *slot_of(c, old[i].key) = old[i];
    free(old);
}

// What doesn't fit begins anew: simpler than an order of use, and what is in use is back within a few tokens.
static struct kept *keep(struct mask_cache *c, uint64_t key) {
    if (c->bytes + c->v->words * sizeof(uint32_t) > c->bytes_max) forget_all(c);
    if (c->n * 2 >= c->cap) grow(c);
    struct kept *k = slot_of(c, key);
    if (!k->used) c->n++;
    k->used = true;
    k->key = key;
    return k;
}

static uint64_t near_key(const struct matcher *m, struct way w) {
    uint32_t f = w.frame, depth = m->frames[f].depth;
    uint64_t h = hash_mix((uint64_t)w.node + 1 + ((uint64_t)(depth > MATCHER_DEPTH_MAX / 2 ? depth : 0) << 32));
    for (uint32_t i = 0; i < FRAMES_LOOKED_AT && f != 0; i++, f = m->frames[f].parent) {
        const struct frame *x = &m->frames[f];
        h = hash_mix(h * 31 + x->own + 1);
    }
    return h * 2 + (f == 0); // the bottom can be seen, or not
}

static uint64_t whole_key(const struct matcher *m, struct way w) {
    return hash_mix(m->frames[w.frame].hash + hash_mix(w.node + UINT64_C(0x5bd1e995)));
}

// ---- the walk ----

static void set_tokens(const struct trie *t, const struct trie_node *n, uint32_t *mask) {
    for (uint32_t i = 0; i < n->n_tokens; i++) {
        uint32_t id = t->tokens[n->first_token + i];
        mask[id / 32] |= UINT32_C(1) << id % 32;
    }
}

static void walk(struct mask_cache *c, struct matcher *m, struct way from, const struct trie *t, uint32_t *mask) {
    c->walk.n = 0;
    if (c->walk.cap == 0) c->walk = (struct ways){xmalloc(64 * sizeof(struct way)), 0, 64};
    c->walk.list[c->walk.n++] = from;
    c->first[0] = 0;
    c->first[1] = 1;
    for (uint32_t i = 0; i < t->n_nodes;) {
        const struct trie_node *n = &t->nodes[i];
        uint32_t begin = c->first[n->depth], end = c->first[n->depth + 1];
        c->walk.n = end;
        for (uint32_t k = begin; k < end; k++) matcher_step(m, c->walk.list[k], n->byte, &c->walk, end);
        if (c->walk.n == end) {
            i = n->skip;
            continue;
        }
        c->first[n->depth + 2] = c->walk.n;
        set_tokens(t, n, mask);
        i++;
    }
}

// The plain tokens all at once where they are all right; then the rest. Else all one by one.
static void find(struct mask_cache *c, struct matcher *m, struct way from, uint32_t *mask) {
    const struct vocabulary *v = c->v;
    const struct net_node *n = &m->net->nodes[from.node];
    const struct frame *f = &m->frames[from.frame];
    bool counted = n->free == FREE_COUNTED && from.frame != 0 && m->net->nodes[f->ret].body != NET_NONE;
    memset(mask, 0, v->words * sizeof *mask);
    if (n->free == FREE_ALWAYS) {
        memcpy(mask, v->plain_mask, v->words * sizeof *mask);
    } else if (counted) {
        uint32_t max = m->net->nodes[f->ret].max, left = max == NET_UNBOUNDED ? v->chars_max : max - f->count + 1;
        if (left >= v->chars_max) {
            memcpy(mask, v->plain_mask, v->words * sizeof *mask);
        } else {
            for (uint32_t i = 0; i < v->plain_end[left]; i++) mask[v->plain[i] / 32] |= UINT32_C(1) << v->plain[i] % 32;
        }
    }
    walk(c, m, from, n->free == FREE_ALWAYS || counted ? &v->rest : &v->all, mask);
}

static const uint32_t *mask_of(struct mask_cache *c, struct matcher *m, struct way w) {
    uint64_t key = near_key(m, w);
    struct kept *k = slot_of(c, key);
    if (k->used && k->deep) k = slot_of(c, key = whole_key(m, w));
    if (k->used) return k->mask;
    uint32_t depth = m->frames[w.frame].depth, mark = matcher_mark(m), *mask = xmalloc((c->v->words + 1) * sizeof *mask);
    m->lowest = UINT32_MAX;
    find(c, m, w, mask);
    matcher_release(m, mark);
    bool deep = depth > FRAMES_LOOKED_AT && m->lowest <= depth - FRAMES_LOOKED_AT;
    if (deep && key != whole_key(m, w)) {
        k = keep(c, key);
        k->deep = true;
        key = whole_key(m, w);
    }
    k = keep(c, key);
    k->mask = mask;
    c->bytes += c->v->words * sizeof *mask;
    return mask;
}

bool mask_fill(struct mask_cache *c, struct matcher *m, uint32_t *mask) {
    memset(mask, 0, c->v->words * sizeof *mask);
    for (uint32_t i = 0; i < m->now.n; i++) {
        const uint32_t *one = mask_of(c, m, m->now.list[i]);
        for (uint32_t w = 0; w < c->v->words; w++) mask[w] |= one[w];
    }
    return !m->overflow;
}
