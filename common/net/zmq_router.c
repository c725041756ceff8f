#include "common/net/zmq_loop.h"

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/net/unix_path.h"
#include "common/net/zmq_poll.h"
#include "common/net/zmq_security.h"
#include "common/net/zmq_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct net_router {
    struct net_router_options options;
    zsock_t *socket;
    struct zmq_poll poll;
    struct net_stats stats;
    char endpoint[NET_ENDPOINT_SIZE];
};

static bool receive(void *ctx) {
    struct net_router *r = ctx;
    struct net_identity peer;
    zmq_msg_t data;
    struct zmq_receiver from = {r->socket, r->options.frame_bytes_max, net_security_has_keys(r->options.security),
                                &r->stats};
    enum zmq_received got = zmq_socket_receive(&from, &peer, &data);
    if (got != ZMQ_GOT) return got == ZMQ_DROPPED;
    if (!zmq_security_allows(r->options.security, &peer)) {
        r->stats.unproven++;
        zmq_msg_close(&data);
        return true;
    }
    r->options.on_frame(r->options.ctx, &peer, zmq_msg_data(&data), zmq_msg_size(&data));
    zmq_msg_close(&data); // its own memory: good also when the callback destroyed the router
    return true;
}

static void on_gone(void *ctx) { free(ctx); }

static err_id bind_socket(struct net_router *r, const struct endpoint *endpoint, struct error *e) {
    char address[ADDRESS_SIZE + 16];
    size_t size = sizeof r->endpoint;
    void *socket = zsock_resolve(r->socket);
    if (endpoint->kind == ENDPOINT_UNIX) TRY(unix_path_claim(endpoint->host, e));
    endpoint_zmq_text(endpoint, address);
    if (zmq_bind(socket, address) != 0)
        return error_set(e, ERR_SYSTEM, "cannot listen on %s: %s", r->options.address, zmq_strerror(zmq_errno()));
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, r->endpoint, &size) != 0)
        return error_set(e, ERR_SYSTEM, "cannot tell where %s listens: %s", r->options.address, zmq_strerror(zmq_errno()));
    return ERR_NONE;
}

err_id net_router_create(const struct net_router_options *options, struct net_router **out, struct error *e) {
    struct endpoint endpoint;
    TRY(zmq_socket_address(options->address, "listen on", options->security, &endpoint, e));
    struct net_router *r = xcalloc(1, sizeof *r);
    r->options = *options;
    if (r->options.frame_bytes_max == 0) r->options.frame_bytes_max = FRAME_BYTES_MAX;
    if (r->options.queue_frames == 0) r->options.queue_frames = NET_QUEUE_FRAMES;
    struct zmq_socket_options socket = {.type = ZMQ_ROUTER,
                                        .frame_bytes_max = r->options.frame_bytes_max,
                                        .queue_frames = r->options.queue_frames,
                                        .v6 = endpoint.v6,
                                        .security = options->security};
    r->poll = (struct zmq_poll){.ctx = r, .receive = receive, .on_gone = on_gone};
    r->poll.turn_max = options->turn_frames ? options->turn_frames : NET_TURN_FRAMES;
    TRY_GOTO(zmq_socket_open(&socket, &r->socket, e), fail);
    TRY_GOTO(bind_socket(r, &endpoint, e), fail);
    TRY_GOTO(zmq_poll_open(&r->poll, options->loop, r->socket, e), fail);
    *out = r;
    return ERR_NONE;
fail:
    zsock_destroy(&r->socket);
    free(r);
    return ERR_SYSTEM;
}

void net_router_destroy(struct net_router **router) {
    struct net_router *r = *router;
    *router = NULL;
    if (r == NULL) return;
    zmq_poll_close(&r->poll);
    zsock_destroy(&r->socket);
}

const char *net_router_endpoint(const struct net_router *r) { return r->endpoint; }
const struct net_stats *net_router_stats(const struct net_router *r) { return &r->stats; }

static enum net_sent refuse(struct net_router *r, enum net_sent why) {
    r->stats.refused++;
    return why;
}

enum net_sent net_router_send(struct net_router *r, const struct net_identity *peer, const void *data, size_t len) {
    void *socket = zsock_resolve(r->socket);
    int rc;
    if (len > r->options.frame_bytes_max) return refuse(r, NET_TOO_LARGE);
    do rc = zmq_send(socket, peer->bytes, peer->len, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    int reason = errno;
    zmq_poll_touch(&r->poll);
    if (rc < 0) return refuse(r, reason == EAGAIN ? NET_FULL : NET_UNREACHABLE);
    // The queue's room was checked with the identity; the second frame always goes with the first.
    do rc = zmq_send(socket, data, len, ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    if (rc < 0) return refuse(r, NET_UNREACHABLE);
    r->stats.frames_out++;
    r->stats.bytes_out += len;
    return NET_SENT;
}
