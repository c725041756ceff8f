#include "router/core/region.h"

#include "common/base/mark.h"

#include <string.h>

// Without constraints every pool with a usable offer will do: no need to walk its offers.
static bool able(const struct pool *p, const struct route_request *r) {
    if (p->usable == 0) return false;
    if (!r->pin[0] && !r->fingerprint[0] && r->n_excluded == 0 && !r->replicas_only) return true;
    for (uint32_t i = 0; i < p->n_offers; i++) {
        if (route_allows(p->offers[i], r)) return true;
    }
    return false;
}

static uint32_t survey(struct deployment *d, const struct route_request *r, bool *ables, struct share **shares) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_pools; i++) {
        ables[i] = able(d->pools[i], r);
        shares[i] = &d->pools[i]->share;
        n += ables[i];
    }
    return n;
}

static int least_wait(struct deployment *d, const bool *ables) {
    int best = -1;
    for (uint32_t i = 0; i < d->n_pools; i++) {
        if (ables[i] && (best < 0 || pool_wait_s(d->pools[i]) < pool_wait_s(d->pools[best]))) best = (int)i;
    }
    return best;
}

// The fallback without weights: this router's own region, else the one with the least wait.
static int unweighted(struct deployment *d, const bool *ables) {
    for (uint32_t i = 0; i < d->n_pools; i++) {
        if (ables[i] && d->pools[i]->own_region) return (int)i;
    }
    return least_wait(d, ables);
}

static bool waits_too_long(struct pool *p) {
    return p->spill_after_ms > 0 && pool_wait_s(p) * p->slowness * 1000 > p->spill_after_ms;
}

static int index_of(const struct deployment *d, const bool *ables, const struct pool *p) {
    for (uint32_t i = 0; i < d->n_pools; i++) {
        if (d->pools[i] == p) return ables[i] ? (int)i : -1;
    }
    return -1;
}

static int weighted(struct deployment *d, const struct region_request *r, const bool *ables, struct share *const *shares) {
    int chosen = r->route->replicas_only ? -1 : share_next(shares, ables, d->n_pools, r->work);
    if (chosen < 0) {
        MARK(no_weighted_region);
        chosen = unweighted(d, ables);
    }
    if (waits_too_long(d->pools[chosen])) {
        int other = least_wait(d, ables);
        if (pool_wait_s(d->pools[other]) < pool_wait_s(d->pools[chosen])) {
            MARK(region_is_too_slow);
            chosen = other;
        }
    }
    return chosen;
}

// Where its checkpoint can be read, at best where it was: nothing is computed again there. -1: nowhere, or it has none.
static int beside_its_checkpoint(const struct deployment *d, const struct region_request *r, const bool *ables) {
    int found = -1;
    const char *store = r->route->store;
    for (uint32_t i = 0; store && store[0] && i < d->n_pools; i++) {
        const struct pool *p = d->pools[i];
        for (uint32_t k = 0; ables[i] && k < p->n_offers; k++) {
            if (strcmp(p->offers[k]->status.info.store, store) != 0 || !route_allows(p->offers[k], r->route)) continue;
            if (found < 0 || p == r->stay) found = (int)i;
        }
    }
    return found;
}

struct pool *region_choose(struct deployment *d, const struct region_request *r) {
    bool ables[REGIONS_MAX];
    struct share *shares[REGIONS_MAX];
    if (survey(d, r->route, ables, shares) == 0) return NULL;
    int chosen = beside_its_checkpoint(d, r, ables);
    if (chosen < 0 && r->stay) chosen = index_of(d, ables, r->stay);
    if (chosen < 0) chosen = weighted(d, r, ables, shares);
    if (r->book) share_book(shares, ables, d->n_pools, (uint32_t)chosen, r->work);
    return d->pools[chosen];
}

struct pool *region_spill(struct deployment *d, struct pool *from, const struct region_request *r) {
    bool ables[REGIONS_MAX];
    struct share *shares[REGIONS_MAX];
    if (survey(d, r->route, ables, shares) == 0 || !waits_too_long(from)) return NULL;
    int other = least_wait(d, ables);
    if (d->pools[other] == from || pool_wait_s(d->pools[other]) > 0.5 * pool_wait_s(from)) return NULL;
    // The work changes hands: the one gives back what it was booked, the other takes it.
    if (r->book) from->share.balance += r->work, d->pools[other]->share.balance -= r->work;
    return d->pools[other];
}
