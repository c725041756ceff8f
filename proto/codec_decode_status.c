// Frames to plain structs: who a process is and how it does.
#include "proto/codec_internal.h"

#define NAME(from, out, field) TRY(dec_name(&(from)->field, (out)->field, sizeof(out)->field, #field, e))

static const float BYTES_PER_TOKEN_MAX = 1e6f;
enum { HEARTBEAT_MS_MAX = 60000 };

static err_id dec_info(const Shoal__DeploymentInfo *from, struct deployment_info *out, struct error *e) {
    NAME(from, out, model);
    NAME(from, out, deployment);
    NAME(from, out, fingerprint);
    NAME(from, out, store);
    if (from->n_aliases > ALIASES_MAX)
        return error_set(e, ERR_PROTOCOL, "info has %zu aliases; at most %d are allowed", from->n_aliases, ALIASES_MAX);
    for (size_t i = 0; i < from->n_aliases; i++) TRY(dec_name(&from->aliases[i], out->aliases[i], NAME_SIZE, "aliases", e));
    TRY(dec_float(from->bytes_per_token, 0, BYTES_PER_TOKEN_MAX, "bytes_per_token", e));
    out->n_aliases = (uint32_t)from->n_aliases;
    out->max_context = from->max_context;
    out->max_seqs = from->max_seqs;
    out->bytes_per_token = from->bytes_per_token;
    return ERR_NONE;
}

static err_id dec_members(size_t n, Shoal__Member *const *from, struct codec_arena *a, const struct member **out,
                          struct error *e) {
    *out = NULL;
    if (n > MEMBERS_MAX) return error_set(e, ERR_PROTOCOL, "%zu members are given; at most %d are allowed", n, MEMBERS_MAX);
    if (n == 0) return ERR_NONE;
    struct member *members = codec_arena_alloc(a, n * sizeof *members);
    if (members == NULL) return dec_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        NAME(from[i], &members[i], name);
        members[i].stage = from[i]->stage;
        members[i].rank = from[i]->rank;
        members[i].pid = from[i]->pid;
    }
    *out = members;
    return ERR_NONE;
}

err_id dec_hello(const Shoal__Hello *from, struct codec_arena *a, struct msg_hello *out, struct error *e) {
    if ((uint32_t)from->role > ROLE_WORKER)
        return error_set(e, ERR_PROTOCOL, "role is %d, which is not known", (int)from->role);
    if (from->incarnation == 0) return error_set(e, ERR_PROTOCOL, "incarnation is 0");
    if (from->protocol_min == 0 || from->protocol_min > from->protocol_max)
        return error_set(e, ERR_PROTOCOL, "protocol_min %u and protocol_max %u are no range", from->protocol_min,
                         from->protocol_max);
    if (from->protocol_min > PROTOCOL_VERSION || from->protocol_max < PROTOCOL_OLDEST)
        return error_set(e, ERR_PROTOCOL, "the other side speaks protocol %u to %u and this side %d to %d",
                         from->protocol_min, from->protocol_max, PROTOCOL_OLDEST, PROTOCOL_VERSION);
    if (from->heartbeat_ms > HEARTBEAT_MS_MAX)
        return error_set(e, ERR_PROTOCOL, "heartbeat_ms is %u; at most %d are allowed", from->heartbeat_ms,
                         HEARTBEAT_MS_MAX);
    NAME(from, out, name);
    NAME(from, out, region);
    NAME(from, out, zone);
    NAME(from, out, http);
    NAME(from, out, zmq);
    if (from->role != SHOAL__ROLE__ROLE_CLIENT && from->name.len == 0) return error_set(e, ERR_PROTOCOL, "name is empty");
    if (from->info) TRY(dec_info(from->info, &out->info, e));
    TRY(dec_members(from->n_members, from->members, a, &out->members, e));
    out->n_members = (uint32_t)from->n_members;
    out->protocol_min = from->protocol_min;
    out->protocol_max = from->protocol_max;
    out->role = (enum role)from->role;
    out->incarnation = from->incarnation;
    out->pid = from->pid;
    out->heartbeat_ms = from->heartbeat_ms;
    out->reply_wanted = from->reply_wanted;
    return ERR_NONE;
}

static void dec_load(const Shoal__Load *from, struct deployment_status *out) {
    out->groups |= STATUS_LOAD;
    out->running = from->running;
    out->queued = from->queued;
    out->queued_tokens = from->queued_tokens;
    out->decode_left = from->decode_left;
    out->blocks_free = from->blocks_free;
    out->blocks_total = from->blocks_total;
    out->replicas_ready = from->replicas_ready;
    out->replicas_total = from->replicas_total;
    out->generates_seen = from->generates_seen;
}

static err_id dec_deployment(const Shoal__DeploymentStatus *from, struct deployment_status *out, struct error *e) {
    *out = (struct deployment_status){0};
    NAME(from, &out->info, model);
    NAME(from, &out->info, deployment);
    if (from->info) {
        out->groups |= STATUS_INFO;
        TRY(dec_info(from->info, &out->info, e));
    }
    if (from->load) dec_load(from->load, out);
    if (from->rates) {
        out->groups |= STATUS_RATES;
        TRY(dec_float(from->rates->prefill, 0, RATE_MAX, "rates.prefill", e));
        TRY(dec_float(from->rates->decode, 0, RATE_MAX, "rates.decode", e));
        out->prefill_rate = from->rates->prefill;
        out->decode_rate = from->rates->decode;
    }
    if (from->counters) {
        out->groups |= STATUS_COUNTERS;
        out->decoded_total = from->counters->decoded;
        out->prefilled_total = from->counters->prefilled;
    }
    return ERR_NONE;
}

static err_id dec_lifecycle(Shoal__Lifecycle from, enum lifecycle *out, struct error *e) {
    if ((uint32_t)from > LIFECYCLE_FAILED)
        return error_set(e, ERR_PROTOCOL, "lifecycle state is %d, which is not known", (int)from);
    *out = (enum lifecycle)from;
    return ERR_NONE;
}

err_id dec_status(const Shoal__Status *from, struct codec_arena *a, struct msg_status *out, struct error *e) {
    out->seq = from->seq;
    out->full = from->full;
    if (from->life) {
        TRY(dec_lifecycle(from->life->state, &out->state, e));
        TRY(dec_float(from->life->progress, 0, 1, "life.progress", e));
        out->has_life = true;
        out->progress = from->life->progress;
        out->eta_ms = from->life->eta_ms;
        out->deadline_ms = from->life->deadline_ms;
        dec_sentence(&from->life->reason, out->reason, sizeof out->reason);
    }
    if (from->n_deployments > STATUS_DEPLOYMENTS_MAX)
        return error_set(e, ERR_PROTOCOL, "status has %zu deployments; at most %d are allowed", from->n_deployments,
                         STATUS_DEPLOYMENTS_MAX);
    if (from->n_deployments == 0) return ERR_NONE;
    struct deployment_status *all = codec_arena_alloc(a, from->n_deployments * sizeof *all);
    if (all == NULL) return dec_no_memory(e);
    for (size_t i = 0; i < from->n_deployments; i++) TRY(dec_deployment(from->deployments[i], &all[i], e));
    out->n_deployments = (uint32_t)from->n_deployments;
    out->deployments = all;
    return ERR_NONE;
}

static err_id dec_router(const Shoal__RouterView *from, struct router_view *out, struct error *e) {
    NAME(from, out, name);
    NAME(from, out, region);
    NAME(from, out, http);
    NAME(from, out, zmq);
    out->pid = from->pid;
    return ERR_NONE;
}

static err_id dec_replica(const Shoal__ReplicaView *from, struct codec_arena *a, struct replica_view *out, struct error *e) {
    *out = (struct replica_view){.suspect = from->suspect, .deadline_ms = from->deadline_ms};
    NAME(from, out, name);
    NAME(from, out, region);
    NAME(from, out, zone);
    TRY(dec_lifecycle(from->state, &out->state, e));
    dec_sentence(&from->reason, out->reason, sizeof out->reason);
    if (from->status) TRY(dec_deployment(from->status, &out->status, e));
    out->n_members = (uint32_t)from->n_members;
    return dec_members(from->n_members, from->members, a, &out->members, e);
}

err_id dec_cluster(const Shoal__Cluster *from, struct codec_arena *a, struct msg_cluster *out, struct error *e) {
    if (from->n_routers > CLUSTER_ROUTERS_MAX || from->n_replicas > CLUSTER_REPLICAS_MAX)
        return error_set(e, ERR_PROTOCOL, "cluster has %zu routers and %zu replicas; at most %d and %d are allowed",
                         from->n_routers, from->n_replicas, CLUSTER_ROUTERS_MAX, CLUSTER_REPLICAS_MAX);
    struct router_view *routers = codec_arena_alloc(a, from->n_routers * sizeof *routers);
    struct replica_view *replicas = codec_arena_alloc(a, from->n_replicas * sizeof *replicas);
    if (routers == NULL || replicas == NULL) return dec_no_memory(e);
    for (size_t i = 0; i < from->n_routers; i++) TRY(dec_router(from->routers[i], &routers[i], e));
    for (size_t i = 0; i < from->n_replicas; i++) TRY(dec_replica(from->replicas[i], a, &replicas[i], e));
    *out = (struct msg_cluster){.n_routers = (uint32_t)from->n_routers,
                                .routers = routers,
                                .n_replicas = (uint32_t)from->n_replicas,
                                .replicas = replicas};
    return ERR_NONE;
}
