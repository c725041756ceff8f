#include "router/core/move.h"

#include "common/base/mark.h"
#include "router/core/core.h"

#include <stdio.h>

static void say_commit(struct router_core *core, link_id link, const struct stream_key *key, const struct attempt *offered,
                       const struct attempt *by) {
    struct msg m = {.kind = MSG_MOVE_COMMIT, .move_commit = {.key = *key, .attempt = *offered}};
    if (by) m.move_commit.by = *by;
    core_say(core, link, &m);
}

void move_settle(struct router_core *core, struct session *s, bool accepted) {
    s->request.restore[0] = s->request.store[0] = '\0'; // it was for one replica; what comes later is computed
    if (!s->move.open) return;
    s->move.open = false;
    core->counters.moved += accepted;
    say_commit(core, s->move.link, &s->key, &s->move.attempt, accepted ? &s->attempt : NULL);
}

bool move_concerns(const struct session *s, const struct attempt *attempt) {
    return s->move.open && attempt_equal(&s->move.attempt, attempt);
}

void move_check_lease(struct session *s, ms_t now) {
    if (s->move.open && s->move.lease_at <= now) s->request.restore[0] = s->request.store[0] = '\0';
}

// The present attempt stands still and may go on elsewhere.
static void take(struct router_core *core, struct session *s, struct link *link, const struct msg_move_offer *m, ms_t now) {
    MARK(offer_taken);
    struct msg ack = {.kind = MSG_ACK, .ack = {.key = s->key, .attempt = m->attempt, .next = record_log_count(s->log)}};
    core_say(core, link->id, &ack); // what it repeats from now on would be nobody's
    bool kept = m->handle[0] != '\0';
    s->move = (struct move){.open = true, .link = link->id, .attempt = m->attempt};
    s->move.lease_at = kept ? now + m->lease_ms : MS_NEVER;
    snprintf(s->request.restore, sizeof s->request.restore, "%s", m->handle);
    snprintf(s->request.store, sizeof s->request.store, "%s", m->store);
    core->counters.offers++;
    session_unplace(core, s, false);
    session_enqueue(core, s, now);
}

static void ask_for_rest(struct router_core *core, struct session *s, struct link *link, const struct attempt *attempt) {
    RARE_MARK(offer_before_its_records);
    struct msg m = {.kind = MSG_RESEND, .resend = {.key = s->key, .attempt = *attempt, .from = record_log_count(s->log)}};
    core_say(core, link->id, &m);
}

static void pass_to_owner(struct router_core *core, struct session *s, const struct msg_move_offer *m) {
    RARE_MARK(offer_passed_on);
    struct msg out = {.kind = MSG_MOVE_OFFER, .move_offer = *m};
    if (s->requester) core_say(core, s->requester->id, &out);
}

void move_on_offer(struct router_core *core, struct link *link, const struct msg_move_offer *m, ms_t now) {
    struct session *s = session_find(core, &m->key);
    if (s == NULL || s->state == SESSION_ENDED) {
        RARE_MARK(offer_of_an_ended_stream);
        say_commit(core, link->id, &m->key, &m->attempt, NULL);
        return;
    }
    if (s->offer && stream_rx_current(&s->rx, link->incarnation, &m->attempt)) {
        if (record_log_count(s->log) < m->n_tokens)
            ask_for_rest(core, s, link, &m->attempt);
        else if (s->relayed)
            pass_to_owner(core, s, m);
        else
            take(core, s, link, m, now);
        return;
    }
    bool later = attempt_compare(&m->attempt, &s->attempt) < 0;
    if (later && s->state == SESSION_RUNNING)
        say_commit(core, link->id, &m->key, &m->attempt, &s->attempt);
    else
        core->counters.stale_dropped += !move_concerns(s, &m->attempt);
}

void move_on_commit(struct router_core *core, struct link *link, const struct msg_move_commit *m, ms_t now) {
    struct session *s = session_find(core, &m->key);
    if (s == NULL || s->requester != link || !s->relayed || !attempt_equal(&m->attempt, &s->attempt)) return;
    RARE_MARK(commit_passed_on);
    if (s->offer) {
        struct msg out = {.kind = MSG_MOVE_COMMIT, .move_commit = *m};
        core_say(core, s->rx.link, &out);
        session_unplace(core, s, false);
    }
    session_end(core, s, now);
}

// The replica, or one of its processes.
static bool has_name(const struct candidate *c, const char *name) {
    bool found = strcmp(c->name, name) == 0;
    for (uint32_t i = 0; i < c->n_members && !found; i++) found = strcmp(c->members[i].name, name) == 0;
    return found;
}

void move_pass_notice(struct router_core *core, const struct msg_notice *m) {
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        if (c->kind != CANDIDATE_REPLICA || !has_name(c, m->name)) continue;
        struct msg out = {.kind = MSG_NOTICE, .notice = *m};
        core_say(core, c->link->id, &out);
    }
}
