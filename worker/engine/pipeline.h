// All stages of a pipeline in one process, as one engine: for shoal-model and for tests, which compare it with an engine
// that holds all layers. The stages work one after the other. (Stages in processes of their own, at the same time:
// worker/group.)
#pragma once
#include "worker/engine/backend.h"

enum { PIPELINE_STAGES_MAX = 16 };

struct pipeline_opts {
    const struct backend *backend; // of every stage
    struct engine_opts engine;     // layer_first and layer_end are set here, kv_bytes is shared out by layers
    uint32_t stages;               // ≥ 1
    const uint32_t *bounds;        // [stages + 1]: stage s holds the layers [bounds[s], bounds[s + 1])
};

// Allocates everything but weights, as backend.create does. The engine's ops are this file's; the fingerprint is that of one
// engine with all layers, and so are the bytes of kv_export.
err_id pipeline_create(const struct pipeline_opts *opts, struct engine **engine, struct error *e);
