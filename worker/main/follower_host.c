#include "worker/main/follower_host.h"

#include "common/base/check.h"
#include "common/sys/log.h"
#include "worker/engine/table.h"
#include "worker/group/follower.h"
#include "worker/main/checkpoints.h"
#include "worker/main/group_member.h"
#include "worker/main/part_keeper.h"
#include "worker/main/worker_guard.h"
#include "worker/main/worker_http.h"
#include "worker/model/model.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAVE_SLACK_MS = 500 }; // after its deadline a stage waits so long for the leader's word

struct follower_host {
    const struct host_settings *settings;
    uv_loop_t loop;
    uv_signal_t term, interrupt, hangup;
    struct guard *guard;
    struct model *model; // open as long as the stage may load
    struct follower *follower;
    struct checkpoint_store *store; // NULL: none
    struct part_keeper *keeper;
    bool noticed;
    uv_timer_t deadline; // of the notice
    struct worker_http *http;
    uint64_t weights_bytes;
    bool ended;
    int exit_code;
};

static void end(struct follower_host *h, int exit_code) {
    if (h->ended) return;
    h->ended = true;
    h->exit_code = exit_code;
    uv_stop(&h->loop);
}

static void on_ended(void *ctx, int exit_code, const char *sentence) {
    log_error("stage_failed", "exit=%d reason=%s", exit_code, sentence);
    fprintf(stderr, "shoal-worker: %s\n", sentence);
    end(ctx, exit_code);
}

// ---- a notice ----

static void on_released(void *ctx) {
    struct follower_host *h = ctx;
    if (!h->ended) log_info("stage_released", "stage=%u", h->settings->group.stage);
    end(h, 0);
}

static void on_deadline(uv_timer_t *timer) { end(timer->data, 0); } // the leader has had time enough

static void notice(void *ctx, uint32_t deadline_ms) {
    struct follower_host *h = ctx;
    h->noticed = true;
    log_info("stage_noticed", "stage=%u deadline_ms=%u", h->settings->group.stage, deadline_ms);
    if (deadline_ms > 0) uv_timer_start(&h->deadline, on_deadline, deadline_ms + LEAVE_SLACK_MS, 0);
    follower_notice(h->follower, deadline_ms);
}

static void on_signal(uv_signal_t *handle, int number) {
    struct follower_host *h = handle->data;
    if (h->noticed || h->follower == NULL)
        end(h, 0); // asked twice: now
    else
        notice(h, h->settings->drain_deadline_ms);
}

// ---- parts of checkpoints ----

static void on_part(void *ctx, struct group_msg *m) { part_keeper_take(((struct follower_host *)ctx)->keeper, m); }
static void on_part_done(void *ctx, struct group_msg *m) { follower_part_done(((struct follower_host *)ctx)->follower, m); }

static err_id open_store(struct follower_host *h, struct follower_options *o, struct error *e) {
    o->stage.store = "";
    TRY(checkpoints_open_store(h->settings, &h->store, e));
    if (h->store == NULL) return ERR_NONE;
    struct part_keeper_options keeper = {.loop = &h->loop, .store = h->store, .ctx = h, .done = on_part_done};
    keeper.stage = h->settings->group.stage;
    h->keeper = part_keeper_create(&keeper);
    o->stage.store = checkpoint_store_id(h->store);
    return ERR_NONE;
}

static void on_hangup(uv_signal_t *handle, int number) {
    struct follower_host *h = handle->data;
    if (h->guard) guard_reload(h->guard);
}

static void figures(void *ctx, struct group_figures *out) {
    struct follower_host *h = ctx;
    struct follower_view v;
    follower_view(h->follower, &v);
    const struct host_group *g = &h->settings->group;
    *out = (struct group_figures){.stages = g->stages, .stage = g->stage, .epoch = v.epoch, .loads = v.stage.loads};
    out->weights_bytes = h->weights_bytes;
    out->up = v.waiting[0] == '\0';
    out->busy_us[g->stage] = v.stage.busy_us;
    snprintf(out->waiting, sizeof out->waiting, "%s", v.waiting);
}

static err_id open_stage(struct follower_host *h, struct error *e) {
    const struct host_settings *s = h->settings;
    struct engine_opts opts = s->engine;
    struct engine_device device;
    struct follower_options o = {.loop = &h->loop, .leader = s->group.leader, .ctx = h, .ended = on_ended};
    o.part = on_part;
    o.released = on_released;
    TRY(worker_guard_create(&h->loop, s, NULL, NULL, &h->guard, e));
    o.security = guard_group_security(h->guard);
    TRY(backend_find(s->device, &o.stage.backend, e));
    TRY(o.stage.backend->probe(&device, e));
    if (strcmp(s->device, "mock") != 0) {
        if (s->path == NULL) return error_set(e, ERR_CONFIG, "no model folder: give --path DIR");
        TRY(model_open(s->path, &h->model, e));
        opts.model = h->model;
    }
    TRY(member_layers(s, h->model, &opts, e));
    member_join(s, h->model, &opts, &o.self);
    h->weights_bytes = o.weights_bytes = member_bytes(h->model, &opts);
    o.listen = s->group.stage > 1 ? s->group.listen : NULL; // the leader needs no way of its own to stage 1
    o.stage.engine = opts;
    o.stage.last = s->group.stage + 1 == s->group.stages;
    o.beat_ms = s->config.timers.heartbeat_ms;
    o.dead_ms = s->config.timers.dead_ms;
    struct worker_http_options http = {
        .loop = &h->loop, .metrics = s->metrics, .admin = s->admin, .drain = notice, .figures = figures, .ctx = h};
    http.config = &s->config;
    http.guard = h->guard;
    TRY(open_store(h, &o, e));
    TRY(follower_create(&o, &h->follower, e));
    return worker_http_create(&http, &h->http, e);
}

static void close_all(struct follower_host *h) {
    worker_http_destroy(&h->http);
    if (h->keeper) part_keeper_close(h->keeper);
    follower_destroy(&h->follower);
    guard_destroy(&h->guard);
    uv_close((uv_handle_t *)&h->term, NULL);
    uv_close((uv_handle_t *)&h->interrupt, NULL);
    uv_close((uv_handle_t *)&h->hangup, NULL);
    uv_close((uv_handle_t *)&h->deadline, NULL);
    uv_run(&h->loop, UV_RUN_DEFAULT);
    uv_loop_close(&h->loop);
    part_keeper_destroy(&h->keeper);
    checkpoint_store_close(&h->store);
    model_close(&h->model);
}

int follower_run(const struct host_settings *settings) {
    struct follower_host h = {.settings = settings};
    struct error e = {0};
    CHECK(uv_loop_init(&h.loop) == 0);
    uv_signal_init(&h.loop, &h.term);
    uv_signal_init(&h.loop, &h.interrupt);
    uv_signal_init(&h.loop, &h.hangup);
    uv_timer_init(&h.loop, &h.deadline);
    h.deadline.data = h.term.data = h.interrupt.data = h.hangup.data = &h;
    uv_signal_start(&h.hangup, on_hangup, SIGHUP);
    uv_signal_start(&h.term, on_signal, SIGTERM);
    uv_signal_start(&h.interrupt, on_signal, SIGINT);
    if (open_stage(&h, &e) != ERR_NONE) {
        fprintf(stderr, "shoal-worker: %s\n", error_text(&e));
        h.exit_code = 2;
    } else {
        log_info("stage_started", "name=%s group=%s stage=%u weights_bytes=%llu", settings->name, settings->group.name,
                 settings->group.stage, (unsigned long long)h.weights_bytes);
        uv_run(&h.loop, UV_RUN_DEFAULT);
        log_info("stage_stopped", "name=%s exit=%d", settings->name, h.exit_code);
    }
    close_all(&h);
    return h.exit_code;
}
