// A server with a few paths, for the tests of the HTTP server:
//   /echo    answers at once with method, path, query and the body
//   /later   keeps the exchange in `held` for the test to answer
//   /stream  begins a stream and keeps it in `held`
#pragma once
#include "common/net/http_server.h"

#include <uv.h>

enum { HELD_MAX = 8 };

struct http_world {
    uv_loop_t loop;
    struct http_server *server;
    struct http_exchange *held[HELD_MAX];
    unsigned n_held, n_closed, n_writable, n_stopped;
};

void world_open(struct http_world *w, const struct http_server_options *options); // NULL: defaults. Sets loop, address…
void world_close(struct http_world *w);
void world_run_until_held(struct http_world *w, unsigned n);
void world_run_until_closed(struct http_world *w, unsigned n);
