// The decision for one request in one pool: a candidate, or wait, or nobody here can. Pure: it reads the pool, the request
// and a random number (for ties) and changes nothing but the pool's cached sums.
//
// All costs are seconds. On offer c the request would end after
//   finish(c)  = prompt tokens ahead / prefill_rate + decode tokens ahead / decode_rate + service(c)
//   service(c) = prompt / prefill_rate + decode · slots / decode_rate        (a slot's share of the full batch's rate)
// and the least finish among the offers below their limit wins. A slow candidate is not given what would end sooner by
// waiting for a faster one: see ROUTE_WAIT_FASTER.
#pragma once
#include "router/core/candidates.h"

struct route_request {
    uint32_t prompt, decode; // tokens expected
    double budget_s;         // until its deadline
    double ahead_s;          // seconds of queued work that will be placed before it (0: it is the first)
    const char *pin;         // replica that must serve it; "": any
    bool pin_elsewhere;      // the pin names no replica of ours: peers may have it
    const char *fingerprint; // that it must have; "": any
    const char *store;       // checkpoint store that it had better read; "": it doesn't matter
    uint32_t n_excluded;
    const incarnation_t *excluded;
    bool replicas_only; // relayed: never forwarded again
    bool apart;         // unproven: not onto a replica with another such session
    bool any;           // the best will not do: some free one (ROUTER_ODD_ANY_OFFER)
};

enum route_verdict {
    ROUTE_PLACE,
    ROUTE_WAIT,        // everyone who could is full
    ROUTE_WAIT_FASTER, // only candidates are free on which it would end later than by waiting for a faster one
    ROUTE_NOWHERE,     // no usable candidate of this pool may serve it
};

struct route {
    enum route_verdict verdict;
    struct offer *offer; // ROUTE_PLACE
};

enum { ROUTE_LOOK_MAX = 128 }; // free offers looked at, from a random start, so that a huge pool stays cheap

// May it be served there, load aside?
bool route_allows(const struct offer *o, const struct route_request *r);
struct route route(struct pool *pool, const struct route_request *r, uint64_t random);
