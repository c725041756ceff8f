#include "tests/sim/http_client.h"

#include "common/base/mark.h"
#include "tests/sim/router_node.h"
#include "tests/sim/world.h"

enum { BACK_MAX_US = 2000000, NOBODY_US = 500000 };

// A living router, of the client's own region if there is one.
static struct router_node *any_router(struct world *w, uint32_t region) {
    struct router_node *best = NULL;
    uint32_t start = rng_below(&w->load_rng, w->n_routers);
    for (uint32_t k = 0; k < w->n_routers; k++) {
        struct router_node *n = w->routers[(start + k) % w->n_routers];
        if (!n->node.alive || n->node.broken_for_good || n->draining) continue;
        if (best == NULL || (best->node.region != region && n->node.region == region)) best = n;
    }
    return best;
}

void http_client_ask(struct world *w, const struct request *r) {
    struct router_node *n = any_router(w, r->region);
    if (n)
        router_node_submit(n, r);
    else
        oracle_gave_up(w->oracle, r, OUTCOME_ROUTER_DIED);
}

static us_t gives_up_at(const struct world *w, const struct request *r) {
    return r->issued_at + (us_t)(r->deadline_ms ? r->deadline_ms : w->p.deadline_default_ms) * 1000;
}

static void come_back(struct world *w, void *ctx, uint64_t number) {
    const struct request *r = w->requests[number];
    struct router_node *n = any_router(w, r->region);
    if (r->cancel_at && w->now >= r->cancel_at) {
        oracle_gave_up(w->oracle, r, OUTCOME_CANCELLED);
    } else if (w->now >= gives_up_at(w, r)) {
        oracle_gave_up(w->oracle, r, OUTCOME_ROUTER_DIED);
    } else if (n == NULL) {
        world_at(w, w->now + NOBODY_US, come_back, NULL, number);
    } else {
        MARK(http_client_comes_back);
        r->http->returns++;
        w->stats.returns++;
        trace_note(&w->trace, w->now, &r->key, "request %u comes back to %s, it was at %s", r->number, n->node.name,
                   r->http->replica);
        router_node_submit(n, r);
    }
}

void http_client_lost(struct world *w, const struct request *r) {
    if (r->http && r->http->told)
        world_at(w, w->now + 1 + rng_below(&w->load_rng, BACK_MAX_US), come_back, NULL, r->number);
    else
        oracle_gave_up(w->oracle, r, OUTCOME_ROUTER_DIED);
}
