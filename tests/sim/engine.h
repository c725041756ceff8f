// The fake engine of one worker: simulated KV blocks of hash-chain links, block tables by slot, plans executed in order.
// What it samples next depends on what it reads back from the blocks, so a wrong block, offset or splice changes every token
// behind it. It refuses (world_fail) any plan that a real engine would refuse or be hurt by.
#pragma once
#include "common/base/ids.h"
#include "tests/sim/options.h"
#include "worker/core/worker_core.h"

struct world;
struct engine;
struct instance;

struct engine_options {
    struct world *world;
    const char *name; // of the worker: for messages
    const char *fingerprint;
    uint32_t slots, n_blocks, block_tokens, step_tokens, context;
    uint32_t max_seqs, chunk_tokens, micro_batches, plans_max;
    enum prefix_cache prefix_cache;
    double prefill_rate; // tokens per second
    us_t step_us;        // of a decode step
};

struct engine_step {
    uint64_t step;
    us_t took_us;
    uint32_t n_tokens;
    const struct worker_token *tokens; // in a ring: valid until as many further plans as fit in flight
    bool deadly;                       // computed something of a poisonous request
    uint32_t prefilled;                // positions of its rows that the slot was opened with
};

struct engine *engine_create(const struct engine_options *options);
void engine_destroy(struct engine *e);
void engine_slot_open(struct engine *e, uint32_t slot, struct instance *i, const uint32_t *tokens, uint32_t n,
                      uint32_t n_prompt);
void engine_slot_close(struct engine *e, uint32_t slot);
// What the blocks of a slot hold for positions [0, n): copied out, or in. Blocks must be in its table.
void engine_export(struct engine *e, uint32_t slot, uint64_t *chain, uint32_t n);
void engine_import(struct engine *e, uint32_t slot, const uint64_t *chain, uint32_t n);
// A member of the group is gone: all slots are closed, what the blocks held is void, plans are of this epoch from now on.
void engine_regroup(struct engine *e, uint32_t epoch);
void engine_answered(struct engine *e, uint64_t step); // the core was told of its outcome
void engine_run(struct engine *e, uint64_t step, const void *plan, size_t len, struct engine_step *out);
