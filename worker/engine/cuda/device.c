#include "worker/engine/cuda/device.h"
#include <stdio.h>
#include <string.h>

enum { OLDEST_MAJOR = 8 };

err_id device_error(cudaError_t id, const char *what, struct error *e) {
    if (id == cudaSuccess) return ERR_NONE;
    return error_set(e, ERR_SYSTEM, "the GPU failed at %s: %s", what, cudaGetErrorString(id));
}

err_id device_probe(struct engine_device *d, struct error *e) {
    int count = 0;
    struct cudaDeviceProp p;
    cudaError_t id = cudaGetDeviceCount(&count);
    if (id != cudaSuccess || count == 0) {
        return error_set(
            e, ERR_UNAVAILABLE,
            "--device cuda found no GPU (%s): it needs an NVIDIA card and a driver for CUDA 13; use --device cpu",
            id == cudaSuccess ? "none is visible" : cudaGetErrorString(id));
    }
    TRY_CUDA(cudaGetDeviceProperties(&p, 0), "asking for the card's properties");
    if (p.major < OLDEST_MAJOR) {
        return error_set(e, ERR_UNAVAILABLE, "%.80s has compute capability %d.%d: --device cuda needs 8.0 (Ampere) or newer",
                         p.name, p.major, p.minor);
    }
    size_t bytes_free, total;
    TRY_CUDA(cudaMemGetInfo(&bytes_free, &total), "asking for free memory");
    *d = (struct engine_device){.memory_bytes = total, .memory_free_bytes = bytes_free};
    d->cores = (uint32_t)p.multiProcessorCount;
    snprintf(d->name, sizeof d->name, "%.80s", p.name);
    return ERR_NONE;
}

void *arena_take(struct arena *a, uint64_t bytes) {
    void *p = a->base == NULL || bytes == 0 ? NULL : a->base + a->used;
    a->used += round_up(bytes, DEVICE_ALIGN);
    return p;
}

err_id arena_create(struct arena *a, const char *what, struct error *e) {
    void *p;
    uint64_t bytes = a->used > 0 ? a->used : DEVICE_ALIGN;
    cudaError_t id = cudaMalloc(&p, bytes);
    if (id != cudaSuccess) {
        cudaGetLastError();
        return error_set(e, ERR_SYSTEM, "%.1f GB of the GPU's memory for %s were refused: %s", (double)bytes / 1e9, what,
                         cudaGetErrorString(id));
    }
    a->base = p;
    a->used = 0;
    return device_error(cudaMemset(p, 0, bytes), "clearing memory", e);
}

void arena_destroy(struct arena *a) {
    if (a->base != NULL) cudaFree(a->base);
    *a = (struct arena){0};
}
