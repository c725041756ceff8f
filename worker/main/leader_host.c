#include "worker/main/leader_host.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"
#include "worker/group/leader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATED_MS = 200 }; // a deadline that is sooner by less is the same; how often a follower is released again

struct leader_host {
    struct leader_host_options options;
    struct comm comm;
    struct leader *leader;
    struct engine_thread *engine;
    uint64_t weights_bytes;
    bool leaves[GROUP_STAGES_MAX];    // gave notice
    ms_t leaves_at[GROUP_STAGES_MAX]; // the deadline that was passed on; 0: none yet
    ms_t released_at;
};

static void on_forming(void *ctx, uint32_t epoch) {
    struct leader_host *l = ctx;
    if (l->engine == NULL) l->engine = l->options.start(l->options.ctx);
    if (l->engine != NULL) engine_thread_regroup(l->engine, epoch);
}

static void on_up(void *ctx) {
    struct leader_host *l = ctx;
    struct leader_view v;
    struct member members[GROUP_STAGES_MAX];
    leader_view(l->leader, &v);
    l->options.up(l->options.ctx, v.epoch, leader_host_members(l, members), members);
}

uint32_t leader_host_members(const struct leader_host *l, struct member members[GROUP_STAGES_MAX]) {
    struct leader_view v;
    uint32_t n = 0;
    leader_view(l->leader, &v);
    for (uint32_t s = 0; s < v.stages; s++) {
        if (!v.members[s].present) continue;
        members[n] = (struct member){.stage = s, .pid = v.members[s].join.pid};
        snprintf(members[n++].name, sizeof members[0].name, "%s", v.members[s].join.name);
    }
    return n;
}

static void on_waits(void *ctx, const char *reason) {
    struct leader_host *l = ctx;
    l->options.waits(l->options.ctx, reason);
}

static void on_lost(void *ctx, const char *sentence) {
    struct leader_host *l = ctx;
    l->options.lost(l->options.ctx, sentence);
    if (l->engine != NULL) engine_thread_suspend(l->engine);
    struct leader_view v;
    leader_view(l->leader, &v);
    for (uint32_t s = 1; s < v.stages; s++) {
        l->leaves[s] &= v.members[s].present;
        l->leaves_at[s] = 0; // who is still there says it again
    }
}

static void on_part_done(void *ctx, uint32_t stage, const struct group_part_done *done) {
    struct leader_host *l = ctx;
    l->options.part_done(l->options.ctx, stage, done);
}

static void on_noticed(void *ctx, uint32_t stage, uint32_t deadline_ms) {
    struct leader_host *l = ctx;
    ms_t at = deadline_ms > 0 ? clock_ms() + deadline_ms : MS_NEVER, told = l->leaves_at[stage];
    if (!l->leaves[stage])
        log_info("group_member_noticed", "group=%s stage=%u deadline_ms=%u", l->options.settings->group.name, stage,
                 deadline_ms);
    l->leaves[stage] = true;
    if (told != 0 && (at >= told || told - at < REPEATED_MS)) return;
    l->leaves_at[stage] = at;
    l->options.noticed(l->options.ctx, deadline_ms);
}

uint32_t leader_host_shards(const struct leader_host *l, const char *store, struct state_part shards[GROUP_STAGES_MAX],
                            struct error *why) {
    struct leader_view v;
    leader_view(l->leader, &v);
    for (uint32_t s = 0; s < v.stages; s++) {
        const struct leader_member_view *m = &v.members[s];
        const struct group_identity *who = &m->join.who;
        shards[s] = (struct state_part){.stage = s, .layer_first = who->layer_first, .layer_end = who->layer_end};
        shards[s].bytes_per_token = s > 0 ? m->ready.kv_bytes_per_token : engine_thread_info(l->engine)->kv_bytes_per_token;
        if (s == 0 || strcmp(m->ready.store, store) == 0) continue;
        error_set(why, ERR_CONFIG, "stage %u of group %s has %s checkpoint store; start all stages with the same one", s,
                  who->group, m->ready.store[0] ? "another" : "no");
        return 0;
    }
    return v.stages;
}

void leader_host_ask(struct leader_host *l, uint32_t stage, enum group_kind kind, const struct group_part *part) {
    struct leader_view v;
    leader_view(l->leader, &v);
    struct group_msg m = {.kind = kind, .part = *part};
    m.part.epoch = v.epoch;
    comm_send(&l->comm, stage, v.epoch, &m); // if there is no room for it the wait for its answer ends it
}

static void release(struct leader_host *l) {
    if (clock_ms() - l->released_at < REPEATED_MS) return;
    l->released_at = clock_ms();
    for (uint32_t s = 1; s < l->options.settings->group.stages; s++)
        if (l->leaves[s]) leader_release(l->leader, s);
}

// Notes that it will go.
static bool is_follower(struct leader_host *l, const char *name) {
    struct leader_view v;
    leader_view(l->leader, &v);
    for (uint32_t s = 1; s < v.stages; s++) {
        if (!v.members[s].present || strcmp(v.members[s].join.name, name) != 0) continue;
        l->leaves[s] = true;
        return true;
    }
    return false;
}

void leader_host_turn(struct leader_host *l, struct worker_core *core) {
    char name[NAME_SIZE];
    uint32_t deadline_ms;
    while (worker_core_take_member_notice(core, name, &deadline_ms))
        if (is_follower(l, name)) worker_core_member_notice(core, deadline_ms, clock_ms());
    if (worker_core_life(core) != LIFECYCLE_READY && worker_core_idle(core)) release(l);
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
    leader.part_done = on_part_done;
    leader.noticed = on_noticed;
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
