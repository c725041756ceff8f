#include "worker/engine/cpu/simd_generic.h"
#define KERNELS      kernels_generic
#define KERNELS_NAME "generic"
#include "worker/engine/cpu/kernels.inc"
