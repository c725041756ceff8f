// An HTTP/1.1 client for one libuv loop: one request and its answer over a connection of its own. What `shoal proxy` speaks
// to routers with. Plain HTTP; names are resolved each time. Loop thread only; nothing blocks; callbacks come from the loop,
// never from inside a call of this header.
#pragma once
#include "common/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum { HTTP_FETCH_HEADERS_MAX = 100, HTTP_FETCH_HEADER_BYTES = 64 << 10, HTTP_FETCH_CONNECT_MS = 5000 };

enum http_fetch_end {
    FETCH_COMPLETE, // the whole answer has come
    FETCH_REFUSED,  // no connection: the request has not been sent
    FETCH_BROKEN,   // the connection broke, or what came was not HTTP: the request may have been carried out
    FETCH_SILENT,   // broken off by us: nothing came for silence_ms
};

struct http_fetch_options {
    uv_loop_t *loop;
    const char *host; // name or numeric address, without brackets
    uint16_t port;
    const char *method, *target; // "POST", "/v1/models?x=1"
    const char *headers;         // whole lines ending in \r\n, besides Host, Content-Length and Connection; NULL: none
    const void *body;            // copied; Content-Length is sent if there is one or the method is POST, PUT or PATCH
    size_t body_len;
    uint32_t silence_ms; // after the head: how long nothing may come while not paused; 0: for ever
    void *ctx;
    void (*on_head)(void *ctx, int status); // status and headers are there. The three may be followed by http_fetch_cancel
    void (*on_body)(void *ctx, const char *data, size_t len);
    void (*on_end)(void *ctx, enum http_fetch_end how); // the last one, once; the fetch is gone with it
};

struct http_fetch;

// Begins. Never fails at once: what goes wrong is told by on_end.
struct http_fetch *http_fetch_start(const struct http_fetch_options *options);
const char *http_fetch_header(const struct http_fetch *f, const char *name); // any case; NULL: none. From on_head on
// The i-th header of the answer; false: there are no more.
bool http_fetch_header_at(const struct http_fetch *f, uint32_t i, const char **name, const char **value);
void http_fetch_pause(struct http_fetch *f, bool pause); // stops reading: the sender feels it
void http_fetch_cancel(struct http_fetch **f);           // closes the connection; no more callbacks. NULL is fine
