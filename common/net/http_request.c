// The parser's callbacks: they gather one request into conn->x. A callback that finds a limit passed puts the refusal into
// the connection and stops the parser.
#include "common/net/http_internal.h"

#include "common/base/check.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int refuse(struct http_conn *c, int status, err_id id, const char *sentence, unsigned limit) {
    c->refusal = status;
    error_set(&c->error, id, sentence, limit);
    return -1; // not 1: from on_headers_complete that would mean "no body"
}

static int on_begin(http_parser *parser) {
    struct http_conn *c = parser->data;
    CHECK(c->x == NULL);
    c->x = xcalloc(1, sizeof *c->x);
    c->x->conn = c;
    c->deadline = http_now(c->server) + c->server->options.header_timeout_ms;
    return 0;
}

static int append(struct http_conn *c, const char *at, size_t len) {
    uint32_t max = c->server->options.header_bytes_max;
    if (c->x->text.len + len + 2 > max)
        return refuse(c, 431, ERR_HEADERS_TOO_LARGE, "the request line and headers are longer than %u bytes", max);
    buf_append(&c->x->text, at, len);
    return 0;
}

static int on_url(http_parser *parser, const char *at, size_t len) { return append(parser->data, at, len); }

// Ends the piece of text before, and says where the next begins.
static uint32_t next_piece(struct http_exchange *x) {
    buf_char(&x->text, '\0');
    return (uint32_t)x->text.len;
}

static int on_field(http_parser *parser, const char *at, size_t len) {
    struct http_conn *c = parser->data;
    struct http_exchange *x = c->x;
    if (x->headers_done) return 0; // trailers are read and forgotten
    if (memchr(at, ' ', len))      // the distribution's parser lets it pass; others would read another header there
        return refuse(c, 400, ERR_INVALID_ARGUMENT, "the request is not valid HTTP/1.1: a blank in a header's name", 0);
    if (x->in_value || x->n_headers == 0) {
        if (x->n_headers == HTTP_HEADERS_MAX)
            return refuse(c, 431, ERR_HEADERS_TOO_LARGE, "the request has more than %u header fields", HTTP_HEADERS_MAX);
        x->headers[x->n_headers++].name = next_piece(x);
        x->in_value = false;
    }
    return append(c, at, len);
}

static int on_value(http_parser *parser, const char *at, size_t len) {
    struct http_conn *c = parser->data;
    struct http_exchange *x = c->x;
    if (x->headers_done) return 0;
    if (!x->in_value) {
        x->headers[x->n_headers - 1].value = next_piece(x);
        x->in_value = true;
    }
    return append(c, at, len);
}

// Splits the url in place into path and query and makes runs of '/' one.
static void split_url(struct http_exchange *x) {
    char *url = x->text.data, *scheme;
    if (url[0] != '/' && (scheme = strstr(url, "://")) != NULL) { // the absolute form, as proxies send it
        size_t authority = strcspn(scheme + 3, "/?#");
        url = scheme + 3 + authority;
    }
    char *fragment = strchr(url, '#');
    if (fragment) *fragment = '\0';
    char *query = strchr(url, '?'), *end = url + strlen(url);
    if (query) *query++ = '\0';
    x->query = (uint32_t)((query ? query : end) - x->text.data);
    x->path = (uint32_t)(url - x->text.data);
    char *to = url;
    for (const char *from = url; *from; from++)
        if (*from != '/' || to == url || to[-1] != '/') *to++ = *from;
    *to = '\0';
}

static int on_headers_complete(http_parser *parser) {
    struct http_conn *c = parser->data;
    struct http_exchange *x = c->x;
    const struct http_server_options *o = &c->server->options;
    next_piece(x);
    x->headers_done = true;
    x->method = parser->method;
    x->http10 = parser->http_major < 1 || (parser->http_major == 1 && parser->http_minor == 0);
    x->keep_alive = http_should_keep_alive(parser);
    split_url(x);
    if (parser->http_major != 1)
        return refuse(c, 505, ERR_INVALID_ARGUMENT, "only HTTP/1.0 and HTTP/1.1 are spoken here", 0);
    if (parser->method == HTTP_CONNECT) return refuse(c, 405, ERR_METHOD_NOT_ALLOWED, "CONNECT is not allowed here", 0);
    parser->upgrade = 0; // an offer to speak another protocol is declined by answering in this one
    if (parser->content_length != UINT64_MAX && parser->content_length > o->body_bytes_max)
        return refuse(c, 413, ERR_TOO_LARGE, "the body is longer than %u bytes", o->body_bytes_max);
    bool has_body = parser->flags & F_CHUNKED || (parser->content_length != UINT64_MAX && parser->content_length > 0);
    if (has_body && o->on_head && o->on_head(o->ctx, x, &c->error) != ERR_NONE) {
        c->refusal = error_info(c->error.id)->http_status;
        return -1;
    }
    const char *expect = http_header(x, "expect");
    if (expect && strcasecmp(expect, "100-continue") == 0 && !x->http10) {
        buf_str(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
        http_conn_touch(c);
    }
    c->deadline = http_now(c->server) + o->body_timeout_ms;
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t len) {
    struct http_conn *c = parser->data;
    uint32_t max = c->server->options.body_bytes_max;
    if (c->x->body.len + len > max) return refuse(c, 413, ERR_TOO_LARGE, "the body is longer than %u bytes", max);
    if (c->server->held_bytes + len > c->server->options.held_bytes_max)
        return refuse(c, 503, ERR_OVERLOADED, "too many large requests are being received at once", 0);
    c->server->held_bytes += len;
    buf_append(&c->x->body, at, len);
    return 0;
}

static int on_complete(http_parser *parser) {
    http_parser_pause(parser, 1);
    return 0;
}

const http_parser_settings http_request_settings = {.on_message_begin = on_begin,
                                                    .on_url = on_url,
                                                    .on_header_field = on_field,
                                                    .on_header_value = on_value,
                                                    .on_headers_complete = on_headers_complete,
                                                    .on_body = on_body,
                                                    .on_message_complete = on_complete};

void http_exchange_free(struct http_exchange **x) {
    if (*x == NULL) return;
    (*x)->conn->server->held_bytes -= (*x)->body.len;
    buf_free(&(*x)->text);
    buf_free(&(*x)->body);
    buf_free(&(*x)->added);
    free(*x);
    *x = NULL;
}

const char *http_method(const struct http_exchange *x) { return http_method_str(x->method); }
const char *http_path(const struct http_exchange *x) { return x->text.data + x->path; }
const char *http_query(const struct http_exchange *x) { return x->text.data + x->query; }

const char *http_header(const struct http_exchange *x, const char *name) {
    for (uint32_t i = 0; i < x->n_headers; i++)
        if (strcasecmp(x->text.data + x->headers[i].name, name) == 0) return x->text.data + x->headers[i].value;
    return NULL;
}

bool http_header_at(const struct http_exchange *x, uint32_t i, const char **name, const char **value) {
    if (i >= x->n_headers) return false;
    *name = x->text.data + x->headers[i].name;
    *value = x->headers[i].value ? x->text.data + x->headers[i].value : "";
    return true;
}

const char *http_body(const struct http_exchange *x, size_t *len) {
    *len = x->body.len;
    return x->body.len ? x->body.data : "";
}
