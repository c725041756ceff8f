// 16 floats at once with AVX-512F, and with avx512_bf16 where the file is compiled for it: see kernels.inc.
#pragma once
#include <immintrin.h>
#include <stdint.h>

// Tiles of a matrix product: panels × rows where there are many rows, and where there are at most GEMM_ROWS_THIN.
#define GEMM_PANELS       4
#define GEMM_ROWS         6
#define GEMM_PANELS_THIN  8
#define GEMM_ROWS_THIN    2
#define QUANT_PANELS_THIN 4 // of a quantised one, for a single row

typedef __m512 vf;
typedef __m512i vu;

static inline vf v_zero(void) { return _mm512_setzero_ps(); }
static inline vf v_set(float x) { return _mm512_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vu v_loadu(const uint32_t *p) { return _mm512_loadu_si512(p); }
static inline vu v_setu(uint32_t x) { return _mm512_set1_epi32((int)x); }
static inline vu v_load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
static inline vu v_load_i8(const uint8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
static inline vf v_load_f16(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
// 16 e4m3 bytes, exactly: as halves of a 256th of the value, whose denormals no mode flushes.
static inline vf v_load_e4m3(const uint8_t *p) {
    __m256i b = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)), sign = _mm256_set1_epi16(128);
    __m256i h =
        _mm256_or_si256(_mm256_slli_epi16(_mm256_and_si256(b, sign), 8), _mm256_slli_epi16(_mm256_andnot_si256(sign, b), 7));
    return _mm512_mul_ps(_mm512_cvtph_ps(h), _mm512_set1_ps(256));
}
static inline vf v_from_int(vu v) { return _mm512_cvtepi32_ps(v); }
static inline vu v_andu(vu a, vu b) { return _mm512_and_si512(a, b); }
static inline vu v_oru(vu a, vu b) { return _mm512_or_si512(a, b); }
static inline vu v_subu(vu a, vu b) { return _mm512_sub_epi32(a, b); }
static inline vu v_addu(vu a, vu b) { return _mm512_add_epi32(a, b); }
static inline vu v_to_int(vf v) { return _mm512_cvtps_epi32(v); }
static inline vf v_as_floats(vu v) { return _mm512_castsi512_ps(v); }
static inline vu v_as_words(vf v) { return _mm512_castps_si512(v); }
#ifdef __AVX512VNNI__
#define V_DOT4_OFFSET 128 // activations come as unsigned bytes, this much higher
static inline vu v_dot4(vu acc, vu w, vu x) { return _mm512_dpbusd_epi32(acc, x, w); }
#else
#define V_DOT4_OFFSET 0
#define BYTE_OF(v, i) _mm512_srai_epi32(_mm512_slli_epi32(v, 24 - 8 * (i)), 24)
static inline vu v_dot4(vu acc, vu w, vu x) {
    acc = _mm512_add_epi32(acc, _mm512_mullo_epi32(BYTE_OF(w, 0), BYTE_OF(x, 0)));
    acc = _mm512_add_epi32(acc, _mm512_mullo_epi32(BYTE_OF(w, 1), BYTE_OF(x, 1)));
    acc = _mm512_add_epi32(acc, _mm512_mullo_epi32(BYTE_OF(w, 2), BYTE_OF(x, 2)));
    return _mm512_add_epi32(acc, _mm512_mullo_epi32(BYTE_OF(w, 3), BYTE_OF(x, 3)));
}
#endif
#define v_shlu(v, n) _mm512_slli_epi32(v, n)
#define v_shru(v, n) _mm512_srli_epi32(v, n)
static inline vf v_keep(vf v, int first, int end, float other) {
    __mmask16 m = (__mmask16)(((1u << end) - 1) & ~((1u << first) - 1));
    return _mm512_mask_blend_ps(m, _mm512_set1_ps(other), v);
}
static inline vf v_scale2(vf v, vf t) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}
#ifdef __AVX512BF16__
static inline vf v_dot2(vf acc, vu w, vu x) { return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)x); }
#else
static inline vf v_odd(vu v) { return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000))); }
static inline vf v_even(vu v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)); }
static inline vf v_dot2(vf acc, vu w, vu x) {
    acc = _mm512_fmadd_ps(v_odd(w), v_odd(x), acc);
    return _mm512_fmadd_ps(v_even(w), v_even(x), acc);
}
#endif

// Blocks of s lanes change places between two vectors: the upper of each pair in a with the lower of each pair in b. Four
// rounds of it, 8 to 1, turn a square of 16 vectors.
#define SWAP_LANES(s)                                                                                                       \
    static inline void v_swap##s(vf *a, vf *b) {                                                                            \
        __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), n = _mm512_set1_epi32(s);     \
        __mmask16 upper = _mm512_test_epi32_mask(at, n);                                                                    \
        vf x = *a, y = *b;                                                                                                  \
        *a = _mm512_permutex2var_ps(x, _mm512_mask_add_epi32(at, upper, at, _mm512_set1_epi32(16 - (s))), y);               \
        *b = _mm512_permutex2var_ps(y, _mm512_mask_add_epi32(at, _knot_mask16(upper), at, _mm512_set1_epi32(16 + (s))), x); \
    }
SWAP_LANES(8)
SWAP_LANES(4)
SWAP_LANES(2)
SWAP_LANES(1)
