// What the files of worker/core share: the object behind struct worker_core, and who does what. Every event enters through
// worker_core.c or lifecycle.c between core_enter() and core_leave().
//
//   worker_core.c  events, links' messages, time      status.c     Hello, status deltas, heartbeats
//   requests.c     what routers ask of streams        lifecycle.c  loading, serving, noticed, failing
//   answers.c      tokens, ends, expiry of streams    moves.c      stopping, checkpoints, offers, restoring
//   upkeep.c       prefixes and the store          check.c        invariants, counters
#pragma once
#include "common/base/error.h"
#include "worker/core/link.h"
#include "worker/core/scheduler.h"
#include "worker/core/streams.h"

enum {
    // An ended stream that its router neither acknowledges nor asks for, over a link that lives, is kept for the grace
    // period
    // and this much longer: five of the longest retransmission intervals.
    UNCLAIMED_MS = 5 * TX_RETRY_MAX_MS,
    FIRST_ANSWER_TOKENS = 256, // expected length of an answer until answers were seen
    BYTES_PER_TOKEN = 4,       // of a prompt's text, when the options don't say
    RETRY_AFTER_MIN_MS = 100,
    RETRY_AFTER_MAX_MS = 60000,
};

// The one sequence that has no stream.
struct upkeep {
    struct sequence seq;
    bool active, saves; // saves: to the store
    uint64_t ticket, tickets;
};

struct worker_core {
    struct worker_core_options options;
    uint32_t context; // tokens of one stream: max_context, or what the blocks hold
    struct sink sink; // the shell's
    struct sink out;  // ours: notes that something was said, then the shell's
    struct worker_hooks hooks;
    ms_t now; // of the event under way

    enum lifecycle life;
    float progress;
    uint32_t eta_ms;
    char reason[REASON_SIZE];        // why it is not ready; ""
    ms_t deadline_at;                // noticed: what is left is rejected at
    ms_t stop_at;                    // and stopped and offered before, at
    bool member_leaves;              // noticed because of a member of the group, until that is gone
    struct msg_notice member_notice; // for a member, to be fetched by the shell; "": none

    struct link_list links;
    struct streams streams;
    struct scheduler scheduler;
    struct pace pace;
    struct upkeep upkeep;
    uint32_t lone_step_us; // first guess; 0: none
    ms_t streams_due;      // the earliest time at which some stream wants core_tick_streams()
    uint32_t waiting_told; // sequences without a slot, as routers know or will soon
    ms_t step_done_at;     // the last step was answered
    float answer_tokens;   // mean length of answers, learned
    struct worker_counters counters;
};

// Does this point fire?
static inline bool core_odd(struct worker_core *core, enum worker_odd point) {
    return buggify(&core->options.buggify, point, core->now);
}
void core_enter(struct worker_core *core, ms_t now);
void core_leave(struct worker_core *core); // makes plans
void core_send(struct worker_core *core, link_id link, const struct msg *m);
void core_link_lost(struct worker_core *core, struct link *link); // its streams go on, orphaned; link is freed

// requests.c
void request_generate(struct worker_core *core, struct link *link, const struct msg_generate *g);
void request_attach(struct worker_core *core, struct link *link, const struct msg_attach *m);
void request_ack(struct worker_core *core, const struct msg_ack *m);
void request_resend(struct worker_core *core, struct link *link, const struct msg_resend *m);
void request_sync(struct worker_core *core, struct link *link, const struct msg_sync *m);
void request_cancel(struct worker_core *core, struct link *link, const struct msg_cancel *m);

// answers.c
void answer_rejected(struct worker_core *core, link_id link, const struct stream_key *key, const struct attempt *attempt,
                     const struct error *error, uint32_t retry_after_ms);
void answer_accepted(struct worker_core *core, struct stream *s);
// Sends what is new, and notes when the stream wants to be looked at again.
void answer_pump(struct worker_core *core, struct stream *s);
void answer_attach(struct worker_core *core, struct stream *s, link_id link, uint32_t next);
void answer_park(struct worker_core *core, struct stream *s);
// A sampled token comes back for a stream that wants it.
void answer_token(struct worker_core *core, struct stream *s, const struct worker_token *token);
// The stream ends with Done. error: for FINISH_ERROR, else NULL.
void answer_finish(struct worker_core *core, struct stream *s, enum finish finish, const struct error *error);
// The stream is gone, without a word; freed now or when its last plan comes back.
void answer_drop(struct worker_core *core, struct stream *s);
// A stream that has not ended is given up by this worker: Rejected, and gone.
void answer_give_up(struct worker_core *core, struct stream *s, err_id id, const char *sentence);
// … because a process that computed it is gone. kills: how many may have died of it.
void answer_lost(struct worker_core *core, struct stream *s, const char *sentence, uint32_t kills);
// Call when the sequence may have become idle: gives up what a stream that has ended or was dropped needs no more.
void answer_settle(struct worker_core *core, struct stream *s);
void answer_tick(struct worker_core *core); // all streams that are due

// lifecycle.c
void lifecycle_tick(struct worker_core *core); // the deadline of a notice
void lifecycle_notice(struct worker_core *core, uint32_t deadline_ms);

// suspend.c
void suspend_notice(struct worker_core *core, const struct msg_notice *m); // to this worker, or to a member of its group

// moves.c
// Stops a LIVE stream at the next step boundary; then it is checkpointed and offered.
void move_stop(struct worker_core *core, struct stream *s);
// Call when rows of it were answered: it may stand at the boundary now.
void move_on(struct worker_core *core, struct stream *s);
void move_offer(struct worker_core *core, struct stream *s); // says MoveOffer, if anybody is attached, and when again
void move_commit(struct worker_core *core, const struct msg_move_commit *m);

// upkeep.c
void upkeep_answered(struct worker_core *core); // a plan with its sequence was
void upkeep_done(struct worker_core *core, uint64_t ticket, bool ok);
bool upkeep_wants(const struct worker_core *core, uint64_t ticket);
void upkeep_end(struct worker_core *core);
void upkeep_settle(struct worker_core *core);

// status.c
void status_hello(struct worker_core *core, struct link *link, bool reply_wanted);
void status_touch(struct worker_core *core, uint32_t groups); // routers should know soon
void status_age(struct worker_core *core, uint32_t groups);   // goes along with the next one
void status_full(struct worker_core *core, struct link *link);
void status_now(struct worker_core *core); // what was touched goes out at once
ms_t status_tick(struct worker_core *core, struct link *link);
uint32_t status_retry_after_ms(const struct worker_core *core);
uint32_t status_wait_ms(const struct worker_core *core); // expected, until one more stream gets a slot
