// Design notes. Weights go from memory to registers, 16 bytes a thread, never through shared memory: four lanes read 64
// contiguous bytes of a row. The order of k inside a chunk is permuted alike for weights and vectors, so that these 16 bytes
// are the operands of two (bf16) or four (FP8) m16n8k16 products whose 16 rows are weights and whose 8 columns are vectors.
// The first chunks are asked for before the kernel waits for the one that makes the vectors.
#include "worker/engine/cuda/kernels/device.cuh"
#include "worker/engine/cuda/kernels/stream.h"

enum { WARPS = 8, ROWS = 16 };

struct place {
    uint32_t group, first, m, m0; // matrix; its first row, its rows, this block's first of them
    int g, t;                     // lane / 4, lane % 4
};

template <int TILES> struct vectors {
    const char *x[TILES]; // of column g, or NULL past the last
    uint32_t row[TILES];
};

template <int TILES> static __device__ vectors<TILES> find_vectors(const stream_call &c, const place &p, int bytes) {
    vectors<TILES> v;
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        uint32_t at = p.m0 + i * 8 + p.g, row = p.first + at;
        if (at < p.m && c.gather != NULL) row = c.gather[row];
        uint64_t step = c.group_first == NULL ? p.group * c.x_step : 0;
        v.row[i] = row;
        v.x[i] = at < p.m ? (const char *)c.x + (row * c.ldx + step) * bytes : NULL;
    }
    return v;
}

static __device__ __forceinline__ uint4 load_x(const char *x, uint64_t byte) {
    return x == NULL ? make_uint4(0, 0, 0, 0) : *(const uint4 *)(x + byte);
}

template <int TILES>
static __device__ __forceinline__ void chunk_bf16(const uint4 w[4], const vectors<TILES> &v, uint32_t chunk, int t,
                                                  float acc[TILES][4]) {
#pragma unroll
    for (int j = 0; j < 2; j++) {
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            uint4 x = load_x(v.x[i], (chunk * 64 + j * 32 + t * 8) * 2ull);
            mma_bf16(acc[i], w[j].x, w[2 + j].x, w[j].y, w[2 + j].y, x.x, x.y);
            mma_bf16(acc[i], w[j].z, w[2 + j].z, w[j].w, w[2 + j].w, x.z, x.w);
        }
    }
}

static __device__ __forceinline__ uint32_t halves(uint32_t two) {
    __half2_raw h = __nv_cvt_fp8x2_to_halfraw2((__nv_fp8x2_storage_t)two, __NV_E4M3);
    return (uint32_t)h.x | (uint32_t)h.y << 16;
}

static __device__ __forceinline__ void word_fp8(float acc[4], uint32_t w0, uint32_t w1, uint32_t b0, uint32_t b1) {
    mma_f16(acc, halves(w0 & 0xffff), halves(w1 & 0xffff), halves(w0 >> 16), halves(w1 >> 16), b0, b1);
}

template <int TILES>
static __device__ __forceinline__ void chunk_fp8(const stream_call &c, const uint4 w[4], const vectors<TILES> &v,
                                                 uint32_t chunk, const place &p, const float ws[2], float acc[TILES][4]) {
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        float sum[4] = {0, 0, 0, 0};
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint64_t at = (chunk * 128 + j * 64 + p.t * 16) * 2ull;
            uint4 a = load_x(v.x[i], at), b = load_x(v.x[i], at + 16);
            word_fp8(sum, w[j].x, w[2 + j].x, a.x, a.y);
            word_fp8(sum, w[j].y, w[2 + j].y, a.z, a.w);
            word_fp8(sum, w[j].z, w[2 + j].z, b.x, b.y);
            word_fp8(sum, w[j].w, w[2 + j].w, b.z, b.w);
        }
        float mine = v.x[i] == NULL ? 0 : c.x_scale[(uint64_t)v.row[i] * (c.k / 128) + chunk];
        float x0 = __shfl_sync(0xffffffff, mine, p.t * 8), x1 = __shfl_sync(0xffffffff, mine, p.t * 8 + 4);
        acc[i][0] = fmaf(sum[0], ws[0] * x0, acc[i][0]);
        acc[i][1] = fmaf(sum[1], ws[0] * x1, acc[i][1]);
        acc[i][2] = fmaf(sum[2], ws[1] * x0, acc[i][2]);
        acc[i][3] = fmaf(sum[3], ws[1] * x1, acc[i][3]);
    }
}

template <int TILES>
static __device__ void reduce_and_store(const stream_call &c, const place &p, uint32_t row0, const float acc[TILES][4]) {
    __shared__ float part[WARPS][TILES * 8][ROWS + 1];
    int warp = threadIdx.x / 32;
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        for (int e = 0; e < 4; e++) part[warp][i * 8 + p.t * 2 + e % 2][p.g + e / 2 * 8] = acc[i][e];
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e < TILES * 8 * ROWS; e += WARPS * 32) {
        uint32_t n = row0 + e % ROWS, at = p.m0 + e / ROWS;
        if (n >= c.n || at >= p.m) continue;
        float sum = part[0][e / ROWS][e % ROWS];
        for (int w = 1; w < WARPS; w++) sum += part[w][e / ROWS][e % ROWS];
        if (c.bias != NULL) sum += c.bias[n];
        uint64_t to = (p.first + at) * c.ldo + n + (c.group_first == NULL ? p.group * c.out_step : 0);
        if (!c.out_f32) {
            ((__nv_bfloat16 *)c.out)[to] = __float2bfloat16(sum);
        } else {
            ((float *)c.out)[to] = c.add ? ((float *)c.out)[to] + sum : sum;
        }
    }
}

static __device__ __forceinline__ void load_w(uint4 w[4], const char *r0, const char *r1, uint32_t chunk, int t) {
    w[0] = load_stream(r0 + chunk * 128ull + t * 16);
    w[1] = load_stream(r0 + chunk * 128ull + 64 + t * 16);
    w[2] = load_stream(r1 + chunk * 128ull + t * 16);
    w[3] = load_stream(r1 + chunk * 128ull + 64 + t * 16);
}

template <bool FP8, int TILES>
__global__ void __launch_bounds__(WARPS * 32, 2) stream_kernel(const __grid_constant__ stream_call c) {
    const int BYTES = FP8 ? 1 : 2, CHUNK = 128 / BYTES; // 128 bytes of a row at a time
    const int AHEAD = FP8 && TILES > 1 ? 5 - TILES : 4; // chunks asked for before they are used: what registers hold
    place p = {blockIdx.y, 0, c.m, blockIdx.z * TILES * 8, (int)threadIdx.x % 32 / 4, (int)threadIdx.x % 4};
    uint32_t warp = threadIdx.x / 32, row0 = blockIdx.x * ROWS, chunks = c.k / CHUNK;
    uint32_t n0 = min(row0 + p.g, c.n - 1), n1 = min(row0 + p.g + 8, c.n - 1);
    const char *w = (const char *)c.w + p.group * c.w_step * BYTES;
    const char *r0 = w + n0 * c.ldw * BYTES, *r1 = w + n1 * c.ldw * BYTES;
    uint4 wq[AHEAD][4];
    pdl_next();
    if (c.group_first != NULL) { // most groups may be empty: their weights aren't read
        pdl_wait();
        p.first = c.group_first[p.group];
        p.m = c.group_first[p.group + 1] - p.first;
        if (p.m0 >= p.m) return;
    }
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        if (warp + i * WARPS < chunks) load_w(wq[i], r0, r1, warp + i * WARPS, p.t);
    }
    if (c.group_first == NULL) pdl_wait();
    vectors<TILES> v = find_vectors<TILES>(c, p, 2);
    float acc[TILES][4] = {};
    const float *scale = FP8 ? c.w_scale + p.group * c.scale_step : NULL;
    for (uint32_t first = warp; first < chunks; first += AHEAD * WARPS) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            uint32_t chunk = first + i * WARPS;
            if (chunk >= chunks) break;
            if (FP8) {
                float ws[2] = {scale[n0 / 128 * c.scale_ld + chunk], scale[n1 / 128 * c.scale_ld + chunk]};
                chunk_fp8<TILES>(c, wq[i], v, chunk, p, ws, acc);
            } else {
                chunk_bf16<TILES>(wq[i], v, chunk, p.t, acc);
            }
            if (chunk + AHEAD * WARPS < chunks) load_w(wq[i], r0, r1, chunk + AHEAD * WARPS, p.t);
        }
    }
    reduce_and_store<TILES>(c, p, row0, acc);
}

// ---- launchers ----

template <bool FP8, int TILES> static cudaError_t run(const stream_call *c, cudaStream_t stream) {
    dim3 grid((c->n + ROWS - 1) / ROWS, c->batch > 0 ? c->batch : 1, (c->m + TILES * 8 - 1) / (TILES * 8));
    return launch(stream_kernel<FP8, TILES>, grid, dim3(WARPS * 32), 0, stream, *c);
}

cudaError_t stream_run(const struct stream_call *c, cudaStream_t stream) {
    if (c->m == 0 || c->n == 0) return cudaSuccess;
    if (c->w_scale != NULL) {
        return c->m <= 8 ? run<true, 1>(c, stream) : c->m <= 16 ? run<true, 2>(c, stream) : run<true, 4>(c, stream);
    }
    return c->m <= 8 ? run<false, 1>(c, stream) : c->m <= 16 ? run<false, 2>(c, stream) : run<false, 4>(c, stream);
}
