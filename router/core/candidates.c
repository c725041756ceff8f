#include "router/core/candidates.h"

#include "common/base/check.h"

#include <stdlib.h>

double offer_prefill_rate(const struct offer *o) {
    return o->status.prefill_rate > 0 ? (double)o->status.prefill_rate : PREFILL_RATE_GUESS;
}

double offer_decode_rate(const struct offer *o) {
    return o->status.decode_rate > 0 ? (double)o->status.decode_rate : DECODE_RATE_GUESS;
}

struct offer *offer_create(struct candidate *c, struct pool *pool) {
    CHECK(c->n_offers < ARRAY_LEN(c->offers));
    struct offer *o = xcalloc(1, sizeof *o);
    o->candidate = c;
    o->pool = pool;
    list_init(&o->placed);
    c->offers[c->n_offers++] = o;
    if (pool->n_offers == pool->offers_capacity) {
        pool->offers_capacity = pool->offers_capacity ? pool->offers_capacity * 2 : 8;
        pool->offers = xrealloc(pool->offers, pool->offers_capacity * sizeof(struct offer *));
    }
    pool->offers[pool->n_offers++] = o;
    pool->stale = true;
    return o;
}

void offer_destroy(struct offer *o) {
    CHECK(o->own == 0 && list_empty(&o->placed));
    struct pool *pool = o->pool;
    uint32_t i = 0;
    while (pool->offers[i] != o) i++;
    pool->offers[i] = pool->offers[--pool->n_offers];
    pool->usable -= o->usable;
    pool->stale = true;
    free(o);
}

struct offer *candidate_offer(const struct candidate *c, const struct deployment *d) {
    for (uint32_t i = 0; i < c->n_offers; i++) {
        if (c->offers[i]->pool->deployment == d) return c->offers[i];
    }
    return NULL;
}

static void merge_load(struct offer *o, const struct deployment_status *d) {
    struct deployment_status *s = &o->status;
    s->running = d->running;
    s->queued = d->queued;
    s->queued_tokens = d->queued_tokens;
    s->decode_left = d->decode_left;
    s->blocks_free = d->blocks_free;
    s->blocks_total = d->blocks_total;
    s->replicas_ready = d->replicas_ready;
    s->replicas_total = d->replicas_total;
    s->generates_seen = d->generates_seen;
}

// A part of what a status says; no sensible one says more than this.
static uint64_t tokens(double part, uint64_t all) {
    double n = part * (double)all;
    return n < 1e15 ? (uint64_t)n : (uint64_t)1e15;
}

void offer_merge(struct offer *o, const struct deployment_status *d, uint32_t unseen) {
    struct deployment_status *s = &o->status;
    s->groups |= d->groups;
    if (d->groups & STATUS_INFO) s->info = d->info;
    if (d->groups & STATUS_RATES) s->prefill_rate = d->prefill_rate, s->decode_rate = d->decode_rate;
    if (d->groups & STATUS_COUNTERS) s->decoded_total = d->decoded_total, s->prefilled_total = d->prefilled_total;
    if (d->groups & STATUS_LOAD) {
        merge_load(o, d);
        // Tokens by the head: the sender's expectations and ours of the same request differ, so differences would say
        // nothing.
        uint64_t all = (uint64_t)d->running + d->queued, known = o->own - unseen, foreign = all > known ? all - known : 0;
        double part = foreign ? (double)foreign / (double)all : 0;
        o->foreign = foreign < UINT32_MAX / 2 ? (uint32_t)foreign : UINT32_MAX / 2;
        o->foreign_prompt = tokens(part, d->queued_tokens);
        o->foreign_decode = tokens(part, d->decode_left);
    }
    o->pool->stale = true;
}

bool offer_refresh(struct offer *o, ms_t now) {
    const struct candidate *c = o->candidate;
    bool replicas = c->kind == CANDIDATE_REPLICA || o->status.replicas_ready > 0;
    bool usable = c->link != NULL && !c->suspect && c->state == LIFECYCLE_READY && replicas;
    bool woke = usable && !o->usable;
    if (usable != o->usable) {
        o->pool->usable += usable ? 1u : -1u;
        o->pool->stale = true;
    }
    if (usable || o->usable) o->pool->deployment->ready_at = now;
    o->usable = usable;
    return woke;
}

struct pool *deployment_pool(const struct deployment *d, const char *region) {
    for (uint32_t i = 0; i < d->n_pools; i++) {
        if (strcmp(d->pools[i]->region, region) == 0) return d->pools[i];
    }
    return NULL;
}

static double larger(double a, double b) { return a > b ? a : b; }

void pool_sum(struct pool *p) {
    if (!p->stale) return;
    double prefill = 0, decode = 0, foreign_prompt = 0, foreign_decode = 0; // of replicas
    double peer_prefill = 0, peer_decode = 0, peer_foreign_prompt = 0, peer_foreign_decode = 0;
    p->prefill_best = p->slot_token_s = 0;
    for (uint32_t i = 0; i < p->n_offers; i++) {
        const struct offer *o = p->offers[i];
        if (!o->usable) continue;
        double slot_token_s = offer_slots(o) / offer_decode_rate(o);
        if (p->prefill_best == 0 || slot_token_s < p->slot_token_s) {
            p->prefill_best = offer_prefill_rate(o);
            p->slot_token_s = slot_token_s;
        }
        if (o->candidate->kind == CANDIDATE_REPLICA) {
            prefill += offer_prefill_rate(o);
            decode += offer_decode_rate(o);
            foreign_prompt += (double)o->foreign_prompt;
            foreign_decode += (double)o->foreign_decode;
        } else { // the peers of one region speak of the same replicas
            peer_prefill = larger(peer_prefill, offer_prefill_rate(o));
            peer_decode = larger(peer_decode, offer_decode_rate(o));
            peer_foreign_prompt = larger(peer_foreign_prompt, (double)o->foreign_prompt);
            peer_foreign_decode = larger(peer_foreign_decode, (double)o->foreign_decode);
        }
    }
    p->prefill_rate = prefill + peer_prefill;
    p->decode_rate = decode + peer_decode;
    p->foreign_prompt = foreign_prompt + peer_foreign_prompt;
    p->foreign_decode = foreign_decode + peer_foreign_decode;
    p->stale = false;
}

double pool_wait_s(struct pool *p) {
    pool_sum(p);
    if (p->usable == 0) return 1e9;
    double prompt = p->foreign_prompt + (double)(p->own_prompt + p->queue.prompt);
    double decode = p->foreign_decode + (double)(p->own_decode + p->queue.decode);
    return prompt / p->prefill_rate + decode / p->decode_rate;
}

static void pool_destroy(struct pool *p) {
    CHECK(p->n_offers == 0 && p->queue.count == 0);
    free(p->offers);
    free(p);
}

void deployment_destroy(struct deployment *d) {
    CHECK(d->homeless.count == 0);
    for (uint32_t i = 0; i < d->n_pools; i++) pool_destroy(d->pools[i]);
    free(d);
}
