// Decides what each step computes. It owns slots, KV blocks and the waiting list, makes step plans (worker/plan) and keeps
// account of those that are unanswered. It knows sequences, not streams, and no time but what it is handed.
//
// A plan: first one row for each running answer, then prompt chunks in order of rank, then who is next of those that wait
// (waiting.h) is given a slot, until the budget is spent. A prompt's blocks are taken when it gets its slot; an answer's one
// at a time as it grows. Full blocks are named by all tokens up to their end (prefix.h): a sequence that begins with the
// same tokens holds them too, and starts behind them. If another one is computing them just now, it waits for that: n
// answers to one prompt prefill it once.
//
// When no block is left, the last running sequence in rank leaves (paused ones before all others) and later prefills anew
// what isn't in blocks any more. Rank: the higher priority, then the greater age. A sequence that waits sends away those of
// lower priority.
//
// A sequence with a checkpoint gets slot and blocks like any other; the plan of that moment tells the engine of the blocks,
// and hooks.restore is called behind it. It has no rows until scheduler_restored().
//
// Why it always gets on. Age is the order of first admission and is kept. The first in rank of those that are not done and
// not paused is never made to leave while another one runs, and alone it fits, because no sequence is let in that is longer
// than all blocks together. It stands at the head of the waiting list whenever it waits, waits for nobody's prefix because
// nobody outranks it, and budget goes to the first in rank. A budget smaller than the slots limits how many answers run: a
// slot is given only when budget is left for its prompt.
//
// Micro-batches. Without a pipeline a plan may hold rows whose token is still on the device (PLAN_TOKEN_DEVICE), so that the
// next step is there before this one ends. In a pipeline the token comes into being on the last stage, and the first one
// would wait for it. So with micro_batches = m > 1 no row is planned before its sequence's tokens are all known here, and a
// plan takes at most its share, one m-th of the running answers (rounded up): the plans in flight hold disjoint sets of
// answers of about the same size, one for each stage to work at. Only a prompt's chunks may follow each other in them.
// Nobody is left out: an answer that finds its plan full is older than what the next one takes first, or finds room there,
// because m full plans hold all the answers there are.
#pragma once
#include <stddef.h>
#include "worker/core/blocks.h"
#include "worker/core/fair.h"
#include "worker/core/pace.h"
#include "worker/core/prefix.h"
#include "worker/core/sequence.h"
#include "worker/core/slots.h"
#include "worker/core/waiting.h"
#include "worker/core/worker_core.h"
#include "worker/plan/plan.h"

struct plan_entry { // a row of an unanswered plan; q_len 0: no row, the plan told of the blocks of a restored sequence
    struct sequence *seq;
    uint32_t q_len;
    bool samples;
};

struct pending_plan {
    uint64_t step;
    ms_t submitted_at;
    uint32_t n_entries;
    uint32_t decode_rows, prefill_tokens;
    struct plan_entry *entries;
};

struct scheduler {
    const struct worker_hooks *hooks;
    const struct pace *pace;
    uint32_t block_tokens, step_tokens, chunk_tokens, max_seqs, micro_batches;
    uint32_t group_epoch;
    bool double_free, untold; // WORKER_BUG_DOUBLE_FREE, WORKER_BUG_BLOCKS_UNTOLD
    bool abandoned;           // the engine is gone
    bool tiny_chunks;         // WORKER_ODD_CHUNK, for the next plans
    struct blocks blocks;
    struct slot_map slots;
    struct sequence **running;     // [slots] by rank
    struct sequence **order;       // [slots] scratch
    uint32_t n_running, n_leaving; // leaving: not running any more, but with a slot (LEAVING or ENDED)
    struct waiting waiting;
    struct fair fair;
    uint64_t next_age, next_step;
    struct pending_plan *plans; // [plans_max] a ring
    uint32_t plans_max, plans_first, n_plans;
    struct plan_caps caps;
    void *buffer;          // of the plan being built
    uint32_t known_blocks; // of a plan's block table entries, those for blocks that are found or restored
    uint64_t preemptions, prefilled_tokens, restored_tokens, cached_tokens, steps;
};

// hooks and pace stay the caller's.
void scheduler_init(struct scheduler *s, const struct worker_core_options *options, const struct worker_hooks *hooks,
                    const struct pace *pace);
void scheduler_fini(struct scheduler *s);

// A NEW sequence joins the waiting list. seq must stay until scheduler_idle().
void scheduler_enqueue(struct scheduler *s, struct sequence *seq);
// Ends a sequence in any state; slot and blocks are freed as soon as no unanswered plan names it. cut_short: it did not end
// by itself.
void scheduler_end(struct scheduler *s, struct sequence *seq, bool cut_short);
// NEW or ENDED, and nothing of it is left here: it may be freed.
bool scheduler_idle(const struct sequence *seq);

// The first seq->n_restored positions are in its slot's blocks, or can't be had: it goes on there, or begins anew. Nothing
// happens to a sequence that is not restoring any more.
void scheduler_restored(struct scheduler *s, struct sequence *seq, bool ok);

// Makes and submits plans until plans_max are unanswered or there is nothing to do. Returns how many.
uint32_t scheduler_plan(struct scheduler *s, ms_t now);

// The youngest running sequence goes back to wait, if another one runs (WORKER_ODD_PREEMPT).
void scheduler_preempt_one(struct scheduler *s);

// The oldest plan was answered: takes it out. The caller goes through its entries in order: scheduler_answered(), then what
// the row means for the stream, then scheduler_settle(). Valid until the next scheduler_plan().
const struct pending_plan *scheduler_pop(struct scheduler *s, uint64_t step);
void scheduler_answered(struct scheduler *s, const struct plan_entry *entry);
void scheduler_settle(struct scheduler *s, struct sequence *seq);
// What the engine computed for it was no number: nobody else is to find that.
void scheduler_poisoned(struct scheduler *s, struct sequence *seq);

// The engine is gone: unanswered plans will never be answered, no hook is called any more.
void scheduler_abandon(struct scheduler *s);
// After scheduler_abandon(), when every sequence has ended: an engine is there again, empty. Steps are numbered on.
void scheduler_revive(struct scheduler *s);

// CHECKs what holds within the scheduler; the caller has filled block_refs ([blocks.count], used up) from all sequences.
void scheduler_check(const struct scheduler *s, uint32_t *block_refs);
