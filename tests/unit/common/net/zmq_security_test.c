// CURVE links: who has the right keys gets through and is known by its key; everybody else gets nothing through.
#include "common/net/zmq_loop.h"

#include "tests/unit/common/net/until.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>
#include <cmocka.h>

enum { PAIRS = 4 };

struct pair {
    uint8_t public_key[NET_KEY_BYTES], secret_key[NET_KEY_BYTES];
};

struct world {
    uv_loop_t loop;
    struct pair server, client, other;
    struct net_security *at_router, *at_dealer;
    struct net_router *router;
    struct net_dealer *dealer;
    uint8_t allowed[PAIRS][NET_KEY_BYTES], servers[PAIRS][NET_KEY_BYTES];
    uint32_t n_allowed, n_servers;
    struct net_identity peer;
    uint32_t router_frames, dealer_frames, connected, disconnected, shut_out;
    char why[200];
};

static void draw(struct pair *p) {
    char public_text[41], secret_text[41];
    assert_int_equal(zmq_curve_keypair(public_text, secret_text), 0);
    assert_non_null(zmq_z85_decode(p->public_key, public_text));
    assert_non_null(zmq_z85_decode(p->secret_key, secret_text));
}

static bool allows(void *ctx, const uint8_t key[NET_KEY_BYTES]) {
    struct world *w = ctx;
    for (uint32_t i = 0; i < w->n_allowed; i++)
        if (memcmp(w->allowed[i], key, NET_KEY_BYTES) == 0) return true;
    return false;
}

static bool server(void *ctx, uint32_t at, uint8_t key[NET_KEY_BYTES]) {
    struct world *w = ctx;
    if (at >= w->n_servers) return false;
    memcpy(key, w->servers[at], NET_KEY_BYTES);
    return true;
}

static void allow(struct world *w, const struct pair *p) {
    memcpy(w->allowed[w->n_allowed++], p->public_key, NET_KEY_BYTES);
}
static void know(struct world *w, const struct pair *p) { memcpy(w->servers[w->n_servers++], p->public_key, NET_KEY_BYTES); }

static void router_frame(void *ctx, const struct net_identity *peer, const void *data, size_t len) {
    struct world *w = ctx;
    w->peer = *peer;
    w->router_frames++;
    net_router_send(w->router, peer, data, len);
}
static void dealer_frame(void *ctx, const void *data, size_t len) { ((struct world *)ctx)->dealer_frames++; }
static void up(void *ctx) {
    struct world *w = ctx;
    w->connected++;
    net_dealer_send(w->dealer, "hello", 5);
}
static void down(void *ctx) { ((struct world *)ctx)->disconnected++; }
static void shut_out(void *ctx, const char *why) {
    struct world *w = ctx;
    w->shut_out++;
    snprintf(w->why, sizeof w->why, "%s", why);
}

static bool got_answer(void *ctx) { return ((struct world *)ctx)->dealer_frames > 0; }
static bool was_shut_out(void *ctx) { return ((struct world *)ctx)->shut_out > 1; }
static bool has_failed(void *ctx) { return net_dealer_stats(((struct world *)ctx)->dealer)->shut_out > 1; }
static bool was_refused(void *ctx) { return net_security_stats(((struct world *)ctx)->at_router)->refused > 0; }
static bool went_down(void *ctx) { return ((struct world *)ctx)->disconnected > 0; }

// keys: the router's and the dealer's; NULL: plaintext.
static void open_world(struct world *w, const struct pair *router_keys, const struct pair *dealer_keys) {
    struct error e = {0};
    if (router_keys) {
        struct net_security_options o = {&w->loop, router_keys->public_key, router_keys->secret_key, w, allows, server};
        if (net_security_create(&o, &w->at_router, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    }
    if (dealer_keys) {
        struct net_security_options o = {&w->loop, dealer_keys->public_key, dealer_keys->secret_key, w, NULL, server};
        if (net_security_create(&o, &w->at_dealer, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    }
    struct net_router_options r = {
        .loop = &w->loop, .address = "127.0.0.1:0", .security = w->at_router, .ctx = w, .on_frame = router_frame};
    if (net_router_create(&r, &w->router, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    struct net_dealer_options d = {.loop = &w->loop,
                                   .address = net_router_endpoint(w->router),
                                   .security = w->at_dealer,
                                   .redial_ms = 10,
                                   .redial_max_ms = 50,
                                   .ctx = w,
                                   .on_frame = dealer_frame,
                                   .on_connected = up,
                                   .on_disconnected = down,
                                   .on_shut_out = shut_out};
    if (net_dealer_create(&d, &w->dealer, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
}

static struct world *start(void) {
    struct world *w = calloc(1, sizeof *w);
    uv_loop_init(&w->loop);
    draw(&w->server);
    draw(&w->client);
    draw(&w->other);
    return w;
}

static void stop(struct world *w) {
    net_dealer_destroy(&w->dealer);
    net_router_destroy(&w->router);
    net_security_destroy(&w->at_dealer);
    net_security_destroy(&w->at_router);
    loop_finish(&w->loop);
    free(w);
}

static void with_the_right_keys_frames_pass_and_the_sender_is_known(void **state) {
    struct world *w = start();
    allow(w, &w->client);
    know(w, &w->server);
    open_world(w, &w->server, &w->client);
    run_until(&w->loop, got_answer, w, "got answer");
    assert_true(w->peer.keyed);
    assert_memory_equal(w->peer.key, w->client.public_key, NET_KEY_BYTES);
    assert_int_equal(net_security_stats(w->at_router)->admitted, 1);
    assert_int_equal(w->shut_out, 0);
    stop(w);
}

static void an_unknown_key_is_refused_and_told_so(void **state) {
    struct world *w = start();
    allow(w, &w->other);
    know(w, &w->server);
    open_world(w, &w->server, &w->client);
    run_until(&w->loop, was_shut_out, w, "was shut out");
    assert_non_null(strstr(w->why, "does not know this process' certificate"));
    assert_true(was_refused(w));
    assert_int_equal(w->connected + w->router_frames, 0);
    allow(w, &w->client); // the list changes: no restart
    run_until(&w->loop, got_answer, w, "got answer");
    stop(w);
}

static void a_router_with_another_key_than_expected_is_not_believed(void **state) {
    struct world *w = start();
    allow(w, &w->client);
    know(w, &w->other);
    open_world(w, &w->server, &w->client);
    run_for(&w->loop, 200);
    assert_int_equal(w->connected + w->router_frames, 0);
    know(w, &w->server); // the second of two
    run_until(&w->loop, got_answer, w, "got answer");
    stop(w);
}

static void plaintext_and_curve_do_not_mix(void **state) {
    for (int side = 0; side < 2; side++) {
        struct world *w = start();
        allow(w, &w->client);
        know(w, &w->server);
        open_world(w, side ? &w->server : NULL, side ? NULL : &w->client);
        run_until(&w->loop, has_failed, w, "has failed");
        assert_non_null(strstr(w->why, "only one side uses CURVE"));
        assert_int_equal(w->connected + w->router_frames, 0);
        stop(w);
    }
}

static void without_a_server_key_nothing_is_dialled(void **state) {
    struct world *w = start();
    allow(w, &w->client);
    open_world(w, &w->server, &w->client);
    run_until(&w->loop, was_shut_out, w, "was shut out");
    assert_non_null(strstr(w->why, "no certificate of a router"));
    know(w, &w->server);
    run_until(&w->loop, got_answer, w, "got answer");
    stop(w);
}

static void a_server_key_that_is_withdrawn_ends_the_connection(void **state) {
    struct world *w = start();
    allow(w, &w->client);
    know(w, &w->other);
    know(w, &w->server);
    open_world(w, &w->server, &w->client);
    run_until(&w->loop, got_answer, w, "got answer");
    net_dealer_check_key(w->dealer);
    assert_true(net_dealer_is_connected(w->dealer));
    w->n_servers = 1;
    net_dealer_check_key(w->dealer);
    run_until(&w->loop, went_down, w, "went down");
    assert_false(net_dealer_is_connected(w->dealer));
    stop(w);
}

static void garbage_on_a_curve_port_harms_nobody(void **state) {
    struct world *w = start();
    unsigned port = 0;
    allow(w, &w->client);
    know(w, &w->server);
    open_world(w, &w->server, &w->client);
    assert_int_equal(sscanf(net_router_endpoint(w->router), "tcp://127.0.0.1:%u", &port), 1);
    for (int i = 0; i < 20; i++) {
        // a proper ZMTP 3.0 greeting that claims CURVE, then noise; or noise at once
        char bytes[400] = {(char)0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'C', 'U', 'R', 'V', 'E'};
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        for (size_t b = i % 2 ? 0 : 64; b < sizeof bytes; b++) bytes[b] = (char)rand();
        assert_int_equal(write(fd, bytes, sizeof bytes), sizeof bytes);
        uv_run(&w->loop, UV_RUN_NOWAIT);
        close(fd);
    }
    run_until(&w->loop, got_answer, w, "got answer");
    assert_int_equal(w->router_frames, 1);
    stop(w);
}

static void off_loopback_plaintext_is_an_explicit_wish(void **state) {
    struct world *w = start();
    struct error e = {0};
    struct net_security_options anywhere = {.loop = &w->loop};
    struct net_router_options r = {.loop = &w->loop, .address = "0.0.0.0:0", .ctx = w, .on_frame = router_frame};
    struct net_dealer_options d = {.loop = &w->loop, .address = "tcp://192.0.2.1:1", .ctx = w, .on_frame = dealer_frame};
    assert_int_equal(net_router_create(&r, &w->router, &e), ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(error_text(&e), "security.curve: required"));
    assert_non_null(strstr(error_text(&e), "security.plaintext: anywhere"));
    assert_int_equal(net_dealer_create(&d, &w->dealer, &e), ERR_INVALID_ARGUMENT);
    assert_int_equal(net_security_create(&anywhere, &w->at_router, &e), ERR_NONE);
    assert_false(net_security_has_keys(w->at_router));
    r.security = d.security = w->at_router;
    assert_int_equal(net_router_create(&r, &w->router, &e), ERR_NONE);
    assert_int_equal(net_dealer_create(&d, &w->dealer, &e), ERR_NONE);
    stop(w);
}

static void only_one_security_of_a_process_decides(void **state) {
    struct world *w = start();
    struct error e = {0};
    struct net_security *second;
    allow(w, &w->client);
    know(w, &w->server);
    open_world(w, &w->server, &w->client);
    struct net_security_options o = {&w->loop, w->other.public_key, w->other.secret_key, w, allows, server};
    assert_int_equal(net_security_create(&o, &second, &e), ERR_SYSTEM);
    assert_null(second);
    stop(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_the_right_keys_frames_pass_and_the_sender_is_known),
        cmocka_unit_test(an_unknown_key_is_refused_and_told_so),
        cmocka_unit_test(a_router_with_another_key_than_expected_is_not_believed),
        cmocka_unit_test(plaintext_and_curve_do_not_mix),
        cmocka_unit_test(without_a_server_key_nothing_is_dialled),
        cmocka_unit_test(a_server_key_that_is_withdrawn_ends_the_connection),
        cmocka_unit_test(garbage_on_a_curve_port_harms_nobody),
        cmocka_unit_test(off_loopback_plaintext_is_an_explicit_wish),
        cmocka_unit_test(only_one_security_of_a_process_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
