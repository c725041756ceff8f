#include "tests/unit/common/net/http_world.h"

#include "common/base/buf.h"
#include "tests/unit/common/net/until.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void on_closed(void *ctx) { ((struct http_world *)ctx)->n_closed++; }
static void on_writable(void *ctx) { ((struct http_world *)ctx)->n_writable++; }

static void echo(struct http_exchange *x) {
    struct buf answer = {0};
    size_t len;
    const char *body = http_body(x, &len);
    buf_printf(&answer, "%s %s?%s ", http_method(x), http_path(x), http_query(x));
    buf_append(&answer, body, len);
    http_respond(x, 200, "text/plain", answer.data, answer.len);
    buf_free(&answer);
}

static void on_request(void *ctx, struct http_exchange *x) {
    struct http_world *w = ctx;
    bool stream = strcmp(http_path(x), "/stream") == 0;
    if (!stream && strcmp(http_path(x), "/later") != 0) {
        echo(x);
        return;
    }
    assert_true(w->n_held < HELD_MAX);
    w->held[w->n_held++] = x;
    http_set_watch(x, &(struct http_watch){.ctx = w, .on_closed = on_closed, .on_writable = on_writable});
    if (stream) http_stream_begin(x, 200, "text/event-stream");
}

static void render_error(void *ctx, int status, const struct error *e, struct buf *body) {
    buf_printf(body, "{\"error\":\"%s\",\"status\":%d}", error_text(e), status);
}

void world_open(struct http_world *w, const struct http_server_options *options) {
    struct error e = {0};
    struct http_server_options o = {.address = "127.0.0.1:0"};
    *w = (struct http_world){.server = NULL};
    uv_loop_init(&w->loop);
    if (options) o = *options;
    o.loop = &w->loop;
    o.ctx = w;
    o.on_request = on_request;
    o.render_error = render_error;
    if (o.address == NULL) o.address = "127.0.0.1:0";
    if (http_server_create(&o, &w->server, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
}

void world_close(struct http_world *w) {
    http_server_destroy(&w->server);
    loop_finish(&w->loop);
}

struct wanted {
    struct http_world *w;
    unsigned n;
};
static bool has_held(void *ctx) { return ((struct wanted *)ctx)->w->n_held >= ((struct wanted *)ctx)->n; }
static bool has_closed(void *ctx) { return ((struct wanted *)ctx)->w->n_closed >= ((struct wanted *)ctx)->n; }

void world_run_until_held(struct http_world *w, unsigned n) {
    run_until(&w->loop, has_held, &(struct wanted){w, n}, "the handler has the exchange");
}
void world_run_until_closed(struct http_world *w, unsigned n) {
    run_until(&w->loop, has_closed, &(struct wanted){w, n}, "the handler hears of the disconnect");
}
