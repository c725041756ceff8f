// Activations for FP8 products, in DeepSeek's form: a scale per vector and 128 elements.
#pragma once
#include <cuda_runtime_api.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

// bf16 rows to e4m3 values held as half, with a float scale per 128: s = max|x| / 448, x / s rounded. ld a multiple of 128.
cudaError_t quantise_run(const void *x, uint64_t ldx, void *out, float *scale, uint64_t ldo, uint32_t n, uint32_t m,
                         cudaStream_t stream);

#ifdef __cplusplus
}
#endif
