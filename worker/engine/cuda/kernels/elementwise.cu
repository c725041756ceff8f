#include "worker/engine/cuda/kernels/device.cuh"
#include "worker/engine/cuda/kernels/elementwise.h"

enum { HEAD_MAX = 512, HEAD_WARPS = 8, NORM_THREADS = 512, NORM_WORDS = 4 };

static __device__ __forceinline__ float bf(const __nv_bfloat16 *p, uint64_t i) { return __bfloat162float(p[i]); }

__global__ void apply_deltas(tables_call c) {
    pdl_next();
    pdl_wait();
    for (uint32_t i = threadIdx.x; i < c.n_deltas; i += blockDim.x) {
        const uint32_t *d = c.deltas + 3 * i;
        c.table[(uint64_t)d[0] * c.table_ld + d[1]] = d[2];
    }
}

__global__ void copy_blocks(tables_call c) {
    pdl_next();
    pdl_wait();
    char *layer = (char *)c.cache + blockIdx.x * c.layer_bytes;
    for (uint32_t i = 0; i < c.n_copies; i++) {
        const uint4 *from = (const uint4 *)(layer + c.copies[2 * i] * c.block_bytes);
        uint4 *to = (uint4 *)(layer + c.copies[2 * i + 1] * c.block_bytes);
        for (uint64_t at = threadIdx.x; at < c.block_bytes / 16; at += blockDim.x) to[at] = from[at];
        __syncthreads();
    }
}

__global__ void embed_kernel(const __nv_bfloat16 *embed, uint64_t embed_ld, const uint32_t *at, const uint32_t *tokens,
                             float *hidden, uint64_t ld, uint32_t n) {
    pdl_next();
    pdl_wait();
    uint32_t a = at[blockIdx.x], token = a >> 31 ? a & 0x7fffffff : tokens[a];
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) hidden[blockIdx.x * ld + i] = bf(embed, token * embed_ld + i);
}

// Four elements; weights and outputs have room for a whole number of fours.
static __device__ __forceinline__ void norm_store(const norm_call &c, uint32_t i, float4 x, float by) {
    float4 w = ((const float4 *)c.weight)[i];
    float4 y = make_float4(x.x * by * w.x, x.y * by * w.y, x.z * by * w.z, x.w * by * w.w);
    __nv_bfloat162 low = __floats2bfloat162_rn(y.x, y.y), high = __floats2bfloat162_rn(y.z, y.w);
    uint2 both = make_uint2(*(uint32_t *)&low, *(uint32_t *)&high);
    *(uint2 *)((__nv_bfloat16 *)c.out + blockIdx.x * c.ldo + i * 4) = both;
    if (c.out_f32 != NULL) ((float4 *)(c.out_f32 + blockIdx.x * c.ldo))[i] = y;
}

__global__ void __launch_bounds__(NORM_THREADS) norm_kernel(const __grid_constant__ norm_call c) {
    __shared__ float scratch[32];
    pdl_next();
    pdl_wait();
    uint64_t row = c.gather == NULL ? blockIdx.x : c.gather[blockIdx.x];
    const float4 *x = (const float4 *)(c.x + row * c.ldx); // rows go on with zeros up to a multiple of 4
    float4 v[NORM_WORDS];
    float sum = 0;
    uint32_t words = (c.n + 3) / 4;
#pragma unroll
    for (int k = 0; k < NORM_WORDS; k++) {
        uint32_t i = threadIdx.x + k * NORM_THREADS;
        v[k] = i < words ? x[i] : make_float4(0, 0, 0, 0);
        sum += v[k].x * v[k].x + v[k].y * v[k].y + (v[k].z * v[k].z + v[k].w * v[k].w);
    }
    for (uint32_t i = threadIdx.x + NORM_WORDS * NORM_THREADS; i < words; i += NORM_THREADS) {
        float4 w = x[i];
        sum += w.x * w.x + w.y * w.y + (w.z * w.z + w.w * w.w);
    }
    float by = rsqrtf(block_sum(sum, scratch) / c.n + c.eps);
#pragma unroll
    for (int k = 0; k < NORM_WORDS; k++) {
        uint32_t i = threadIdx.x + k * NORM_THREADS;
        if (i < words) norm_store(c, i, v[k], by);
    }
    for (uint32_t i = threadIdx.x + NORM_WORDS * NORM_THREADS; i < words; i += NORM_THREADS) norm_store(c, i, x[i], by);
}

__global__ void silu_kernel(const float *gate, uint64_t ld, uint32_t up_off, __nv_bfloat16 *out, uint64_t ldo, uint32_t n) {
    pdl_next();
    pdl_wait();
    uint64_t row = blockIdx.x;
    uint32_t i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float g = gate[row * ld + i], u = gate[row * ld + up_off + i];
    out[row * ldo + i] = __float2bfloat16(g / (1 + expf(-g)) * u);
}

// ---- heads ----

// x[n] of this warp in shared memory: divided by its root mean square.
static __device__ void norm_head(float *x, uint32_t n, const float *weight, float eps) {
    float sum = 0;
    for (uint32_t i = threadIdx.x % 32; i < n; i += 32) sum += x[i] * x[i];
    float by = rsqrtf(warp_sum(sum) / n + eps);
    for (uint32_t i = threadIdx.x % 32; i < n; i += 32) x[i] *= by * weight[i];
    __syncwarp();
}

static __device__ void rotate(float *x, uint32_t dim, bool interleaved, const float *c, const float *s) {
    uint32_t pairs = dim / 2;
    for (uint32_t i = threadIdx.x % 32; i < pairs; i += 32) {
        float *a = interleaved ? x + 2 * i : x + i, *b = interleaved ? a + 1 : a + pairs;
        float va = *a, vb = *b;
        *a = va * c[i] - vb * s[i];
        *b = vb * c[i] + va * s[i];
    }
    __syncwarp();
}

// x[n] of this warp: what quantise_run() makes of it, as float.
static __device__ void round_e4m3(float *x, uint32_t n) {
    for (uint32_t first = 0; first < n; first += 128) {
        uint32_t end = min(first + 128, n);
        float most = 0;
        for (uint32_t i = first + threadIdx.x % 32; i < end; i += 32) most = fmaxf(most, fabsf(x[i]));
        for (int i = 16; i > 0; i >>= 1) most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, i));
        float s = fmaxf(most, 1e-10f) / 448;
        for (uint32_t i = first + threadIdx.x % 32; i < end; i += 32) {
            if (x[i] != x[i]) continue; // a NaN stays one
            __nv_fp8_storage_t q = __nv_cvt_float_to_fp8(x[i] / s, __NV_SATFINITE, __NV_E4M3);
            x[i] = __half2float(__half(__nv_cvt_fp8_to_halfraw(q, __NV_E4M3))) * s;
        }
    }
    __syncwarp();
}

__global__ void rope_kernel(const __grid_constant__ rope_call c) {
    __shared__ float heads[HEAD_WARPS][HEAD_MAX];
    pdl_next();
    pdl_wait();
    uint32_t t = blockIdx.x, head = blockIdx.y * HEAD_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (head >= c.heads + 2 * c.kv_heads) return;
    float *x = heads[threadIdx.x / 32];
    const float *from = c.qkv + t * c.ld + head * c.head_dim;
    for (uint32_t i = lane; i < c.head_dim; i += 32) {
        x[i] = from[i] + (c.bias == NULL ? 0 : c.bias[head * c.head_dim + i]);
    }
    __syncwarp();
    uint32_t pos = c.pos[t];
    bool is_q = head < c.heads, is_k = !is_q && head < c.heads + c.kv_heads;
    const float *norm = is_q ? c.q_norm : is_k ? c.k_norm : NULL;
    if (norm != NULL) norm_head(x, c.head_dim, norm, c.eps);
    uint64_t angle = (uint64_t)pos * (c.dim / 2);
    if (is_q || is_k) rotate(x, c.dim, c.interleaved, c.cosine + angle, c.sine + angle);
    __nv_bfloat16 *to = (__nv_bfloat16 *)c.q + ((uint64_t)t * c.heads + head) * c.k_pad;
    if (!is_q) {
        uint64_t block = c.table[(uint64_t)c.slot[t] * c.table_ld + pos / c.block_tokens] * c.block_step;
        uint32_t kv = head - c.heads - (is_k ? 0 : c.kv_heads);
        to = (__nv_bfloat16 *)(is_k ? c.k : c.v) + block + kv * c.head_step +
             pos % c.block_tokens * (is_k ? c.k_row : c.v_row);
    }
    for (uint32_t i = lane; i < c.head_dim; i += 32) to[i] = __float2bfloat16(x[i]);
}

__global__ void mla_kernel(const __grid_constant__ mla_call c) {
    __shared__ float heads[HEAD_WARPS][HEAD_MAX + 256];
    pdl_next();
    pdl_wait();
    uint32_t t = blockIdx.x, job = blockIdx.y * HEAD_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (job > c.heads) return;
    float *x = heads[threadIdx.x / 32];
    uint32_t pos = c.pos[t];
    const float *cosine = c.cosine + (uint64_t)pos * (c.rope_dim / 2), *sine = c.sine + (uint64_t)pos * (c.rope_dim / 2);
    if (job == c.heads) {
        const float *kv = c.kv + t * c.ld_kv;
        for (uint32_t i = lane; i < c.kv_lora + c.rope_dim; i += 32) x[i] = kv[i];
        __syncwarp();
        norm_head(x, c.kv_lora, c.norm, c.eps);
        if (c.round_latent) round_e4m3(x, c.kv_lora);
        rotate(x + c.kv_lora, c.rope_dim, c.interleaved, cosine, sine);
        uint64_t block = c.table[(uint64_t)c.slot[t] * c.table_ld + pos / c.block_tokens] * c.block_step;
        __nv_bfloat16 *to = (__nv_bfloat16 *)c.k + block + pos % c.block_tokens * c.k_row;
        for (uint32_t i = lane; i < c.kv_lora + c.rope_dim; i += 32) to[i] = __float2bfloat16(x[i]);
        return;
    }
    const float *q = c.q + t * c.ld_q + job * (c.nope_dim + c.rope_dim);
    uint64_t at = (uint64_t)t * c.heads + job;
    for (uint32_t i = lane; i < c.nope_dim; i += 32)
        ((__nv_bfloat16 *)c.q_nope)[at * c.nope_pad + i] = __float2bfloat16(q[i]);
    for (uint32_t i = lane; i < c.rope_dim; i += 32) x[i] = q[c.nope_dim + i];
    __syncwarp();
    rotate(x, c.rope_dim, c.interleaved, cosine, sine);
    __nv_bfloat16 *to = (__nv_bfloat16 *)c.q_full + at * c.k_pad + c.kv_lora;
    for (uint32_t i = lane; i < c.rope_dim; i += 32) to[i] = __float2bfloat16(x[i]);
}

// ---- launchers ----

cudaError_t tables_run(const struct tables_call *c, cudaStream_t stream) {
    cudaError_t id = cudaSuccess;
    if (c->n_deltas > 0) id = launch(apply_deltas, dim3(1), dim3(256), 0, stream, *c);
    if (id == cudaSuccess && c->n_copies > 0) id = launch(copy_blocks, dim3(c->layers), dim3(256), 0, stream, *c);
    return id;
}

cudaError_t embed_run(const void *embed, uint64_t embed_ld, const uint32_t *at, const uint32_t *tokens, float *hidden,
                      uint64_t ld, uint32_t n, uint32_t m, cudaStream_t stream) {
    return launch(embed_kernel, dim3(m), dim3(256), 0, stream, (const __nv_bfloat16 *)embed, embed_ld, at, tokens, hidden,
                  ld, n);
}

cudaError_t norm_run(const struct norm_call *c, cudaStream_t stream) {
    return c->m == 0 ? cudaSuccess : launch(norm_kernel, dim3(c->m), dim3(NORM_THREADS), 0, stream, *c);
}

cudaError_t silu_run(const float *gate, uint64_t ld, uint32_t up_off, void *out, uint64_t ldo, uint32_t n, uint32_t m,
                     cudaStream_t stream) {
    if (m == 0) return cudaSuccess;
    return launch(silu_kernel, dim3(m, (n + 255) / 256), dim3(256), 0, stream, gate, ld, up_off, (__nv_bfloat16 *)out, ldo,
                  n);
}

cudaError_t rope_run(const struct rope_call *c, cudaStream_t stream) {
    dim3 grid(c->tokens, (c->heads + 2 * c->kv_heads + HEAD_WARPS - 1) / HEAD_WARPS);
    return launch(rope_kernel, grid, dim3(HEAD_WARPS * 32), 0, stream, *c);
}

cudaError_t mla_run(const struct mla_call *c, cudaStream_t stream) {
    return launch(mla_kernel, dim3(c->tokens, (c->heads + HEAD_WARPS) / HEAD_WARPS), dim3(HEAD_WARPS * 32), 0, stream, *c);
}
