// What the tests may make of a worker core: deliberate bugs, which the simulator must catch, and legal but unusual
// behaviour, which it must bear. Both are options of the core, and off in everything that ships.
#pragma once
#include "common/base/buggify.h"

// Deliberate bugs for the simulator's tests. 0 in everything that ships.
enum worker_bug {
    WORKER_BUG_NONE = 0,
    WORKER_BUG_RESEND_IGNORED, // Resend, and retransmission
    WORKER_BUG_DOUBLE_FREE,    // a block of a sequence that was cut short is freed twice
    WORKER_BUG_SPLICE,         // a later attempt takes a stream over whatever its records are
    WORKER_BUG_RESTORE_FAILED, // a checkpoint that could not be loaded counts as loaded
    WORKER_BUG_BLOCKS_UNTOLD,  // the engine isn't told of the new blocks of a sequence that was preempted
    WORKER_BUG_OLD_EPOCH,      // a group that has formed again gets plans of its old epoch
};

// Points of common/base/buggify.h: what a worker may do at any time, though it rarely has a reason to.
enum worker_odd {
    WORKER_ODD_REFUSE,    // refuses a request as if its queue were full
    WORKER_ODD_GIVE_UP,   // gives a running stream up
    WORKER_ODD_HEARTBEAT, // says everything of itself long before it must
    WORKER_ODD_REPEAT,    // sends again what is not acknowledged
    WORKER_ODD_HOLD,      // keeps a record back until the next one
    WORKER_ODD_FORGET,    // forgets an ended and acknowledged stream before its time
    WORKER_ODD_PREEMPT,   // sends the youngest running sequence back to wait
    WORKER_ODD_CHUNK,     // makes a prompt chunk of one token
    WORKER_ODD_IDLE,      // makes no plan now, but with the next event
    WORKER_ODD_COUNT
};
