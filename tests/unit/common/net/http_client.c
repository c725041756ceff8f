#include "tests/unit/common/net/http_client.h"

#include "tests/unit/common/net/until.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char read_buffer[64 << 10];

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    *buffer = uv_buf_init(read_buffer, sizeof read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    struct http_client *c = stream->data;
    if (n > 0) buf_append(&c->got, buffer->base, (size_t)n);
    if (n == UV_EOF)
        c->eof = true;
    else if (n < 0)
        c->failed = true;
    if (n < 0) uv_read_stop(stream);
}

static void on_connect(uv_connect_t *request, int status) {
    struct http_client *c = request->handle->data;
    assert_int_equal(status, 0);
    c->connected = true;
    client_resume(c);
}

static bool is_connected(void *ctx) { return ((struct http_client *)ctx)->connected; }

void client_open(struct http_client *c, uv_loop_t *loop, const char *address) {
    *c = (struct http_client){.connected = false};
    if (strncmp(address, "unix:", 5) == 0) {
        uv_pipe_init(loop, &c->socket.pipe, 0);
        c->socket.handle.data = c;
        uv_pipe_connect(&c->connect, &c->socket.pipe, address + 5, on_connect);
    } else {
        struct sockaddr_in to;
        uv_ip4_addr("127.0.0.1", atoi(strrchr(address, ':') + 1), &to);
        uv_tcp_init(loop, &c->socket.tcp);
        c->socket.handle.data = c;
        uv_tcp_connect(&c->connect, &c->socket.tcp, (struct sockaddr *)&to, on_connect);
    }
    run_until(loop, is_connected, c, "the client connects");
}

void client_send(struct http_client *c, const char *bytes, size_t n) {
    uv_buf_t buffer = uv_buf_init((char *)bytes, (unsigned)n);
    assert_int_equal(uv_try_write(&c->socket.stream, &buffer, 1), n);
}

void client_say(struct http_client *c, const char *text) { client_send(c, text, strlen(text)); }
void client_hold(struct http_client *c) { uv_read_stop(&c->socket.stream); }
void client_resume(struct http_client *c) { uv_read_start(&c->socket.stream, on_alloc, on_read); }

static void on_closed(uv_handle_t *handle) { ((struct http_client *)handle->data)->closed = true; }
static bool is_closed(void *ctx) { return ((struct http_client *)ctx)->closed; }

void client_close(struct http_client *c) {
    uv_close(&c->socket.handle, on_closed);
    run_until(c->socket.handle.loop, is_closed, c, "the client closes");
    buf_free(&c->got);
}

void client_reset(struct http_client *c) {
    assert_int_equal(uv_tcp_close_reset(&c->socket.tcp, on_closed), 0);
    run_until(c->socket.handle.loop, is_closed, c, "the client resets");
    buf_free(&c->got);
}

unsigned client_count(const struct http_client *c, const char *text) {
    unsigned n = 0;
    const char *end = c->got.data + c->got.len;
    for (const char *p = c->got.data; p && p < end && (p = memmem(p, (size_t)(end - p), text, strlen(text))); p++) n++;
    return n;
}

static bool has_text(void *ctx) {
    struct http_client *c = ctx;
    return client_count(c, c->wanted.text) >= c->wanted.times || c->eof || c->failed;
}

void client_expect(struct http_client *c, const char *text, unsigned times) {
    c->wanted.text = text;
    c->wanted.times = times;
    run_until(c->socket.handle.loop, has_text, c, text);
    if (client_count(c, text) < times)
        fail_msg("the connection ended with %u of %u times \"%s\"; received: %.300s", client_count(c, text), times, text,
                 c->got.data ? c->got.data : "");
}

static bool has_bytes(void *ctx) {
    struct http_client *c = ctx;
    return c->got.len >= c->wanted.bytes || c->eof || c->failed;
}

void client_expect_bytes(struct http_client *c, size_t n) {
    c->wanted.bytes = n;
    run_until(c->socket.handle.loop, has_bytes, c, "so many bytes");
    assert_int_equal(c->got.len, n);
}

static bool has_end(void *ctx) { return ((struct http_client *)ctx)->eof || ((struct http_client *)ctx)->failed; }
void client_expect_end(struct http_client *c) { run_until(c->socket.handle.loop, has_end, c, "the connection ends"); }
