// Which kernels this processor can run, and the floating-point state that they rely on.
#include "worker/engine/cpu/kernels.h"

const char *const isa_names[ISA_COUNT] = {[ISA_BEST] = "best",
                                          [ISA_GENERIC] = "generic",
                                          [ISA_AVX2] = "avx2",
                                          [ISA_AVX512] = "avx512",
                                          [ISA_AVX512_BF16] = "avx512-bf16"};

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

// Flush to zero (bit 15), denormals are zero (bit 6), exceptions masked, round to nearest.
uint32_t kernels_enter(void) {
    uint32_t before = _mm_getcsr();
    _mm_setcsr(0x1f80 | 1u << 15 | 1u << 6);
    return before;
}
void kernels_leave(uint32_t before) { _mm_setcsr(before); }

// __builtin_cpu_supports doesn't know it in every compiler.
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has(enum isa isa) {
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f");
    if (isa == ISA_AVX2) return avx2;
    if (isa == ISA_AVX512) return avx512;
    if (isa == ISA_AVX512_BF16)
        return avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vnni");
    return true;
}

const struct kernels *kernels_pick(enum isa isa) {
    static const struct kernels *const all[ISA_COUNT] = {
        [ISA_GENERIC] = &kernels_generic,
        [ISA_AVX2] = &kernels_avx2,
        [ISA_AVX512] = &kernels_avx512,
        [ISA_AVX512_BF16] = &kernels_avx512_bf16,
    };
    if (isa == ISA_BEST) {
        for (isa = ISA_AVX512_BF16; !has(isa);) isa--;
    }
    return isa < ISA_COUNT && has(isa) ? all[isa] : NULL;
}

#else

uint32_t kernels_enter(void) { return 0; }
void kernels_leave(uint32_t before) {}
const struct kernels *kernels_pick(enum isa isa) { return isa <= ISA_GENERIC ? &kernels_generic : NULL; }

#endif
