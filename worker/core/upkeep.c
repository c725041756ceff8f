#include "worker/core/upkeep.h"

#include "common/base/check.h"
#include "common/base/mark.h"
#include "worker/core/core.h"

#include <stdlib.h>
#include <string.h>

static bool busy(const struct upkeep *u) { return u->seq.state != SEQUENCE_NEW && u->seq.state != SEQUENCE_ENDED; }

bool worker_core_upkeep_busy(const struct worker_core *core) { return core->upkeep.active; }

static void begin(struct worker_core *core, const uint32_t *tokens, uint32_t n, bool saves) {
    struct upkeep *u = &core->upkeep;
    sequence_init(&u->seq, tokens, n, 1, core->options.block_tokens);
    u->seq.salt = prefix_root(core->options.prefix_salt, 0);
    u->seq.priority = INT32_MIN; // gives way to everybody
    u->seq.upkeep = u->seq.held = true;
    u->active = true;
    u->saves = saves;
    u->ticket = UPKEEP_TICKET | ++u->tickets;
    u->seq.restore_ticket = u->ticket;
}

// ---- out ----

// Which kept blocks are inner links of a chain of kept blocks: inner[i] is set. Chains with held blocks behind them wait.
static void mark_inner(const struct blocks *b, bool *inner) {
    for (uint32_t i = 0; i < b->count; i++) {
        if (!b->block[i].ready) continue;
        uint32_t parent = blocks_before(b, i);
        if (parent != BLOCK_NONE) inner[parent] = true;
    }
}

static void mark_saved(struct blocks *b, const uint32_t *chain, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) b->block[chain[i]].saved = true;
}

// Worth it: more than half of the chain isn't written.
static bool worth_it(const struct blocks *b, const uint32_t *chain, uint32_t n) {
    uint32_t fresh = 0;
    for (uint32_t i = 0; i < n; i++) fresh += !b->block[chain[i]].saved;
    return 2 * fresh > n;
}

// Fills chain[] with the newest one that is to be written; 0: there is none.
static uint32_t next_chain(struct blocks *b, const struct block_key *root, uint32_t most, uint32_t *chain) {
    bool *inner = xcalloc(b->count, sizeof *inner);
    uint32_t n = 0;
    mark_inner(b, inner);
    for (uint32_t i = b->newest; i != BLOCK_NONE && n == 0; i = b->block[i].older) {
        if (b->block[i].saved || inner[i]) continue;
        n = blocks_chain(b, i, root, chain);
        if (n > 0 && n <= most && worth_it(b, chain, n)) break;
        b->block[i].saved = true; // not to be looked at again
        n = 0;
    }
    free(inner);
    return n;
}

bool worker_core_save_prefix(struct worker_core *core, ms_t now) {
    struct blocks *b = &core->scheduler.blocks;
    struct block_key root = prefix_root(core->options.prefix_salt, 0);
    uint32_t bt = core->options.block_tokens;
    if (core->upkeep.active || core->life == LIFECYCLE_FAILED || core->hooks.checkpoint == NULL) return false;
    core_enter(core, now);
    uint32_t *chain = xmalloc(b->count * sizeof *chain);
    uint32_t n = next_chain(b, &root, (core->context - 1) / bt, chain);
    if (n > 0) {
        uint32_t *tokens = xcalloc((size_t)n * bt + 1, sizeof *tokens); // one more, which isn't computed
        for (uint32_t i = 0; i < n; i++)
            memcpy(tokens + (size_t)i * bt, b->tokens + (size_t)chain[i] * bt, bt * sizeof *tokens);
        mark_saved(b, chain, n);
        begin(core, tokens, n * bt + 1, true);
        scheduler_enqueue(&core->scheduler, &core->upkeep.seq);
        free(tokens);
    }
    free(chain);
    core_leave(core);
    return n > 0;
}

// ---- in ----

bool worker_core_bring_prefix(struct worker_core *core, const uint32_t *tokens, uint32_t n, ms_t now) {
    struct upkeep *u = &core->upkeep;
    struct prefix_match match;
    if (u->active || core->life == LIFECYCLE_FAILED || core->hooks.restore == NULL) return false;
    if (n == 0 || n % core->options.block_tokens != 0 || n >= core->context) return false;
    core_enter(core, now);
    uint32_t *all = xcalloc((size_t)n + 1, sizeof *all);
    memcpy(all, tokens, n * sizeof *all);
    begin(core, all, n + 1, false);
    free(all);
    prefix_find(&core->scheduler.blocks, &u->seq, &match);
    uint32_t need = blocks_for(n + 2, core->options.block_tokens);
    if (match.n_blocks * core->options.block_tokens >= n || need > core->scheduler.blocks.n_unused) {
        sequence_fini(&u->seq);
        u->active = false;
    } else {
        u->seq.n_restored = n;
        scheduler_enqueue(&core->scheduler, &u->seq);
    }
    bool begun = u->active;
    core_leave(core);
    return begun;
}

// ---- both ----

void upkeep_end(struct worker_core *core) {
    struct upkeep *u = &core->upkeep;
    if (!u->active) return;
    u->seq.exporting = false;
    if (busy(u)) scheduler_end(&core->scheduler, &u->seq, true);
    upkeep_settle(core);
}

void upkeep_settle(struct worker_core *core) {
    struct upkeep *u = &core->upkeep;
    if (!u->active || u->seq.state != SEQUENCE_ENDED || !scheduler_idle(&u->seq)) return;
    sequence_fini(&u->seq);
    u->active = false;
}

// The plan that told of its blocks is answered. What was found less than whole (evicted meanwhile) is written as far as it
// goes.
void upkeep_answered(struct worker_core *core) {
    struct upkeep *u = &core->upkeep;
    struct sequence *seq = &u->seq;
    if (u->saves && seq->state == SEQUENCE_RUNNING && !seq->exporting) {
        if (seq->computed == 0) {
            upkeep_end(core);
            return;
        }
        seq->exporting = true;
        struct checkpoint_request r = {.slot = seq->slot, .tokens = seq->tokens, .n_tokens = seq->n_tokens};
        r.n_prompt = seq->n_tokens;
        r.n_computed = seq->computed;
        core->hooks.checkpoint(core->hooks.ctx, u->ticket, &r);
    }
    upkeep_settle(core);
}

bool upkeep_wants(const struct worker_core *core, uint64_t ticket) {
    const struct upkeep *u = &core->upkeep;
    return u->active && ticket == u->ticket && u->seq.state == SEQUENCE_RUNNING && (u->seq.exporting || u->seq.restoring);
}

void upkeep_done(struct worker_core *core, uint64_t ticket, bool ok) {
    struct upkeep *u = &core->upkeep;
    if (!u->active || ticket != u->ticket) return;
    if (u->saves) {
        core->counters.prefixes_saved += ok;
    } else if (u->seq.restoring && u->seq.state == SEQUENCE_RUNNING) {
        RARE_MARK(prefix_comes_back);
        scheduler_restored(&core->scheduler, &u->seq, ok);
        mark_saved(&core->scheduler.blocks, u->seq.blocks, u->seq.computed / core->options.block_tokens);
        core->counters.prefixes_restored += ok;
    }
    upkeep_end(core);
}
