// One HTTP request for an answer: from the parsed body over the core's session to the rendered bytes. Internal to this room.
#pragma once
#include "router/front/feed.h"
#include "router/front/front.h"
#include "router/front/front_metrics.h"
#include "router/front/openai_render.h"

// One of a call's answers: a session of its own. How much of it is rendered is call.answer.event.at[index].
struct choice {
    struct call *call;
    uint32_t index;
    struct feed *feed;
    struct choice *next_reader; // of the feed
    struct stream_position had; // call.behind: what the client has already
};

struct call {
    struct call *next, *prev; // all open calls
    struct call *next_dirty;  // those with something to do in this turn
    bool dirty;
    struct front *front;
    struct http_exchange *x;     // NULL once answered or the client is gone
    struct openai_answer answer; // of answer.event.n choices
    struct choice *choices;      // owned; those with a feed are open
    bool behind;                 // the client has some of it already
    bool stream, accepted, begun, gone;
    ms_t started_at, first_at, written_at;
    char ignored[1100];
};

struct front {
    struct front_options options;
    struct stream_keys keys;
    struct router_core *core;
    struct http_server *api, *admin, *metrics_server;
    struct call *calls, *dirty;
    uint32_t n_calls;
    uint32_t stopping;                          // servers whose connections are not all gone yet
    bool over;                                  // handed over: what is left of calls waits for front_destroy
    bool metrics_keyed, metrics_listener_keyed; // /metrics asks for an operator's key
    ms_t scan_at;
    struct buf out;
    struct front_metrics *metrics;
};

// Starts a call for a POST to chat/completions or completions; answers it itself when it is refused.
// who: in whose name.
void call_start(struct front *f, struct http_exchange *x, enum openai_kind kind, const struct guard_caller *who);
void call_free(struct call *c);           // takes it off the front's list; its feeds are left
void call_wake(struct call *c);           // a feed of it has something new; from inside a core call
void call_turn(struct call *c, ms_t now); // renders; c may be gone afterwards
void call_scan(struct call *c, ms_t now); // what time brings: headers, keep-alives; c may be gone afterwards
// The router ends: a stream breaks off, anything else is refused; c may be gone afterwards.
void call_hand_over(struct call *c, ms_t now);
void front_error(struct front *f, struct http_exchange *x, const struct error *e, uint32_t retry_after_ms);
