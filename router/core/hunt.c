#include "router/core/hunt.h"

#include "common/base/check.h"
#include "router/core/core.h"

#include <stdio.h>
#include <stdlib.h>

void hunt_end(struct router_core *core, struct session *s) {
    if (s->hunt == NULL) return;
    core->n_hunts--;
    free(s->hunt->asked);
    free(s->hunt);
    s->hunt = NULL;
    s->retry_at = MS_NEVER;
}

// --- asking

void attach_say(struct router_core *core, struct session *s, link_id link, bool to_peer, ms_t now) {
    struct msg m = {.kind = MSG_ATTACH, .attach = {.key = s->key, .attempt = s->attempt, .asks = s->asks}};
    struct msg_attach *a = &m.attach;
    a->next = record_log_count(s->log);
    if (a->next > s->held) s->held = a->next, s->prefix = record_log_hash(s->log, a->next);
    a->held = s->held;
    a->prefix = s->prefix;
    snprintf(a->fingerprint, sizeof a->fingerprint, "%s", s->fingerprint);
    snprintf(a->model, sizeof a->model, "%s", s->deployment->model);
    snprintf(a->deployment, sizeof a->deployment, "%s", s->deployment->name);
    snprintf(a->tenant, sizeof a->tenant, "%s", s->request.tenant);
    a->deadline_ms = session_deadline_ms(s, now);
    a->hops = to_peer;
    core_say(core, link, &m);
}

// The offer of a candidate under which it may have the stream: of the same model, and fingerprint if that is known.
static struct offer *may_have(const struct candidate *c, const struct session *s) {
    struct offer *found = NULL;
    for (uint32_t i = 0; i < c->n_offers; i++) {
        struct offer *o = c->offers[i];
        const char *fingerprint = o->status.info.fingerprint;
        if (strcmp(o->pool->deployment->model, s->deployment->model) != 0) continue;
        if (s->fingerprint[0] && fingerprint[0] && strcmp(fingerprint, s->fingerprint) != 0) continue;
        if (found == NULL || o->pool->deployment == s->deployment) found = o;
    }
    return found;
}

static bool turn_has_come(const struct hunt *h, const struct candidate *c) {
    switch (h->round) {
    case HUNT_NAMED:
        return h->name[0] && strcmp(c->name, h->name) == 0;
    case HUNT_REPLICAS:
        return c->kind == CANDIDATE_REPLICA;
    default:
        return c->kind == CANDIDATE_PEER;
    }
}

static struct hunt_asked *asked(const struct hunt *h, incarnation_t who) {
    for (uint32_t i = 0; i < h->n_asked; i++) {
        if (h->asked[i].who == who) return &h->asked[i];
    }
    return NULL;
}

static void ask_round(struct router_core *core, struct session *s, ms_t now) {
    struct hunt *h = s->hunt;
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        if (h->n_asked == HUNT_ASKED_MAX || !turn_has_come(h, c)) continue;
        if (may_have(c, s) == NULL || asked(h, c->incarnation)) continue;
        h->asked = xrealloc(h->asked, (h->n_asked + 1) * sizeof *h->asked);
        h->asked[h->n_asked++] = (struct hunt_asked){c->incarnation, true};
        h->n_open++;
        attach_say(core, s, c->link->id, c->kind == CANDIDATE_PEER, now);
    }
}

// --- nobody has it

// There are replicas of the model, but none of this fingerprint: not even the same answer can be made again.
static bool fingerprint_is_gone(const struct router_core *core, const struct session *s) {
    bool others = false;
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        if (may_have(c, s)) return false;
        for (uint32_t i = 0; i < c->n_offers; i++) {
            const struct offer *o = c->offers[i];
            others = others || (o->usable && strcmp(o->pool->deployment->model, s->deployment->model) == 0);
        }
    }
    return others;
}

static void failed(struct router_core *core, struct session *s, ms_t now) {
    hunt_end(core, s);
    if (s->relayed) {
        struct msg m = {.kind = MSG_UNKNOWN, .unknown = {s->key, s->attempt}};
        if (s->requester) core_say(core, s->requester->id, &m);
        session_end(core, s, now);
    } else if (s->local && s->fingerprint[0] && fingerprint_is_gone(core, s)) {
        struct error why = {0};
        error_set(&why, ERR_RESUME_LOST, "the stream began on fingerprint %s, which no replica of %s has any more",
                  s->fingerprint, s->deployment->model);
        session_fail(core, s, &why, 0, now);
    } else {
        core->counters.not_found++;
        session_enqueue(core, s, now);
    }
}

// --- rounds

static void next_round(struct router_core *core, struct session *s, ms_t now) {
    struct hunt *h = s->hunt;
    enum hunt_round last = s->relayed ? HUNT_REPLICAS : HUNT_PEERS;
    for (h->n_open = 0; h->n_open == 0;) {
        if (h->round > last) {
            failed(core, s, now);
            return;
        }
        ask_round(core, s, now);
        h->round++;
    }
    s->retry_at = now + HUNT_ROUND_MS;
    session_arm(core, s);
}

void hunt_again(struct router_core *core, struct session *s, ms_t now) {
    s->hunt->round = HUNT_NAMED;
    s->hunt->n_asked = 0;
    next_round(core, s, now);
}

void hunt_begin(struct router_core *core, struct session *s, const char *name, ms_t now) {
    s->state = SESSION_ASKING;
    s->hunt = xcalloc(1, sizeof *s->hunt);
    core->n_hunts++;
    snprintf(s->hunt->name, sizeof s->hunt->name, "%s", name);
    if (!s->relayed) s->attempt.counter++;
    hunt_again(core, s, now);
}

void hunt_tick(struct router_core *core, struct session *s, ms_t now) {
    for (uint32_t i = 0; i < s->hunt->n_asked; i++) s->hunt->asked[i].open = false;
    next_round(core, s, now);
}

// --- answers

static void found(struct router_core *core, struct session *s, struct candidate *c, ms_t now) {
    struct offer *o = may_have(c, s);
    struct deployment *d = o->pool->deployment;
    hunt_end(core, s);
    s->deployment->sessions--;
    d->sessions++;
    s->deployment = d;
    core->counters.attached++;
    session_bind(core, s, o, now);
}

static void has_not(struct router_core *core, struct session *s, struct hunt_asked *a, ms_t now) {
    a->open = false;
    if (--s->hunt->n_open == 0) next_round(core, s, now);
}

// Some candidate has seen a later attempt than ours. Our client is the one that came last: we make a later one still.
static void outbid(struct router_core *core, struct session *s, struct hunt_asked *a, const struct msg *m,
                   const struct candidate *c, ms_t now) {
    const struct attempt *by = &m->superseded.by;
    if (attempt_compare(by, &s->attempt) <= 0) return;
    if (s->relayed) { // its owner will
        if (s->requester) core_say(core, s->requester->id, m);
        session_end(core, s, now);
    } else if (s->hunt->outbids++ < HUNT_OUTBIDS_MAX) {
        s->attempt.takeover = by->takeover + 1;
        snprintf(s->hunt->name, sizeof s->hunt->name, "%s", c->name);
        hunt_again(core, s, now);
    } else {
        has_not(core, s, a, now);
    }
}

static bool is_about_a_stream(enum msg_kind kind) {
    return kind == MSG_ACCEPTED || kind == MSG_REJECTED || kind == MSG_TOKENS || kind == MSG_DONE || kind == MSG_UNKNOWN ||
           kind == MSG_SUPERSEDED;
}

bool hunt_hears(struct router_core *core, struct link *link, const struct msg *m, ms_t now) {
    if (core->n_hunts == 0 || !is_about_a_stream(m->kind)) return false;
    struct session *s = session_find(core, &m->accepted.key); // all of these begin with key and attempt
    if (s == NULL || s->hunt == NULL || !attempt_equal(&m->accepted.attempt, &s->attempt)) return false;
    struct hunt_asked *a = asked(s->hunt, link->incarnation);
    if (a == NULL || may_have(link->candidate, s) == NULL) return false;
    switch (m->kind) {
    case MSG_ACCEPTED:
    case MSG_TOKENS:
    case MSG_DONE:
        found(core, s, link->candidate, now);
        return false;
    case MSG_SUPERSEDED:
        outbid(core, s, a, m, link->candidate, now);
        return true;
    case MSG_REJECTED:
        if (m->rejected.error.id == ERR_KEY_REUSED)
            session_fail(core, s, &m->rejected.error, 0, now);
        else if (a->open)
            has_not(core, s, a, now);
        return true;
    default:
        if (a->open) has_not(core, s, a, now);
        return true;
    }
}
