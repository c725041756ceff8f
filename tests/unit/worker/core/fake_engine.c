#include "tests/unit/worker/core/fake_engine.h"

#include "common/base/check.h"
#include "common/base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NO_BLOCK UINT32_MAX

struct slot {
    bool open;
    uint32_t *tokens; // [context + 1]
    uint32_t n_tokens, length, opened_with;
    uint32_t *table; // [indexes]
    uint32_t n_table;
};

struct plan_copy_bytes {
    uint64_t step;
    void *bytes;
};

struct fake_engine {
    struct fake_options options;
    struct slot *slots;
    uint64_t *cache; // [blocks * block_tokens] the chain up to and with each position
    struct plan_copy_bytes *plans;
    uint32_t n_plans;
    uint64_t last_step;
    struct fake_work total;
    uint32_t wrong;
};

static uint64_t chain(uint64_t before, uint32_t token) { return hash_mix(before ^ (token + UINT64_C(0x9e3779b97f4a7c15))); }
static uint64_t fold(uint64_t digest, uint64_t entry) { return hash_mix(digest + entry); }

uint32_t fake_next(const uint32_t *tokens, uint32_t n) {
    uint64_t h = 1, digest = 0;
    for (uint32_t i = 0; i < n; i++) {
        h = chain(h, tokens[i]);
        digest = fold(digest, h);
    }
    return (uint32_t)(digest % FAKE_VOCAB);
}

struct fake_engine *fake_engine_create(const struct fake_options *o) {
    struct fake_engine *f = xcalloc(1, sizeof *f);
    f->options = *o;
    f->slots = xcalloc(o->limits.slots, sizeof *f->slots);
    uint32_t indexes = o->limits.context / o->limits.block_tokens + 2;
    for (uint32_t i = 0; i < o->limits.slots; i++) {
        f->slots[i].tokens = xcalloc(o->limits.context + 1, sizeof(uint32_t));
        f->slots[i].table = xcalloc(indexes, sizeof(uint32_t));
    }
    f->cache = xcalloc((size_t)o->limits.blocks * o->limits.block_tokens, sizeof *f->cache);
    f->plans = xcalloc(o->plans_max, sizeof *f->plans);
    return f;
}

void fake_engine_destroy(struct fake_engine *f) {
    for (uint32_t i = 0; i < f->options.limits.slots; i++) free(f->slots[i].tokens), free(f->slots[i].table);
    for (uint32_t i = 0; i < f->n_plans; i++) free(f->plans[i].bytes);
    free(f->slots);
    free(f->cache);
    free(f->plans);
    free(f);
}

static bool in_flight(const struct fake_engine *f, uint32_t slot) {
    for (uint32_t i = 0; i < f->n_plans; i++) {
        struct plan_view v = plan_view(f->plans[i].bytes);
        for (uint32_t k = 0; k < v.head->n_rows; k++)
            if (v.rows[k].slot == slot) return true;
    }
    return false;
}

void fake_engine_open(struct fake_engine *f, uint32_t id, const uint32_t *tokens, uint32_t n, uint32_t n_prompt) {
    assert_true(id < f->options.limits.slots);
    struct slot *slot = &f->slots[id];
    assert_false(slot->open);
    assert_false(in_flight(f, id));
    assert_true(n_prompt > 0 && n_prompt <= n && n < f->options.limits.context);
    slot->open = true;
    slot->n_tokens = slot->opened_with = n;
    slot->length = slot->n_table = 0;
    memcpy(slot->tokens, tokens, n * sizeof *tokens);
}

void fake_engine_close(struct fake_engine *f, uint32_t id) {
    assert_true(id < f->options.limits.slots && f->slots[id].open);
    assert_false(in_flight(f, id));
    f->slots[id].open = false;
}

void fake_engine_submit(struct fake_engine *f, uint64_t step, const void *plan, size_t len) {
    assert_true(f->n_plans < f->options.plans_max);
    struct error e = {0};
    if (plan_check(plan, len, &f->options.limits, &e) != ERR_NONE) fail_msg("%s", e.text);
    struct plan_view v = plan_view(plan);
    assert_true(v.head->step == step && step > f->last_step);
    assert_true(v.head->n_rows + v.head->n_deltas > 0);
    f->last_step = step;
    for (uint32_t i = 0; i < v.head->n_rows && f->options.micro_batches > 1; i++)
        assert_int_not_equal(v.rows[i].token_off, PLAN_TOKEN_DEVICE);
    f->plans[f->n_plans].step = step;
    f->plans[f->n_plans].bytes = xmalloc(len);
    memcpy(f->plans[f->n_plans++].bytes, plan, len);
}

void fake_engine_empty(struct fake_engine *f) {
    for (uint32_t i = 0; i < f->n_plans; i++) free(f->plans[i].bytes);
    for (uint32_t i = 0; i < f->options.limits.slots; i++) f->slots[i].open = false;
    f->n_plans = 0;
}

void fake_engine_epoch(struct fake_engine *f, uint32_t epoch) { f->options.limits.group_epoch = epoch; }

uint32_t fake_engine_pending(const struct fake_engine *f) { return f->n_plans; }

uint32_t fake_engine_open_slots(const struct fake_engine *f) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->options.limits.slots; i++) n += f->slots[i].open;
    return n;
}

static uint64_t *entry(struct fake_engine *f, const struct slot *slot, uint32_t pos) {
    uint32_t bt = f->options.limits.block_tokens;
    assert_true(pos / bt < slot->n_table); // told before it is used
    return &f->cache[(size_t)slot->table[pos / bt] * bt + pos % bt];
}

void fake_engine_export(struct fake_engine *f, uint32_t id, uint32_t n, uint64_t *entries) {
    assert_true(f->slots[id].open && !in_flight(f, id));
    assert_true(n <= f->slots[id].length || f->slots[id].length == 0); // a prefix that others computed
    for (uint32_t i = 0; i < n; i++) entries[i] = *entry(f, &f->slots[id], i);
}

void fake_engine_import(struct fake_engine *f, uint32_t id, uint32_t n, const uint64_t *entries) {
    struct slot *slot = &f->slots[id];
    assert_true(slot->open && !in_flight(f, id) && slot->length == 0 && n < slot->n_tokens);
    for (uint32_t i = 0; i < n; i++) *entry(f, slot, i) = entries[i];
    slot->length = n;
    if (n + 1 == slot->n_tokens) slot->opened_with = n;
}

uint64_t fake_engine_last_step(const struct fake_engine *f) { return f->last_step; }
bool fake_engine_answered(const struct fake_engine *f, uint64_t step) { return f->n_plans == 0 || f->plans[0].step > step; }

static uint32_t sample(struct fake_engine *f, const struct slot *slot) {
    uint64_t digest = 0;
    for (uint32_t i = 0; i < slot->length; i++) digest = fold(digest, *entry(f, slot, i));
    uint32_t token = (uint32_t)(digest % FAKE_VOCAB);
    bool right = token == fake_next(slot->tokens, slot->length); // the blocks hold this sequence and nothing else
    assert_true(right || f->options.counts_wrong);
    f->wrong += !right;
    return token;
}

// Returns whether the row sampled, and then what.
static bool run_row(struct fake_engine *f, const struct plan_view *v, const struct plan_row *r, uint32_t *token) {
    struct slot *slot = &f->slots[r->slot];
    assert_true(slot->open);
    bool device = r->token_off == PLAN_TOKEN_DEVICE;
    assert_true(device == (r->pos == PLAN_POS_DEVICE));
    assert_true(r->logits == PLAN_LOGITS_NONE || r->logits == PLAN_LOGITS_LAST);
    if (!device && slot->length == 0) { // behind a prefix that is in blocks already
        assert_true(r->pos % f->options.limits.block_tokens == 0 && r->pos < slot->n_tokens);
        slot->length = r->pos;
    }
    if (!device) assert_int_equal(r->pos, slot->length); // each position once, in order
    assert_true(r->q_len <= f->options.chunk_tokens);
    assert_true(slot->length + r->q_len <= slot->n_tokens);
    if (device) assert_int_equal(slot->length + 1, slot->n_tokens);
    for (uint32_t k = 0; k < r->q_len; k++, slot->length++) {
        uint32_t t = slot->tokens[slot->length];
        if (!device) assert_int_equal(v->tokens[r->token_off + k], t);
        uint64_t before = slot->length == 0 ? 1 : *entry(f, slot, slot->length - 1);
        *entry(f, slot, slot->length) = chain(before, t);
    }
    bool at_end = slot->length == slot->n_tokens;
    assert_true(at_end == (r->logits == PLAN_LOGITS_LAST)); // the last chunk asks for logits, no other
    if (!at_end) return false;
    *token = sample(f, slot);
    slot->tokens[slot->n_tokens++] = *token;
    return true;
}

static void add_work(struct fake_work *to, const struct fake_work *work) {
    to->rows += work->rows;
    to->decode_rows += work->decode_rows;
    to->tokens += work->tokens;
    to->prefill_tokens += work->prefill_tokens;
}

uint32_t fake_engine_step(struct fake_engine *f, uint64_t *step, uint32_t *tokens, struct fake_work *work) {
    assert_true(f->n_plans > 0);
    void *bytes = f->plans[0].bytes;
    struct plan_view v = plan_view(bytes);
    *step = f->plans[0].step;
    for (uint32_t i = 0; i < v.head->n_deltas; i++) {
        struct slot *slot = &f->slots[v.deltas[i].slot];
        assert_int_equal(v.deltas[i].index, slot->n_table); // a table only grows
        slot->table[slot->n_table++] = v.deltas[i].block;
    }
    struct fake_work w = {.rows = v.head->n_rows};
    uint32_t n = 0;
    for (uint32_t i = 0; i < v.head->n_rows; i++) {
        const struct plan_row *r = &v.rows[i];
        bool decodes = f->slots[r->slot].length >= f->slots[r->slot].opened_with;
        w.tokens += r->q_len;
        w.decode_rows += decodes;
        w.prefill_tokens += decodes ? 0 : r->q_len;
        n += run_row(f, &v, r, &tokens[n]);
    }
    add_work(&f->total, &w);
    if (work) *work = w;
    for (uint32_t i = 1; i < f->n_plans; i++) f->plans[i - 1] = f->plans[i];
    f->n_plans--;
    free(bytes);
    return n;
}

struct fake_work fake_engine_total(const struct fake_engine *f) {
    return f->total;
}
uint32_t fake_engine_wrong(const struct fake_engine *f) { return f->wrong; }
