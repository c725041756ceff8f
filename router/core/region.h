// Which region serves a request: the pool of its deployment. Weights are a long-run share of work (shares.h); a region
// without a usable candidate for it is skipped and earns nothing; one whose expected wait exceeds its spill_after is left
// for a better one. Regions of weight 0 serve only when no weighted one can.
#pragma once
#include "router/core/route.h"

struct region_request {
    const struct route_request *route;
    double work;       // see region_work()
    struct pool *stay; // chosen before: kept if it can still serve; NULL: weigh
    bool book;         // charge the choice to the region's share; once per request, and not for relayed ones
};

// Work of a request in tokens decoded: a prompt token costs about an eighth.
static inline double region_work(uint32_t prompt, uint32_t decode) { return 1 + prompt / 8.0 + decode; }

// NULL: no pool of the deployment can serve it now.
struct pool *region_choose(struct deployment *d, const struct region_request *r);
// A pool that a session that waits in `from` should move to, or NULL: spill-over of what waits already.
struct pool *region_spill(struct deployment *d, struct pool *from, const struct region_request *r);
