// What a well-behaved client sees: answers, order, streams, back-pressure, the end of a server.
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
#include <unistd.h>
#include <cmocka.h>

static void open_both(struct http_world *w, struct http_client *c, const struct http_server_options *options) {
    world_open(w, options);
    client_open(c, &w->loop, http_server_address(w->server));
}

static void close_both(struct http_world *w, struct http_client *c) {
    client_close(c);
    world_close(w);
}

static void a_request_gets_its_answer(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "POST //v1///models?a=b#f HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    client_expect(&c, "POST /v1/models?a=b hello", 1);
    assert_memory_equal(c.got.data, "HTTP/1.1 200 OK\r\nDate: ", 23);
    assert_int_equal(client_count(&c, "\r\nContent-Type: text/plain\r\nContent-Length: 25\r\n\r\n"), 1);
    close_both(&w, &c);
}

static void absolute_urls_and_bare_authorities_are_understood(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET http://host:80//x?q HTTP/1.1\r\n\r\nGET http://host HTTP/1.1\r\n\r\nOPTIONS * HTTP/1.1\r\n\r\n");
    client_expect(&c, "GET /x?q ", 1);
    client_expect(&c, "GET ? ", 1);
    client_expect(&c, "OPTIONS *? ", 1);
    close_both(&w, &c);
}

static void a_thousand_requests_go_over_one_connection(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    for (unsigned i = 1; i <= 1000; i++) {
        char text[100];
        snprintf(text, sizeof text, "GET /n%u HTTP/1.1\r\nHost: x\r\n\r\n", i);
        client_say(&c, text);
        snprintf(text, sizeof text, "GET /n%u? ", i);
        client_expect(&c, text, 1);
        buf_reset(&c.got);
    }
    assert_int_equal(http_server_stats(w.server)->requests_total, 1000);
    assert_int_equal(http_server_stats(w.server)->connections_total, 1);
    close_both(&w, &c);
}

static void pipelined_requests_are_answered_in_order(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /a HTTP/1.1\r\n\r\nGET /later HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nxyGET /c "
                   "HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    client_expect(&c, "GET /a? ", 1);
    run_for(&w.loop, 30);
    assert_int_equal(client_count(&c, "/b"), 0); // waits for the one before
    http_respond(w.held[0], 200, "text/plain", "LATER", 5);
    client_expect(&c, "GET /c? ", 1);
    const char *later = strstr(c.got.data, "LATER"), *b = strstr(c.got.data, "POST /b? xy"),
               *third = strstr(c.got.data, "GET /c");
    assert_true(later && b && later < b && b < third);
    close_both(&w, &c);
}

// Sends until everything is sent or nothing was taken for 50 turns of the loop. Returns the bytes sent.
static size_t send_what_is_taken(struct http_client *c, const char *bytes, size_t len) {
    size_t at = 0;
    for (unsigned idle = 0; at < len && idle < 50; idle++) {
        uv_buf_t piece = uv_buf_init((char *)bytes + at, (unsigned)(len - at));
        int n = uv_try_write(&c->socket.stream, &piece, 1);
        if (n > 0) at += (size_t)n, idle = 0;
        uv_run(c->socket.handle.loop, UV_RUN_NOWAIT);
    }
    return at;
}

static void a_client_that_only_sends_is_made_to_wait(void **state) {
    enum { N = 5000, BODY = 8000 };
    struct http_world w;
    struct http_client c;
    struct buf one = {0}, all = {0};
    open_both(&w, &c, NULL);
    buf_printf(&one, "POST /e HTTP/1.1\r\nContent-Length: %d\r\n\r\n%0*d", BODY, BODY, 7);
    for (unsigned i = 0; i < N; i++) buf_append(&all, one.data, one.len);
    client_say(&c, one.data);
    client_expect(&c, "00007", 1);
    size_t answer = c.got.len;
    client_hold(&c);
    size_t sent = send_what_is_taken(&c, all.data, all.len);
    assert_true(sent < all.len); // neither requests nor answers pile up in the server: it stops reading
    assert_true(http_server_stats(w.server)->requests_total < N);
    client_resume(&c);
    sent += send_what_is_taken(&c, all.data + sent, all.len - sent);
    assert_int_equal(sent, all.len);
    client_expect_bytes(&c, (N + 1) * answer);
    buf_free(&one);
    buf_free(&all);
    close_both(&w, &c);
}

static void a_request_may_come_byte_by_byte(void **state) {
    static const char request[] = "POST /echo HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nTransfer-Encoding: chunked\r\n\r\n"
                                  "3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n";
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    for (size_t i = 0; i < sizeof request - 1; i++) {
        client_send(&c, request + i, 1);
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    client_expect(&c, "POST /echo? abcdefg", 1);
    close_both(&w, &c);
}

static void headers_are_found_in_any_case(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /later HTTP/1.1\r\nX-One: 1\r\nx-two:  two words \r\nX-Empty:\r\nX-Last: z\r\n\r\n");
    world_run_until_held(&w, 1);
    assert_string_equal(http_header(w.held[0], "x-ONE"), "1");
    assert_string_equal(http_header(w.held[0], "X-Two"), "two words ");
    assert_string_equal(http_header(w.held[0], "x-empty"), "");
    assert_string_equal(http_header(w.held[0], "x-last"), "z");
    assert_null(http_header(w.held[0], "x-none"));
    http_add_header(w.held[0], "X-Forged", "a\r\nb\x7f");
    http_add_header(w.held[0], "X-Request-Id", "abc");
    http_respond(w.held[0], 404, NULL, NULL, 0);
    client_expect(&c, "X-Forged: a??b?\r\nX-Request-Id: abc\r\n\r\n", 1);
    assert_memory_equal(c.got.data, "HTTP/1.1 404 Not Found\r\n", 24);
    close_both(&w, &c);
}

static void head_gets_the_head_alone(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "HEAD /echo HTTP/1.1\r\n\r\nHEAD /stream HTTP/1.1\r\n\r\nGET /after HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    http_stream_write(w.held[0], "body", 4);
    http_stream_end(w.held[0]);
    client_expect(&c, "GET /after? ", 1);
    assert_int_equal(client_count(&c, "Content-Length: 12\r\n\r\nHTTP/1.1"), 1);
    assert_int_equal(client_count(&c, "chunked\r\n\r\nHTTP/1.1"), 1);
    close_both(&w, &c);
}

static void the_servers_headers_are_on_every_answer(void **state) {
    struct http_server_options o = {.headers = "Access-Control-Allow-Origin: *\r\n"};
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, &o);
    client_say(&c, "OPTIONS /v1/models HTTP/1.1\r\n\r\nGET /stream HTTP/1.1\r\n\r\nrubbish\r\n\r\n");
    world_run_until_held(&w, 1);
    http_stream_end(w.held[0]);
    client_expect(&c, "Access-Control-Allow-Origin: *\r\n", 3);
    client_expect(&c, "HTTP/1.1 400 Bad Request", 1);
    close_both(&w, &c);
}

static void an_old_client_gets_a_body_until_close(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /stream HTTP/1.0\r\n\r\n");
    world_run_until_held(&w, 1);
    http_stream_write(w.held[0], "plain", 5);
    http_stream_end(w.held[0]);
    client_expect_end(&c);
    assert_true(c.eof && client_count(&c, "Connection: close\r\n\r\nplain") == 1 && client_count(&c, "chunked") == 0);
    close_both(&w, &c);
}

static void connection_close_is_obeyed_and_keep_alive_of_old_clients_too(void **state) {
    struct http_world w;
    struct http_client c, old;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /1 HTTP/1.1\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    client_expect_end(&c);
    assert_true(c.eof && client_count(&c, "GET /1? ") == 1 && client_count(&c, "/2") == 0);
    client_open(&old, &w.loop, http_server_address(w.server));
    client_say(&old, "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n");
    client_expect(&old, "GET /2? ", 1);
    client_expect_end(&old);
    assert_int_equal(client_count(&old, "Connection: keep-alive"), 1);
    client_close(&old);
    close_both(&w, &c);
}

static void continue_is_said_to_who_expects_it(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    client_expect(&c, "HTTP/1.1 100 Continue\r\n\r\n", 1);
    client_say(&c, "ok");
    client_expect(&c, "POST /echo? ok", 1);
    close_both(&w, &c);
}

static void an_offer_to_upgrade_is_declined(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "POST /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok");
    client_expect(&c, "POST /echo? ok", 1);
    close_both(&w, &c);
}

static void a_stream_comes_in_chunks(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /stream HTTP/1.1\r\n\r\nGET /after HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    http_stream_write(w.held[0], "data: 1\n\n", 9);
    client_expect(&c, "9\r\ndata: 1\n\n\r\n", 1); // out before the stream ends
    http_stream_write(w.held[0], "", 0);
    http_stream_write(w.held[0], "data: 2\n\n", 9);
    http_stream_end(w.held[0]);
    client_expect(&c, "9\r\ndata: 2\n\n\r\n0\r\n\r\nHTTP/1.1 200 OK", 1);
    client_expect(&c, "GET /after? ", 1);
    close_both(&w, &c);
}

static void an_aborted_stream_ends_without_its_last_chunk(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /stream HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    http_stream_write(w.held[0], "data: {\"error\"}\n\n", 17);
    http_abort(w.held[0]);
    client_expect_end(&c);
    assert_true(c.eof && client_count(&c, "{\"error\"}\n\n\r\n") == 1 && client_count(&c, "0\r\n\r\n") == 0);
    close_both(&w, &c);
}

static void an_aborted_stream_to_an_old_client_is_reset(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /stream HTTP/1.0\r\n\r\n");
    world_run_until_held(&w, 1);
    http_abort(w.held[0]);
    client_expect_end(&c);
    assert_true(c.failed && !c.eof);
    close_both(&w, &c);
}

static void an_abort_before_the_answer_closes(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /later HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    http_abort(w.held[0]);
    client_expect_end(&c);
    assert_int_equal(c.got.len, 0);
    close_both(&w, &c);
}

static void a_slow_reader_is_seen_in_pending_bytes_and_gets_all(void **state) {
    enum { PIECE = 8000, BOUND = 256 << 10 };
    static char piece[PIECE];
    struct http_world w;
    struct http_client c;
    size_t written = 0;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /stream HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    client_hold(&c);
    struct http_exchange *x = w.held[0];
    memset(piece, 'x', sizeof piece);
    for (unsigned quiet = 0; quiet < 20; quiet++) { // until the kernel takes no more for a while
        while (http_stream_pending_bytes(x) < BOUND) http_stream_write(x, piece, PIECE), written += PIECE, quiet = 0;
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    assert_true(http_stream_pending_bytes(x) >= BOUND && http_stream_pending_bytes(x) < BOUND + 2 * PIECE);
    unsigned writable = w.n_writable;
    client_resume(&c);
    client_expect(&c, "1f40\r\n", (unsigned)(written / PIECE));
    assert_true(w.n_writable > writable);
    assert_int_equal(http_stream_pending_bytes(x), 0);
    http_stream_end(x);
    client_expect(&c, "\r\n0\r\n\r\n", 1);
    close_both(&w, &c);
}

static void many_small_writes_of_one_turn_leave_as_one(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, NULL);
    client_say(&c, "GET /stream HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    for (int i = 0; i < 100; i++) http_stream_write(w.held[0], "token", 5);
    assert_int_equal(http_stream_pending_bytes(w.held[0]) >= 1000, 1); // nothing was written by the calls themselves
    client_expect(&c, "5\r\ntoken\r\n", 100);
    http_stream_end(w.held[0]);
    close_both(&w, &c);
}

static void a_unix_socket_serves_too(void **state) {
    char address[64];
    struct http_world w;
    struct http_client c;
    snprintf(address, sizeof address, "unix:/tmp/http_server_test.%d", (int)getpid());
    open_both(&w, &c, &(struct http_server_options){.address = address});
    assert_string_equal(http_server_address(w.server), address);
    client_say(&c, "GET /u HTTP/1.1\r\n\r\n");
    client_expect(&c, "GET /u? ", 1);
    close_both(&w, &c);
    assert_int_equal(access(address + 5, F_OK), -1); // the file goes with the server
}

static void wrong_and_busy_addresses_are_one_sentence(void **state) {
    struct http_world w;
    struct error e;
    struct http_server *second = NULL;
    world_open(&w, NULL);
    struct http_server_options o = {.loop = &w.loop, .address = http_server_address(w.server)};
    assert_int_equal(http_server_create(&o, &second, &e), ERR_SYSTEM);
    assert_non_null(strstr(error_text(&e), "cannot listen on 127.0.0.1:"));
    assert_non_null(strstr(error_text(&e), "address already in use"));
    o.address = "example.com:80";
    assert_int_equal(http_server_create(&o, &second, &e), ERR_INVALID_ARGUMENT);
    o.address = "8080";
    assert_int_equal(http_server_create(&o, &second, &e), ERR_INVALID_ARGUMENT);
    assert_string_equal(error_text(&e), "\"8080\" is no address: expected host:port, :port, [ipv6]:port or unix:/path");
    world_close(&w);
}

static void every_interface_can_be_listened_on(void **state) {
    struct http_world w;
    struct http_client c;
    open_both(&w, &c, &(struct http_server_options){.address = ":0"});
    client_say(&c, "GET /u HTTP/1.1\r\n\r\n");
    client_expect(&c, "GET /u? ", 1);
    close_both(&w, &c);
}

static void note_stopped(void *ctx) { ((struct http_world *)ctx)->n_stopped++; }
static bool is_stopped(void *ctx) { return ((struct http_world *)ctx)->n_stopped > 0; }

static void a_stopping_server_finishes_what_it_has(void **state) {
    struct http_world w;
    struct http_client c, idle;
    open_both(&w, &c, NULL);
    client_open(&idle, &w.loop, http_server_address(w.server));
    client_say(&c, "GET /stream HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    http_server_stop(w.server, note_stopped);
    client_expect_end(&idle);
    run_for(&w.loop, 30);
    assert_int_equal(w.n_stopped, 0);
    http_stream_write(w.held[0], "last", 4);
    http_stream_end(w.held[0]);
    client_expect(&c, "4\r\nlast\r\n0\r\n\r\n", 1);
    client_expect_end(&c);
    client_close(&idle);
    client_close(&c);
    run_until(&w.loop, is_stopped, &w, "the server has stopped");
    assert_int_equal(w.n_stopped, 1);
    assert_int_equal(http_server_stats(w.server)->connections, 0);
    world_close(&w);
}

static void a_leaving_server_serves_on_and_keeps_no_connection(void **state) {
    struct http_world w;
    struct http_client c, late;
    open_both(&w, &c, NULL);
    http_server_leave(w.server);
    client_say(&c, "GET /u HTTP/1.1\r\n\r\n"); // was open before
    client_expect(&c, "Connection: close\r\n", 1);
    client_expect_end(&c);
    client_open(&late, &w.loop, http_server_address(w.server));
    client_say(&late, "GET /stream HTTP/1.1\r\n\r\n");
    world_run_until_held(&w, 1);
    http_stream_write(w.held[0], "last", 4);
    http_stream_end(w.held[0]);
    client_expect(&late, "Connection: close\r\n", 1);
    client_expect(&late, "4\r\nlast\r\n0\r\n\r\n", 1);
    client_expect_end(&late);
    client_close(&late);
    close_both(&w, &c);
}

static void stopping_an_idle_server_is_reported_too(void **state) {
    struct http_world w;
    world_open(&w, NULL);
    http_server_stop(w.server, note_stopped);
    assert_int_equal(w.n_stopped, 0); // never from inside the call
    run_until(&w.loop, is_stopped, &w, "the server has stopped");
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_gets_its_answer),
        cmocka_unit_test(absolute_urls_and_bare_authorities_are_understood),
        cmocka_unit_test(a_thousand_requests_go_over_one_connection),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(a_client_that_only_sends_is_made_to_wait),
        cmocka_unit_test(a_request_may_come_byte_by_byte),
        cmocka_unit_test(headers_are_found_in_any_case),
        cmocka_unit_test(head_gets_the_head_alone),
        cmocka_unit_test(the_servers_headers_are_on_every_answer),
        cmocka_unit_test(an_old_client_gets_a_body_until_close),
        cmocka_unit_test(connection_close_is_obeyed_and_keep_alive_of_old_clients_too),
        cmocka_unit_test(continue_is_said_to_who_expects_it),
        cmocka_unit_test(an_offer_to_upgrade_is_declined),
        cmocka_unit_test(a_stream_comes_in_chunks),
        cmocka_unit_test(an_aborted_stream_ends_without_its_last_chunk),
        cmocka_unit_test(an_aborted_stream_to_an_old_client_is_reset),
        cmocka_unit_test(an_abort_before_the_answer_closes),
        cmocka_unit_test(a_slow_reader_is_seen_in_pending_bytes_and_gets_all),
        cmocka_unit_test(many_small_writes_of_one_turn_leave_as_one),
        cmocka_unit_test(a_unix_socket_serves_too),
        cmocka_unit_test(wrong_and_busy_addresses_are_one_sentence),
        cmocka_unit_test(every_interface_can_be_listened_on),
        cmocka_unit_test(a_stopping_server_finishes_what_it_has),
        cmocka_unit_test(a_leaving_server_serves_on_and_keeps_no_connection),
        cmocka_unit_test(stopping_an_idle_server_is_reported_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
