// Plain structs to frames: who a process is and how it does.
#include "proto/codec_internal.h"

Shoal__DeploymentInfo *enc_info(struct codec_arena *a, const struct deployment_info *info) {
    Shoal__DeploymentInfo *out = enc_alloc(a, sizeof *out);
    shoal__deployment_info__init(out);
    out->model = enc_text(info->model);
    out->deployment = enc_text(info->deployment);
    out->fingerprint = enc_text(info->fingerprint);
    out->n_aliases = info->n_aliases;
    out->aliases = enc_alloc(a, info->n_aliases * sizeof *out->aliases);
    for (uint32_t i = 0; i < info->n_aliases; i++) out->aliases[i] = enc_text(info->aliases[i]);
    out->max_context = info->max_context;
    out->max_seqs = info->max_seqs;
    out->bytes_per_token = info->bytes_per_token;
    out->store = enc_text(info->store);
    return out;
}

Shoal__Member **enc_members(struct codec_arena *a, uint32_t n, const struct member *members) {
    Shoal__Member **out = enc_alloc(a, n * sizeof *out);
    for (uint32_t i = 0; i < n; i++) {
        out[i] = enc_alloc(a, sizeof *out[i]);
        shoal__member__init(out[i]);
        out[i]->name = enc_text(members[i].name);
        out[i]->stage = members[i].stage;
        out[i]->rank = members[i].rank;
        out[i]->pid = members[i].pid;
    }
    return out;
}

static bool info_is_empty(const struct deployment_info *info) {
    return info->model[0] == '\0' && info->deployment[0] == '\0' && info->fingerprint[0] == '\0' && info->n_aliases == 0 &&
           info->max_context == 0 && info->max_seqs == 0 && info->bytes_per_token == 0 && info->store[0] == '\0';
}

Shoal__Hello *enc_hello(struct codec_arena *a, const struct msg_hello *m) {
    Shoal__Hello *out = enc_alloc(a, sizeof *out);
    shoal__hello__init(out);
    out->protocol_min = m->protocol_min;
    out->protocol_max = m->protocol_max;
    out->role = (Shoal__Role)m->role;
    out->incarnation = m->incarnation;
    out->name = enc_text(m->name);
    out->region = enc_text(m->region);
    out->zone = enc_text(m->zone);
    out->pid = m->pid;
    out->heartbeat_ms = m->heartbeat_ms;
    out->http = enc_text(m->http);
    out->zmq = enc_text(m->zmq);
    out->reply_wanted = m->reply_wanted;
    if (!info_is_empty(&m->info)) out->info = enc_info(a, &m->info);
    out->n_members = m->n_members;
    out->members = enc_members(a, m->n_members, m->members);
    return out;
}

static Shoal__Load *enc_load(struct codec_arena *a, const struct deployment_status *s) {
    Shoal__Load *out = enc_alloc(a, sizeof *out);
    shoal__load__init(out);
    out->running = s->running;
    out->queued = s->queued;
    out->queued_tokens = s->queued_tokens;
    out->decode_left = s->decode_left;
    out->blocks_free = s->blocks_free;
    out->blocks_total = s->blocks_total;
    out->replicas_ready = s->replicas_ready;
    out->replicas_total = s->replicas_total;
    out->generates_seen = s->generates_seen;
    return out;
}

static void enc_deployment(struct codec_arena *a, const struct deployment_status *s, Shoal__DeploymentStatus *out) {
    shoal__deployment_status__init(out);
    if (s->groups & STATUS_INFO) {
        out->info = enc_info(a, &s->info);
    } else {
        out->model = enc_text(s->info.model);
        out->deployment = enc_text(s->info.deployment);
    }
    if (s->groups & STATUS_LOAD) out->load = enc_load(a, s);
    if (s->groups & STATUS_RATES) {
        out->rates = enc_alloc(a, sizeof *out->rates);
        shoal__rates__init(out->rates);
        out->rates->prefill = s->prefill_rate;
        out->rates->decode = s->decode_rate;
    }
    if (s->groups & STATUS_COUNTERS) {
        out->counters = enc_alloc(a, sizeof *out->counters);
        shoal__counters__init(out->counters);
        out->counters->decoded = s->decoded_total;
        out->counters->prefilled = s->prefilled_total;
    }
}

Shoal__Status *enc_status(struct codec_arena *a, const struct msg_status *m) {
    Shoal__Status *out = enc_alloc(a, sizeof *out);
    shoal__status__init(out);
    out->seq = m->seq;
    out->full = m->full;
    if (m->has_life) {
        out->life = enc_alloc(a, sizeof *out->life);
        shoal__life__init(out->life);
        out->life->state = (Shoal__Lifecycle)m->state;
        out->life->progress = m->progress;
        out->life->eta_ms = m->eta_ms;
        out->life->deadline_ms = m->deadline_ms;
        out->life->reason = enc_text(m->reason);
    }
    out->n_deployments = m->n_deployments;
    out->deployments = enc_alloc(a, m->n_deployments * sizeof *out->deployments);
    for (uint32_t i = 0; i < m->n_deployments; i++) {
        out->deployments[i] = enc_alloc(a, sizeof *out->deployments[i]);
        enc_deployment(a, &m->deployments[i], out->deployments[i]);
    }
    return out;
}

static Shoal__RouterView *enc_router(struct codec_arena *a, const struct router_view *r) {
    Shoal__RouterView *out = enc_alloc(a, sizeof *out);
    shoal__router_view__init(out);
    out->name = enc_text(r->name);
    out->region = enc_text(r->region);
    out->pid = r->pid;
    out->http = enc_text(r->http);
    out->zmq = enc_text(r->zmq);
    return out;
}

static Shoal__ReplicaView *enc_replica(struct codec_arena *a, const struct replica_view *r) {
    Shoal__ReplicaView *out = enc_alloc(a, sizeof *out);
    shoal__replica_view__init(out);
    out->name = enc_text(r->name);
    out->region = enc_text(r->region);
    out->zone = enc_text(r->zone);
    out->state = (Shoal__Lifecycle)r->state;
    out->suspect = r->suspect;
    out->status = enc_alloc(a, sizeof *out->status);
    enc_deployment(a, &r->status, out->status);
    out->n_members = r->n_members;
    out->members = enc_members(a, r->n_members, r->members);
    out->deadline_ms = r->deadline_ms;
    out->reason = enc_text(r->reason);
    return out;
}

Shoal__Cluster *enc_cluster(struct codec_arena *a, const struct msg_cluster *m) {
    Shoal__Cluster *out = enc_alloc(a, sizeof *out);
    shoal__cluster__init(out);
    out->n_routers = m->n_routers;
    out->routers = enc_alloc(a, m->n_routers * sizeof *out->routers);
    for (uint32_t i = 0; i < m->n_routers; i++) out->routers[i] = enc_router(a, &m->routers[i]);
    out->n_replicas = m->n_replicas;
    out->replicas = enc_alloc(a, m->n_replicas * sizeof *out->replicas);
    for (uint32_t i = 0; i < m->n_replicas; i++) out->replicas[i] = enc_replica(a, &m->replicas[i]);
    return out;
}
