// `shoal proxy`: a small HTTP server on this host, in front of a cluster's routers, for stock OpenAI clients, which never
// reconnect. It forwards every request to one router. When that router dies, or can't be reached, it repeats the request at
// the next one, which goes on where the stream broke off; the client sees one uninterrupted answer. One loop, one thread.
#pragma once
#include "common/base/error.h"
#include "common/base/limits.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct proxy_router {
    char host[ADDRESS_SIZE];
    uint16_t port;
    char text[ADDRESS_SIZE + 16]; // for people: "host:port"
};

struct proxy_options {
    uv_loop_t *loop;
    const char *listen; // loopback or unix
    uint32_t n_routers;
    struct proxy_router routers[ROUTERS_MAX]; // in the order of preference
    uint32_t patience_ms;                     // how long to look for a router that answers
    uint32_t silence_ms;                      // a stream on which nothing came for so long goes on elsewhere; 0: never
};

struct proxy;

// "http://host:port" or "host:port".
err_id proxy_router_parse(const char *text, struct proxy_router *out, struct error *e);
err_id proxy_create(const struct proxy_options *options, struct proxy **out, struct error *e);
const char *proxy_address(const struct proxy *p);
void proxy_stop(struct proxy *p, void (*on_stopped)(void *ctx), void *ctx); // when running requests have ended
void proxy_destroy(struct proxy **p);                                       // at once; the loop must run once more
