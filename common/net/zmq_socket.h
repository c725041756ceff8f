// Opens ZeroMQ sockets as this project wants them: every limit explicit, nothing that blocks, nothing that lingers.
// czmq holds the one context of the process. Private to common/net.
#pragma once
#include "common/base/error.h"
#include "common/sys/endpoint.h"
#include "common/net/zmq_loop.h"

#include <czmq.h>

enum { NET_QUEUE_FRAMES = 4096, NET_TURN_FRAMES = 256 }; // defaults
enum { NET_KEY_TEXT = 41 };                              // a key in Z85 with its NUL

struct zmq_socket_options {
    int type;                            // ZMQ_ROUTER, ZMQ_DEALER or ZMQ_REP
    uint32_t frame_bytes_max;            // the socket itself cuts a connection that sends more than twice this
    uint32_t queue_frames;               // high-water marks
    bool v6;                             // the address is IPv6: with it, libzmq writes IPv4 addresses as ::ffff:127.0.0.1
    const uint8_t *identity;             // NULL: none
    size_t identity_len;                 // the first byte is not 0: libzmq keeps those for itself
    uint32_t connect_timeout_ms;         // 0: the system's
    const struct net_security *security; // NULL: none
    const uint8_t *server;               // the key of whom a dealer dials, when security has keys
};

err_id zmq_socket_open(const struct zmq_socket_options *options, zsock_t **out, struct error *e);
// Parses an address and refuses one whose bytes would leave the host in plain text. verb: "listen on", "dial".
err_id zmq_socket_address(const char *text, const char *verb, const struct net_security *security, struct endpoint *out,
                          struct error *e);

// A message's payload, after the envelope that its socket type puts before it.
enum zmq_received {
    ZMQ_GOT,     // *data holds the one frame; zmq_msg_close it
    ZMQ_NOTHING, // there is no message
    ZMQ_DROPPED, // there was one and it was dropped: several frames, too long, or the call was interrupted
};
// peer: NULL for a dealer; otherwise the first frame is put there. keyed: the peer must have proved a key, which is put
// there too.
struct zmq_receiver {
    zsock_t *socket;
    uint32_t frame_bytes_max;
    bool keyed;
    struct net_stats *stats;
};
enum zmq_received zmq_socket_receive(const struct zmq_receiver *r, struct net_identity *peer, zmq_msg_t *data);
