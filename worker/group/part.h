// One stage's part of a checkpoint on its way through a follower: the leader asks (Part), the stage's engine thread copies
// entries out of the slot or in, and the process that has the store writes or reads them meanwhile (stage.h, follower.h).
//
//   save:  loop thread → engine thread: copied out → loop thread: written elsewhere → PartDone
//   load:  loop thread → engine thread: is the slot open? → loop thread: read elsewhere → engine thread: copied in →
//   PartDone
#pragma once
#include "common/base/error.h"
#include "common/base/ids.h"
#include "worker/plan/sequence_state.h"

enum { GROUP_HANDLE_SIZE = 33, GROUP_STORE_SIZE = 17 };

struct group_part {
    uint32_t epoch, slot, count;
    uint64_t ticket;
    char handle[GROUP_HANDLE_SIZE];
    struct stream_key key;
    struct state_part shard; // hash travels; the rest is filled in by the stage
    // Never on the wire:
    uint32_t use;        // of the slot when this was asked for: if it differs later, the slot has gone on without it
    const void *entries; // in the message's owned memory; NULL: not there yet
    struct error error;  // ERR_NONE: all went well so far
};

struct group_part_done {
    uint32_t epoch;
    uint64_t ticket, hash;
    char failure[ERROR_TEXT_MAX]; // "": none
};
