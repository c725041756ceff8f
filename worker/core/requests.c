// What routers ask of streams: Generate, Ack, Resend, Sync, Cancel; and the outcome of a preparation. The grammar is in
// proto/README.md.
#include "worker/core/core.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/base/mark.h"

#include <string.h>

static void say_unknown(struct worker_core *core, link_id link, const struct stream_key *key,
                        const struct attempt *attempt) {
    struct msg m = {.kind = MSG_UNKNOWN, .unknown = {*key, *attempt}};
    core_send(core, link, &m);
}

static void say_superseded(struct worker_core *core, link_id link, const struct stream_key *key,
                           const struct attempt *attempt, const struct attempt *by) {
    struct msg m = {.kind = MSG_SUPERSEDED, .superseded = {*key, *attempt, *by}};
    core_send(core, link, &m);
}

// A stream that a later attempt has replaced ends without a Done; whoever still listens to it over another link is told.
static void supersede(struct worker_core *core, struct stream *s, link_id by_link, const struct attempt *by) {
    MARK(stream_replaced);
    core->counters.superseded++;
    if (s->tx.link != 0 && s->tx.link != by_link) say_superseded(core, s->tx.link, &s->key, &s->tx.attempt, by);
    answer_drop(core, s);
}

// The stream of this very attempt, or NULL, and then the router has been answered. Of a later attempt nothing is known here;
// its Generate, if that is still to come, may go on with the stream of an earlier one, which therefore stays.
static struct stream *locate(struct worker_core *core, const struct link *link, const struct stream_key *key,
                             const struct attempt *attempt) {
    struct stream *s = streams_find(&core->streams, key);
    int order = s == NULL ? 1 : attempt_compare(attempt, &s->tx.attempt);
    if (order < 0) {
        RARE_MARK(asked_for_an_old_attempt);
        say_superseded(core, link->id, key, attempt, &s->tx.attempt);
    }
    if (order > 0) say_unknown(core, link->id, key, attempt);
    return order == 0 ? s : NULL;
}

// ---- Generate ----

static bool serves_model(const struct worker_core *core, const struct msg_generate *g) {
    const struct deployment_info *info = &core->options.info;
    if (g->deployment[0] != '\0' && strcmp(g->deployment, info->deployment) != 0) return false;
    if (g->model[0] == '\0' || strcmp(g->model, info->model) == 0) return true;
    for (uint32_t i = 0; i < info->n_aliases; i++)
        if (strcmp(g->model, info->aliases[i]) == 0) return true;
    return false;
}

static err_id check_life(const struct worker_core *core, struct error *e) {
    switch (core->life) {
    case LIFECYCLE_READY:
        return ERR_NONE;
    case LIFECYCLE_NOTICED:
    case LIFECYCLE_DRAINING:
        return error_set(e, ERR_DRAINING, "%s is shutting down", core->options.name);
    default:
        return error_set(e, ERR_UNAVAILABLE, "%s is %s", core->options.name, lifecycle_name(core->life));
    }
}

static err_id check_target(const struct worker_core *core, const struct msg_generate *g, struct error *e) {
    const struct worker_core_options *o = &core->options;
    if (g->pin[0] != '\0' && strcmp(g->pin, o->name) != 0)
        return error_set(e, ERR_UNAVAILABLE, "the request is for %s, this is %s", g->pin, o->name);
    if (!serves_model(core, g))
        return error_set(e, ERR_MODEL_NOT_FOUND, "%s serves %s@%s, not %s@%s", o->name, o->info.model, o->info.deployment,
                         g->model, g->deployment);
    if (g->fingerprint[0] != '\0' && strcmp(g->fingerprint, o->info.fingerprint) != 0)
        return error_set(e, ERR_UNAVAILABLE, "the stream began on fingerprint %s, %s has %s", g->fingerprint, o->name,
                         o->info.fingerprint);
    return ERR_NONE;
}

// A stream that a free slot waits for is not in the queue.
static err_id check_room(const struct worker_core *core, struct error *e) {
    uint64_t queued = (uint64_t)core->streams.n_preparing + core->scheduler.waiting.n;
    uint32_t taken = core->scheduler.n_running + core->scheduler.n_leaving, slots = core->options.max_seqs;
    if (queued < (uint64_t)core->options.queue_max + (taken < slots ? slots - taken : 0)) return ERR_NONE;
    return error_set(e, ERR_OVERLOADED, "the queue of %s is full (%u streams)", core->options.name, core->options.queue_max);
}

// A stream whose turn would come after its deadline is refused while there is time to go elsewhere.
static err_id check_wait(const struct worker_core *core, const struct msg_generate *g, struct error *e) {
    uint32_t wait = status_wait_ms(core);
    if (g->deadline_ms == 0 || wait <= g->deadline_ms) return ERR_NONE;
    return error_set(e, ERR_OVERLOADED,
                     "%s has work for about %u ms ahead of it, and its deadline is in %u ms: try again later or elsewhere",
                     core->options.name, wait, g->deadline_ms);
}

static err_id check_generate(const struct worker_core *core, const struct msg_generate *g, struct error *e) {
    TRY(check_life(core, e));
    TRY(check_target(core, g, e));
    TRY(check_room(core, e));
    return check_wait(core, g, e);
}

static void start(struct worker_core *core, struct link *link, const struct msg_generate *g) {
    while (streams_kept(&core->streams) >= STREAMS_KEPT_MAX) answer_drop(core, streams_oldest_kept(&core->streams));
    struct stream *s = streams_add(&core->streams, &g->key, &g->attempt, link->id, &g->records);
    s->request = generate_asks(g);
    s->tenant = hash_bytes(g->tenant, strlen(g->tenant), core->options.prefix_salt);
    s->priority = g->priority;
    float per_token = core->options.info.bytes_per_token > 0 ? core->options.info.bytes_per_token : BYTES_PER_TOKEN;
    s->prompt_estimate = (uint32_t)((float)g->prompt_bytes / per_token) + g->records.count;
    s->heard_at = core->now;
    if (g->deadline_ms > 0) s->deadline_at = core->now + g->deadline_ms;
    answer_pump(core, s);
    status_touch(core, STATUS_LOAD);
    core->hooks.prepare(core->hooks.ctx, s->ticket, g);
}

static void attach(struct worker_core *core, struct link *link, struct stream *s, const struct attempt *attempt,
                   uint32_t next) {
    s->tx.link = link->id;
    s->tx.attempt = *attempt;
    if (s->state != STREAM_PREPARING) answer_accepted(core, s);
    answer_attach(core, s, link->id, next);
}

// May a later attempt go on with this stream instead of a new one? If it asks for the same, nothing went wrong here, and the
// records that it brings are a beginning of the log.
static bool agrees(const struct worker_core *core, const struct stream *s, const struct msg_generate *g) {
    if (s->request != generate_asks(g) || g->records.count > record_log_count(s->log)) return false;
    if (s->state == STREAM_ENDED && s->tx.done.finish > FINISH_TOOL_CALLS) return false;
    if (core->options.bug == WORKER_BUG_SPLICE) return true;
    for (uint32_t i = 0; i < g->records.count; i++)
        if (records_get(&g->records, i).token != record_log_get(s->log, i).token) {
            RARE_MARK(records_differ);
            return false;
        }
    return true;
}

static void take_over(struct worker_core *core, struct link *link, struct stream *s, const struct attempt *by,
                      uint32_t deadline_ms, uint32_t next) {
    MARK(stream_taken_over);
    core->counters.superseded++;
    if (s->tx.link != 0 && s->tx.link != link->id) say_superseded(core, s->tx.link, &s->key, &s->tx.attempt, by);
    if (s->state != STREAM_ENDED) s->deadline_at = deadline_ms > 0 ? core->now + deadline_ms : MS_NEVER;
    attach(core, link, s, by, next);
}

void request_generate(struct worker_core *core, struct link *link, const struct msg_generate *g) {
    struct error e = {0};
    link->generates_seen++;
    core->counters.generates++;
    if (attempt_is_none(&g->attempt) || g->records.count > OUTPUT_TOKENS_MAX) {
        core->counters.protocol_errors++;
        error_set(&e, ERR_PROTOCOL,
                  attempt_is_none(&g->attempt) ? "Generate has no attempt" : "Generate has too many records");
        answer_rejected(core, link->id, &g->key, &g->attempt, &e, 0);
        return;
    }
    struct stream *s = streams_find(&core->streams, &g->key);
    int order = s == NULL ? 1 : attempt_compare(&g->attempt, &s->tx.attempt);
    if (order == 0) {
        MARK(generate_came_again);
        attach(core, link, s, &g->attempt, g->records.count);
        return;
    }
    if (order < 0) {
        RARE_MARK(generate_of_an_old_attempt);
        say_superseded(core, link->id, &g->key, &g->attempt, &s->tx.attempt);
        return;
    }
    if (s != NULL && agrees(core, s, g)) {
        take_over(core, link, s, &g->attempt, g->deadline_ms, g->records.count);
        return;
    }
    if (s != NULL) supersede(core, s, link->id, &g->attempt);
    if (core_odd(core, WORKER_ODD_REFUSE)) error_set(&e, ERR_OVERLOADED, "refused by chance");
    if (e.id != ERR_NONE || check_generate(core, g, &e) != ERR_NONE) {
        uint32_t wait = e.id == ERR_OVERLOADED ? status_retry_after_ms(core) : 0;
        answer_rejected(core, link->id, &g->key, &g->attempt, &e, wait);
        return;
    }
    start(core, link, g);
}

// ---- Attach ----

static bool attachable(const struct worker_core *core, const struct stream *s, const struct msg_attach *m) {
    if (s == NULL || (s->state == STREAM_ENDED && s->tx.done.finish > FINISH_TOOL_CALLS)) return false;
    if (m->fingerprint[0] != '\0' && strcmp(m->fingerprint, core->options.info.fingerprint) != 0) return false;
    if (core->options.bug == WORKER_BUG_SPLICE || record_log_begins(s->log, m->held, m->prefix)) return true;
    RARE_MARK(records_differ);
    return false;
}

void request_attach(struct worker_core *core, struct link *link, const struct msg_attach *m) {
    struct stream *s = streams_find(&core->streams, &m->key);
    int order = s == NULL ? 1 : attempt_compare(&m->attempt, &s->tx.attempt);
    if (attempt_is_none(&m->attempt)) {
        core->counters.protocol_errors++;
    } else if (order < 0) { // also of one that has failed: who asks must make a later attempt, or it could not begin anew
        say_superseded(core, link->id, &m->key, &m->attempt, &s->tx.attempt);
    } else if (!attachable(core, s, m)) {
        say_unknown(core, link->id, &m->key, &m->attempt);
    } else if (order == 0) {
        attach(core, link, s, &m->attempt, m->next);
    } else if (m->asks != s->request) {
        struct error e = {0};
        error_set(&e, ERR_KEY_REUSED, "the stream of this id answers another request");
        answer_rejected(core, link->id, &m->key, &m->attempt, &e, 0);
    } else {
        core->counters.attached++;
        take_over(core, link, s, &m->attempt, m->deadline_ms, m->next);
    }
}

// ---- what the preparation found ----

static err_id check_prepared(const struct worker_core *core, const struct stream *s, const struct prepared *p,
                             struct error *e) {
    if (p->error.id != ERR_NONE) {
        *e = p->error;
        return e->id;
    }
    if (p->n_tokens == 0) return error_set(e, ERR_INVALID_ARGUMENT, "the prompt has no tokens");
    if (p->is_known || (p->n_tokens < core->context && s->n_given <= core->context - p->n_tokens)) return ERR_NONE;
    if (p->n_tokens < core->context)
        return error_set(e, ERR_CONTEXT_LENGTH, "prompt and answer so far have %u and %u tokens; this worker holds %u",
                         p->n_tokens, s->n_given, core->context);
    if (core->context < core->options.max_context)
        return error_set(e, ERR_CONTEXT_LENGTH, "the prompt has %u tokens; this worker's memory holds %u", p->n_tokens,
                         core->context);
    return error_set(e, ERR_CONTEXT_LENGTH, "the prompt has %u tokens; the context is %u", p->n_tokens, core->context);
}

static void begin_sequence(struct worker_core *core, struct stream *s, const struct prepared *p) {
    uint32_t room = core->context - p->n_tokens, pause_at = s->seq.pause_at;
    s->max_tokens = p->max_tokens == 0 || p->max_tokens > room ? room : p->max_tokens;
    s->prompt_tokens = p->n_tokens;
    uint32_t space = s->max_tokens > s->n_given ? s->max_tokens : s->n_given;
    sequence_init(&s->seq, p->tokens, p->n_tokens, space, core->options.block_tokens);
    s->seq.user = s->user;
    s->seq.one_by_one = p->one_by_one;
    s->seq.priority = s->priority;
    s->seq.tenant = s->tenant;
    s->seq.private_blocks = core->options.prefix_cache == PREFIX_CACHE_OFF;
    s->seq.salt = prefix_root(core->options.prefix_salt, core->options.prefix_cache == PREFIX_CACHE_TENANT ? s->tenant : 0);
    s->seq.resumed = s->n_given > 0;
    if (p->n_restored > 0) {
        uint32_t most = p->n_tokens + s->n_given - 1; // the last token has to be computed: its logits are not kept
        s->seq.n_restored = p->n_restored < most ? p->n_restored : most;
    }
    if (pause_at != UINT32_MAX) { // parked while it was prepared
        RARE_MARK(parked_while_prepared);
        s->seq.pause_at = pause_at + p->n_tokens;
    }
    for (uint32_t i = 0; i < s->n_given; i++) sequence_append(&s->seq, record_log_get(s->log, i).token);
}

// Records of an answer that nobody has to compute, behind those that the router has.
static void say_known(struct worker_core *core, struct stream *s, const struct prepared *p) {
    for (uint32_t i = record_log_count(s->log); i < p->n_answer; i++) {
        struct worker_token token = {.token = p->answer[i]};
        struct record r = {0};
        core->hooks.record(core->hooks.ctx, s->user, i, &token, &r);
        record_log_append(s->log, &r);
    }
    answer_finish(core, s, FINISH_STOP, NULL);
}

static void accept(struct worker_core *core, struct stream *s, const struct prepared *p) {
    begin_sequence(core, s, p);
    core->counters.accepted++;
    streams_set_state(&core->streams, s, STREAM_LIVE);
    answer_accepted(core, s);
    status_touch(core, STATUS_LOAD);
    if (p->is_known) {
        say_known(core, s, p);
    } else if (p->verdict != TEXT_GO_ON) {
        RARE_MARK(given_records_end_it);
        answer_finish(core, s, p->verdict == TEXT_STOP ? FINISH_STOP : FINISH_TOOL_CALLS, NULL);
    } else if (s->n_given >= s->max_tokens) {
        RARE_MARK(given_records_are_all);
        answer_finish(core, s, FINISH_LENGTH, NULL);
    } else {
        if (s->seq.n_restored > 0) s->seq.restore_ticket = streams_take_ticket(&core->streams, s);
        scheduler_enqueue(&core->scheduler, &s->seq);
    }
}

void worker_core_prepared(struct worker_core *core, uint64_t ticket, const struct prepared *p, ms_t now) {
    core_enter(core, now);
    struct stream *s = streams_by_ticket(&core->streams, ticket);
    struct error e = {0};
    if (s == NULL) { // dropped or ended meanwhile
        MARK(prepared_in_vain);
        if (p->user != NULL) core->hooks.release(core->hooks.ctx, p->user);
    } else {
        s->user = p->user;
        if (check_prepared(core, s, p, &e) == ERR_NONE) {
            accept(core, s, p);
        } else {
            answer_rejected(core, s->tx.link, &s->key, &s->tx.attempt, &e, 0);
            answer_drop(core, s);
        }
    }
    core_leave(core);
}

// ---- the rest ----

void request_ack(struct worker_core *core, const struct msg_ack *m) {
    struct stream *s = streams_find(&core->streams, &m->key);
    if (s == NULL || !attempt_equal(&s->tx.attempt, &m->attempt)) return;
    bool unclaimed = s->state == STREAM_ENDED && !s->tx.done_acked;
    stream_tx_on_ack(&s->tx, m, core->now);
    if (unclaimed && s->tx.done_acked) core->streams.n_unclaimed--;
    s->heard_at = core->now;
    answer_pump(core, s);
}

void request_resend(struct worker_core *core, struct link *link, const struct msg_resend *m) {
    struct stream *s = locate(core, link, &m->key, &m->attempt);
    if (s == NULL || core->options.bug == WORKER_BUG_RESEND_IGNORED) return;
    core->counters.resends++;
    s->heard_at = core->now;
    if (s->tx.link != link->id) {
        RARE_MARK(resend_over_another_link);
        answer_attach(core, s, link->id, m->from);
    } else if (s->state != STREAM_PREPARING) {
        stream_tx_on_resend(&s->tx, m, s->log, &core->out, core->now);
    }
    answer_pump(core, s);
}

void request_sync(struct worker_core *core, struct link *link, const struct msg_sync *m) {
    for (uint32_t i = 0; i < m->n_entries; i++) {
        const struct sync_entry *entry = &m->entries[i];
        struct stream *s = locate(core, link, &entry->key, &entry->attempt);
        if (s == NULL) continue;
        s->tx.link = link->id;
        if (s->state != STREAM_PREPARING && entry->next <= s->n_given) answer_accepted(core, s); // it may have been lost
        answer_attach(core, s, link->id, entry->next);
    }
}

void request_cancel(struct worker_core *core, struct link *link, const struct msg_cancel *m) {
    struct stream *s = streams_find(&core->streams, &m->key);
    int order = s == NULL ? 1 : attempt_compare(&m->attempt, &s->tx.attempt);
    if (order < 0) return; // about an earlier one
    if (order > 0) {
        MARK(cancel_of_unknown);
        if (s != NULL) supersede(core, s, link->id, &m->attempt);
        say_unknown(core, link->id, &m->key, &m->attempt);
        return;
    }
    if (s->tx.link != link->id) answer_attach(core, s, link->id, s->tx.acked);
    if (s->state != STREAM_ENDED) answer_finish(core, s, FINISH_CANCELLED, NULL);
}
