// Streams that somebody asks for by name and that this router serves already, or is to look for: what a peer asks by Attach,
// and what a client of the HTTP front asks for again.
#include "common/base/check.h"
#include "router/core/core.h"

#include <stdio.h>
#include <stdlib.h>

// --- a later attempt

void attach_retake(struct router_core *core, struct session *s, const struct attempt *attempt, ms_t now) {
    s->attempt = *attempt;
    if (s->hunt) {
        hunt_again(core, s, now);
    } else if (s->offer) {
        const struct candidate *c = s->offer->candidate;
        stream_rx_bind(&s->rx, attempt, c->link->id, c->incarnation);
        if (s->state == SESSION_RUNNING) {
            attach_say(core, s, c->link->id, c->kind == CANDIDATE_PEER, now);
        } else {
            session_ask_again(core, s, now);
        }
    }
}

static void answer(struct router_core *core, struct link *link, enum msg_kind kind, const struct msg_attach *a,
                   const struct session *s) {
    struct msg m = {.kind = kind, .unknown = {a->key, a->attempt}}; // Rejected and Superseded begin alike
    if (kind == MSG_SUPERSEDED) m.superseded.by = s->attempt;
    if (kind == MSG_REJECTED) error_set(&m.rejected.error, ERR_KEY_REUSED, "the stream of this id answers another request");
    core_say(core, link->id, &m);
}

static bool ended_well(const struct session *s) {
    return s->state != SESSION_ENDED || (!s->failed && s->done.finish <= FINISH_TOOL_CALLS);
}

// We relay it already, for a router that is gone or that the client has left.
static void attach_known(struct router_core *core, struct link *link, struct session *s, const struct msg_attach *m,
                         ms_t now) {
    int order = attempt_compare(&m->attempt, &s->attempt);
    if (order < 0) {
        answer(core, link, MSG_SUPERSEDED, m, s);
    } else if (!s->relayed || !ended_well(s) || !record_log_begins(s->log, m->held, m->prefix)) {
        answer(core, link, MSG_UNKNOWN, m, s);
    } else if (m->asks != s->asks) {
        answer(core, link, MSG_REJECTED, m, s);
    } else {
        struct msg old = {.kind = MSG_SUPERSEDED, .superseded = {s->key, s->attempt, m->attempt}};
        if (order > 0 && s->requester && s->requester != link) core_say(core, s->requester->id, &old);
        struct stream_key key = s->key;
        if (order > 0) attach_retake(core, s, &m->attempt, now);
        if (session_find(core, &key) != s) return;
        s->tx.attempt = s->tx.done.attempt = m->attempt;
        session_attach(core, s, link, m->next, now);
    }
}

void attach_from_link(struct router_core *core, struct link *link, const struct msg_attach *m, ms_t now) {
    if (link->role != ROLE_ROUTER || m->hops == 0 || m->attempt.router == 0) {
        core->counters.protocol_errors++;
        return;
    }
    struct session *s = session_find(core, &m->key);
    if (s) {
        attach_known(core, link, s, m, now);
        return;
    }
    struct deployment *d = models_find(core, m->model, m->deployment);
    if (d == NULL || core->draining || core->sessions.count - core->n_kept >= core->options.sessions_max) {
        answer(core, link, MSG_UNKNOWN, m, NULL);
        return;
    }
    struct msg_generate g = {.key = m->key, .attempt = m->attempt, .has_seed = true, .deadline_ms = m->deadline_ms};
    g.hops = m->hops;
    snprintf(g.model, sizeof g.model, "%s", m->model);
    snprintf(g.deployment, sizeof g.deployment, "%s", m->deployment);
    snprintf(g.fingerprint, sizeof g.fingerprint, "%s", m->fingerprint);
    snprintf(g.tenant, sizeof g.tenant, "%s", m->tenant);
    core->counters.requests++;
    s = session_create(core, &g, d, now);
    s->relayed = true;
    s->asks = m->asks;
    s->held = m->held;
    s->prefix = m->prefix;
    session_attach(core, s, link, m->next, now);
    hunt_begin(core, s, "", now);
}

// --- what a client asks for again

static struct session *refuse(struct router_core *core, const struct msg_generate *g, err_id id, const char *why,
                              struct msg_rejected *rejected) {
    core->counters.requests++;
    core->counters.refused++;
    *rejected = (struct msg_rejected){.key = g->key};
    error_set(&rejected->error, id, "%s", why);
    return NULL;
}

// We relayed it; its client has come to us. From now on it is ours.
static void own(struct router_core *core, struct session *s, const struct msg_generate *g, const struct router_resume *r,
                ms_t now) {
    s->relayed = false;
    s->request.hops = 0;
    if (s->request.body == NULL) session_copy_body(core, s, g); // it came by Attach
    s->request.prompt_bytes = g->prompt_bytes;
    s->request.priority = g->priority;
    s->request.has_seed = true;
    s->request.seed = g->seed;
    s->request.max_tokens = g->max_tokens;
    uint32_t takeover = s->attempt.takeover + 1;
    struct attempt next = {r->takeover > takeover ? r->takeover : takeover, s->attempt.counter, core->options.incarnation};
    attach_retake(core, s, &next, now);
}

static void leave_requester(struct router_core *core, struct session *s) {
    if (s->requester == NULL) return;
    struct attempt by = s->attempt;
    by.takeover++;
    struct msg m = {.kind = MSG_SUPERSEDED, .superseded = {s->key, s->attempt, by}};
    core_say(core, s->requester->id, &m);
    s->requester = NULL;
    stream_tx_detach(&s->tx);
}

static struct session *join(struct router_core *core, struct session *s, const struct msg_generate *g,
                            const struct router_resume *r, void *user, struct msg_rejected *rejected, ms_t now) {
    if (strcmp(s->request.tenant, g->tenant) != 0)
        return refuse(core, g, ERR_INVALID_ARGUMENT, "the request id is in use by another request", rejected);
    if (s->asks != generate_asks(g))
        return refuse(core, g, ERR_KEY_REUSED, "the key was used before with another request", rejected);
    s->request.keep = s->request.keep || g->keep;
    if (s->local) return s;
    if (!ended_well(s)) {
        session_end(core, s, now);
        return NULL;
    }
    leave_requester(core, s);
    session_part(core, s);
    s->local = true;
    s->user = user;
    s->give_up_at = MS_NEVER;
    if (s->state != SESSION_ENDED) {
        uint32_t deadline_ms = g->deadline_ms ? g->deadline_ms : core->options.deadline_default_ms;
        s->deadline_at = deadline_ms ? now + deadline_ms : MS_NEVER;
    }
    if (s->relayed) own(core, s, g, r, now);
    session_arm(core, s);
    return s;
}

struct session *router_core_resume(struct router_core *core, const struct msg_generate *g, const struct router_resume *r,
                                   void *user, struct msg_rejected *rejected, ms_t now) {
    core_begin(core, now);
    *rejected = (struct msg_rejected){0};
    struct session *s = session_find(core, &g->key);
    if (s) {
        s = join(core, s, g, r, user, rejected, now);
        core_settle(core, now);
        if (s || rejected->error.id) return s;
    }
    struct msg_generate request = *g;
    request.attempt = (struct attempt){.takeover = r->takeover};
    s = intake(core, &request, false, rejected, now);
    if (s == NULL) return NULL;
    s->local = true;
    s->user = user;
    if (r->takeover > 0)
        hunt_begin(core, s, r->replica, now);
    else
        session_enqueue(core, s, now);
    core_settle(core, now);
    return s;
}
