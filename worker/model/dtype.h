// Types of a tensor's elements: those of safetensors files first, then the quantised ones of GGUF files, whose elements come
// in blocks. Block layouts: github.com/ggml-org/ggml, ggml-common.h.
#pragma once
#include <stdint.h>

enum dtype {
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_F32,
    DTYPE_F64,
    DTYPE_F8_E4M3,
    DTYPE_F8_E5M2,
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_I16,
    DTYPE_U16,
    DTYPE_I32,
    DTYPE_U32,
    DTYPE_I64,
    DTYPE_U64,
    DTYPE_BOOL,
    DTYPE_SAFETENSORS, // count of those above
    DTYPE_Q4_0 = DTYPE_SAFETENSORS,
    DTYPE_Q4_1,
    DTYPE_Q5_0,
    DTYPE_Q5_1,
    DTYPE_Q8_0,
    DTYPE_Q4_K,
    DTYPE_Q5_K,
    DTYPE_Q6_K,
    DTYPE_INT8, // quant.h; a block is an element, and a row has 4 bytes more
    DTYPE_INT4,
    DTYPE_COUNT
};

struct dtype_block {
    uint32_t elements, bytes;
};

const char *dtype_name(enum dtype dtype);
struct dtype_block dtype_block(enum dtype dtype);
// Bytes of an element of a type that isn't quantised.
uint32_t dtype_bytes(enum dtype dtype);

// IEEE half precision; to_f16 rounds to nearest, ties to even, and to infinity past the greatest.
float dtype_f16(uint16_t half);
uint16_t dtype_to_f16(float x);
