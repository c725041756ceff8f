// The masks that go with a plan: which tokens its rows may choose, of those whose answers are bound to a form. Made on the
// loop thread when the plan is submitted, read by the engine's until the step is answered.
#pragma once
#include "worker/main/stream_text.h"

struct step_masks {
    uint32_t n_words;    // of one mask
    const uint32_t **at; // [rows of the plan] NULL: any token
    uint32_t *words;     // owned
};

// users: by slot, NULL where there is none. Every token of a bound sequence must be recorded (prepared.one_by_one). NULL: no
// row is bound.
struct step_masks *step_masks_make(const void *plan, struct stream_text *const *users, uint32_t vocab);
bool step_masks_empty(const struct step_masks *masks, uint32_t row); // that row may choose nothing; masks may be NULL
void step_masks_free(struct step_masks *masks);                      // NULL is fine
