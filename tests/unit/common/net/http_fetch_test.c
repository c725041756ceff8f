// The HTTP client: against our own server, and against one that says fixed bytes.
#include "common/net/http_fetch.h"

#include "common/base/buf.h"
#include "tests/unit/common/net/http_world.h"
#include "tests/unit/common/net/until.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct got {
    struct http_fetch *fetch;
    int status;
    struct buf body;
    bool ended, cancel_on_head, cancel_on_body;
    enum http_fetch_end how;
    char type[64], odd[64];
};

static void on_head(void *ctx, int status) {
    struct got *g = ctx;
    assert_int_equal(g->status, 0); // once
    g->status = status;
    const char *type = http_fetch_header(g->fetch, "content-TYPE"), *odd = http_fetch_header(g->fetch, "X-Odd");
    snprintf(g->type, sizeof g->type, "%s", type ? type : "none");
    snprintf(g->odd, sizeof g->odd, "%s", odd ? odd : "none");
    if (g->cancel_on_head) http_fetch_cancel(&g->fetch);
}

static void on_body(void *ctx, const char *data, size_t len) {
    struct got *g = ctx;
    buf_append(&g->body, data, len);
    if (g->cancel_on_body) http_fetch_cancel(&g->fetch);
}

static void on_end(void *ctx, enum http_fetch_end how) {
    struct got *g = ctx;
    assert_false(g->ended);
    g->ended = true;
    g->how = how;
    g->fetch = NULL;
}

static struct http_fetch_options options_to(uv_loop_t *loop, const char *address, struct got *g) {
    struct http_fetch_options o = {.loop = loop, .host = "127.0.0.1", .method = "GET", .target = "/echo", .ctx = g};
    o.port = (uint16_t)atoi(strrchr(address, ':') + 1);
    o.on_head = on_head, o.on_body = on_body, o.on_end = on_end;
    return o;
}

static bool has_ended(void *ctx) { return ((struct got *)ctx)->ended; }
static bool has_body(void *ctx) { return ((struct got *)ctx)->body.len > 0; }
static bool is_cancelled(void *ctx) { return ((struct got *)ctx)->fetch == NULL; }

static void a_request_is_sent_and_its_answer_comes_back(void **state) {
    struct http_world w;
    world_open(&w, NULL);
    struct got g = {0};
    struct http_fetch_options o = options_to(&w.loop, http_server_address(w.server), &g);
    o.method = "POST", o.target = "/v1/x?y=1", o.body = "hello", o.body_len = 5;
    o.headers = "Content-Type: application/json\r\nX-Some: thing\r\n";
    g.fetch = http_fetch_start(&o);
    run_until(&w.loop, has_ended, &g, "the answer has come");
    assert_int_equal(g.how, FETCH_COMPLETE);
    assert_int_equal(g.status, 200);
    assert_string_equal(g.type, "text/plain");
    assert_string_equal(g.body.data, "POST /v1/x?y=1 hello");
    buf_free(&g.body);
    world_close(&w);
}

static void a_stream_comes_as_it_is_written_and_one_that_breaks_off_is_told(void **state) {
    for (int whole = 0; whole < 2; whole++) {
        struct http_world w;
        world_open(&w, NULL);
        struct got g = {0};
        struct http_fetch_options o = options_to(&w.loop, http_server_address(w.server), &g);
        o.target = "/stream";
        g.fetch = http_fetch_start(&o);
        world_run_until_held(&w, 1);
        http_stream_write(w.held[0], "one", 3);
        run_until(&w.loop, has_body, &g, "the first piece");
        http_stream_write(w.held[0], "two", 3);
        if (whole)
            http_stream_end(w.held[0]);
        else
            http_abort(w.held[0]);
        run_until(&w.loop, has_ended, &g, "the end");
        assert_int_equal(g.how, whole ? FETCH_COMPLETE : FETCH_BROKEN);
        assert_string_equal(g.body.data, "onetwo");
        assert_string_equal(g.type, "text/event-stream");
        buf_free(&g.body);
        world_close(&w);
    }
}

static void one_that_is_paused_holds_the_sender_up(void **state) {
    struct http_world w;
    world_open(&w, NULL);
    struct got g = {0};
    struct http_fetch_options o = options_to(&w.loop, http_server_address(w.server), &g);
    o.target = "/stream";
    o.silence_ms = 100; // doesn't count while paused
    g.fetch = http_fetch_start(&o);
    world_run_until_held(&w, 1);
    http_stream_write(w.held[0], "x", 1);
    run_until(&w.loop, has_body, &g, "the first piece");
    http_fetch_pause(g.fetch, true);
    size_t before = g.body.len;
    char *much = calloc(1, 16 << 20);
    http_stream_write(w.held[0], much, 16 << 20);
    run_for(&w.loop, 300);
    assert_int_equal(g.body.len, before);
    assert_true(http_stream_pending_bytes(w.held[0]) > 1 << 20);
    http_fetch_pause(g.fetch, false);
    http_stream_end(w.held[0]);
    run_until(&w.loop, has_ended, &g, "all of it");
    assert_int_equal(g.how, FETCH_COMPLETE);
    assert_int_equal(g.body.len, before + (16 << 20));
    free(much);
    buf_free(&g.body);
    world_close(&w);
}

static void nobody_there_is_told_as_such(void **state) {
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct got g = {0}, h = {0};
    struct http_fetch_options o = options_to(&loop, "127.0.0.1:1", &g);
    g.fetch = http_fetch_start(&o);
    o = options_to(&loop, "127.0.0.1:1", &h);
    o.host = "no-such-name.invalid";
    h.fetch = http_fetch_start(&o);
    run_until(&loop, has_ended, &g, "refused");
    run_until(&loop, has_ended, &h, "refused");
    assert_int_equal(g.how, FETCH_REFUSED);
    assert_int_equal(h.how, FETCH_REFUSED);
    loop_finish(&loop);
}

static void silence_behind_the_head_is_broken_off(void **state) {
    struct http_world w;
    world_open(&w, NULL);
    struct got g = {0};
    struct http_fetch_options o = options_to(&w.loop, http_server_address(w.server), &g);
    o.target = "/stream", o.silence_ms = 50;
    g.fetch = http_fetch_start(&o);
    run_until(&w.loop, has_ended, &g, "silence");
    assert_int_equal(g.how, FETCH_SILENT);
    world_run_until_closed(&w, 1);
    world_close(&w);
}

static void it_can_be_cancelled_at_any_moment(void **state) {
    for (int when = 0; when < 4; when++) {
        struct http_world w;
        world_open(&w, NULL);
        struct got g = {.cancel_on_head = when == 2, .cancel_on_body = when == 3};
        struct http_fetch_options o = options_to(&w.loop, http_server_address(w.server), &g);
        if (when == 1) o.target = "/later";
        g.fetch = http_fetch_start(&o);
        if (when == 1) world_run_until_held(&w, 1);
        if (when < 2) http_fetch_cancel(&g.fetch);
        run_until(&w.loop, is_cancelled, &g, "cancelled");
        if (when == 1) world_run_until_closed(&w, 1);
        assert_false(g.ended);
        buf_free(&g.body);
        world_close(&w);
    }
}

// --- a server that says fixed bytes

struct raw {
    uv_loop_t loop;
    uv_tcp_t listener, peer;
    uv_write_t write;
    const char *says;
    char address[32];
};

static void on_said(uv_write_t *write, int status) {
    struct raw *r = write->data;
    uv_close((uv_handle_t *)&r->peer, NULL);
}

static void on_caller(uv_stream_t *listener, int status) {
    struct raw *r = listener->data;
    uv_tcp_init(&r->loop, &r->peer);
    uv_accept(listener, (uv_stream_t *)&r->peer);
    uv_buf_t data = uv_buf_init((char *)r->says, (unsigned)strlen(r->says));
    r->write.data = r;
    uv_write(&r->write, (uv_stream_t *)&r->peer, &data, 1, on_said);
}

static enum http_fetch_end ask_raw(const char *says, const char *method, struct got *g) {
    struct raw r = {.says = says};
    struct sockaddr_in any, name;
    int size = sizeof name;
    uv_loop_init(&r.loop);
    uv_ip4_addr("127.0.0.1", 0, &any);
    uv_tcp_init(&r.loop, &r.listener);
    r.listener.data = &r;
    uv_tcp_bind(&r.listener, (struct sockaddr *)&any, 0);
    uv_listen((uv_stream_t *)&r.listener, 4, on_caller);
    uv_tcp_getsockname(&r.listener, (struct sockaddr *)&name, &size);
    snprintf(r.address, sizeof r.address, "127.0.0.1:%u", ntohs(name.sin_port));
    struct http_fetch_options o = options_to(&r.loop, r.address, g);
    o.method = method;
    g->fetch = http_fetch_start(&o);
    run_until(&r.loop, has_ended, g, "an end");
    uv_close((uv_handle_t *)&r.listener, NULL);
    loop_finish(&r.loop);
    return g->how;
}

static void answers_of_all_kinds_are_understood(void **state) {
    const struct {
        const char *says, *method;
        enum http_fetch_end how;
        int status;
        const char *body;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", FETCH_COMPLETE, 200, "ok"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more", "GET", FETCH_COMPLETE, 200, "ok"},
        {"HTTP/1.1 200 OK\r\n\r\nuntil it closes", "GET", FETCH_COMPLETE, 200, "until it closes"},
        {"HTTP/1.1 100 Continue\r\nX-Odd: 1\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\n!", "GET",
         FETCH_COMPLETE, 201, "!"},
        {"HTTP/1.1 204 No Content\r\n\r\n", "GET", FETCH_COMPLETE, 204, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", "HEAD", FETCH_COMPLETE, 200, ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "GET", FETCH_COMPLETE, 200, "abc"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "GET", FETCH_BROKEN, 200, "abc"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "GET", FETCH_BROKEN, 200, "abc"},
        {"HTTP/1.1 200 OK\r\nContent-", "GET", FETCH_BROKEN, 0, ""},
        {"SSH-2.0-OpenSSH_9\r\n", "GET", FETCH_BROKEN, 0, ""},
        {"", "GET", FETCH_BROKEN, 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct got g = {0};
        if (ask_raw(cases[i].says, cases[i].method, &g) != cases[i].how) fail_msg("case %zu ended with %d", i, g.how);
        assert_int_equal(g.status, cases[i].status);
        assert_string_equal(g.body.data ? g.body.data : "", cases[i].body);
        buf_free(&g.body);
    }
}

static void too_many_headers_are_not_held(void **state) {
    struct buf says = {0};
    buf_str(&says, "HTTP/1.1 200 OK\r\nX-Odd:\r\n");
    for (int i = 0; i < HTTP_FETCH_HEADERS_MAX; i++) buf_printf(&says, "X-%d: 1\r\n", i);
    buf_str(&says, "\r\n");
    struct got g = {0};
    assert_int_equal(ask_raw(says.data, "GET", &g), FETCH_BROKEN);
    buf_reset(&says);
    buf_str(&says, "HTTP/1.1 200 OK\r\nX-Odd:\r\nContent-Length: 0\r\nX-Long: ");
    for (int i = 0; i < HTTP_FETCH_HEADER_BYTES; i++) buf_char(&says, 'a');
    buf_str(&says, "\r\n\r\n");
    g = (struct got){0};
    assert_int_equal(ask_raw(says.data, "GET", &g), FETCH_BROKEN);
    g = (struct got){0};
    assert_int_equal(ask_raw("HTTP/1.1 200 OK\r\nX-Odd:\r\nContent-Length: 0\r\n\r\n", "GET", &g), FETCH_COMPLETE);
    assert_string_equal(g.odd, "");
    buf_free(&says);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_sent_and_its_answer_comes_back),
        cmocka_unit_test(a_stream_comes_as_it_is_written_and_one_that_breaks_off_is_told),
        cmocka_unit_test(one_that_is_paused_holds_the_sender_up),
        cmocka_unit_test(nobody_there_is_told_as_such),
        cmocka_unit_test(silence_behind_the_head_is_broken_off),
        cmocka_unit_test(it_can_be_cancelled_at_any_moment),
        cmocka_unit_test(answers_of_all_kinds_are_understood),
        cmocka_unit_test(too_many_headers_are_not_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
