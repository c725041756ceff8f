// Requests that come in: new ones are checked, estimated and admitted or refused; known ones find their session again.
#include "common/base/mark.h"
#include "router/core/core.h"

#include <stdio.h>
#include <string.h>

static struct session *refuse(struct router_core *core, const struct msg_generate *g, const struct error *why,
                              uint32_t retry_after_ms, struct msg_rejected *rejected) {
    core->counters.refused++;
    *rejected = (struct msg_rejected){.key = g->key, .attempt = g->attempt, .error = *why, .retry_after_ms = retry_after_ms};
    return NULL;
}

static bool excluded(const struct candidate *c, uint32_t n, const incarnation_t *list) {
    for (uint32_t i = 0; i < n; i++) {
        if (list[i] == c->incarnation) return true;
    }
    return false;
}

bool intake_pin(const struct router_core *core, const struct deployment *d, const struct msg_generate *g,
                uint32_t n_excluded, const incarnation_t *list, bool *elsewhere, struct error *e) {
    bool peers = false;
    *elsewhere = false;
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        if (candidate_offer(c, d) == NULL) continue;
        if (c->kind == CANDIDATE_REPLICA && strcmp(c->name, g->pin) == 0) return true;
        peers = peers || (c->kind == CANDIDATE_PEER && !excluded(c, n_excluded, list));
    }
    *elsewhere = true;
    if (peers && g->hops == 0) return true;
    error_set_param(e, ERR_NOT_FOUND, "replica", "no replica named '%s' serves %s", g->pin, g->model);
    return false;
}

static err_id validate(const struct router_core *core, const struct msg_generate *g, bool relayed, struct error *e) {
    if (core->draining) {
        MARK(draining_refuses);
        return error_set(e, ERR_DRAINING, "this router is shutting down");
    }
    if (g->hops > HOPS_MAX) return error_set(e, ERR_INVALID_ARGUMENT, "the request came through %u routers", g->hops);
    if (relayed && g->attempt.router == 0) return error_set(e, ERR_PROTOCOL, "a relayed request names its attempt");
    if (g->key.choice >= CHOICES_MAX) {
        return error_set_param(e, ERR_INVALID_ARGUMENT, "n", "choice %u, but at most %d answers are made", g->key.choice,
                               CHOICES_MAX);
    }
    if (g->body_len > BODY_BYTES_MAX) {
        return error_set(e, ERR_TOO_LARGE, "the request has %zu bytes, at most %d may be sent", g->body_len, BODY_BYTES_MAX);
    }
    if (g->records.count > OUTPUT_TOKENS_MAX) return error_set(e, ERR_TOO_LARGE, "the stream is longer than one may be");
    return ERR_NONE;
}

// What is kept for clients that may come back goes first, oldest first, when memory is needed.
static void make_room(struct router_core *core) {
    uint64_t most = core->options.held_bytes_max;
    while (most > 0 && core->held_bytes > most && core->n_kept > 0) {
        RARE_MARK(kept_session_makes_room);
        session_end(core, LIST_ENTRY(core->kept.next, struct session, requester_node), core->now);
    }
}

// The pool it is admitted to: the one that its region's weight says, or if that can't make the deadline and may spill,
// another.
static err_id admit(struct router_core *core, struct deployment *d, struct admission_request *a, struct pool **pool,
                    uint32_t *retry_after_ms, struct error *e) {
    make_room(core);
    struct admission_limits limits = {
        .sessions_max = core->options.sessions_max,
        .queue_max = core->options.queue_max,
        .queue_tokens_max = core->options.queue_tokens_max,
        .held_bytes_max = core->options.held_bytes_max,
        .held_bytes = core->held_bytes,
        .sessions = core->sessions.count - core->n_kept,
        .queued = core->queued,
        .queued_tokens = core->queued_tokens,
    };
    err_id id = admission_check(&limits, *pool, a, retry_after_ms, e);
    if (id == ERR_NONE || *pool == NULL || (*pool)->spill_after_ms == 0 || a->unconditional) return id;
    for (uint32_t i = 0; i < d->n_pools; i++) {
        struct error other = {0};
        uint32_t later;
        if (d->pools[i] == *pool || d->pools[i]->usable == 0) continue;
        if (admission_check(&limits, d->pools[i], a, &later, &other) != ERR_NONE) continue;
        MARK(admitted_elsewhere);
        *pool = d->pools[i];
        return ERR_NONE;
    }
    return id;
}

struct expectation {
    uint32_t prompt_whole, decode_whole;
    uint32_t prompt, decode; // behind the records
};

static struct expectation expect(const struct deployment *d, const struct msg_generate *g) {
    double ratio = d->bytes_per_token > 0 ? (double)d->bytes_per_token : BYTES_PER_TOKEN_GUESS;
    uint32_t whole = output_length_expect(&d->lengths, g->max_tokens);
    return (struct expectation){
        .prompt_whole = (uint32_t)(g->prompt_bytes / ratio) + 1,
        .decode_whole = whole,
        .prompt = (uint32_t)(g->prompt_bytes / ratio) + g->records.count + 1,
        .decode = whole > g->records.count ? whole - g->records.count : 1,
    };
}

// What session_route_request() would say if there were a session already.
static struct route_request foresee(const struct msg_generate *g, bool relayed, struct expectation x, double budget_s) {
    return (struct route_request){
        .prompt = x.prompt,
        .decode = x.decode,
        .budget_s = budget_s,
        .pin = g->pin,
        .fingerprint = g->fingerprint,
        .replicas_only = relayed,
    };
}

static struct session *admit_or_refuse(struct router_core *core, struct deployment *d, const struct msg_generate *g,
                                       bool relayed, struct msg_rejected *rejected, ms_t now) {
    struct error why = {0};
    uint32_t deadline_ms = g->deadline_ms ? g->deadline_ms : core->options.deadline_default_ms, retry_after_ms = 0;
    struct expectation x = expect(d, g);
    struct admission_request a = {.prompt = x.prompt, .decode = x.decode};
    a.budget_s = deadline_ms ? deadline_ms / 1000.0 : DEADLINE_NONE_S;
    bool goes_on = !relayed && g->fingerprint[0]; // somebody has part of it: it waits like one whose worker has died
    a.unconditional = g->pin[0] || goes_on;
    struct route_request r = foresee(g, relayed, x, a.budget_s);
    if (g->pin[0] && !intake_pin(core, d, g, 0, NULL, &r.pin_elsewhere, &why)) return refuse(core, g, &why, 0, rejected);
    struct region_request region = {.route = &r, .work = region_work(x.prompt, x.decode)};
    struct pool *pool = region_choose(d, &region);
    if (pool == NULL && (relayed || (!goes_on && !admission_hopeful(d, now)))) {
        error_set(&why, ERR_UNAVAILABLE, "no replica of %s is ready", d->model);
        return refuse(core, g, &why, 1000, rejected);
    }
    if (admit(core, d, &a, &pool, &retry_after_ms, &why) != ERR_NONE) return refuse(core, g, &why, retry_after_ms, rejected);
    struct session *s = session_create(core, g, d, now);
    s->relayed = relayed;
    s->prompt_whole = x.prompt_whole;
    s->decode_whole = x.decode_whole;
    s->pool = pool;
    s->foreseen_s = pool && !a.unconditional ? admission_foresee_s(pool, x.prompt, x.decode) : 0;
    return s;
}

struct session *intake(struct router_core *core, const struct msg_generate *g, bool relayed, struct msg_rejected *rejected,
                       ms_t now) {
    struct error why = {0};
    core->counters.requests++;
    if (validate(core, g, relayed, &why) != ERR_NONE) return refuse(core, g, &why, 0, rejected);
    if (core_odd(core, ROUTER_ODD_REFUSE)) {
        error_set(&why, ERR_OVERLOADED, "refused by chance");
        return refuse(core, g, &why, 1, rejected);
    }
    struct deployment *d = g->fingerprint[0] ? models_of_fingerprint(core, g->model, g->fingerprint) : NULL;
    if (d == NULL) d = models_choose(core, g, region_work(g->prompt_bytes / BYTES_PER_TOKEN_GUESS, g->max_tokens), &why);
    if (d == NULL) return refuse(core, g, &why, 0, rejected);
    return admit_or_refuse(core, d, g, relayed, rejected, now);
}

static void tell_refused(struct router_core *core, struct link *link, const struct msg_rejected *rejected) {
    struct msg m = {.kind = MSG_REJECTED, .rejected = *rejected};
    core_say(core, link->id, &m);
}

// Is this Generate of a known stream a later one than what we have (> 0), the same (0), an earlier (< 0)? A client counts
// its moves only. If we serve it for another router meanwhile, the client has left that one for us, unless it said this
// before.
static int later(const struct session *s, const struct msg_generate *g, bool relayed) {
    if (relayed) return attempt_compare(&g->attempt, &s->attempt);
    uint32_t move = g->attempt.takeover, known = s->request.attempt.takeover;
    return move > known ? 1 : move < known ? -1 : s->relayed;
}

// A Generate for a stream that is known: repeated, over another link, the next attempt of a relayed one, or of a client that
// has moved. Returns true if it has been dealt with; false: it is to be treated as new.
static bool again(struct router_core *core, struct link *link, struct session *s, const struct msg_generate *g, bool relayed,
                  ms_t now) {
    int order = later(s, g, relayed);
    if (s->local || (!relayed && strcmp(s->request.tenant, g->tenant) != 0)) { // whose it is stays a secret
        struct msg_rejected r = {.key = g->key, .attempt = g->attempt};
        error_set(&r.error, ERR_INVALID_ARGUMENT, "the request id is in use by another request");
        tell_refused(core, link, &r);
        return true;
    }
    if (order > 0) { // its owner has given the old attempt up; a client: it was at another router meanwhile
        struct msg m = {.kind = MSG_SUPERSEDED, .superseded = {s->key, s->attempt, g->attempt}};
        MARK(generate_moves_on);
        if (s->requester && s->requester != link) core_say(core, s->requester->id, &m);
        session_end(core, s, now);
        return false;
    }
    if (order < 0) {
        RARE_MARK(generate_too_late);
        struct msg m = {.kind = MSG_SUPERSEDED, .superseded = {g->key, g->attempt, s->attempt}};
        core_say(core, link->id, &m);
        return true;
    }
    MARK(generate_attaches);
    session_attach(core, s, link, g->records.count, now);
    return true;
}

void intake_from_link(struct router_core *core, struct link *link, const struct msg_generate *g, ms_t now) {
    bool relayed = link->role == ROLE_ROUTER || g->hops > 0;
    link->generates_seen++;
    struct session *s = session_find(core, &g->key);
    if (s && again(core, link, s, g, relayed, now)) return;
    struct msg_rejected rejected;
    s = intake(core, g, relayed, &rejected, now);
    if (s == NULL) {
        tell_refused(core, link, &rejected);
        return;
    }
    session_attach(core, s, link, g->records.count, now);
    bool elsewhere_before = !relayed && g->attempt.takeover > 0 && g->records.count > 0;
    if (elsewhere_before) // its worker may run ahead with it: better than to compute it again
        hunt_begin(core, s, "", now);
    else
        session_enqueue(core, s, now);
}
