#include "worker/engine/cuda/kernels/device.cuh"
#include "worker/engine/cuda/kernels/moe.h"

enum { THREADS = 256 };

__global__ void score_kernel(const __grid_constant__ moe_call c) {
    pdl_next();
    pdl_wait();
    uint32_t t = blockIdx.x;
    const float *x = c.x + t * c.ldx;
    for (uint32_t e = blockIdx.y * (THREADS / 32) + threadIdx.x / 32; e < c.experts; e += gridDim.y * (THREADS / 32)) {
        float sum = 0;
        for (uint32_t i = threadIdx.x % 32; i < c.hidden; i += 32) {
            sum = fmaf(x[i], c.router[(uint64_t)e * c.hidden + i], sum);
        }
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) c.scores[(uint64_t)t * c.experts + e] = sum;
    }
}

// The largest of v and, among equals, the lowest index; NaN never wins.
static __device__ void best_of_block(float v, uint32_t at, float *scratch, uint32_t *where, float *best, uint32_t *index) {
    for (int i = 16; i > 0; i >>= 1) {
        float ov = __shfl_xor_sync(0xffffffff, v, i);
        uint32_t oa = __shfl_xor_sync(0xffffffff, at, i);
        if (ov > v || (ov == v && oa < at)) v = ov, at = oa;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v, where[threadIdx.x / 32] = at;
    __syncthreads();
    *best = scratch[0];
    *index = where[0];
    for (int w = 1; w < THREADS / 32; w++) {
        if (scratch[w] > *best || (scratch[w] == *best && where[w] < *index)) *best = scratch[w], *index = where[w];
    }
}

static __device__ float group_score(const moe_call &c, const float *choice, uint32_t group) {
    uint32_t size = c.experts / c.groups;
    float first = -INFINITY, second = -INFINITY;
    for (uint32_t x = group * size; x < (group + 1) * size; x++) {
        float v = choice[x];
        if (v > first) {
            second = first;
            first = v;
        } else if (v > second) {
            second = v;
        }
    }
    return c.group_top2 ? first + second : first;
}

static __device__ void activate(const moe_call &c, float *s, float *scratch, uint32_t *where) {
    if (c.sigmoid) {
        for (uint32_t x = threadIdx.x; x < c.experts; x += THREADS) s[x] = 1 / (1 + expf(-s[x]));
        __syncthreads();
        return;
    }
    float v = -INFINITY, most, sum = 0;
    uint32_t unused;
    for (uint32_t x = threadIdx.x; x < c.experts; x += THREADS) v = fmaxf(v, s[x]);
    best_of_block(v, threadIdx.x, scratch, where, &most, &unused);
    for (uint32_t x = threadIdx.x; x < c.experts; x += THREADS) sum += expf(s[x] - most);
    sum = block_sum(sum, scratch);
    for (uint32_t x = threadIdx.x; x < c.experts; x += THREADS) s[x] = expf(s[x] - most) / sum;
    __syncthreads();
}

__global__ void __launch_bounds__(THREADS) choose_kernel(const __grid_constant__ moe_call c) {
    __shared__ float s[MOE_EXPERTS_MAX], choice[MOE_EXPERTS_MAX], groups[MOE_EXPERTS_MAX], scratch[32];
    __shared__ uint32_t where[32], chosen[MOE_TOP_MAX];
    pdl_next();
    pdl_wait();
    uint32_t t = blockIdx.x, size = c.experts / c.groups;
    for (uint32_t x = threadIdx.x; x < c.experts; x += THREADS) s[x] = c.scores[(uint64_t)t * c.experts + x];
    __syncthreads();
    activate(c, s, scratch, where);
    for (uint32_t x = threadIdx.x; x < c.experts; x += THREADS) choice[x] = c.bias == NULL ? s[x] : s[x] + c.bias[x];
    __syncthreads();
    for (uint32_t g = threadIdx.x; g < c.groups; g += THREADS) groups[g] = group_score(c, choice, g);
    __syncthreads();
    for (uint32_t x = threadIdx.x; x < c.experts && c.topk_groups < c.groups; x += THREADS) {
        uint32_t better = 0, mine = x / size;
        for (uint32_t o = 0; o < c.groups; o++)
            better += groups[o] > groups[mine] || (groups[o] == groups[mine] && o < mine);
        if (better >= c.topk_groups) choice[x] = -INFINITY;
    }
    __syncthreads();
    for (uint32_t r = 0; r < c.top_k; r++) {
        float v = -INFINITY, best;
        uint32_t at = threadIdx.x < c.experts ? threadIdx.x : 0, index;
        for (uint32_t x = threadIdx.x; x < c.experts; x += THREADS) {
            if (choice[x] > v) v = choice[x], at = x;
        }
        best_of_block(v, at, scratch, where, &best, &index);
        if (threadIdx.x == 0) {
            chosen[r] = index;
            choice[index] = -INFINITY;
        }
        __syncthreads();
    }
    if (threadIdx.x != 0) return;
    float sum = 0;
    for (uint32_t r = 0; r < c.top_k; r++) sum += s[chosen[r]];
    for (uint32_t r = 0; r < c.top_k; r++) {
        float w = c.norm_topk ? s[chosen[r]] / (sum + 1e-20f) : s[chosen[r]];
        c.choice[t * c.top_k + r] = chosen[r];
        c.weight[t * c.top_k + r] = w * c.routed_scale;
    }
}

// Counting sort; one thread per expert, so that the order within an expert is that of the tokens.
__global__ void __launch_bounds__(MOE_EXPERTS_MAX) sort_kernel(const __grid_constant__ moe_call c) {
    __shared__ uint32_t count[MOE_EXPERTS_MAX + 1];
    pdl_next();
    pdl_wait();
    uint32_t n = c.tokens * c.top_k;
    for (uint32_t x = threadIdx.x; x <= c.experts; x += blockDim.x) count[x] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) atomicAdd(&count[c.choice[i]], 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t sum = 0;
        for (uint32_t x = 0; x <= c.experts; x++) {
            uint32_t here = count[x];
            count[x] = sum;
            c.first[x] = sum;
            sum += here;
        }
    }
    __syncthreads();
    if (threadIdx.x >= c.experts) return;
    uint32_t at = count[threadIdx.x], end = count[threadIdx.x + 1];
    for (uint32_t i = 0; i < n && at < end; i++) {
        if (c.choice[i] != threadIdx.x) continue;
        c.of[at] = i / c.top_k;
        c.place[i] = at++;
    }
}

__global__ void combine_kernel(const __grid_constant__ moe_call c, const float *out, uint64_t ldo, const float *shared,
                               float *hidden, uint64_t ld) {
    pdl_next();
    pdl_wait();
    uint32_t t = blockIdx.y, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= c.hidden) return;
    float sum = shared == NULL ? 0 : shared[t * ld + i];
    for (uint32_t r = 0; r < c.top_k; r++) {
        sum = fmaf(c.weight[t * c.top_k + r], out[c.place[t * c.top_k + r] * ldo + i], sum);
    }
    hidden[t * ld + i] += sum;
}

cudaError_t moe_choose(const struct moe_call *c, cudaStream_t stream) {
    uint32_t y = (c->experts + THREADS / 32 - 1) / (THREADS / 32);
    cudaError_t id = launch(score_kernel, dim3(c->tokens, y), dim3(THREADS), 0, stream, *c);
    if (id == cudaSuccess) id = launch(choose_kernel, dim3(c->tokens), dim3(THREADS), 0, stream, *c);
    if (id == cudaSuccess) id = launch(sort_kernel, dim3(1), dim3(MOE_EXPERTS_MAX), 0, stream, *c);
    return id;
}

cudaError_t moe_combine(const struct moe_call *c, const float *out, uint64_t ldo, const float *shared, float *hidden,
                        uint64_t ld, cudaStream_t stream) {
    dim3 grid((c->hidden + 255) / 256, c->tokens);
    return launch(combine_kernel, grid, dim3(256), 0, stream, *c, out, ldo, shared, hidden, ld);
}
