#include "tests/sim/engine.h"

#include "common/base/check.h"
#include "tests/sim/chain.h"
#include "tests/sim/world.h"
#include "worker/core/worker_core.h"
#include "worker/plan/plan.h"

#include <stdlib.h>

enum { RESULTS = 8 }; // more than plans in flight
static const uint32_t NO_BLOCK = UINT32_MAX;

struct slot {
    struct instance *instance; // NULL: closed
    uint32_t *table;           // owned: block of each index, or NO_BLOCK
    uint32_t len;              // tokens whose KV is there
    uint32_t opened_with;      // tokens; the next row behind a restored state may be one of a running answer
    uint64_t step;             // the last with a row of it that samples
    uint32_t rows;
    uint32_t last_token;
    bool has_last;
};

struct engine {
    struct engine_options o;
    uint32_t indexes; // entries of a block table
    uint64_t *kv;     // owned: a chain link per token of every block
    uint32_t *tenant; // owned: who wrote to each block last
    struct slot *slots;
    uint64_t start; // of every chain
    struct worker_token *results[RESULTS];
    uint32_t at;                   // result ring
    uint64_t last_step, done_step; // submitted, answered
    uint32_t epoch;
};

struct engine *engine_create(const struct engine_options *o) {
    struct engine *e = xcalloc(1, sizeof *e);
    e->o = *o;
    e->indexes = (o->context + o->block_tokens - 1) / o->block_tokens;
    e->kv = xcalloc((size_t)o->n_blocks * o->block_tokens, sizeof *e->kv);
    e->tenant = xcalloc(o->n_blocks, sizeof *e->tenant);
    e->slots = xcalloc(o->slots, sizeof *e->slots);
    for (uint32_t i = 0; i < o->slots; i++) e->slots[i].table = xcalloc(e->indexes, sizeof(uint32_t));
    for (uint32_t i = 0; i < RESULTS; i++) e->results[i] = xcalloc(o->slots, sizeof(struct worker_token));
    e->start = chain_start(o->fingerprint, strlen(o->fingerprint));
    return e;
}

void engine_destroy(struct engine *e) {
    if (e == NULL) return;
    for (uint32_t i = 0; i < e->o.slots; i++) free(e->slots[i].table);
    for (uint32_t i = 0; i < RESULTS; i++) free(e->results[i]);
    free(e->slots);
    free(e->kv);
    free(e->tenant);
    free(e);
}

void engine_slot_open(struct engine *e, uint32_t slot, struct instance *i, const uint32_t *tokens, uint32_t n,
                      uint32_t n_prompt) {
    struct world *w = e->o.world;
    if (slot >= e->o.slots || e->slots[slot].instance != NULL) {
        world_fail(w, "%s opens slot %u, which is %s", e->o.name, slot, slot < e->o.slots ? "open" : "none");
        return;
    }
    oracle_opened(w->oracle, i, tokens, n, n_prompt);
    struct slot *s = &e->slots[slot];
    s->instance = i;
    s->len = 0;
    s->opened_with = n;
    s->step = 0;
    s->rows = 0;
    s->has_last = false;
    for (uint32_t k = 0; k < e->indexes; k++) s->table[k] = NO_BLOCK;
}

void engine_slot_close(struct engine *e, uint32_t slot) {
    if (slot >= e->o.slots || e->slots[slot].instance == NULL) {
        world_fail(e->o.world, "%s closes slot %u, which is not open", e->o.name, slot);
        return;
    }
    e->slots[slot].instance = NULL;
}

static uint64_t *cell(struct engine *e, const struct slot *s, uint32_t position) {
    uint32_t block = position < e->o.context ? s->table[position / e->o.block_tokens] : NO_BLOCK;
    if (block == NO_BLOCK) return NULL;
    return &e->kv[(size_t)block * e->o.block_tokens + position % e->o.block_tokens];
}

void engine_export(struct engine *e, uint32_t slot, uint64_t *chain, uint32_t n) {
    const struct slot *s = &e->slots[slot];
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t *at = s->instance ? cell(e, s, i) : NULL;
        if (at == NULL) {
            world_fail(e->o.world, "%s: position %u of slot %u is to be written to the store, and has no block", e->o.name,
                       i, slot);
            return;
        }
        chain[i] = *at;
    }
}

void engine_import(struct engine *e, uint32_t slot, const uint64_t *chain, uint32_t n) {
    struct slot *s = &e->slots[slot];
    for (uint32_t i = 0; i < n; i++) {
        uint64_t *at = s->instance ? cell(e, s, i) : NULL;
        if (at == NULL) {
            world_fail(e->o.world, "%s: position %u of slot %u is to be loaded, and has no block", e->o.name, i, slot);
            return;
        }
        *at = chain[i];
        e->tenant[s->table[i / e->o.block_tokens]] = instance_request(s->instance)->tenant;
    }
    s->len = n;
    s->rows = 1; // it goes on behind them
    if (n + 1 == s->opened_with) s->opened_with = n;
}

void engine_regroup(struct engine *e, uint32_t epoch) {
    for (uint32_t i = 0; i < e->o.slots; i++) e->slots[i].instance = NULL;
    memset(e->kv, 0xee, (size_t)e->o.n_blocks * e->o.block_tokens * sizeof *e->kv);
    e->epoch = epoch;
    e->done_step = e->last_step; // what was under way never ends
}

static bool apply_deltas(struct engine *e, const struct plan_view *v) {
    for (uint32_t i = 0; i < v->head->n_deltas; i++) {
        struct slot *s = &e->slots[v->deltas[i].slot];
        if (s->instance == NULL) {
            world_fail(e->o.world, "%s: step %llu changes the block table of slot %u, which is closed", e->o.name,
                       (unsigned long long)v->head->step, v->deltas[i].slot);
            return false;
        }
        s->table[v->deltas[i].index] = v->deltas[i].block;
    }
    for (uint32_t i = 0; i < v->head->n_copies; i++) {
        size_t size = e->o.block_tokens * sizeof *e->kv;
        memcpy(&e->kv[v->copies[i].dst * (size_t)e->o.block_tokens], &e->kv[v->copies[i].src * (size_t)e->o.block_tokens],
               size);
    }
    return true;
}

// A prefix that is there already: of blocks that somebody who may be known to it has filled.
static const char *reuse_fault(const struct engine *e, const struct slot *s, uint32_t pos) {
    uint32_t tenant = instance_request(s->instance)->tenant;
    if (pos == 0) return NULL;
    if (e->o.prefix_cache == PREFIX_CACHE_OFF) return "begins behind a prefix that it must not know";
    if (pos % e->o.block_tokens != 0 || pos >= s->opened_with) return "begins inside a block or behind everything";
    for (uint32_t k = 0; k < pos / e->o.block_tokens; k++) {
        if (s->table[k] == NO_BLOCK) return "begins behind a prefix of no block";
        if (e->o.prefix_cache == PREFIX_CACHE_TENANT && e->tenant[s->table[k]] != tenant)
            return "begins behind a prefix of another tenant";
    }
    return NULL;
}

// A row goes on exactly where the slot's last one ended: nothing is computed twice, nothing left out.
static const char *row_fault(const struct engine *e, const struct slot *s, const struct plan_row *r) {
    if (s->instance == NULL) return "is of a closed slot";
    if (r->pos != PLAN_POS_DEVICE && r->pos != s->len && s->rows > 0) return "does not go on where the last one ended";
    if (r->q_len > e->o.chunk_tokens) return "is longer than a chunk may be";
    if (e->o.micro_batches > 1 && s->step > e->done_step)
        return "goes on with a token that is still on its way through the stages";
    if (r->token_off == PLAN_TOKEN_DEVICE && !s->has_last) return "takes a token from the device that was never sampled";
    if (r->logits != PLAN_LOGITS_NONE && r->logits != PLAN_LOGITS_LAST) return "asks for something that nobody needs";
    return NULL;
}

// Runs one row; false: impossible.
static bool run_row(struct engine *e, const struct plan_view *v, const struct plan_row *r, struct engine_step *out) {
    struct slot *s = &e->slots[r->slot];
    struct world *w = e->o.world;
    const char *fault = row_fault(e, s, r);
    if (!fault && s->rows++ == 0 && r->pos != PLAN_POS_DEVICE) {
        fault = reuse_fault(e, s, r->pos);
        s->len = r->pos;
    }
    if (fault) {
        world_fail(w, "%s: a row of step %llu %s", e->o.name, (unsigned long long)v->head->step, fault);
        return false;
    }
    uint32_t pos = r->pos == PLAN_POS_DEVICE ? s->len : r->pos;
    uint64_t *last = NULL;
    for (uint32_t k = 0; k < r->q_len; k++, pos++) {
        uint32_t token = r->token_off == PLAN_TOKEN_DEVICE ? s->last_token : v->tokens[r->token_off + k];
        const uint64_t *before = pos ? cell(e, s, pos - 1) : &e->start;
        last = cell(e, s, pos);
        if (before == NULL || last == NULL) {
            world_fail(w, "%s: step %llu runs position %u of slot %u, for which it has no block", e->o.name,
                       (unsigned long long)v->head->step, pos, r->slot);
            return false;
        }
        *last = chain_next(*before, token);
        e->tenant[s->table[pos / e->o.block_tokens]] = instance_request(s->instance)->tenant;
    }
    if (s->len < s->opened_with) out->prefilled += (pos < s->opened_with ? pos : s->opened_with) - s->len;
    s->len = pos;
    const struct request *q = instance_request(s->instance);
    out->deadly |= q->poison && pos >= q->prompt_tokens;
    if (!plan_row_samples(r)) return true;
    uint32_t somewhere = (uint32_t)(hash_mix(v->head->step << 16 ^ pos) % pos);
    oracle_holds(w->oracle, s->instance, somewhere, *cell(e, s, somewhere));
    uint32_t token = chain_token(*last, instance_seed(s->instance), pos, instance_salt(s->instance));
    oracle_sampled(w->oracle, s->instance, pos, *last, token);
    s->last_token = token;
    s->has_last = true;
    s->step = v->head->step;
    e->results[e->at][out->n_tokens++] = (struct worker_token){
        .token = token, .logprob = chain_logprob(token), .nan = pos == q->prompt_tokens + (uint64_t)q->nan_index};
    return true;
}

void engine_answered(struct engine *e, uint64_t step) { e->done_step = step; }

static const char *plan_fault(const struct engine *e, const struct plan_view *v, uint64_t step) {
    if (v->head->step != step || step != e->last_step + 1) return "does not have the number that follows";
    if (step - e->done_step > e->o.plans_max) return "is one too many under way";
    if (v->head->n_rows > e->o.max_seqs) return "has more rows than sequences may run";
    if (v->head->micro_batch != step % e->o.micro_batches) return "is not of the next micro-batch";
    if (v->head->n_rows + v->head->n_deltas == 0) return "has nothing to do";
    return NULL;
}

void engine_run(struct engine *e, uint64_t step, const void *plan, size_t len, struct engine_step *out) {
    struct world *w = e->o.world;
    *out = (struct engine_step){.step = step};
    struct plan_limits limits = {
        .caps = {e->o.slots, e->o.step_tokens, e->o.slots * e->indexes, e->o.n_blocks},
        .batch_tokens = e->o.step_tokens,
        .slots = e->o.slots,
        .blocks = e->o.n_blocks,
        .block_tokens = e->o.block_tokens,
        .context = e->o.context,
        .vocab = CHAIN_VOCAB,
        .group_epoch = e->epoch,
    };
    struct error error = {0};
    if (plan_check(plan, len, &limits, &error) != ERR_NONE) {
        world_fail(w, "%s: the engine refuses a plan: %s", e->o.name, error_text(&error));
        return;
    }
    struct plan_view v = plan_view(plan);
    const char *fault = plan_fault(e, &v, step);
    if (fault) {
        world_fail(w, "%s: plan %llu, behind %llu, %s", e->o.name, (unsigned long long)v.head->step,
                   (unsigned long long)e->last_step, fault);
        return;
    }
    e->last_step = step;
    e->at = (e->at + 1) % RESULTS;
    out->tokens = e->results[e->at];
    if (!apply_deltas(e, &v)) return;
    uint32_t rows_of_tokens = 0;
    for (uint32_t i = 0; i < v.head->n_rows; i++) {
        if (!run_row(e, &v, &v.rows[i], out)) return;
        rows_of_tokens += v.rows[i].q_len;
    }
    out->took_us = e->o.step_us + (us_t)(rows_of_tokens / e->o.prefill_rate * 1e6);
}
