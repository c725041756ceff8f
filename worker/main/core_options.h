// What the core of a worker is told: the settings, and what the engine will have.
#pragma once
#include "worker/core/worker_core.h"
#include "worker/engine/types.h"
#include "worker/main/host.h"

// With plans ahead, all sequences of a step may be in their last one while as many wait.
uint32_t host_spare_slots(const struct host_settings *s);
// store: its id, "": none. Draws the incarnation.
void core_options(const struct host_settings *s, const struct engine_opts *engine, const struct engine_mem *mem,
                  const char *store, struct worker_core_options *o);
