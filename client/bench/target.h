// What a load is put on: something that takes requests and tells how their answers come, on one libuv loop. Two kinds: a
// server of OpenAI's API over HTTP, and a Shoal cluster over ZeroMQ.
#pragma once
#include "client/shoal.h"
#include "common/base/error.h"

#include <uv.h>

struct target_request {
    const char *prompt;
    size_t prompt_len;
    uint32_t output_tokens; // exactly: the end of text is ignored
    uint64_t seed;
    void *user; // named in the two calls below
};

struct target_end {
    bool complete;
    char error[48];                                       // !complete: its kind, "429 overloaded", "connection broken"
    uint32_t prompt_tokens, cached_tokens, output_tokens; // as the server counts; 0: it didn't say
};

struct target_listener {
    void *ctx;
    void (*on_tokens)(void *ctx, void *user); // one or more, in one piece
    void (*on_end)(void *ctx, void *user, const struct target_end *end);
};

struct target {
    void *self;
    void (*start)(void *self, const struct target_request *r); // never calls the listener from inside
    void (*stop)(void *self);                                  // ends all requests in progress; their ends are told
    void (*destroy)(void *self);                               // the loop must run once more
};

struct target_http_options {
    const char *url;     // "http://host:port", perhaps with a path, to which /completions is added: default /v1
    const char *api_key; // NULL: none
    const char *model;
    bool chat; // chat/completions
    uint32_t timeout_ms;
};
err_id target_http(uv_loop_t *loop, const struct target_http_options *o, const struct target_listener *listener,
                   struct target *out, struct error *e);
// Takes s over: it is closed with the target.
void target_zmq(uv_loop_t *loop, struct shoal *s, const char *model, uint32_t timeout_ms,
                const struct target_listener *listener, struct target *out);
