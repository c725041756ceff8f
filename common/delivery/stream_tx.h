// The sending half of a stream: a worker towards a router, a router towards a ZeroMQ client or a peer router. It owns
// nothing but a cursor over a record log. Sends what the log holds and has not been sent, goes back on Resend, Sync or a
// long silence of acknowledgements, repeats Done until it is acknowledged. Pure: messages leave through `sink`.
#pragma once
#include "common/base/message.h"

// Where messages of a core go. The message is borrowed for the call. A link that can't take it loses it: the protocol mends
// that.
struct sink {
    void *ctx;
    void (*send)(void *ctx, link_id link, const struct msg *m);
};

enum { TX_RETRY_MS = 500, TX_RETRY_MAX_MS = 4000 }; // first and longest wait before unacknowledged things are sent again

struct stream_tx {
    struct stream_key key;
    struct attempt attempt;
    link_id link; // 0: parked, nothing is sent
    uint32_t sent, acked;
    bool finished; // done is set
    bool done_acked;
    struct msg_done done; // its tail points to memory of the owner
    ms_t retry_at;
    uint32_t retry_ms;
};

// from: records before it need not be sent (the receiver has them).
void stream_tx_init(struct stream_tx *tx, const struct stream_key *key, const struct attempt *attempt, link_id link,
                    uint32_t from);
// The receiver is now behind `link` and holds the records before `next` (Sync, a repeated Generate, Resend over a new link).
// A `next` beyond the log is the receiver's mistake and is cut to the log's length by the next pump.
void stream_tx_attach(struct stream_tx *tx, link_id link, const struct attempt *attempt, uint32_t next);
void stream_tx_detach(struct stream_tx *tx);
// Sends everything unsent, in messages of at most RECORDS_PER_FRAME records and RECORD_BYTES_PER_FRAME bytes, then Done
// once.
void stream_tx_pump(struct stream_tx *tx, const struct record_log *log, const struct sink *sink, ms_t now);
// The stream has ended; done->n_tokens must be the log's length. Call pump next.
void stream_tx_finish(struct stream_tx *tx, const struct msg_done *done);
void stream_tx_on_ack(struct stream_tx *tx, const struct msg_ack *ack, ms_t now);
void stream_tx_on_resend(struct stream_tx *tx, const struct msg_resend *resend, const struct record_log *log,
                         const struct sink *sink, ms_t now);
// Retransmits when due. Returns when to call again (MS_NEVER: nothing outstanding).
ms_t stream_tx_tick(struct stream_tx *tx, const struct record_log *log, const struct sink *sink, ms_t now);
