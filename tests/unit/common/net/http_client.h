// A client for HTTP tests: sends exactly the bytes it is told and keeps all it receives. On the same loop as the server.
#pragma once
#include "common/base/buf.h"

#include <stdbool.h>
#include <uv.h>

struct http_client {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    uv_connect_t connect;
    struct buf got; // all bytes received; a C string
    bool connected, eof, failed, closed;
    struct { // for conditions
        size_t bytes;
        const char *text;
        unsigned times;
    } wanted;
};

void client_open(struct http_client *c, uv_loop_t *loop, const char *address); // "127.0.0.1:port" or "unix:/path"
void client_send(struct http_client *c, const char *bytes, size_t n);          // must fit the socket's buffer
void client_say(struct http_client *c, const char *text);
void client_hold(struct http_client *c); // stops reading
void client_resume(struct http_client *c);
void client_close(struct http_client *c); // also frees `got`
void client_reset(struct http_client *c); // closes with a reset
// Runs the loop until the text was received `times` times; fails the test when the connection ends before.
void client_expect(struct http_client *c, const char *text, unsigned times);
void client_expect_bytes(struct http_client *c, size_t n); // until n bytes have come in all
void client_expect_end(struct http_client *c);             // until end of file or a reset
unsigned client_count(const struct http_client *c, const char *text);
