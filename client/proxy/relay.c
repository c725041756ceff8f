#include "client/proxy/relay.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

enum {
    KEY_SIZE = 33,
    PENDING_MAX = 1 << 20, // bytes that a slow client has not taken, above which the router isn't read from
    BODY_MAX = 256 << 20,  // of an answer in one piece
    PAUSE_MS = 250,        // before all routers are tried again
};

struct relay {
    struct relay *next, *prev;
    struct proxy *proxy;
    struct http_exchange *x; // NULL: the client is gone or has its answer
    struct http_fetch *fetch;
    uv_timer_t rest;
    bool answer;        // it asks for an answer that routers can go on with
    bool own_key;       // the key is ours, not the client's
    char key[KEY_SIZE]; // if own_key
    uint32_t router;    // being asked
    uint32_t tried;     // routers in this round
    uint32_t takeover;  // times that a request that was sent had to be sent again
    ms_t since;         // when something last went well
    int status;         // of the head that came
    bool is_stream;     // it is of an event stream
    bool begun;         // the client has its head
    struct sse_reader events;
    struct buf body; // gathered, or to be written
    struct error why;
};

void relay_render_error(const struct error *e, struct buf *out) {
    buf_str(out, "{\"error\":{\"message\":\"");
    for (const char *s = error_text(e); *s; s++) {
        if (*s == '"' || *s == '\\') buf_char(out, '\\');
        buf_char(out, (unsigned char)*s < 0x20 ? ' ' : *s);
    }
    const struct error_info *info = error_info(e->id);
    buf_printf(out, "\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}", info->openai_type,
               info->openai_code ? info->openai_code : "error");
}

static void send_request(struct relay *r);

// --- the end

static void on_closed(uv_handle_t *handle) { free(handle->data); }

static void relay_free(struct relay *r) {
    struct proxy *p = r->proxy;
    *(r->prev ? &r->prev->next : &p->relays) = r->next;
    if (r->next) r->next->prev = r->prev;
    http_fetch_cancel(&r->fetch);
    sse_reader_fini(&r->events);
    buf_free(&r->body);
    uv_close((uv_handle_t *)&r->rest, on_closed);
}

void relay_drop_all(struct proxy *p) {
    while (p->relays) relay_free(p->relays);
}

static void fail(struct relay *r) {
    struct buf body = {0};
    log_warn("proxy_failed", "error=%s", error_text(&r->why));
    relay_render_error(&r->why, &body);
    if (r->begun) {
        http_stream_write(r->x, "data: ", 6);
        http_stream_write(r->x, body.data, body.len);
        http_stream_write(r->x, "\n\n", 2);
        http_abort(r->x);
    } else {
        http_respond(r->x, error_info(r->why.id)->http_status, "application/json", body.data, body.len);
    }
    buf_free(&body);
    relay_free(r);
}

// --- the next router

static void on_rest(uv_timer_t *timer) {
    struct relay *r = timer->data;
    r->tried = 0;
    send_request(r);
}

// This router did not do: the next one, or a pause when all have been tried.
static void go_on(struct relay *r) {
    const struct proxy_options *o = &r->proxy->options;
    uint32_t from = r->router;
    r->router = (r->router + 1) % o->n_routers;
    log_info("proxy_moves", "from=%s to=%s events=%s error=%s", o->routers[from].text, o->routers[r->router].text,
             r->events.any ? "yes" : "no", error_text(&r->why));
    sse_reader_restart(&r->events);
    if (++r->tried < o->n_routers) {
        send_request(r);
    } else if (clock_ms() - r->since < o->patience_ms) {
        uv_timer_start(&r->rest, on_rest, PAUSE_MS, 0);
    } else {
        fail(r);
    }
}

static bool repeatable(const struct relay *r) {
    const char *method = http_method(r->x);
    if (r->answer) return !r->events.any || r->events.id[0];
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

static void broke_off(struct relay *r, enum http_fetch_end how) {
    const char *router = r->proxy->options.routers[r->router].text;
    bool sent = how != FETCH_REFUSED;
    if (!sent)
        error_set(&r->why, ERR_UNAVAILABLE, "no router can be reached; the last one tried was %s", router);
    else
        error_set(&r->why, ERR_UNAVAILABLE, "the router %s %s before the answer was complete", router,
                  how == FETCH_SILENT ? "fell silent" : "was lost");
    if (sent) r->takeover++, r->since = clock_ms();
    if (sent && !repeatable(r))
        fail(r);
    else
        go_on(r);
}

// --- what the router says

static bool is_hop_by_hop(const char *name) {
    static const char *const names[] = {"Connection",
                                        "Keep-Alive",
                                        "Proxy-Connection",
                                        "Transfer-Encoding",
                                        "TE",
                                        "Trailer",
                                        "Upgrade",
                                        "Host",
                                        "Content-Length",
                                        "Expect",
                                        "Date",
                                        "Accept-Encoding",
                                        "Content-Type"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(names[i], name) == 0) return true;
    return false;
}

static void copy_head(struct relay *r) {
    const char *name, *value;
    for (uint32_t i = 0; http_fetch_header_at(r->fetch, i, &name, &value); i++)
        if (!is_hop_by_hop(name)) http_add_header(r->x, name, value);
}

static void on_head(void *ctx, int status) {
    struct relay *r = ctx;
    const char *type = http_fetch_header(r->fetch, "Content-Type");
    r->status = status;
    r->is_stream = status == 200 && type && strncasecmp(type, "text/event-stream", 17) == 0;
    buf_reset(&r->body);
    if (!r->is_stream) return;
    r->proxy->preferred = r->router;
    r->since = clock_ms();
    r->tried = 0;
    if (r->begun) return;
    copy_head(r);
    http_stream_begin(r->x, status, type);
    r->begun = true;
}

static void too_large(struct relay *r) {
    error_set(&r->why, ERR_TOO_LARGE, "the router's answer is larger than the proxy passes on");
    fail(r);
}

static void on_body(void *ctx, const char *data, size_t len) {
    struct relay *r = ctx;
    if (!r->is_stream) {
        if (r->body.len + len > BODY_MAX)
            too_large(r);
        else
            buf_append(&r->body, data, len);
        return;
    }
    buf_reset(&r->body);
    err_id id = sse_reader_take(&r->events, data, len, &r->body, &r->why);
    r->since = clock_ms();
    http_stream_write(r->x, r->body.data, r->body.len);
    if (id != ERR_NONE)
        fail(r);
    else if (http_stream_pending_bytes(r->x) > PENDING_MAX)
        http_fetch_pause(r->fetch, true);
}

// A stream that was to go on is refused.
static void refused_to_go_on(struct relay *r) {
    http_stream_write(r->x, "data: ", 6);
    http_stream_write(r->x, r->body.data, r->body.len);
    http_stream_write(r->x, "\n\n", 2);
    http_abort(r->x);
    r->fetch = NULL;
    relay_free(r);
}

// Another router may do what this one can't now.
static bool passing(const struct relay *r) {
    if (r->status == 503 || r->status == 502) return true;
    return r->begun && r->status == 429;
}

static void whole(struct relay *r) {
    const char *type = http_fetch_header(r->fetch, "Content-Type");
    bool others = r->begun || r->tried + 1 < r->proxy->options.n_routers;
    if (passing(r) && repeatable(r) && others) {
        r->fetch = NULL;
        error_set(&r->why, ERR_UNAVAILABLE, "the router %s answers %d", r->proxy->options.routers[r->router].text,
                  r->status);
        go_on(r);
    } else if (r->begun) {
        refused_to_go_on(r);
    } else {
        r->proxy->preferred = r->router;
        copy_head(r);
        http_respond(r->x, r->status, type, r->body.data, r->body.len);
        r->fetch = NULL;
        relay_free(r);
    }
}

static void on_end(void *ctx, enum http_fetch_end how) {
    struct relay *r = ctx;
    if (how == FETCH_COMPLETE && !r->is_stream) {
        whole(r);
        return;
    }
    r->fetch = NULL; // gone with this call
    if (r->is_stream && r->events.done && r->begun) {
        http_stream_end(r->x);
        relay_free(r);
    } else if (r->is_stream && r->events.failed) {
        http_abort(r->x);
        relay_free(r);
    } else {
        broke_off(r, how);
    }
}

// --- the request

static bool is_for_an_answer(const struct http_exchange *x) {
    const char *path = http_path(x), *last = strrchr(path, '/');
    return strcmp(http_method(x), "POST") == 0 && last && strcmp(last, "/completions") == 0;
}

static void put_headers(const struct relay *r, struct buf *out) {
    const char *name, *value;
    bool behind = r->events.id[0] != '\0';
    for (uint32_t i = 0; http_header_at(r->x, i, &name, &value); i++) {
        bool replaced = strcasecmp(name, "Last-Event-ID") == 0 && behind;
        bool type = strcasecmp(name, "Content-Type") == 0;
        if (!replaced && (type || !is_hop_by_hop(name))) buf_printf(out, "%s: %s\r\n", name, value);
    }
    if (behind) buf_printf(out, "Last-Event-ID: %s\r\n", r->events.id);
    if (!r->answer) return;
    if (r->own_key) buf_printf(out, "Idempotency-Key: %s\r\nShoal-Takeover: %u\r\n", r->key, r->takeover);
    if (r->own_key && !http_header(r->x, "Shoal-Resume")) buf_str(out, "Shoal-Resume: 0\r\n");
}

static void send_request(struct relay *r) {
    const struct proxy_router *router = &r->proxy->options.routers[r->router];
    struct buf headers = {0}, target = {0};
    size_t len;
    const char *body = http_body(r->x, &len), *query = http_query(r->x);
    put_headers(r, &headers);
    buf_printf(&target, "%s%s%s", http_path(r->x), query[0] ? "?" : "", query);
    struct http_fetch_options o = {.loop = r->proxy->options.loop,
                                   .host = router->host,
                                   .port = router->port,
                                   .method = http_method(r->x),
                                   .target = target.data,
                                   .headers = headers.data,
                                   .body = body,
                                   .body_len = len,
                                   .silence_ms = r->proxy->options.silence_ms,
                                   .ctx = r,
                                   .on_head = on_head,
                                   .on_body = on_body,
                                   .on_end = on_end};
    r->is_stream = false;
    r->fetch = http_fetch_start(&o);
    buf_free(&headers);
    buf_free(&target);
}

// --- the client

static void on_client_gone(void *ctx) {
    struct relay *r = ctx;
    r->x = NULL;
    relay_free(r); // closes the connection to the router, which cancels
}

static void on_writable(void *ctx) {
    struct relay *r = ctx;
    if (r->fetch) http_fetch_pause(r->fetch, false);
}

static void make_key(char out[KEY_SIZE]) {
    uint8_t bytes[(KEY_SIZE - 1) / 2];
    CHECK(getrandom(bytes, sizeof bytes, 0) == sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

void relay_start(struct proxy *p, struct http_exchange *x) {
    struct relay *r = xcalloc(1, sizeof *r);
    r->proxy = p;
    r->x = x;
    r->next = p->relays;
    if (r->next) r->next->prev = r;
    p->relays = r;
    CHECK(uv_timer_init(p->options.loop, &r->rest) == 0);
    r->rest.data = r;
    r->answer = is_for_an_answer(x);
    r->own_key = r->answer && http_header(x, "Idempotency-Key") == NULL;
    if (r->own_key) make_key(r->key);
    r->router = p->preferred;
    r->since = clock_ms();
    http_set_watch(x, &(struct http_watch){.ctx = r, .on_closed = on_client_gone, .on_writable = on_writable});
    send_request(r);
}
