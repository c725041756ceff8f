// ZeroMQ on libuv with real sockets on loopback: nothing is lost, nothing spins, and every way a link can end is seen.
#include "common/net/zmq_loop.h"

#include "common/sys/clock.h"
#include "tests/unit/common/net/until.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>
#include <cmocka.h>

struct world {
    uv_loop_t loop;
    struct net_router *router;
    struct net_dealer *dealer;
    struct net_identity peer; // of the latest frame at the router
    bool echo;
    uint32_t router_frames, dealer_frames, wrong; // wrong: frames out of order
    uint32_t connected, disconnected;
    size_t last_len;
    uint32_t wanted; // frames at the dealer, for conditions
};

static void router_frame(void *ctx, const struct net_identity *peer, const void *data, size_t len) {
    struct world *w = ctx;
    uint32_t n;
    w->peer = *peer;
    w->last_len = len;
    if (len == sizeof n) {
        memcpy(&n, data, sizeof n);
        w->wrong += n != w->router_frames;
    }
    w->router_frames++;
    if (w->echo) assert_int_equal(net_router_send(w->router, peer, data, len), NET_SENT);
}

static void dealer_frame(void *ctx, const void *data, size_t len) {
    struct world *w = ctx;
    uint32_t n;
    if (len == sizeof n) {
        memcpy(&n, data, sizeof n);
        w->wrong += n != w->dealer_frames;
    }
    w->dealer_frames++;
}

static void dealer_up(void *ctx) { ((struct world *)ctx)->connected++; }
static void dealer_down(void *ctx) { ((struct world *)ctx)->disconnected++; }

static bool is_connected(void *ctx) { return net_dealer_is_connected(((struct world *)ctx)->dealer); }
static bool is_disconnected(void *ctx) { return !net_dealer_is_connected(((struct world *)ctx)->dealer); }
static bool dealer_has_wanted(void *ctx) { return ((struct world *)ctx)->dealer_frames >= ((struct world *)ctx)->wanted; }
static bool router_has_wanted(void *ctx) { return ((struct world *)ctx)->router_frames >= ((struct world *)ctx)->wanted; }

static void open_router(struct world *w, const char *address, uint32_t frame_max) {
    struct error e = {0};
    struct net_router_options o = {.loop = &w->loop, .address = address, .ctx = w, .on_frame = router_frame};
    o.frame_bytes_max = frame_max;
    o.queue_frames = 1000000; // the storm tests queue more than a healthy link would
    if (net_router_create(&o, &w->router, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
}

static void open_dealer(struct world *w, const char *address, uint32_t frame_max) {
    struct error e = {0};
    struct net_dealer_options o = {.loop = &w->loop, .address = address, .ctx = w, .on_frame = dealer_frame};
    o.on_connected = dealer_up;
    o.on_disconnected = dealer_down;
    o.frame_bytes_max = frame_max;
    o.queue_frames = 1000000;
    o.redial_ms = 10;
    if (net_dealer_create(&o, &w->dealer, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
}

static void setup(struct world *w) {
    *w = (struct world){.echo = true};
    uv_loop_init(&w->loop);
    open_router(w, "127.0.0.1:0", 0);
    open_dealer(w, net_router_endpoint(w->router), 0);
    run_until(&w->loop, is_connected, w, "the dealer connects");
}

static void teardown(struct world *w) {
    net_dealer_destroy(&w->dealer);
    net_router_destroy(&w->router);
    loop_finish(&w->loop);
}

static void a_storm_of_frames_in_both_directions_arrives_complete_and_in_order(void **state) {
    enum { FRAMES = 100000 };
    struct world w;
    setup(&w);
    int64_t start = clock_us();
    for (uint32_t i = 0; i < FRAMES; i++) assert_int_equal(net_dealer_send(w.dealer, &i, sizeof i), NET_SENT);
    w.wanted = FRAMES;
    run_until(&w.loop, dealer_has_wanted, &w, "all echoes are back");
    double us = (double)(clock_us() - start) / (2 * FRAMES);
    print_message("# %.2f us per ZeroMQ message (one thread sends and receives, %d there and back)\n", us, FRAMES);
    assert_int_equal(w.router_frames, FRAMES);
    assert_int_equal(w.dealer_frames, FRAMES);
    assert_int_equal(w.wrong, 0);
    teardown(&w);
}

static void one_frame_at_a_time_never_stalls(void **state) {
    struct world w;
    setup(&w);
    for (uint32_t i = 0; i < 3000; i++) { // each round trip depends on an edge of ZMQ_FD being seen on both sides
        assert_int_equal(net_dealer_send(w.dealer, &i, sizeof i), NET_SENT);
        w.wanted = i + 1;
        run_until(&w.loop, dealer_has_wanted, &w, "one echo is back");
    }
    assert_int_equal(w.wrong, 0);
    teardown(&w);
}

static void a_send_does_not_swallow_an_arrival(void **state) {
    struct world w;
    uint32_t i = 0;
    setup(&w);
    w.echo = false;
    for (unsigned round = 0; round < 5; round++) {
        w.router_frames = w.dealer_frames = 0;
        w.wanted = 1;
        net_dealer_send(w.dealer, &i, sizeof i);
        run_until(&w.loop, router_has_wanted, &w, "a frame, for the identity");
        w.router_frames = 0;
        net_dealer_send(w.dealer, &i, sizeof i);
        usleep(20000); // the frame comes to the router's socket while its loop doesn't look
        assert_int_equal(net_router_send(w.router, &w.peer, &i, sizeof i), NET_SENT); // takes the edge
        run_until(&w.loop, router_has_wanted, &w, "the frame that came before the send");
        run_until(&w.loop, dealer_has_wanted, &w, "the frame that was sent");
        w.dealer_frames = 0;
        assert_int_equal(net_router_send(w.router, &w.peer, &i, sizeof i), NET_SENT);
        usleep(20000);
        assert_int_equal(net_dealer_send(w.dealer, &i, sizeof i), NET_SENT);
        run_until(&w.loop, dealer_has_wanted, &w, "the same at the dealer");
        w.wanted = 2;
        run_until(&w.loop, router_has_wanted, &w, "the dealer's frame");
    }
    teardown(&w);
}

struct other_thread {
    char endpoint[NET_ENDPOINT_SIZE];
    uint32_t frames;
    uint32_t received;
};

// Plain libzmq with blocking calls: a peer that owes nothing to the code under test.
static void run_peer(void *arg) {
    struct other_thread *t = arg;
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
    int big = 1000000, wait = UNTIL_MS;
    zmq_setsockopt(socket, ZMQ_SNDHWM, &big, sizeof big);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &big, sizeof big);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &wait, sizeof wait);
    zmq_connect(socket, t->endpoint);
    for (uint32_t i = 0; i < t->frames; i++) zmq_send(socket, &i, sizeof i, 0);
    for (uint32_t n; t->received < t->frames && zmq_recv(socket, &n, sizeof n, 0) == sizeof n; t->received++)
        if (n != t->received) break;
    zmq_close(socket);
    zmq_ctx_term(context);
}

static bool thread_done(void *ctx) {
    struct world *w = ctx;
    return w->router_frames >= w->wanted;
}

static void a_peer_on_another_thread_gets_every_answer(void **state) {
    struct world w = {.echo = true, .wanted = 100000};
    struct other_thread t = {.frames = 100000};
    uv_thread_t thread;
    uv_loop_init(&w.loop);
    open_router(&w, "127.0.0.1:0", 0);
    snprintf(t.endpoint, sizeof t.endpoint, "%s", net_router_endpoint(w.router));
    int64_t start = clock_us();
    uv_thread_create(&thread, run_peer, &t);
    run_until(&w.loop, thread_done, &w, "the router has all frames");
    double us = (double)(clock_us() - start) / (2 * 100000);
    uv_thread_join(&thread);
    print_message("# %.2f us per ZeroMQ message (two threads)\n", us);
    assert_int_equal(t.received, t.frames);
    assert_int_equal(w.wrong, 0);
    net_router_destroy(&w.router);
    loop_finish(&w.loop);
}

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void an_idle_link_uses_no_cpu(void **state) {
    struct world w;
    uint32_t i = 0;
    setup(&w);
    net_dealer_send(w.dealer, &i, sizeof i);
    w.wanted = 1;
    run_until(&w.loop, dealer_has_wanted, &w, "one echo is back");
    double before = cpu_seconds();
    run_for(&w.loop, 500);
    assert_true(cpu_seconds() - before < 0.1);
    teardown(&w);
}

static void a_lost_router_is_seen_at_once_and_found_again(void **state) {
    struct world w;
    char endpoint[NET_ENDPOINT_SIZE];
    uint32_t i = 0;
    setup(&w);
    snprintf(endpoint, sizeof endpoint, "%s", net_router_endpoint(w.router));
    net_router_destroy(&w.router);
    run_until(&w.loop, is_disconnected, &w, "the loss is seen");
    assert_int_equal(w.disconnected, 1);
    assert_int_equal(net_dealer_send(w.dealer, &i, sizeof i), NET_UNREACHABLE);
    run_for(&w.loop, 100); // some refused dials
    open_router(&w, endpoint, 0);
    run_until(&w.loop, is_connected, &w, "the dealer is back");
    assert_int_equal(w.connected, 2);
    assert_int_equal(net_dealer_send(w.dealer, &i, sizeof i), NET_SENT);
    w.wanted = 1;
    run_until(&w.loop, dealer_has_wanted, &w, "the new connection carries frames");
    assert_int_equal(net_dealer_stats(w.dealer)->lost, 1);
    teardown(&w);
}

static void each_connection_has_a_new_identity(void **state) {
    struct world w;
    uint32_t i = 0;
    setup(&w);
    net_dealer_send(w.dealer, &i, sizeof i);
    w.wanted = 1;
    run_until(&w.loop, router_has_wanted, &w, "a frame over the first connection");
    struct net_identity first = w.peer;
    net_dealer_redial(w.dealer);
    assert_int_equal(w.disconnected, 1);
    run_until(&w.loop, is_connected, &w, "the second connection");
    net_dealer_send(w.dealer, &i, sizeof i);
    w.wanted = 2;
    run_until(&w.loop, router_has_wanted, &w, "a frame over the second connection");
    assert_int_equal(first.len, 16);
    assert_memory_not_equal(first.bytes, w.peer.bytes, 16);
    teardown(&w);
}

static bool first_is_unreachable(void *ctx) {
    struct world *w = ctx;
    return net_router_send(w->router, &w->peer, "x", 1) == NET_UNREACHABLE;
}

static void a_send_to_nobody_says_unreachable(void **state) {
    struct world w;
    uint32_t i = 0;
    setup(&w);
    struct net_identity nobody = {.len = 3, .bytes = "abc"};
    assert_int_equal(net_router_send(w.router, &nobody, "x", 1), NET_UNREACHABLE);
    net_dealer_send(w.dealer, &i, sizeof i);
    w.wanted = 1;
    run_until(&w.loop, dealer_has_wanted, &w, "an echo");
    assert_int_equal(net_router_send(w.router, &w.peer, "x", 1), NET_SENT);
    net_dealer_destroy(&w.dealer);
    run_until(&w.loop, first_is_unreachable, &w, "the peer that left is unreachable");
    assert_true(net_router_stats(w.router)->refused >= 2);
    net_router_destroy(&w.router);
    loop_finish(&w.loop);
}

static void a_full_queue_says_full_and_empties_again(void **state) {
    struct world w = {0};
    struct error e = {0};
    char block[1000] = {0};
    uv_loop_init(&w.loop);
    open_router(&w, "127.0.0.1:0", 0);
    struct net_dealer_options o = {.loop = &w.loop, .address = net_router_endpoint(w.router), .ctx = &w};
    o.on_frame = dealer_frame;
    o.queue_frames = 8;
    assert_int_equal(net_dealer_create(&o, &w.dealer, &e), ERR_NONE);
    run_until(&w.loop, is_connected, &w, "the dealer connects");
    uint32_t sent = 0;
    while (sent < 100000000 && net_dealer_send(w.dealer, block, sizeof block) == NET_SENT) sent++;
    assert_int_equal(net_dealer_send(w.dealer, block, sizeof block), NET_FULL);
    w.wanted = sent;
    run_until(&w.loop, router_has_wanted, &w, "all accepted frames arrive");
    assert_int_equal(net_dealer_send(w.dealer, block, sizeof block), NET_SENT);
    teardown(&w);
}

static void an_oversized_frame_is_dropped_and_the_link_goes_on(void **state) {
    struct world w = {.echo = true};
    char *block = calloc(1, 4096);
    uint32_t i = 0;
    uv_loop_init(&w.loop);
    open_router(&w, "127.0.0.1:0", 1000);
    open_dealer(&w, net_router_endpoint(w.router), 1 << 20); // a peer that allows itself more
    run_until(&w.loop, is_connected, &w, "the dealer connects");
    assert_int_equal(net_dealer_send(w.dealer, block, 1001), NET_SENT);
    assert_int_equal(net_dealer_send(w.dealer, block, 1000), NET_SENT);
    w.wanted = 1;
    run_until(&w.loop, dealer_has_wanted, &w, "the frame at the limit is echoed");
    assert_int_equal(w.last_len, 1000);
    assert_int_equal(net_router_stats(w.router)->oversized, 1);
    assert_int_equal(w.disconnected, 0);
    assert_int_equal(net_router_send(w.router, &w.peer, block, 1001), NET_TOO_LARGE);
    assert_int_equal(net_dealer_send(w.dealer, block, 4000), NET_SENT); // far beyond: libzmq cuts the connection
    run_until(&w.loop, is_disconnected, &w, "the connection is cut");
    run_until(&w.loop, is_connected, &w, "and made again");
    w.router_frames = w.dealer_frames = 0;
    assert_int_equal(net_dealer_send(w.dealer, &i, sizeof i), NET_SENT);
    run_until(&w.loop, dealer_has_wanted, &w, "and carries frames");
    free(block);
    teardown(&w);
}

static void messages_of_several_frames_and_garbage_are_dropped(void **state) {
    struct world w;
    uint32_t i = 0;
    setup(&w);
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
    zmq_connect(socket, net_router_endpoint(w.router));
    zmq_send(socket, "a", 1, ZMQ_SNDMORE);
    zmq_send(socket, "b", 1, ZMQ_SNDMORE);
    zmq_send(socket, "c", 1, 0);
    zmq_send(socket, "", 0, ZMQ_SNDMORE); // what a REQ socket sends
    zmq_send(socket, "d", 1, 0);
    zmq_send(socket, "hello", 5, 0);
    w.wanted = 1;
    run_until(&w.loop, router_has_wanted, &w, "the whole frame arrives");
    assert_int_equal(w.last_len, 5);
    assert_int_equal(net_router_stats(w.router)->multipart, 2);
    zmq_close(socket);
    zmq_ctx_term(context);
    w.router_frames = 0;
    net_dealer_send(w.dealer, &i, sizeof i);
    run_until(&w.loop, router_has_wanted, &w, "others go on");
    teardown(&w);
}

static void write_garbage(uv_connect_t *request, int status) {
    static char garbage[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n\xff\xff\xff\xff\xff\xff";
    assert_int_equal(status, 0);
    uv_buf_t buffer = uv_buf_init(garbage, sizeof garbage);
    assert_true(uv_try_write(request->handle, &buffer, 1) > 0);
}

static void ignore_close(uv_handle_t *handle) {}

static void bytes_that_are_no_zeromq_harm_nobody(void **state) {
    struct world w;
    uv_tcp_t tcp;
    uv_connect_t request;
    struct sockaddr_in address;
    uint32_t i = 0;
    setup(&w);
    uv_ip4_addr("127.0.0.1", atoi(strrchr(net_router_endpoint(w.router), ':') + 1), &address);
    uv_tcp_init(&w.loop, &tcp);
    uv_tcp_connect(&request, &tcp, (struct sockaddr *)&address, write_garbage);
    run_for(&w.loop, 100);
    net_dealer_send(w.dealer, &i, sizeof i);
    w.wanted = 1;
    run_until(&w.loop, dealer_has_wanted, &w, "the good link goes on");
    uv_close((uv_handle_t *)&tcp, ignore_close);
    teardown(&w);
}

static void destroy_on_frame(void *ctx, const void *data, size_t len) {
    struct world *w = ctx;
    net_dealer_destroy(&w->dealer);
    net_router_destroy(&w->router);
    w->dealer_frames++;
    assert_int_equal(((const char *)data)[0], 7); // still readable
}

static void a_callback_may_destroy_its_own_socket(void **state) {
    struct world w = {.echo = true, .wanted = 1};
    struct error e = {0};
    char seven[2] = {7, 7};
    uv_loop_init(&w.loop);
    open_router(&w, "127.0.0.1:0", 0);
    struct net_dealer_options o = {.loop = &w.loop, .address = net_router_endpoint(w.router), .ctx = &w};
    o.on_frame = destroy_on_frame;
    assert_int_equal(net_dealer_create(&o, &w.dealer, &e), ERR_NONE);
    run_until(&w.loop, is_connected, &w, "the dealer connects");
    for (int n = 0; n < 10; n++) net_dealer_send(w.dealer, seven, sizeof seven);
    run_until(&w.loop, dealer_has_wanted, &w, "a frame arrives");
    run_for(&w.loop, 20);
    assert_int_equal(w.dealer_frames, 1);
    loop_finish(&w.loop);
}

static void a_stale_unix_socket_is_replaced_and_a_live_one_is_not(void **state) {
    struct world w = {.echo = true};
    struct error e = {0};
    char path[64], address[80];
    snprintf(path, sizeof path, "/tmp/zmq_loop_test.%d", (int)getpid());
    snprintf(address, sizeof address, "unix:%s", path);
    uv_loop_init(&w.loop);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un stale = {.sun_family = AF_UNIX};
    snprintf(stale.sun_path, sizeof stale.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&stale, sizeof stale), 0);
    close(fd); // the file stays
    open_router(&w, address, 0);
    struct net_router *second = NULL;
    struct net_router_options o = {.loop = &w.loop, .address = address, .ctx = &w, .on_frame = router_frame};
    assert_int_equal(net_router_create(&o, &second, &e), ERR_SYSTEM);
    assert_non_null(strstr(error_text(&e), "a running process listens there"));
    open_dealer(&w, address, 0);
    run_until(&w.loop, is_connected, &w, "the dealer connects over a unix socket");
    teardown(&w);
    unlink(path);
}

static void addresses_beyond_this_host_are_refused(void **state) {
    static const char *const refused[] = {":7700", "tcp://0.0.0.0:7700", "tcp://10.0.0.1:7700", "[::]:7700",
                                          "router.example.com:7700"};
    struct error e;
    uv_loop_t loop;
    uv_loop_init(&loop);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct net_router *r = NULL;
        struct net_dealer *d = NULL;
        struct net_router_options ro = {.loop = &loop, .address = refused[i], .on_frame = router_frame};
        struct net_dealer_options so = {.loop = &loop, .address = refused[i], .on_frame = dealer_frame};
        assert_int_equal(net_router_create(&ro, &r, &e), ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(error_text(&e), "cannot listen on"));
        assert_non_null(strstr(error_text(&e), "plaintext"));
        assert_int_equal(net_dealer_create(&so, &d, &e), ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(error_text(&e), "cannot dial"));
    }
    loop_finish(&loop);
}

static void a_busy_port_is_one_sentence(void **state) {
    struct world w;
    struct error e = {0};
    struct net_router *second = NULL;
    setup(&w);
    struct net_router_options o = {.loop = &w.loop, .address = net_router_endpoint(w.router), .on_frame = router_frame};
    assert_int_equal(net_router_create(&o, &second, &e), ERR_SYSTEM);
    assert_non_null(strstr(error_text(&e), "Address already in use"));
    teardown(&w);
}

static void the_programs_signal_handlers_are_left_alone(void **state) {
    struct world w;
    struct sigaction before, after;
    sigaction(SIGTERM, NULL, &before);
    setup(&w);
    sigaction(SIGTERM, NULL, &after);
    assert_true(before.sa_handler == after.sa_handler);
    teardown(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_programs_signal_handlers_are_left_alone),
        cmocka_unit_test(a_storm_of_frames_in_both_directions_arrives_complete_and_in_order),
        cmocka_unit_test(one_frame_at_a_time_never_stalls),
        cmocka_unit_test(a_send_does_not_swallow_an_arrival),
        cmocka_unit_test(a_peer_on_another_thread_gets_every_answer),
        cmocka_unit_test(an_idle_link_uses_no_cpu),
        cmocka_unit_test(a_lost_router_is_seen_at_once_and_found_again),
        cmocka_unit_test(each_connection_has_a_new_identity),
        cmocka_unit_test(a_send_to_nobody_says_unreachable),
        cmocka_unit_test(a_full_queue_says_full_and_empties_again),
        cmocka_unit_test(an_oversized_frame_is_dropped_and_the_link_goes_on),
        cmocka_unit_test(messages_of_several_frames_and_garbage_are_dropped),
        cmocka_unit_test(bytes_that_are_no_zeromq_harm_nobody),
        cmocka_unit_test(a_callback_may_destroy_its_own_socket),
        cmocka_unit_test(a_stale_unix_socket_is_replaced_and_a_live_one_is_not),
        cmocka_unit_test(addresses_beyond_this_host_are_refused),
        cmocka_unit_test(a_busy_port_is_one_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
