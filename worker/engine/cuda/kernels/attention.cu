// Design notes. Operands of the matrix units come straight from the cache: the order of dimensions (keys) and of columns
// (values) is permuted so that each lane's 16 or 8 contiguous bytes are what it needs. A block has 4 warps (values up to 128
// wide) or 8 (up to 512); in the first half each warp takes 32 positions of the segment, in the second each takes its part
// of the value's dimensions over all positions.
#include <math.h>
#include "worker/engine/cuda/kernels/attention.h"
#include "worker/engine/cuda/kernels/device.cuh"

static const float LOG2E = 1.4426950408889634f;

struct unit {
    uint32_t token, count, cache_head, head, heads; // head: first query head; heads: in this chunk
    uint32_t rows, first_pos, end, begin;           // positions [begin, end) are looked at
    const uint32_t *table;
};

static __host__ __device__ uint32_t chunks_of(const attend_call &c) { return (c.heads / c.kv_heads + 15) / 16; }

static __device__ unit find_unit(const attend_call &c) {
    unit u;
    attend_tile tile = c.tiles[blockIdx.x];
    uint32_t group = c.heads / c.kv_heads, chunks = chunks_of(c), chunk = blockIdx.y % chunks;
    u.token = tile.token;
    u.count = tile.count;
    u.cache_head = blockIdx.y / chunks;
    u.head = u.cache_head * group + chunk * 16;
    u.heads = min(16u, group - chunk * 16);
    u.rows = u.count * u.heads;
    u.first_pos = u.count > 0 ? c.pos[u.token] : 0;
    u.end = u.first_pos + u.count;
    u.begin = c.window > 0 && u.first_pos + 1 > c.window ? u.first_pos + 1 - c.window : 0;
    u.table = c.table + (uint64_t)(u.count > 0 ? c.slot[u.token] : 0) * c.table_ld;
    return u;
}

// Offset of a position's row in the cache, without its head.
static __device__ __forceinline__ uint64_t row_at(const attend_call &c, const unit &u, uint32_t pos, uint64_t row) {
    return u.table[pos / c.block_tokens] * c.block_step + u.cache_head * c.head_step + pos % c.block_tokens * row;
}

template <int MT> static __device__ void load_queries(const attend_call &c, const unit &u, __nv_bfloat16 *q, uint32_t ld) {
    uint32_t words = c.k_pad / 8;
    for (uint32_t i = threadIdx.x; i < 16 * MT * words; i += blockDim.x) {
        uint32_t r = i / words, at = i % words * 8;
        uint4 x = make_uint4(0, 0, 0, 0);
        if (r < u.rows) {
            uint64_t from = ((uint64_t)(u.token + r / u.heads) * c.heads + u.head + r % u.heads) * c.k_pad + at;
            x = *(const uint4 *)((const __nv_bfloat16 *)c.q + from);
        }
        *(uint4 *)(q + r * ld + at) = x;
    }
}

// Scores of this warp's 32 positions from p0, in units of log2.
template <int MT>
static __device__ __forceinline__ void scores(const attend_call &c, const unit &u, const __nv_bfloat16 *q, uint32_t ld,
                                              uint32_t p0, float s[MT][4][4]) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const __nv_bfloat16 *k[4];
#pragma unroll
    for (int n = 0; n < 4; n++) {
        uint32_t pos = p0 + n * 8 + g;
        k[n] = pos < u.end ? (const __nv_bfloat16 *)c.k + row_at(c, u, pos, c.k_row) + t * 8 : NULL;
#pragma unroll
        for (int m = 0; m < MT; m++) s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0;
    }
#pragma unroll 2
    for (uint32_t at = 0; at < c.k_pad; at += 32) {
        uint4 b[4];
#pragma unroll
        for (int n = 0; n < 4; n++) b[n] = k[n] == NULL ? make_uint4(0, 0, 0, 0) : *(const uint4 *)(k[n] + at);
#pragma unroll
        for (int m = 0; m < MT; m++) {
            uint4 a0 = *(const uint4 *)(q + (m * 16 + g) * ld + at + t * 8);
            uint4 a1 = *(const uint4 *)(q + (m * 16 + g + 8) * ld + at + t * 8);
#pragma unroll
            for (int n = 0; n < 4; n++) {
                mma_bf16(s[m][n], a0.x, a1.x, a0.y, a1.y, b[n].x, b[n].y);
                mma_bf16(s[m][n], a0.z, a1.z, a0.w, a1.w, b[n].z, b[n].w);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            uint32_t r = m * 16 + g + e / 2 * 8, pos_q = u.first_pos + r / u.heads;
            uint32_t low = c.window > 0 && pos_q + 1 > c.window ? pos_q + 1 - c.window : 0;
#pragma unroll
            for (int n = 0; n < 4; n++) {
                uint32_t pos = p0 + n * 8 + t * 2 + e % 2;
                bool seen = r < u.rows && pos <= pos_q && pos >= low;
                s[m][n][e] = seen ? s[m][n][e] * (c.scale * LOG2E) : -INFINITY;
            }
        }
    }
}

template <int MT> struct shared_rows { float max[8][16 * MT], sum[8][16 * MT]; };

// Scores to weights: exp2(s - max of the row), as bf16 to p; the rows' maxima and sums to the shared arrays.
template <int NW, int MT>
static __device__ __forceinline__ void softmax(float s[MT][4][4], shared_rows<MT> *rows, __nv_bfloat16 *p) {
    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = -INFINITY;
#pragma unroll
            for (int n = 0; n < 4; n++) most = fmaxf(most, fmaxf(s[m][n][half * 2], s[m][n][half * 2 + 1]));
            most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 2));
            if (t == 0) rows->max[warp][m * 16 + g + half * 8] = most;
        }
    }
    __syncthreads();
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = m * 16 + g + half * 8;
            float most = rows->max[0][r], sum = 0;
            for (int w = 1; w < NW; w++) most = fmaxf(most, rows->max[w][r]);
            if (most == -INFINITY) most = 0;
#pragma unroll
            for (int n = 0; n < 4; n++) {
                float a = exp2f(s[m][n][half * 2] - most), b = exp2f(s[m][n][half * 2 + 1] - most);
                sum += a + b;
                *(__nv_bfloat162 *)(p + r * (NW * 32 + 8) + warp * 32 + n * 8 + t * 2) = __floats2bfloat162_rn(a, b);
            }
            sum += __shfl_xor_sync(0xffffffff, sum, 1);
            sum += __shfl_xor_sync(0xffffffff, sum, 2);
            if (t == 0) rows->sum[warp][r] = sum;
        }
    }
    __syncthreads();
}

// o += weights times values for this warp's dimensions.
template <int NW, int MT, int DB>
static __device__ __forceinline__ void values(const attend_call &c, const unit &u, const __nv_bfloat16 *p, uint32_t p0,
                                              float o[MT][DB][4][4]) {
    const int LD = NW * 32 + 8;
    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    if ((uint32_t)warp * DB * 32 >= c.v_pad) return;
#pragma unroll 2
    for (int at = 0; at < NW * 32; at += 16) {
        if (p0 + at >= u.end) break;
        const __nv_bfloat16 *v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t pos = p0 + at + t * 2 + i % 2 + i / 2 * 8;
            v[i] = pos < u.end ? (const __nv_bfloat16 *)c.v + row_at(c, u, pos, c.v_row) : NULL;
        }
#pragma unroll
        for (int d = 0; d < DB; d++) {
            uint32_t dim = (warp * DB + d) * 32 + g * 4;
            if (dim >= c.v_pad) break;
            uint2 x[4];
#pragma unroll
            for (int i = 0; i < 4; i++) x[i] = v[i] == NULL ? make_uint2(0, 0) : *(const uint2 *)(v[i] + dim);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                const __nv_bfloat16 *row = p + (m * 16 + g) * LD + at + t * 2;
                uint32_t a0 = *(const uint32_t *)row, a1 = *(const uint32_t *)(row + 8 * LD);
                uint32_t a2 = *(const uint32_t *)(row + 8), a3 = *(const uint32_t *)(row + 8 * LD + 8);
                mma_bf16(o[m][d][0], a0, a1, a2, a3, __byte_perm(x[0].x, x[1].x, 0x5410),
                         __byte_perm(x[2].x, x[3].x, 0x5410));
                mma_bf16(o[m][d][1], a0, a1, a2, a3, __byte_perm(x[0].x, x[1].x, 0x7632),
                         __byte_perm(x[2].x, x[3].x, 0x7632));
                mma_bf16(o[m][d][2], a0, a1, a2, a3, __byte_perm(x[0].y, x[1].y, 0x5410),
                         __byte_perm(x[2].y, x[3].y, 0x5410));
                mma_bf16(o[m][d][3], a0, a1, a2, a3, __byte_perm(x[0].y, x[1].y, 0x7632),
                         __byte_perm(x[2].y, x[3].y, 0x7632));
            }
        }
    }
}

// The merge of a segment (m, l) into a running (M, L): factors of the running and of the segment's sums.
static __device__ __forceinline__ void merge_factors(float m, float l, float *M, float *L, float *old, float *fresh) {
    *old = 1;
    *fresh = 0;
    if (!(l > 0)) {
        if (l == 0) return; // nothing was seen there
        *fresh = l;         // a NaN stays one
        *L = l;
        return;
    }
    float most = fmaxf(*M, m);
    *old = exp2f(*M - most);
    *fresh = exp2f(m - most);
    *L = fmaf(l, *fresh, *L * *old);
    *M = most;
}

static __device__ __forceinline__ void store(const attend_call &c, uint32_t token, uint32_t head, uint32_t dim, float x) {
    if (dim >= c.v_dim) return;
    ((__nv_bfloat16 *)c.out)[token * c.out_token + head * c.out_head + dim] = __float2bfloat16(x);
}

template <int NW, int MT> static __device__ void row_totals(const shared_rows<MT> *rows, int r, float *m, float *l) {
    *m = rows->max[0][r];
    *l = rows->sum[0][r];
    for (int w = 1; w < NW; w++) {
        *m = fmaxf(*m, rows->max[w][r]);
        *l += rows->sum[w][r];
    }
}

// Dimension of element e (column t 2 + e % 2) of product i of block d.
#define DIM_OF(d, i, e) (((threadIdx.x / 32) * DB + (d)) * 32 + (threadIdx.x % 4 * 2 + (e) % 2) * 4 + (i))

template <int NW, int MT, int DB>
__global__ void __launch_bounds__(NW * 32) attend_loop(const __grid_constant__ attend_call c) {
    extern __shared__ uint4 memory[];
    __shared__ shared_rows<MT> rows;
    const uint32_t SEG = NW * 32, ld = c.k_pad + 8;
    __nv_bfloat16 *q = (__nv_bfloat16 *)memory, *p = q + 16 * MT * ld;
    int g = threadIdx.x % 32 / 4;
    pdl_next();
    pdl_wait();
    unit u = find_unit(c);
    if (u.count == 0) return;
    load_queries<MT>(c, u, q, ld);
    __syncthreads();
    float run[MT][DB][4][4] = {}, M[MT][2], L[MT][2];
    for (int m = 0; m < MT; m++) M[m][0] = M[m][1] = -INFINITY, L[m][0] = L[m][1] = 0;
    for (uint32_t at = u.begin / SEG * SEG; at < u.end; at += SEG) {
        float s[MT][4][4], o[MT][DB][4][4] = {};
        scores<MT>(c, u, q, ld, at + threadIdx.x / 32 * 32, s);
        softmax<NW, MT>(s, &rows, p);
        values<NW, MT, DB>(c, u, p, at, o);
#pragma unroll
        for (int m = 0; m < MT; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float sm, sl, old, fresh;
                row_totals<NW, MT>(&rows, m * 16 + g + half * 8, &sm, &sl);
                merge_factors(sm, sl, &M[m][half], &L[m][half], &old, &fresh);
#pragma unroll
                for (int d = 0; d < DB; d++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
#pragma unroll
                        for (int e = half * 2; e < half * 2 + 2; e++)
                            run[m][d][i][e] = fmaf(o[m][d][i][e], fresh, run[m][d][i][e] * old);
                    }
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            uint32_t r = m * 16 + g + e / 2 * 8;
            if (r >= u.rows) continue;
#pragma unroll
            for (int d = 0; d < DB; d++) {
#pragma unroll
                for (int i = 0; i < 4; i++)
                    store(c, u.token + r / u.heads, u.head + r % u.heads, DIM_OF(d, i, e), run[m][d][i][e] / L[m][e / 2]);
            }
        }
    }
}

// One segment of one tile: max, sum and sums of values to parts [unit][row][segment][2 + v_pad].
template <int NW, int DB> __global__ void __launch_bounds__(NW * 32) attend_split(const __grid_constant__ attend_call c) {
    extern __shared__ uint4 memory[];
    __shared__ shared_rows<1> rows;
    const uint32_t SEG = NW * 32, ld = c.k_pad + 8;
    __nv_bfloat16 *q = (__nv_bfloat16 *)memory, *p = q + 16 * ld;
    int g = threadIdx.x % 32 / 4;
    pdl_next();
    pdl_wait();
    unit u = find_unit(c);
    uint32_t at = (u.begin / SEG + blockIdx.z) * SEG;
    if (at >= u.end) return;
    load_queries<1>(c, u, q, ld);
    __syncthreads();
    float s[1][4][4], o[1][DB][4][4] = {};
    scores<1>(c, u, q, ld, at + threadIdx.x / 32 * 32, s);
    softmax<NW, 1>(s, &rows, p);
    values<NW, 1, DB>(c, u, p, at, o);
    uint64_t first = ((uint64_t)blockIdx.x * gridDim.y + blockIdx.y) * 16 * gridDim.z + blockIdx.z;
    for (int e = 0; e < 4; e++) {
        uint32_t r = g + e / 2 * 8;
        if (r >= u.rows) continue;
        float *out = c.parts + (first + r * gridDim.z) * (c.v_pad + 2);
        for (int d = 0; d < DB; d++) {
            for (int i = 0; i < 4; i++) {
                if (DIM_OF(d, i, e) < c.v_pad) out[2 + DIM_OF(d, i, e)] = o[0][d][i][e];
            }
        }
        if (threadIdx.x / 32 == 0 && threadIdx.x % 4 == 0 && e % 2 == 0) row_totals<NW, 1>(&rows, r, &out[0], &out[1]);
    }
}

__global__ void merge_segments(const __grid_constant__ attend_call c, uint32_t seg, uint32_t segments) {
    pdl_next();
    pdl_wait();
    unit u = find_unit(c);
    uint32_t r = blockIdx.z, dim = threadIdx.x;
    if (r >= u.rows || dim >= c.v_pad) return;
    const float *part = c.parts + (((uint64_t)blockIdx.x * gridDim.y + blockIdx.y) * 16 + r) * segments * (c.v_pad + 2);
    float M = -INFINITY, L = 0, run = 0, old, fresh;
#pragma unroll 4
    for (uint32_t at = u.begin / seg * seg; at < u.end; at += seg, part += c.v_pad + 2) {
        merge_factors(part[0], part[1], &M, &L, &old, &fresh);
        run = fmaf(part[2 + dim], fresh, run * old);
    }
    store(c, u.token + r / u.heads, u.head + r % u.heads, dim, run / L);
}

// ---- launchers ----

static bool is_wide(uint32_t v_pad) { return v_pad > 128; }
uint32_t attend_segment(uint32_t v_pad) { return is_wide(v_pad) ? 256 : 128; }
uint32_t attend_loop_rows(uint32_t v_pad) { return is_wide(v_pad) ? 16 : 32; }

uint64_t attend_parts_floats(const struct attend_call *c, uint32_t tiles, uint32_t segments) {
    return (uint64_t)tiles * c->kv_heads * chunks_of(*c) * 16 * segments * (c->v_pad + 2);
}

static size_t shared_bytes(const attend_call *c, int nw, int mt) {
    return (size_t)16 * mt * ((c->k_pad + 8) + (nw * 32 + 8)) * sizeof(__nv_bfloat16);
}

cudaError_t attend_run(const struct attend_call *c, cudaStream_t stream) {
    if (c->n_tiles == 0) return cudaSuccess;
    bool wide = is_wide(c->v_pad);
    dim3 grid(c->n_tiles, c->kv_heads * chunks_of(*c), 1);
    if (c->segments == 0) {
        if (wide) return launch(attend_loop<8, 1, 2>, grid, dim3(256), shared_bytes(c, 8, 1), stream, *c);
        return launch(attend_loop<4, 2, 1>, grid, dim3(128), shared_bytes(c, 4, 2), stream, *c);
    }
    grid.z = c->segments;
    cudaError_t id = wide ? launch(attend_split<8, 2>, grid, dim3(256), shared_bytes(c, 8, 1), stream, *c)
                          : launch(attend_split<4, 1>, grid, dim3(128), shared_bytes(c, 4, 1), stream, *c);
    if (id != cudaSuccess) return id;
    grid.z = 16;
    return launch(merge_segments, grid, dim3((c->v_pad + 31) / 32 * 32), 0, stream, *c, attend_segment(c->v_pad),
                  c->segments);
}
