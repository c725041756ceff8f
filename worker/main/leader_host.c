#include "worker/main/leader_host.h"

#include "common/base/check.h"
#include "worker/group/leader.h"

#include <stdio.h>
#include <stdlib.h>

struct leader_host {
    struct leader_host_options options;
    struct comm comm;
    struct leader *leader;
    struct engine_thread *engine;
    uint64_t weights_bytes;
};

static void on_forming(void *ctx, uint32_t epoch) {
    struct leader_host *l = ctx;
    if (l->engine == NULL) l->engine = l->options.start(l->options.ctx);
    if (l->engine != NULL) engine_thread_regroup(l->engine, epoch);
}

static void on_up(void *ctx) {
    struct leader_host *l = ctx;
    struct leader_view v;
    struct member members[GROUP_STAGES_MAX] = {0};
    leader_view(l->leader, &v);
    for (uint32_t s = 0; s < v.stages; s++) {
        snprintf(members[s].name, sizeof members[s].name, "%s", v.members[s].join.name);
        members[s].stage = s;
        members[s].pid = v.members[s].join.pid;
    }
    l->options.up(l->options.ctx, v.epoch, v.stages, members);
}

static void on_waits(void *ctx, const char *reason) {
    struct leader_host *l = ctx;
    l->options.waits(l->options.ctx, reason);
}

static void on_lost(void *ctx, const char *sentence) {
    struct leader_host *l = ctx;
    if (l->engine != NULL) engine_thread_suspend(l->engine);
    l->options.lost(l->options.ctx, sentence);
}

err_id leader_host_create(const struct leader_host_options *o, struct leader_host **out, struct error *e) {
    const struct host_settings *s = o->settings;
    const struct config_timers *t = &s->config.timers;
    struct group_join self;
    member_join(s, o->model, o->engine, &self);
    TRY(member_check_frame(&self, s->step_tokens, e));
    struct leader_host *l = *out = xcalloc(1, sizeof *l);
    l->options = *o;
    l->weights_bytes = member_bytes(o->model, o->engine);
    comm_init(&l->comm, o->backend, s->group.stages);
    struct leader_options leader = {
        .loop = o->loop, .listen = s->group.listen, .self = self, .beat_ms = t->heartbeat_ms, .dead_ms = t->dead_ms};
    leader.limits = (struct group_limits){.slots = o->engine->slots,
                                          .rows = o->engine->rows,
                                          .batch_tokens = o->engine->batch_tokens,
                                          .context = o->engine->context,
                                          .block_tokens = o->engine->block_tokens,
                                          .blocks = o->blocks};
    leader.comm = &l->comm;
    leader.security = o->security;
    leader.ctx = l;
    leader.forming = on_forming;
    leader.up = on_up;
    leader.waits = on_waits;
    leader.lost = on_lost;
    return leader_create(&leader, &l->leader, e);
}

void leader_host_destroy(struct leader_host **handle) {
    struct leader_host *l = *handle;
    *handle = NULL;
    if (l == NULL) return;
    leader_destroy(&l->leader);
    comm_fini(&l->comm);
    free(l);
}

struct comm *leader_host_comm(struct leader_host *l) {
    return &l->comm;
}

void leader_host_regrouped(struct leader_host *l, uint32_t epoch) {
    leader_self_ready(l->leader, epoch, engine_thread_fingerprint(l->engine));
}

void leader_host_figures(const struct leader_host *l, struct group_figures *out) {
    struct leader_view v;
    leader_view(l->leader, &v);
    *out = (struct group_figures){.stages = v.stages, .epoch = v.epoch, .up = v.up, .reforms = v.reforms};
    out->weights_bytes = l->weights_bytes;
    out->active_us = atomic_load(&l->comm.active_us);
    out->busy_us[0] = atomic_load(&l->comm.busy_us);
    for (uint32_t s = 1; s < v.stages; s++) out->busy_us[s] = v.members[s].beat.busy_us;
    snprintf(out->waiting, sizeof out->waiting, "%s", v.waiting);
}
