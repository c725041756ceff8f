// A load on a server of OpenAI's API: one streamed completion a request, each over a connection of its own, as most clients
// behind a load balancer have it.
#include "client/bench/target.h"

#include "client/proxy/sse_reader.h"
#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/net/http_fetch.h"
#include "common/sys/endpoint.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct http_target {
    uv_loop_t *loop;
    struct target_http_options options;
    char host[ADDRESS_SIZE], path[256];
    uint16_t port;
    struct buf headers;
    struct target_listener listener;
    struct fetch *fetches;
};

struct fetch {
    struct http_target *target;
    struct fetch *next, *prev;
    struct http_fetch *http;
    void *user;
    int status;
    struct sse_reader events;
    struct buf whole; // events that are whole; an error's body
    struct target_end end;
};

static void finish(struct fetch *f) {
    struct http_target *t = f->target;
    if (f->prev)
        f->prev->next = f->next;
    else
        t->fetches = f->next;
    if (f->next) f->next->prev = f->prev;
    t->listener.on_end(t->listener.ctx, f->user, &f->end);
    sse_reader_fini(&f->events);
    buf_free(&f->whole);
    free(f);
}

static const char *text_in(const json_t *chunk) {
    const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0), *delta = json_object_get(choice, "delta");
    const char *text = json_string_value(json_object_get(choice, "text"));
    if (text == NULL) text = json_string_value(json_object_get(delta, "content"));
    if (text == NULL || *text == '\0') {
        const char *thought = json_string_value(json_object_get(delta, "reasoning_content"));
        if (thought) text = thought;
    }
    return text;
}

static void take_usage(struct fetch *f, const json_t *usage) {
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
    f->end.prompt_tokens = (uint32_t)json_integer_value(json_object_get(usage, "prompt_tokens"));
    f->end.output_tokens = (uint32_t)json_integer_value(json_object_get(usage, "completion_tokens"));
    f->end.cached_tokens = (uint32_t)json_integer_value(json_object_get(details, "cached_tokens"));
}

static void take_event(struct fetch *f, const char *data, size_t len) {
    json_t *chunk = json_loadb(data, len, 0, NULL);
    const json_t *usage = json_object_get(chunk, "usage"), *error = json_object_get(chunk, "error");
    const char *text = text_in(chunk);
    if (error) {
        const char *code = json_string_value(json_object_get(error, "code"));
        snprintf(f->end.error, sizeof f->end.error, "in the stream: %.30s", code ? code : "error");
    }
    if (json_is_object(usage)) take_usage(f, usage);
    if (text && *text) f->target->listener.on_tokens(f->target->listener.ctx, f->user);
    json_decref(chunk);
}

static void take_events(struct fetch *f) {
    const char *at = f->whole.data, *end = at + f->whole.len;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (newline == NULL) break;
        if (newline - at > 6 && memcmp(at, "data: ", 6) == 0 && memcmp(at + 6, "[DONE]", 6) != 0)
            take_event(f, at + 6, (size_t)(newline - at) - 6);
        at = newline + 1;
    }
    buf_reset(&f->whole);
}

static void on_head(void *ctx, int status) { ((struct fetch *)ctx)->status = status; }

static void on_body(void *ctx, const char *data, size_t len) {
    struct fetch *f = ctx;
    struct error e;
    if (f->status != 200) return;
    if (sse_reader_take(&f->events, data, len, &f->whole, &e) == ERR_NONE && f->whole.len > 0) take_events(f);
}

static void on_end(void *ctx, enum http_fetch_end how) {
    static const char *const kinds[] = {"", "no connection", "connection broken", "silent for too long"};
    struct fetch *f = ctx;
    bool over = how == FETCH_COMPLETE;
    f->http = NULL;
    if (over && f->status != 200)
        snprintf(f->end.error, sizeof f->end.error, "HTTP %d", f->status);
    else if (!over)
        snprintf(f->end.error, sizeof f->end.error, "%s", kinds[how]);
    else if (!f->events.done && f->end.error[0] == '\0')
        snprintf(f->end.error, sizeof f->end.error, "ended without [DONE]");
    f->end.complete = f->end.error[0] == '\0';
    finish(f);
}

static void make_body(const struct http_target *t, const struct target_request *q, struct buf *out) {
    json_t *root = json_object(), *prompt = json_stringn(q->prompt, q->prompt_len);
    json_object_set_new(root, "model", json_string(t->options.model));
    if (t->options.chat)
        json_object_set_new(root, "messages", json_pack("[{s:s, s:o}]", "role", "user", "content", prompt));
    else
        json_object_set_new(root, "prompt", prompt);
    json_object_set_new(root, "max_tokens", json_integer(q->output_tokens));
    json_object_set_new(root, "ignore_eos", json_true());
    json_object_set_new(root, "seed", json_integer((json_int_t)(q->seed >> 1)));
    json_object_set_new(root, "stream", json_true());
    json_object_set_new(root, "stream_options", json_pack("{s:b}", "include_usage", 1));
    char *text = json_dumps(root, JSON_COMPACT);
    buf_str(out, text);
    free(text);
    json_decref(root);
}

static void start(void *self, const struct target_request *q) {
    struct http_target *t = self;
    struct fetch *f = xcalloc(1, sizeof *f);
    struct buf body = {0};
    make_body(t, q, &body);
    f->target = t, f->user = q->user, f->next = t->fetches;
    if (t->fetches) t->fetches->prev = f;
    t->fetches = f;
    struct http_fetch_options o = {
        .loop = t->loop,
        .host = t->host,
        .port = t->port,
        .method = "POST",
        .target = t->path,
        .headers = t->headers.data,
        .body = body.data,
        .body_len = body.len,
        .silence_ms = t->options.timeout_ms,
        .ctx = f,
        .on_head = on_head,
        .on_body = on_body,
        .on_end = on_end,
    };
    f->http = http_fetch_start(&o);
    buf_free(&body);
}

static void stop(void *self) {
    struct http_target *t = self;
    while (t->fetches) {
        struct fetch *f = t->fetches;
        http_fetch_cancel(&f->http);
        snprintf(f->end.error, sizeof f->end.error, "interrupted");
        finish(f);
    }
}

static void destroy(void *self) {
    struct http_target *t = self;
    stop(t);
    buf_free(&t->headers);
    free(t);
}

err_id target_http(uv_loop_t *loop, const struct target_http_options *o, const struct target_listener *listener,
                   struct target *out, struct error *e) {
    static const char scheme[] = "http://";
    const char *address = strncmp(o->url, scheme, strlen(scheme)) == 0 ? o->url + strlen(scheme) : o->url;
    char authority[ADDRESS_SIZE];
    size_t n = strcspn(address, "/");
    struct endpoint p;
    snprintf(authority, sizeof authority, "%.*s", (int)n, address);
    size_t path_len = strlen(address + n);
    while (path_len > 0 && address[n + path_len - 1] == '/') path_len--;
    bool bad = n >= sizeof authority || path_len > 200 || strstr(address, "://") ||
               endpoint_parse(authority, &p, e) != ERR_NONE || p.kind != ENDPOINT_TCP || p.host[0] == '\0' || p.port == 0;
    if (bad)
        return error_set(e, ERR_INVALID_ARGUMENT, "'%.200s' is not an address of a server; expected http://host:port",
                         o->url);
    struct http_target *t = xcalloc(1, sizeof *t);
    t->loop = loop, t->options = *o, t->listener = *listener, t->port = p.port;
    snprintf(t->host, sizeof t->host, "%s", p.host);
    snprintf(t->path, sizeof t->path, "%.*s/%s", path_len ? (int)path_len : 3, path_len ? address + n : "/v1",
             o->chat ? "chat/completions" : "completions");
    buf_str(&t->headers, "Content-Type: application/json\r\n");
    if (o->api_key) buf_printf(&t->headers, "Authorization: Bearer %s\r\n", o->api_key);
    *out = (struct target){t, start, stop, destroy};
    return ERR_NONE;
}
