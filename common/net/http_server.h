// An HTTP/1.1 server for one libuv loop: what a router listens with for OpenAI clients, metrics and the admin socket.
// It parses with http_parser (the same callbacks as llhttp, in the distribution) and does its own input and output: a
// library with its own loop (libmicrohttpd, libwebsockets) would hide the two things a token stream needs: seeing a client's
// disconnect at once, and deciding when to write.
//
// Life of an exchange (one request and its answer): read and checked by the server → on_request, now it is the handler's →
// http_respond, or http_stream_begin, http_stream_write… and http_stream_end, or http_abort; with that call it is the
// server's again and must not be touched. If the client goes first, on_closed is called once and is the last the handler
// hears of it. A client that closes its sending side counts as gone. (One that has sent over
// 64 KB of further requests meanwhile is no longer read from, so it is missed only when bytes for it fail.) Requests on one
// connection are answered in order, one at a time. All calls on the loop's thread. Nothing here blocks; bytes are written
// once per turn of the loop.
#pragma once
#include "common/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct buf;
struct http_server;
struct http_exchange;

struct http_stats {
    uint64_t connections_total, requests_total, errors_total; // errors: answered by the server itself (400, 408, 413, 431…)
    uint64_t disconnects_total;                               // exchanges whose client went before the end
    uint64_t timeouts_total;
    uint32_t connections, exchanges; // open now
};

struct http_server_options {
    uv_loop_t *loop;
    const char *address;        // endpoint.h; a stale unix socket file is replaced
    uint32_t header_bytes_max;  // request line and headers; 0: 32 KB. Over: 431
    uint32_t body_bytes_max;    // 0: BODY_BYTES_MAX. Over: 413
    uint64_t held_bytes_max;    // of all requests' bodies together; 0: 512 MB. Over: 503
    uint32_t connections_max;   // 0: 4096. Over: 503
    uint32_t header_timeout_ms; // from the first byte of a request to the end of its headers; 0: 10 s. Over: 408
    uint32_t body_timeout_ms;   // to the end of its body; 0: 120 s. Over: 408
    uint32_t idle_timeout_ms;   // between requests; 0: 75 s. Over: closed
    uint32_t stall_timeout_ms;  // bytes wait and the client takes none; 0: 60 s. Over: closed
    const char *headers;        // added to every answer, also to errors: whole lines ending in \r\n; NULL: none. Copied
    void *ctx;
    void (*on_request)(void *ctx, struct http_exchange *x);
    // A request's head is complete and it brings a body: anything but ERR_NONE refuses it, with *e, before the body is read,
    // and closes the connection. It may add headers to that answer and do nothing else with x. NULL: all are read.
    err_id (*on_head)(void *ctx, struct http_exchange *x, struct error *e);
    // Renders the body of an error that the server itself answers, as JSON. status may differ from the id's own (408).
    void (*render_error)(void *ctx, int status, const struct error *e, struct buf *body);
};

// Also after a failure the loop must run once more, for handles to close. Has the process ignore SIGPIPE, if nothing else
// was done about it.
err_id http_server_create(const struct http_server_options *options, struct http_server **out, struct error *e);
const char *http_server_address(const struct http_server *s); // "127.0.0.1:43211", with the port that was found
const struct http_stats *http_server_stats(const struct http_server *s);
// Serves on, and tells clients to keep no connection: every answer from here on says Connection: close and is the last on
// its connection.
void http_server_leave(struct http_server *s);
// Stops accepting, closes idle connections, lets running exchanges end (their answers say Connection: close), then calls
// on_stopped (may be NULL) once. Keeps what it has until http_server_destroy.
void http_server_stop(struct http_server *s, void (*on_stopped)(void *ctx));
// Closes everything at once; exchanges end without on_closed. Memory goes when the loop has closed the handles.
void http_server_destroy(struct http_server **s);

// The request. Strings live as long as the exchange.
const char *http_method(const struct http_exchange *x); // "GET"
const char *http_path(const struct http_exchange *x);   // "/v1/models": runs of '/' made one, no query, not percent-decoded
const char *http_query(const struct http_exchange *x);  // without '?'; "" when there is none
const char *http_header(const struct http_exchange *x, const char *name); // any case; the first of that name; NULL: none
bool http_header_at(const struct http_exchange *x, uint32_t i, const char **name, const char **value); // false: no more
const char *http_body(const struct http_exchange *x, size_t *len); // never NULL; a zero byte follows

// Who is told what while the handler has the exchange. Each may be NULL. Set it before returning from on_request.
struct http_watch {
    void *ctx;
    void (*on_closed)(void *ctx);   // the client is gone; x is no more
    void (*on_writable)(void *ctx); // a stream's pending bytes fell to HTTP_LOW_WATER or less after they were above it
};
enum { HTTP_LOW_WATER = 16 << 10 };
void http_set_watch(struct http_exchange *x, const struct http_watch *watch);

// Adds a header to the answer; before http_respond or http_stream_begin. Control characters in the value become
// '?'.
void http_add_header(struct http_exchange *x, const char *name, const char *value);
// The whole answer. content_type may be NULL when len is 0. HEAD gets the head alone.
void http_respond(struct http_exchange *x, int status, const char *content_type, const void *body, size_t len);
// The head of an answer whose body comes in pieces (chunked; until close for an HTTP/1.0 client).
void http_stream_begin(struct http_exchange *x, int status, const char *content_type);
bool http_stream_begun(const struct http_exchange *x);
void http_stream_write(struct http_exchange *x, const void *data, size_t len);
void http_stream_end(struct http_exchange *x);
// Bytes accepted and not yet taken by the kernel. The handler stops writing above its own bound and goes on at on_writable.
size_t http_stream_pending_bytes(const struct http_exchange *x);
// Ends the answer where it is: what was written goes out, the final chunk does not, the connection closes. The client sees a
// broken stream. Before http_stream_begin it only closes the connection.
void http_abort(struct http_exchange *x);
