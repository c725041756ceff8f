// Every invariant that holds between events, counted anew from the sessions and compared with the sums that are kept.
#include "common/base/check.h"
#include "router/core/core.h"

struct sums {
    uint32_t sessions, queued, kept;
    uint64_t queued_tokens, held_bytes;
};

static void check_session(const struct router_core *core, const struct session *s, struct sums *sums) {
    sums->sessions++;
    sums->kept += s->kept;
    CHECK(!s->kept || (s->state == SESSION_ENDED && !s->local && s->requester == NULL));
    sums->held_bytes += s->request.body_len + record_log_bytes(s->log);
    CHECK(session_find(core, &s->key) == s);
    bool waits = s->wait.queue != NULL, placed = s->offer != NULL;
    CHECK(waits == (s->state == SESSION_QUEUED));
    CHECK(placed == (s->state == SESSION_PLACED || s->state == SESSION_RUNNING));
    CHECK((s->hunt != NULL) == (s->state == SESSION_ASKING));
    CHECK(placed == (s->rx.link != 0));
    if (waits) sums->queued++, sums->queued_tokens += s->wait.prompt;
    if (placed) CHECK(s->offer->candidate->link != NULL && s->offer->pool->deployment == s->deployment);
    if (placed) CHECK(s->rx.link == s->offer->candidate->link->id && attempt_equal(&s->rx.attempt, &s->attempt));
    CHECK(!s->local || (s->requester == NULL && s->tx.link == 0));
    CHECK(s->requester == NULL ? s->tx.link == 0 : s->tx.link == s->requester->id);
    CHECK(!suspicion_convicts(s) || s->state == SESSION_ENDED || s->wait.queue == &core->adjourned);
    CHECK(!s->suspicion.unproven || placed);
    CHECK(s->state != SESSION_ENDED || !s->failed || s->local);
    if (s->state != SESSION_ENDED || !s->local) CHECK(s->due.place != 0 || s->local || s->state == SESSION_QUEUED);
}

static void check_offer(const struct offer *o, uint32_t *unproven) {
    uint32_t own = 0;
    uint64_t prompt = 0, decode = 0;
    LIST_FOREACH(node, &o->placed) {
        const struct session *s = LIST_ENTRY(node, struct session, placed_node);
        CHECK(s->offer == o);
        own++;
        prompt += s->load_prompt;
        decode += s->load_decode;
        *unproven += s->suspicion.unproven;
    }
    CHECK(own == o->own && prompt == o->own_prompt && decode == o->own_decode);
}

static void check_queue(const struct wait_queue *q) {
    uint32_t count = 0;
    uint64_t prompt = 0, decode = 0;
    const struct list *heads[] = {&q->urgent, &q->fresh};
    for (uint32_t i = 0; i < ARRAY_LEN(heads); i++) {
        LIST_FOREACH(node, (struct list *)heads[i]) {
            const struct wait_entry *e = LIST_ENTRY(node, struct wait_entry, node);
            CHECK(e->queue == q && e->urgent == (i == 0));
            count++, prompt += e->prompt, decode += e->decode;
        }
    }
    CHECK(count == q->count && prompt == q->prompt && decode == q->decode);
}

static void check_pool(const struct pool *p) {
    uint32_t usable = 0;
    uint64_t prompt = 0, decode = 0;
    for (uint32_t i = 0; i < p->n_offers; i++) {
        const struct offer *o = p->offers[i];
        CHECK(o->pool == p);
        usable += o->usable;
        prompt += o->own_prompt, decode += o->own_decode;
    }
    CHECK(usable == p->usable && prompt == p->own_prompt && decode == p->own_decode);
    CHECK(!p->dirty);
    CHECK(p->usable > 0 || p->queue.count == 0); // nobody waits for a region that can't serve
    check_queue(&p->queue);
}

void router_core_check(const struct router_core *core) {
    struct sums sums = {0};
    LIST_FOREACH(node, &core->session_list) check_session(core, LIST_ENTRY(node, struct session, node), &sums);
    CHECK(sums.sessions == core->sessions.count);
    CHECK(sums.kept == core->n_kept);
    CHECK(sums.queued == core->queued && sums.queued_tokens == core->queued_tokens);
    CHECK(sums.held_bytes == core->held_bytes);
    const struct router_counters *k = &core->counters;
    CHECK(k->requests == k->accepted + k->refused);
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        uint32_t unproven = 0;
        CHECK(c->link != NULL && c->link->candidate == c);
        for (uint32_t i = 0; i < c->n_offers; i++) check_offer(c->offers[i], &unproven);
        CHECK(unproven == c->unproven);
    }
    for (uint32_t i = 0; i < core->n_deployments; i++) {
        const struct deployment *d = core->deployments[i];
        for (uint32_t p = 0; p < d->n_pools; p++) check_pool(d->pools[p]);
        check_queue(&d->homeless);
    }
    check_queue(&core->adjourned);
    uint32_t remembered = 0;
    LIST_FOREACH(node, &core->last_attempts.oldest_first) remembered++;
    CHECK(remembered == core->last_attempts.by_key.count);
    CHECK(core->dirty == NULL && !core->woken);
}
