// What a CPU engine with these options takes, and its limits: functions of options and model (and, where KV
// has no size of its own, of the memory that is free).
#pragma once
#include "worker/engine/cpu/forward.h"
#include "worker/engine/types.h"

struct cpu_plan {
    struct engine_opts opts; // no zero where zero means a default
    const struct model_spec *spec;
    struct engine_mem mem;
    struct engine_info info;
    struct forward_limits forward;
};

// ERR_CONFIG names the option that is out of range or doesn't fit.
err_id cpu_plan(const struct engine_opts *opts, struct cpu_plan *plan, struct error *e);
// Bytes of memory that the machine has, and that could be had now; 0 when that can't be told.
void cpu_memory(uint64_t *total, uint64_t *available);
