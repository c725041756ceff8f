#include "worker/main/host.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"
#include "common/sys/process.h"
#include "common/sys/progress_bar.h"
#include "worker/core/suspend.h"
#include "worker/engine/table.h"
#include "worker/link/router_links.h"
#include "worker/group/comm.h"
#include "worker/group/leader_engine.h"
#include "worker/main/checkpoints.h"
#include "worker/main/core_options.h"
#include "worker/main/engine_thread.h"
#include "worker/main/fingerprint.h"
#include "worker/main/leader_host.h"
#include "worker/main/prefix_keeper.h"
#include "worker/main/step_masks.h"
#include "worker/main/stream_text.h"
#include "worker/main/worker_guard.h"
#include "worker/main/worker_http.h"
#include "worker/model/model.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct host {
    const struct host_settings *settings;
    uv_loop_t loop;
    uv_prepare_t turn;
    uv_timer_t timer;
    uv_async_t engine_woke;
    uv_signal_t term, interrupt, hangup;
    const struct backend *backend;
    struct engine_opts engine_opts;
    struct model *model;     // until loaded; NULL for the mock
    struct model_text *text; // NULL for the mock
    struct text_source text_source;
    struct stream_text **slot_users; // [slots] whose text was opened in it last
    struct engine_thread *engine;    // of a group: started when all stages are there
    struct leader_host *group;       // NULL: all layers are in this process
    uint64_t weights_bytes, loads;
    struct progress_bar bar;     // while weights are loaded, on a terminal
    struct worker_token *tokens; // a step's, as the core wants them
    struct guard *guard;
    struct router_links *links;
    struct worker_core *core;
    struct checkpoint_store *store; // NULL: none
    struct checkpoints *checkpoints;
    struct prefix_keeper *prefixes; // NULL: without --restore
    struct worker_http *http;
    ms_t started_at;
    bool noticed, ended; // noticed: as was logged
    int exit_code;
};

// --- hooks of the core

// From the thread pool's job, on the loop.
static void on_prepared(void *ctx, uint64_t ticket, const struct prepared *p) {
    struct host *h = ctx;
    if (h->ended)
        stream_text_destroy(p->user); // nobody to tell any more
    else
        worker_core_prepared(h->core, ticket, p, clock_ms());
}

static void hook_prepare(void *ctx, uint64_t ticket, const struct msg_generate *g) {
    struct host *h = ctx;
    stream_text_prepare(&h->loop, &h->text_source, ticket, g, on_prepared, h);
}

static void hook_slot_open(void *ctx, uint32_t slot, void *user, const uint32_t *tokens, uint32_t n, uint32_t n_prompt) {
    struct host *h = ctx;
    h->slot_users[slot] = user;
    struct sampling_params none; // of a prefix
    sampling_params_default(&none);
    engine_thread_slot_open(h->engine, slot, user ? stream_text_sampling(user) : &none, tokens, n, n_prompt);
}

static void hook_slot_close(void *ctx, uint32_t slot) { engine_thread_slot_close(((struct host *)ctx)->engine, slot); }

static void hook_submit(void *ctx, uint64_t step, const void *plan, size_t len) {
    struct host *h = ctx;
    engine_thread_submit(h->engine, step, plan, len, step_masks_make(plan, h->slot_users, h->text_source.vocab));
}

static void hook_checkpoint(void *ctx, uint64_t ticket, const struct checkpoint_request *request) {
    struct host *h = ctx;
    if (ticket & UPKEEP_TICKET)
        prefix_keeper_write(h->prefixes, ticket, request);
    else
        checkpoints_write(h->checkpoints, ticket, request);
}

static void hook_restore(void *ctx, uint64_t ticket, uint32_t slot, void *user, uint32_t n) {
    struct host *h = ctx;
    if (ticket & UPKEEP_TICKET)
        prefix_keeper_restore(h->prefixes, ticket, slot, n);
    else
        checkpoints_restore(h->checkpoints, ticket, slot, stream_text_checkpoint(user), n);
}

// --- the engine's events

static void on_progress(struct host *h, const struct engine_load_progress *p) {
    float part = p->bytes_total ? (float)p->bytes_done / (float)p->bytes_total : 0;
    ms_t took = clock_ms() - h->started_at;
    uint32_t eta_ms = part > 0.02f ? (uint32_t)((float)took * (1 - part) / part) : 0;
    worker_core_loading(h->core, part, eta_ms, clock_ms());
    progress_bar_update(&h->bar, p->bytes_done, p->bytes_total);
}

// Without a store that all stages see, streams move by prefill.
static void serve_checkpoints(struct host *h, const char *fingerprint_text) {
    const struct engine_info *info = engine_thread_info(h->engine);
    struct state_part shards[GROUP_STAGES_MAX] = {{0, info->layer_first, info->layer_end, info->kv_bytes_per_token, 0}};
    const char *store = checkpoint_store_id(h->store);
    struct error why = {0};
    uint32_t n = h->group ? leader_host_shards(h->group, store, shards, &why) : 1;
    if (n == 0) log_warn("checkpoints_off", "reason=%s", error_text(&why));
    checkpoints_serve(h->checkpoints, h->engine, fingerprint_text, shards, n);
    worker_core_store(h->core, checkpoints_place(h->checkpoints));
}

static void say_ready(void *ctx) {
    struct host *h = ctx;
    char text[FINGERPRINT_SIZE];
    float prefill, decode;
    worker_fingerprint(engine_thread_fingerprint(h->engine), h->settings->path, text);
    engine_thread_rates(h->engine, &prefill, &decode);
    worker_core_ready_to_serve(h->core, text, prefill, decode, clock_ms());
}

static void serve(struct host *h) {
    char text[FINGERPRINT_SIZE];
    float prefill, decode;
    worker_fingerprint(engine_thread_fingerprint(h->engine), h->settings->path, text);
    engine_thread_rates(h->engine, &prefill, &decode);
    const struct engine_info *info = engine_thread_info(h->engine);
    log_info("worker_ready",
             "model=%s fingerprint=%s load_ms=%lld kv_tokens=%" PRIu64 " context=%u prefill_tok_s=%.0f decode_tok_s=%.0f",
             h->settings->model, text, (long long)(clock_ms() - h->started_at), info->mem.kv_tokens, info->limits.context,
             (double)prefill, (double)decode);
    if (h->checkpoints) serve_checkpoints(h, text);
    worker_core_lone_step(h->core, engine_thread_lone_step_us(h->engine));
    if (h->prefixes)
        prefix_keeper_serve(h->prefixes, h->engine, text); // says ready when it has read what there is
    else
        say_ready(h);
}

static void on_loaded(struct host *h) {
    progress_bar_end(&h->bar);
    model_close(&h->model);
    h->loads++;
    if (h->group == NULL) serve(h); // else when its other stages are loaded too
}

static void on_step(struct host *h, const struct engine_event *event) {
    for (uint32_t i = 0; i < event->n_tokens; i++) {
        const struct engine_step_token *t = &event->tokens[i];
        h->tokens[i] = (struct worker_token){.token = t->token,
                                             .nan = t->numeric_error,
                                             .none_allowed = t->none_allowed,
                                             .logprob = t->logprob,
                                             .n_top = t->n_top,
                                             .top = t->top};
    }
    worker_core_step_done(h->core, event->step, h->tokens, event->n_tokens, event->took_us, clock_ms());
}

static void end(struct host *h, int exit_code) {
    if (h->ended) return;
    h->ended = true;
    h->exit_code = exit_code;
    uv_stop(&h->loop);
}

static void on_engine(uv_async_t *async) {
    struct host *h = async->data;
    struct engine_event event;
    while (!h->ended && engine_thread_next(h->engine, &event)) {
        if (event.kind == ENGINE_EVENT_PROGRESS) on_progress(h, &event.progress);
        if (event.kind == ENGINE_EVENT_READY) on_loaded(h);
        if (event.kind == ENGINE_EVENT_REGROUPED) leader_host_regrouped(h->group, event.epoch);
        if (event.kind == ENGINE_EVENT_STEP) on_step(h, &event);
        bool moved = event.kind == ENGINE_EVENT_MOVED, prefix = moved && event.ticket & UPKEEP_TICKET;
        if (moved && !prefix) checkpoints_moved(h->checkpoints, &event);
        if (prefix) prefix_keeper_moved(h->prefixes, &event);
        if (event.kind == ENGINE_EVENT_FAILED) {
            progress_bar_end(&h->bar);
            log_error("engine_failed", "reason=%s", error_text(&event.error));
            worker_core_failed(h->core, clock_ms());
            end(h, event.error.id == ERR_MODEL_FILES || event.error.id == ERR_CONFIG ? 2 : 1);
        }
    }
}

static void wake(void *ctx) { uv_async_send(ctx); }

static err_id start_engine(struct host *h, struct error *e);

static struct engine_thread *on_group_start(void *ctx) {
    struct host *h = ctx;
    struct error e = {0};
    h->started_at = clock_ms();
    worker_core_loading(h->core, 0, 0, clock_ms());
    if (start_engine(h, &e) == ERR_NONE) return h->engine;
    log_error("engine_failed", "reason=%s", error_text(&e));
    end(h, 1);
    return NULL;
}

static void on_group_up(void *ctx, uint32_t epoch, uint32_t n, const struct member *members) {
    struct host *h = ctx;
    worker_core_group(h->core, epoch, n, members, clock_ms());
    serve(h);
}

static void on_group_waits(void *ctx, const char *reason) {
    worker_core_waits(((struct host *)ctx)->core, reason, clock_ms());
}

static void on_group_lost(void *ctx, const char *sentence) {
    struct host *h = ctx;
    struct member members[GROUP_STAGES_MAX];
    if (h->checkpoints) checkpoints_lost(h->checkpoints);
    worker_core_suspended(h->core, sentence, clock_ms());
    uint32_t n = leader_host_members(h->group, members);
    worker_core_group(h->core, 0, n, members, clock_ms());
}

static void on_part_done(void *ctx, uint32_t stage, const struct group_part_done *done) {
    struct host *h = ctx;
    if (h->checkpoints) checkpoints_part_done(h->checkpoints, stage, done);
}

static void ask_for_part(void *ctx, uint32_t stage, enum group_kind kind, const struct group_part *part) {
    leader_host_ask(((struct host *)ctx)->group, stage, kind, part);
}

static void on_member_noticed(void *ctx, uint32_t deadline_ms) {
    worker_core_member_notice(((struct host *)ctx)->core, deadline_ms, clock_ms());
}

static err_id open_group(struct host *h, const struct engine_mem *mem, struct error *e) {
    struct leader_host_options o = {.loop = &h->loop,
                                    .settings = h->settings,
                                    .security = guard_group_security(h->guard),
                                    .backend = h->backend,
                                    .model = h->model,
                                    .engine = &h->engine_opts,
                                    .blocks = mem->blocks,
                                    .ctx = h,
                                    .start = on_group_start,
                                    .up = on_group_up,
                                    .waits = on_group_waits,
                                    .lost = on_group_lost,
                                    .part_done = on_part_done,
                                    .noticed = on_member_noticed};
    return leader_host_create(&o, &h->group, e);
}

static void figures(void *ctx, struct group_figures *out) {
    struct host *h = ctx;
    *out = (struct group_figures){.stages = h->settings->group.stages, .up = true, .weights_bytes = h->weights_bytes};
    if (h->group) leader_host_figures(h->group, out);
    out->loads = h->loads;
}

static void on_timer(uv_timer_t *timer) {} // wakes the loop; the work is done in on_turn

static void log_notice(const struct host *h) {
    struct worker_counters c;
    worker_core_counters(h->core, &c);
    log_info("worker_noticed", "running=%u waiting=%u preparing=%u store=%s", c.running, c.waiting, c.preparing,
             h->store ? checkpoint_store_id(h->store) : "none");
}

static void on_turn(uv_prepare_t *turn) {
    struct host *h = turn->data;
    ms_t next = worker_core_tick(h->core, clock_ms());
    router_links_turn(h->links);
    if (h->checkpoints) checkpoints_turn(h->checkpoints);
    if (h->prefixes) prefix_keeper_turn(h->prefixes);
    ms_t now = clock_ms();
    uv_timer_start(&h->timer, on_timer, next > now ? (uint64_t)(next - now) : 1, 0);
    if (h->group) leader_host_turn(h->group, h->core);
    bool noticed = worker_core_life(h->core) == LIFECYCLE_NOTICED; // by a signal, the admin socket or a router
    if (noticed && !h->noticed) log_notice(h);
    h->noticed = noticed;
    bool over = noticed && worker_core_idle(h->core) && !worker_core_member_leaves(h->core);
    if (over && (!h->prefixes || prefix_keeper_may_end(h->prefixes))) end(h, 0);
}

static void notice(void *ctx, uint32_t deadline_ms) {
    worker_core_notice(((struct host *)ctx)->core, deadline_ms, clock_ms());
}

static void on_signal(uv_signal_t *handle, int number) {
    struct host *h = handle->data;
    if (worker_core_life(h->core) == LIFECYCLE_NOTICED && !worker_core_member_leaves(h->core))
        end(h, 0); // asked twice: now
    else
        notice(h, h->settings->drain_deadline_ms);
}

static void on_hangup(uv_signal_t *handle, int number) {
    struct host *h = handle->data;
    if (h->guard) guard_reload(h->guard); // certificates; the rest of the configuration takes a restart
}

static void on_keys_changed(void *ctx) {
    struct host *h = ctx;
    if (h->core) router_links_keys_changed(h->links);
}

static void start_loop(struct host *h) {
    CHECK(uv_loop_init(&h->loop) == 0);
    uv_prepare_init(&h->loop, &h->turn);
    uv_timer_init(&h->loop, &h->timer);
    uv_async_init(&h->loop, &h->engine_woke, on_engine);
    uv_signal_init(&h->loop, &h->term);
    uv_signal_init(&h->loop, &h->interrupt);
    uv_signal_init(&h->loop, &h->hangup);
    h->turn.data = h->engine_woke.data = h->term.data = h->interrupt.data = h->hangup.data = h;
    uv_signal_start(&h->hangup, on_hangup, SIGHUP);
    uv_signal_start(&h->term, on_signal, SIGTERM);
    uv_signal_start(&h->interrupt, on_signal, SIGINT);
}

// --- putting together

static err_id open_model(struct host *h, struct error *e) {
    const struct host_settings *s = h->settings;
    h->engine_opts = s->engine;
    h->engine_opts.rows = s->max_seqs;
    h->engine_opts.slots = s->max_seqs + host_spare_slots(s);
    h->engine_opts.batch_tokens = s->step_tokens;
    TRY(backend_find(s->device, &h->backend, e));
    struct engine_device device;
    TRY(h->backend->probe(&device, e));
    bool mock = strcmp(s->device, "mock") == 0;
    if (s->path && mock) return error_set(e, ERR_CONFIG, "--device mock takes no model folder: leave --path out");
    if (!s->path && !mock)
        return error_set(e, ERR_CONFIG,
                         "no model: give --path with a model folder or a GGUF file, or models.%s.deployments.%s.path in the "
                         "configuration",
                         s->model, s->deployment);
    if (mock) {
        if (h->engine_opts.context == 0) h->engine_opts.context = 32768;
        if (s->group.stages > 1) TRY(member_layers(s, NULL, &h->engine_opts, e));
        h->text_source = (struct text_source){.vocab = h->engine_opts.mock.vocab, .mock_eos = h->engine_opts.mock.eos};
        h->text_source.tools = text_source_tools(s->tools, TOOL_STYLE_HERMES);
        return ERR_NONE;
    }
    TRY(model_open(s->path, &h->model, e));
    if (model_note(h->model)) log_warn("model_tensors_unknown", "note=%s", model_note(h->model));
    TRY(model_text_load(s->path, &h->text, e));
    const struct model_spec *spec = model_spec(h->model);
    if (h->engine_opts.context == 0 || h->engine_opts.context > spec->context) h->engine_opts.context = spec->context;
    h->engine_opts.model = h->model;
    if (s->group.stages > 1) TRY(member_layers(s, h->model, &h->engine_opts, e));
    h->weights_bytes = member_bytes(h->model, &h->engine_opts);
    h->text_source = (struct text_source){.model = h->text, .vocab = spec->vocab};
    h->text_source.tools = text_source_tools(s->tools, h->text->tools);
    return ERR_NONE;
}

static err_id start_engine(struct host *h, struct error *e) {
    const struct host_settings *s = h->settings;
    uint32_t rows = s->max_seqs, tokens = s->step_tokens;
    uint32_t indexes = (h->engine_opts.context + h->engine_opts.block_tokens - 1) / h->engine_opts.block_tokens;
    struct plan_caps caps = {rows, tokens, plan_deltas_max(rows, tokens, indexes), rows};
    struct engine_thread_options o = {.backend = h->group ? &group_backend : h->backend,
                                      .comm = h->group ? leader_host_comm(h->group) : NULL,
                                      .nudge = comm_nudge,
                                      .engine = h->engine_opts,
                                      .plans_in_flight = s->plans_in_flight,
                                      .plan_bytes_max = plan_bytes_max(&caps),
                                      .record_path = s->record,
                                      .wake = wake,
                                      .wake_ctx = &h->engine_woke};
    progress_bar_init(&h->bar, stderr, "loading weights");
    h->tokens = xcalloc(rows, sizeof *h->tokens);
    h->slot_users = xcalloc(h->engine_opts.slots, sizeof *h->slot_users);
    if (h->settings->group.stages <= 1) // masks don't travel to the last of several
        h->text_source.grammars = grammars_create(h->text ? h->text->tokenizer : NULL, h->text_source.vocab);
    h->engine = engine_thread_start(&o, e);
    return h->engine ? ERR_NONE : e->id;
}

static err_id open_all(struct host *h, struct error *e) {
    struct engine_mem mem;
    TRY(worker_guard_create(&h->loop, h->settings, on_keys_changed, h, &h->guard, e));
    TRY(open_model(h, e));
    TRY(h->backend->mem_plan(&h->engine_opts, &mem, e));
    struct router_links_options links = {.loop = &h->loop, .routers = h->settings->routers, .guard = h->guard};
    h->links = router_links_create(&links);
    TRY(checkpoints_open_store(h->settings, &h->store, e));
    struct worker_core_options options;
    core_options(h->settings, &h->engine_opts, &mem, h->store ? checkpoint_store_id(h->store) : "", &options);
    struct sink sink = router_links_sink(h->links);
    struct worker_hooks hooks = {h,
                                 hook_prepare,
                                 hook_slot_open,
                                 hook_slot_close,
                                 hook_submit,
                                 stream_text_on_record,
                                 stream_text_on_tail,
                                 stream_text_on_release,
                                 NULL,
                                 NULL};
    if (h->store) hooks.checkpoint = hook_checkpoint, hooks.restore = hook_restore;
    h->core = worker_core_create(&options, &sink, &hooks, clock_ms());
    if (h->store) {
        struct checkpoints_options moves = {
            .loop = &h->loop, .store = h->store, .core = h->core, .ask = ask_for_part, .ctx = h};
        h->text_source.checkpoints = h->checkpoints = checkpoints_create(&moves);
        struct prefix_keeper_options kept = {
            .loop = &h->loop, .store = h->store, .core = h->core, .ready = say_ready, .ctx = h};
        if (h->settings->restore) h->prefixes = prefix_keeper_create(&kept);
    }
    struct worker_http_options http = {.loop = &h->loop,
                                       .metrics = h->settings->metrics,
                                       .admin = h->settings->admin,
                                       .config = &h->settings->config,
                                       .guard = h->guard,
                                       .core = h->core,
                                       .links = h->links,
                                       .drain = notice,
                                       .figures = figures,
                                       .ctx = h};
    TRY(worker_http_create(&http, &h->http, e));
    TRY(router_links_run(h->links, h->core, e));
    if (h->settings->group.stages > 1)
        TRY(open_group(h, &mem, e));
    else
        TRY(start_engine(h, e));
    uv_prepare_start(&h->turn, on_turn);
    uv_timer_start(&h->timer, on_timer, 1, 0);
    return ERR_NONE;
}

static void close_all(struct host *h) {
    worker_http_destroy(&h->http);
    if (h->checkpoints) checkpoints_close(h->checkpoints);
    if (h->prefixes) prefix_keeper_close(h->prefixes);
    engine_thread_stop(&h->engine);
    leader_host_destroy(&h->group);
    router_links_destroy(&h->links);
    guard_destroy(&h->guard);
    uv_close((uv_handle_t *)&h->turn, NULL);
    uv_close((uv_handle_t *)&h->timer, NULL);
    uv_close((uv_handle_t *)&h->engine_woke, NULL);
    uv_close((uv_handle_t *)&h->term, NULL);
    uv_close((uv_handle_t *)&h->interrupt, NULL);
    uv_close((uv_handle_t *)&h->hangup, NULL);
    uv_run(&h->loop, UV_RUN_DEFAULT); // also lets the text jobs that are under way end
    if (h->core) worker_core_destroy(h->core);
    checkpoints_destroy(&h->checkpoints);
    prefix_keeper_destroy(&h->prefixes);
    checkpoint_store_close(&h->store);
    uv_loop_close(&h->loop);
    model_close(&h->model);
    grammars_destroy(h->text_source.grammars);
    model_text_destroy(h->text);
    free(h->slot_users);
    free(h->tokens);
}

int host_run(const struct host_settings *settings) {
    struct host h = {.settings = settings, .started_at = clock_ms()};
    struct error e = {0};
    start_loop(&h);
    if (open_all(&h, &e) != ERR_NONE) {
        fprintf(stderr, "shoal-worker: %s\n", error_text(&e));
        h.exit_code = 2;
    } else {
        log_info("worker_started", "name=%s region=%s model=%s device=%s pid=%d", settings->name, settings->region,
                 settings->model, settings->device, (int)getpid());
        uv_run(&h.loop, UV_RUN_DEFAULT);
        log_info("worker_stopped", "name=%s exit=%d", settings->name, h.exit_code);
    }
    close_all(&h);
    return h.exit_code;
}
