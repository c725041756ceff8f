#include "common/base/message.h"

#include "common/base/check.h"
#include "common/base/hash.h"

const char *lifecycle_name(enum lifecycle state) {
    static const char *const names[] = {"starting", "loading", "ready", "noticed", "draining", "failed"};
    return (unsigned)state < ARRAY_LEN(names) ? names[state] : "unknown";
}

const char *msg_kind_name(enum msg_kind kind) {
    static const char *const names[] = {"none",  "hello",   "status",     "generate",    "accepted", "rejected",   "tokens",
                                        "ack",   "resend",  "done",       "sync",        "unknown",  "superseded", "cancel",
                                        "query", "cluster", "move_offer", "move_commit", "notice",   "attach"};
    _Static_assert(ARRAY_LEN(names) == MSG_KIND_COUNT, "a name for each kind");
    return (unsigned)kind < ARRAY_LEN(names) ? names[kind] : "invalid";
}

uint64_t generate_asks(const struct msg_generate *g) {
    return hash_bytes(g->body, g->body_len, hash_mix(g->seed + g->has_seed) ^ g->max_tokens);
}
