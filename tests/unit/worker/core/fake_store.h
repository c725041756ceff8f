// A checkpoint store in memory, and one worker's way to it: the hooks' jobs wait until the engine has answered the plans
// before them, then the core is asked whether it still wants them. Two worlds with one store can hand sequences over.
#pragma once
#include "tests/unit/worker/core/fake_engine.h"
#include "worker/core/worker_core.h"

struct fake_store;
struct fake_moves;

struct fake_store *fake_store_create(void);
void fake_store_destroy(struct fake_store *s);
uint32_t fake_store_find(const struct fake_store *s, const char *handle); // positions in it; 0: it isn't there
uint32_t fake_store_count(const struct fake_store *s);                    // kept

struct fake_moves *fake_moves_create(struct worker_core *core, struct fake_engine *engine, struct fake_store *store);
void fake_moves_destroy(struct fake_moves *m);
void fake_moves_checkpoint(struct fake_moves *m, uint64_t ticket, const struct checkpoint_request *r);
void fake_moves_restore(struct fake_moves *m, uint64_t ticket, uint32_t slot, const char *handle, uint32_t n);
void fake_moves_turn(struct fake_moves *m, ms_t now); // answers what can be answered
void fake_moves_hold(struct fake_moves *m, bool hold);
// Of the jobs that come to be answered, one in so many fails; 0: none.
void fake_moves_fail(struct fake_moves *m, uint32_t checkpoints_one_in, uint32_t restores_one_in);
