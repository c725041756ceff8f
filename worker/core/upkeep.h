// Prefixes that go to the checkpoint store and come back from it, one at a time, through a sequence of no stream: it gets a
// slot and blocks when nobody else wants them, is copied out or in, and ends. The hooks are those of moves, called with
// user NULL and a ticket that has UPKEEP_TICKET set; so are the answers, and worker_core_wants().
#pragma once
#include "worker/core/worker_core.h"

#define UPKEEP_TICKET (UINT64_C(1) << 63)

// Writes the prefix that was used last of those that have not been written: hooks.checkpoint follows. Of one that shares
// more than half with what is written already the rest is not worth it. False: there is nothing to write, or one is under
// way.
bool worker_core_save_prefix(struct worker_core *core, ms_t now);
// Brings a prefix (n tokens, whole blocks of them) back: hooks.restore follows. False: one is under way, or there are no
// unused blocks for it, or it is here already.
bool worker_core_bring_prefix(struct worker_core *core, const uint32_t *tokens, uint32_t n, ms_t now);
bool worker_core_upkeep_busy(const struct worker_core *core);
