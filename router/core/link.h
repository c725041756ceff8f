// Connections: who is behind them, whether they live, what has to be said to them regularly. A link says Hello first and is
// asked for one until it comes; a worker, or a peer that we dialled, becomes a candidate; others are requesters.
#pragma once
#include "router/core/candidates.h"
#include "router/core/due_heap.h"
#include "router/core/router_core.h"

// Clients are heard of and spoken to less often than routers and workers.
enum { CLIENT_HEARTBEAT_FACTOR = 2, CLIENT_DEAD_FACTOR = 30 };

struct link {
    struct list node;
    struct due due;
    link_id id;
    bool dialled;
    bool greeted; // Hello has come
    bool ignored; // an incompatible protocol
    enum role role;
    incarnation_t incarnation;
    char name[NAME_SIZE], region[NAME_SIZE];
    bool has_tenant; // its key proves it
    char tenant[NAME_SIZE];
    struct link_health health;
    bool suspect;
    struct candidate *candidate; // or NULL
    struct list sessions;        // whose requester is behind it
    uint64_t generates_seen;     // from it
    uint64_t status_seq;         // to it
    ms_t status_full_at;
};

struct link *link_by_id(const struct router_core *core, link_id id);
struct link *link_open(struct router_core *core, link_id id, bool dialled, ms_t now);
// Gone: its candidate is dead, its sessions are parked. dead: the shell is told to close it.
void link_drop(struct router_core *core, struct link *link, bool dead, ms_t now);
void link_heard(struct router_core *core, struct link *link, ms_t now);
void link_on_hello(struct router_core *core, struct link *link, const struct msg_hello *m, ms_t now);
void link_say_hello(struct router_core *core, struct link *link, bool reply_wanted);
// Heartbeat, suspicion, death; sets its due time again.
void link_tick(struct router_core *core, struct link *link, ms_t now);

// --- its candidate
void candidate_on_status(struct router_core *core, struct candidate *c, const struct msg_status *m, ms_t now);
// It serves this deployment: Hello and statuses say so.
void candidate_learn(struct router_core *core, struct candidate *c, const struct deployment_info *info);
// Recounts what of it can be used, after any change.
void candidate_refresh(struct router_core *core, struct candidate *c, ms_t now);
// The process behind it is gone (or the way to it): its sessions are placed again. c is freed.
void candidate_die(struct router_core *core, struct candidate *c, ms_t now);

// --- status.c: what this router says of itself and its replicas
void status_say(struct router_core *core, struct link *link, ms_t now);
