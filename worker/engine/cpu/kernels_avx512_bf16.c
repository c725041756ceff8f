#ifdef __x86_64__
#include "worker/engine/cpu/simd_avx512.h"
#define KERNELS      kernels_avx512_bf16
#define KERNELS_NAME "avx512_bf16"
#include "worker/engine/cpu/kernels.inc"
#endif
typedef int not_an_empty_file;
