// The CUDA device under the engine: its facts, errors as sentences, and one allocation that buffers are cut from.
#pragma once
#include <cuda_runtime_api.h>
#include "common/base/error.h"
#include "worker/engine/types.h"

enum { DEVICE_ALIGN = 256 };

// ERR_SYSTEM with what was done and CUDA's own words; ERR_NONE for cudaSuccess.
err_id device_error(cudaError_t id, const char *what, struct error *e);
#define TRY_CUDA(call, what) TRY(device_error((call), (what), e))

// ERR_UNAVAILABLE: no driver, no device, or one older than compute capability 8.0.
err_id device_probe(struct engine_device *device, struct error *e);

// Cut into buffers in two passes by the same code: with base NULL only `used` counts.
struct arena {
    uint8_t *base;
    uint64_t used;
};
void *arena_take(struct arena *a, uint64_t bytes);
// Device memory of a->used bytes, zeroed; a->used starts again at 0.
err_id arena_create(struct arena *a, const char *what, struct error *e);
void arena_destroy(struct arena *a);

static inline uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }
