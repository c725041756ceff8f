// Matrix products: own streaming kernels for few vectors, FP8 and the deterministic class, cuBLASLt for the rest. cuBLASLt's
// answers are kept per shape, so that it is asked once.
#pragma once
#include "worker/engine/cuda/device.h"
#include "worker/engine/cuda/weights.h"

struct gemm;

// deterministic: own kernels alone. The workspace is part of the arena.
err_id gemm_create(struct gemm **gemm, bool deterministic, struct arena *arena, struct error *e);
void gemm_destroy(struct gemm **gemm);
uint64_t gemm_workspace_bytes(void);

// Vectors as bf16, and for FP8 matrices once more quantised.
struct gemm_vectors {
    const void *x; // bf16 [m][ldx]
    uint64_t ldx;
    const void *q; // half [m][ld of the matrix], NULL when there are none
    const float *q_scale;
};
struct gemm_out {
    void *to; // of column 0
    uint64_t ld;
    bool f32, add;
    const float *bias;
};
err_id gemm_run(struct gemm *gemm, const struct cuda_matrix *w, const struct gemm_vectors *x, uint32_t m,
                struct gemm_out out, cudaStream_t stream, struct error *e);
