// What the headers of a request for an answer say about its stream's name: whether the client has had part of it, or may
// have asked for it before, and whether it is to go on without a client. Internal to this room.
//   Last-Event-ID: ID      go on behind this event; the body is the same as the first time
//   Idempotency-Key: KEY   the same request as any other of this key: join it, or have its answer
//   Shoal-Takeover: N      with a key: how often the client has moved to another router. 0: it asks for the first time
//   Shoal-Resume: 1 | 0    a disconnect doesn't cancel it | does (default: 1 with a key, else 0)
#pragma once
#include "common/net/http_server.h"
#include "router/core/router_core.h"
#include "router/front/openai_request.h"
#include "router/front/stream_id.h"

enum { IDEMPOTENCY_KEY_MAX = 255 };

struct comeback {
    bool by_name;      // ask for the stream by router_core_resume()
    bool behind_event; // and render only what is behind:
    struct stream_id event;
    struct router_resume how;
};

// g: its model, body, length and seed, as the client gave them, and tenant; gets key, seed, keep and fingerprint.
err_id comeback_read(const struct http_exchange *x, const struct openai_view *o, const struct stream_keys *keys,
                     const char *cluster, struct msg_generate *g, struct comeback *out, struct error *e);
