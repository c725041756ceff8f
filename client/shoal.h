// libshoal: answers from a Shoal cluster, over ZeroMQ, from any number of threads.
//
// A handle keeps connections to a list of routers by itself: it dials them, notices when one dies, and carries streams over
// to another one, so that a caller sees each token exactly once and in order, with a pause at worst. All calls block the
// calling thread only; all input and output happens on one thread of the handle. This header and shoal_view.h need nothing
// else of Shoal.
//
//     struct shoal *cluster;
//     struct shoal_failure why;
//     if (shoal_open(&(struct shoal_options){.size = sizeof(struct shoal_options), .routers = "tcp://127.0.0.1:7700"},
//     &cluster, &why))
//         …
//     struct shoal_request r = SHOAL_REQUEST_INIT;
//     r.model = "tiny", r.messages_json = "[{\"role\":\"user\",\"content\":\"12+30\"}]";
//     if (shoal_generate(cluster, &r, print_it, NULL, &why)) fprintf(stderr, "%s\n", why.text);
//
// Structs begin with their size, set by the caller: a program that was built against an older header keeps working.
#pragma once
#include "client/shoal_view.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shoal; // opaque, thread-safe

enum { SHOAL_REQUEST_ID_SIZE = 33 };

struct shoal_failure {
    char status[32];         // gRPC's name: "UNAVAILABLE", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", …
    int http_status;         // what HTTP would say: 503
    bool retryable;          // the same request may succeed later
    uint32_t retry_after_ms; // 0: no hint
    char param[64];          // the offending field, or empty
    char text[512];          // one sentence
};

struct shoal_options {
    size_t size;         // sizeof(struct shoal_options)
    const char *routers; // "tcp://127.0.0.1:7700,tcp://127.0.0.1:7701": at most 16; required
    const char *name;    // of this client, for people who look at the cluster; NULL: "client"
    const char *tenant;  // NULL: none
    uint32_t connect_ms; // how long a call waits while no router answers; 0: 5000
    uint32_t silence_ms; // a router that says nothing for so long is taken for dead; 0: 1500
    // Encrypted links (CURVE). Both or neither; without them routers must be on loopback or unix addresses.
    const char *key; // path of this client's certificate, as `shoal keygen` makes it; its secret half lies beside it. It,
                     // and not `tenant`, says whose requests these are
    const char *server_key;  // the routers' public certificates: paths, or keys of 40 characters, separated by commas
    bool plaintext_anywhere; // without keys: routers may be on other machines, and everybody on the way can read along
};

// Starts the handle's thread; connections are made behind the scenes, also after failures. 0, or -1 with *why (may be NULL):
// the options are not valid, or the system refused.
int shoal_open(const struct shoal_options *options, struct shoal **out, struct shoal_failure *why);
// Calls in progress fail as cancelled, those of shoal_start without another word. No call may begin during it. NULL is fine.
void shoal_close(struct shoal *s);

struct shoal_logit_bias {
    uint32_t token;
    float bias;
};

// What to answer. Exactly one of messages_json, prompt and tokens. Begin with SHOAL_REQUEST_INIT.
struct shoal_request {
    size_t size;
    const char *model;                // name or alias
    const char *request_id;           // 32 hex digits; NULL: drawn
    const char *messages_json;        // a chat: JSON array of messages as OpenAI's
    const char *tools_json;           // JSON array; NULL: none
    const char *template_kwargs_json; // JSON object; NULL: none
    const char *prompt;               // a text to go on with; prompt_len bytes
    size_t prompt_len;
    const uint32_t *tokens;
    uint32_t n_tokens;
    uint32_t max_tokens;  // 0: up to the model's context
    uint32_t deadline_ms; // for the whole call; 0: the router's default
    bool has_seed;        // else a seed is drawn; it is told in shoal_event.seed
    uint64_t seed;
    float temperature, top_p, min_p, repetition_penalty; // NAN: the model's default
    int32_t top_k;                                       // INT32_MIN: the model's default; 0: all
    float presence_penalty, frequency_penalty;
    uint32_t min_tokens;
    bool ignore_eos, logprobs, include_stop, keep_special_tokens;
    uint32_t top_logprobs;
    const char *const *stop;
    uint32_t n_stop;
    const struct shoal_logit_bias *logit_bias;
    uint32_t n_logit_bias;
    const char *pin_replica;                        // name of the replica that must serve it, for tests; NULL: any
    float typical_p;                                // NAN: the model's default
    const uint32_t *allowed_tokens, *banned_tokens; // at most 300 each
    uint32_t n_allowed_tokens, n_banned_tokens;     // n_allowed_tokens 0: all are
    uint32_t n;                                     // answers ("choices"), at most 32; 0: 1
};
#define SHOAL_REQUEST_INIT                                                                                                  \
    {                                                                                                                       \
        .size = sizeof(struct shoal_request), .temperature = NAN, .top_p = NAN, .min_p = NAN, .repetition_penalty = NAN,    \
        .top_k = INT32_MIN, .typical_p = NAN                                                                                \
    }

// Each choice has events of its own: they are in order within a choice, and choices come as they come.
enum shoal_event_kind {
    SHOAL_ACCEPTED, // a replica has it; again when another one has taken over since (a slow caller hears of the last one)
    SHOAL_TOKEN,    // one token, in order, each offset once
    SHOAL_TAIL,     // text that was held back when the last token came
    SHOAL_DONE,     // the end of a complete answer
    SHOAL_FAILED,   // the end of one that is not: see failure. What came before stays valid
};

enum shoal_channel { SHOAL_CONTENT = 0, SHOAL_REASONING = 1, SHOAL_TOOL_CALL = 2 };
struct shoal_top_logprob {
    uint32_t token;
    float logprob;
    uint8_t text_len, text[27]; // the token's bytes, cut off there: may be part of a UTF-8 sequence; 0: not told
};

struct shoal_event {
    enum shoal_event_kind kind;
    char request_id[SHOAL_REQUEST_ID_SIZE];
    uint64_t seed;
    char replica[SHOAL_NAME_SIZE]; // that serves it now, or served it
    char router[SHOAL_NAME_SIZE];
    uint32_t attempt;  // placement, as its router counts it
    uint32_t attempts; // placements that this call has seen
    // ACCEPTED
    uint32_t prompt_tokens, max_tokens;
    // TOKEN and TAIL; text is not followed by a zero byte
    enum shoal_channel channel;
    const char *text; // whole UTF-8 characters; may be empty
    size_t text_len;
    uint32_t offset; // TOKEN: of this token, from 0
    uint32_t token;
    bool has_logprob;
    float logprob;
    const struct shoal_top_logprob *top;
    uint32_t n_top;
    // DONE
    const char *finish; // "stop", "length", "tool_calls", "cancelled"
    uint32_t completion_tokens, cached_tokens, reasoning_tokens;
    uint32_t restored_tokens; // after a move: loaded from a checkpoint instead of computed again
    // FAILED
    const struct shoal_failure *failure;
    uint32_t choice; // 0 to n − 1
    bool last;       // DONE or FAILED of the last choice: nothing follows
};

// Called on the thread that called shoal_generate or shoal_dispatch. Pointers in the event are valid until it returns.
// false: cancel, all choices.
typedef bool (*shoal_on_event)(void *ctx, const struct shoal_event *event);

// Asks, and blocks until all choices have ended. 0 after SHOAL_DONE of each; -1 after a SHOAL_FAILED (the first is also in
// *why, which may be NULL).
int shoal_generate(struct shoal *s, const struct shoal_request *r, shoal_on_event on_event, void *ctx,
                   struct shoal_failure *why);
// ---- in an event loop: begin any number of calls, poll the descriptor, dispatch when it is readable. One thread at a time.
// Asks, and returns at once. 0: on_event is called from shoal_dispatch until an event with `last`. -1 with *why: it will not
// be called.
int shoal_start(struct shoal *s, const struct shoal_request *r, shoal_on_event on_event, void *ctx,
                struct shoal_failure *why);
// Readable while a call of shoal_start has news. Never read or close it.
int shoal_fd(const struct shoal *s);
// Tells all news of calls of shoal_start; never waits. Returns how many of them are still in progress. on_event may start
// calls and cancel them, but not dispatch or close.
uint32_t shoal_dispatch(struct shoal *s);

// Ends a call in progress on another thread: it fails as cancelled at once. false: there is no such call.
bool shoal_cancel(struct shoal *s, const char *request_id);
// Draws a request id, for those who want to know it before they ask.
void shoal_draw_request_id(char out[SHOAL_REQUEST_ID_SIZE]);

// What all reachable routers know together, each thing once, as its nearest router sees it. Blocks until all have answered,
// or timeout_ms (0: 2000) is over and at least one has. 0, or -1 with *why: none has.
int shoal_cluster(struct shoal *s, uint32_t timeout_ms, struct shoal_cluster **out, struct shoal_failure *why);
// Asks the routers to tell this replica that it will be taken away after deadline_ms (0: when it has finished), as SIGTERM
// does. Returns at once, and the word may be lost: repeat it until shoal_cluster() shows the state "noticed". With CURVE,
// routers pass it on only for an operator's certificate.
void shoal_notice(struct shoal *s, const char *replica, uint32_t deadline_ms);
void shoal_cluster_free(struct shoal_cluster *c); // NULL is fine
