// How the ZeroMQ links of a process are protected. Sockets take a `struct net_security *`: NULL means plaintext that stays
// on this host (loopback and unix addresses); one with keys means CURVE (ZeroMQ RFC 26) on every link: both ends prove their
// keys, and nothing but handshakes is readable on the wire; one without keys means plaintext anywhere, which somebody must
// have asked for in so many words. Who may connect is asked of its owner through ZeroMQ's authentication protocol (ZAP, RFC
// 27), answered here on the loop's own thread and not by czmq's zauth: the answer and the roles that the links check
// afterwards come from one list, which changes between two turns of the loop and never in the middle of one, and no further
// thread reads it. Loop thread only.
#pragma once
#include "common/base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum { NET_KEY_BYTES = 32 };

struct net_security;

struct net_security_options {
    uv_loop_t *loop;
    const uint8_t *public_key, *secret_key; // NET_KEY_BYTES each, copied. NULL: plaintext anywhere
    void *ctx;
    // May the owner of this key connect to our listeners? NULL: this process has none. One security of a process may have
    // it.
    bool (*allows)(void *ctx, const uint8_t key[NET_KEY_BYTES]);
    // The at-th key (from 0) of those that we accept on whom we dial; false: there is none. A dealer tries one after the
    // other, so routers may have keys of their own, and a new key can be told before it is used.
    bool (*server)(void *ctx, uint32_t at, uint8_t key[NET_KEY_BYTES]);
};

struct net_security_stats {
    uint64_t admitted, refused; // handshakes with a listener that came as far as proving a key
};

err_id net_security_create(const struct net_security_options *options, struct net_security **out, struct error *e);
// After the sockets that use it. NULL inside is fine; memory goes when the loop has closed its handles.
void net_security_destroy(struct net_security **s);
bool net_security_has_keys(const struct net_security *s); // CURVE; false also for NULL
const struct net_security_stats *net_security_stats(const struct net_security *s);
