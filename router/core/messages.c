// Messages that come over links, handed to what they are about. What a role may not say is counted and dropped.
#include "common/base/mark.h"
#include "router/core/core.h"

#include <string.h>

static void misplaced(struct router_core *core) { core->counters.protocol_errors++; }

static void unknown(struct router_core *core, struct link *link, const struct stream_key *key,
                    const struct attempt *attempt) {
    struct msg m = {.kind = MSG_UNKNOWN, .unknown = {*key, *attempt}};
    core_say(core, link->id, &m);
}

// --- from candidates

// The session, if the message is about its present attempt and comes from where that was placed.
static struct session *current(struct router_core *core, struct link *link, const struct stream_key *key,
                               const struct attempt *attempt) {
    struct session *s = session_find(core, key);
    if (s && s->offer && stream_rx_current(&s->rx, link->incarnation, attempt)) return s;
    core->counters.stale_dropped++;
    return NULL;
}

static void on_forgotten(struct router_core *core, struct link *link, const struct msg_unknown *m, ms_t now) {
    struct session *s = current(core, link, &m->key, &m->attempt);
    if (s == NULL) return;
    if (s->state == SESSION_PLACED) { // the Generate that would have made it known may still be under way, or is lost
        RARE_MARK(unknown_before_accepted);
        session_ask_again(core, s, now);
        session_arm(core, s);
        return;
    }
    RARE_MARK(stream_forgotten);
    struct error why = {0};
    error_set(&why, ERR_WORKER_LOST, "%s has forgotten the stream", s->replica);
    session_unplace(core, s, false);
    session_again(core, s, &why, now);
}

static void on_superseded(struct router_core *core, struct link *link, const struct msg_superseded *m, ms_t now) {
    struct session *s = current(core, link, &m->key, &m->attempt);
    if (s == NULL || attempt_compare(&m->by, &s->attempt) <= 0) return;
    RARE_MARK(superseded_by_another_router);
    struct error why = {0};
    session_unplace(core, s, false);
    error_set(&why, ERR_SUPERSEDED, "a later attempt took the request over");
    session_fail(core, s, &why, 0, now);
}

static void from_candidate(struct router_core *core, struct link *link, const struct msg *m, ms_t now) {
    struct session *s;
    if (hunt_hears(core, link, m, now)) return;
    switch (m->kind) {
    case MSG_STATUS:
        candidate_on_status(core, link->candidate, &m->status, now);
        break;
    case MSG_ACCEPTED:
        s = current(core, link, &m->accepted.key, &m->accepted.attempt);
        if (s) session_on_accepted(core, s, &m->accepted, now);
        break;
    case MSG_REJECTED:
        s = current(core, link, &m->rejected.key, &m->rejected.attempt);
        if (s) session_on_rejected(core, s, &m->rejected, now);
        break;
    case MSG_TOKENS:
        session_on_tokens(core, session_find(core, &m->tokens.key), link, &m->tokens, now);
        break;
    case MSG_DONE:
        session_on_done(core, session_find(core, &m->done.key), link, &m->done, now);
        break;
    case MSG_UNKNOWN:
        on_forgotten(core, link, &m->unknown, now);
        break;
    case MSG_MOVE_OFFER:
        move_on_offer(core, link, &m->move_offer, now);
        break;
    case MSG_SUPERSEDED:
        on_superseded(core, link, &m->superseded, now);
        break;
    default:
        misplaced(core);
        break;
    }
}

// --- from requesters

// The session that this link is the requester of.
static struct session *own(struct router_core *core, const struct link *link, const struct stream_key *key) {
    struct session *s = session_find(core, key);
    return s && s->requester == link ? s : NULL;
}

static void on_ack(struct router_core *core, struct link *link, const struct msg_ack *m, ms_t now) {
    struct session *s = own(core, link, &m->key);
    if (s == NULL) return;
    stream_tx_on_ack(&s->tx, m, now);
    if (s->tx.finished && s->tx.done_acked) session_end(core, s, now);
}

static void on_resend(struct router_core *core, struct link *link, const struct msg_resend *m, ms_t now) {
    struct session *s = own(core, link, &m->key);
    if (s == NULL) return;
    stream_tx_on_resend(&s->tx, m, s->log, &core->wire, now);
    session_arm(core, s);
}

// A stream of another tenant than the link's.
static bool foreign(const struct link *link, const struct session *s) {
    return link->has_tenant && strcmp(link->tenant, s->request.tenant) != 0;
}

static void on_sync(struct router_core *core, struct link *link, const struct msg_sync *m, ms_t now) {
    for (uint32_t i = 0; i < m->n_entries; i++) {
        const struct sync_entry *e = &m->entries[i];
        struct session *s = session_find(core, &e->key);
        bool relayed = link->role == ROLE_ROUTER;
        int order = s && relayed ? attempt_compare(&e->attempt, &s->attempt) : 0;
        if (s == NULL || s->local || s->relayed != relayed || order > 0 || foreign(link, s)) {
            MARK(sync_of_unknown);
            unknown(core, link, &e->key, &e->attempt);
        } else if (order < 0) {
            RARE_MARK(sync_superseded);
            struct msg answer = {.kind = MSG_SUPERSEDED, .superseded = {e->key, e->attempt, s->attempt}};
            core_say(core, link->id, &answer);
        } else {
            MARK(sync_attaches);
            session_attach(core, s, link, e->next, now);
        }
    }
}

static void on_cancel(struct router_core *core, struct link *link, const struct msg_cancel *m, ms_t now) {
    struct session *s = own(core, link, &m->key);
    if (s == NULL)
        unknown(core, link, &m->key, &m->attempt);
    else if (s->relayed && attempt_compare(&m->attempt, &s->attempt) < 0)
        return; // about an earlier one
    else
        session_cancel(core, s, now);
}

static void from_requester(struct router_core *core, struct link *link, const struct msg *m, ms_t now) {
    switch (m->kind) {
    case MSG_STATUS:
        break; // proof of life
    case MSG_GENERATE:
        intake_from_link(core, link, &m->generate, now);
        break;
    case MSG_ATTACH:
        attach_from_link(core, link, &m->attach, now);
        break;
    case MSG_ACK:
        on_ack(core, link, &m->ack, now);
        break;
    case MSG_RESEND:
        on_resend(core, link, &m->resend, now);
        break;
    case MSG_SYNC:
        on_sync(core, link, &m->sync, now);
        break;
    case MSG_CANCEL:
        on_cancel(core, link, &m->cancel, now);
        break;
    case MSG_MOVE_COMMIT:
        move_on_commit(core, link, &m->move_commit, now);
        break;
    case MSG_NOTICE:
        if (link->role == ROLE_CLIENT)
            move_pass_notice(core, &m->notice);
        else
            misplaced(core);
        break;
    default:
        misplaced(core);
        break;
    }
}

static void answer_query(struct router_core *core, struct link *link) {
    struct msg m = {.kind = MSG_CLUSTER};
    router_core_cluster(core, &m.cluster);
    core_say(core, link->id, &m);
}

static void handle(struct router_core *core, struct link *link, const struct msg *m, ms_t now) {
    if (m->kind == MSG_HELLO)
        link_on_hello(core, link, &m->hello, now);
    else if (!link->greeted)
        link_say_hello(core, link, true); // a stranger: who are you?
    else if (link->ignored)
        core->counters.protocol_errors++;
    else if (m->kind == MSG_QUERY)
        answer_query(core, link);
    else if (link->candidate)
        from_candidate(core, link, m, now);
    else if (link->role == ROLE_WORKER || link->dialled)
        misplaced(core); // its candidate is gone
    else
        from_requester(core, link, m, now);
}

void router_core_message(struct router_core *core, link_id id, const struct msg *m, ms_t now) {
    core_begin(core, now);
    struct link *link = link_by_id(core, id);
    if (link == NULL) return;
    link_heard(core, link, now);
    handle(core, link, m, now);
    core_settle(core, now);
}
