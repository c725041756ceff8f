// The streams that a worker knows, by key: those being prepared, those running, and those that have ended but whose log is
// kept for a router that may still ask. A stream leaves the table when it is dropped; if an unanswered plan still names its
// sequence then, it lives on unknown until that plan comes back.
#pragma once
#include <stddef.h>
#include "common/base/table.h"
#include "common/delivery/stream_tx.h"
#include "worker/core/sequence.h"

enum { STREAMS_KEPT_MAX = 4096 }; // ended and acknowledged; beyond that the grace period of the oldest is over

enum stream_state {
    STREAM_PREPARING, // hooks.prepare is at work
    STREAM_LIVE,      // accepted; its sequence waits or runs
    STREAM_OFFERED,   // stopped and offered to its router; its sequence has ended here
    STREAM_ENDED,     // Done is set
};

struct stream {
    struct stream_key key;
    struct stream_tx tx; // tx.attempt is the stream's, tx.link the router it is attached to
    enum stream_state state;
    bool known;      // in the table
    uint64_t ticket; // of the preparation, checkpoint or restore under way; 0: none
    struct record_log *log;
    uint64_t request; // hash of what is asked for: later attempts of the same may take the stream over
    uint64_t tenant;  // hash of its name
    int32_t priority;
    uint32_t n_given; // records that came with Generate: the log starts with them
    void *user;       // the shell's; NULL before prepared
    struct sequence seq;
    uint32_t max_tokens; // effective
    uint32_t prompt_estimate, prompt_tokens, reasoning_tokens, restored_tokens;
    ms_t deadline_at;
    ms_t parked_at; // tx.link is 0 since
    ms_t heard_at;  // the router last asked for or acknowledged something of it, or it ended
    // A worker that must go:
    char handle[NAME_SIZE]; // of the checkpoint that is offered; "": none
    uint64_t checkpoint_bytes;
    ms_t lease_at;
    ms_t offer_at; // the offer is made, again, at
    uint32_t offer_ms;
    struct stream *prev, *next;
};

struct streams {
    struct table by_key, by_ticket;
    struct stream *first, *last; // all, known or not; the newest first
    uint32_t n_known, n_preparing, n_live, n_offered;
    uint32_t n_unclaimed; // known and ended, Done not acknowledged
    uint64_t tickets;
    uint64_t ended_bytes; // of the logs of known and ended ones
};

static inline struct stream *stream_of(struct sequence *seq) {
    return (struct stream *)((char *)seq - offsetof(struct stream, seq));
}

struct stream *streams_find(const struct streams *s, const struct stream_key *key);
struct stream *streams_by_ticket(const struct streams *s, uint64_t ticket);
// A new one, PREPARING, with a fresh ticket. The key must not be in the table. The log begins with the given records.
struct stream *streams_add(struct streams *s, const struct stream_key *key, const struct attempt *attempt, link_id link,
                           const struct records *given);
void streams_set_state(struct streams *s, struct stream *stream, enum stream_state state);
// A fresh ticket for what is begun now, until the state changes or another one is taken.
uint64_t streams_take_ticket(struct streams *s, struct stream *stream);
// The stream can't be found any more; free it once its sequence is idle.
void streams_forget(struct streams *s, struct stream *stream);
// Ended and acknowledged: kept only in case somebody asks again.
uint32_t streams_kept(const struct streams *s);
// The oldest that has ended and that nobody waits for: acknowledged, or its router is gone. NULL: none.
struct stream *streams_oldest_kept(const struct streams *s);
void streams_free(struct streams *s, struct stream *stream); // forgotten before
void streams_check(const struct streams *s);
