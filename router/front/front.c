#include "router/front/front.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"
#include "router/front/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCAN_MS = 100, MODELS_LISTED_MAX = 256, WHY_SIZE = 256 };

// --- small endpoints

static void respond_text(struct http_exchange *x, int status, const char *text) {
    char line[WHY_SIZE + 2];
    int n = snprintf(line, sizeof line, "%s\n", text);
    http_respond(x, status, "text/plain; charset=utf-8", line, (size_t)n);
}

static void get_livez(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    respond_text(x, 200, "ok");
}

static void get_readyz(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    char why[WHY_SIZE] = "ok";
    bool ready = router_core_ready(f->core, why, sizeof why);
    respond_text(x, ready ? 200 : 503, ready ? "ok" : why);
}

static void get_metrics(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    buf_reset(&f->out);
    front_metrics_write(f->metrics, f->core, &f->out);
    if (f->options.more_metrics) f->options.more_metrics(f->options.ctx, &f->out);
    http_respond(x, 200, "text/plain; version=0.0.4", f->out.data, f->out.len);
}

static void post_drain(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    respond_text(x, 202, "leaving: not ready from now on; the process ends when the running requests have");
    f->options.drain(f->options.ctx);
}

static void append_model(struct buf *out, const char *name, const struct model_view *m) {
    buf_str(out, "{\"id\":");
    json_append_string(out, name, strlen(name));
    buf_printf(out, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"shoal\",\"max_model_len\":%u,\"replicas_ready\":%u}",
               m->max_context, m->replicas_ready);
}

static void get_models(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    struct model_view *models = xcalloc(MODELS_LISTED_MAX, sizeof *models);
    uint32_t n = router_core_models(f->core, models, MODELS_LISTED_MAX), listed = 0;
    buf_reset(&f->out);
    buf_str(&f->out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < n && i < MODELS_LISTED_MAX; i++) {
        if (!guard_allows_model(f->options.guard, who->tenant, models[i].name)) continue;
        if (listed++) buf_char(&f->out, ',');
        append_model(&f->out, models[i].name, &models[i]);
        for (uint32_t a = 0; a < models[i].n_aliases; a++) {
            buf_char(&f->out, ',');
            append_model(&f->out, models[i].aliases[a], &models[i]);
        }
    }
    buf_str(&f->out, "]}");
    free(models);
    http_respond(x, 200, "application/json", f->out.data, f->out.len);
}

static bool model_is_called(const struct model_view *m, const char *name) {
    bool is = strcmp(m->name, name) == 0;
    for (uint32_t a = 0; a < m->n_aliases && !is; a++) is = strcmp(m->aliases[a], name) == 0;
    return is;
}

static void get_model(struct front *f, struct http_exchange *x, const struct guard_caller *who, const char *name) {
    struct model_view *models = xcalloc(MODELS_LISTED_MAX, sizeof *models), *found = NULL;
    uint32_t n = router_core_models(f->core, models, MODELS_LISTED_MAX);
    for (uint32_t i = 0; i < n && i < MODELS_LISTED_MAX && !found; i++)
        if (model_is_called(&models[i], name) && guard_allows_model(f->options.guard, who->tenant, name)) found = &models[i];
    if (found) {
        buf_reset(&f->out);
        append_model(&f->out, name, found);
        http_respond(x, 200, "application/json", f->out.data, f->out.len);
    } else {
        struct error e;
        error_set_param(&e, ERR_MODEL_NOT_FOUND, "model", "The model '%.64s' does not exist", name);
        front_error(f, x, &e, 0);
    }
    free(models);
}

static void post_chat(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    call_start(f, x, OPENAI_CHAT, who);
}
static void post_completions(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    call_start(f, x, OPENAI_COMPLETION, who);
}

static void post_tokenize(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    call_start(f, x, OPENAI_TOKENIZE, who);
}
static void post_detokenize(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    call_start(f, x, OPENAI_DETOKENIZE, who);
}
static void post_embeddings(struct front *f, struct http_exchange *x, const struct guard_caller *who) {
    call_start(f, x, OPENAI_EMBEDDING, who);
}

// --- dispatch

enum access {
    ACCESS_OPEN,     // for everybody who reaches the listener
    ACCESS_USER,     // with an API key, if there are any
    ACCESS_OPERATOR, // with an operator's
};

struct endpoint_row {
    const char *method, *path;
    void (*handle)(struct front *f, struct http_exchange *x, const struct guard_caller *who);
    enum access access;
};

static const struct endpoint_row api_rows[] = {
    {"POST", "/chat/completions", post_chat, ACCESS_USER},
    {"POST", "/completions", post_completions, ACCESS_USER},
    {"POST", "/tokenize", post_tokenize, ACCESS_USER},
    {"POST", "/detokenize", post_detokenize, ACCESS_USER},
    {"POST", "/embeddings", post_embeddings, ACCESS_USER},
    {"GET", "/models", get_models, ACCESS_USER},
    {"GET", "/livez", get_livez, ACCESS_OPEN},
    {"GET", "/readyz", get_readyz, ACCESS_OPEN},
    {"GET", "/health", get_readyz, ACCESS_OPEN},
    {"GET", "/metrics", get_metrics, ACCESS_OPERATOR},
};
static const struct endpoint_row admin_rows[] = {
    {"POST", "/drain", post_drain, ACCESS_OPEN}, // who reaches the socket may
    {"GET", "/livez", get_livez, ACCESS_OPEN},
    {"GET", "/readyz", get_readyz, ACCESS_OPEN},
    {"GET", "/metrics", get_metrics, ACCESS_OPEN},
};
static const struct endpoint_row metrics_rows[] = {{"GET", "/metrics", get_metrics, ACCESS_OPERATOR}};

static void preflight(struct http_exchange *x) {
    http_add_header(x, "Access-Control-Allow-Methods", "GET, POST, HEAD, OPTIONS");
    http_add_header(x, "Access-Control-Allow-Headers", "*");
    http_add_header(x, "Access-Control-Max-Age", "86400");
    http_respond(x, 204, NULL, NULL, 0);
}

// Answers 401 or 403 itself and returns false when the request may not do this.
static bool admit(struct front *f, struct http_exchange *x, enum access access, struct guard_caller *who) {
    const char *authorization = http_header(x, "Authorization");
    struct error e = {0};
    *who = (struct guard_caller){.role = API_OPERATOR};
    if (access == ACCESS_OPEN) return true;
    err_id id = access == ACCESS_USER ? guard_identify(f->options.guard, authorization, who, &e)
                                      : guard_identify_operator(f->options.guard, authorization, http_path(x), who, &e);
    if (id == ERR_NONE) return true;
    if (id == ERR_UNAUTHENTICATED) http_add_header(x, "WWW-Authenticate", guard_challenge(authorization));
    front_error(f, x, &e, 0);
    return false;
}

// The access that a row asks for on this listener.
static enum access access_of(const struct front *f, const struct endpoint_row *rows, const struct endpoint_row *row) {
    bool keyed = rows == metrics_rows ? f->metrics_listener_keyed : f->metrics_keyed;
    return row->handle == get_metrics && !keyed ? ACCESS_OPEN : row->access;
}

static void dispatch(struct front *f, struct http_exchange *x, const struct endpoint_row *rows, size_t n) {
    struct guard_caller who;
    const char *method = http_method(x), *path = http_path(x);
    struct error e;
    bool path_known = false;
    if (strcmp(method, "HEAD") == 0) method = "GET";
    if (strcmp(method, "OPTIONS") == 0) {
        preflight(x);
        return;
    }
    if (strncmp(path, "/beta/", 6) == 0) path += 5; // DeepSeek's base URL for prefix and suffix
    if (strncmp(path, "/v1/", 4) == 0) path += 3;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(rows[i].path, path) != 0) continue;
        path_known = true;
        if (strcmp(rows[i].method, method) == 0) {
            if (admit(f, x, access_of(f, rows, &rows[i]), &who)) rows[i].handle(f, x, &who);
            return;
        }
    }
    if (rows == api_rows && strcmp(method, "GET") == 0 && strncmp(path, "/models/", 8) == 0 && path[8]) {
        if (admit(f, x, ACCESS_USER, &who)) get_model(f, x, &who, path + 8);
        return;
    }
    if (path_known)
        error_set(&e, ERR_METHOD_NOT_ALLOWED, "%s does not answer %.16s", http_path(x), http_method(x));
    else
        error_set(&e, ERR_NOT_FOUND, "There is no %.16s %.128s here", http_method(x), http_path(x));
    front_error(f, x, &e, 0);
}

// Who has no key does not get to send a body either.
static err_id on_api_head(void *ctx, struct http_exchange *x, struct error *e) {
    struct front *f = ctx;
    const char *authorization = http_header(x, "Authorization");
    struct guard_caller who;
    err_id id = guard_identify(f->options.guard, authorization, &who, e);
    if (id == ERR_UNAUTHENTICATED) http_add_header(x, "WWW-Authenticate", guard_challenge(authorization));
    return id;
}

static void on_api(void *ctx, struct http_exchange *x) { dispatch(ctx, x, api_rows, ARRAY_LEN(api_rows)); }
static void on_admin(void *ctx, struct http_exchange *x) { dispatch(ctx, x, admin_rows, ARRAY_LEN(admin_rows)); }
static void on_metrics(void *ctx, struct http_exchange *x) { dispatch(ctx, x, metrics_rows, ARRAY_LEN(metrics_rows)); }

static void render_error(void *ctx, int status, const struct error *e, struct buf *body) { openai_render_error(body, e); }

// --- life

static err_id serve(struct front *f, const char *address, void (*on_request)(void *, struct http_exchange *),
                    const char *headers, struct http_server **out, struct error *e) {
    if (address == NULL || address[0] == '\0') return ERR_NONE;
    struct http_server_options o = {
        .loop = f->options.loop,
        .address = address,
        .header_bytes_max = f->options.header_bytes_max,
        .body_bytes_max = f->options.body_bytes_max,
        .connections_max = f->options.connections_max,
        .header_timeout_ms = f->options.timers.header_ms,
        .body_timeout_ms = f->options.timers.body_ms,
        .idle_timeout_ms = f->options.timers.idle_ms,
        .stall_timeout_ms = f->options.timers.stall_ms,
        .headers = headers,
        .ctx = f,
        .on_request = on_request,
        .on_head = on_request == on_api ? on_api_head : NULL,
        .render_error = render_error,
    };
    return http_server_create(&o, out, e);
}

err_id front_create(const struct front_options *options, struct front **out, struct error *e) {
    struct front *f = xcalloc(1, sizeof *f);
    f->options = *options;
    f->metrics = front_metrics_create();
    *out = f;
    f->metrics_keyed = guard_metrics_keyed(options->config, GUARD_API, options->http);
    f->metrics_listener_keyed = guard_metrics_keyed(options->config, GUARD_METRICS, options->metrics);
    TRY_GOTO(guard_check_listener(options->config, GUARD_API, options->http, e), fail_listen);
    TRY_GOTO(guard_check_listener(options->config, GUARD_ADMIN, options->admin, e), fail_listen);
    TRY_GOTO(guard_check_listener(options->config, GUARD_METRICS, options->metrics, e), fail_listen);
    TRY_GOTO(stream_keys_init(&f->keys, options->config, options->http, e), fail_listen);
    guard_warn_plaintext_http(options->http);
    TRY_GOTO(serve(f, options->http, on_api, "Access-Control-Allow-Origin: *\r\n", &f->api, e), fail_listen);
    TRY_GOTO(serve(f, options->admin, on_admin, NULL, &f->admin, e), fail_listen);
    TRY_GOTO(serve(f, options->metrics, on_metrics, NULL, &f->metrics_server, e), fail_listen);
    return ERR_NONE;
fail_listen:
    front_destroy(out);
    return e->id;
}

static void on_session(void *ctx, struct session *s, void *user, enum session_event event) { feed_event(user, event); }

struct session_output front_sessions(struct front *f) {
    return (struct session_output){.ctx = f, .event = on_session};
}
void front_run(struct front *f, struct router_core *core) { f->core = core; }
const char *front_address(const struct front *f) { return f->api ? http_server_address(f->api) : ""; }

ms_t front_turn(struct front *f, ms_t now) {
    if (f->over) return MS_NEVER;
    stream_keys_refresh(&f->keys, now);
    if (now >= f->scan_at) {
        f->scan_at = now + SCAN_MS;
        for (struct call *c = f->calls; c != NULL; c = c->next) call_scan(c, now);
    }
    while (f->dirty) {
        struct call *c = f->dirty;
        f->dirty = c->next_dirty;
        call_turn(c, now);
    }
    return f->calls ? f->scan_at : MS_NEVER;
}

void front_leave(struct front *f) {
    if (f->api) http_server_leave(f->api);
}

static void on_stopped(void *ctx) {
    struct front *f = ctx;
    f->stopping--;
}

static void stop(struct front *f, struct http_server *s) {
    if (s == NULL) return;
    f->stopping++;
    http_server_stop(s, on_stopped);
}

void front_stop(struct front *f) {
    stop(f, f->api);
    stop(f, f->metrics_server);
}

void front_hand_over(struct front *f, ms_t now) {
    for (struct call *c = f->calls, *next; c != NULL; c = next) {
        next = c->next;
        call_hand_over(c, now);
    }
    f->over = true;
}

bool front_idle(const struct front *f) { return (f->n_calls == 0 || f->over) && f->stopping == 0; }

void front_destroy(struct front **handle) {
    struct front *f = *handle;
    *handle = NULL;
    if (f == NULL) return;
    if (f->api) http_server_destroy(&f->api);
    if (f->admin) http_server_destroy(&f->admin);
    if (f->metrics_server) http_server_destroy(&f->metrics_server);
    while (f->calls) {
        struct call *c = f->calls;
        f->calls = c->next;
        for (uint32_t i = 0; i < c->answer.event.n; i++) feed_forget(c->choices[i].feed, &c->choices[i]);
        free(c->choices);
        free(c->answer.tools);
        free(c);
    }
    front_metrics_destroy(&f->metrics);
    buf_free(&f->out);
    free(f);
}
