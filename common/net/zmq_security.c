// Design notes. A CURVE listener asks "inproc://zeromq.zap.01" about each key, from libzmq's own thread; the answer carries
// the key as User-Id, which libzmq then attaches to every frame of that connection. Should nobody answer there, libzmq lets
// everybody in, without a User-Id: zmq_socket_receive drops such frames, so that a mistake shuts out and never in.
#include "common/net/zmq_security.h"

#include "common/base/check.h"
#include "common/net/zmq_poll.h"
#include "common/net/zmq_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ZAP_FRAMES = 7, ZAP_QUESTIONS_PER_TURN = 64 };
static const char zap_address[] = "inproc://zeromq.zap.01", zap_domain[] = "shoal", zap_version[] = "1.0";

struct net_security {
    struct net_security_options options;
    bool keyed;
    uint8_t public_key[NET_KEY_BYTES], secret_key[NET_KEY_BYTES];
    zsock_t *zap; // NULL: no listeners
    struct zmq_poll poll;
    struct net_security_stats stats;
};

// --- ZAP

struct zap_request { // version, request id, domain, address, identity, mechanism, credentials
    zmq_msg_t frames[ZAP_FRAMES];
    uint32_t n;
    bool more;
};

static bool read_request(struct net_security *s, struct zap_request *r) {
    void *socket = zsock_resolve(s->zap);
    *r = (struct zap_request){.more = true};
    while (r->more) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) < 0) return false;
        r->more = zmq_msg_more(&part);
        if (r->n < ZAP_FRAMES)
            r->frames[r->n++] = part;
        else
            zmq_msg_close(&part);
    }
    return true;
}

static bool frame_is(zmq_msg_t *frame, const char *text) {
    return zmq_msg_size(frame) == strlen(text) && memcmp(zmq_msg_data(frame), text, strlen(text)) == 0;
}

static void put(struct net_security *s, const void *data, size_t len, bool more) {
    zmq_send(zsock_resolve(s->zap), data, len,
             ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)); // a REP socket has room for its answer
}

static bool answer(void *ctx) {
    struct net_security *s = ctx;
    struct zap_request r;
    char user[NET_KEY_TEXT] = "";
    if (!read_request(s, &r)) return errno == EINTR;
    bool ok = r.n == ZAP_FRAMES && frame_is(&r.frames[0], zap_version) && frame_is(&r.frames[5], "CURVE") &&
              zmq_msg_size(&r.frames[6]) == NET_KEY_BYTES && s->options.allows(s->options.ctx, zmq_msg_data(&r.frames[6]));
    if (ok) zmq_z85_encode(user, zmq_msg_data(&r.frames[6]), NET_KEY_BYTES);
    s->stats.admitted += ok;
    s->stats.refused += !ok;
    put(s, zap_version, strlen(zap_version), true);
    put(s, r.n > 1 ? zmq_msg_data(&r.frames[1]) : "", r.n > 1 ? zmq_msg_size(&r.frames[1]) : 0, true);
    put(s, ok ? "200" : "400", 3, true);
    put(s, ok ? "OK" : "unknown key", strlen(ok ? "OK" : "unknown key"), true);
    put(s, user, strlen(user), true);
    put(s, "", 0, false); // metadata
    for (uint32_t i = 0; i < r.n; i++) zmq_msg_close(&r.frames[i]);
    return true;
}

static void on_gone(void *ctx) { free(ctx); }

static err_id listen_for_questions(struct net_security *s, struct error *e) {
    struct zmq_socket_options socket = {.type = ZMQ_REP, .frame_bytes_max = 4096, .queue_frames = NET_QUEUE_FRAMES};
    TRY(zmq_socket_open(&socket, &s->zap, e));
    if (zmq_bind(zsock_resolve(s->zap), zap_address) != 0)
        return error_set(e, ERR_SYSTEM, "cannot decide about connections: %s", zmq_strerror(zmq_errno()));
    s->poll = (struct zmq_poll){.ctx = s, .receive = answer, .on_gone = on_gone, .turn_max = ZAP_QUESTIONS_PER_TURN};
    return zmq_poll_open(&s->poll, s->options.loop, s->zap, e);
}

// --- life

err_id net_security_create(const struct net_security_options *options, struct net_security **out, struct error *e) {
    struct net_security *s = xcalloc(1, sizeof *s);
    s->options = *options;
    s->keyed = options->public_key != NULL;
    s->options.public_key = s->options.secret_key = NULL; // not kept: the copies are
    if (s->keyed) {
        memcpy(s->public_key, options->public_key, NET_KEY_BYTES);
        memcpy(s->secret_key, options->secret_key, NET_KEY_BYTES);
    }
    if (s->keyed && !zmq_has("curve")) {
        error_set(e, ERR_SYSTEM, "this build of ZeroMQ has no CURVE; install one that has (Debian's does)");
        goto fail;
    }
    if (s->keyed && options->allows) TRY_GOTO(listen_for_questions(s, e), fail);
    *out = s;
    return ERR_NONE;
fail:
    zsock_destroy(&s->zap);
    free(s);
    *out = NULL;
    return ERR_SYSTEM;
}

void net_security_destroy(struct net_security **security) {
    struct net_security *s = *security;
    *security = NULL;
    if (s == NULL) return;
    explicit_bzero(s->secret_key, sizeof s->secret_key);
    if (s->zap == NULL) {
        free(s);
        return;
    }
    zmq_poll_close(&s->poll);
    zmq_unbind(zsock_resolve(s->zap), zap_address); // at once: closing alone frees the name some time later
    zsock_destroy(&s->zap);
}

bool net_security_has_keys(const struct net_security *s) { return s && s->keyed; }
const struct net_security_stats *net_security_stats(const struct net_security *s) { return &s->stats; }

// --- sockets

static bool set_key(void *socket, int option, const uint8_t key[NET_KEY_BYTES]) {
    return zmq_setsockopt(socket, option, key, NET_KEY_BYTES) == 0;
}

bool zmq_security_listen(const struct net_security *s, void *socket) {
    int yes = 1;
    if (!net_security_has_keys(s)) return true;
    CHECK(s->zap != NULL); // else everybody would get as far as the first frame
    return zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &yes, sizeof yes) == 0 &&
           set_key(socket, ZMQ_CURVE_SECRETKEY, s->secret_key) &&
           zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, zap_domain, strlen(zap_domain)) == 0;
}

bool zmq_security_dial(const struct net_security *s, void *socket, const uint8_t server[NET_KEY_BYTES]) {
    if (!net_security_has_keys(s)) return true;
    return set_key(socket, ZMQ_CURVE_SERVERKEY, server) && set_key(socket, ZMQ_CURVE_PUBLICKEY, s->public_key) &&
           set_key(socket, ZMQ_CURVE_SECRETKEY, s->secret_key);
}

bool zmq_security_allows(const struct net_security *s, const struct net_identity *peer) {
    return !net_security_has_keys(s) || s->options.allows(s->options.ctx, peer->key);
}

bool zmq_security_server(const struct net_security *s, uint32_t at, uint8_t key[NET_KEY_BYTES]) {
    return net_security_has_keys(s) && s->options.server && s->options.server(s->options.ctx, at, key);
}
