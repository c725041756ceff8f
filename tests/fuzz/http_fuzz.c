// Random clients against the HTTP server: good requests damaged byte by byte, cut into pieces, sent over several connections
// at once that close, reset or fall silent anywhere; handlers that answer at once, later, in a stream, or give up. After it
// all the server must answer a good request and hold nothing. One seed fixes a run; the first argument replays one.
#include "common/base/buf.h"
#include "common/base/hash.h"
#include "common/net/http_server.h"
#include "common/sys/clock.h"
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

enum { CLIENTS = 4, ROUNDS = 600, HELD = 64, FIXED_SEEDS = 4 };

struct fuzz {
    uint64_t random;
    uv_loop_t loop;
    struct http_server *server;
    struct held {
        struct fuzz *f;
        struct http_exchange *x; // NULL: free
    } held[HELD];
    uint64_t answered, streams, gone;
};

static uint64_t replayed_seed;

static unsigned pick(struct fuzz *f, unsigned n) { return (unsigned)((f->random = hash_mix(f->random + 1)) >> 20) % n; }

static void on_closed(void *ctx) {
    struct held *h = ctx;
    h->x = NULL;
    h->f->gone++;
}

static void on_writable(void *ctx) {
    struct held *h = ctx;
    if (pick(h->f, 2)) http_stream_write(h->x, "more", 4);
}

static void read_everything(struct http_exchange *x) {
    size_t len;
    const char *body = http_body(x, &len);
    assert_int_equal(body[len], 0);
    assert_true(strlen(http_method(x)) > 0 && http_path(x) && http_query(x));
    assert_null(strstr(http_path(x), "//"));
    http_header(x, "x-none");
}

static void on_request(void *ctx, struct http_exchange *x) {
    struct fuzz *f = ctx;
    read_everything(x);
    for (unsigned i = 0; pick(f, 3) && i < HELD; i++) {
        if (f->held[i].x) continue;
        f->held[i] = (struct held){f, x};
        http_set_watch(x, &(struct http_watch){&f->held[i], on_closed, on_writable});
        return;
    }
    f->answered++;
    http_respond(x, 200, "text/plain", "now", 3);
}

static void render_error(void *ctx, int status, const struct error *e, struct buf *body) { buf_str(body, "{}"); }

// One random thing is done to one exchange that a handler holds.
static void act(struct fuzz *f, struct held *h) {
    static char block[40000];
    struct http_exchange *x = h->x;
    if (x == NULL) return;
    if (!http_stream_begun(x)) {
        switch (pick(f, 4)) {
        case 0:
            h->x = NULL, f->answered++, http_respond(x, 404, NULL, NULL, 0);
            break;
        case 1:
            h->x = NULL, http_abort(x);
            break;
        case 2:
            f->streams++, http_stream_begin(x, 200, "text/event-stream");
            break;
        default:
            break;
        }
        return;
    }
    switch (pick(f, 6)) {
    case 0:
        h->x = NULL, http_stream_end(x);
        break;
    case 1:
        h->x = NULL, http_abort(x);
        break;
    case 2:
        http_stream_write(x, block, pick(f, sizeof block));
        break;
    default:
        http_stream_write(x, block, pick(f, 20));
        break;
    }
}

static const char *const seeds[] = {
    "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    ("POST //v1/chat//completions?x=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
     "13\r\n\r\n{\"stream\":1}\n"),
    "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10;e=\"q\"\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\n",
    "HEAD http://host:80/x HTTP/1.1\r\nConnection: keep-alive\r\n\r\nOPTIONS * HTTP/1.1\r\nConnection: close\r\n\r\n",
    "POST /x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    "GET /a HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nGET /b HTTP/1.1\r\nX:\r\n folded\r\n\r\n",
    "CONNECT h:1 HTTP/1.1\r\n\r\n",
};

static void put_damaged(struct fuzz *f, struct buf *out) {
    static const char special[] = "\r\n :;,/?#%*\\\"\0\x01\x7f\x80\xff"
                                  "0aZ-";
    const char *text = seeds[pick(f, sizeof seeds / sizeof *seeds)];
    size_t start = out->len;
    buf_str(out, text);
    for (unsigned n = pick(f, 3) ? 0 : 1 + pick(f, 6); n > 0 && out->len > start + 1; n--) {
        size_t at = start + pick(f, (unsigned)(out->len - start));
        switch (pick(f, 4)) {
        case 0:
            out->data[at] = special[pick(f, sizeof special - 1)];
            break;
        case 1:
            out->data[at] ^= (char)(1u << pick(f, 8));
            break;
        case 2:
            buf_append(out, out->data + at, 0), out->len = at + 1;
            break;
        default:
            buf_str(out, text + pick(f, (unsigned)strlen(text)));
            break;
        }
    }
}

static void run_some(struct fuzz *f) {
    for (unsigned n = pick(f, 4); n > 0; n--) uv_run(&f->loop, UV_RUN_NOWAIT);
    act(f, &f->held[pick(f, HELD)]);
}

static void run_client(struct fuzz *f, struct http_client *clients) {
    struct http_client *c = &clients[pick(f, CLIENTS)];
    struct buf bytes = {0};
    if (!c->connected) client_open(c, &f->loop, http_server_address(f->server));
    for (unsigned n = 1 + pick(f, 4); n > 0; n--) put_damaged(f, &bytes);
    for (size_t at = 0; at < bytes.len;) {
        size_t n = 1 + pick(f, pick(f, 2) ? 8 : 4000);
        if (n > bytes.len - at) n = bytes.len - at;
        uv_buf_t piece = uv_buf_init(bytes.data + at, (unsigned)n);
        if (uv_try_write(&c->socket.stream, &piece, 1) < 0) break; // the server has closed, or holds us up
        at += n;
        run_some(f);
    }
    buf_free(&bytes);
    for (unsigned i = 0; i < HELD; i++) act(f, &f->held[i]);
    if (pick(f, 6) == 0) client_hold(c);
    if (pick(f, 6) == 0 && !c->eof && !c->failed) client_resume(c);
    if (pick(f, 3) == 0 || c->eof || c->failed) {
        if (pick(f, 2))
            client_close(c);
        else
            client_reset(c);
        c->connected = false;
    }
}

static bool is_empty(void *ctx) { return http_server_stats(((struct fuzz *)ctx)->server)->connections == 0; }

static void finish(struct fuzz *f, struct http_client *clients) {
    struct http_client good;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (clients[i].connected) client_close(&clients[i]);
    run_until(&f->loop, is_empty, f, "all connections are gone");
    assert_int_equal(http_server_stats(f->server)->exchanges, 0);
    for (unsigned i = 0; i < HELD; i++) assert_null(f->held[i].x);
    f->random = 0;
    do { // a handler may hold it; the next seed of chance answers at once
        client_open(&good, &f->loop, http_server_address(f->server));
        client_say(&good, "GET / HTTP/1.1\r\n\r\n");
        run_for(&f->loop, 5);
        for (unsigned i = 0; i < HELD; i++)
            if (f->held[i].x) http_respond(f->held[i].x, 200, "text/plain", "now", 3), f->held[i].x = NULL;
        client_expect(&good, "HTTP/1.1 200 OK", 1);
        client_close(&good);
    } while (pick(f, 4));
}

static void run_seed(uint64_t seed) {
    struct fuzz *f = calloc(1, sizeof *f);
    struct http_client clients[CLIENTS] = {{.connected = false}};
    f->random = seed;
    uv_loop_init(&f->loop);
    struct http_server_options o = {.loop = &f->loop, .address = "127.0.0.1:0", .ctx = f};
    o.on_request = on_request;
    o.render_error = render_error;
    o.header_bytes_max = 200 + pick(f, 2000);
    o.body_bytes_max = 10 + pick(f, 1000);
    o.connections_max = 1 + pick(f, CLIENTS + 1);
    o.header_timeout_ms = 20 + pick(f, 2000);
    o.stall_timeout_ms = 20 + pick(f, 2000);
    assert_int_equal(http_server_create(&o, &f->server, NULL), ERR_NONE);
    for (unsigned round = 0; round < ROUNDS; round++) run_client(f, clients);
    const struct http_stats *s = http_server_stats(f->server);
    print_message("# seed %llu: %llu connections, %llu requests, %llu refused, %llu streams, %llu gone\n",
                  (unsigned long long)seed, (unsigned long long)s->connections_total, (unsigned long long)s->requests_total,
                  (unsigned long long)s->errors_total, (unsigned long long)f->streams, (unsigned long long)f->gone);
    assert_true(s->requests_total > 100 && s->errors_total > 20 && f->streams > 5 && f->gone > 5);
    finish(f, clients);
    http_server_destroy(&f->server);
    loop_finish(&f->loop);
    free(f);
}

static void random_clients_break_nothing(void **state) {
    if (replayed_seed) {
        run_seed(replayed_seed);
        return;
    }
    for (uint64_t seed = 1; seed <= FIXED_SEEDS; seed++) run_seed(seed);
    run_seed((uint64_t)clock_wall_ms()); // a fresh one each time; its number is on the screen
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_clients_break_nothing)};
    if (argc > 1) replayed_seed = strtoull(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
