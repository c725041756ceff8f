// What libshoal-cuda.so gives to the program that loads it: one function, which tells how the library was built and its
// backend. Program and library come from one build: the sizes of what they share must agree.
#pragma once
#include "worker/engine/backend.h"
#include "worker/model/spec.h"

#define CUDA_LIBRARY_FILE  "libshoal-cuda.so"
#define CUDA_LIBRARY_ENTRY "shoal_cuda_library"

enum { CUDA_LIBRARY_ABI = 1, CUDA_LIBRARY_SIZES = 8 };

struct cuda_library {
    uint32_t abi;
    uint32_t sizes[CUDA_LIBRARY_SIZES];
    const struct backend *backend;
};
typedef const struct cuda_library *cuda_library_fn(void);

// Of the structs that cross the border.
#define CUDA_LIBRARY_SIZES_HERE                                                                                             \
    {                                                                                                                       \
        sizeof(struct backend), sizeof(struct engine_opts), sizeof(struct engine_info), sizeof(struct engine_result),       \
            sizeof(struct engine_token), sizeof(struct sampling_params), sizeof(struct model_spec),                         \
            sizeof(struct plan_head)                                                                                        \
    }
