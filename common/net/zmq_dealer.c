// Design notes. A dealer is a small machine: waiting (timer until the next dial) → dialling (socket open, timer until the
// dial is given up) → connected → waiting… Each dial makes a new `connection`: a DEALER socket, a PAIR socket on which
// libzmq reports what happens to it (zmq_socket_monitor), and their two polls. A connection is detached from its dealer
// before it is closed, and frees itself when libuv has let go of its handles.
#include "common/net/zmq_loop.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/net/zmq_poll.h"
#include "common/net/zmq_security.h"
#include "common/net/zmq_socket.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { IDENTITY_BYTES = 16, MONITOR_FRAMES_PER_TURN = 32 };
enum { EVENTS_UP = ZMQ_EVENT_HANDSHAKE_SUCCEEDED };
enum { // before the handshake is done. How it looks depends on who notices first
    EVENTS_SHUT_OUT = ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                      ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_DISCONNECTED
};
enum {
    EVENTS_DOWN = ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_CONNECT_RETRIED |
                  ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                  ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
};

struct connection {
    struct net_dealer *dealer; // NULL once detached
    zsock_t *socket, *monitor;
    struct zmq_poll socket_poll, monitor_poll;
    int polls; // open
};

struct net_dealer {
    struct net_dealer_options options;
    char endpoint[ADDRESS_SIZE + 16]; // as ZeroMQ writes it
    struct connection *connection;    // NULL while waiting
    bool v6, connected;
    uint32_t server_at;            // which of the server keys is tried
    uint8_t server[NET_KEY_BYTES]; // it, of the present connection
    uint32_t pause_ms;             // before the next dial, without jitter
    uint64_t random;               // state of the jitter
    uv_timer_t timer;
    struct net_stats stats;
};

static void wait_and_dial(struct net_dealer *d);

static void on_poll_gone(void *ctx) {
    struct connection *c = ctx;
    if (--c->polls == 0) free(c);
}

// Detaches and closes; the dealer may dial again right after.
static void connection_close(struct net_dealer *d) {
    struct connection *c = d->connection;
    d->connection = NULL;
    if (c == NULL) return;
    c->dealer = NULL;
    int polls = c->polls;
    if (polls > 0) zmq_poll_close(&c->socket_poll);
    if (polls > 1) zmq_poll_close(&c->monitor_poll);
    if (c->socket) zmq_socket_monitor(zsock_resolve(c->socket), NULL, 0);
    zsock_destroy(&c->socket);
    zsock_destroy(&c->monitor);
    if (polls == 0) free(c);
}

static void came_up(struct net_dealer *d) {
    if (d->connected) return;
    d->connected = true;
    d->stats.connected++;
    d->pause_ms = d->options.redial_ms;
    uv_timer_stop(&d->timer);
    if (d->options.on_connected) d->options.on_connected(d->options.ctx);
}

static void went_down(struct net_dealer *d) {
    bool was_connected = d->connected;
    d->connected = false;
    connection_close(d);
    d->server_at += !was_connected; // it may have another key
    wait_and_dial(d);
    d->stats.lost += was_connected;
    if (was_connected && d->options.on_disconnected) d->options.on_disconnected(d->options.ctx);
}

// Takes one frame and hands it out. False: there is none, or the connection is no longer its dealer's.
static bool receive_frame(void *ctx) {
    struct connection *c = ctx;
    struct net_dealer *d = c->dealer;
    zmq_msg_t data;
    struct zmq_receiver from = {.socket = c->socket, .frame_bytes_max = d->options.frame_bytes_max, .stats = &d->stats};
    enum zmq_received got = zmq_socket_receive(&from, NULL, &data);
    if (got != ZMQ_GOT) return got == ZMQ_DROPPED;
    came_up(d); // the monitor's word may come after the first frame
    if (c->dealer) d->options.on_frame(d->options.ctx, zmq_msg_data(&data), zmq_msg_size(&data));
    zmq_msg_close(&data);
    return c->dealer != NULL;
}

static void shut_out(struct net_dealer *d, uint16_t event) {
    d->stats.shut_out++;
    if (d->options.on_shut_out == NULL) return;
    const char *why =
        "the other side ended the handshake: only one side uses CURVE, or it has another key than its certificate "
        "here says";
    if (event & ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
        why = "the other side does not know this process' certificate; copy the public one into its security.allow";
    d->options.on_shut_out(d->options.ctx, why);
}

// An event is two frames: its number and value, then the address.
static bool receive_event(void *ctx) {
    struct connection *c = ctx;
    uint16_t event;
    zmq_msg_t part;
    zmq_msg_init(&part);
    if (zmq_msg_recv(&part, zsock_resolve(c->monitor), ZMQ_DONTWAIT) < 0) return errno == EINTR;
    CHECK(zmq_msg_size(&part) >= sizeof event);
    memcpy(&event, zmq_msg_data(&part), sizeof event);
    zmq_msg_recv(&part, zsock_resolve(c->monitor), ZMQ_DONTWAIT);
    zmq_msg_close(&part);
    if (event & EVENTS_SHUT_OUT && !c->dealer->connected) shut_out(c->dealer, event);
    if (event & EVENTS_UP) {
        came_up(c->dealer);
    } else if (event & EVENTS_DOWN) {
        while (c->dealer && receive_frame(c)) { // what came before the end; bounded by the high-water mark
        }
        if (c->dealer) went_down(c->dealer);
    }
    return c->dealer != NULL;
}

static err_id open_monitor(struct connection *c, struct error *e) {
    char address[64]; // unique in the process: sockets of other loops are in the same context
    snprintf(address, sizeof address, "inproc://monitor-%" PRIxPTR, (uintptr_t)c->socket);
    if (zmq_socket_monitor(zsock_resolve(c->socket), address, EVENTS_UP | EVENTS_DOWN) != 0)
        return error_set(e, ERR_SYSTEM, "cannot watch a connection: %s", zmq_strerror(zmq_errno()));
    if ((c->monitor = zsock_new(ZMQ_PAIR)) == NULL || zmq_connect(zsock_resolve(c->monitor), address) != 0)
        return error_set(e, ERR_SYSTEM, "cannot watch a connection: %s", zmq_strerror(zmq_errno()));
    return ERR_NONE;
}

static err_id open_polls(struct connection *c, const struct net_dealer *d, struct error *e) {
    c->socket_poll = (struct zmq_poll){.ctx = c, .receive = receive_frame, .on_gone = on_poll_gone};
    c->socket_poll.turn_max = d->options.turn_frames;
    TRY(zmq_poll_open(&c->socket_poll, d->options.loop, c->socket, e));
    c->polls = 1;
    c->monitor_poll = (struct zmq_poll){.ctx = c, .receive = receive_event, .on_gone = on_poll_gone};
    c->monitor_poll.turn_max = MONITOR_FRAMES_PER_TURN;
    TRY(zmq_poll_open(&c->monitor_poll, d->options.loop, c->monitor, e));
    c->polls = 2;
    return ERR_NONE;
}

// The server key to try now, round and round the list.
static err_id choose_server(struct net_dealer *d, struct error *e) {
    const struct net_security *s = d->options.security;
    if (!net_security_has_keys(s) || zmq_security_server(s, d->server_at, d->server)) return ERR_NONE;
    d->server_at = 0;
    if (zmq_security_server(s, 0, d->server)) return ERR_NONE;
    if (d->options.on_shut_out)
        d->options.on_shut_out(d->options.ctx, "no certificate of a router is known here; copy one into security.allow");
    return error_set(e, ERR_CONFIG, "no server key is known");
}

static err_id dial(struct net_dealer *d, struct error *e) {
    uint8_t identity[IDENTITY_BYTES];
    CHECK(getrandom(identity, sizeof identity, 0) == sizeof identity);
    identity[0] |= 1; // not 0
    struct zmq_socket_options socket = {.type = ZMQ_DEALER,
                                        .frame_bytes_max = d->options.frame_bytes_max,
                                        .queue_frames = d->options.queue_frames,
                                        .v6 = d->v6,
                                        .identity = identity,
                                        .identity_len = sizeof identity,
                                        .connect_timeout_ms = d->options.dial_timeout_ms,
                                        .security = d->options.security,
                                        .server = d->server};
    TRY(choose_server(d, e));
    struct connection *c = d->connection = xcalloc(1, sizeof *c);
    c->dealer = d;
    TRY(zmq_socket_open(&socket, &c->socket, e));
    TRY(open_monitor(c, e));
    TRY(open_polls(c, d, e));
    if (zmq_connect(zsock_resolve(c->socket), d->endpoint) != 0)
        return error_set(e, ERR_SYSTEM, "cannot dial %s: %s", d->endpoint, zmq_strerror(zmq_errno()));
    return ERR_NONE;
}

static void on_dial_timeout(uv_timer_t *timer) { went_down(timer->data); }

static void on_dial(uv_timer_t *timer) {
    struct net_dealer *d = timer->data;
    if (dial(d, NULL) == ERR_NONE)
        uv_timer_start(&d->timer, on_dial_timeout, d->options.dial_timeout_ms, 0);
    else
        went_down(d); // out of descriptors or of memory for the moment: the next dial may find better times
}

// The pause times 0.5 to 1.5, then dial; the next pause is twice as long.
static void wait_and_dial(struct net_dealer *d) {
    d->random = hash_mix(d->random + UINT64_C(0x9e3779b97f4a7c15));
    uint64_t pause = d->pause_ms / 2 + d->random % (d->pause_ms + 1);
    uint8_t key[NET_KEY_BYTES];
    if (d->server_at > 0 && zmq_security_server(d->options.security, d->server_at, key))
        pause = d->options.redial_ms / 2; // not the same try again
    else
        d->pause_ms = d->pause_ms > d->options.redial_max_ms / 2 ? d->options.redial_max_ms : 2 * d->pause_ms;
    uv_timer_start(&d->timer, on_dial, pause, 0);
}

static void use_defaults(struct net_dealer_options *o) {
    if (o->frame_bytes_max == 0) o->frame_bytes_max = FRAME_BYTES_MAX;
    if (o->queue_frames == 0) o->queue_frames = NET_QUEUE_FRAMES;
    if (o->turn_frames == 0) o->turn_frames = NET_TURN_FRAMES;
    if (o->redial_ms == 0) o->redial_ms = 100;
    if (o->redial_max_ms == 0) o->redial_max_ms = 5000;
    if (o->redial_max_ms < o->redial_ms) o->redial_max_ms = o->redial_ms;
    if (o->dial_timeout_ms == 0) o->dial_timeout_ms = 3000;
}

err_id net_dealer_create(const struct net_dealer_options *options, struct net_dealer **out, struct error *e) {
    struct endpoint endpoint;
    TRY(zmq_socket_address(options->address, "dial", options->security, &endpoint, e));
    if (endpoint.kind == ENDPOINT_TCP && endpoint.port == 0)
        return error_set(e, ERR_INVALID_ARGUMENT, "cannot dial %s: a port is needed", options->address);
    struct net_dealer *d = xcalloc(1, sizeof *d);
    d->options = *options;
    d->options.address = NULL; // not kept: endpoint is
    use_defaults(&d->options);
    d->v6 = endpoint.v6;
    endpoint_zmq_text(&endpoint, d->endpoint);
    CHECK(getrandom(&d->random, sizeof d->random, 0) == sizeof d->random);
    d->pause_ms = d->options.redial_ms;
    uv_timer_init(options->loop, &d->timer);
    d->timer.data = d;
    uv_timer_start(&d->timer, on_dial, 0, 0);
    *out = d;
    return ERR_NONE;
}

static void on_timer_closed(uv_handle_t *handle) { free(handle->data); }

void net_dealer_destroy(struct net_dealer **dealer) {
    struct net_dealer *d = *dealer;
    *dealer = NULL;
    if (d == NULL) return;
    connection_close(d);
    uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}

enum net_sent net_dealer_send(struct net_dealer *d, const void *data, size_t len) {
    enum net_sent sent = NET_SENT;
    if (len > d->options.frame_bytes_max) {
        sent = NET_TOO_LARGE;
    } else if (!d->connected) {
        sent = NET_UNREACHABLE;
    } else {
        int rc;
        do rc = zmq_send(zsock_resolve(d->connection->socket), data, len, ZMQ_DONTWAIT);
        while (rc < 0 && errno == EINTR);
        if (rc < 0) sent = errno == EAGAIN ? NET_FULL : NET_UNREACHABLE;
        zmq_poll_touch(&d->connection->socket_poll);
    }
    d->stats.refused += sent != NET_SENT;
    d->stats.frames_out += sent == NET_SENT;
    d->stats.bytes_out += sent == NET_SENT ? len : 0;
    return sent;
}

void net_dealer_redial(struct net_dealer *d) {
    if (d->connection == NULL) return; // it is about to dial
    d->pause_ms = d->options.redial_ms;
    went_down(d);
}

void net_dealer_check_key(struct net_dealer *d) {
    uint8_t key[NET_KEY_BYTES];
    if (!net_security_has_keys(d->options.security) || d->connection == NULL) return;
    for (uint32_t at = 0; zmq_security_server(d->options.security, at, key); at++)
        if (memcmp(key, d->server, sizeof key) == 0) return;
    net_dealer_redial(d);
}

bool net_dealer_is_connected(const struct net_dealer *d) { return d->connected; }
const struct net_stats *net_dealer_stats(const struct net_dealer *d) { return &d->stats; }
