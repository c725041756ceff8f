// The steps between submit() and result(): a ring of checked copies of plans with what came in for them since. For backends
// that run a step in the engine thread (cpu, mock).
#pragma once
#include <stdatomic.h>
#include "worker/engine/backend.h"

struct step {
    uint32_t place; // in the ring: for what a backend keeps per step in flight
    uint8_t *bytes; // the plan
    struct plan_view plan;
    bool sampled;                  // sample() was called
    const uint32_t **masks;        // [rows] each NULL or the caller's
    uint32_t *forced;              // [rows]
    bool has_hidden, forward_done; // hidden_in() was called; the rows have been run
    uint64_t submitted_us, due_us; // no result before due_us
};

struct steps {
    struct step ring[ENGINE_DEPTH];
    uint32_t first, count;
    uint64_t last_step;
    uint64_t answered_us; // when the last step was
    bool any;             // last_step is set
    size_t bytes_max;
};

void steps_init(struct steps *s, const struct plan_limits *limits);
void steps_fini(struct steps *s);
// Checks and copies the plan. The new step is *out.
enum engine_answer steps_push(struct steps *s, const struct plan_limits *limits, const void *plan, size_t len,
                              struct step **out, struct error *e);
enum engine_answer steps_sample(struct steps *s, uint64_t step, const uint32_t *const *masks, const uint32_t *forced,
                                uint32_t vocab, struct error *e);
// NULL when it isn't in flight.
struct step *steps_find(struct steps *s, uint64_t step);
// The step that waits for the hidden states of so many tokens, all that its rows have: none, if it only tells of blocks.
// NULL and *e: it doesn't.
struct step *steps_expect_hidden(struct steps *s, uint64_t step, uint32_t tokens, struct error *e);
// The oldest; NULL when there is none.
struct step *steps_first(struct steps *s);
void steps_pop(struct steps *s);
// May this step's forward run: all of those before it have, and none of its rows takes a token that one of them has yet to
// answer.
bool steps_may_run(const struct steps *s, const struct step *step);
// None is in flight; their numbers may begin again, in a new group.
void steps_restart(struct steps *s);
// Takes back the newest.
void steps_drop_last(struct steps *s);
bool step_samples(const struct step *step); // some row does

// Waits until step->due_us, at most wait_ms; PENDING when it isn't due by then, FAILED with ERR_CANCELLED once *aborted.
enum engine_answer steps_wait(const struct step *step, uint32_t wait_ms, atomic_bool *aborted, struct error *e);
// How long the oldest step has taken: since it was submitted or, if that was later, since the step before it was answered.
uint32_t steps_elapsed_us(const struct steps *s, const struct step *step);
// Monotonic clock.
uint64_t steps_now_us(void);
