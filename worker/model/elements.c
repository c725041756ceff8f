// Elements of tensors as floats, whatever their type and alignment.
#include <math.h>
#include <string.h>
#include "worker/model/safetensors.h"

static float bf16_to_f32(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

// One sign, four exponent bits (bias 7), three of fraction; no infinity, and one NaN per sign.
static float e4m3_to_f32(uint8_t b) {
    uint32_t exponent = b >> 3 & 15, fraction = b & 7, bits = (exponent + 120) << 23 | fraction << 20;
    float f = (float)fraction * 0x1p-9f;
    if (exponent > 0) memcpy(&f, &bits, sizeof f);
    if ((b & 127) == 127) f = NAN;
    return b & 128 ? -f : f;
}

static float scaled_element(const struct tensor *t, uint64_t i) {
    uint64_t row = i / t->dims[1] / t->block[0], col = i % t->dims[1] / t->block[1];
    return e4m3_to_f32(t->data[i]) * tensor_element(t->scale, row * t->scale->dims[1] + col);
}

float tensor_element(const struct tensor *t, uint64_t i) {
    uint16_t h;
    float f;
    switch (t->dtype) {
    case DTYPE_F8_E4M3:
        return scaled_element(t, i);
    case DTYPE_F32:
        memcpy(&f, t->data + 4 * i, 4);
        return f;
    case DTYPE_F16:
        memcpy(&h, t->data + 2 * i, 2);
        return dtype_f16(h);
    default:
        memcpy(&h, t->data + 2 * i, 2);
        return bf16_to_f32(h);
    }
}
