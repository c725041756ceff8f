// The engine thread of a follower: holds the engine of one stage that is not the first, and does what the leader's messages
// say. Messages come in through a mailbox, frames leave through send(), which is called on this thread.
#pragma once
#include "worker/engine/backend.h"
#include "worker/group/message.h"

struct stage;

enum stage_to { STAGE_TO_LEADER, STAGE_TO_NEXT };

struct stage_options {
    const struct backend *backend;
    struct engine_opts engine; // model, layers, threads, pace; the rest comes with Welcome
    bool last;
    const char *store; // id of the checkpoint store that this process has; "": none, no part is saved or loaded
    void *ctx;
    // Takes the message's frame. Any thread may be the caller's loop: this one is the stage's.
    void (*send)(void *ctx, enum stage_to to, uint32_t epoch, const struct group_msg *m);
    // A part (SAVE, LOAD) that the store is needed for next; takes the message over. When it is done a LOAD comes back by
    // stage_take(), the outcome of a SAVE is told to the leader. This thread.
    void (*part)(void *ctx, struct group_msg *m);
    // The stage can't go on: the process must end. ERR_CONFIG, ERR_MODEL_FILES: it would fail again.
    void (*failed)(void *ctx, const struct error *e);
};

struct stage_stats {
    float progress;   // of loading
    uint64_t busy_us; // computing or pacing
    uint64_t steps;   // answered
    uint64_t stale;   // messages of other epochs, dropped
    uint32_t loads;   // how often weights were read
    uint32_t epoch;   // that it is ready for; 0: none
};

struct stage *stage_start(const struct stage_options *options);
// Aborts what runs, joins, frees. NULL inside is fine.
void stage_stop(struct stage **s);
// Loop thread: hands a message over. False: the mailbox is full, the peer breaks the grammar; the message is still the
// caller's.
bool stage_take(struct stage *s, struct group_msg *m);
// Any thread.
void stage_stats(struct stage *s, struct stage_stats *out);
