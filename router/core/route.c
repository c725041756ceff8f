#include "router/core/route.h"

#include "common/base/hash.h"
#include "common/base/mark.h"

// A candidate whose service takes this much longer than the fastest one's is "slow": waiting may be better.
static const double SLOW = 1.25;
// A slot of a faster candidate is expected after an eighth of its service time; and ending 10 % later is not worth waiting.
static const double SLOT_WAIT = 0.125, INDIFFERENCE = 1.1;
static const double TIE = 0.999; // finishes closer than this are equal

bool route_allows(const struct offer *o, const struct route_request *r) {
    const struct candidate *c = o->candidate;
    if (!o->usable) return false;
    bool replica = c->kind == CANDIDATE_REPLICA;
    if (r->replicas_only && !replica) return false;
    if (r->pin[0] && (replica ? strcmp(c->name, r->pin) != 0 : !r->pin_elsewhere)) return false;
    const char *fingerprint = o->status.info.fingerprint; // of a peer with several: empty, it will find the right one
    if (r->fingerprint[0] && strcmp(fingerprint, r->fingerprint) != 0 && (replica || fingerprint[0])) return false;
    for (uint32_t i = 0; i < r->n_excluded; i++) {
        if (r->excluded[i] == c->incarnation) return false;
    }
    return true;
}

static bool full(const struct offer *o, const struct route_request *r) {
    const struct candidate *c = o->candidate;
    return offer_load(o) >= offer_limit(o) || (r->apart && c->kind == CANDIDATE_REPLICA && c->unproven > 0);
}

static double service_s(const struct offer *o, const struct route_request *r) {
    return r->prompt / offer_prefill_rate(o) + (double)r->decode * offer_slots(o) / offer_decode_rate(o);
}

static double prompts_s(const struct offer *o) {
    return (double)(o->own_prompt + o->foreign_prompt) / offer_prefill_rate(o);
}

static double drain_s(const struct offer *o) {
    return prompts_s(o) + (double)(o->own_decode + o->foreign_decode) / offer_decode_rate(o);
}

// When it would really end there if placed now: with a slot free, decoding begins right behind the prompts.
static double end_s(const struct offer *o, const struct route_request *r) {
    return (offer_load(o) < offer_slots(o) ? prompts_s(o) : drain_s(o)) + service_s(o, r);
}

struct survey {
    uint32_t allowed, free, ties;
    double fastest_s; // service on the fastest allowed offer
    struct offer *best;
    double best_finish_s;
};

static void consider(struct survey *v, struct offer *o, double finish_s, uint64_t random) {
    if (v->best == NULL || finish_s < v->best_finish_s * TIE) {
        v->best = o, v->best_finish_s = finish_s, v->ties = 1;
        return;
    }
    if (finish_s * TIE > v->best_finish_s) return;
    v->ties++;
    if (hash_mix(random + v->ties) % v->ties == 0) v->best = o;
}

// store: that it must have; "": any.
static struct survey look_around(const struct pool *pool, const struct route_request *r, const char *store,
                                 uint64_t random) {
    struct survey v = {.fastest_s = 1e18};
    uint32_t start = pool->n_offers ? (uint32_t)(random % pool->n_offers) : 0;
    for (uint32_t i = 0; i < pool->n_offers && v.free < ROUTE_LOOK_MAX; i++) {
        uint32_t at = start + i < pool->n_offers ? start + i : start + i - pool->n_offers;
        struct offer *o = pool->offers[at];
        if (!route_allows(o, r) || (store[0] && strcmp(o->status.info.store, store) != 0)) continue;
        v.allowed++;
        double service = service_s(o, r);
        if (service < v.fastest_s) v.fastest_s = service;
        if (full(o, r)) continue;
        v.free++;
        consider(&v, o, r->any ? 1 : drain_s(o) + service, random);
    }
    return v;
}

struct route route(struct pool *pool, const struct route_request *r, uint64_t random) {
    if (r->store && r->store[0]) {
        struct survey kin = look_around(pool, r, r->store, random);
        if (kin.best) return (struct route){ROUTE_PLACE, kin.best};
    }
    struct survey v = look_around(pool, r, "", random);
    if (v.allowed == 0) return (struct route){ROUTE_NOWHERE, NULL};
    if (v.best == NULL) {
        MARK(everyone_is_full);
        return (struct route){ROUTE_WAIT, NULL};
    }
    if (service_s(v.best, r) > v.fastest_s * SLOW) {
        double end = end_s(v.best, r), waited = r->ahead_s + v.fastest_s * (1 + SLOT_WAIT);
        bool misses = end > r->budget_s && waited <= r->budget_s;
        if (end > waited * INDIFFERENCE || misses) {
            MARK(waits_for_a_faster_one);
            return (struct route){ROUTE_WAIT_FASTER, NULL};
        }
        MARK(takes_a_slower_one);
    }
    return (struct route){ROUTE_PLACE, v.best};
}
