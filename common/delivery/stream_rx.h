// The receiving half of a stream: a router from a worker or a peer, libshoal from a router. Takes what extends the log,
// trims an overlap, answers a gap with Resend, drops what does not come from the bound (link's incarnation, attempt),
// acknowledges cumulatively. That makes each record land in the log exactly once, in order. Pure: messages leave through
// `sink`.
#pragma once
#include "common/delivery/stream_tx.h"

enum { RX_RESEND_MS = 200, RX_ACK_MS = 50 }; // a gap is asked for again after; acknowledgements are gathered for

enum rx_result {
    RX_EXTENDED,  // the log grew
    RX_DUPLICATE, // nothing new
    RX_GAP,       // something is missing; Resend was sent unless one is under way
    RX_STALE,     // not from the bound incarnation and attempt: dropped
    RX_DONE,      // Done, and the log is complete
    RX_INVALID,   // contradicts itself (Done shorter than the log)
};

// Deliberate mistakes, so that tests can prove that the simulator catches them; set by the owner after stream_rx_init() and
// kept by bind and unbind. RX_BUG_NONE in everything that ships.
enum rx_bug {
    RX_BUG_NONE,
    RX_BUG_OFFSET_RULE,  // an overlap is not trimmed
    RX_BUG_STALE_ATTEMPT // whatever is about the stream is taken, from whichever attempt and incarnation
};

struct stream_rx {
    struct stream_key key;
    struct attempt attempt;
    incarnation_t incarnation; // of the candidate that the attempt was placed on
    link_id link;              // its present connection; 0: unbound, everything is stale
    bool done;
    bool ack_due;
    ms_t ack_at;
    uint32_t resend_from;
    ms_t resend_at; // when the Resend for resend_from may be repeated
    enum rx_bug bug;
};

void stream_rx_init(struct stream_rx *rx, const struct stream_key *key);
// A new attempt on a candidate. Forgets the old one.
void stream_rx_bind(struct stream_rx *rx, const struct attempt *attempt, link_id link, incarnation_t incarnation);
void stream_rx_unbind(struct stream_rx *rx);
// Is a message about `attempt` that came from a peer of this incarnation ours to take?
bool stream_rx_current(const struct stream_rx *rx, incarnation_t from, const struct attempt *attempt);
enum rx_result stream_rx_on_tokens(struct stream_rx *rx, incarnation_t from, const struct msg_tokens *m,
                                   struct record_log *log, const struct sink *sink, ms_t now);
// After RX_DONE the caller takes the tail and the usage from m; Done is acknowledged at once.
enum rx_result stream_rx_on_done(struct stream_rx *rx, incarnation_t from, const struct msg_done *m,
                                 const struct record_log *log, const struct sink *sink, ms_t now);
// Sends a gathered acknowledgement or repeats a Resend when due. Returns when to call again.
ms_t stream_rx_tick(struct stream_rx *rx, const struct record_log *log, const struct sink *sink, ms_t now);
