// Design notes. The arithmetic is sampler.c's, operation for operation (this file is compiled without fused multiply-adds);
// what that one does in a loop over the vocabulary, a block does in parallel where the order can't matter: maxima with ties
// to the lowest id, integer sums.
#include "worker/engine/cuda/kernels/device.cuh"
#include "worker/engine/cuda/kernels/sample.h"

enum { THREADS = 1024 };
#define NONE    UINT32_MAX
#define SEEN    (1u << 31)
#define EACH(t) for (uint32_t t = threadIdx.x; t < c.vocab; t += THREADS)

// ---- scalar_math.c and philox.c, for the device ----

static __device__ double math_exp(double x) {
    if (x < -700) return 0;
    double t = x * 0x1.71547652b82fep0 + 0x1.8p52, k = t - 0x1.8p52;
    double r = (x - k * 0x1.62e42fee00000p-1) - k * 0x1.a39ef35793c76p-33, sum = 1;
    for (int n = 14; n >= 1; n--) sum = 1 + sum * r / n;
    return sum * __longlong_as_double((long long)((uint64_t)((int64_t)k + 1023) << 52));
}

static __device__ double math_log(double x) {
    uint64_t bits = (uint64_t)__double_as_longlong(x);
    int k = (int)(bits >> 52) - 1023;
    double m = __longlong_as_double((long long)((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL));
    if (m > 0x1.6a09e667f3bcdp0) {
        m *= 0.5;
        k++;
    }
    double f = (m - 1) / (m + 1), f2 = f * f, sum = 0;
    for (int n = 23; n >= 3; n -= 2) sum = (sum + 1.0 / n) * f2;
    return k * 0x1.62e42fee00000p-1 + (k * 0x1.a39ef35793c76p-33 + 2 * (f + f * sum));
}

static __device__ uint32_t philox(uint32_t block, uint32_t choice, uint32_t position, uint64_t key, uint32_t which) {
    uint32_t v[4] = {block, choice, position, 0}, k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53 * v[0], b = (uint64_t)0xCD9E8D57 * v[2];
        uint32_t x0 = (uint32_t)(b >> 32) ^ v[1] ^ k0, x2 = (uint32_t)(a >> 32) ^ v[3] ^ k1;
        v[0] = x0, v[1] = (uint32_t)b, v[2] = x2, v[3] = (uint32_t)a;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return which == 0 ? v[0] : which == 1 ? v[1] : which == 2 ? v[2] : v[3];
}

// ---- over the block ----

struct shared {
    double value[32];
    uint32_t at[32];
    unsigned long long bucket[256], above;
    uint32_t digit, answer;
};

struct job {
    const sample_call *call;
    const sample_row *row;
    const sampling_params *p;
    const float *logits;
    float *w, *order;
    uint64_t *mass;
    uint32_t *counts, *tokens, vocab;
    shared *s;
};

static __device__ uint64_t block_sum_u64(uint64_t x, shared *s) {
    __syncthreads();
    if (threadIdx.x == 0) s->above = 0;
    __syncthreads();
    for (int i = 16; i > 0; i >>= 1) x += __shfl_xor_sync(0xffffffff, x, i);
    if (threadIdx.x % 32 == 0) atomicAdd(&s->above, (unsigned long long)x);
    __syncthreads();
    uint64_t sum = s->above;
    __syncthreads();
    return sum;
}

// The largest value, and of equal ones the lowest index; every thread gets both.
static __device__ double block_best(double v, uint32_t at, shared *s, uint32_t *index) {
    for (int i = 16; i > 0; i >>= 1) {
        double ov = __shfl_xor_sync(0xffffffff, v, i);
        uint32_t oa = __shfl_xor_sync(0xffffffff, at, i);
        if (ov > v || (ov == v && oa < at)) v = ov, at = oa;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) s->value[threadIdx.x / 32] = v, s->at[threadIdx.x / 32] = at;
    __syncthreads();
    v = s->value[0];
    at = s->at[0];
    for (int i = 1; i < THREADS / 32; i++) {
        if (s->value[i] > v || (s->value[i] == v && s->at[i] < at)) v = s->value[i], at = s->at[i];
    }
    __syncthreads();
    *index = at;
    return v;
}

static __device__ double block_sum_f64(double x, shared *s) {
    for (int i = 16; i > 0; i >>= 1) x += __shfl_xor_sync(0xffffffff, x, i);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s->value[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < THREADS / 32; i++) x += s->value[i];
    __syncthreads();
    return x;
}

static __device__ float largest(const job &c, const float *w, uint32_t *index) {
    double v = -INFINITY;
    uint32_t at = NONE;
    EACH(t) {
        if (at == NONE || w[t] > v) v = w[t], at = t;
    }
    return (float)block_best(v, at, c.s, index);
}

static __device__ bool all_finite(const job &c, uint32_t rows, uint64_t ld) {
    uint32_t bad = 0;
    for (uint32_t r = 0; r < rows; r++) {
        EACH(t) bad |= (__float_as_uint(c.logits[r * ld + t]) & 0x7f800000) >= (127u + 100) << 23;
    }
    return __syncthreads_or(bad) == 0;
}

// ---- bias, penalties, bans ----

static __device__ void penalize(const job &c) {
    const sampling_params *p = c.p;
    bool repetition = p->repetition_penalty != 1, counted = p->presence_penalty != 0 || p->frequency_penalty != 0;
    if (!repetition && !counted) return;
    uint32_t n = c.row->n_tokens;
    for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
        uint32_t t = c.tokens[i];
        if (!repetition || (atomicOr(&c.counts[t], SEEN) & SEEN)) continue;
        c.w[t] = c.w[t] > 0 ? c.w[t] / p->repetition_penalty : c.w[t] * p->repetition_penalty;
    }
    __syncthreads();
    for (uint32_t i = c.row->n_prompt + threadIdx.x; i < n; i += THREADS) atomicAdd(&c.counts[c.tokens[i]], 1);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
        uint32_t t = c.tokens[i], times = atomicExch(&c.counts[t], 0) & ~SEEN;
        if (times > 0) c.w[t] -= (float)times * p->frequency_penalty + p->presence_penalty;
    }
    __syncthreads();
}

static __device__ void allow_only(const job &c) {
    for (uint32_t i = threadIdx.x; i < c.p->n_allowed; i += THREADS) c.counts[c.p->allowed[i]] = 1;
    __syncthreads();
    EACH(t) c.w[t] = c.counts[t] != 0 ? c.w[t] : -INFINITY;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < c.p->n_allowed; i += THREADS) c.counts[c.p->allowed[i]] = 0;
    __syncthreads();
}

static __device__ void prepare(const job &c) {
    const sampling_params *p = c.p;
    EACH(t) c.w[t] = c.logits[t];
    __syncthreads();
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < p->n_bias; i++) c.w[p->bias[i].token] += p->bias[i].bias;
    }
    __syncthreads();
    penalize(c);
    if (c.row->n_tokens - c.row->n_prompt < p->min_tokens) {
        for (uint32_t i = threadIdx.x; i < p->n_eos; i += THREADS) c.w[p->eos[i]] = -INFINITY;
    }
    for (uint32_t i = threadIdx.x; i < p->n_banned; i += THREADS) c.w[p->banned[i]] = -INFINITY;
    __syncthreads();
    if (p->n_allowed > 0) allow_only(c);
    if (c.row->mask != NONE) {
        const uint32_t *mask = c.call->masks + (uint64_t)c.row->mask * ((c.vocab + 31) / 32);
        EACH(t) {
            if (!(mask[t / 32] >> (t % 32) & 1)) c.w[t] = -INFINITY;
        }
    }
    __syncthreads();
}

// ---- cutting the tail ----

static __device__ uint32_t key_of(float w) {
    if (w == -INFINITY) return 0;
    uint32_t bits = __float_as_uint(w + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000;
}

// Tokens whose key is the last survivor's, by ascending id, until the target is met.
static __device__ void keep_ties(const job &c, const float *order, bool unit, uint64_t target, uint32_t prefix) {
    for (uint32_t first = 0; first < c.vocab; first += THREADS) {
        uint32_t t = first + threadIdx.x, key = t < c.vocab ? key_of(order[t]) : UINT32_MAX;
        if (key < prefix) c.w[t] = -INFINITY;
        if (!__syncthreads_or(key == prefix)) continue;
        if (threadIdx.x == 0) {
            for (uint32_t i = first; i < first + THREADS && i < c.vocab; i++) {
                if (key_of(order[i]) != prefix || order[i] == -INFINITY) continue;
                if (c.s->above < target) {
                    c.s->above += unit ? 1 : c.mass[i];
                } else {
                    c.w[i] = -INFINITY;
                }
            }
        }
        __syncthreads();
    }
    __syncthreads();
}

static __device__ void keep_prefix(const job &c, const float *order, bool unit, uint64_t target) {
    uint32_t prefix = 0, known = 0;
    if (threadIdx.x == 0) c.s->above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        if (threadIdx.x < 256) c.s->bucket[threadIdx.x] = 0;
        __syncthreads();
        EACH(t) {
            uint32_t key = key_of(order[t]);
            if (key != 0 && (key & known) == prefix) {
                atomicAdd(&c.s->bucket[key >> shift & 255], unit ? 1ull : (unsigned long long)c.mass[t]);
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            uint32_t b = 255;
            while (b > 0 && c.s->above + c.s->bucket[b] < target) c.s->above += c.s->bucket[b--];
            c.s->digit = b;
        }
        __syncthreads();
        prefix |= c.s->digit << shift;
        known |= 255u << shift;
    }
    keep_ties(c, order, unit, target, prefix);
}

static __device__ uint64_t weigh(const job &c, float max) {
    uint64_t total = 0;
    EACH(t) {
        double d = (double)c.w[t] - max;
        c.mass[t] = c.w[t] == -INFINITY ? 0 : (uint64_t)(math_exp(d) * 0x1p40);
        total += c.mass[t];
    }
    return block_sum_u64(total, c.s);
}

static __device__ uint64_t part_of(uint64_t total, float part) {
    uint64_t target = (uint64_t)((unsigned __int128)total * (uint64_t)((double)part * 0x1p32) >> 32);
    return target > 0 ? target : 1;
}

static __device__ void order_by_surprise(const job &c, float max, uint64_t total) {
    unsigned __int128 sum = 0;
    EACH(t) {
        if (c.mass[t] > 0) sum += (unsigned __int128)c.mass[t] * (uint64_t)(((double)max - (double)c.w[t]) * 0x1p20);
    }
    // In parts of 40 bits, whose sums over the block fit 64.
    uint64_t low = block_sum_u64((uint64_t)sum & 0xffffffffffULL, c.s),
             mid = block_sum_u64((uint64_t)(sum >> 40) & 0xffffffffffULL, c.s);
    uint64_t high = block_sum_u64((uint64_t)(sum >> 80), c.s);
    sum = ((unsigned __int128)high << 80) + ((unsigned __int128)mid << 40) + low;
    double mean = total > 0 ? (double)sum / (double)total * 0x1p-20 : 0;
    EACH(t) {
        double below = (double)max - (double)c.w[t];
        c.order[t] = c.w[t] == -INFINITY ? -INFINITY : (float)-fabs(mean - below);
    }
    __syncthreads();
}

static __device__ void cut_tail(const job &c) {
    const sampling_params *p = c.p;
    uint32_t unused;
    float max = largest(c, c.w, &unused);
    if (p->min_p > 0) {
        float floor = max + (float)math_log(p->min_p);
        EACH(t) c.w[t] = c.w[t] < floor ? -INFINITY : c.w[t];
        __syncthreads();
    }
    if (p->top_k > 0 && p->top_k < c.vocab) keep_prefix(c, c.w, true, p->top_k);
    if (p->typical_p < 1) {
        uint64_t total = weigh(c, max);
        order_by_surprise(c, max, total);
        keep_prefix(c, c.order, false, part_of(total, p->typical_p));
    }
    if (p->top_p < 1) {
        uint64_t total = weigh(c, max);
        keep_prefix(c, c.w, false, part_of(total, p->top_p));
    }
}

// ---- the draw ----

static __device__ uint32_t draw(const job &c) {
    uint32_t unused, at = NONE, index;
    double best = -INFINITY, max = largest(c, c.w, &unused);
    EACH(t) {
        double w = c.w[t];
        if (w == -INFINITY || w + 23 < max - 3.2) continue; // can't win
        uint32_t r = philox(t / 4, c.p->choice, c.row->n_tokens, c.p->seed, t % 4);
        double score = w + -math_log(-math_log(((double)r + 0.5) * 0x1p-32));
        if (score > best) best = score, at = t;
    }
    block_best(best, at, c.s, &index);
    return index == NONE ? 0 : index;
}

// ---- what the model itself said ----

static __device__ void report_logprobs(const job &c, engine_token *out) {
    if (threadIdx.x == 0) out->logprob = 0, out->n_top = 0;
    if (!c.p->want_logprob) return;
    uint32_t at;
    float max = largest(c, c.logits, &at);
    double sum = 0;
    EACH(t) sum += math_exp((double)c.logits[t] - max);
    double total = max + math_log(block_sum_f64(sum, c.s));
    if (threadIdx.x == 0) out->logprob = (float)(c.logits[out->token] - total);
    uint32_t want = min(c.p->logprobs, c.vocab), last = 0;
    double before = INFINITY;
    for (uint32_t i = 0; i < want; i++) { // the next after (before, last) in the order
        double v = -INFINITY;
        uint32_t mine = NONE;
        EACH(t) {
            double l = c.logits[t];
            bool later = i == 0 || l < before || (l == before && t > last);
            if (later && (mine == NONE || l > v)) v = l, mine = t;
        }
        before = block_best(v, mine, c.s, &last);
        if (threadIdx.x == 0) {
            out->top[i].token = last;
            out->top[i].logprob = (float)((float)before - total);
            out->n_top = i + 1;
        }
    }
}

// False: nothing is allowed.
static __device__ bool pick(const job &c, uint32_t *token) {
    prepare(c);
    if (largest(c, c.w, token) == -INFINITY) return false;
    if (c.p->temperature > 0) {
        EACH(t) c.w[t] /= c.p->temperature;
        __syncthreads();
        cut_tail(c);
        *token = draw(c);
    }
    return true;
}

__global__ void __launch_bounds__(THREADS) sample_kernel(const __grid_constant__ sample_call call) {
    __shared__ shared s;
    pdl_next();
    pdl_wait();
    const sample_row *row = &call.rows[blockIdx.x];
    uint64_t at = (uint64_t)blockIdx.x * call.vocab;
    job c = {&call, row, &call.params[row->slot], call.logits + row->logits_row * call.ld};
    c.w = call.w + at;
    c.order = call.order + at;
    c.mass = call.mass + at;
    c.counts = call.counts + at;
    c.tokens = call.tokens + row->slot * call.tokens_ld;
    c.vocab = call.vocab;
    c.s = &s;
    sample_answer *out = &call.answers[blockIdx.x];
    uint32_t token = row->forced;
    bool ok = all_finite(c, row->check_rows > 0 ? row->check_rows : 1, call.ld);
    if (ok && row->check_rows == 0 && token == ENGINE_NO_TOKEN) ok = pick(c, &token);
    if (threadIdx.x == 0) {
        out->ok = ok;
        out->token.token = ok ? token : 0;
        if (row->accept && row->check_rows == 0) c.tokens[row->n_tokens] = ok ? token : 0;
    }
    __syncthreads();
    if (ok && row->check_rows == 0) report_logprobs(c, &out->token);
}

cudaError_t sample_run(const struct sample_call *c, cudaStream_t stream) {
    return c->n_rows == 0 ? cudaSuccess : launch(sample_kernel, dim3(c->n_rows), dim3(THREADS), 0, stream, *c);
}
