// The one place where ZeroMQ meets libuv. Two kinds of sockets, both carrying exactly one frame per message:
//   net_router  binds; many peers, each with an identity; what a router listens with.
//   net_dealer  dials one endpoint and dials again when the connection is lost; what a worker, a peer router or a client
//               reaches a router with.
// A dealer opens a new socket with a new random identity for every connection: a half-dead old connection can't refuse the
// new one as a duplicate, and nothing queued for the old one turns up on the new. The protocol above says hello each time.
// Everything happens on the loop's thread; callbacks may send, and may destroy any socket, also their own. Frames given to a
// callback are valid until it returns. Without a net_security only loopback addresses and ipc are accepted
// (security.h).
// The high-water mark is a last fuse, not flow control: NET_FULL means the peer is stuck and the protocol failed to notice.
#pragma once
#include "common/base/error.h"
#include "common/net/security.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum { NET_IDENTITY_MAX = 255, NET_ENDPOINT_SIZE = 160 };

struct net_identity { // of a peer of a net_router; compare len bytes
    uint8_t len;
    uint8_t bytes[NET_IDENTITY_MAX];
    bool keyed; // the link is CURVE's, and this is the key that the peer proved: not part of the identity, but who
    uint8_t key[NET_KEY_BYTES]; // speaks. The same identity with another key is somebody else
};

enum net_sent {
    NET_SENT,        // handed to ZeroMQ
    NET_FULL,        // the high-water mark is reached; nothing was sent
    NET_UNREACHABLE, // no such peer (EHOSTUNREACH), or the dealer is not connected; nothing was sent
    NET_TOO_LARGE,   // longer than frame_bytes_max; nothing was sent
};

struct net_stats {
    uint64_t frames_in, bytes_in, frames_out, bytes_out;
    uint64_t multipart; // messages of more than one frame: dropped
    uint64_t oversized; // frames over frame_bytes_max: dropped. Over twice that, libzmq cuts the connection
    uint64_t unproven;  // frames without a key that may (still) speak, on a CURVE listener: dropped
    uint64_t refused;   // sends answered by anything but NET_SENT
    uint64_t connected; // dealer: connections made
    uint64_t lost;      // dealer: connections lost
    uint64_t shut_out;  // dealer: handshakes that the other side refused
};

struct net_router;
struct net_router_options {
    uv_loop_t *loop;
    const char *address;                 // endpoint.h
    const struct net_security *security; // NULL: plaintext on loopback or unix. Outlives the socket
    uint32_t frame_bytes_max;            // 0: FRAME_BYTES_MAX
    uint32_t queue_frames;               // high-water mark per peer and direction; 0: 4096
    uint32_t turn_frames;                // frames handed out before other handles of the loop get their turn; 0: 256
    void *ctx;
    void (*on_frame)(void *ctx, const struct net_identity *peer, const void *data, size_t len);
};

err_id net_router_create(const struct net_router_options *options, struct net_router **out, struct error *e);
// Stops at once; memory goes when the loop has closed its handles (run the loop once more). NULL inside is fine.
void net_router_destroy(struct net_router **r);
const char *net_router_endpoint(const struct net_router *r); // "tcp://127.0.0.1:43211": with the port that was found
enum net_sent net_router_send(struct net_router *r, const struct net_identity *peer, const void *data, size_t len);
const struct net_stats *net_router_stats(const struct net_router *r);

struct net_dealer;
struct net_dealer_options {
    uv_loop_t *loop;
    const char *address;                 // endpoint.h
    const struct net_security *security; // NULL: plaintext on loopback or unix. Outlives the socket
    uint32_t frame_bytes_max;            // 0: FRAME_BYTES_MAX
    uint32_t queue_frames;               // 0: 4096
    uint32_t turn_frames;                // 0: 256
    uint32_t redial_ms;                  // pause before dialling again, doubled per failure, with ±50 % of jitter; 0: 100
    uint32_t redial_max_ms;              // its maximum; 0: 5000
    uint32_t dial_timeout_ms;            // no connection by then: give up and redial; 0: 3000
    void *ctx;
    void (*on_frame)(void *ctx, const void *data, size_t len);
    void (*on_connected)(void *ctx);                 // may be NULL. The handshake is done; sends go through from here
    void (*on_disconnected)(void *ctx);              // may be NULL. After the last frame of that connection
    void (*on_shut_out)(void *ctx, const char *why); // may be NULL. A handshake failed over keys: what is wrong
};

// Never waits: the first dial happens on the loop. Fails on an address that may not be dialled.
err_id net_dealer_create(const struct net_dealer_options *options, struct net_dealer **out, struct error *e);
void net_dealer_destroy(struct net_dealer **d); // as net_router_destroy; no callback comes after it
enum net_sent net_dealer_send(struct net_dealer *d, const void *data, size_t len);
// Drops the connection (a peer judged dead) and dials again after the first pause. on_disconnected is called, from here, if
// it was connected.
void net_dealer_redial(struct net_dealer *d);
// The list of server keys changed: a connection to one that is no longer in it is dropped.
void net_dealer_check_key(struct net_dealer *d);
bool net_dealer_is_connected(const struct net_dealer *d);
const struct net_stats *net_dealer_stats(const struct net_dealer *d);
