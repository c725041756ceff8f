#include "worker/engine/steps.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/base/check.h"

void steps_init(struct steps *s, const struct plan_limits *lim) {
    *s = (struct steps){.bytes_max = plan_bytes_max(&lim->caps)};
    for (uint32_t i = 0; i < ENGINE_DEPTH; i++) {
        s->ring[i].place = i;
        s->ring[i].bytes = xmalloc(s->bytes_max);
        s->ring[i].masks = xcalloc(lim->caps.rows, sizeof *s->ring[i].masks);
        s->ring[i].forced = xcalloc(lim->caps.rows, sizeof *s->ring[i].forced);
    }
}

void steps_fini(struct steps *s) {
    for (uint32_t i = 0; i < ENGINE_DEPTH; i++) {
        free(s->ring[i].bytes);
        free(s->ring[i].masks);
        free(s->ring[i].forced);
    }
    *s = (struct steps){0};
}

enum engine_answer steps_push(struct steps *s, const struct plan_limits *limits, const void *plan, size_t len,
                              struct step **out, struct error *e) {
    if (s->count == ENGINE_DEPTH) return ENGINE_FULL;
    if (plan_check(plan, len, limits, e) != ERR_NONE) return ENGINE_FAILED;
    struct plan_view v = plan_view(plan);
    if (s->any && v.head->step <= s->last_step) {
        error_set(e, ERR_INTERNAL, "step %llu was submitted after step %llu", (unsigned long long)v.head->step,
                  (unsigned long long)s->last_step);
        return ENGINE_FAILED;
    }
    struct step *step = &s->ring[(s->first + s->count++) % ENGINE_DEPTH];
    memcpy(step->bytes, plan, len);
    step->plan = plan_view(step->bytes);
    step->sampled = step->has_hidden = step->forward_done = false;
    step->submitted_us = step->due_us = steps_now_us();
    s->last_step = v.head->step;
    s->any = true;
    *out = step;
    return ENGINE_OK;
}

struct step *steps_find(struct steps *s, uint64_t step) {
    for (uint32_t i = 0; i < s->count; i++) {
        struct step *x = &s->ring[(s->first + i) % ENGINE_DEPTH];
        if (x->plan.head->step == step) return x;
    }
    return NULL;
}

struct step *steps_expect_hidden(struct steps *s, uint64_t id, uint32_t tokens, struct error *e) {
    struct step *step = steps_find(s, id);
    uint32_t expected = 0;
    if (step == NULL || step->has_hidden) {
        error_set(e, ERR_INTERNAL, "step %llu: no hidden states are expected for it", (unsigned long long)id);
        return NULL;
    }
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) expected += step->plan.rows[i].q_len;
    if (tokens == expected) return step;
    error_set(e, ERR_INVALID_ARGUMENT, "step %llu: another number of hidden states than tokens", (unsigned long long)id);
    return NULL;
}

struct step *steps_first(struct steps *s) {
    return s->count == 0 ? NULL : &s->ring[s->first];
}

void steps_pop(struct steps *s) {
    CHECK(s->count > 0);
    s->first = (s->first + 1) % ENGINE_DEPTH;
    s->count--;
    s->answered_us = steps_now_us();
}

static bool samples_slot(const struct step *step, uint32_t slot) {
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) {
        if (step->plan.rows[i].slot == slot && plan_row_samples(&step->plan.rows[i])) return true;
    }
    return false;
}

static bool waits_for(const struct step *step, const struct step *before) {
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) {
        const struct plan_row *r = &step->plan.rows[i];
        if (r->token_off == PLAN_TOKEN_DEVICE && samples_slot(before, r->slot)) return true;
    }
    return false;
}

bool steps_may_run(const struct steps *s, const struct step *step) {
    for (uint32_t i = 0; i < s->count; i++) {
        const struct step *before = &s->ring[(s->first + i) % ENGINE_DEPTH];
        if (before == step) return true;
        if (!before->forward_done || waits_for(step, before)) return false;
    }
    return false;
}

void steps_restart(struct steps *s) {
    CHECK(s->count == 0);
    s->any = false;
}

void steps_drop_last(struct steps *s) {
    CHECK(s->count > 0);
    s->count--;
}

bool step_samples(const struct step *step) {
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) {
        if (plan_row_samples(&step->plan.rows[i])) return true;
    }
    return false;
}

enum engine_answer steps_sample(struct steps *s, uint64_t id, const uint32_t *const *masks, const uint32_t *forced,
                                uint32_t vocab, struct error *e) {
    struct step *step = steps_find(s, id);
    if (step == NULL || step->sampled) {
        error_set(e, ERR_INTERNAL, "step %llu is not in flight or was sampled before", (unsigned long long)id);
        return ENGINE_FAILED;
    }
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) {
        step->masks[i] = masks == NULL ? NULL : masks[i];
        step->forced[i] = forced == NULL ? ENGINE_NO_TOKEN : forced[i];
        if (step->forced[i] != ENGINE_NO_TOKEN && step->forced[i] >= vocab) {
            error_set(e, ERR_INVALID_ARGUMENT, "token id %u is outside the vocabulary of %u", step->forced[i], vocab);
            return ENGINE_FAILED;
        }
    }
    step->sampled = true;
    return ENGINE_OK;
}

uint64_t steps_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

enum engine_answer steps_wait(const struct step *step, uint32_t wait_ms, atomic_bool *aborted, struct error *e) {
    enum { SLICE_US = 20000 }; // abort() is seen within one; each slice costs a wake-up on a busy machine
    uint64_t now = steps_now_us(), until = now + wait_ms * UINT64_C(1000);
    if (until > step->due_us) until = step->due_us;
    while (now < until && !atomic_load(aborted)) {
        uint64_t us = until - now < SLICE_US ? until - now : SLICE_US;
        nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
        now = steps_now_us();
    }
    if (atomic_load(aborted)) {
        error_set(e, ERR_CANCELLED, "the step was aborted");
        return ENGINE_FAILED;
    }
    return now < step->due_us ? ENGINE_PENDING : ENGINE_OK;
}

uint32_t steps_elapsed_us(const struct steps *s, const struct step *step) {
    uint64_t start = step->submitted_us > s->answered_us ? step->submitted_us : s->answered_us;
    return (uint32_t)(steps_now_us() - start);
}
