// The inside of a router_core: state shared by its files, and the few services that all of them use. Nothing outside this
// folder includes it. Layers, from below: due_heap, shares, output_length, wait_queue → candidates → route,
// region, admission (pure decisions) → models, links, session (state changes) → router_core (events).
#pragma once
#include "common/base/table.h"
#include "router/core/admission.h"
#include "router/core/last_attempt.h"
#include "router/core/link.h"
#include "router/core/region.h"
#include "router/core/session.h"

enum { DEADLINE_NONE_S = 1000000000 };

struct router_core {
    struct router_core_options options;
    struct sink outside; // the shell's
    struct sink wire;    // ours: notes that a link was spoken to, then `outside`
    struct session_output output;
    ms_t now, started_at; // of the event being handled

    struct table links, sessions, names; // names: candidates by kind and name
    struct list link_list, session_list, candidates;
    struct due_heap due;
    struct last_attempts last_attempts;
    struct victims victims;
    struct wait_queue adjourned; // two workers died of them, it seems: they wait for a victim to turn up again
    uint32_t n_deployments;
    struct deployment *deployments[CORE_DEPLOYMENTS_MAX]; // owned
    struct pool *dirty;                                   // pools to dispatch at the end of the event
    bool woken;                                           // some deployment has woken

    uint32_t n_kept; // those in `kept`: they take no place of a new one's
    uint32_t n_hunts;
    struct list kept; // sessions that have ended, for clients that may ask again; the oldest first
    uint64_t random_count, seed_count;
    bool leaving, draining;
    uint32_t n_dead, dead_capacity;
    link_id *dead; // owned; for router_core_next_dead_link()

    // now
    uint32_t queued;
    uint64_t queued_tokens;
    uint64_t held_bytes;             // of requests and logs
    struct router_counters counters; // the totals; the present values are filled in when asked for

    // what router_core_cluster() last handed out, owned
    struct router_view *view_routers;
    struct replica_view *view_replicas;
};

// Does this point fire?
static inline bool core_odd(struct router_core *core, enum router_odd point) {
    return buggify(&core->options.buggify, point, core->now);
}
// Begins an event. If this process was away (stopped, starved) for longer than ticks may take, silence until now is ours,
// not the others': what they said waits to be read.
void core_begin(struct router_core *core, ms_t now);
void core_say(struct router_core *core, link_id link, const struct msg *m);
void core_emit(struct router_core *core, struct session *s, enum session_event event);
uint64_t core_random(struct router_core *core);
// The pool has a free place, or somebody new waits in it: looked at when the event is over.
void core_dirty(struct router_core *core, struct pool *pool);
// Places whatever can be placed. Called at the end of each event.
void core_settle(struct router_core *core, ms_t now);

// --- models.c: which deployments there are
// NULL: none of that name. An alias counts as a name of the model.
struct deployment *models_find(const struct router_core *core, const char *model, const char *deployment);
// Found or made; NULL when there are too many.
struct deployment *models_add(struct router_core *core, const char *model, const char *deployment);
struct pool *models_pool(struct router_core *core, struct deployment *d, const char *region); // NULL: too many regions
// The deployment that should serve a request for this model (by share, among those that can), or the named one. NULL and *e:
// there is no such model here.
struct deployment *models_choose(struct router_core *core, const struct msg_generate *g, double work, struct error *e);
// A deployment of this model of which some candidate has this fingerprint, or NULL.
struct deployment *models_of_fingerprint(const struct router_core *core, const char *model, const char *fingerprint);
void models_learn(struct deployment *d, const struct deployment_info *info);
void models_configure(struct router_core *core);

// --- intake.c: requests that come in
struct session *intake(struct router_core *core, const struct msg_generate *g, bool relayed, struct msg_rejected *rejected,
                       ms_t now);
// Is there anybody who may have the pinned replica? *elsewhere: not among ours. false: *e says that nobody has it.
bool intake_pin(const struct router_core *core, const struct deployment *d, const struct msg_generate *g,
                uint32_t n_excluded, const incarnation_t *excluded, bool *elsewhere, struct error *e);
void intake_from_link(struct router_core *core, struct link *link, const struct msg_generate *g, ms_t now);

// --- attach.c: a peer's Attach, hops = 1
void attach_from_link(struct router_core *core, struct link *link, const struct msg_attach *m, ms_t now);

// --- pairs of a session and its decisions
struct route_request session_route_request(const struct session *s, ms_t now);
