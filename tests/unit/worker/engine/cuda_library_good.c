// A library as the loader wants it, with a backend that can do nothing.
#include "worker/engine/cuda/library.h"

cuda_library_fn shoal_cuda_library;
const struct cuda_library *shoal_cuda_library(void) {
    static const struct backend backend = {.name = "fake"};
    static const struct cuda_library library = {CUDA_LIBRARY_ABI, CUDA_LIBRARY_SIZES_HERE, &backend};
    return &library;
}
