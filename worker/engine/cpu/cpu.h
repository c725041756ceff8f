// The CPU backend: bf16 (or fp32) weights, fp32 everything else, logits bit-identical in decode, in prefill, in any chunking
// and any batch, and on every instruction set (see kernels.h). engine_opts.isa takes enum isa.
#pragma once
#include "worker/engine/backend.h"

extern const struct backend cpu_backend;

// Part of the fingerprint: rises when the bits of any kernel or of the sampler change.
#define CPU_NUMERIC_CLASS "cpu-bf16x2-kv32-seg256-2"
