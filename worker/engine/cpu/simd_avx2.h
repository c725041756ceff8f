// 16 floats as two AVX2 registers: see kernels.inc.
#pragma once
#include <immintrin.h>
#include <stdint.h>

// Tiles of a matrix product: panels × rows where there are many rows, and where there are at most GEMM_ROWS_THIN.
#define GEMM_PANELS       1
#define GEMM_ROWS         4
#define GEMM_PANELS_THIN  2
#define GEMM_ROWS_THIN    1
#define QUANT_PANELS_THIN 2 // of a quantised one, for a single row

typedef struct {
    __m256 a, b;
} vf;
typedef struct {
    __m256i a, b;
} vu;

static inline vf v_zero(void) { return (vf){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline vf v_set(float x) { return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline vf v_load(const float *p) { return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void v_store(float *p, vf v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
static inline vf v_add(vf x, vf y) { return (vf){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
static inline vf v_sub(vf x, vf y) { return (vf){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
static inline vf v_mul(vf x, vf y) { return (vf){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
static inline vf v_div(vf x, vf y) { return (vf){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
static inline vf v_fma(vf x, vf y, vf z) { return (vf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
static inline vf v_max(vf x, vf y) { return (vf){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
static inline vf v_min(vf x, vf y) { return (vf){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
static inline vu v_loadu(const uint32_t *p) {
    return (vu){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8))};
}
static inline vu v_setu(uint32_t x) { return (vu){_mm256_set1_epi32((int)x), _mm256_set1_epi32((int)x)}; }
static inline vu v_load_u8(const uint8_t *p) {
    return (vu){_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))};
}
static inline vu v_load_i8(const uint8_t *p) {
    return (vu){_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))};
}
static inline vf v_load_f16(const uint8_t *p) {
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16)))};
}
// 16 e4m3 bytes, exactly: as halves of a 256th of the value, whose denormals no mode flushes.
static inline vf v_load_e4m3(const uint8_t *p) {
    __m256i b = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)), sign = _mm256_set1_epi16(128);
    __m256i h =
        _mm256_or_si256(_mm256_slli_epi16(_mm256_and_si256(b, sign), 8), _mm256_slli_epi16(_mm256_andnot_si256(sign, b), 7));
    __m256 scale = _mm256_set1_ps(256);
    return (vf){_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(h)), scale),
                _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)), scale)};
}
static inline vf v_from_int(vu v) { return (vf){_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
static inline vu v_andu(vu x, vu y) { return (vu){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
static inline vu v_oru(vu x, vu y) { return (vu){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
static inline vu v_subu(vu x, vu y) { return (vu){_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
static inline vu v_addu(vu x, vu y) { return (vu){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
static inline vu v_to_int(vf v) { return (vu){_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b)}; }
static inline vf v_as_floats(vu v) { return (vf){_mm256_castsi256_ps(v.a), _mm256_castsi256_ps(v.b)}; }
static inline vu v_as_words(vf v) { return (vu){_mm256_castps_si256(v.a), _mm256_castps_si256(v.b)}; }
#define V_DOT4_OFFSET 0
static inline __m256i half_even_bytes(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
static inline __m256i half_dot4(__m256i acc, __m256i w, __m256i x) {
    __m256i even = _mm256_madd_epi16(half_even_bytes(w), half_even_bytes(x));
    __m256i odd = _mm256_madd_epi16(_mm256_srai_epi16(w, 8), _mm256_srai_epi16(x, 8));
    return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}
static inline vu v_dot4(vu acc, vu w, vu x) { return (vu){half_dot4(acc.a, w.a, x.a), half_dot4(acc.b, w.b, x.b)}; }
static inline vu v_shlu(vu v, int n) { return (vu){_mm256_slli_epi32(v.a, n), _mm256_slli_epi32(v.b, n)}; }
static inline vu v_shru(vu v, int n) { return (vu){_mm256_srli_epi32(v.a, n), _mm256_srli_epi32(v.b, n)}; }
static inline vf v_keep(vf v, int first, int end, float other) {
    float f[16];
    v_store(f, v);
    for (int i = 0; i < 16; i++) f[i] = i >= first && i < end ? f[i] : other;
    return v_load(f);
}
static inline __m256 half_scale2(__m256 v, __m256 t) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}
static inline vf v_scale2(vf v, vf t) { return (vf){half_scale2(v.a, t.a), half_scale2(v.b, t.b)}; }

static inline __m256 half_odd(__m256i v) {
    return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000)));
}
static inline __m256 half_even(__m256i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); }
static inline __m256 half_dot2(__m256 acc, __m256i w, __m256i x) {
    acc = _mm256_fmadd_ps(half_odd(w), half_odd(x), acc);
    return _mm256_fmadd_ps(half_even(w), half_even(x), acc);
}
static inline vf v_dot2(vf acc, vu w, vu x) { return (vf){half_dot2(acc.a, w.a, x.a), half_dot2(acc.b, w.b, x.b)}; }

// Blocks of 8, 4, 2 and 1 lanes change places between two vectors: the upper of each pair in a with the lower of each pair
// in b. Four rounds of it turn a square of 16 vectors.
static inline void v_swap8(vf *a, vf *b) {
    __m256 t = a->b;
    a->b = b->a;
    b->a = t;
}
#define SWAP_LANES(s, low, high)                                                                                            \
    static inline void half_swap##s(__m256 *a, __m256 *b) {                                                                 \
        __m256 x = *a, y = *b;                                                                                              \
        *a = low;                                                                                                           \
        *b = high;                                                                                                          \
    }                                                                                                                       \
    static inline void v_swap##s(vf *a, vf *b) {                                                                            \
        half_swap##s(&a->a, &b->a);                                                                                         \
        half_swap##s(&a->b, &b->b);                                                                                         \
    }
#define DOUBLES(v) _mm256_castps_pd(v)
SWAP_LANES(4, _mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31))
SWAP_LANES(2, _mm256_castpd_ps(_mm256_unpacklo_pd(DOUBLES(x), DOUBLES(y))),
           _mm256_castpd_ps(_mm256_unpackhi_pd(DOUBLES(x), DOUBLES(y))))
SWAP_LANES(1, _mm256_blend_ps(x, _mm256_moveldup_ps(y), 0xaa), _mm256_blend_ps(_mm256_movehdup_ps(x), y, 0xaa))
