// Several matrix products as one loop of the pool: threads take columns (and, with many rows, stripes of rows), never K.
#pragma once
#include "worker/engine/cpu/kernels.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/cpu/weights.h"

struct gemm_job {
    const struct matrix *w;
    const float *x;         // vectors as floats, and
    const uint32_t *packed; // packed: which is read depends on the matrix
    size_t ld_x;            // elements between vectors, in both
    const uint32_t *rows;   // which vectors, or NULL
    uint32_t m;
    float *out;
    size_t ld_out;
    const float *bias;            // or NULL
    uint32_t first_unit, stripes; // set by gemm_run
};

void gemm_run(struct pool *pool, const struct kernels *kernels, struct gemm_job *jobs, uint32_t n);
