#include "worker/engine/cuda/kernels/device.cuh"
#include "worker/engine/cuda/kernels/quantise.h"

static __device__ __forceinline__ float bf(const __nv_bfloat16 *p, uint64_t i) { return __bfloat162float(p[i]); }

__global__ void quantise_kernel(const __nv_bfloat16 *x, uint64_t ldx, __half *out, float *scale, uint64_t ldo, uint32_t n) {
    pdl_next();
    pdl_wait();
    uint64_t row = blockIdx.x;
    for (uint32_t g = threadIdx.x / 32; g < ldo / 128; g += blockDim.x / 32) {
        float v[4], most = 0;
        for (int i = 0; i < 4; i++) {
            uint32_t at = g * 128 + threadIdx.x % 32 * 4 + i;
            v[i] = at < n ? bf(x, row * ldx + at) : 0;
            most = fmaxf(most, fabsf(v[i]));
        }
        for (int i = 16; i > 0; i >>= 1) most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, i));
        float s = fmaxf(most, 1e-10f) / 448;
        for (int i = 0; i < 4; i++) {
            __nv_fp8_storage_t q = __nv_cvt_float_to_fp8(v[i] / s, __NV_SATFINITE, __NV_E4M3);
            bool nan = v[i] != v[i]; // stays one
            out[row * ldo + g * 128 + threadIdx.x % 32 * 4 + i] =
                nan ? __float2half(v[i]) : __half(__nv_cvt_fp8_to_halfraw(q, __NV_E4M3));
        }
        if (threadIdx.x % 32 == 0) scale[row * (ldo / 128) + g] = s;
    }
}

cudaError_t quantise_run(const void *x, uint64_t ldx, void *out, float *scale, uint64_t ldo, uint32_t n, uint32_t m,
                         cudaStream_t stream) {
    if (m == 0) return cudaSuccess;
    return launch(quantise_kernel, dim3(m), dim3(256), 0, stream, (const __nv_bfloat16 *)x, ldx, (__half *)out, scale, ldo,
                  n);
}
