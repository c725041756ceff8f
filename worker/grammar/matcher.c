// Following all ways at once. Stacks are linked frames, each of which exists once, so that ways compare as two numbers; the
// frames of a trial are dropped in the reverse order of their making.
#include "worker/grammar/matcher.h"
#include "common/base/check.h"
#include "common/base/hash.h"
#include <stdlib.h>
#include <string.h>

enum { FRAMES_KEPT = 2048 }; // more are gone through for those still in use

static void push_way(struct ways *w, struct way way) {
    if (w->n == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 64;
        w->list = xrealloc(w->list, w->cap * sizeof *w->list);
    }
    w->list[w->n++] = way;
}

// ---- stacks ----

// Equal for all counts that no single token can tell apart.
static uint32_t count_class(const struct matcher *m, const struct net_node *n, uint32_t count) {
    uint32_t far = m->token_bytes_max + 2;
    bool far_from_max = n->max == NET_UNBOUNDED || n->max > (uint64_t)count + far;
    if (!far_from_max) return count;
    if (count >= n->min) return n->min;
    return n->min - count > far ? 0 : count;
}

static uint64_t own_hash(const struct matcher *m, uint32_t ret, uint32_t count) {
    const struct net_node *n = &m->net->nodes[ret];
    uint32_t c = n->body != NET_NONE ? count_class(m, n, count) : 0;
    return hash_mix(((uint64_t)ret << 32 | c) + 1);
}

static uint32_t bucket_of(uint32_t parent, uint32_t ret, uint32_t count) {
    return (uint32_t)hash_mix(((uint64_t)parent << 32 | ret) + (uint64_t)count * UINT64_C(0x9E3779B97F4A7C15)) %
           MATCHER_BUCKETS;
}

// The frame (parent, ret, count): the one there is, or a new one.
static uint32_t frame_of(struct matcher *m, uint32_t parent, uint32_t ret, uint32_t count) {
    uint32_t b = bucket_of(parent, ret, count);
    for (uint32_t f = m->buckets[b]; f != 0; f = m->frames[f].chain) {
        const struct frame *x = &m->frames[f];
        if (x->parent == parent && x->ret == ret && x->count == count) return f;
    }
    if (m->n_frames == m->cap_frames) {
        m->cap_frames *= 2;
        m->frames = xrealloc(m->frames, m->cap_frames * sizeof *m->frames);
    }
    uint64_t own = own_hash(m, ret, count);
    m->frames[m->n_frames] = (struct frame){.parent = parent,
                                            .ret = ret,
                                            .count = count,
                                            .depth = m->frames[parent].depth + 1,
                                            .chain = m->buckets[b],
                                            .own = own,
                                            .hash = hash_mix(m->frames[parent].hash * 31 + own)};
    m->buckets[b] = m->n_frames;
    return m->n_frames++;
}

uint32_t matcher_mark(const struct matcher *m) { return m->n_frames; }

void matcher_release(struct matcher *m, uint32_t mark) {
    while (m->n_frames > mark) { // the newest is at the head of its chain
        const struct frame *f = &m->frames[--m->n_frames];
        m->buckets[bucket_of(f->parent, f->ret, f->count)] = f->chain;
    }
}

// Keeps only the frames that the present ways stand on.
static void sweep(struct matcher *m) {
    struct frame *old = m->frames;
    uint32_t *moved = xcalloc(m->n_frames, sizeof *moved), n_old = m->n_frames;
    bool *used = xcalloc(m->n_frames, sizeof *used);
    for (uint32_t i = 0; i < m->now.n; i++)
        for (uint32_t f = m->now.list[i].frame; f != 0 && !used[f]; f = old[f].parent) used[f] = true;
    m->frames = xmalloc(m->cap_frames * sizeof *m->frames);
    m->frames[0] = old[0];
    m->n_frames = 1;
    memset(m->buckets, 0, sizeof m->buckets);
    for (uint32_t f = 1; f < n_old; f++) // parents come before their children
        if (used[f]) moved[f] = frame_of(m, moved[old[f].parent], old[f].ret, old[f].count);
    for (uint32_t i = 0; i < m->now.n; i++) m->now.list[i].frame = moved[m->now.list[i].frame];
    free(old);
    free(moved);
    free(used);
}

// ---- what takes no byte ----

static bool visit(struct matcher *m, uint32_t node, uint32_t frame) {
    for (uint32_t i = 0; i < m->visited.n; i++)
        if (m->visited.list[i].node == node && m->visited.list[i].frame == frame) return false;
    if (m->visited.n >= 4 * MATCHER_WAYS_MAX) return m->overflow = true, false;
    push_way(&m->visited, (struct way){node, frame});
    return true;
}

static void call(struct matcher *m, uint32_t callee, uint32_t frame, uint32_t ret, uint32_t count) {
    const struct net_node *r = &m->net->nodes[ret];
    bool tail = r->final && r->n_edges == 0 && r->n_links == 0 && r->body == NET_NONE && frame != 0;
    if (tail) {
        visit(m, callee, frame);
    } else if (m->frames[frame].depth < MATCHER_DEPTH_MAX) {
        visit(m, callee, frame_of(m, frame, ret, count));
    }
}

static void count_on(struct matcher *m, const struct net_node *counter, uint32_t at, uint32_t frame, uint32_t count) {
    if (count < counter->max) call(m, counter->body, frame, at, count == NET_UNBOUNDED - 1 ? count : count + 1);
    if (count >= counter->min) visit(m, counter->next, frame);
}

static void follow(struct matcher *m, struct way w) {
    const struct net_node *n = &m->net->nodes[w.node];
    for (uint32_t i = 0; i < n->n_links; i++) {
        const struct net_link *l = &m->net->links[n->links + i];
        if (l->callee == NET_NONE) {
            visit(m, l->to, w.frame);
        } else {
            call(m, l->callee, w.frame, l->to, 0);
        }
    }
    if (n->body != NET_NONE) count_on(m, n, w.node, w.frame, 0);
    if (!n->final || w.frame == 0) return;
    struct frame f = m->frames[w.frame];
    if (f.depth < m->lowest) m->lowest = f.depth;
    const struct net_node *r = &m->net->nodes[f.ret];
    if (r->body != NET_NONE) {
        count_on(m, r, f.ret, f.parent, f.count);
    } else {
        visit(m, f.ret, f.parent);
    }
}

static bool waits(const struct net_node *n, uint32_t frame) { return n->n_edges > 0 || (n->final && frame == 0); }

static void add(struct matcher *m, struct ways *out, uint32_t first, struct way w) {
    for (uint32_t i = first; i < out->n; i++)
        if (out->list[i].node == w.node && out->list[i].frame == w.frame) return;
    if (out->n - first >= MATCHER_WAYS_MAX) {
        m->overflow = true;
        return;
    }
    push_way(out, w);
}

// Appends all that can be reached from (node, frame) without a byte and waits for one.
static void arrive(struct matcher *m, uint32_t node, uint32_t frame, struct ways *out, uint32_t first) {
    const struct net_node *n = &m->net->nodes[node];
    if (n->n_links == 0 && !n->final && n->body == NET_NONE) { // most often
        add(m, out, first, (struct way){node, frame});
        return;
    }
    m->visited.n = 0;
    visit(m, node, frame);
    for (uint32_t i = 0; i < m->visited.n; i++) {
        struct way w = m->visited.list[i];
        follow(m, w);
        if (waits(&m->net->nodes[w.node], w.frame)) add(m, out, first, w);
    }
}

void matcher_step(struct matcher *m, struct way from, uint8_t byte, struct ways *out, uint32_t out_first) {
    const struct net_node *n = &m->net->nodes[from.node];
    const struct net_edge *e = &m->net->edges[n->edges];
    for (uint32_t i = 0; i < n->n_edges; i++)
        if (byte >= e[i].lo && byte <= e[i].hi) arrive(m, e[i].to, from.frame, out, out_first);
}

// ---- the text so far ----

void matcher_init(struct matcher *m, const struct network *net, uint32_t token_bytes_max) {
    *m = (struct matcher){.net = net, .token_bytes_max = token_bytes_max, .n_frames = 1, .cap_frames = 64};
    m->frames = xcalloc(m->cap_frames, sizeof *m->frames);
    arrive(m, net->start, 0, &m->now, 0);
}

void matcher_fini(struct matcher *m) {
    free(m->frames);
    free(m->now.list);
    free(m->next.list);
    free(m->visited.list);
    *m = (struct matcher){0};
}

bool matcher_push(struct matcher *m, const char *bytes, size_t len) {
    struct ways before = {0};
    for (uint32_t i = 0; i < m->now.n; i++) push_way(&before, m->now.list[i]);
    for (size_t at = 0; at < len; at++) {
        m->next.n = 0;
        for (uint32_t i = 0; i < m->now.n; i++) matcher_step(m, m->now.list[i], (uint8_t)bytes[at], &m->next, 0);
        struct ways spare = m->now;
        m->now = m->next;
        m->next = spare;
        if (m->now.n > 0) continue;
        free(m->now.list);
        m->now = before;
        return false;
    }
    free(before.list);
    if (m->n_frames > FRAMES_KEPT) sweep(m);
    return true;
}

bool matcher_complete(const struct matcher *m) {
    for (uint32_t i = 0; i < m->now.n; i++)
        if (m->now.list[i].frame == 0 && m->net->nodes[m->now.list[i].node].final) return true;
    return false;
}

bool matcher_ended(const struct matcher *m) {
    if (!matcher_complete(m)) return false;
    for (uint32_t i = 0; i < m->now.n; i++)
        if (m->net->nodes[m->now.list[i].node].n_edges > 0) return false;
    return true;
}
