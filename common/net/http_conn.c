// One connection. Bytes that come in are put into `in` and parsed as long as no exchange is with the handler; bytes that go
// out gather in `out` and are written once per turn of the loop, first with uv_try_write, the rest with one uv_write. A
// handler's call never parses or writes by itself: it marks the connection dirty, and the server turns dirty connections
// before the loop waits. So handlers are never entered from inside their own calls.
#include "common/net/http_internal.h"

#include "common/base/check.h"

#include <stdlib.h>
#include <string.h>

static void after_flush(struct http_conn *c);
static void set_reading(struct http_conn *c);

// An empty buffer that once held much keeps little: thousands of quiet connections are normal.
static void give_back(struct buf *b) {
    if (b->len == 0 && b->cap > HTTP_KEPT_BYTES) buf_free(b);
}

void http_conn_touch(struct http_conn *c) {
    if (c->state == CONN_CLOSED || !http_list_empty(&c->dirty)) return;
    http_list_add(&c->server->dirty, &c->dirty);
    c->server->n_dirty++;
    http_server_wake(c->server);
}

size_t http_conn_pending(const struct http_conn *c) {
    return c->out.len + uv_stream_get_write_queue_size(&c->socket.stream);
}

bool http_conn_is_idle(const struct http_conn *c) { return c->state == CONN_READING && c->x == NULL && c->in.len == 0; }

static void on_closed(uv_handle_t *handle) {
    struct http_conn *c = handle->data;
    struct http_server *s = c->server;
    buf_free(&c->in);
    buf_free(&c->out);
    buf_free(&c->flying);
    free(c);
    http_server_conn_gone(s);
}

void http_conn_close(struct http_conn *c) {
    if (c->state == CONN_CLOSED) return;
    if (c->state != CONN_BUSY) http_exchange_free(&c->x); // half received
    CHECK(c->x == NULL);
    c->state = CONN_CLOSED;
    if (!http_list_empty(&c->dirty)) c->server->n_dirty--;
    http_list_remove(&c->dirty);
    http_list_remove(&c->all);
    c->server->stats.connections--;
    bool tcp = c->socket.handle.type == UV_TCP;
    if (!(c->reset && tcp && uv_tcp_close_reset(&c->socket.tcp, on_closed) == 0)) uv_close(&c->socket.handle, on_closed);
}

void http_conn_lose(struct http_conn *c) {
    if (c->state == CONN_BUSY) {
        struct http_watch watch = c->x->watch;
        http_exchange_free(&c->x);
        c->server->stats.exchanges--;
        c->server->stats.disconnects_total++;
        http_conn_close(c);
        if (watch.on_closed) watch.on_closed(watch.ctx);
    } else {
        http_conn_close(c);
    }
}

static void on_shutdown(uv_shutdown_t *request, int status) {}

// All bytes are with the kernel. Closing right away could destroy them: bytes of the client that nobody read make the kernel
// send a reset. So shut down our side and read until the client closes too.
static void linger(struct http_conn *c) {
    if (c->eof || c->close_at_once || uv_shutdown(&c->shutdown, &c->socket.stream, on_shutdown) != 0) {
        http_conn_close(c);
        return;
    }
    c->state = CONN_LINGERING;
    c->deadline = http_now(c->server) + HTTP_LINGER_MS;
}

void http_conn_drain(struct http_conn *c) {
    if (c->state == CONN_CLOSED || c->state == CONN_LINGERING) return;
    http_exchange_free(&c->x);
    buf_reset(&c->in);
    set_reading(c);
    c->state = CONN_DRAINING;
    c->deadline = MS_NEVER;
    http_conn_touch(c);
}

void http_conn_exchange_done(struct http_conn *c, bool keep_alive) {
    if (!keep_alive || c->eof || c->server->stopping) {
        http_conn_drain(c);
        return;
    }
    c->state = CONN_READING;
    c->deadline = http_now(c->server) + c->server->options.idle_timeout_ms;
    http_conn_touch(c);
}

void http_conn_refuse(struct http_conn *c, int status, const struct error *e) {
    struct buf body = {0};
    const struct http_server_options *o = &c->server->options;
    if (o->render_error)
        o->render_error(o->ctx, status, e, &body);
    else
        buf_printf(&body, "%s\n", error_text(e));
    bool head = c->x && c->x->headers_done && c->x->method == HTTP_HEAD;
    http_head_write(c->server,
                    &(struct http_head){.status = status,
                                        .content_type = o->render_error ? "application/json" : "text/plain",
                                        .length = (int64_t)body.len,
                                        .added = c->x ? &c->x->added : NULL},
                    &c->out);
    if (!head) buf_append(&c->out, body.data, body.len);
    buf_free(&body);
    c->server->stats.errors_total++;
    http_conn_drain(c);
}

static void refuse_garbage(struct http_conn *c) {
    struct error e = {0};
    enum http_errno reason = HTTP_PARSER_ERRNO(&c->parser);
    if (c->refusal) {
        http_conn_refuse(c, c->refusal, &c->error);
    } else if (reason == HPE_HEADER_OVERFLOW) {
        error_set(&e, ERR_HEADERS_TOO_LARGE, "the request line and headers are too long");
        http_conn_refuse(c, 431, &e);
    } else {
        error_set(&e, ERR_INVALID_ARGUMENT, "the request is not valid HTTP/1.1: %s", http_errno_description(reason));
        http_conn_refuse(c, 400, &e);
    }
}

// A whole request is in c->x: now it is the handler's.
static void dispatch(struct http_conn *c) {
    struct http_server *s = c->server;
    c->state = CONN_BUSY;
    c->deadline = MS_NEVER;
    s->stats.requests_total++;
    s->stats.exchanges++;
    s->options.on_request(s->options.ctx, c->x);
}

static bool may_parse(const struct http_conn *c) {
    return c->state == CONN_READING && !c->eof && http_conn_pending(c) <= HTTP_OUT_HIGH;
}

// Parses what is in `in` until it is used up, a request is with the handler, or the client has to take answers first.
static void advance(struct http_conn *c) {
    size_t used = 0;
    while (may_parse(c) && used < c->in.len) {
        size_t n = http_parser_execute(&c->parser, &http_request_settings, c->in.data + used, c->in.len - used);
        used += n;
        enum http_errno reason = HTTP_PARSER_ERRNO(&c->parser);
        if (reason == HPE_PAUSED) {
            http_parser_pause(&c->parser, 0);
            dispatch(c);
        } else if (reason != HPE_OK) {
            refuse_garbage(c);
        }
    }
    if (c->state == CONN_CLOSED || c->state == CONN_DRAINING) return;
    buf_consume(&c->in, used);
    give_back(&c->in);
    set_reading(c);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    struct http_conn *c = handle->data; // one buffer for all: libuv reads into it and calls on_read at once
    *buffer = uv_buf_init(c->server->read_buffer, HTTP_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    struct http_conn *c = stream->data;
    if (n > 0 && (c->state == CONN_READING || c->state == CONN_BUSY)) {
        buf_append(&c->in, buffer->base, (size_t)n);
        advance(c);
    } else if (n == UV_EOF && c->state == CONN_DRAINING) {
        c->eof = true;
        uv_read_stop(stream);
    } else if (n == UV_EOF && c->state == CONN_READING && http_conn_pending(c) > 0) {
        c->eof = true; // answers that are complete still go out
        uv_read_stop(stream);
        http_conn_drain(c);
    } else if (n < 0) {
        http_conn_lose(c);
    }
}

// Reads unless the client has sent more of the requests to come than are kept.
static void set_reading(struct http_conn *c) {
    bool stop = c->eof || c->in.len >= HTTP_PIPELINE_BYTES;
    if (stop == c->read_stopped) return;
    c->read_stopped = stop;
    if (stop)
        uv_read_stop(&c->socket.stream);
    else
        uv_read_start(&c->socket.stream, on_alloc, on_read);
}

void http_conn_start(struct http_conn *c) {
    http_parser_init(&c->parser, HTTP_REQUEST);
    c->parser.data = c;
    c->state = CONN_READING;
    c->deadline = http_now(c->server) + c->server->options.idle_timeout_ms;
    uv_read_start(&c->socket.stream, on_alloc, on_read);
}

static void on_written(uv_write_t *request, int status) {
    struct http_conn *c = request->data;
    c->writing = false;
    if (c->state == CONN_CLOSED) return;
    if (status != 0) {
        http_conn_lose(c);
        return;
    }
    buf_reset(&c->flying);
    give_back(&c->flying);
    c->progress_at = http_now(c->server);
    after_flush(c);
    http_conn_touch(c); // more to write, or requests that waited for this
}

static void flush(struct http_conn *c) {
    if (c->writing || c->out.len == 0) return;
    uv_buf_t bytes = uv_buf_init(c->out.data, (unsigned)c->out.len);
    int n = uv_try_write(&c->socket.stream, &bytes, 1);
    if (n < 0 && n != UV_EAGAIN) {
        http_conn_lose(c);
        return;
    }
    size_t done = n > 0 ? (size_t)n : 0;
    c->progress_at = http_now(c->server);
    if (done == c->out.len) {
        buf_reset(&c->out);
        give_back(&c->out);
    } else {
        struct buf empty = c->flying;
        c->flying = c->out;
        c->out = empty;
        bytes = uv_buf_init(c->flying.data + done, (unsigned)(c->flying.len - done));
        c->write.data = c;
        c->writing = true;
        if (uv_write(&c->write, &c->socket.stream, &bytes, 1, on_written) != 0) {
            c->writing = false;
            http_conn_lose(c);
            return;
        }
    }
    after_flush(c);
}

// Tells a stream that it may write again; closes a drained connection.
static void after_flush(struct http_conn *c) {
    struct http_exchange *x = c->state == CONN_BUSY ? c->x : NULL;
    if (x && x->above_low_water && http_conn_pending(c) <= HTTP_LOW_WATER) {
        x->above_low_water = false;
        if (x->watch.on_writable) x->watch.on_writable(x->watch.ctx);
    }
    if (c->state == CONN_DRAINING && !c->writing && c->out.len == 0) linger(c);
}

void http_conn_turn(struct http_conn *c) {
    flush(c);
    if (c->state == CONN_DRAINING) after_flush(c); // nothing had to be written
    if (c->state == CONN_READING && c->in.len) advance(c);
}
