// 16 floats as an array, in plain C: the path for processors without AVX2, and the reference for the others. fmaf() rounds
// once wherever it runs, so the bits are those of the fused instructions. See kernels.inc.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "worker/engine/cpu/forms.h"

#define SIMD_PLAIN

// Tiles of a matrix product: panels × rows where there are many rows, and where there are at most GEMM_ROWS_THIN.
#define GEMM_PANELS       1
#define GEMM_ROWS         4
#define GEMM_PANELS_THIN  1
#define GEMM_ROWS_THIN    1
#define QUANT_PANELS_THIN 1 // of a quantised one, for a single row

typedef struct {
    float f[16];
} vf;
typedef struct {
    uint32_t u[16];
} vu;

#define LANES(expression)                                                                                                   \
    do {                                                                                                                    \
        vf r;                                                                                                               \
        for (int i = 0; i < 16; i++) r.f[i] = (expression);                                                                 \
        return r;                                                                                                           \
    } while (0)

static inline float lane_float(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline uint32_t lane_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline vf v_zero(void) { LANES(0); }
static inline vf v_set(float x) { LANES(x); }
static inline vf v_load(const float *p) { LANES(p[i]); }
static inline void v_store(float *p, vf v) { memcpy(p, v.f, sizeof v.f); }
static inline vf v_add(vf a, vf b) { LANES(a.f[i] + b.f[i]); }
static inline vf v_sub(vf a, vf b) { LANES(a.f[i] - b.f[i]); }
static inline vf v_mul(vf a, vf b) { LANES(a.f[i] * b.f[i]); }
static inline vf v_div(vf a, vf b) { LANES(a.f[i] / b.f[i]); }
static inline vf v_fma(vf a, vf b, vf c) { LANES(fmaf(a.f[i], b.f[i], c.f[i])); }
static inline vf v_max(vf a, vf b) { LANES(a.f[i] > b.f[i] ? a.f[i] : b.f[i]); }
static inline vf v_min(vf a, vf b) { LANES(a.f[i] < b.f[i] ? a.f[i] : b.f[i]); }
static inline vu v_loadu(const uint32_t *p) {
    vu r;
    memcpy(r.u, p, sizeof r.u);
    return r;
}
static inline vu v_setu(uint32_t x) {
    vu r;
    for (int i = 0; i < 16; i++) r.u[i] = x;
    return r;
}
#define WORDS(expression)                                                                                                   \
    do {                                                                                                                    \
        vu r;                                                                                                               \
        for (int i = 0; i < 16; i++) r.u[i] = (uint32_t)(expression);                                                       \
        return r;                                                                                                           \
    } while (0)
static inline vu v_load_u8(const uint8_t *p) { WORDS(p[i]); }
static inline vu v_load_i8(const uint8_t *p) { WORDS((int8_t)p[i]); }
static inline vf v_load_f16(const uint8_t *p) { LANES(dtype_f16((uint16_t)(p[2 * i] | p[2 * i + 1] << 8))); }
static inline vf v_load_e4m3(const uint8_t *p) {
    LANES(dtype_f16((uint16_t)((p[i] & 128) << 8 | (p[i] & 127) << 7)) * 256); // a half of a 256th of the value
}
static inline vf v_from_int(vu v) { LANES((float)(int32_t)v.u[i]); }
static inline vu v_andu(vu a, vu b) { WORDS(a.u[i] & b.u[i]); }
static inline vu v_oru(vu a, vu b) { WORDS(a.u[i] | b.u[i]); }
static inline vu v_subu(vu a, vu b) { WORDS(a.u[i] - b.u[i]); }
static inline vu v_addu(vu a, vu b) { WORDS(a.u[i] + b.u[i]); }
static inline vu v_to_int(vf v) { WORDS(fabsf(v.f[i]) < 0x1p31f ? (int32_t)rintf(v.f[i]) : INT32_MIN); }
static inline vf v_as_floats(vu v) { LANES(lane_float(v.u[i])); }
static inline vu v_as_words(vf v) { WORDS(lane_bits(v.f[i])); }
#define V_DOT4_OFFSET 0
static inline int32_t lane_byte(uint32_t u, int at) { return (int8_t)(u >> 8 * at); }
static inline vu v_dot4(vu acc, vu w, vu x) {
    for (int i = 0; i < 16; i++) {
        for (int b = 0; b < 4; b++) acc.u[i] += (uint32_t)(lane_byte(w.u[i], b) * lane_byte(x.u[i], b));
    }
    return acc;
}
static inline vu v_shlu(vu v, int n) { WORDS(v.u[i] << n); }
static inline vu v_shru(vu v, int n) { WORDS(v.u[i] >> n); }
static inline vf v_keep(vf v, int first, int end, float other) { LANES(i >= first && i < end ? v.f[i] : other); }
static inline vf v_scale2(vf v, vf t) { LANES(lane_float(lane_bits(v.f[i]) + (lane_bits(t.f[i]) << 23))); }
static inline vf v_dot2(vf acc, vu w, vu x) {
    for (int i = 0; i < 16; i++) {
        acc.f[i] = fmaf(lane_float(w.u[i] & 0xffff0000), lane_float(x.u[i] & 0xffff0000), acc.f[i]);
        acc.f[i] = fmaf(lane_float(w.u[i] << 16), lane_float(x.u[i] << 16), acc.f[i]);
    }
    return acc;
}

// Blocks of 8, 4, 2 and 1 lanes change places between two vectors: the upper of each pair in a with the lower of each pair
// in b. Four rounds of it turn a square of 16 vectors.
static inline void swap_lanes(vf *a, vf *b, int s) {
    for (int i = 0; i < 16; i++) {
        if (i & s) continue;
        float t = a->f[i + s];
        a->f[i + s] = b->f[i];
        b->f[i] = t;
    }
}
static inline void v_swap8(vf *a, vf *b) { swap_lanes(a, b, 8); }
static inline void v_swap4(vf *a, vf *b) { swap_lanes(a, b, 4); }
static inline void v_swap2(vf *a, vf *b) { swap_lanes(a, b, 2); }
static inline void v_swap1(vf *a, vf *b) { swap_lanes(a, b, 1); }
