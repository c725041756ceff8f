// A library whose idea of the last shared struct is another one.
#include "worker/engine/cuda/library.h"

cuda_library_fn shoal_cuda_library;
const struct cuda_library *shoal_cuda_library(void) {
    static struct cuda_library library = {CUDA_LIBRARY_ABI, CUDA_LIBRARY_SIZES_HERE, NULL};
    library.sizes[CUDA_LIBRARY_SIZES - 1] = sizeof(struct plan_head) + 8;
    return &library;
}
