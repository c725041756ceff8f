#include "worker/main/worker_http.h"

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/metrics.h"
#include "common/sys/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTERS(X)                                                                                                         \
    X(generates, "generates_total", "Generate messages received")                                                           \
    X(accepted, "accepted_total", "Streams accepted")                                                                       \
    X(rejected, "rejected_total", "Streams refused")                                                                        \
    X(completed, "completed_total", "Streams that reached their end")                                                       \
    X(cancelled, "cancelled_total", "Streams cancelled")                                                                    \
    X(superseded, "superseded_total", "Streams taken over by a later attempt")                                              \
    X(failed, "failed_total", "Streams that ended in an error")                                                             \
    X(numeric_errors, "numeric_errors_total", "Rows whose logits were not numbers")                                         \
    X(prefilled_tokens, "prefilled_tokens_total", "Prompt tokens computed")                                                 \
    X(decoded_tokens, "decoded_tokens_total", "Tokens sampled into answers")                                                \
    X(preemptions, "preemptions_total", "Sequences that gave their blocks back")                                            \
    X(steps, "steps_total", "Forward passes")                                                                               \
    X(attached, "attached_total", "Streams that a router took over by asking who has them")                                 \
    X(resends, "resends_total", "Resend messages answered")                                                                 \
    X(checkpoints, "checkpoints_total", "Sequences written to the checkpoint store")                                        \
    X(checkpoints_failed, "checkpoints_failed_total", "Sequences that could not be written")                                \
    X(offered, "move_offers_total", "Streams offered to their routers after a notice")                                      \
    X(moved, "moves_total", "Of them, those that go on elsewhere")                                                          \
    X(restores, "restores_total", "Sequences that went on from a checkpoint")                                               \
    X(restores_failed, "restores_failed_total", "Checkpoints found and not loaded: the sequence was computed anew")         \
    X(restored_tokens, "restored_tokens_total", "Tokens whose state came from checkpoints")                                 \
    X(cached_tokens, "cached_tokens_total", "Tokens found in KV blocks when a sequence got its slot")                       \
    X(prefixes_saved, "prefixes_saved_total", "Prefixes written to the checkpoint store")                                   \
    X(prefixes_restored, "prefixes_restored_total", "Prefixes brought back from the checkpoint store")                      \
    X(evictions, "prefix_blocks_evicted_total", "KV blocks with a prefix that were taken for others")                       \
    X(protocol_errors, "protocol_errors_total", "Messages against the grammar")

#define GAUGES(X)                                                                                                           \
    X(streams, "streams", "Streams held now")                                                                               \
    X(running, "sequences_running", "Sequences in slots now")                                                               \
    X(waiting, "sequences_waiting", "Sequences waiting for a slot")                                                         \
    X(preparing, "streams_preparing", "Prompts being tokenised")                                                            \
    X(plans_in_flight, "plans_in_flight", "Step plans with the engine")                                                     \
    X(blocks_free, "kv_blocks_free", "KV blocks free")                                                                      \
    X(blocks_kept, "kv_blocks_cached", "Of them, those that hold a prefix")                                                 \
    X(blocks_held_most, "kv_blocks_held_most", "Most KV blocks held by sequences at once")                                  \
    X(blocks_total, "kv_blocks", "KV blocks in all")                                                                        \
    X(slots_free, "slots_free", "Slots free")                                                                               \
    X(log_bytes, "log_bytes", "Memory held by token records")                                                               \
    X(prefill_rate, "prefill_tokens_per_second", "Measured rate of prefill")                                                \
    X(decode_rate, "decode_tokens_per_second", "Measured rate of decode at the largest batch")

struct worker_http {
    struct worker_http_options options;
    struct http_server *metrics_server, *admin;
    struct metrics *registry;
    bool metrics_keyed; // /metrics asks for an operator's key
    struct buf out;
#define X(field, name, help) struct series *field;
    COUNTERS(X)
    GAUGES(X)
#undef X
    struct series *routers_connected;
    struct series *loads, *weights_bytes, *group_up, *group_epoch, *reforms, *active, *overlap;
    struct metric *busy; // seconds, by stage
};

static struct series *add(struct metrics *m, const char *name, const char *help, enum metric_kind kind) {
    struct metric_spec spec = {.name = name, .help = help, .kind = kind};
    return metric_series(metrics_add(m, &spec), NULL);
}

static void register_core(struct worker_http *h) {
#define X(field, name, help) h->field = add(h->registry, "shoal_worker_" name, help, METRIC_COUNTER);
    COUNTERS(X)
#undef X
#define X(field, name, help) h->field = add(h->registry, "shoal_worker_" name, help, METRIC_GAUGE);
    GAUGES(X)
#undef X
    h->routers_connected = add(h->registry, "shoal_worker_routers_connected", "Routers connected now", METRIC_GAUGE);
}

static struct metric_spec seconds(const char *name, const char *help) {
    return (struct metric_spec){.name = name, .help = help, .kind = METRIC_COUNTER, .scale = 1e-6};
}

static void register_group(struct worker_http *h) {
    struct metrics *m = h->registry;
    h->loads = add(m, "shoal_worker_loads_total", "How often weights were read", METRIC_COUNTER);
    h->weights_bytes = add(m, "shoal_worker_weights_bytes", "Bytes of its tensors in the model's files", METRIC_GAUGE);
    struct group_figures f;
    h->options.figures(h->options.ctx, &f);
    if (f.stages < 2) return;
    h->group_up = add(m, "shoal_worker_group_up", "1 while all stages of the group work together", METRIC_GAUGE);
    h->group_epoch = add(m, "shoal_worker_group_epoch", "The group's epoch: it rises with each forming", METRIC_GAUGE);
    h->reforms = add(m, "shoal_worker_group_reforms_total", "Formings of the group after the first", METRIC_COUNTER);
    struct metric_spec busy = seconds("shoal_worker_stage_busy_seconds_total", "Time in which a stage was at work");
    busy.labels[0] = "stage";
    h->busy = metrics_add(m, &busy);
    if (f.stage > 0) return;
    struct metric_spec active = seconds("shoal_worker_pipeline_active_seconds_total", "Time in which steps were under way");
    h->active = metric_series(metrics_add(m, &active), NULL);
    h->overlap =
        add(m, "shoal_worker_pipeline_overlap",
            "Stages at work at the same time, on average while steps were under way; the rest are bubbles", METRIC_GAUGE);
}

static void respond_text(struct http_exchange *x, int status, const char *text) {
    http_respond(x, status, "text/plain; charset=utf-8", text, strlen(text));
}

// Answers 401 or 403 itself and returns false when the request may not read the metrics.
static bool may_read(struct worker_http *h, struct http_exchange *x) {
    const char *authorization = http_header(x, "Authorization");
    struct guard_caller who;
    struct error e = {0};
    err_id id = guard_identify_operator(h->options.guard, authorization, http_path(x), &who, &e);
    if (id == ERR_NONE) return true;
    if (id == ERR_UNAUTHENTICATED) http_add_header(x, "WWW-Authenticate", guard_challenge(authorization));
    buf_reset(&h->out);
    buf_printf(&h->out, "%s\n", error_text(&e));
    http_respond(x, error_info(id)->http_status, "text/plain; charset=utf-8", h->out.data, h->out.len);
    return false;
}

static void refresh_core(struct worker_http *h) {
    struct worker_counters c;
    struct router_links_stats links;
    worker_core_counters(h->options.core, &c);
    router_links_stats(h->options.links, &links);
#define X(field, name, help) series_add(h->field, c.field - series_count(h->field));
    COUNTERS(X)
#undef X
#define X(field, name, help) series_set(h->field, (double)c.field);
    GAUGES(X)
#undef X
    series_set(h->routers_connected, links.connected);
}

static void count_to(struct series *s, uint64_t value) {
    if (value > series_count(s)) series_add(s, value - series_count(s)); // a restarted stage counts from 0 again
}

static void refresh_group(struct worker_http *h) {
    struct group_figures f;
    uint64_t busy_us = 0;
    h->options.figures(h->options.ctx, &f);
    count_to(h->loads, f.loads);
    series_set(h->weights_bytes, (double)f.weights_bytes);
    if (h->group_up == NULL) return;
    series_set(h->group_up, f.up);
    series_set(h->group_epoch, f.epoch);
    count_to(h->reforms, f.reforms);
    for (uint32_t s = f.stage; s < (f.stage > 0 ? f.stage + 1 : f.stages); s++) {
        char stage[12];
        snprintf(stage, sizeof stage, "%u", s);
        count_to(METRIC_SERIES(h->busy, stage), f.busy_us[s]);
        busy_us += f.busy_us[s];
    }
    if (h->active == NULL) return;
    count_to(h->active, f.active_us);
    series_set(h->overlap, f.active_us > 0 ? (double)busy_us / (double)f.active_us : 0);
}

static void get_metrics(struct worker_http *h, struct http_exchange *x) {
    if (h->options.core) refresh_core(h);
    refresh_group(h);
    buf_reset(&h->out);
    metrics_write(h->registry, &h->out);
    guard_metrics(h->options.guard, "shoal_worker_", &h->out);
    http_respond(x, 200, "text/plain; version=0.0.4", h->out.data, h->out.len);
}

static void get_readyz(struct worker_http *h, struct http_exchange *x) {
    struct group_figures f;
    char line[ERROR_TEXT_MAX + 64];
    h->options.figures(h->options.ctx, &f);
    enum lifecycle life = h->options.core ? worker_core_life(h->options.core) : LIFECYCLE_READY;
    bool ready = life == LIFECYCLE_READY && f.waiting[0] == '\0';
    const char *state = h->options.core ? lifecycle_name(life) : "not in its group";
    snprintf(line, sizeof line, "%s%s%s\n", state, f.waiting[0] ? ": " : "", f.waiting);
    respond_text(x, ready ? 200 : 503, ready ? "ok\n" : line);
}

// POST /drain?deadline=30s
static void post_drain(struct worker_http *h, struct http_exchange *x) {
    const char *query = http_query(x);
    uint64_t deadline_ms = 0;
    if (*query &&
        (strncmp(query, "deadline=", 9) != 0 || !parse_duration(query + 9, &deadline_ms) || deadline_ms > UINT32_MAX)) {
        respond_text(x, 400, "the query must be deadline=DURATION, as in /drain?deadline=30s\n");
        return;
    }
    respond_text(x, 202, "draining: no new streams; the process ends when the running ones have\n");
    h->options.drain(h->options.ctx, (uint32_t)deadline_ms);
}

static void dispatch(struct worker_http *h, struct http_exchange *x, bool admin) {
    const char *method = http_method(x), *path = http_path(x);
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (get && strcmp(path, "/livez") == 0)
        respond_text(x, 200, "ok\n");
    else if (get && strcmp(path, "/readyz") == 0)
        get_readyz(h, x);
    else if (get && strcmp(path, "/metrics") == 0 && !admin && h->metrics_keyed && !may_read(h, x))
        return; // it was answered
    else if (get && strcmp(path, "/metrics") == 0)
        get_metrics(h, x);
    else if (admin && strcmp(method, "POST") == 0 && strcmp(path, "/drain") == 0)
        post_drain(h, x);
    else
        respond_text(x, 404, "here are GET /livez, /readyz and /metrics; on the admin socket also POST /drain\n");
}

static void on_metrics(void *ctx, struct http_exchange *x) { dispatch(ctx, x, false); }
static void on_admin(void *ctx, struct http_exchange *x) { dispatch(ctx, x, true); }

static void render_error(void *ctx, int status, const struct error *e, struct buf *body) {
    buf_printf(body, "{\"error\":{\"message\":\"%s\",\"code\":%d}}", error_info(e->id)->sentence, status);
}

static err_id serve(struct worker_http *h, const char *address, void (*on_request)(void *, struct http_exchange *),
                    struct http_server **out, struct error *e) {
    if (address == NULL || *address == '\0') return ERR_NONE;
    struct http_server_options o = {
        .loop = h->options.loop, .address = address, .ctx = h, .on_request = on_request, .render_error = render_error};
    return http_server_create(&o, out, e);
}

err_id worker_http_create(const struct worker_http_options *options, struct worker_http **out, struct error *e) {
    struct worker_http *h = xcalloc(1, sizeof *h);
    h->options = *options;
    h->registry = metrics_create();
    if (options->core) register_core(h);
    register_group(h);
    *out = h;
    h->metrics_keyed = guard_metrics_keyed(options->config, GUARD_METRICS, options->metrics);
    err_id id = guard_check_listener(options->config, GUARD_METRICS, options->metrics, e);
    if (id == ERR_NONE) id = guard_check_listener(options->config, GUARD_ADMIN, options->admin, e);
    if (id == ERR_NONE) id = serve(h, options->metrics, on_metrics, &h->metrics_server, e);
    if (id == ERR_NONE) id = serve(h, options->admin, on_admin, &h->admin, e);
    if (id != ERR_NONE) worker_http_destroy(out);
    return id;
}

void worker_http_destroy(struct worker_http **handle) {
    struct worker_http *h = *handle;
    *handle = NULL;
    if (h == NULL) return;
    if (h->metrics_server) http_server_destroy(&h->metrics_server);
    if (h->admin) http_server_destroy(&h->admin);
    metrics_destroy(&h->registry);
    buf_free(&h->out);
    free(h);
}
