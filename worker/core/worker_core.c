#include "worker/core/core.h"

#include "common/base/check.h"
#include "common/base/mark.h"

#include <stdlib.h>
#include <string.h>

enum { HEARTBEAT_MIN_MS = 10, HEARTBEAT_MAX_MS = 60000 }; // what a router may ask for

// ---- made and unmade ----

static void say(void *ctx, link_id link, const struct msg *m) { core_send(ctx, link, m); }

struct worker_core *worker_core_create(const struct worker_core_options *options, const struct sink *sink,
                                       const struct worker_hooks *hooks, ms_t now) {
    struct worker_core *core = xcalloc(1, sizeof *core);
    core->options = *options;
    core->sink = *sink;
    core->out = (struct sink){core, say};
    core->hooks = *hooks;
    core->now = core->step_done_at = now;
    core->deadline_at = core->stop_at = core->streams_due = MS_NEVER;
    core->answer_tokens = FIRST_ANSWER_TOKENS;
    uint64_t held = (uint64_t)options->n_blocks * options->block_tokens;
    core->context = held < options->max_context ? (uint32_t)held : options->max_context;
    core->options.info.max_context = core->context;
    core->options.info.max_seqs = options->max_seqs;
    pace_init(&core->pace, options->inter_token_ms * 1000, options->max_seqs, options->step_tokens);
    scheduler_init(&core->scheduler, &core->options, &core->hooks, &core->pace);
    return core;
}

void worker_core_destroy(struct worker_core *core) {
    if (core == NULL) return;
    scheduler_abandon(&core->scheduler);
    upkeep_end(core);
    while (core->streams.first != NULL) {
        struct stream *s = core->streams.first;
        if (s->known)
            answer_drop(core, s);
        else
            answer_settle(core, s);
    }
    scheduler_fini(&core->scheduler);
    table_free(&core->streams.by_key);
    table_free(&core->streams.by_ticket);
    link_list_free(&core->links);
    free(core);
}

// ---- every event ----

void core_enter(struct worker_core *core, ms_t now) {
    if (now > core->now) core->now = now;
}

// Logs kept for routers that may ask again are within their budget.
static void let_go(struct worker_core *core) {
    uint64_t max = core->options.kept_bytes_max;
    struct stream *s;
    while (max > 0 && core->streams.ended_bytes > max && (s = streams_oldest_kept(&core->streams)) != NULL)
        answer_drop(core, s);
}

static void plan_steps(struct worker_core *core) {
    if (core_odd(core, WORKER_ODD_IDLE)) return;
    if (core_odd(core, WORKER_ODD_PREEMPT)) scheduler_preempt_one(&core->scheduler);
    core->scheduler.tiny_chunks = core_odd(core, WORKER_ODD_CHUNK);
    if (scheduler_plan(&core->scheduler, core->now) > 0) status_age(core, STATUS_LOAD);
}

void core_leave(struct worker_core *core) {
    let_go(core);
    if (core->life == LIFECYCLE_FAILED) return;
    plan_steps(core);
    if (core->scheduler.waiting.n != core->waiting_told) status_touch(core, STATUS_LOAD);
    core->waiting_told = core->scheduler.waiting.n;
}

void core_send(struct worker_core *core, link_id id, const struct msg *m) {
    struct link *link = link_find(&core->links, id);
    if (link == NULL || link->incompatible) return;
    link_health_said(&link->health, core->now);
    core->sink.send(core->sink.ctx, id, m);
}

// ---- links ----

void worker_core_link_opened(struct worker_core *core, link_id id, ms_t now) {
    core_enter(core, now);
    if (link_find(&core->links, id) == NULL) {
        struct link *link = link_add(&core->links, id, core->options.timers.heartbeat_ms, core->now);
        status_hello(core, link, true);
        status_full(core, link);
    }
    core_leave(core);
}

static void park_streams(struct worker_core *core, link_id id) {
    for (struct stream *s = core->streams.first; s != NULL; s = s->next)
        if (s->known && s->tx.link == id) answer_park(core, s);
}

void core_link_lost(struct worker_core *core, struct link *link) {
    park_streams(core, link->id);
    link_remove(&core->links, link);
}

void worker_core_link_closed(struct worker_core *core, link_id id, ms_t now) {
    core_enter(core, now);
    struct link *link = link_find(&core->links, id);
    if (link != NULL) core_link_lost(core, link);
    core_leave(core);
}

bool worker_core_next_dead_link(struct worker_core *core, link_id *link) { return link_next_dead(&core->links, link); }

// ---- messages ----

static void on_hello(struct worker_core *core, struct link *link, const struct msg_hello *m) {
    bool overlap = m->protocol_min <= PROTOCOL_VERSION && m->protocol_max >= PROTOCOL_OLDEST;
    if (m->role != ROLE_ROUTER || m->incarnation == 0 || !overlap) {
        core->counters.protocol_errors++;
        link->incompatible = !overlap;
        return;
    }
    bool another = link->greeted && link->incarnation != m->incarnation;
    if (another) { // the router restarted behind the same link
        park_streams(core, link->id);
        link->generates_seen = 0;
        link->status_seq = 0;
    }
    bool first = !link->greeted || another;
    link->greeted = true;
    link->incompatible = false;
    link->incarnation = m->incarnation;
    uint32_t beat = m->heartbeat_ms ? m->heartbeat_ms : core->options.timers.heartbeat_ms;
    link->heartbeat_ms = beat < HEARTBEAT_MIN_MS ? HEARTBEAT_MIN_MS : beat > HEARTBEAT_MAX_MS ? HEARTBEAT_MAX_MS : beat;
    if (m->reply_wanted) status_hello(core, link, false);
    if (m->reply_wanted || first) status_full(core, link);
}

// Nothing but Hello is valid before the other side's: asks for it, not more often than a heartbeat.
static void on_stranger(struct worker_core *core, struct link *link, const struct msg *m) {
    if (m->kind != MSG_STATUS) core->counters.protocol_errors++;
    RARE_MARK(stranger);
    if (core->now - link->asked_at < link->heartbeat_ms) return;
    link->asked_at = core->now;
    status_hello(core, link, true);
}

static void dispatch(struct worker_core *core, struct link *link, const struct msg *m) {
    switch (m->kind) {
    case MSG_HELLO:
        on_hello(core, link, &m->hello);
        break;
    case MSG_STATUS:
        break; // proof of life
    case MSG_GENERATE:
        request_generate(core, link, &m->generate);
        break;
    case MSG_ATTACH:
        request_attach(core, link, &m->attach);
        break;
    case MSG_ACK:
        request_ack(core, &m->ack);
        break;
    case MSG_RESEND:
        request_resend(core, link, &m->resend);
        break;
    case MSG_SYNC:
        request_sync(core, link, &m->sync);
        break;
    case MSG_CANCEL:
        request_cancel(core, link, &m->cancel);
        break;
    case MSG_MOVE_COMMIT:
        move_commit(core, &m->move_commit);
        break;
    case MSG_NOTICE:
        suspend_notice(core, &m->notice);
        break;
    default:
        core->counters.protocol_errors++;
        break; // not for a router to say
    }
}

void worker_core_message(struct worker_core *core, link_id id, const struct msg *m, ms_t now) {
    core_enter(core, now);
    struct link *link = link_find(&core->links, id);
    if (link != NULL) {
        link_health_heard(&link->health, core->now);
        if (!link->greeted && m->kind != MSG_HELLO)
            on_stranger(core, link, m);
        else if (link->incompatible && m->kind != MSG_HELLO)
            core->counters.protocol_errors++;
        else
            dispatch(core, link, m);
    }
    core_leave(core);
}

// ---- steps ----

// The engine may count the time that a plan waited behind the one before it; a step can't have taken longer than this.
static uint32_t bounded_us(const struct worker_core *core, const struct pending_plan *plan, uint32_t took_us) {
    ms_t since = plan->submitted_at > core->step_done_at ? plan->submitted_at : core->step_done_at;
    uint64_t most = (uint64_t)(core->now - since + 1) * 1000;
    return took_us < most ? took_us : (uint32_t)most;
}

void worker_core_step_done(struct worker_core *core, uint64_t step, const struct worker_token *tokens, uint32_t n,
                           uint32_t took_us, ms_t now) {
    core_enter(core, now);
    if (core->life == LIFECYCLE_FAILED) return;
    // In a pipeline the steps under way answer one after the other: together they are one round, in which every running
    // answer grows by a token. What is learned is how long a round takes, whether one micro-batch makes it up or several.
    uint32_t round = core->scheduler.micro_batches > 1 ? core->scheduler.n_plans : 1;
    const struct pending_plan *plan = scheduler_pop(&core->scheduler, step);
    uint32_t next = 0;
    for (uint32_t i = 0; i < plan->n_entries; i++) {
        const struct plan_entry *entry = &plan->entries[i];
        if (entry->seq->upkeep) {
            scheduler_answered(&core->scheduler, entry);
            scheduler_settle(&core->scheduler, entry->seq);
            upkeep_answered(core);
            continue;
        }
        struct stream *s = stream_of(entry->seq);
        const struct worker_token *token = NULL;
        if (entry->samples) {
            CHECK(next < n);
            token = &tokens[next++];
        }
        scheduler_answered(&core->scheduler, entry);
        if (token != NULL && s->known && s->state == STREAM_LIVE) answer_token(core, s, token);
        scheduler_settle(&core->scheduler, entry->seq);
        if (entry->seq->held) move_on(core, s);
        answer_settle(core, s);
    }
    CHECK(next == n);
    if (plan->decode_rows + plan->prefill_tokens > 0)
        pace_learn(&core->pace, round * plan->decode_rows, round * plan->prefill_tokens,
                   round * bounded_us(core, plan, took_us));
    core->step_done_at = core->now;
    if (plan->prefill_tokens > 0) status_touch(core, STATUS_LOAD);
    status_age(core, STATUS_LOAD | STATUS_RATES | STATUS_COUNTERS);
    core_leave(core);
}

// ---- time ----

ms_t worker_core_tick(struct worker_core *core, ms_t now) {
    core_enter(core, now);
    for (uint32_t i = core->links.count; i > 0; i--) {
        struct link *link = core->links.links[i - 1];
        if (link_health_state(&link->health, &core->options.timers, core->now) != LINK_DEAD) continue;
        MARK(router_link_is_dead);
        link_note_dead(&core->links, link->id);
        core_link_lost(core, link);
    }
    lifecycle_tick(core);
    answer_tick(core);
    core_leave(core);
    ms_t due = core->streams_due < core->deadline_at ? core->streams_due : core->deadline_at;
    if (core->stop_at < due) due = core->stop_at;
    for (uint32_t i = 0; i < core->links.count; i++) {
        struct link *link = core->links.links[i];
        ms_t at = status_tick(core, link), dead = link->health.heard_at + core->options.timers.dead_ms;
        if (at < due) due = at;
        if (dead < due) due = dead;
    }
    return due > core->now ? due : core->now + 1;
}
