// Design notes. ZMQ_FD becomes readable when the socket's state may have changed, not while there are messages: it is
// edge-triggered, and any call on the socket may consume the edge. So after every wake the socket is read until it says
// EAGAIN; that answer is the promise that the next message makes the descriptor readable again. Two things can leave the
// socket without that promise: the cap on messages per turn, and a send from elsewhere. Both start the idle handle, which
// makes the loop come round once more without waiting and read again; when a read ends in EAGAIN the idle handle stops,
// and a quiet process sleeps.
#include "common/net/zmq_poll.h"

static void drain(struct zmq_poll *p) {
    uint32_t n = 0;
    while (n < p->turn_max && !p->closed && p->receive(p->ctx)) n++;
    if (p->closed) return;
    if (n < p->turn_max)
        uv_idle_stop(&p->idle);
    else
        zmq_poll_touch(p);
}

static void on_poll(uv_poll_t *poll, int status, int events) { drain(poll->data); }
static void on_idle(uv_idle_t *idle) { drain(idle->data); }

void zmq_poll_touch(struct zmq_poll *p) {
    if (!p->closed) uv_idle_start(&p->idle, on_idle);
}

err_id zmq_poll_open(struct zmq_poll *p, uv_loop_t *loop, zsock_t *socket, struct error *e) {
    int fd, rc;
    size_t size = sizeof fd;
    if (zmq_getsockopt(zsock_resolve(socket), ZMQ_FD, &fd, &size) != 0)
        return error_set(e, ERR_SYSTEM, "cannot watch a ZeroMQ socket: %s", zmq_strerror(zmq_errno()));
    if ((rc = uv_poll_init(loop, &p->poll, fd)) != 0)
        return error_set(e, ERR_SYSTEM, "cannot watch a ZeroMQ socket: %s", uv_strerror(rc));
    uv_idle_init(loop, &p->idle);
    p->poll.data = p->idle.data = p;
    p->handles = 2;
    p->closed = false;
    uv_poll_start(&p->poll, UV_READABLE, on_poll);
    zmq_poll_touch(p); // messages may be there already
    return ERR_NONE;
}

static void on_close(uv_handle_t *handle) {
    struct zmq_poll *p = handle->data;
    if (--p->handles == 0) p->on_gone(p->ctx);
}

void zmq_poll_close(struct zmq_poll *p) {
    if (p->closed) return;
    p->closed = true;
    uv_close((uv_handle_t *)&p->poll, on_close);
    uv_close((uv_handle_t *)&p->idle, on_close);
}
