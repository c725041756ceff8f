#include "worker/model/dtype.h"
#include <math.h>
#include <string.h>
#include "common/base/check.h"

static const struct {
    const char *name;
    struct dtype_block block;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_BF16] = {"BF16", {1, 2}},     [DTYPE_F16] = {"F16", {1, 2}},         [DTYPE_F32] = {"F32", {1, 4}},
    [DTYPE_F64] = {"F64", {1, 8}},       [DTYPE_F8_E4M3] = {"F8_E4M3", {1, 1}}, [DTYPE_F8_E5M2] = {"F8_E5M2", {1, 1}},
    [DTYPE_I8] = {"I8", {1, 1}},         [DTYPE_U8] = {"U8", {1, 1}},           [DTYPE_I16] = {"I16", {1, 2}},
    [DTYPE_U16] = {"U16", {1, 2}},       [DTYPE_I32] = {"I32", {1, 4}},         [DTYPE_U32] = {"U32", {1, 4}},
    [DTYPE_I64] = {"I64", {1, 8}},       [DTYPE_U64] = {"U64", {1, 8}},         [DTYPE_BOOL] = {"BOOL", {1, 1}},
    [DTYPE_Q4_0] = {"Q4_0", {32, 18}},   [DTYPE_Q4_1] = {"Q4_1", {32, 20}},     [DTYPE_Q5_0] = {"Q5_0", {32, 22}},
    [DTYPE_Q5_1] = {"Q5_1", {32, 24}},   [DTYPE_Q8_0] = {"Q8_0", {32, 34}},     [DTYPE_Q4_K] = {"Q4_K", {256, 144}},
    [DTYPE_Q5_K] = {"Q5_K", {256, 176}}, [DTYPE_Q6_K] = {"Q6_K", {256, 210}},   [DTYPE_INT8] = {"int8", {1, 1}},
    [DTYPE_INT4] = {"int4", {64, 36}},
};

const char *dtype_name(enum dtype d) { return dtypes[d].name; }
struct dtype_block dtype_block(enum dtype d) {
    return dtypes[d].block;
}
uint32_t dtype_bytes(enum dtype d) {
    CHECK(dtypes[d].block.elements == 1);
    return dtypes[d].block.bytes;
}

float dtype_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | fraction << 13;
    } else if (exponent == 0) {
        float f = (float)fraction * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
        bits |= sign;
    } else {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    }
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

uint16_t dtype_to_f16(float x) {
    uint32_t bits, sign;
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    float a = fabsf(x);
    if (!(a < 65520)) return (uint16_t)(sign | (a >= 65520 ? 0x7c00 : 0x7e00));
    if (a < 0x1p-14f) return (uint16_t)(sign | (uint32_t)rintf(a * 0x1p24f));
    bits &= 0x7fffffff;
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - (112u << 23)) >> 13);
}
