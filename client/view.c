// What routers say of the cluster, copied and put together.
#include "client/internal.h"

#include "common/base/check.h"

#include <stdio.h>
#include <stdlib.h>

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

static void copy_replica(const struct replica_view *from, struct shoal_replica_view *to) {
    const struct deployment_status *s = &from->status;
    *to = (struct shoal_replica_view){
        .suspect = from->suspect,
        .running = s->running,
        .queued = s->queued,
        .queued_tokens = s->queued_tokens,
        .blocks_free = s->blocks_free,
        .blocks_total = s->blocks_total,
        .prefill_rate = s->prefill_rate,
        .decode_rate = s->decode_rate,
        .decoded_total = s->decoded_total,
        .prefilled_total = s->prefilled_total,
        .n_workers = from->n_members,
        .workers = xcalloc(from->n_members + 1, sizeof *to->workers),
    };
    COPY(to->name, from->name), COPY(to->region, from->region), COPY(to->zone, from->zone);
    COPY(to->model, s->info.model), COPY(to->deployment, s->info.deployment), COPY(to->fingerprint, s->info.fingerprint);
    COPY(to->state, lifecycle_name(from->state));
    COPY(to->store, s->info.store);
    COPY(to->reason, from->reason);
    to->deadline_ms = from->deadline_ms;
    for (uint32_t i = 0; i < from->n_members; i++) {
        const struct member *m = &from->members[i];
        to->workers[i] = (struct shoal_worker){.stage = m->stage, .rank = m->rank, .pid = m->pid};
        COPY(to->workers[i].name, m->name);
    }
}

static struct shoal_cluster *view_create(uint32_t n_routers, uint32_t n_replicas) {
    struct shoal_cluster *c = xcalloc(1, sizeof *c);
    c->routers = xcalloc(n_routers + 1, sizeof *c->routers);
    c->replicas = xcalloc(n_replicas + 1, sizeof *c->replicas);
    return c;
}

struct shoal_cluster *view_copy(const struct msg_cluster *m) {
    struct shoal_cluster *c = view_create(m->n_routers, m->n_replicas);
    c->n_routers = m->n_routers;
    c->n_replicas = m->n_replicas;
    for (uint32_t i = 0; i < m->n_routers; i++) {
        struct shoal_router_view *to = &c->routers[i];
        const struct router_view *from = &m->routers[i];
        COPY(to->name, from->name), COPY(to->region, from->region), COPY(to->http, from->http), COPY(to->zmq, from->zmq);
        to->pid = from->pid;
        to->reached = i == 0; // a router names itself first
    }
    for (uint32_t i = 0; i < m->n_replicas; i++) copy_replica(&m->replicas[i], &c->replicas[i]);
    return c;
}

static struct shoal_router_view *find_router(struct shoal_cluster *c, const char *name) {
    for (uint32_t i = 0; i < c->n_routers; i++)
        if (strcmp(c->routers[i].name, name) == 0) return &c->routers[i];
    return NULL;
}

static struct shoal_replica_view *find_replica(struct shoal_cluster *c, const char *name) {
    for (uint32_t i = 0; i < c->n_replicas; i++)
        if (strcmp(c->replicas[i].name, name) == 0) return &c->replicas[i];
    return NULL;
}

static void merge_routers(struct shoal_cluster *into, const struct shoal_cluster *from) {
    for (uint32_t i = 0; i < from->n_routers; i++) {
        const struct shoal_router_view *r = &from->routers[i];
        struct shoal_router_view *known = find_router(into, r->name);
        if (known == NULL) {
            into->routers[into->n_routers++] = *r;
        } else if (r->reached && !known->reached) {
            *known = *r;
        }
    }
}

// A replica is best known to a router of its own region that hears it.
static void merge_replicas(struct shoal_cluster *into, const struct shoal_cluster *from) {
    const char *region = from->n_routers ? from->routers[0].region : "";
    for (uint32_t i = 0; i < from->n_replicas; i++) {
        const struct shoal_replica_view *r = &from->replicas[i];
        struct shoal_replica_view *known = find_replica(into, r->name), copy = *r;
        bool better = known && (known->suspect > r->suspect || (known->suspect == r->suspect && !strcmp(r->region, region)));
        if (known && !better) continue;
        copy.workers = xcalloc(r->n_workers + 1, sizeof *copy.workers);
        memcpy(copy.workers, r->workers, r->n_workers * sizeof *copy.workers);
        if (known) free(known->workers);
        if (known == NULL) known = &into->replicas[into->n_replicas++];
        *known = copy;
    }
}

static int by_router_name(const void *a, const void *b) {
    return strcmp(((const struct shoal_router_view *)a)->name, ((const struct shoal_router_view *)b)->name);
}

static int by_replica_name(const void *a, const void *b) {
    return strcmp(((const struct shoal_replica_view *)a)->name, ((const struct shoal_replica_view *)b)->name);
}

struct shoal_cluster *view_merge(struct shoal_cluster *const *views, uint32_t n) {
    uint32_t n_routers = 0, n_replicas = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (views[i] == NULL) continue;
        n_routers += views[i]->n_routers;
        n_replicas += views[i]->n_replicas;
    }
    struct shoal_cluster *all = view_create(n_routers, n_replicas);
    for (uint32_t i = 0; i < n; i++) {
        if (views[i] == NULL) continue;
        merge_routers(all, views[i]);
        merge_replicas(all, views[i]);
    }
    qsort(all->routers, all->n_routers, sizeof *all->routers, by_router_name);
    qsort(all->replicas, all->n_replicas, sizeof *all->replicas, by_replica_name);
    return all;
}

void shoal_cluster_free(struct shoal_cluster *c) {
    if (c == NULL) return;
    for (uint32_t i = 0; i < c->n_replicas; i++) free(c->replicas[i].workers);
    free(c->routers);
    free(c->replicas);
    free(c);
}
