// An engine without a model, which trusts nothing: each step it checks that the plan keeps the promises that plan.h and
// backend.h make, and computes the next token from what the KV blocks of the slot hold. A block that two sequences write to,
// a position that was skipped or a table entry that was not told gives a wrong token or fails the test at once.
#pragma once
#include <stdbool.h>
#include "worker/plan/plan.h"

enum { FAKE_VOCAB = 1000 };

struct fake_engine;

struct fake_options {
    struct plan_limits limits;
    uint32_t plans_max, chunk_tokens;
    uint32_t micro_batches; // above 1: no row may need a token that is not known yet
    bool counts_wrong;      // tokens that the blocks' contents make wrong are counted instead of failing the test
};

struct fake_work { // of one step, or all so far
    uint32_t rows, decode_rows, tokens, prefill_tokens;
};

struct fake_engine *fake_engine_create(const struct fake_options *options);
void fake_engine_destroy(struct fake_engine *f);
void fake_engine_open(struct fake_engine *f, uint32_t slot, const uint32_t *tokens, uint32_t n, uint32_t n_prompt);
void fake_engine_close(struct fake_engine *f, uint32_t slot);
void fake_engine_submit(struct fake_engine *f, uint64_t step, const void *plan, size_t len);
// Copies the entries of the first n positions out of, or into, a slot without unanswered rows.
void fake_engine_export(struct fake_engine *f, uint32_t slot, uint32_t n, uint64_t *entries);
void fake_engine_import(struct fake_engine *f, uint32_t slot, uint32_t n, const uint64_t *entries);
uint64_t fake_engine_last_step(const struct fake_engine *f);
bool fake_engine_answered(const struct fake_engine *f, uint64_t step); // it, and all before it
void fake_engine_empty(struct fake_engine *f);                         // forgets slots and plans, as when a group forms anew
void fake_engine_epoch(struct fake_engine *f, uint32_t epoch);         // of the plans to come
uint32_t fake_engine_pending(const struct fake_engine *f);             // unanswered plans
uint32_t fake_engine_open_slots(const struct fake_engine *f);
// Runs the oldest plan: the tokens of its sampling rows, in row order. Returns how many.
uint32_t fake_engine_step(struct fake_engine *f, uint64_t *step, uint32_t *tokens, struct fake_work *work);
uint32_t fake_engine_wrong(const struct fake_engine *f);
struct fake_work fake_engine_total(const struct fake_engine *f);

// The token that follows these, in every engine.
uint32_t fake_next(const uint32_t *tokens, uint32_t n);
static inline bool fake_stops(uint32_t token) { return token % 50 == 7; }
