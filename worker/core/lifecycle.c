// The life of a worker: loading, serving, noticed, failed.
#include "common/base/mark.h"
#include "worker/core/core.h"

#include <stdio.h>

enum { RESERVE_MAX_MS = 5000 };

static void enter_life(struct worker_core *core, enum lifecycle life) {
    core->life = life;
    status_touch(core, STATUS_LIFE | STATUS_LOAD);
    status_now(core);
}

void worker_core_loading(struct worker_core *core, float progress, uint32_t eta_ms, ms_t now) {
    core_enter(core, now);
    bool first = core->life == LIFECYCLE_STARTING;
    if (first || core->life == LIFECYCLE_LOADING) {
        core->progress = progress;
        core->eta_ms = eta_ms;
        if (first) enter_life(core, LIFECYCLE_LOADING);
        status_touch(core, STATUS_LIFE);
    }
    core_leave(core);
}

void worker_core_ready_to_serve(struct worker_core *core, const char *fingerprint, float prefill_rate, float decode_rate,
                                ms_t now) {
    core_enter(core, now);
    snprintf(core->options.info.fingerprint, sizeof core->options.info.fingerprint, "%s", fingerprint);
    step_model_guess(&core->pace.model, prefill_rate, decode_rate, core->lone_step_us);
    core->progress = 1;
    core->eta_ms = 0;
    status_touch(core, STATUS_INFO | STATUS_RATES);
    if (core->life == LIFECYCLE_STARTING || core->life == LIFECYCLE_LOADING) enter_life(core, LIFECYCLE_READY);
    core_leave(core);
}

static void give_up_all(struct worker_core *core, err_id id, const char *sentence) {
    for (struct stream *s = core->streams.first, *next; s != NULL; s = next) {
        next = s->next;
        if (s->known && s->state != STREAM_ENDED) answer_give_up(core, s, id, sentence);
    }
}

// Streams that are dropped with a plan of theirs unanswered are freed by answer_settle() later; when the engine is gone that
// moment is now.
static void settle_all(struct worker_core *core) {
    for (struct stream *s = core->streams.first, *next; s != NULL; s = next) {
        next = s->next;
        answer_settle(core, s);
    }
}

void worker_core_failed(struct worker_core *core, ms_t now) {
    core_enter(core, now);
    if (core->life != LIFECYCLE_FAILED) {
        MARK(engine_failed);
        scheduler_abandon(&core->scheduler);
        give_up_all(core, ERR_WORKER_LOST, "the engine of the worker failed");
        upkeep_end(core);
        settle_all(core);
        enter_life(core, LIFECYCLE_FAILED);
    }
    core_leave(core);
}

// ---- to be taken away ----

// The time before the deadline at which what still runs is stopped, so that it can be written and offered.
static ms_t reserve_ms(ms_t deadline_ms) { return deadline_ms / 4 < RESERVE_MAX_MS ? deadline_ms / 4 : RESERVE_MAX_MS; }

// Will it have ended by then, even if it makes every token that it may? One that waits for a slot will not.
static bool ends_by(const struct worker_core *core, const struct stream *s, ms_t at) {
    if (at == MS_NEVER) return true;
    if (s->seq.slot == SLOT_NONE) return false;
    double left = (double)s->max_tokens - record_log_count(s->log);
    double ms = left * (double)step_model_decode_us(&core->pace.model, core->scheduler.n_running) / 1000 +
                1000.0 * sequence_prefill_left(&s->seq) / (double)step_model_prefill_rate(&core->pace.model);
    return (double)(at - core->now) > ms;
}

static void stop_those_that_last(struct worker_core *core, ms_t until) {
    for (struct stream *s = core->streams.first, *next; s != NULL; s = next) {
        next = s->next;
        if (!s->known) continue;
        if (s->state == STREAM_PREPARING && until != MS_NEVER)
            answer_give_up(core, s, ERR_DRAINING, "the worker is about to be taken away");
        else if (!ends_by(core, s, until))
            move_stop(core, s);
    }
}

void lifecycle_notice(struct worker_core *core, uint32_t deadline_ms) {
    if (core->life == LIFECYCLE_FAILED) return;
    ms_t deadline_at = deadline_ms > 0 ? core->now + deadline_ms : MS_NEVER;
    if (core->life == LIFECYCLE_NOTICED && deadline_at >= core->deadline_at) return;
    core->deadline_at = deadline_at;
    core->stop_at = deadline_ms > 0 ? deadline_at - reserve_ms(deadline_ms) : MS_NEVER;
    enter_life(core, LIFECYCLE_NOTICED);
    stop_those_that_last(core, core->stop_at);
}

void worker_core_notice(struct worker_core *core, uint32_t deadline_ms, ms_t now) {
    core_enter(core, now);
    core->member_leaves = false;
    lifecycle_notice(core, deadline_ms);
    core_leave(core);
}

void lifecycle_tick(struct worker_core *core) {
    if (core->life == LIFECYCLE_FAILED) return;
    if (core->stop_at <= core->now) {
        core->stop_at = MS_NEVER;
        stop_those_that_last(core, core->now);
    }
    if (core->deadline_at > core->now) return;
    if (core->streams.n_preparing + core->streams.n_live > 0) RARE_MARK(drain_cuts_short);
    give_up_all(core, ERR_DRAINING, "the worker shut down before the answer was complete");
    core->deadline_at = MS_NEVER;
}

bool worker_core_idle(const struct worker_core *core) {
    const struct streams *s = &core->streams;
    return s->n_preparing + s->n_live + s->n_offered + s->n_unclaimed == 0;
}

enum lifecycle worker_core_life(const struct worker_core *core) { return core->life; }
