// The life of a replica in several processes (a group, worker/group), beyond that of one: members come and go, the core
// stays.
#pragma once
#include "worker/core/worker_core.h"

// The engine lost what it held, because a member of its group is gone: every stream that has not ended is rejected with
// ERR_WORKER_LOST and this sentence, for its router to place elsewhere at once; unanswered plans are void, and so is what
// the hooks were told before this returns: the shell empties the engine. LOADING until the engine is there again, empty
// (worker_core_ready_to_serve); a notice goes on. Those whose rows were being computed for the first time are reported as
// what the member may have died of (Rejected.kills).
void worker_core_suspended(struct worker_core *core, const char *sentence, ms_t now);
// Before worker_core_ready_to_serve: a first guess of the time of a step that decodes one sequence alone. Without it all of
// a step's time is taken to grow with its rows, and a worker that has only seen single streams seems slower than it is.
void worker_core_lone_step(struct worker_core *core, uint32_t us);
// What the worker waits for before it can serve, as it changes; "" when for nothing. Routers are told, for people to read.
void worker_core_waits(struct worker_core *core, const char *reason, ms_t now);
// Members of the replica, told to routers; and the epoch of their group, for the plans to come.
void worker_core_group(struct worker_core *core, uint32_t epoch, uint32_t n, const struct member *members, ms_t now);
