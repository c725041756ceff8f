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
    X(protocol_errors, "protocol_errors_total", "Messages against the grammar")

#define GAUGES(X)                                                                                                           \
    X(streams, "streams", "Streams held now")                                                                               \
    X(running, "sequences_running", "Sequences in slots now")                                                               \
    X(waiting, "sequences_waiting", "Sequences waiting for a slot")                                                         \
    X(preparing, "streams_preparing", "Prompts being tokenised")                                                            \
    X(plans_in_flight, "plans_in_flight", "Step plans with the engine")                                                     \
    X(blocks_free, "kv_blocks_free", "KV blocks free")                                                                      \
    X(blocks_total, "kv_blocks", "KV blocks in all")                                                                        \
    X(slots_free, "slots_free", "Slots free")                                                                               \
    X(log_bytes, "log_bytes", "Memory held by token records")                                                               \
    X(prefill_rate, "prefill_tokens_per_second", "Measured rate of prefill")                                                \
    X(decode_rate, "decode_tokens_per_second", "Measured rate of decode at the largest batch")

struct worker_http {
    struct worker_http_options options;
    struct http_server *metrics_server, *admin;
    struct metrics *registry;
    struct buf out;
#define X(field, name, help) struct series *field;
    COUNTERS(X)
    GAUGES(X)
#undef X
    struct series *routers_connected;
};

static struct series *add(struct metrics *m, const char *name, const char *help, enum metric_kind kind) {
    struct metric_spec spec = {.name = name, .help = help, .kind = kind};
    return metric_series(metrics_add(m, &spec), NULL);
}

static void register_all(struct worker_http *h) {
    h->registry = metrics_create();
#define X(field, name, help) h->field = add(h->registry, "shoal_worker_" name, help, METRIC_COUNTER);
    COUNTERS(X)
#undef X
#define X(field, name, help) h->field = add(h->registry, "shoal_worker_" name, help, METRIC_GAUGE);
    GAUGES(X)
#undef X
    h->routers_connected = add(h->registry, "shoal_worker_routers_connected", "Routers connected now", METRIC_GAUGE);
}

static void respond_text(struct http_exchange *x, int status, const char *text) {
    http_respond(x, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void get_metrics(struct worker_http *h, struct http_exchange *x) {
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
    buf_reset(&h->out);
    metrics_write(h->registry, &h->out);
    http_respond(x, 200, "text/plain; version=0.0.4", h->out.data, h->out.len);
}

static void get_readyz(struct worker_http *h, struct http_exchange *x) {
    enum lifecycle life = worker_core_life(h->options.core);
    char line[64];
    snprintf(line, sizeof line, "%s\n", lifecycle_name(life));
    respond_text(x, life == LIFECYCLE_READY ? 200 : 503, life == LIFECYCLE_READY ? "ok\n" : line);
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
    register_all(h);
    *out = h;
    err_id id = serve(h, options->metrics, on_metrics, &h->metrics_server, e);
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
