// What one request costs the HTTP server: a thread serves a trivial handler, another keeps many connections busy with one
// request each. Printed: requests per second of the pair, and per second of the serving thread's own CPU time, which is what
// one core could do. Argument: seconds to run (2).
#include "common/base/check.h"
#include "common/net/http_server.h"
#include "common/sys/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { CONNECTIONS = 64 };
static const char request[] = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
static const char answer[] = "{\"object\":\"list\",\"data\":[]}";

struct service {
    uv_loop_t loop;
    uv_async_t stop;
    struct http_server *server;
    double cpu_seconds;
};

struct load {
    uv_loop_t loop;
    uv_timer_t timer;
    struct connection {
        uv_tcp_t tcp;
        uv_connect_t connect;
        uv_write_t write;
        struct load *load;
    } connections[CONNECTIONS];
    uint64_t answers;
    char buffer[4096];
};

static void on_request(void *ctx, struct http_exchange *x) {
    http_respond(x, 200, "application/json", answer, sizeof answer - 1);
}

static void on_stop(uv_async_t *async) {
    struct service *s = async->data;
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    s->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    http_server_destroy(&s->server);
    uv_close((uv_handle_t *)async, NULL);
}

static void serve(void *arg) { uv_run(&((struct service *)arg)->loop, UV_RUN_DEFAULT); }

static void ask(struct connection *c) {
    uv_buf_t bytes = uv_buf_init((char *)request, sizeof request - 1);
    CHECK(uv_try_write((uv_stream_t *)&c->tcp, &bytes, 1) == (int)sizeof request - 1);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    struct connection *c = handle->data;
    *buffer = uv_buf_init(c->load->buffer, sizeof c->load->buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    struct connection *c = stream->data;
    if (n < (ssize_t)sizeof answer || memcmp(buffer->base + n - sizeof answer + 1, answer, sizeof answer - 1) != 0) return;
    c->load->answers++;
    ask(c);
}

static void on_connect(uv_connect_t *connect, int status) {
    CHECK(status == 0);
    uv_read_start(connect->handle, on_alloc, on_read);
    ask(connect->handle->data);
}

static void close_one(uv_handle_t *handle, void *arg) { uv_close(handle, NULL); }
static void on_timer(uv_timer_t *timer) { uv_walk(timer->loop, close_one, NULL); }

static void run_load(struct load *l, const char *address, unsigned seconds) {
    struct sockaddr_in to;
    uv_loop_init(&l->loop);
    uv_ip4_addr("127.0.0.1", atoi(strrchr(address, ':') + 1), &to);
    for (int i = 0; i < CONNECTIONS; i++) {
        struct connection *c = &l->connections[i];
        c->load = l;
        uv_tcp_init(&l->loop, &c->tcp);
        c->tcp.data = c;
        uv_tcp_connect(&c->connect, &c->tcp, (struct sockaddr *)&to, on_connect);
    }
    uv_timer_init(&l->loop, &l->timer);
    uv_timer_start(&l->timer, on_timer, seconds * 1000, 0);
    uv_run(&l->loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv) {
    unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 2;
    struct service s = {.server = NULL};
    struct load *l = xcalloc(1, sizeof *l);
    uv_thread_t thread;
    uv_loop_init(&s.loop);
    struct http_server_options o = {.loop = &s.loop, .address = "127.0.0.1:0", .on_request = on_request};
    CHECK(http_server_create(&o, &s.server, NULL) == ERR_NONE);
    uv_async_init(&s.loop, &s.stop, on_stop);
    s.stop.data = &s;
    int64_t start = clock_us();
    uv_thread_create(&thread, serve, &s);
    run_load(l, http_server_address(s.server), seconds);
    double wall = (double)(clock_us() - start) / 1e6;
    uv_async_send(&s.stop);
    uv_thread_join(&thread);
    printf("%d connections: %.0f requests/s; %.0f requests per second of the server's CPU (%.1f us each)\n", CONNECTIONS,
           (double)l->answers / wall, (double)l->answers / s.cpu_seconds, s.cpu_seconds * 1e6 / (double)l->answers);
    free(l);
    return 0;
}
