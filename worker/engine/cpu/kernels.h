// The arithmetic of the CPU engine, once per instruction set, all with the same bits: each output element is one chain of
// operations in an order that neither the number of rows, nor the tile, nor the instruction set changes. They rely on
// flush-to-zero being set (kernels_enter). No allocation, no threads.
//
// Layouts. A matrix [n][k] (n outputs) lies in panels of 16 rows, so that a lane is an output row and no sum crosses lanes:
// bf16 [n/16][k/2][16][2], fp32 [n/16][k][16] (the others: forms.h), rows past n being zero. A packed vector of k floats is
// k words: for each pair of elements a word of their upper bf16 halves and a word of what those leave over, so x ~ hi + lo
// within 2^-16 of x.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PANEL_ROWS = 16, ATTEND_ROWS = 32, W8A8_GROUP = 128, SEGMENT_TOKENS = 256, CACHE_GROUP = 16 };
// How a matrix lies in memory: see forms.h.
enum weight_form {
    FORM_BF16,
    FORM_F32,
    FORM_F16,
    FORM_Q4_0,
    FORM_Q4_1,
    FORM_Q5_0,
    FORM_Q5_1,
    FORM_Q8_0,
    FORM_Q4_K,
    FORM_Q5_K,
    FORM_Q6_K,
    FORM_INT8,
    FORM_INT4,
    FORM_F8,
    FORM_COUNT
};
enum isa { ISA_BEST, ISA_GENERIC, ISA_AVX2, ISA_AVX512, ISA_AVX512_BF16, ISA_COUNT };
extern const char *const isa_names[ISA_COUNT]; // as on command lines

// out[i][first + j] = bias[j] + sum over k of w[j][k] * x[rows[i]][k], for rows i < m, and j < n where n lies in `panels`.
struct gemm_call {
    const void *w; // first panel
    uint32_t panels, n, k;
    const float *x;         // plain floats, for all but
    const uint32_t *packed; // bf16 matrices, which take packed vectors
    size_t ld_x;            // elements between vectors
    const uint32_t *rows;   // which vectors, or NULL for 0 ... m - 1
    uint32_t m;
    float *out; // column of the first panel
    size_t ld_out;
    const float *bias; // [n] at the first panel, or NULL
};

// A query vector and the positions of a segment that it sees; none where begin is end.
struct attend_row {
    const float *q; // [k_dim]
    uint32_t begin, end;
};

// Queries of one sequence that share a cache head, over positions inside one segment. For each row: max = max s, sum = sum
// of exp(s - max), out = sum of exp(s - max) v, with s = scale q·k, over what it sees.
struct attend_call {
    const struct attend_row *rows;
    uint32_t n_rows;       // at most ATTEND_ROWS
    uint32_t begin, end;   // what all of them see together, not empty
    uint32_t k_dim, v_dim; // v_dim a multiple of 16
    float scale;
    const float *k, *v;        // of the cache head, in block 0: [block_tokens / 16][k_dim][16] and [block_tokens][v_ld]
    size_t k_stride, v_stride; // floats from block to block
    uint32_t v_ld;
    bool by_token; // k is [block_tokens][k_dim] instead
    const uint32_t *table;
    uint32_t block_tokens;
    float *scores, *keys;   // scratch [ATTEND_ROWS][SEGMENT_TOKENS] and, by_token, [k_dim][16]
    float *max, *sum, *out; // [n_rows], [n_rows], [n_rows][v_dim]
};

struct kernels {
    const char *name;
    void (*gemm[FORM_COUNT])(const struct gemm_call *call);
    void (*pack)(const float *x, uint32_t n, uint32_t *packed); // n even
    // out = x / sqrt(mean of x² + eps) * weight; may be in place.
    void (*rms_norm)(const float *x, const float *weight, uint32_t n, float eps, float *out);
    void (*silu_mul)(const float *gate, const float *up, uint32_t n, float *out); // gate / (1 + exp(-gate)) * up
    void (*add_scaled)(const float *x, float scale, uint32_t n, float *sum);      // sum += scale * x
    void (*attend)(const struct attend_call *call);
    // Takes one more segment's (max, sum, out[n]) into a running one; segments come in the order of their positions.
    void (*merge)(float max, float sum, const float *out, uint32_t n, float *run_max, float *run_sum, float *run_out);
    void (*divide)(const float *x, float by, uint32_t n, float *out);
};

// ISA_BEST: the best that this processor has. NULL when it lacks the one that was asked for.
const struct kernels *kernels_pick(enum isa isa);
// Sets round-to-nearest with denormals flushed for this thread and returns what was set before, for kernels_leave.
uint32_t kernels_enter(void);
void kernels_leave(uint32_t before);

extern const struct kernels kernels_generic;
#ifdef __x86_64__
extern const struct kernels kernels_avx2, kernels_avx512, kernels_avx512_bf16;
#endif
