// Reading and re-ordering the blocks of GGUF files, one row at a time, when weights are loaded. What is computed from the
// panels is in kernels_quant.inc; floats() here is the plain statement of the same values.
#include "worker/engine/cpu/forms.h"
#include <math.h>
#include <string.h>
#include "common/base/check.h"

static float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return dtype_f16(h);
}

// ---- blocks of a file, as numbers ----

static void nibbles(const uint8_t *in, uint8_t q[32]) {
    for (int i = 0; i < 16; i++) q[i] = in[i] & 15, q[16 + i] = in[i] >> 4;
}

static void fifth_bits(const uint8_t *in, uint8_t q[32]) {
    uint32_t word;
    memcpy(&word, in, 4);
    for (int i = 0; i < 32; i++) q[i] = (uint8_t)(q[i] | (word >> i & 1) << 4);
}

// Q4_K, Q5_K: scale and minimum of group g, six bits each, packed in 12 bytes.
static void k_scales(const uint8_t *s, int g, uint8_t *scale, uint8_t *minimum) {
    if (g < 4) {
        *scale = s[g] & 63, *minimum = s[g + 4] & 63;
    } else {
        *scale = (uint8_t)((s[g + 4] & 15) | s[g - 4] >> 6 << 4);
        *minimum = (uint8_t)(s[g + 4] >> 4 | s[g] >> 6 << 4);
    }
}

// Group g of a Q4_K (high NULL) or Q5_K block.
static void k_group(const uint8_t *low, const uint8_t *high, int g, uint8_t q[32]) {
    for (int i = 0; i < 32; i++) {
        q[i] = g % 2 == 0 ? low[g / 2 * 32 + i] & 15 : low[g / 2 * 32 + i] >> 4;
        if (high != NULL) q[i] = (uint8_t)(q[i] | (high[i] >> g & 1) << 4);
    }
}

// Group g of a Q6_K block.
static void q6_group(const uint8_t *block, int g, uint8_t q[32]) {
    const uint8_t *low = block + 64 * (g / 4) + 32 * (g % 2), *high = block + 128 + 32 * (g / 4);
    int quarter = g % 4;
    for (int i = 0; i < 32; i++) {
        int nibble = quarter < 2 ? low[i] & 15 : low[i] >> 4;
        q[i] = (uint8_t)(nibble | (high[i] >> 2 * quarter & 3) << 4);
    }
}

// ---- into a lane of a panel ----

static void put(const uint8_t *in, uint32_t size, uint32_t lane, uint8_t *to) { memcpy(to + size * lane, in, size); }

static uint8_t *put_nibbles(const uint8_t q[32], uint32_t lane, uint8_t *to) {
    for (int j = 0; j < 16; j++) to[16 * j + lane] = (uint8_t)((q[2 * j] & 15) | (q[2 * j + 1] & 15) << 4);
    return to + 256;
}

// The bits above the nibbles of n elements, `bits` of each, from the lowest of a word up.
static uint8_t *put_upper(const uint8_t *q, int n, int bits, uint32_t lane, uint8_t *to) {
    uint32_t word = 0;
    for (int i = 0; i < n; i++) word |= (uint32_t)(q[i] >> 4) << bits * i;
    put((const uint8_t *)&word, 4, lane, to);
    return to + 64;
}

static void pack_q4_0(const uint8_t *b, uint32_t lane, uint8_t *to) {
    uint8_t q[32];
    nibbles(b + 2, q);
    put(b, 2, lane, to);
    put_nibbles(q, lane, to + 32);
}
static void pack_q4_1(const uint8_t *b, uint32_t lane, uint8_t *to) {
    uint8_t q[32];
    nibbles(b + 4, q);
    put(b, 2, lane, to);
    put(b + 2, 2, lane, to + 32);
    put_nibbles(q, lane, to + 64);
}
static void pack_q5_0(const uint8_t *b, uint32_t lane, uint8_t *to) {
    uint8_t q[32];
    nibbles(b + 6, q);
    fifth_bits(b + 2, q);
    put(b, 2, lane, to);
    put_nibbles(q, lane, put_upper(q, 32, 1, lane, to + 32));
}
static void pack_q5_1(const uint8_t *b, uint32_t lane, uint8_t *to) {
    uint8_t q[32];
    nibbles(b + 8, q);
    fifth_bits(b + 4, q);
    put(b, 2, lane, to);
    put(b + 2, 2, lane, to + 32);
    put_nibbles(q, lane, put_upper(q, 32, 1, lane, to + 64));
}
static void pack_q8_0(const uint8_t *b, uint32_t lane, uint8_t *to) {
    put(b, 2, lane, to);
    for (int i = 0; i < 32; i++) to[32 + 16 * i + lane] = b[2 + i];
}

static void pack_k(const uint8_t *b, const uint8_t *high, const uint8_t *low, uint32_t lane, uint8_t *to) {
    put(b, 2, lane, to);
    put(b + 2, 2, lane, to + 32);
    to += 64;
    for (int g = 0; g < 8; g++) {
        uint8_t q[32];
        k_scales(b + 4, g, to + lane, to + 16 + lane);
        to += 32;
        k_group(low, high, g, q);
        if (high != NULL) to = put_upper(q, 32, 1, lane, to);
        to = put_nibbles(q, lane, to);
    }
}
static void pack_q4_k(const uint8_t *b, uint32_t lane, uint8_t *to) { pack_k(b, NULL, b + 16, lane, to); }
static void pack_q5_k(const uint8_t *b, uint32_t lane, uint8_t *to) { pack_k(b, b + 16, b + 48, lane, to); }
static void pack_q6_k(const uint8_t *b, uint32_t lane, uint8_t *to) {
    put(b + 208, 2, lane, to);
    to += 32;
    for (int g = 0; g < 8; g++) {
        uint8_t q[32];
        q6_group(b, g, q);
        to[lane] = b[192 + 2 * g], to[16 + lane] = b[192 + 2 * g + 1];
        to = put_upper(q, 16, 2, lane, to + 32);
        to = put_upper(q + 16, 16, 2, lane, to);
        to = put_nibbles(q, lane, to);
    }
}

static void pack_int4(const uint8_t *b, uint32_t lane, uint8_t *to) {
    put(b, 2, lane, to);
    put(b + 2, 2, lane, to + 32);
    for (int j = 0; j < 32; j++) to[64 + 16 * j + lane] = b[4 + j];
}
static void pack_int8(const uint8_t *b, uint32_t lane, uint8_t *to) { put(b, 4, lane, to); }
static void pack_int8_head(const uint8_t *row, uint32_t k, uint32_t lane, uint8_t *to) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < k; i++) sum += (int8_t)row[4 + i];
    put(row, 4, lane, to);
    put((const uint8_t *)&sum, 4, lane, to + 64);
}

// ---- as floats ----

static void floats_32(const uint8_t q[32], int offset, float d, float m, float *out) {
    for (int i = 0; i < 32; i++) out[i] = fmaf((float)(q[i] - offset), d, m);
}
static void floats_q4_0(const uint8_t *b, float *out) {
    uint8_t q[32];
    nibbles(b + 2, q);
    floats_32(q, 8, half_at(b), 0, out);
}
static void floats_q4_1(const uint8_t *b, float *out) {
    uint8_t q[32];
    nibbles(b + 4, q);
    floats_32(q, 0, half_at(b), half_at(b + 2), out);
}
static void floats_q5_0(const uint8_t *b, float *out) {
    uint8_t q[32];
    nibbles(b + 6, q);
    fifth_bits(b + 2, q);
    floats_32(q, 16, half_at(b), 0, out);
}
static void floats_q5_1(const uint8_t *b, float *out) {
    uint8_t q[32];
    nibbles(b + 8, q);
    fifth_bits(b + 4, q);
    floats_32(q, 0, half_at(b), half_at(b + 2), out);
}
static void floats_q8_0(const uint8_t *b, float *out) {
    for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)b[2 + i] * half_at(b);
}
static void floats_k(const uint8_t *b, const uint8_t *high, const uint8_t *low, float *out) {
    for (int g = 0; g < 8; g++) {
        uint8_t q[32], scale, minimum;
        k_scales(b + 4, g, &scale, &minimum);
        k_group(low, high, g, q);
        floats_32(q, 0, half_at(b) * (float)scale, -(half_at(b + 2) * (float)minimum), out + 32 * g);
    }
}
static void floats_q4_k(const uint8_t *b, float *out) { floats_k(b, NULL, b + 16, out); }
static void floats_q5_k(const uint8_t *b, float *out) { floats_k(b, b + 16, b + 48, out); }
static void floats_q6_k(const uint8_t *b, float *out) {
    for (int g = 0; g < 8; g++) {
        uint8_t q[32];
        q6_group(b, g, q);
        for (int i = 0; i < 32; i++) {
            float d = half_at(b + 208) * (float)(int8_t)b[192 + 2 * g + i / 16];
            out[32 * g + i] = (float)(q[i] - 32) * d;
        }
    }
}

static void floats_int4(const uint8_t *b, float *out) {
    for (int i = 0; i < 64; i++) out[i] = fmaf((float)(b[4 + i / 2] >> i % 2 * 4 & 15), half_at(b), half_at(b + 2));
}

const struct form forms[FORM_COUNT] = {
    [FORM_BF16] = {2, 64, 0, 0, 0, NULL, NULL, NULL},
    [FORM_F32] = {1, 64, 0, 0, 0, NULL, NULL, NULL},
    [FORM_F16] = {1, 32, 0, 0, 0, NULL, NULL, NULL},
    [FORM_Q4_0] = {32, 32 + 256, 0, 0, 18, pack_q4_0, floats_q4_0, NULL},
    [FORM_Q4_1] = {32, 64 + 256, 0, 0, 20, pack_q4_1, floats_q4_1, NULL},
    [FORM_Q5_0] = {32, 32 + 64 + 256, 0, 0, 22, pack_q5_0, floats_q5_0, NULL},
    [FORM_Q5_1] = {32, 64 + 64 + 256, 0, 0, 24, pack_q5_1, floats_q5_1, NULL},
    [FORM_Q8_0] = {32, 32 + 512, 0, 0, 34, pack_q8_0, floats_q8_0, NULL},
    [FORM_Q4_K] = {256, 64 + 8 * (32 + 256), 0, 0, 144, pack_q4_k, floats_q4_k, NULL},
    [FORM_Q5_K] = {256, 64 + 8 * (32 + 64 + 256), 0, 0, 176, pack_q5_k, floats_q5_k, NULL},
    [FORM_Q6_K] = {256, 32 + 8 * (32 + 128 + 256), 0, 0, 210, pack_q6_k, floats_q6_k, NULL},
    [FORM_INT8] = {4, 64, 128, 4, 4, pack_int8, NULL, pack_int8_head},
    [FORM_INT4] = {64, 64 + 512, 0, 0, 36, pack_int4, floats_int4, NULL},
    [FORM_F8] = {128, 64 + 2048, 0, 0, 0, NULL, NULL, NULL},
};

enum weight_form form_of(enum dtype dtype) {
    static const enum weight_form of[DTYPE_COUNT] = {
        [DTYPE_BF16] = FORM_BF16, [DTYPE_F16] = FORM_F16,   [DTYPE_F32] = FORM_F32,   [DTYPE_Q4_0] = FORM_Q4_0,
        [DTYPE_Q4_1] = FORM_Q4_1, [DTYPE_Q5_0] = FORM_Q5_0, [DTYPE_Q5_1] = FORM_Q5_1, [DTYPE_Q8_0] = FORM_Q8_0,
        [DTYPE_Q4_K] = FORM_Q4_K, [DTYPE_Q5_K] = FORM_Q5_K, [DTYPE_Q6_K] = FORM_Q6_K, [DTYPE_F8_E4M3] = FORM_F32,
        [DTYPE_INT8] = FORM_INT8, [DTYPE_INT4] = FORM_INT4,
    };
    return of[dtype];
}
