#include "router/core/link.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/base/mark.h"
#include "router/core/core.h"

#include <stdio.h>
#include <stdlib.h>

static bool has_id(const void *entry, const void *id) { return ((const struct link *)entry)->id == *(const link_id *)id; }

struct link *link_by_id(const struct router_core *core, link_id id) {
    return table_find(&core->links, hash_mix(id), has_id, &id);
}

static struct link_timers timers_of(const struct router_core *core, const struct link *link) {
    struct link_timers t = core->options.timers;
    if (link->greeted && link->role == ROLE_CLIENT) {
        t.heartbeat_ms *= CLIENT_HEARTBEAT_FACTOR;
        t.suspect_ms = t.dead_ms = t.dead_ms * CLIENT_DEAD_FACTOR;
    }
    return t;
}

void link_say_hello(struct router_core *core, struct link *link, bool reply_wanted) {
    const struct router_view *self = &core->options.self;
    struct msg m = {.kind = MSG_HELLO};
    struct msg_hello *h = &m.hello;
    h->protocol_min = PROTOCOL_OLDEST;
    h->protocol_max = PROTOCOL_VERSION;
    h->role = ROLE_ROUTER;
    h->incarnation = core->options.incarnation;
    snprintf(h->name, sizeof h->name, "%s", self->name);
    snprintf(h->region, sizeof h->region, "%s", self->region);
    h->pid = self->pid;
    h->heartbeat_ms = core->options.timers.heartbeat_ms;
    snprintf(h->http, sizeof h->http, "%s", self->http);
    snprintf(h->zmq, sizeof h->zmq, "%s", self->zmq);
    h->reply_wanted = reply_wanted;
    core_say(core, link->id, &m);
}

struct link *link_open(struct router_core *core, link_id id, bool dialled, ms_t now) {
    struct link *link = xcalloc(1, sizeof *link);
    link->id = id;
    link->dialled = dialled;
    link->due.kind = DUE_LINK;
    link->status_full_at = now;
    link_health_init(&link->health, now);
    list_init(&link->sessions);
    list_append(&core->link_list, &link->node);
    table_add(&core->links, hash_mix(id), link);
    link_say_hello(core, link, true);
    due_set(&core->due, &link->due, now + core->options.timers.heartbeat_ms);
    return link;
}

static void remember_dead(struct router_core *core, link_id id) {
    if (core->n_dead == core->dead_capacity) {
        core->dead_capacity = core->dead_capacity ? core->dead_capacity * 2 : 16;
        core->dead = xrealloc(core->dead, core->dead_capacity * sizeof *core->dead);
    }
    core->dead[core->n_dead++] = id;
}

static void park_sessions(struct router_core *core, struct link *link, ms_t now) {
    while (!list_empty(&link->sessions)) {
        session_park(core, LIST_ENTRY(link->sessions.next, struct session, requester_node), now);
    }
}

void link_drop(struct router_core *core, struct link *link, bool dead, ms_t now) {
    table_remove(&core->links, hash_mix(link->id), link); // first: nothing is sent there any more
    list_remove(&link->node);
    due_set(&core->due, &link->due, MS_NEVER);
    if (link->candidate) candidate_die(core, link->candidate, now);
    park_sessions(core, link, now);
    if (dead) remember_dead(core, link->id);
    free(link);
}

void link_heard(struct router_core *core, struct link *link, ms_t now) {
    link_health_heard(&link->health, now);
    if (!link->suspect) return;
    MARK(suspect_recovers);
    link->suspect = false;
    if (link->candidate) {
        link->candidate->suspect = false;
        candidate_refresh(core, link->candidate, now);
    }
}

static bool compatible(const struct msg_hello *m) {
    return m->protocol_min <= PROTOCOL_VERSION && m->protocol_max >= PROTOCOL_OLDEST && m->protocol_min <= m->protocol_max;
}

struct identity {
    enum candidate_kind kind;
    const char *name;
};

static bool is_called(const void *entry, const void *key) {
    const struct candidate *c = entry;
    const struct identity *id = key;
    return c->kind == id->kind && strcmp(c->name, id->name) == 0;
}

static uint64_t identity_hash(const struct identity *id) { return hash_bytes(id->name, strlen(id->name), id->kind); }

// A replica's come and go while it lives.
static void candidate_members(struct candidate *c, const struct msg_hello *m) {
    free(c->members);
    c->members = NULL;
    c->n_members = m->n_members < MEMBERS_MAX ? m->n_members : MEMBERS_MAX;
    if (c->n_members == 0) return;
    c->members = xcalloc(c->n_members, sizeof *c->members);
    memcpy(c->members, m->members, c->n_members * sizeof *c->members);
}

static struct candidate *candidate_create(struct router_core *core, struct link *link, enum candidate_kind kind,
                                          const struct msg_hello *m) {
    struct candidate *c = xcalloc(1, sizeof *c);
    c->kind = kind;
    c->incarnation = m->incarnation;
    snprintf(c->name, sizeof c->name, "%s", m->name);
    snprintf(c->region, sizeof c->region, "%s", m->region);
    snprintf(c->zone, sizeof c->zone, "%s", m->zone);
    snprintf(c->router.name, sizeof c->router.name, "%s", m->name);
    snprintf(c->router.region, sizeof c->router.region, "%s", m->region);
    snprintf(c->router.http, sizeof c->router.http, "%s", m->http);
    snprintf(c->router.zmq, sizeof c->router.zmq, "%s", m->zmq);
    c->router.pid = m->pid;
    c->state = LIFECYCLE_STARTING; // until its first status
    c->deadline_at = MS_NEVER;
    c->link = link;
    link->candidate = c;
    list_append(&core->candidates, &c->node);
    c->hash = identity_hash(&(struct identity){kind, c->name});
    table_add(&core->names, c->hash, c);
    return c;
}

// The same process, which counts from the start again: over a new connection, or because it had given this one up. What was
// asked of it is asked again from where it stands.
static void resume_sessions(struct router_core *core, struct candidate *c, ms_t now) {
    uint32_t n = 0, room = 0;
    c->status_seq = 0;
    c->generates_sent = 0;
    for (uint32_t i = 0; i < c->n_offers; i++) room += c->offers[i]->own;
    struct sync_entry *entries = xcalloc(room ? room : 1, sizeof *entries);
    for (uint32_t i = 0; i < c->n_offers; i++) {
        LIST_FOREACH(node, &c->offers[i]->placed) {
            struct session *s = LIST_ENTRY(node, struct session, placed_node);
            s->rx.link = c->link->id;
            s->generate_index = 0;
            if (s->answered) {
                entries[n++] = (struct sync_entry){s->key, s->attempt, record_log_count(s->log)};
            } else { // the Generate may not have come: it is sent again with the next tick
                MARK(generate_after_reconnect);
                s->watch_at = now;
                session_arm(core, s);
            }
        }
    }
    struct msg m = {.kind = MSG_SYNC, .sync = {.n_entries = n, .entries = entries}};
    if (n) core_say(core, c->link->id, &m);
    free(entries);
}

// Returns false when the Hello is an old one that came late, over a connection that has been superseded.
static bool meet_candidate(struct router_core *core, struct link *link, enum candidate_kind kind, const struct msg_hello *m,
                           ms_t now) {
    struct identity id = {kind, m->name};
    struct candidate *c = table_find(&core->names, identity_hash(&id), is_called, &id);
    if (link->candidate && link->candidate != c) candidate_die(core, link->candidate, now); // it has changed its name
    if (c && c->link != link) {
        struct link *old = c->link;
        if (link->id < old->id) {
            RARE_MARK(hello_over_an_old_link);
            return false;
        }
        if (c->incarnation == m->incarnation) {
            MARK(candidate_resumed);
            old->candidate = NULL;
            link->candidate = c;
            c->link = link;
            c->suspect = false;
            resume_sessions(core, c, now);
        } else {
            MARK(candidate_restarted);
            c = NULL;
        }
        link_drop(core, old, true, now);
    } else if (c && kind == CANDIDATE_PEER && m->reply_wanted) { // it doesn't know us, or no longer
        MARK(peer_forgot_the_link);
        resume_sessions(core, c, now);
    }
    if (c == NULL) {
        c = candidate_create(core, link, kind, m);
        if (kind == CANDIDATE_REPLICA) suspicion_acquit(core, m->incarnation);
    }
    candidate_members(c, m);
    if (kind == CANDIDATE_REPLICA && m->info.model[0]) candidate_learn(core, c, &m->info);
    candidate_refresh(core, c, now);
    return true;
}

void link_on_hello(struct router_core *core, struct link *link, const struct msg_hello *m, ms_t now) {
    bool myself = m->incarnation == core->options.incarnation;
    bool named = m->role == ROLE_CLIENT || m->name[0];
    if (m->reply_wanted) link_say_hello(core, link, false);
    if (!compatible(m) || myself || !named || m->incarnation == 0) {
        link->greeted = link->ignored = true;
        core->counters.protocol_errors++;
        return;
    }
    if (link->greeted && (link->incarnation != m->incarnation || link->role != m->role)) { // another process, same link
        if (link->candidate) candidate_die(core, link->candidate, now);
        park_sessions(core, link, now);
        link->generates_seen = 0;
    }
    link->greeted = true;
    link->ignored = false;
    link->role = m->role;
    link->incarnation = m->incarnation;
    snprintf(link->name, sizeof link->name, "%s", m->name);
    snprintf(link->region, sizeof link->region, "%s", m->region);
    bool met = true;
    if (m->role == ROLE_WORKER) met = meet_candidate(core, link, CANDIDATE_REPLICA, m, now);
    if (m->role == ROLE_ROUTER && link->dialled) met = meet_candidate(core, link, CANDIDATE_PEER, m, now);
    if (!met)
        link_drop(core, link, true, now);
    else if (m->role == ROLE_ROUTER && !link->dialled)
        status_say(core, link, now);
}

void link_tick(struct router_core *core, struct link *link, ms_t now) {
    struct link_timers t = timers_of(core, link);
    enum link_state state = link_health_state(&link->health, &t, now);
    if (state == LINK_UP && core_odd(core, ROUTER_ODD_SUSPECT)) state = LINK_SUSPECT;
    if (state == LINK_DEAD) {
        MARK(link_is_dead);
        link_drop(core, link, true, now);
        return;
    }
    if (state == LINK_SUSPECT && !link->suspect) {
        MARK(link_is_suspect);
        link->suspect = true;
        core->counters.suspects++;
        if (link->candidate) {
            link->candidate->suspect = true;
            candidate_refresh(core, link->candidate, now);
        }
    }
    if (now - link->health.said_at >= t.heartbeat_ms || core_odd(core, ROUTER_ODD_HEARTBEAT)) {
        if (link->greeted)
            status_say(core, link, now);
        else
            link_say_hello(core, link, true);
    }
    ms_t next = link_health_next(&link->health, &t, now);
    due_set(&core->due, &link->due, next > now ? next : now + 1);
}
