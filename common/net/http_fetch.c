#include "common/net/http_fetch.h"

#include "common/base/buf.h"
#include "common/base/check.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { READ_BYTES = 64 << 10 };

struct field {
    uint32_t name, value; // offsets in text
};

struct http_fetch {
    struct http_fetch_options options; // its strings are void after the start
    uv_tcp_t socket;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_write_t write;
    uv_getaddrinfo_t resolve;
    struct addrinfo *addresses, *next_address;
    int handles;    // not closed yet
    bool resolving; // keeps the memory
    bool connected, headed, complete, paused, closing, told;
    http_parser parser;
    struct buf request, text;
    struct field fields[HTTP_FETCH_HEADERS_MAX];
    uint32_t n_fields;
    bool in_value;
    char read_buffer[READ_BYTES];
};

// --- the end

static void free_when_closed(struct http_fetch *f) {
    if (f->handles > 0 || f->resolving) return;
    if (f->addresses) uv_freeaddrinfo(f->addresses);
    buf_free(&f->request);
    buf_free(&f->text);
    free(f);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct http_fetch *f = handle->data;
    f->handles--;
    free_when_closed(f);
}

static void close_all(struct http_fetch *f) {
    if (f->closing) return;
    f->closing = true;
    if (f->resolving) uv_cancel((uv_req_t *)&f->resolve);
    uv_close((uv_handle_t *)&f->timer, on_handle_closed);
    bool open = f->handles == 2 && !uv_is_closing((uv_handle_t *)&f->socket);
    if (open) uv_close((uv_handle_t *)&f->socket, on_handle_closed);
}

static void end(struct http_fetch *f, enum http_fetch_end how) {
    if (f->told) return;
    f->told = true;
    close_all(f);
    f->options.on_end(f->options.ctx, how);
}

void http_fetch_cancel(struct http_fetch **fetch) {
    struct http_fetch *f = *fetch;
    *fetch = NULL;
    if (f == NULL) return;
    f->told = true;
    close_all(f);
}

static void lost(struct http_fetch *f) { end(f, f->complete ? FETCH_COMPLETE : FETCH_BROKEN); }

// --- time

static void on_time(uv_timer_t *timer) {
    struct http_fetch *f = timer->data;
    end(f, f->connected ? FETCH_SILENT : FETCH_REFUSED);
}

static void watch_silence(struct http_fetch *f) {
    bool watched = f->headed && f->options.silence_ms > 0 && !f->paused;
    if (watched)
        uv_timer_start(&f->timer, on_time, f->options.silence_ms, 0);
    else
        uv_timer_stop(&f->timer);
}

// --- the answer

static int append(struct http_fetch *f, const char *at, size_t len) {
    if (f->text.len + len + 2 > HTTP_FETCH_HEADER_BYTES) return -1;
    buf_append(&f->text, at, len);
    return 0;
}

static uint32_t next_piece(struct http_fetch *f) {
    buf_char(&f->text, '\0');
    return (uint32_t)f->text.len;
}

static int on_field(http_parser *parser, const char *at, size_t len) {
    struct http_fetch *f = parser->data;
    if (f->headed) return 0; // trailers
    if (f->in_value || f->n_fields == 0) {
        if (f->n_fields == HTTP_FETCH_HEADERS_MAX) return -1;
        f->fields[f->n_fields++] = (struct field){next_piece(f), 0};
        f->in_value = false;
    }
    return append(f, at, len);
}

static int on_value(http_parser *parser, const char *at, size_t len) {
    struct http_fetch *f = parser->data;
    if (f->headed) return 0;
    if (!f->in_value) f->fields[f->n_fields - 1].value = next_piece(f);
    f->in_value = true;
    return append(f, at, len);
}

static int on_headers(http_parser *parser) {
    struct http_fetch *f = parser->data;
    next_piece(f);
    bool head = strcasecmp(f->options.method, "HEAD") == 0;
    if (parser->status_code / 100 == 1) return 0; // an interim answer: the real one follows
    f->headed = true;
    f->options.on_head(f->options.ctx, parser->status_code);
    if (f->told) return -1;
    return head ? 1 : 0;
}

static int on_body(http_parser *parser, const char *at, size_t len) {
    struct http_fetch *f = parser->data;
    f->options.on_body(f->options.ctx, at, len);
    return f->told ? -1 : 0;
}

static int on_complete(http_parser *parser) {
    struct http_fetch *f = parser->data;
    if (f->headed) {
        f->complete = true;
        return -1; // what follows is not for us
    }
    buf_reset(&f->text);
    f->n_fields = 0;
    f->in_value = false;
    return 0;
}

static const http_parser_settings settings = {
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_headers,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out) {
    struct http_fetch *f = handle->data;
    *out = uv_buf_init(f->read_buffer, sizeof f->read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *data) {
    struct http_fetch *f = stream->data;
    if (n == 0 || f->told) return;
    if (n == UV_EOF) http_parser_execute(&f->parser, &settings, NULL, 0); // the end of a body without length
    size_t used = n > 0 ? http_parser_execute(&f->parser, &settings, data->base, (size_t)n) : 0;
    if (f->told) return;
    if (f->complete || n < 0 || used != (size_t)n)
        lost(f);
    else
        watch_silence(f);
}

const char *http_fetch_header(const struct http_fetch *f, const char *name) {
    for (uint32_t i = 0; i < f->n_fields; i++) {
        if (strcasecmp(f->text.data + f->fields[i].name, name) == 0) return f->text.data + f->fields[i].value;
    }
    return NULL;
}

bool http_fetch_header_at(const struct http_fetch *f, uint32_t i, const char **name, const char **value) {
    if (i >= f->n_fields) return false;
    *name = f->text.data + f->fields[i].name;
    *value = f->fields[i].value ? f->text.data + f->fields[i].value : "";
    return true;
}

void http_fetch_pause(struct http_fetch *f, bool pause) {
    if (f->paused == pause || f->closing) return;
    f->paused = pause;
    if (pause)
        uv_read_stop((uv_stream_t *)&f->socket);
    else
        uv_read_start((uv_stream_t *)&f->socket, on_alloc, on_read);
    watch_silence(f);
}

// --- the request

static void on_written(uv_write_t *write, int status) {} // a failure shows when reading

static void try_next(struct http_fetch *f);

static void on_connected(uv_connect_t *connect, int status) {
    struct http_fetch *f = connect->data;
    if (f->told) return;
    if (status != 0) {
        try_next(f);
        return;
    }
    f->connected = true;
    uv_timer_stop(&f->timer);
    uv_tcp_nodelay(&f->socket, 1);
    uv_buf_t data = uv_buf_init(f->request.data, (unsigned)f->request.len);
    f->write.data = f;
    if (uv_write(&f->write, (uv_stream_t *)&f->socket, &data, 1, on_written) != 0 ||
        uv_read_start((uv_stream_t *)&f->socket, on_alloc, on_read) != 0)
        lost(f);
}

static void on_failed_socket_closed(uv_handle_t *handle) {
    struct http_fetch *f = handle->data;
    f->handles--;
    if (f->closing)
        free_when_closed(f);
    else
        try_next(f);
}

// Connects to the next of the name's addresses. A socket that failed is closed first, and we come back.
static void try_next(struct http_fetch *f) {
    if (f->handles == 2) {
        if (f->next_address == NULL)
            end(f, FETCH_REFUSED);
        else
            uv_close((uv_handle_t *)&f->socket, on_failed_socket_closed);
        return;
    }
    const struct addrinfo *a = f->next_address;
    f->next_address = a->ai_next;
    CHECK(uv_tcp_init(f->options.loop, &f->socket) == 0);
    f->socket.data = f->connect.data = f;
    f->handles++;
    if (uv_tcp_connect(&f->connect, &f->socket, a->ai_addr, on_connected) != 0) try_next(f);
}

static void on_resolved(uv_getaddrinfo_t *resolve, int status, struct addrinfo *addresses) {
    struct http_fetch *f = resolve->data;
    f->resolving = false;
    f->addresses = f->next_address = addresses;
    if (f->closing)
        free_when_closed(f);
    else if (status != 0 || addresses == NULL)
        end(f, FETCH_REFUSED);
    else
        try_next(f);
}

static void write_request(struct http_fetch *f) {
    const struct http_fetch_options *o = &f->options;
    bool v6 = strchr(o->host, ':') != NULL;
    bool sends = o->body_len > 0 || strcmp(o->method, "POST") == 0 || strcmp(o->method, "PUT") == 0 ||
                 strcmp(o->method, "PATCH") == 0;
    buf_printf(&f->request, "%s %s HTTP/1.1\r\nHost: %s%s%s:%u\r\nConnection: close\r\n", o->method, o->target,
               v6 ? "[" : "", o->host, v6 ? "]" : "", o->port);
    if (sends) buf_printf(&f->request, "Content-Length: %zu\r\n", o->body_len);
    if (o->headers) buf_str(&f->request, o->headers);
    buf_str(&f->request, "\r\n");
    if (o->body_len) buf_append(&f->request, o->body, o->body_len);
}

struct http_fetch *http_fetch_start(const struct http_fetch_options *options) {
    struct http_fetch *f = xcalloc(1, sizeof *f);
    f->options = *options;
    write_request(f);
    f->options.method = strcmp(options->method, "HEAD") == 0 ? "HEAD" : "";
    http_parser_init(&f->parser, HTTP_RESPONSE);
    f->parser.data = f->timer.data = f->resolve.data = f;
    CHECK(uv_timer_init(options->loop, &f->timer) == 0);
    f->handles = 1;
    char port[8];
    snprintf(port, sizeof port, "%u", options->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    f->resolving = uv_getaddrinfo(options->loop, &f->resolve, on_resolved, options->host, port, &hints) == 0;
    uv_timer_start(&f->timer, on_time, f->resolving ? HTTP_FETCH_CONNECT_MS : 0, 0);
    return f;
}
