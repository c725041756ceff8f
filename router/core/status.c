// What this router says of itself: heartbeats to everyone, summaries of its own replicas to the routers that dialled it.
#include "router/core/core.h"

#include <stdio.h>

static void add_replica(struct deployment_status *sum, const struct offer *o) {
    const struct deployment_status *s = &o->status;
    sum->replicas_total++;
    if (!o->usable) return;
    bool first = sum->replicas_ready++ == 0;
    if (first)
        snprintf(sum->info.fingerprint, sizeof sum->info.fingerprint, "%s", s->info.fingerprint);
    else if (strcmp(sum->info.fingerprint, s->info.fingerprint) != 0)
        sum->info.fingerprint[0] = '\0'; // several
    uint32_t load = offer_load(o), slots = offer_slots(o);
    sum->info.max_seqs += slots;
    sum->running += load < slots ? load : slots;
    sum->queued += load < slots ? 0 : load - slots;
    sum->queued_tokens += o->own_prompt + o->foreign_prompt;
    sum->decode_left += o->own_decode + o->foreign_decode;
    sum->blocks_free += s->blocks_free;
    sum->blocks_total += s->blocks_total;
    sum->prefill_rate += (float)offer_prefill_rate(o);
    sum->decode_rate += (float)offer_decode_rate(o);
    sum->decoded_total += s->decoded_total;
    sum->prefilled_total += s->prefilled_total;
}

// All replicas of one deployment in this router's region as one. false: there are none.
static bool summarize(const struct deployment *d, const char *region, struct deployment_status *sum) {
    *sum = (struct deployment_status){.groups = STATUS_ALL};
    snprintf(sum->info.model, sizeof sum->info.model, "%s", d->model);
    snprintf(sum->info.deployment, sizeof sum->info.deployment, "%s", d->name);
    sum->info.n_aliases = d->n_aliases;
    memcpy(sum->info.aliases, d->aliases, sizeof d->aliases);
    sum->info.max_context = d->max_context;
    sum->info.bytes_per_token = d->bytes_per_token;
    const struct pool *p = deployment_pool(d, region);
    if (p == NULL) return false;
    for (uint32_t k = 0; k < p->n_offers; k++) {
        if (p->offers[k]->candidate->kind == CANDIDATE_REPLICA) add_replica(sum, p->offers[k]);
    }
    if (sum->prefill_rate > RATE_MAX) sum->prefill_rate = RATE_MAX;
    if (sum->decode_rate > RATE_MAX) sum->decode_rate = RATE_MAX;
    sum->queued += p->queue.count;
    sum->queued_tokens += p->queue.prompt;
    sum->decode_left += p->queue.decode;
    return sum->replicas_total > 0;
}

void status_say(struct router_core *core, struct link *link, ms_t now) {
    struct deployment_status sums[CORE_DEPLOYMENTS_MAX];
    struct msg m = {.kind = MSG_STATUS, .status = {.seq = ++link->status_seq}};
    if (link->role == ROLE_ROUTER && !link->dialled) {
        m.status.has_life = true;
        m.status.state = core->leaving ? LIFECYCLE_DRAINING : LIFECYCLE_READY;
        m.status.progress = 1;
        m.status.full = link->status_seq == 1 || now - link->status_full_at >= core->options.status_full_ms;
        if (m.status.full) link->status_full_at = now;
        for (uint32_t i = 0; i < core->n_deployments; i++) {
            struct deployment_status *sum = &sums[m.status.n_deployments];
            if (!summarize(core->deployments[i], core->options.self.region, sum)) continue;
            sum->generates_seen = link->generates_seen;
            m.status.n_deployments++;
        }
        m.status.deployments = sums;
    }
    core_say(core, link->id, &m);
}
