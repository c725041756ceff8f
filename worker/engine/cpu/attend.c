// Queries against the cache. Runs of up to ATTEND_ROWS queries go through a segment together: the heads that share a cache
// head, and tokens that follow each other in one sequence.
//
// A query's context is cut into segments of 256 positions, always at multiples of 256, merged in ascending order. With few
// queries, threads share the segments; with many, each takes whole queries; the merge is the same.
#include <math.h>
#include "worker/engine/cpu/forward.h"

struct pass {
    struct forward *f;
    const struct attention_spec *a;
    const struct cache_layer *cache;
    const struct vectors *q;
    uint32_t group;    // query heads per cache head
    uint32_t heads;    // of them in a unit
    uint32_t chunks;   // units per cache head and span
    uint32_t spans;    // of tokens
    uint32_t segments; // most that any query has
};

// A unit: a span of tokens, one cache head, one chunk of its query heads.
struct unit {
    uint32_t token, tokens, cache_head, first_head, heads; // first_head: among all query heads
    uint32_t begin, end;                                   // positions that they see together
};

// What a row sees of the positions before it.
static uint32_t sees_from(const struct pass *p, uint32_t pos) {
    return p->a->window > 0 && pos + 1 > p->a->window ? pos + 1 - p->a->window : 0;
}

static struct unit unit_of(const struct pass *p, uint32_t u) {
    uint32_t each = p->cache->heads * p->chunks, span = u / each, chunk = u % each % p->chunks;
    struct unit x = {.token = p->f->span[span], .cache_head = u % each / p->chunks};
    x.tokens = p->f->span[span + 1] - x.token;
    x.first_head = x.cache_head * p->group + chunk * p->heads;
    x.heads = p->group - chunk * p->heads < p->heads ? p->group - chunk * p->heads : p->heads;
    x.end = p->f->pos[x.token + x.tokens - 1] + 1;
    x.begin = sees_from(p, p->f->pos[x.token]);
    return x;
}

// Running or partial results of a unit's rows, token by token.
struct part {
    float *max, *sum, *out; // [rows], [rows], [rows][v_padded]
};

size_t attend_part(size_t v_padded) { return v_padded + 2; }

size_t attend_scratch(size_t k_dim, size_t v_padded) {
    return ATTEND_ROWS * (SEGMENT_TOKENS + 2 * attend_part(v_padded)) + k_dim * CACHE_GROUP;
}

static struct part part_at(float *memory) {
    return (struct part){memory, memory + ATTEND_ROWS, memory + (size_t)2 * ATTEND_ROWS};
}

static uint32_t clamp(uint32_t x, uint32_t low, uint32_t high) { return x < low ? low : x > high ? high : x; }

// The unit's rows with what they see of a segment.
static uint32_t fill_rows(const struct pass *p, const struct unit *u, uint32_t segment, struct attend_row *rows) {
    uint32_t first = segment * SEGMENT_TOKENS, last = first + SEGMENT_TOKENS, n = 0;
    for (uint32_t t = u->token; t < u->token + u->tokens; t++) {
        uint32_t begin = clamp(sees_from(p, p->f->pos[t]), first, last), end = clamp(p->f->pos[t] + 1, begin, last);
        for (uint32_t h = 0; h < u->heads; h++) {
            const float *q = p->q->f + t * p->q->ld + (size_t)(u->first_head + h) * p->cache->k_dim;
            rows[n++] = (struct attend_row){q, begin, end};
        }
    }
    return n;
}

static void attend_segment(const struct pass *p, const struct unit *u, uint32_t segment, float *scratch, struct part out) {
    const struct forward *f = p->f;
    uint32_t first = segment * SEGMENT_TOKENS;
    struct attend_row rows[ATTEND_ROWS];
    struct attend_call c = {
        .rows = rows,
        .n_rows = fill_rows(p, u, segment, rows),
        .begin = clamp(u->begin, first, first + SEGMENT_TOKENS),
        .end = clamp(u->end, first, first + SEGMENT_TOKENS),
        .k_dim = p->cache->k_dim,
        .v_dim = p->cache->v_padded,
        .scale = p->a->scale,
        .k = p->cache->k + u->cache_head * p->cache->k_head,
        .v = p->cache->v + u->cache_head * p->cache->v_head,
        .k_stride = p->cache->k_stride,
        .v_stride = p->cache->v_stride,
        .v_ld = p->cache->v_ld,
        .by_token = p->cache->mla,
        .table = f->table[u->token],
        .block_tokens = f->cache->block_tokens,
        .scores = scratch,
        .keys = scratch + ATTEND_ROWS * (SEGMENT_TOKENS + 2 * attend_part(p->cache->v_padded)),
        .max = out.max,
        .sum = out.sum,
        .out = out.out,
    };
    f->kernels->attend(&c);
}

static void merge_start(const struct pass *p, const struct unit *u, struct part run) {
    uint32_t rows = u->tokens * u->heads;
    for (uint32_t r = 0; r < rows; r++) {
        run.max[r] = -INFINITY;
        run.sum[r] = 0;
    }
    for (uint32_t i = 0; i < rows * p->cache->v_padded; i++) run.out[i] = 0;
}

static void merge_part(const struct pass *p, const struct unit *u, uint32_t segment, struct part part, struct part run) {
    uint32_t v = p->cache->v_padded, first = segment * SEGMENT_TOKENS;
    for (uint32_t t = 0, r = 0; t < u->tokens; t++) {
        uint32_t pos = p->f->pos[u->token + t];
        bool sees = pos >= first && sees_from(p, pos) < first + SEGMENT_TOKENS;
        for (uint32_t h = 0; h < u->heads; h++, r++) {
            if (!sees) continue;
            p->f->kernels->merge(part.max[r], part.sum[r], part.out + r * v, v, &run.max[r], &run.sum[r], run.out + r * v);
        }
    }
}

static void finish(const struct pass *p, const struct unit *u, struct part run) {
    struct forward *f = p->f;
    for (uint32_t t = 0, r = 0; t < u->tokens; t++) {
        size_t at = (u->token + t) * f->attended.ld + (size_t)u->first_head * p->cache->v_dim;
        for (uint32_t h = 0; h < u->heads; h++, r++, at += p->cache->v_dim) {
            f->kernels->divide(run.out + r * p->cache->v_padded, run.sum[r], p->cache->v_dim, f->attended.f + at);
            f->kernels->pack(f->attended.f + at, p->cache->v_dim, f->attended.packed + at);
        }
    }
}

static float *scratch_of(const struct pass *p, uint32_t thread) { return p->f->scratch + thread * p->f->scratch_each; }
static struct part scratch_part(const struct pass *p, uint32_t thread, uint32_t which) {
    return part_at(scratch_of(p, thread) + ATTEND_ROWS * (SEGMENT_TOKENS + which * attend_part(p->cache->v_padded)));
}

static void whole_units(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct pass *p = context;
    struct part part = scratch_part(p, thread, 0), run = scratch_part(p, thread, 1);
    for (uint32_t i = begin; i < end; i++) {
        struct unit u = unit_of(p, i);
        merge_start(p, &u, run);
        for (uint32_t s = u.begin / SEGMENT_TOKENS; s * SEGMENT_TOKENS < u.end; s++) {
            attend_segment(p, &u, s, scratch_of(p, thread), part);
            merge_part(p, &u, s, part, run);
        }
        finish(p, &u, run);
    }
}

static uint32_t unit_rows(const struct pass *p) {
    return p->heads * (p->spans < p->f->n_tokens ? ATTEND_ROWS / p->heads : 1);
}

static struct part shared_part(const struct pass *p, uint32_t unit, uint32_t segment) {
    size_t rows = unit_rows(p), each = rows * attend_part(p->cache->v_padded);
    float *at = p->f->parts + ((size_t)unit * p->segments + segment) * each;
    return (struct part){at, at + rows, at + 2 * rows};
}

static void shared_segments(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct pass *p = context;
    for (uint32_t i = begin; i < end; i++) {
        struct unit u = unit_of(p, i / p->segments);
        uint32_t s = i % p->segments;
        if (s < u.begin / SEGMENT_TOKENS || s * SEGMENT_TOKENS >= u.end) continue;
        attend_segment(p, &u, s, scratch_of(p, thread), shared_part(p, i / p->segments, s));
    }
}

static void merge_units(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct pass *p = context;
    struct part run = scratch_part(p, thread, 1);
    for (uint32_t i = begin; i < end; i++) {
        struct unit u = unit_of(p, i);
        merge_start(p, &u, run);
        for (uint32_t s = u.begin / SEGMENT_TOKENS; s * SEGMENT_TOKENS < u.end; s++) {
            merge_part(p, &u, s, shared_part(p, i, s), run);
        }
        finish(p, &u, run);
    }
}

// Cuts the batch into spans: tokens that follow each other in one sequence, as many as their heads leave room for.
static void cut_spans(struct pass *p) {
    struct forward *f = p->f;
    uint32_t most = ATTEND_ROWS / p->heads, first = 0;
    p->spans = 0;
    for (uint32_t t = 0; t < f->n_tokens; t++) {
        bool follows = t > 0 && f->table[t] == f->table[t - 1] && f->pos[t] == f->pos[t - 1] + 1;
        if (follows && t - first < most) continue;
        f->span[p->spans++] = first = t;
    }
    f->span[p->spans] = f->n_tokens;
}

void attend_run(struct forward *f, const struct attention_spec *a, const struct cache_layer *cache,
                const struct vectors *q) {
    struct pass p = {.f = f, .a = a, .cache = cache, .q = q, .group = a->heads / cache->heads};
    p.heads = p.group < ATTEND_ROWS ? p.group : ATTEND_ROWS;
    p.chunks = (p.group + p.heads - 1) / p.heads;
    cut_spans(&p);
    uint32_t units = p.spans * cache->heads * p.chunks, most = 0, threads = pool_threads(f->pool);
    for (uint32_t t = 0; t < f->n_tokens; t++) most = f->pos[t] > most ? f->pos[t] : most;
    p.segments = most / SEGMENT_TOKENS + 1;
    if (p.segments > 1 && units < 2 * threads && units * unit_rows(&p) <= f->parts_rows) {
        pool_for(f->pool, units * p.segments, 1, shared_segments, &p);
        pool_for(f->pool, units, 1, merge_units, &p);
    } else {
        pool_for(f->pool, units, units / (8 * threads) + 1, whole_units, &p);
    }
}
