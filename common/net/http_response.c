#include "common/net/http_internal.h"

#include "common/base/check.h"
#include "common/sys/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

// RFC 9110 §5.6.7; made once a second.
static const char *date_text(struct http_server *s) {
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm t;
    if (now != s->date_at && gmtime_r(&now, &t)) {
        strftime(s->date, sizeof s->date, "%a, %d %b %Y %H:%M:%S GMT", &t);
        s->date_at = now;
    }
    return s->date;
}

void http_head_write(struct http_server *s, const struct http_head *head, struct buf *out) {
    buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", head->status, http_status_str((enum http_status)head->status),
               date_text(s));
    if (head->content_type) buf_printf(out, "Content-Type: %s\r\n", head->content_type);
    if (head->length >= 0 && head->status != 204)
        buf_printf(out, "Content-Length: %" PRId64 "\r\n", head->length);
    else if (head->length < 0 && !head->http10)
        buf_str(out, "Transfer-Encoding: chunked\r\n");
    if (!head->keep_alive)
        buf_str(out, "Connection: close\r\n");
    else if (head->http10)
        buf_str(out, "Connection: keep-alive\r\n");
    if (s->headers) buf_str(out, s->headers);
    if (head->added && head->added->len) buf_append(out, head->added->data, head->added->len);
    buf_str(out, "\r\n");
}

// Values may hold what clients or workers chose; nothing in them may end the header.
static void put_printable(const char *s, struct buf *out) {
    for (; *s; s++) buf_char(out, (unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s);
}

void http_set_watch(struct http_exchange *x, const struct http_watch *watch) { x->watch = *watch; }

void http_add_header(struct http_exchange *x, const char *name, const char *value) {
    CHECK(!x->begun);
    buf_printf(&x->added, "%s: ", name);
    put_printable(value, &x->added);
    buf_str(&x->added, "\r\n");
}

// The exchange goes back to the server.
static void finish(struct http_exchange *x, bool keep_alive) {
    struct http_conn *c = x->conn;
    http_exchange_free(&c->x);
    c->server->stats.exchanges--;
    http_conn_exchange_done(c, keep_alive);
}

void http_respond(struct http_exchange *x, int status, const char *content_type, const void *body, size_t len) {
    struct http_conn *c = x->conn;
    CHECK(!x->begun);
    bool keep_alive = x->keep_alive && !c->server->leaving;
    struct http_head head = {.status = status, .content_type = content_type, .length = (int64_t)len, .added = &x->added};
    head.keep_alive = keep_alive;
    head.http10 = x->http10;
    http_head_write(c->server, &head, &c->out);
    if (len && x->method != HTTP_HEAD && status != 204) buf_append(&c->out, body, len);
    finish(x, keep_alive);
}

void http_stream_begin(struct http_exchange *x, int status, const char *content_type) {
    struct http_conn *c = x->conn;
    CHECK(!x->begun);
    x->begun = true;
    x->chunked = !x->http10;
    x->keep_alive = x->keep_alive && x->chunked && !c->server->leaving;
    struct http_head head = {.status = status, .content_type = content_type, .length = -1, .added = &x->added};
    head.keep_alive = x->keep_alive;
    head.http10 = x->http10;
    http_head_write(c->server, &head, &c->out);
    http_conn_touch(c);
}

bool http_stream_begun(const struct http_exchange *x) { return x->begun; }

void http_stream_write(struct http_exchange *x, const void *data, size_t len) {
    struct http_conn *c = x->conn;
    CHECK(x->begun);
    if (len == 0 || x->method == HTTP_HEAD) return; // a chunk of no bytes would be the last one
    if (x->chunked) buf_printf(&c->out, "%zx\r\n", len);
    buf_append(&c->out, data, len);
    if (x->chunked) buf_append(&c->out, "\r\n", 2);
    if (http_conn_pending(c) > HTTP_LOW_WATER) x->above_low_water = true;
    http_conn_touch(c);
}

void http_stream_end(struct http_exchange *x) {
    CHECK(x->begun);
    if (x->chunked && x->method != HTTP_HEAD) buf_str(&x->conn->out, "0\r\n\r\n");
    finish(x, x->keep_alive);
}

size_t http_stream_pending_bytes(const struct http_exchange *x) { return http_conn_pending(x->conn); }

void http_abort(struct http_exchange *x) {
    struct http_conn *c = x->conn;
    c->close_at_once = true;
    c->reset = x->begun && !x->chunked;
    finish(x, false);
}
