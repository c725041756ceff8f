// The kernels, written over 16-lane vectors; a file per instruction set includes simd_<set>.h, defines KERNELS and
// KERNELS_NAME, and includes this. See kernels.h for what they compute and for the layouts.
//
// Why the bits are the same everywhere: vdpbf16ps is fma(odd), then fma(even), rounded each time and with denormals flushed,
// which the others spell out; everything else is single IEEE operations or explicit fma in one order. Tiles only choose how
// many independent chains run side by side.
#include <math.h>
#include <string.h>
#include "worker/engine/cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))

static vf load_n(const float *p, uint32_t n) {
    float f[16] = {0};
    memcpy(f, p, n * sizeof *f);
    return v_load(f);
}
INLINE vf load_upto(const float *p, uint32_t n) { return n >= 16 ? v_load(p) : load_n(p, n); }
INLINE void store_upto(float *p, vf v, uint32_t n) {
    if (n >= 16) {
        v_store(p, v);
        return;
    }
    float f[16];
    v_store(f, v);
    memcpy(p, f, n * sizeof *f);
}

// Lanes added as a tree: i with i + 8, then + 4, + 2, + 1.
static float sum_lanes(vf v) {
    float f[16];
    v_store(f, v);
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) f[i] += f[i + half];
    }
    return f[0];
}
static float max_lanes(vf v) {
    float f[16], m;
    v_store(f, v);
    m = f[0];
    for (int i = 1; i < 16; i++) m = m > f[i] ? m : f[i]; // a NaN wins
    return m;
}

// exp within 2 units in the last place: 2^n * p(r), r = x - n ln 2; x is held to [-87, 88], NaN stays NaN.
INLINE vf v_exp(vf x) {
    x = v_min(v_set(88), v_max(v_set(-87), x)); // on NaN both give their second operand
    vf t = v_fma(x, v_set(0x1.715476p0f), v_set(0x1.8p23f));
    vf n = v_sub(t, v_set(0x1.8p23f));
    vf r = v_fma(n, v_set(-0x1.62e400p-1f), x);
    r = v_fma(n, v_set(-0x1.7f7d1cp-20f), r);
    vf p = v_set(0x1.6c16c2p-10f); // 1/6!
    p = v_fma(p, r, v_set(0x1.111112p-7f));
    p = v_fma(p, r, v_set(0x1.555556p-5f));
    p = v_fma(p, r, v_set(0x1.555556p-3f));
    p = v_fma(p, r, v_set(0.5f));
    p = v_fma(p, r, v_set(1));
    p = v_fma(p, r, v_set(1));
    return v_scale2(p, t);
}

// ---- matrix products ----

enum { TILE_ROWS_MAX = 6 };

struct tile {
    const void *w;
    size_t panel; // words or floats from panel to panel
    const void *x[TILE_ROWS_MAX];
    float *out[TILE_ROWS_MAX];
    uint32_t k, n; // n: columns from the first panel's on
    const float *bias;
};

INLINE void store_tile(const struct tile *t, const vf *acc, int panels, int rows) {
    for (int p = 0; p < panels; p++) {
        uint32_t left = t->n - 16 * (uint32_t)p;
        for (int r = 0; r < rows; r++) {
            vf v = acc[p * rows + r];
            if (t->bias != NULL) v = v_add(v, load_upto(t->bias + 16 * p, left));
            store_upto(t->out[r] + 16 * p, v, left);
        }
    }
}

INLINE void tile_bf16(const struct tile *t, const int panels, const int rows) {
    vf acc[24];
#pragma GCC unroll 32
    for (int i = 0; i < panels * rows; i++) acc[i] = v_zero();
    const uint32_t *w = t->w;
    for (uint32_t k = 0; k < t->k / 2; k++) {
        vu wv[GEMM_PANELS_THIN > GEMM_PANELS ? GEMM_PANELS_THIN : GEMM_PANELS];
#pragma GCC unroll 8
        for (int p = 0; p < panels; p++) wv[p] = v_loadu(w + p * t->panel + (size_t)k * 16);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const uint32_t *x = (const uint32_t *)t->x[r] + 2 * (size_t)k;
            vu hi = v_setu(x[0]), lo = v_setu(x[1]);
#pragma GCC unroll 8
            for (int p = 0; p < panels; p++) acc[p * rows + r] = v_dot2(acc[p * rows + r], wv[p], hi);
#pragma GCC unroll 8
            for (int p = 0; p < panels; p++) acc[p * rows + r] = v_dot2(acc[p * rows + r], wv[p], lo);
        }
    }
    store_tile(t, acc, panels, rows);
}

INLINE void tile_f32(const struct tile *t, const int panels, const int rows) {
    vf acc[24];
#pragma GCC unroll 32
    for (int i = 0; i < panels * rows; i++) acc[i] = v_zero();
    const float *w = t->w;
    for (uint32_t k = 0; k < t->k; k++) {
        vf wv[GEMM_PANELS_THIN > GEMM_PANELS ? GEMM_PANELS_THIN : GEMM_PANELS];
#pragma GCC unroll 8
        for (int p = 0; p < panels; p++) wv[p] = v_load(w + p * t->panel + (size_t)k * 16);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vf x = v_set(((const float *)t->x[r])[k]);
#pragma GCC unroll 8
            for (int p = 0; p < panels; p++) acc[p * rows + r] = v_fma(wv[p], x, acc[p * rows + r]);
        }
    }
    store_tile(t, acc, panels, rows);
}

typedef void tile_fn(const struct tile *t);
#define TILE(name, kind, panels, rows)                                                                                      \
    static void name(const struct tile *t) { tile_##kind(t, panels, rows); }
#define TILES(kind)                                                                                                         \
    TILE(kind##_1, kind, GEMM_PANELS, 1)                                                                                    \
    TILE(kind##_2, kind, GEMM_PANELS, 2)                                                                                    \
    TILE(kind##_3, kind, GEMM_PANELS, 3)                                                                                    \
    TILE(kind##_4, kind, GEMM_PANELS, 4)                                                                                    \
    TILE(kind##_5, kind, GEMM_PANELS, 5)                                                                                    \
    TILE(kind##_6, kind, GEMM_PANELS, 6)                                                                                    \
    TILE(kind##_last_1, kind, 1, 1)                                                                                         \
    TILE(kind##_last_2, kind, 1, 2)                                                                                         \
    TILE(kind##_last_3, kind, 1, 3)                                                                                         \
    TILE(kind##_last_4, kind, 1, 4)                                                                                         \
    TILE(kind##_last_5, kind, 1, 5)                                                                                         \
    TILE(kind##_last_6, kind, 1, 6)                                                                                         \
    TILE(kind##_thin_1, kind, GEMM_PANELS_THIN, 1)                                                                          \
    TILE(kind##_thin_2, kind, GEMM_PANELS_THIN, 2)                                                                          \
    static const struct tiles kind##_tiles = {                                                                              \
        .thick = {kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6},                                              \
        .last = {kind##_last_1, kind##_last_2, kind##_last_3, kind##_last_4, kind##_last_5, kind##_last_6},                 \
        .thin = {kind##_thin_1, kind##_thin_2},                                                                             \
    };

struct tiles {
    tile_fn *thick[TILE_ROWS_MAX], *last[TILE_ROWS_MAX], *thin[2];
};
TILES(bf16)
TILES(f32)

// One column of tiles: `panels` panels times all rows, at most `step` rows at a time.
static void gemm_column(const struct gemm_call *c, struct tile *t, uint32_t first, size_t x_size, tile_fn *const *fn,
                        uint32_t step) {
    const char *x = c->x != NULL ? (const char *)c->x : (const char *)c->packed;
    t->w = (const char *)c->w + first * t->panel * 4;
    t->n = c->n - 16 * first;
    t->bias = c->bias == NULL ? NULL : c->bias + 16 * first;
    for (uint32_t m = 0; m < c->m; m += step) {
        uint32_t rows = c->m - m < step ? c->m - m : step;
        for (uint32_t r = 0; r < rows; r++) {
            t->x[r] = x + (c->rows == NULL ? m + r : c->rows[m + r]) * c->ld_x * x_size;
            t->out[r] = c->out + (m + r) * c->ld_out + 16 * first;
        }
        fn[rows - 1](t);
    }
}

static void gemm(const struct gemm_call *c, size_t panel, size_t x_size, const struct tiles *f) {
    struct tile t = {.panel = panel, .k = c->k};
    uint32_t p = 0;
    while (c->m <= GEMM_ROWS_THIN && c->panels - p >= GEMM_PANELS_THIN) {
        gemm_column(c, &t, p, x_size, f->thin, GEMM_ROWS_THIN);
        p += GEMM_PANELS_THIN;
    }
    for (; c->panels - p >= GEMM_PANELS; p += GEMM_PANELS) gemm_column(c, &t, p, x_size, f->thick, GEMM_ROWS);
    for (; p < c->panels; p++) gemm_column(c, &t, p, x_size, f->last, GEMM_ROWS);
}

static void gemm_bf16(const struct gemm_call *c) { gemm(c, (size_t)c->k / 2 * 16, sizeof(uint32_t), &bf16_tiles); }
static void gemm_f32(const struct gemm_call *c) { gemm(c, (size_t)c->k * 16, sizeof(float), &f32_tiles); }

// ---- vectors ----

INLINE uint32_t bf16_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (u & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded; // NaN stays one
}
INLINE float bf16_rest(float x, uint32_t hi) {
    hi <<= 16;
    float h;
    memcpy(&h, &hi, sizeof h);
    return x - h;
}

static void pack(const float *x, uint32_t n, uint32_t *packed) {
    for (uint32_t i = 0; i < n; i += 2) {
        uint32_t a = bf16_of(x[i]), b = bf16_of(x[i + 1]);
        packed[i] = a | b << 16;
        packed[i + 1] = bf16_of(bf16_rest(x[i], a)) | bf16_of(bf16_rest(x[i + 1], b)) << 16;
    }
}

static void rms_norm(const float *x, const float *weight, uint32_t n, float eps, float *out) {
    vf acc = v_zero();
    for (uint32_t i = 0; i < n; i += 16) {
        vf v = load_upto(x + i, n - i);
        acc = v_fma(v, v, acc);
    }
    vf scale = v_set(1 / sqrtf(sum_lanes(acc) / (float)n + eps));
    for (uint32_t i = 0; i < n; i += 16) {
        vf v = v_mul(load_upto(x + i, n - i), scale);
        store_upto(out + i, v_mul(v, load_upto(weight + i, n - i)), n - i);
    }
}

static void silu_mul(const float *gate, const float *up, uint32_t n, float *out) {
    for (uint32_t i = 0; i < n; i += 16) {
        vf g = load_upto(gate + i, n - i), e = v_exp(v_sub(v_zero(), g));
        store_upto(out + i, v_mul(v_div(g, v_add(v_set(1), e)), load_upto(up + i, n - i)), n - i);
    }
}

static void add_scaled(const float *x, float scale, uint32_t n, float *sum) {
    for (uint32_t i = 0; i < n; i += 16) {
        store_upto(sum + i, v_fma(load_upto(x + i, n - i), v_set(scale), load_upto(sum + i, n - i)), n - i);
    }
}

static void divide(const float *x, float by, uint32_t n, float *out) {
    for (uint32_t i = 0; i < n; i += 16) store_upto(out + i, v_div(load_upto(x + i, n - i), v_set(by)), n - i);
}

// ---- attention ----

static const float *group_keys(const struct attend_call *c, uint32_t pos) {
    uint32_t group = pos % c->block_tokens / CACHE_GROUP;
    return c->k + c->table[pos / c->block_tokens] * c->k_stride + (size_t)group * c->k_dim * CACHE_GROUP;
}

// Scores of `heads` heads for one group of 16 tokens from position pos on.
INLINE void score_tile(const struct attend_call *c, uint32_t first_head, uint32_t pos, const int heads) {
    vf acc[ATTEND_HEADS];
    const float *k = group_keys(c, pos), *q = c->q + first_head * c->ld_q;
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++) acc[h] = v_zero();
    for (uint32_t d = 0; d < c->k_dim; d++) {
        vf kv = v_load(k + (size_t)d * CACHE_GROUP);
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) acc[h] = v_fma(v_set(q[(size_t)h * c->ld_q + d]), kv, acc[h]);
    }
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++) {
        v_store(c->scores + (first_head + (uint32_t)h) * SEGMENT_TOKENS + pos % SEGMENT_TOKENS,
                v_mul(acc[h], v_set(c->scale)));
    }
}

static void score(const struct attend_call *c) {
    for (uint32_t pos = c->begin / CACHE_GROUP * CACHE_GROUP; pos < c->end; pos += CACHE_GROUP) {
        uint32_t h = 0;
        if (c->heads - h >= 8) score_tile(c, h, pos, 8), h += 8;
        if (c->heads - h >= 4) score_tile(c, h, pos, 4), h += 4;
        if (c->heads - h >= 2) score_tile(c, h, pos, 2), h += 2;
        if (c->heads - h >= 1) score_tile(c, h, pos, 1);
    }
}

// Turns a head's scores into exp(s - max), zero outside [begin, end), in whole groups.
static void weigh(const struct attend_call *c, uint32_t head) {
    float *s = c->scores + head * SEGMENT_TOKENS;
    uint32_t base = c->begin / SEGMENT_TOKENS * SEGMENT_TOKENS, begin = c->begin - base, end = c->end - base;
    vf most = v_set(-INFINITY);
    for (uint32_t i = begin / 16 * 16; i < end; i += 16) {
        int first = begin > i ? (int)(begin - i) : 0, last = end - i < 16 ? (int)(end - i) : 16;
        vf v = v_keep(v_load(s + i), first, last, -INFINITY);
        v_store(s + i, v);
        most = v_max(most, v);
    }
    c->max[head] = max_lanes(most);
    vf max = v_set(c->max[head]), sum = v_zero();
    for (uint32_t i = begin / 16 * 16; i < end; i += 16) {
        int first = begin > i ? (int)(begin - i) : 0, last = end - i < 16 ? (int)(end - i) : 16;
        vf p = v_keep(v_exp(v_sub(v_load(s + i), max)), first, last, 0);
        v_store(s + i, p);
        sum = v_add(sum, p);
    }
    c->sum[head] = sum_lanes(sum);
}

INLINE void mix_tile(const struct attend_call *c, uint32_t first_head, uint32_t dim, const int heads, const int vectors) {
    vf acc[24];
#pragma GCC unroll 32
    for (int i = 0; i < heads * vectors; i++) acc[i] = v_zero();
    const float *p = c->scores + first_head * SEGMENT_TOKENS;
    for (uint32_t pos = c->begin; pos < c->end;) {
        uint32_t in_block = pos % c->block_tokens, stop = pos - in_block + c->block_tokens;
        const float *v = c->v + c->table[pos / c->block_tokens] * c->v_stride + (size_t)in_block * c->v_dim + dim;
        for (stop = stop < c->end ? stop : c->end; pos < stop; pos++, v += c->v_dim) {
            vf row[8];
#pragma GCC unroll 8
            for (int i = 0; i < vectors; i++) row[i] = v_load(v + 16 * i);
#pragma GCC unroll 8
            for (int h = 0; h < heads; h++) {
                vf weight = v_set(p[h * SEGMENT_TOKENS + pos % SEGMENT_TOKENS]);
#pragma GCC unroll 8
                for (int i = 0; i < vectors; i++) acc[h * vectors + i] = v_fma(weight, row[i], acc[h * vectors + i]);
            }
        }
    }
    float *out = c->out + (size_t)first_head * c->v_dim + dim;
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++) {
#pragma GCC unroll 8
        for (int i = 0; i < vectors; i++) v_store(out + (size_t)h * c->v_dim + 16 * i, acc[h * vectors + i]);
    }
}

INLINE void mix_heads(const struct attend_call *c, uint32_t first_head, const int heads) {
    uint32_t dim = 0;
    for (; c->v_dim - dim >= 64; dim += 64) mix_tile(c, first_head, dim, heads, 4);
    for (; c->v_dim - dim >= 32; dim += 32) mix_tile(c, first_head, dim, heads, 2);
    for (; dim < c->v_dim; dim += 16) mix_tile(c, first_head, dim, heads, 1);
}

static void attend(const struct attend_call *c) {
    score(c);
    for (uint32_t h = 0; h < c->heads; h++) weigh(c, h);
    uint32_t h = 0;
    for (; c->heads - h >= 4; h += 4) mix_heads(c, h, 4);
    for (; c->heads - h >= 2; h += 2) mix_heads(c, h, 2);
    if (h < c->heads) mix_heads(c, h, 1);
}

static float exp_one(float x) {
    float f[16];
    v_store(f, v_exp(v_set(x)));
    return f[0];
}

static void merge(float max, float sum, const float *out, uint32_t n, float *run_max, float *run_sum, float *run_out) {
    float most = *run_max > max ? *run_max : max;
    float old = exp_one(*run_max - most), new = exp_one(max - most);
    for (uint32_t i = 0; i < n; i += 16) {
        vf v = v_mul(load_upto(out + i, n - i), v_set(new));
        store_upto(run_out + i, v_add(v_mul(load_upto(run_out + i, n - i), v_set(old)), v), n - i);
    }
    *run_sum = *run_sum * old + sum * new;
    *run_max = most;
}

const struct kernels KERNELS = {KERNELS_NAME, gemm_bf16,  gemm_f32, pack,  rms_norm,
                                silu_mul,     add_scaled, attend,   merge, divide};
