// A router for the client's tests: a real socket on a thread of its own, and a script of what it does wrong. It serves an
// answer whose record i has token 1000 + i and the text "i ", so that every test can tell what should arrive.
#pragma once
#include "common/base/message.h"

#include <stdatomic.h>

enum fake_fault {
    FAKE_RIGHT,          // nothing
    FAKE_GAP,            // leaves out record 5 once
    FAKE_DOUBLE,         // sends every message twice
    FAKE_DONE_EARLY,     // Done comes before the last records, which come only when asked for
    FAKE_SILENT,         // says nothing at all after half of the records
    FAKE_MUTE,           // never says anything, not even Hello
    FAKE_REJECT,         // "the queue is full", come again in 700 ms
    FAKE_DRAINING,       // rejects as shutting down
    FAKE_ERROR,          // half of the records, then Done with an error
    FAKE_STALL,          // accepts, sends two records, nothing more, but lives
    FAKE_FORGETS_ONCE,   // half of the records, then says Unknown: wants Generate again
    FAKE_NEW_ATTEMPT,    // the second half comes as a later attempt, from another replica
    FAKE_OLD_ATTEMPT,    // an earlier attempt's records in between
    FAKE_DONE_TOO_SHORT, // Done says less than was sent
    FAKE_DEAF,           // lives, but never hears a first Generate
    FAKE_GARBAGE,        // sends frames that are not messages in between
};

struct fake_seen { // counted by the fake
    atomic_uint hellos, generates, syncs, resends, acks, done_acks, cancels, queries, max_takeover, last_records,
        last_deadline_ms;
    _Atomic uint64_t last_seed;
};

struct fake_router;

struct fake_options {
    enum fake_fault fault;
    uint32_t n_tokens;    // of an answer; 0: 20
    uint32_t pace_ms;     // between messages of two records; 0: at once
    const char *name;     // NULL: "fake"
    const char *address;  // NULL: "tcp://127.0.0.1:0"
    uint64_t incarnation; // 0: 77
    bool knows_nothing;   // answers Sync with Unknown
    bool two_replicas;    // in its view of the cluster
};

struct fake_router *fake_start(const struct fake_options *options);
const char *fake_address(const struct fake_router *f);
struct fake_seen *fake_seen(struct fake_router *f);
// Its sockets vanish, as if the process had been killed.
void fake_stop(struct fake_router *f);
