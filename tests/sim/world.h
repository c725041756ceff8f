// One run: everything that exists in the simulated cluster, the virtual clock, and what has been counted. Passed to every
// event.
#pragma once
#include "tests/sim/node.h"
#include "tests/sim/oracle.h"
#include "tests/sim/params.h"
#include "tests/sim/request.h"
#include "tests/sim/store.h"
#include "tests/sim/trace.h"

struct stats {
    uint64_t lost, doubled, resets, stalls, pauses, partitions, kills, drains, client_kills;
    uint64_t tokens, attempts, replacements, protocol_errors;
    uint64_t resends, resends_answered;                // that reached workers
    uint64_t measured, measured_done, measured_prompt; // asked; complete; and in about the time that it takes
    uint64_t store_faults, moves, restores, regroups;
    uint64_t returns;   // of HTTP clients
    uint64_t innocents; // refused as poison, but were not
};

enum { DISASTERS_MAX = 64 };
enum phase { PHASE_SAFETY, PHASE_LIVENESS, PHASE_REST };

struct world {
    const struct sim_options *options;
    uint64_t seed;
    struct params p;
    enum phase phase;
    us_t now;
    struct event_queue queue;
    struct network net;
    struct rng net_rng, fault_rng, load_rng, shell_rng;
    struct node *nodes[SIM_ROUTERS_MAX + SIM_WORKERS_MAX + SIM_CLIENTS_MAX]; // owned, as the kinds below
    uint32_t n_nodes, n_routers, n_workers, n_clients;
    struct router_node *routers[SIM_ROUTERS_MAX];
    struct worker_node *workers[SIM_WORKERS_MAX];
    struct client_node *clients[SIM_CLIENTS_MAX];
    struct request **requests; // owned
    uint32_t n_requests, requests_capacity;
    struct oracle *oracle;
    struct store_set *stores; // owned
    struct trace trace;
    struct stats stats;
    us_t disasters[DISASTERS_MAX]; // when something broke that can look like a worker's death: a ring
    uint32_t n_disasters;
    us_t router_died_at; // the last that did
    uint64_t events, hash;
    bool failed;
    char failure[2048];
};

struct world *world_create(const struct sim_options *options, uint64_t seed);
void world_destroy(struct world *w);
// Runs it to its end, or to the first violation: see w->failed.
void world_run(struct world *w);

static inline void world_at(struct world *w, us_t at, event_fn *fn, void *ctx, uint64_t arg) {
    event_queue_push(&w->queue, at, fn, ctx, arg, false);
}
// The event's function frees ctx, whatever is still alive by then.
static inline void world_at_owned(struct world *w, us_t at, event_fn *fn, void *ctx, uint64_t arg) {
    event_queue_push(&w->queue, at, fn, ctx, arg, true);
}
static inline void world_hash(struct world *w, uint64_t value) { w->hash = hash_mix(w->hash ^ value) + w->hash * 31; }
void world_disaster(struct world *w);
uint32_t world_disasters_since(const struct world *w, us_t since); // up to DISASTERS_MAX
// A rule was broken. Only the first counts; the run ends after the present event.
void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
