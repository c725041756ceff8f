// One request through the proxy, from its arrival to its end, over as many routers as that takes. Internal to this room.
//
//   SENT → (head) → COPYING an event stream, or GATHERING any other body → over
//     ↑ RESTING ←─┘ the router refused, died or fell silent: at once at the next one; all were tried: after a pause
//
// What can be repeated: requests for an answer (POST …/completions), because they carry a key that makes the second the same
// request as the first, and, once events have passed, the id of the last one; and GET and HEAD. Anything else is repeated
// only if it was never sent.
#pragma once
#include "client/proxy/proxy.h"
#include "client/proxy/sse_reader.h"
#include "common/net/http_fetch.h"
#include "common/net/http_server.h"

struct relay;

struct proxy {
    struct proxy_options options;
    struct http_server *server;
    uint32_t preferred; // router: the one that answered last
    struct relay *relays;
    void (*on_stopped)(void *ctx);
    void *ctx;
};

// An error as OpenAI writes it.
void relay_render_error(const struct error *e, struct buf *out);
void relay_start(struct proxy *p, struct http_exchange *x);
void relay_drop_all(struct proxy *p); // their exchanges are gone
