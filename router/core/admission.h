// Whether a request may come in: legitimate requests wait in a bounded queue; only what cannot make its deadline, or would
// exceed a named limit, is refused, at once and with a hint when to come again.
//
// The estimate, in seconds: everything placed or queued in the pool ÷ the summed rates of its usable candidates (nothing if
// a slot is free and nobody waits), plus the service time on a usual candidate; times `slowness`, the learned ratio of real
// to estimated times; plus a margin, because estimates err both ways and an accepted request should keep its promise.
#pragma once
#include "router/core/candidates.h"

enum { RETRY_AFTER_MIN_MS = 250, RETRY_AFTER_MAX_MS = 30000, SEEN_LATELY_MS = 10000 };

struct admission_limits {
    uint32_t sessions_max, queue_max;
    uint64_t queue_tokens_max, held_bytes_max;
    uint32_t sessions, queued; // now
    uint64_t queued_tokens, held_bytes;
};

struct admission_request {
    uint32_t prompt, decode; // tokens expected
    double budget_s;         // until its deadline
    bool unconditional;      // pinned: no estimate
};

// Seconds from now until it would have ended, without slowness and margin.
double admission_foresee_s(struct pool *pool, uint32_t prompt, uint32_t decode);
// A session that was foreseen to take foreseen_s took took_s.
void admission_learn(struct pool *pool, double foreseen_s, double took_s);
// ERR_NONE: come in. ERR_OVERLOADED otherwise, with *retry_after_ms. pool NULL: nobody can serve it now, only the limits
// count.
err_id admission_check(const struct admission_limits *limits, struct pool *pool, const struct admission_request *r,
                       uint32_t *retry_after_ms, struct error *e);
// Is it worth waiting for a candidate of this deployment, of which none is usable? Yes if one is starting or loading, or was
// usable in the last SEEN_LATELY_MS; a model whose replicas have all been gone for longer is refused.
bool admission_hopeful(const struct deployment *d, ms_t now);
