// One ZeroMQ socket as a libuv handle: the only place that knows of ZMQ_FD. Private to common/net.
#pragma once
#include "common/base/error.h"

#include <czmq.h>
#include <stdbool.h>
#include <uv.h>

struct zmq_poll {
    uv_poll_t poll;
    uv_idle_t idle;
    int handles; // open handles of libuv; the memory must stay until on_gone
    bool closed;
    uint32_t turn_max;
    void *ctx;
    bool (*receive)(void *ctx); // takes one message off the socket; false when there was none
    void (*on_gone)(void *ctx);
};

// socket stays the caller's; receive is called from the loop from now on.
err_id zmq_poll_open(struct zmq_poll *p, uv_loop_t *loop, zsock_t *socket, struct error *e);
// To be called after every send: a send may swallow the signal of a message that came in meanwhile.
void zmq_poll_touch(struct zmq_poll *p);
// Stops at once (the socket may be destroyed right after) and calls on_gone from the loop, once. receive is not called
// again.
void zmq_poll_close(struct zmq_poll *p);
