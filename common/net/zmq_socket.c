#include "common/net/zmq_socket.h"

#include "common/base/check.h"
#include "common/net/zmq_security.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

enum {
    BACKLOG = 4096,          // connections not yet accepted: a region's workers may all come back at once
    HANDSHAKE_MS = 5000,     // a peer that connects and says nothing is cut
    PING_MS = 5000,          // ZeroMQ's own pings, only so that connections of vanished hosts free their queues;
    PING_TIMEOUT_MS = 20000, // the protocol's heartbeats decide long before
    KEEPALIVE_IDLE_S = 30,   // and TCP's, for what dies inside the network
    KEEPALIVE_INTERVAL_S = 10,
    KEEPALIVE_PROBES = 3,
    NO_REDIAL_MS = 3600 * 1000, // libzmq's own redialling is out of the way; -1 would throw unread frames away
};

// czmq makes its context with the first socket and takes over SIGINT and SIGTERM then; put back what the program had.
static err_id start_czmq(struct error *e) {
    struct sigaction interrupt, terminate;
    sigaction(SIGINT, NULL, &interrupt);
    sigaction(SIGTERM, NULL, &terminate);
    void *context = zsys_init();
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &terminate, NULL);
    return context ? ERR_NONE : error_set(e, ERR_SYSTEM, "cannot create a ZeroMQ context: %s", zmq_strerror(zmq_errno()));
}

static bool set_int(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool set_options(void *socket, const struct zmq_socket_options *o) {
    int64_t frame_max = 2 * (int64_t)o->frame_bytes_max;
    bool ok = set_int(socket, ZMQ_LINGER, 0) && set_int(socket, ZMQ_SNDHWM, (int)o->queue_frames) &&
              set_int(socket, ZMQ_RCVHWM, (int)o->queue_frames) && set_int(socket, ZMQ_IPV6, o->v6) &&
              zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max) == 0 &&
              set_int(socket, ZMQ_BACKLOG, BACKLOG) && set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) &&
              set_int(socket, ZMQ_HEARTBEAT_IVL, PING_MS) && set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, PING_TIMEOUT_MS) &&
              set_int(socket, ZMQ_TCP_KEEPALIVE, 1) && set_int(socket, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S) &&
              set_int(socket, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S) &&
              set_int(socket, ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES);
    if (ok && o->type == ZMQ_ROUTER) // a send to nobody must fail, and nobody may take over another's identity
        ok = set_int(socket, ZMQ_ROUTER_MANDATORY, 1) && set_int(socket, ZMQ_ROUTER_HANDOVER, 0) &&
             zmq_security_listen(o->security, socket);
    else if (ok && o->type == ZMQ_DEALER)
        ok = zmq_security_dial(o->security, socket, o->server) && set_int(socket, ZMQ_RECONNECT_IVL, NO_REDIAL_MS) &&
             set_int(socket, ZMQ_CONNECT_TIMEOUT, (int)o->connect_timeout_ms) &&
             zmq_setsockopt(socket, ZMQ_ROUTING_ID, o->identity, o->identity_len) == 0;
    return ok;
}

err_id zmq_socket_open(const struct zmq_socket_options *options, zsock_t **out, struct error *e) {
    TRY(start_czmq(e));
    zsock_t *socket = zsock_new(options->type);
    if (socket == NULL) return error_set(e, ERR_SYSTEM, "cannot open a ZeroMQ socket: %s", zmq_strerror(zmq_errno()));
    if (!set_options(zsock_resolve(socket), options)) {
        error_set(e, ERR_SYSTEM, "cannot set up a ZeroMQ socket: %s", zmq_strerror(zmq_errno()));
        zsock_destroy(&socket);
        return ERR_SYSTEM;
    }
    *out = socket;
    return ERR_NONE;
}

err_id zmq_socket_address(const char *text, const char *verb, const struct net_security *security, struct endpoint *out,
                          struct error *e) {
    TRY(endpoint_parse(text, out, e));
    if (out->loopback || security) return ERR_NONE;
    return error_set(
        e, ERR_INVALID_ARGUMENT,
        "cannot %s %s: the link would leave this host in plaintext; set security.curve: required (`shoal keygen` makes "
        "the keys), or use 127.0.0.1, [::1] or unix:/path, or say security.plaintext: anywhere if that is meant",
        verb, text);
}

static bool receive_part(void *socket, zmq_msg_t *part) {
    zmq_msg_init(part);
    if (zmq_msg_recv(part, socket, ZMQ_DONTWAIT) >= 0) return true;
    zmq_msg_close(part);
    return false;
}

// Reads the rest of a message away; part is its latest frame. Returns how many frames followed.
static uint32_t discard_rest(void *socket, zmq_msg_t *part) {
    uint32_t n = 0;
    for (bool more = zmq_msg_more(part); more; n++) {
        zmq_msg_t next;
        if (!receive_part(socket, &next)) break;
        more = zmq_msg_more(&next);
        zmq_msg_close(&next);
    }
    return n;
}

// The key that the frame's sender proved when it connected. False: it has none.
static bool proven_key(zmq_msg_t *frame, struct net_identity *peer) {
    const char *user = zmq_msg_gets(frame, "User-Id");
    peer->keyed = user && strlen(user) == NET_KEY_TEXT - 1 && zmq_z85_decode(peer->key, user) != NULL;
    return peer->keyed;
}

enum zmq_received zmq_socket_receive(const struct zmq_receiver *r, struct net_identity *peer, zmq_msg_t *data) {
    void *socket = zsock_resolve(r->socket);
    struct net_stats *stats = r->stats;
    if (!receive_part(socket, data)) return errno == EINTR ? ZMQ_DROPPED : ZMQ_NOTHING;
    if (peer) {
        CHECK(zmq_msg_size(data) <= NET_IDENTITY_MAX); // libzmq's own limit
        peer->keyed = false;
        peer->len = (uint8_t)zmq_msg_size(data);
        memcpy(peer->bytes, zmq_msg_data(data), peer->len);
        bool more = zmq_msg_more(data);
        zmq_msg_close(data);
        if (!more || !receive_part(socket, data)) return ZMQ_DROPPED; // an identity alone
    }
    if (discard_rest(socket, data) > 0) {
        stats->multipart++;
    } else if (zmq_msg_size(data) > r->frame_bytes_max) {
        stats->oversized++;
    } else if (peer && r->keyed && !proven_key(data, peer)) {
        stats->unproven++;
    } else {
        stats->frames_in++;
        stats->bytes_in += zmq_msg_size(data);
        return ZMQ_GOT;
    }
    zmq_msg_close(data);
    return ZMQ_DROPPED;
}
