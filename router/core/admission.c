#include "router/core/admission.h"

#include "common/base/mark.h"

static const double MARGIN = 0.15, MARGIN_S = 0.03; // of the estimate, and flat
static const double LEARN = 1.0 / 64, SLOWNESS_MIN = 0.7, SLOWNESS_MAX = 4;

static bool slot_free(const struct pool *p) {
    if (p->queue.count > 0) return false;
    for (uint32_t i = 0; i < p->n_offers; i++) {
        if (p->offers[i]->usable && offer_load(p->offers[i]) < offer_slots(p->offers[i])) return true;
    }
    return false;
}

double admission_foresee_s(struct pool *p, uint32_t prompt, uint32_t decode) {
    pool_sum(p);
    double service = prompt / p->prefill_best + decode * p->slot_token_s;
    return (slot_free(p) ? 0 : pool_wait_s(p)) + service;
}

void admission_learn(struct pool *p, double foreseen_s, double took_s) {
    if (foreseen_s < 0.02) return; // too short to say anything
    double ratio = took_s / foreseen_s;
    if (ratio > SLOWNESS_MAX) ratio = SLOWNESS_MAX;
    p->slowness += (ratio - p->slowness) * LEARN;
    if (p->slowness < SLOWNESS_MIN) p->slowness = SLOWNESS_MIN;
}

static uint32_t retry_after(double s) {
    double ms = s * 1000;
    return ms < RETRY_AFTER_MIN_MS ? RETRY_AFTER_MIN_MS : ms > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : (uint32_t)ms;
}

err_id admission_check(const struct admission_limits *l, struct pool *pool, const struct admission_request *r,
                       uint32_t *retry_after_ms, struct error *e) {
    *retry_after_ms = retry_after(pool ? pool_wait_s(pool) / 4 : 1);
    if (l->sessions >= l->sessions_max) {
        MARK(sessions_full);
        return error_set(e, ERR_OVERLOADED, "this router holds %u streams, as many as it may", l->sessions);
    }
    if (l->held_bytes_max && l->held_bytes > l->held_bytes_max) {
        MARK(memory_full);
        return error_set(e, ERR_OVERLOADED,
                         "this router holds %llu bytes of requests and answers, more than the limit of %llu",
                         (unsigned long long)l->held_bytes, (unsigned long long)l->held_bytes_max);
    }
    bool waits = pool == NULL || !slot_free(pool);
    if (waits && l->queued >= l->queue_max) {
        MARK(queue_full);
        return error_set(e, ERR_OVERLOADED, "%u requests wait, as many as may", l->queued);
    }
    if (waits && l->queued_tokens + r->prompt > l->queue_tokens_max) {
        MARK(queue_tokens_full);
        return error_set(e, ERR_OVERLOADED, "%llu prompt tokens wait, the request's %u would exceed the limit of %llu",
                         (unsigned long long)l->queued_tokens, r->prompt, (unsigned long long)l->queue_tokens_max);
    }
    if (pool == NULL || r->unconditional) return ERR_NONE;
    // With a free slot nothing bad that was learned counts: else a pool that refuses all would never learn better.
    double slowness = !waits && pool->slowness > 1 ? 1 : pool->slowness;
    double end = admission_foresee_s(pool, r->prompt, r->decode) * slowness * (1 + MARGIN) + MARGIN_S;
    if (end <= r->budget_s) return ERR_NONE;
    MARK(no_time_for_it);
    *retry_after_ms = retry_after(end - r->budget_s);
    return error_set(e, ERR_OVERLOADED, "the request would take about %.1f s, its deadline is in %.1f s", end, r->budget_s);
}

bool admission_hopeful(const struct deployment *d, ms_t now) {
    if (d->ready_at != MS_NEVER && now - d->ready_at <= SEEN_LATELY_MS) return true;
    for (uint32_t i = 0; i < d->n_pools; i++) {
        const struct pool *p = d->pools[i];
        for (uint32_t k = 0; k < p->n_offers; k++) {
            const struct candidate *c = p->offers[k]->candidate;
            if (p->offers[k]->usable || c->suspect || c->state <= LIFECYCLE_LOADING) return true;
        }
    }
    return false;
}
