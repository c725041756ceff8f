// A request of the workload: what a client asks, and how it will behave. Fixed when it arrives. Its prompt is a function of
// it, so nothing but its number travels in the body.
#pragma once
#include "tests/sim/options.h"
#include "common/base/limits.h"

enum channel_kind { VIA_HTTP, VIA_LINK };

struct request {
    uint32_t number;
    struct stream_key key;
    enum channel_kind via;
    uint32_t region; // the client's
    uint32_t model;
    bool alias; // asks for the model by another name
    uint32_t prompt_tokens, prefix_tokens, family;
    uint32_t max_tokens; // 0: up to the default
    uint32_t tokens_max; // what the worker's shell makes of it
    bool has_seed;
    uint64_t seed;
    uint32_t deadline_ms;      // 0: the router's default
    us_t issued_at, cancel_at; // cancel_at 0: never
    bool keep;
    char pin[NAME_SIZE];
    uint32_t tenant;
    bool poison;              // the worker that computes its answer dies
    uint32_t nan_index;       // the answer's token with this index comes out as NaN; UINT32_MAX: none
    bool tail;                // some text is held back to the end
    bool measured;            // counts for the goodput of the liveness phase
    uint8_t extra;            // bytes of padding in the body
    us_t breaks_at;           // its HTTP connection does; 0: never
    struct http_client *http; // owned; NULL: does not come back
};

enum { BODY_BYTES = 16, REQUEST_MODELS_MAX = 2, MAX_TOKENS_DEFAULT = 64 };

int32_t request_priority(const struct request *r);
uint32_t request_prompt_token(const struct request *r, uint32_t index);
// The body that clients send, and the number that a worker's shell reads from it; false: not a body, or not intact.
size_t request_body(const struct request *r, uint8_t out[BODY_BYTES + 255]);
bool request_body_number(const uint8_t *body, size_t len, uint32_t *number);
void model_name(uint32_t model, char out[NAME_SIZE]);
void model_alias(uint32_t model, char out[NAME_SIZE]);
void request_model(const struct request *r, char out[NAME_SIZE]); // as its client calls it
void fingerprint_text(uint32_t model, uint32_t deployment, char out[FINGERPRINT_SIZE]);
