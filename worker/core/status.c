// What routers are told of this worker: Hello, status deltas, heartbeats.
#include "worker/core/core.h"

#include <stdio.h>
#include <string.h>

void status_hello(struct worker_core *core, struct link *link, bool reply_wanted) {
    const struct worker_core_options *o = &core->options;
    struct msg m = {.kind = MSG_HELLO};
    struct msg_hello *h = &m.hello;
    *h = (struct msg_hello){.protocol_min = PROTOCOL_OLDEST, .protocol_max = PROTOCOL_VERSION, .role = ROLE_WORKER};
    h->incarnation = o->incarnation;
    memcpy(h->name, o->name, sizeof h->name);
    memcpy(h->region, o->region, sizeof h->region);
    memcpy(h->zone, o->zone, sizeof h->zone);
    h->pid = o->n_members > 0 ? o->members[0].pid : 0;
    h->reply_wanted = reply_wanted;
    h->info = o->info;
    h->n_members = o->n_members;
    h->members = o->members;
    core_send(core, link->id, &m);
}

void status_touch(struct worker_core *core, uint32_t groups) {
    for (uint32_t i = 0; i < core->links.count; i++) core->links.links[i]->touched |= groups;
}

void status_age(struct worker_core *core, uint32_t groups) {
    for (uint32_t i = 0; i < core->links.count; i++) core->links.links[i]->aged |= groups;
}

// ---- load ----

// Tokens that a stream is still expected to make: up to the mean of past answers; one that is longer than that already goes
// on for a quarter of it.
static uint64_t decode_left(const struct worker_core *core, uint32_t made, uint32_t max_tokens) {
    float expected = core->answer_tokens > (float)made ? core->answer_tokens - (float)made : core->answer_tokens / 4;
    uint32_t left = max_tokens > made ? max_tokens - made : 0;
    return expected < (float)left ? (uint64_t)(expected + 1) : left;
}

static void add_load(const struct worker_core *core, struct deployment_status *d) {
    for (const struct stream *s = core->streams.first; s != NULL; s = s->next) {
        if (!s->known || s->state == STREAM_ENDED || s->state == STREAM_OFFERED) continue;
        if (s->state == STREAM_PREPARING) {
            d->queued_tokens += s->prompt_estimate;
            d->decode_left += decode_left(core, 0, UINT32_MAX);
        } else {
            d->queued_tokens += sequence_prefill_left(&s->seq);
            d->decode_left += decode_left(core, record_log_count(s->log), s->max_tokens);
        }
    }
    d->running = core->scheduler.n_running;
    d->queued = core->streams.n_preparing + core->scheduler.waiting.n;
    d->blocks_free = core->scheduler.blocks.n_free;
    d->blocks_total = core->scheduler.blocks.count;
    d->replicas_ready = core->life == LIFECYCLE_READY;
    d->replicas_total = 1;
}

// Expected time until all that is here has ended.
static double work_ms(const struct worker_core *core) {
    struct deployment_status d = {0};
    add_load(core, &d);
    return 1e3 * ((double)d.queued_tokens / (double)step_model_prefill_rate(&core->pace.model) +
                  (double)d.decode_left / (double)step_model_decode_rate(&core->pace.model));
}

// The expected time until the queue is one shorter: its work spread over its streams.
uint32_t status_retry_after_ms(const struct worker_core *core) {
    uint32_t streams = core->streams.n_preparing + core->streams.n_live;
    double ms = streams > 0 ? work_ms(core) / streams : 0;
    if (ms < RETRY_AFTER_MIN_MS) return RETRY_AFTER_MIN_MS;
    return ms < RETRY_AFTER_MAX_MS ? (uint32_t)ms : RETRY_AFTER_MAX_MS;
}

// A slot is there for one more than those that wait once so many more have ended.
uint32_t status_wait_ms(const struct worker_core *core) {
    uint32_t streams = core->streams.n_preparing + core->streams.n_live, slots = core->options.max_seqs;
    if (streams < slots) return 0;
    double ms = work_ms(core) * (streams - slots + 1) / streams;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

// ---- messages ----

static uint32_t remaining(const struct worker_core *core) {
    if (core->deadline_at == MS_NEVER) return 0;
    ms_t left = core->deadline_at - core->now;
    return left < 1 ? 1 : left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
}

static void send_status(struct worker_core *core, struct link *link, uint32_t groups, bool full) {
    struct deployment_status d = {.groups = groups & ~(uint32_t)STATUS_LIFE};
    if (groups & STATUS_INFO) d.info = core->options.info;
    if (groups & STATUS_LOAD) add_load(core, &d);
    d.generates_seen = link->generates_seen;
    d.prefill_rate = step_model_prefill_rate(&core->pace.model);
    d.decode_rate = step_model_decode_rate(&core->pace.model);
    d.decoded_total = core->counters.decoded_tokens;
    d.prefilled_total = core->scheduler.prefilled_tokens;
    struct msg m = {.kind = MSG_STATUS, .status = {.seq = ++link->status_seq, .full = full}};
    m.status.has_life = (groups & STATUS_LIFE) != 0;
    m.status.state = core->life;
    m.status.progress = core->progress;
    m.status.eta_ms = core->eta_ms;
    m.status.deadline_ms = remaining(core);
    memcpy(m.status.reason, core->reason, sizeof m.status.reason);
    m.status.n_deployments = d.groups != 0;
    m.status.deployments = &d;
    link->touched = link->aged = 0;
    link->status_at = core->now;
    if (full) link->full_at = core->now;
    core_send(core, link->id, &m);
}

void status_full(struct worker_core *core, struct link *link) { send_status(core, link, STATUS_ALL, true); }

void status_now(struct worker_core *core) {
    for (uint32_t i = 0; i < core->links.count; i++) {
        struct link *link = core->links.links[i];
        if (link->touched && !link->incompatible) send_status(core, link, link->touched | link->aged, false);
    }
}

ms_t status_tick(struct worker_core *core, struct link *link) {
    if (link->incompatible) return MS_NEVER;
    ms_t full_at = link->full_at + core->options.status_full_ms;
    ms_t delta_at = link->touched ? link->status_at + link->heartbeat_ms / 4 : MS_NEVER;
    ms_t beat_at = link->health.said_at + link->heartbeat_ms;
    if (full_at <= core->now || core_odd(core, WORKER_ODD_HEARTBEAT))
        status_full(core, link);
    else if (delta_at <= core->now || beat_at <= core->now)
        send_status(core, link, link->touched | link->aged, false);
    else
        return full_at < beat_at ? (full_at < delta_at ? full_at : delta_at) : beat_at < delta_at ? beat_at : delta_at;
    full_at = link->full_at + core->options.status_full_ms;
    beat_at = link->health.said_at + link->heartbeat_ms;
    return full_at < beat_at ? full_at : beat_at;
}
