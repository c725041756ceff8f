// A sequence: one answer being computed. Its tokens (prompt, then output), its KV blocks, and how far it is planned and
// computed. The scheduler owns all that moves here; the stream that a sequence belongs to (streams.h) only reads it, appends
// tokens, and says how far it may go.
//
//   NEW → WAITING ⇄ RUNNING → ENDED        A RUNNING sequence that is preempted is LEAVING until its last unanswered plan
//            ↖ LEAVING ↙                   comes back, and WAITING then. ENDED likewise keeps slot and blocks until then.
//
// A sequence that came with a checkpoint is `restoring` from when it gets its slot until the first n_restored positions have
// been loaded there (then it goes on behind them) or that has failed (then it begins at position 0). One that must go to
// another worker is `held`: no more rows of it are planned; while its state is copied out (`exporting`) it keeps its slot.
//
// Positions [0, computed) are in the KV cache, [computed, planned) will be once the unanswered plans are done. A row that
// samples makes the token behind its last position; `unsampled` counts those that are still to come back.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "worker/core/blocks.h"

enum sequence_state { SEQUENCE_NEW, SEQUENCE_WAITING, SEQUENCE_RUNNING, SEQUENCE_LEAVING, SEQUENCE_ENDED };

#define SEQUENCE_AGE_NONE UINT64_MAX

struct sequence {
    enum sequence_state state;
    void *user;      // handed to hooks.slot_open
    bool one_by_one; // no row is planned while one is under way that chooses a token: what may follow depends on it
    uint32_t *tokens;
    uint32_t n_tokens, n_prompt;
    uint32_t tokens_max;            // prompt and answer at most
    uint32_t pause_at;              // no row is planned that would make the sequence longer than this; UINT32_MAX: no pause
    uint32_t *blocks;               // block i holds positions [i * block_tokens, …)
    uint32_t n_blocks, blocks_told; // held; of them the engine's block table knows the first blocks_told
    uint32_t opened_with;           // tokens when it got its slot: the positions before are prefill, the others decode
    uint32_t planned, computed;
    uint32_t unsampled, in_flight; // sampling rows, and all rows, in unanswered plans
    uint32_t slot;                 // SLOT_NONE: none
    uint64_t age;                  // order of first admission to a slot: the lower the older
    int32_t priority;              // the higher goes first
    uint64_t tenant;               // hash of its name
    uint32_t account;              // the tenant's (fair.h)
    struct block_key salt, *keys;  // keys[i]: of all tokens up to the end of block i, the first n_keys of them made
    uint32_t n_keys, n_named;      // the first n_named blocks were made known (prefix.h)
    bool private_blocks;           // neither finds blocks by their keys nor lets its own be found
    uint32_t waits_for, waits_at;  // a block that another sequence computes, which will have keys[waits_at]; BLOCK_NONE
    uint32_t cached;               // tokens that it found in blocks when it first got a slot
    bool resumed;                  // came with records: goes ahead of fresh ones
    bool held, exporting, restoring;
    bool upkeep;         // of no stream: a prefix on its way to the store or from it (upkeep.h)
    bool restore_asked;  // hooks.restore was called
    uint32_t n_restored; // positions that a checkpoint holds, less than n_tokens; 0: none, or no longer
    uint64_t restore_ticket;
    bool cut_short;               // ENDED from outside
    uint32_t overtaken;           // how many resumed sequences went ahead of it
    struct sequence *prev, *next; // in the waiting list
};

// Copies the prompt. n_prompt ≥ 1, max_tokens ≥ 1; memory for both is taken here.
void sequence_init(struct sequence *seq, const uint32_t *prompt, uint32_t n_prompt, uint32_t max_tokens,
                   uint32_t block_tokens);
void sequence_append(struct sequence *seq, uint32_t token);
void sequence_fini(struct sequence *seq); // holds no slot and no block; all zero is fine

// May a row be planned? Not when all tokens that it may have are made or under way, nor while it is held or restoring.
bool sequence_may_run(const struct sequence *seq);
// It could go on, but was told to pause or is held.
bool sequence_paused(const struct sequence *seq);
// Of two that have or had a slot, or one that never had: does a go before b?
static inline bool sequence_outranks(const struct sequence *a, const struct sequence *b) {
    return a->priority != b->priority ? a->priority > b->priority : a->age < b->age;
}
// With a slot: the next row computes the position of the last token, known or still on the device: one token of a running
// answer.
bool sequence_decodes(const struct sequence *seq);
// Tokens to be computed before the next one can be sampled; 0 in the middle of an answer.
uint32_t sequence_prefill_left(const struct sequence *seq);
