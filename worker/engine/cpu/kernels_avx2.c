#ifdef __x86_64__
#include "worker/engine/cpu/simd_avx2.h"
#define KERNELS      kernels_avx2
#define KERNELS_NAME "avx2"
#include "worker/engine/cpu/kernels.inc"
#endif
typedef int not_an_empty_file;
