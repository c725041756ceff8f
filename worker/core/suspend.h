// The life of a replica in several processes (a group, worker/group), beyond that of one: members come and go, the core
// stays.
#pragma once
#include "worker/core/worker_core.h"

// The engine lost what it held, because a member of its group is gone: every stream that has not ended is rejected with
// ERR_WORKER_LOST and this sentence, for its router to place elsewhere at once; unanswered plans are void, and so is what
// the hooks were told before this returns: the shell empties the engine. LOADING until the engine is there again, empty
// (worker_core_ready_to_serve); a notice goes on, unless it was a member's. Those whose rows were being computed for the
// first time are reported as what the member may have died of (Rejected.kills).
void worker_core_suspended(struct worker_core *core, const char *sentence, ms_t now);
// Before worker_core_ready_to_serve: a first guess of the time of a step that decodes one sequence alone. Without it all of
// a step's time is taken to grow with its rows, and a worker that has only seen single streams seems slower than it is.
void worker_core_lone_step(struct worker_core *core, uint32_t us);
// What the worker waits for before it can serve, as it changes; "" when for nothing. Routers are told, for people to read.
void worker_core_waits(struct worker_core *core, const char *reason, ms_t now);
// Members of the replica, told to routers; and the epoch of their group, for the plans to come.
void worker_core_group(struct worker_core *core, uint32_t epoch, uint32_t n, const struct member *members, ms_t now);
// Id of the checkpoint store that all members see, told to routers with the next worker_core_ready_to_serve(); "": none, and
// hooks.checkpoint isn't called.
void worker_core_store(struct worker_core *core, const char *store);
// A member of the group, not this process, will be taken away after deadline_ms (0: when all streams have ended): NOTICED,
// as by worker_core_notice(), but only until worker_core_suspended() says that the member is gone. A notice to this process
// goes before.
void worker_core_member_notice(struct worker_core *core, uint32_t deadline_ms, ms_t now);
bool worker_core_member_leaves(const struct worker_core *core); // NOTICED for that reason
// A router has passed on a notice to the member `name`. True once for each.
bool worker_core_take_member_notice(struct worker_core *core, char name[NAME_SIZE], uint32_t *deadline_ms);
