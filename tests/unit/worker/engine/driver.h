// Drives an engine in tests as a scheduler would: keeps block tables, builds plans, submits, samples, and takes results.
// Every failure of the engine fails the test. Blocks are handed out in a scattered order so that tables matter.
#pragma once
#include "worker/engine/backend.h"

enum { DRIVER_SLOTS_MAX = 64, DRIVER_ROWS_MAX = 64 };

struct driver {
    struct engine *engine;
    struct engine_info info;
    uint8_t *buffer;
    struct plan_builder builder;
    uint64_t step;
    uint32_t free_next;                // blocks handed out so far
    uint32_t mapped[DRIVER_SLOTS_MAX]; // blocks in each slot's table
    uint32_t length[DRIVER_SLOTS_MAX]; // KV entries as planned
    uint32_t n_rows;
};

void driver_init(struct driver *d, const struct backend *backend, const struct engine_opts *opts);
void driver_adopt(struct driver *d, struct engine *engine); // a created one
void driver_fini(struct driver *d);
// Opens the slot at length 0; its blocks are new.
void driver_open(struct driver *d, uint32_t slot, const struct sampling_params *sampling, const uint32_t *tokens,
                 uint32_t n_prompt, uint32_t n_tokens);
void driver_close(struct driver *d, uint32_t slot);
// Adds a row to the plan being built. tokens NULL: one token, and the position, from the device.
void driver_row(struct driver *d, uint32_t slot, const uint32_t *tokens, uint32_t n, enum plan_logits logits);
// Ends the plan and submits it; the step's number.
uint64_t driver_submit(struct driver *d);
void driver_sample(struct driver *d, uint64_t step);
struct engine_result driver_result(struct driver *d, uint64_t step);
// submit, sample, result.
struct engine_result driver_run(struct driver *d);
// Prefills the slot's tokens in chunks, then decodes until out holds n tokens; out[0] comes from the prefill.
void driver_generate(struct driver *d, uint32_t slot, const uint32_t *tokens, uint32_t n_tokens, uint32_t chunk,
                     uint32_t *out, uint32_t n);
