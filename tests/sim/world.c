#include "tests/sim/world.h"

#include "common/base/check.h"
#include "tests/sim/client_node.h"
#include "tests/sim/faults.h"
#include "tests/sim/rest.h"
#include "tests/sim/router_node.h"
#include "tests/sim/worker_node.h"
#include "tests/sim/workload.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { START_SPREAD_US = 1000000 };

void world_fail(struct world *w, const char *format, ...) {
    if (w->failed) return;
    w->failed = true;
    va_list ap;
    va_start(ap, format);
    vsnprintf(w->failure, sizeof w->failure, format, ap);
    va_end(ap);
}

void world_disaster(struct world *w) { w->disasters[w->n_disasters++ % DISASTERS_MAX] = w->now; }

uint32_t world_disasters_since(const struct world *w, us_t since) {
    uint32_t n = 0, known = w->n_disasters < DISASTERS_MAX ? w->n_disasters : DISASTERS_MAX;
    for (uint32_t i = 0; i < known; i++) n += w->disasters[i] >= since;
    return n;
}

static void dial_everybody(struct world *w, struct node *n,
                           bool (*wanted)(const struct world *w, const struct node *n, uint32_t router)) {
    n->diallers = xcalloc(w->n_routers, sizeof *n->diallers);
    for (uint32_t i = 0; i < w->n_routers; i++) {
        if (wanted(w, n, i)) n->diallers[n->n_diallers++] = (struct dialler){.from = n, .to = &w->routers[i]->node};
    }
}

static bool worker_wants(const struct world *w, const struct node *n, uint32_t router) {
    return router_serves(w, router, n->region);
}
static bool peer_wants(const struct world *w, const struct node *n, uint32_t router) {
    return w->routers[router]->node.region != n->region;
}
static bool client_wants(const struct world *w, const struct node *n, uint32_t router) { return true; }

static void start_node(struct world *w, void *ctx, uint64_t arg) {
    struct node *n = ctx;
    if (!n->alive && n->lives == 0 && !n->broken_for_good) node_start(n);
}

struct world *world_create(const struct sim_options *options, uint64_t seed) {
    struct world *w = xcalloc(1, sizeof *w);
    w->options = options;
    w->seed = seed;
    params_draw(&w->p, options, seed);
    w->net_rng = rng_make(seed, 2);
    w->fault_rng = rng_make(seed, 3);
    w->load_rng = rng_make(seed, 4);
    w->shell_rng = rng_make(seed, 5);
    w->n_routers = options->routers;
    w->n_workers = options->workers;
    w->n_clients = options->clients;
    network_init(&w->net);
    trace_init(&w->trace, options->trace);
    w->oracle = oracle_create(w);
    w->stores = store_set_create();
    for (uint32_t i = 0; i < w->n_routers; i++) w->routers[i] = router_node_create(w, i, i % options->regions);
    for (uint32_t i = 0; i < w->n_workers; i++) w->workers[i] = worker_node_create(w, i, i % options->regions);
    for (uint32_t i = 0; i < w->n_clients; i++) w->clients[i] = client_node_create(w, i, i % options->regions);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        struct node *n = w->nodes[i];
        dial_everybody(w, n, n->kind == NODE_WORKER ? worker_wants : n->kind == NODE_ROUTER ? peer_wants : client_wants);
        world_at(w, rng_below(&w->shell_rng, START_SPREAD_US), start_node, n, 0);
    }
    return w;
}

void world_destroy(struct world *w) {
    struct event e;
    for (uint32_t i = 0; i < w->n_nodes; i++) node_kill(w->nodes[i]);
    while (event_queue_pop(&w->queue, &e)) {
        if (event_owns(&e)) e.fn(w, e.ctx, e.arg);
    }
    for (uint32_t i = 0; i < w->n_routers; i++) router_node_destroy(w->routers[i]);
    for (uint32_t i = 0; i < w->n_workers; i++) worker_node_destroy(w->workers[i]);
    for (uint32_t i = 0; i < w->n_clients; i++) client_node_destroy(w->clients[i]);
    network_fini(&w->net);
    oracle_destroy(w->oracle);
    store_set_destroy(w->stores);
    trace_free(&w->trace);
    event_queue_free(&w->queue);
    for (uint32_t i = 0; i < w->n_requests; i++) {
        free(w->requests[i]->http);
        free(w->requests[i]);
    }
    free(w->requests);
    free(w);
}

static void liveness(struct world *w, void *ctx, uint64_t arg) {
    trace_note(&w->trace, w->now, NULL, "--- the faults end");
    w->phase = PHASE_LIVENESS;
    faults_settle(w);
    workload_settle(w);
}

void world_run(struct world *w) {
    workload_start(w);
    faults_start(w);
    world_at(w, w->p.safety_end, liveness, NULL, 0);
    rest_begin(w);
    struct event e;
    while (!w->failed && w->phase != PHASE_REST && event_queue_pop(&w->queue, &e)) {
        w->now = e.at;
        w->events++;
        e.fn(w, e.ctx, e.arg);
    }
    world_hash(w, w->events);
}
