// What a client that is broken, slow, greedy or gone can do: nothing, to anybody but itself.
#include "common/net/http_server.h"

#include "common/base/buf.h"
#include "tests/unit/common/net/http_client.h"
#include "tests/unit/common/net/http_world.h"
#include "tests/unit/common/net/until.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void open_both(struct http_world *w, struct http_client *c, const struct http_server_options *options) {
    world_open(w, options);
    client_open(c, &w->loop, http_server_address(w->server));
}

static void expect_served(struct http_world *w) {
    struct http_client c;
    client_open(&c, &w->loop, http_server_address(w->server));
    client_say(&c, "GET /alive HTTP/1.1\r\n\r\n");
    client_expect(&c, "GET /alive? ", 1);
    client_close(&c);
}

// Sends the bytes over a connection of its own; expects this status line, the error as JSON, and the end.
static void expect_refused(struct http_world *w, const char *bytes, size_t n, const char *status, const char *sentence) {
    struct http_client c;
    client_open(&c, &w->loop, http_server_address(w->server));
    client_send(&c, bytes, n);
    client_expect_end(&c);
    assert_true(c.eof); // the answer was not eaten by a reset
    if (c.got.len == 0 || strncmp(c.got.data, status, strlen(status)) != 0 || client_count(&c, "\r\nDate: ") != 1 ||
        client_count(&c, sentence) != 1)
        fail_msg("expected %s and \"%s\", got %s", status, sentence, c.got.data ? c.got.data : "nothing");
    assert_int_equal(client_count(&c, "Content-Type: application/json\r\n"), 1);
    assert_int_equal(client_count(&c, "Connection: close\r\n"), 1);
    client_close(&c);
}

static void garbage_gets_400_and_the_server_goes_on(void **state) {
    static const char *const garbage[] = {
        "\x16\x03\x01\x02",
        "hello\r\n\r\n",
        "GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\x01b\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"};
    struct http_world w;
    world_open(&w, NULL);
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++)
        expect_refused(&w, garbage[i], strlen(garbage[i]), "HTTP/1.1 400 Bad Request\r\n",
                       "the request is not valid HTTP/1.1");
    expect_refused(&w, "GET /\r\n\r\n", 9, "HTTP/1.1 505 ", "only HTTP/1.0 and HTTP/1.1 are spoken here");
    expect_refused(&w, "GET / HTTP/2.0\r\n\r\n", 18, "HTTP/1.1 505 ", "only HTTP/1.0");
    expect_served(&w);
    assert_int_equal(http_server_stats(w.server)->errors_total, sizeof garbage / sizeof *garbage + 2);
    world_close(&w);
}

static void headers_at_the_limit_pass_and_past_it_get_431(void **state) {
    struct http_server_options o = {.header_bytes_max = 2000};
    struct http_world w;
    world_open(&w, &o);
    for (unsigned over = 0; over <= 1; over++) {
        struct http_client c;
        struct buf request = {0};
        buf_str(&request, "GET /e HTTP/1.1\r\nX: "); // kept: "/e", 0, "X", 0, value, and 2 to end it
        for (unsigned i = 0; i < 2000 - 7 + over; i++) buf_char(&request, 'x');
        buf_str(&request, "\r\n\r\n");
        if (over) {
            expect_refused(&w, request.data, request.len, "HTTP/1.1 431 ", "are longer than 2000 bytes");
        } else {
            client_open(&c, &w.loop, http_server_address(w.server));
            client_send(&c, request.data, request.len);
            client_expect(&c, "GET /e? ", 1);
            client_close(&c);
        }
        buf_free(&request);
    }
    world_close(&w);
}

static void endless_header_blanks_and_too_many_headers_get_431(void **state) {
    struct http_world w;
    struct buf many = {0}, blanks = {0};
    world_open(&w, NULL);
    buf_str(&many, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 101; i++) buf_str(&many, "X: y\r\n");
    buf_str(&many, "\r\n");
    expect_refused(&w, many.data, many.len, "HTTP/1.1 431 ", "more than 100 header fields");
    buf_str(&blanks, "GET / HTTP/1.1\r\nX:");
    for (int i = 0; i < 100000; i++) buf_char(&blanks, ' ');
    expect_refused(&w, blanks.data, blanks.len, "HTTP/1.1 431 ", "are too long");
    buf_free(&many);
    buf_free(&blanks);
    world_close(&w);
}

static void bodies_at_the_limit_pass_and_past_it_get_413(void **state) {
    static const char at[] = "POST /e HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd", over[] =
                                                                                      "POST /e HTTP/1.1\r\nContent-Length: "
                                                                                      "5\r\n\r\nabcde";
    static const char chunked_over[] =
        "POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    struct http_server_options o = {.body_bytes_max = 4};
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, &o);
    client_send(&c, at, sizeof at - 1);
    client_expect(&c, "POST /e? abcd", 1);
    client_close(&c);
    expect_refused(&w, over, sizeof over - 1, "HTTP/1.1 413 ", "the body is longer than 4 bytes");
    expect_refused(&w, chunked_over, sizeof chunked_over - 1, "HTTP/1.1 413 ", "the body is longer than 4 bytes");
    world_close(&w);
}

static void a_refused_upload_still_reads_its_answer(void **state) {
    struct http_server_options o = {.body_bytes_max = 1000};
    struct http_world w;
    struct http_client c;
    static char block[60000];
    open_both(&w, &c, &o);
    client_say(&c, "POST /e HTTP/1.1\r\nContent-Length: 600000\r\n\r\n");
    for (int i = 0; i < 10; i++) { // the client writes on without looking
        client_send(&c, block, sizeof block);
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    client_expect(&c, "HTTP/1.1 413 ", 1);
    client_expect_end(&c);
    assert_true(c.eof);
    client_close(&c);
    world_close(&w);
}

static void large_bodies_together_are_bounded(void **state) {
    struct http_server_options o = {.held_bytes_max = 10};
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, &o);
    client_say(&c, "POST /later HTTP/1.1\r\nContent-Length: 8\r\n\r\n12345678");
    world_run_until_held(&w, 1);
    expect_refused(&w, "POST /e HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 42, "HTTP/1.1 503 ", "too many large requests");
    http_respond(w.held[0], 200, NULL, NULL, 0);
    client_say(&c, "POST /e HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    client_expect(&c, "POST /e? abc", 1);
    client_close(&c);
    world_close(&w);
}

static void a_disconnect_is_seen_at_once_however_it_happens(void **state) {
    struct http_world w;
    world_open(&w, NULL);
    for (unsigned i = 0; i < 4; i++) { // answer pending or stream begun; closed or reset
        struct http_client c;
        client_open(&c, &w.loop, http_server_address(w.server));
        client_say(&c, i % 2 ? "GET /stream HTTP/1.1\r\n\r\n" : "POST /later HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
        w.n_held = 0;
        world_run_until_held(&w, 1);
        if (i < 2)
            client_close(&c);
        else
            client_reset(&c);
        world_run_until_closed(&w, i + 1);
    }
    assert_int_equal(http_server_stats(w.server)->disconnects_total, 4);
    assert_int_equal(http_server_stats(w.server)->exchanges, 0);
    world_close(&w);
}

static void on_shut(uv_shutdown_t *request, int status) {}

static void a_client_that_closes_its_sending_side_counts_as_gone(void **state) {
    struct http_world w;
    struct http_client c;
    uv_shutdown_t shut;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /later HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    uv_shutdown(&shut, &c.socket.stream, on_shut);
    world_run_until_closed(&w, 1);
    client_expect_end(&c);
    client_close(&c);
    world_close(&w);
}

static void an_immediate_answer_reaches_a_client_that_closed_its_sending_side(void **state) {
    struct http_world w;
    struct http_client c;
    uv_shutdown_t shut;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /now HTTP/1.1\r\n\r\n");
    uv_shutdown(&shut, &c.socket.stream, on_shut);
    client_expect(&c, "GET /now? ", 1);
    client_expect_end(&c);
    client_close(&c);
    world_close(&w);
}

static void a_disconnect_during_pipelined_garbage_is_seen(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /later HTTP/1.1\r\n\r\n\x01\x02rubbish");
    world_run_until_held(&w, 1);
    client_close(&c);
    world_run_until_closed(&w, 1);
    world_close(&w);
}

static void a_slow_request_gets_408(void **state) {
    struct http_server_options o = {.header_timeout_ms = 80, .body_timeout_ms = 80};
    struct http_world w;
    world_open(&w, &o);
    expect_refused(&w, "GET / HTTP/1.1\r\nX:", 18, "HTTP/1.1 408 ", "headers did not arrive within 80 ms");
    expect_refused(&w, "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", 41, "HTTP/1.1 408 ",
                   "body did not arrive within 80 ms");
    assert_int_equal(http_server_stats(w.server)->timeouts_total, 2);
    world_close(&w);
}

static void an_idle_connection_is_closed_quietly(void **state) {
    struct http_server_options o = {.idle_timeout_ms = 60};
    struct http_world w;
    struct http_client silent, used;
    open_both(&w, &silent, &o);
    client_expect_end(&silent);
    assert_true(silent.eof && silent.got.len == 0);
    client_open(&used, &w.loop, http_server_address(w.server));
    client_say(&used, "GET /later HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    run_for(&w.loop, 200); // a pending answer is not idle
    assert_false(used.eof || used.failed);
    http_respond(w.held[0], 200, NULL, NULL, 0);
    client_expect(&used, "HTTP/1.1 200 OK", 1);
    client_expect_end(&used);
    client_close(&silent);
    client_close(&used);
    world_close(&w);
}

static void a_client_that_takes_nothing_is_cut(void **state) {
    static char block[1 << 20];
    struct http_server_options o = {.stall_timeout_ms = 100};
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, &o);
    client_say(&c, "GET /stream HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    client_hold(&c);
    for (int i = 0; i < 16; i++) http_stream_write(w.held[0], block, sizeof block);
    world_run_until_closed(&w, 1);
    client_close(&c);
    world_close(&w);
}

static void connections_over_the_maximum_get_503(void **state) {
    struct http_server_options o = {.connections_max = 2};
    struct http_world w;
    struct http_client a, b, c;
    open_both(&w, &a, &o);
    client_open(&b, &w.loop, http_server_address(w.server));
    client_open(&c, &w.loop, http_server_address(w.server));
    client_expect(&c, "HTTP/1.1 503 Service Unavailable\r\n", 1);
    client_expect(&c, "more than 2 connections are open", 1);
    client_close(&c);
    client_say(&a, "GET /a HTTP/1.1\r\n\r\n");
    client_expect(&a, "GET /a? ", 1);
    client_close(&b);
    run_for(&w.loop, 20);
    expect_served(&w);
    client_close(&a);
    world_close(&w);
}

static void connect_is_refused(void **state) {
    struct http_world w;
    world_open(&w, NULL);
    expect_refused(&w, "CONNECT example.com:443 HTTP/1.1\r\n\r\n", 36, "HTTP/1.1 405 ", "CONNECT is not allowed here");
    world_close(&w);
}

static void a_destroyed_server_leaves_nothing_behind(void **state) {
    struct http_world w;
    struct http_client busy, half, idle;
    open_both(&w, &busy, NULL);
    client_open(&half, &w.loop, http_server_address(w.server));
    client_open(&idle, &w.loop, http_server_address(w.server));
    client_say(&half, "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
    client_say(&busy, "GET /stream HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    http_stream_write(w.held[0], "x", 1);
    http_server_destroy(&w.server);
    client_expect_end(&busy);
    client_expect_end(&half);
    client_expect_end(&idle);
    assert_int_equal(w.n_closed, 0);
    client_close(&busy);
    client_close(&half);
    client_close(&idle);
    world_close(&w);
}

static err_id needs_a_pass(void *ctx, struct http_exchange *x, struct error *e) {
    if (http_header(x, "Pass")) return ERR_NONE;
    http_add_header(x, "WWW-Authenticate", "Pass");
    return error_set(e, ERR_UNAUTHENTICATED, "no pass");
}

static void a_body_can_be_refused_by_its_head_before_it_is_read(void **state) {
    static const char *const refused[] = {
        "POST /later HTTP/1.1\r\nContent-Length: 5000000\r\n\r\nnever sent to its end",
        "POST /later HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "POST /later HTTP/1.1\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n",
    };
    struct http_world w;
    struct http_server_options o = {.address = "127.0.0.1:0", .on_head = needs_a_pass};
    world_open(&w, &o);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct http_client c;
        client_open(&c, &w.loop, http_server_address(w.server));
        client_say(&c, refused[i]);
        client_expect(&c, "no pass", 1);
        assert_int_equal(strncmp(c.got.data, "HTTP/1.1 401 ", 13), 0);
        assert_int_equal(client_count(&c, "WWW-Authenticate: Pass\r\n"), 1);
        assert_int_equal(client_count(&c, "100 Continue"), 0);
        client_close(&c);
    }
    struct http_client c;
    client_open(&c, &w.loop, http_server_address(w.server));
    client_say(&c, "GET /a HTTP/1.1\r\n\r\n"); // no body: the handler's
    client_expect(&c, "GET /a? ", 1);
    client_say(&c, "POST /b HTTP/1.1\r\nPass: yes\r\nContent-Length: 3\r\n\r\nabc");
    client_expect(&c, "POST /b? abc", 1);
    client_close(&c);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage_gets_400_and_the_server_goes_on),
        cmocka_unit_test(headers_at_the_limit_pass_and_past_it_get_431),
        cmocka_unit_test(endless_header_blanks_and_too_many_headers_get_431),
        cmocka_unit_test(bodies_at_the_limit_pass_and_past_it_get_413),
        cmocka_unit_test(a_refused_upload_still_reads_its_answer),
        cmocka_unit_test(large_bodies_together_are_bounded),
        cmocka_unit_test(a_disconnect_is_seen_at_once_however_it_happens),
        cmocka_unit_test(a_client_that_closes_its_sending_side_counts_as_gone),
        cmocka_unit_test(an_immediate_answer_reaches_a_client_that_closed_its_sending_side),
        cmocka_unit_test(a_disconnect_during_pipelined_garbage_is_seen),
        cmocka_unit_test(a_slow_request_gets_408),
        cmocka_unit_test(an_idle_connection_is_closed_quietly),
        cmocka_unit_test(a_client_that_takes_nothing_is_cut),
        cmocka_unit_test(connections_over_the_maximum_get_503),
        cmocka_unit_test(connect_is_refused),
        cmocka_unit_test(a_destroyed_server_leaves_nothing_behind),
        cmocka_unit_test(a_body_can_be_refused_by_its_head_before_it_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
