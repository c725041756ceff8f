#include "worker/core/scheduler.h"

#include "common/base/check.h"
#include "common/base/mark.h"

#include <stdlib.h>

void scheduler_init(struct scheduler *s, const struct worker_core_options *o, const struct worker_hooks *hooks,
                    const struct pace *pace) {
    uint32_t slots = o->max_seqs + o->spare_slots;
    CHECK(o->max_seqs > 0 && slots <= PLAN_SLOTS_MAX && o->n_blocks > 0 && o->block_tokens > 0);
    CHECK(o->step_tokens > 0 && o->chunk_tokens > 0 && o->plans_in_flight > 0);
    *s = (struct scheduler){.hooks = hooks, .pace = pace, .block_tokens = o->block_tokens, .step_tokens = o->step_tokens};
    s->chunk_tokens = o->chunk_tokens;
    s->max_seqs = o->max_seqs;
    s->plans_max = o->plans_in_flight;
    s->micro_batches = o->micro_batches > 1 ? o->micro_batches : 1;
    s->double_free = o->bug == WORKER_BUG_DOUBLE_FREE;
    s->untold = o->bug == WORKER_BUG_BLOCKS_UNTOLD;
    s->next_step = 1;
    blocks_init(&s->blocks, o->n_blocks, o->block_tokens);
    slot_map_init(&s->slots, slots);
    s->running = xcalloc(slots, sizeof(struct sequence *));
    s->order = xcalloc(slots, sizeof(struct sequence *));
    s->plans = xcalloc(s->plans_max, sizeof *s->plans);
    for (uint32_t i = 0; i < s->plans_max; i++) s->plans[i].entries = xcalloc(o->max_seqs, sizeof *s->plans[i].entries);
    uint32_t indexes = blocks_for(o->max_context, o->block_tokens);
    s->known_blocks = plan_known_blocks(indexes);
    s->caps = (struct plan_caps){.rows = o->max_seqs, .tokens = o->step_tokens};
    s->caps.deltas = plan_deltas_max(o->max_seqs, o->step_tokens, indexes);
    s->buffer = xmalloc(plan_bytes_max(&s->caps));
}

void scheduler_fini(struct scheduler *s) {
    for (uint32_t i = 0; i < s->plans_max; i++) free(s->plans[i].entries);
    free(s->plans);
    free(s->running);
    free(s->order);
    free(s->buffer);
    blocks_fini(&s->blocks);
    slot_map_fini(&s->slots);
}

void scheduler_enqueue(struct scheduler *s, struct sequence *seq) {
    CHECK(seq->state == SEQUENCE_NEW);
    seq->account = fair_begin(&s->fair, seq->tenant);
    waiting_add(&s->waiting, seq);
}

// ---- slots and blocks of a sequence ----

static void run(struct scheduler *s, struct sequence *seq) {
    if (seq->age == SEQUENCE_AGE_NONE) seq->age = s->next_age++;
    uint32_t i = s->n_running++;
    for (; i > 0 && sequence_outranks(seq, s->running[i - 1]); i--) s->running[i] = s->running[i - 1];
    s->running[i] = seq;
    seq->state = SEQUENCE_RUNNING;
}

static void stop_running(struct scheduler *s, struct sequence *seq, enum sequence_state next) {
    uint32_t i = 0;
    while (s->running[i] != seq) i++;
    s->n_running--;
    for (; i < s->n_running; i++) s->running[i] = s->running[i + 1];
    seq->state = next;
    s->n_leaving++;
}

static void give_back(struct scheduler *s, struct sequence *seq) {
    if (!s->abandoned) s->hooks->slot_close(s->hooks->ctx, seq->slot);
    slot_map_give(&s->slots, seq->slot);
    seq->slot = SLOT_NONE;
    for (uint32_t i = seq->n_blocks; i > 0; i--) blocks_drop(&s->blocks, seq->blocks[i - 1]);
    bool cut = seq->state == SEQUENCE_LEAVING || seq->cut_short;
    if (s->double_free && cut && seq->n_blocks > 0) blocks_drop_again(&s->blocks, seq->blocks[0]);
    if (!s->untold) seq->blocks_told = 0;
    seq->n_blocks = seq->n_named = seq->planned = seq->computed = seq->n_restored = 0;
    seq->restoring = seq->exporting = false;
    s->n_leaving--;
}

void scheduler_settle(struct scheduler *s, struct sequence *seq) {
    bool leaves = seq->state == SEQUENCE_LEAVING || seq->state == SEQUENCE_ENDED;
    if (!leaves || seq->in_flight > 0 || seq->slot == SLOT_NONE) return;
    give_back(s, seq);
    if (seq->state == SEQUENCE_LEAVING) waiting_add(&s->waiting, seq);
}

static void preempt(struct scheduler *s, struct sequence *seq) {
    MARK(preempted);
    stop_running(s, seq, SEQUENCE_LEAVING);
    s->preemptions++;
    scheduler_settle(s, seq);
}

void scheduler_preempt_one(struct scheduler *s) {
    if (!s->abandoned && s->n_running > 1) preempt(s, s->running[s->n_running - 1]);
}

void scheduler_end(struct scheduler *s, struct sequence *seq, bool cut_short) {
    if (seq->state == SEQUENCE_ENDED) return;
    seq->cut_short = cut_short;
    if (seq->in_flight > 0) MARK(ended_with_a_plan_under_way);
    if (seq->state == SEQUENCE_WAITING) waiting_remove(&s->waiting, seq);
    if (seq->state == SEQUENCE_RUNNING) stop_running(s, seq, SEQUENCE_ENDED);
    if (seq->state != SEQUENCE_NEW) fair_end(&s->fair, seq->account);
    seq->state = SEQUENCE_ENDED;
    scheduler_settle(s, seq);
}

bool scheduler_idle(const struct sequence *seq) {
    return (seq->state == SEQUENCE_NEW || seq->state == SEQUENCE_ENDED) && seq->slot == SLOT_NONE && seq->in_flight == 0;
}

// The last paused sequence in rank, else the last. One whose state is being copied out stays: it will go soon anyway.
static struct sequence *victim(const struct scheduler *s, bool paused_only) {
    struct sequence *last = NULL;
    for (uint32_t i = s->n_running; i > 0; i--) {
        struct sequence *seq = s->running[i - 1];
        if (seq->exporting) continue;
        if (sequence_paused(seq)) {
            RARE_MARK(paused_one_leaves);
            return seq;
        }
        if (last == NULL) last = seq;
    }
    return paused_only ? NULL : last;
}

// Is there a free block for a running sequence? If not, another one (or it) is sent away, unless blocks are on their way
// back already. False: not in this plan.
static bool make_room(struct scheduler *s, const struct sequence *seq) {
    while (s->blocks.n_free == 0) {
        if (s->n_leaving > 0) {
            MARK(blocks_on_their_way_back);
            return false;
        }
        preempt(s, victim(s, false));
        if (seq->state != SEQUENCE_RUNNING) return false;
    }
    return true;
}

// ---- making a plan ----

struct making {
    struct plan_builder builder;
    struct pending_plan *plan;
    uint32_t budget, known_blocks; // left
    bool restores;
};

static void tell_blocks(struct making *m, struct sequence *seq, uint32_t end, uint32_t block_tokens) {
    uint32_t need = blocks_for(end, block_tokens);
    CHECK(need <= seq->n_blocks);
    for (; seq->blocks_told < need; seq->blocks_told++)
        CHECK(plan_builder_delta(&m->builder, seq->slot, seq->blocks_told, seq->blocks[seq->blocks_told]));
}

static void add_row(struct scheduler *s, struct making *m, struct sequence *seq, uint32_t q_len) {
    bool on_device = seq->unsampled > 0; // the last token is not known here yet
    uint32_t end = seq->planned + q_len;
    struct plan_row row = {.slot = seq->slot, .q_len = q_len, .pos = seq->planned, .adapter = PLAN_NO_ADAPTER};
    row.logits = end == seq->n_tokens + seq->unsampled ? PLAN_LOGITS_LAST : PLAN_LOGITS_NONE;
    if (on_device) {
        MARK(token_still_on_the_device);
        row.pos = PLAN_POS_DEVICE;
        row.token_off = PLAN_TOKEN_DEVICE;
    } else {
        CHECK(plan_builder_tokens(&m->builder, seq->tokens + seq->planned, q_len, &row.token_off));
    }
    tell_blocks(m, seq, end, s->block_tokens);
    CHECK(plan_builder_row(&m->builder, &row));
    bool samples = plan_row_samples(&row);
    m->plan->entries[m->plan->n_entries++] = (struct plan_entry){seq, q_len, samples};
    seq->planned = end;
    seq->in_flight++;
    seq->unsampled += samples;
    m->budget -= q_len;
}

// How many answers one plan may go on with: all, or one micro-batch of them.
static uint32_t decode_share(const struct scheduler *s) {
    if (s->micro_batches == 1) return s->max_seqs;
    uint32_t answers = 0;
    for (uint32_t i = 0; i < s->n_running; i++) {
        const struct sequence *seq = s->running[i];
        answers += sequence_decodes(seq) && (seq->unsampled > 0 || sequence_may_run(seq));
    }
    uint32_t share = (answers + s->micro_batches - 1) / s->micro_batches;
    return share < s->max_seqs ? share : s->max_seqs;
}

static void add_decode_rows(struct scheduler *s, struct making *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_running; i++)
        if (sequence_decodes(s->running[i])) s->order[n++] = s->running[i];
    uint32_t share = decode_share(s);
    for (uint32_t i = 0; i < n && m->budget > 0 && m->plan->decode_rows < share; i++) {
        struct sequence *seq = s->order[i];
        if (seq->state != SEQUENCE_RUNNING || !sequence_may_run(seq)) continue;
        if (s->micro_batches > 1 && seq->unsampled > 0) continue; // its token is not known yet
        if (seq->planned == seq->n_blocks * s->block_tokens) {
            if (!make_room(s, seq)) continue;
            CHECK(blocks_take(&s->blocks, &seq->blocks[seq->n_blocks++]));
        }
        add_row(s, m, seq, 1);
        fair_charge(&s->fair, seq->account, FAIR_ANSWER_WEIGHT);
        m->plan->decode_rows++;
    }
}

static void add_chunk(struct scheduler *s, struct making *m, struct sequence *seq) {
    if (!sequence_may_run(seq)) return;
    uint32_t q_len = seq->n_tokens - seq->planned;
    if (q_len > s->chunk_tokens) q_len = s->chunk_tokens;
    if (q_len > m->budget) {
        MARK(chunk_cut_by_budget);
        q_len = m->budget;
    }
    if (q_len > 1 && s->tiny_chunks) q_len = 1;
    if (q_len == 0 || m->plan->n_entries == s->max_seqs) return;
    add_row(s, m, seq, q_len);
    m->plan->prefill_tokens += q_len;
}

// ---- from the waiting list to a slot ----

// Running sequences that may have a row in this plan or a later one. Those whose last token is under way only hold a slot.
static uint32_t count_active(const struct scheduler *s) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_running; i++) {
        const struct sequence *seq = s->running[i];
        n += seq->restoring || sequence_may_run(seq) || sequence_paused(seq);
    }
    return n;
}

// Blocks for what the sequence has and for the next token, and one for each running sequence, which may need one soon.
static bool has_room(const struct scheduler *s, const struct sequence *seq, const struct prefix_match *match) {
    uint32_t tokens = seq->n_tokens + 1 < seq->tokens_max ? seq->n_tokens + 1 : seq->tokens_max - 1;
    bool slot = s->slots.n_free > 0 && count_active(s) < s->max_seqs;
    if (!slot) return false;
    return s->blocks.n_free + (uint64_t)prefix_held(&s->blocks, seq, match) >=
           (uint64_t)blocks_for(tokens, s->block_tokens) + s->n_running;
}

// The sequence holds what was found, and new blocks for the rest of its tokens.
static void take_blocks(struct scheduler *s, struct sequence *seq, const struct prefix_match *match) {
    for (; seq->n_blocks < match->n_blocks; seq->n_blocks++) blocks_share(&s->blocks, seq->blocks[seq->n_blocks]);
    uint32_t need = blocks_for(seq->n_tokens, s->block_tokens);
    while (seq->n_blocks < need) CHECK(blocks_take(&s->blocks, &seq->blocks[seq->n_blocks++]));
    seq->n_named = match->n_blocks;
    seq->planned = seq->computed = match->n_blocks * s->block_tokens;
    prefix_claim(&s->blocks, seq);
    if (match->n_blocks > 0) MARK(prefix_found);
    if (seq->age == SEQUENCE_AGE_NONE) seq->cached = seq->computed;
    s->cached_tokens += seq->computed;
}

// Blocks whose content is not this plan's doing, but of which the engine must be told.
static uint32_t known_blocks(const struct scheduler *s, const struct sequence *seq, const struct prefix_match *match) {
    return seq->n_restored > 0 ? blocks_for(seq->n_restored, s->block_tokens) : match->n_blocks;
}

static void admit(struct scheduler *s, struct making *m, struct sequence *seq, const struct prefix_match *match) {
    waiting_remove(&s->waiting, seq);
    seq->slot = slot_map_take(&s->slots, seq);
    take_blocks(s, seq, match);
    seq->opened_with = seq->n_tokens;
    fair_charge(&s->fair, seq->account, seq->n_tokens - seq->computed);
    run(s, seq);
    s->hooks->slot_open(s->hooks->ctx, seq->slot, seq->user, seq->tokens, seq->n_tokens, seq->n_prompt);
    m->known_blocks -= known_blocks(s, seq, match);
    if (seq->n_restored == 0 && !seq->upkeep) return;
    uint32_t told = seq->n_restored > 0 ? seq->n_restored : seq->computed;
    tell_blocks(m, seq, told > 0 ? told : 1, s->block_tokens); // a plan has something to say
    m->plan->entries[m->plan->n_entries++] = (struct plan_entry){seq, 0, false};
    seq->in_flight++;
    seq->restore_asked = false;
    if (seq->n_restored > 0) seq->restoring = m->restores = true;
}

// Behind the plan that told of their blocks.
static void ask_restores(struct scheduler *s) {
    for (uint32_t i = 0; i < s->n_running; i++) {
        struct sequence *seq = s->running[i];
        if (!seq->restoring || seq->restore_asked) continue;
        seq->restore_asked = true;
        s->hooks->restore(s->hooks->ctx, seq->restore_ticket, seq->slot, seq->user, seq->n_restored);
    }
}

void scheduler_restored(struct scheduler *s, struct sequence *seq, bool ok) {
    if (!seq->restoring) return;
    seq->restoring = false;
    if (seq->state != SEQUENCE_RUNNING) return; // it leaves, with all it has
    if (!ok) {
        seq->n_restored = 0;
        return;
    }
    seq->planned = seq->computed = seq->n_restored;
    if (seq->n_restored + 1 == seq->n_tokens) seq->opened_with = seq->n_restored; // the next row is one of a running answer
    s->restored_tokens += seq->n_restored;
    prefix_computed(&s->blocks, seq);
}

// Is another sequence about to compute this block? It must go before this one in all things: else each could wait for the
// other.
static bool under_way(const struct scheduler *s, const struct sequence *seq, uint32_t i) {
    const struct block *block = &s->blocks.block[i];
    const struct block_key *key = &seq->keys[seq->waits_at];
    if (block->ready || block->key.a != key->a || block->key.b != key->b) return false;
    const struct sequence *owner = s->slots.held[block->owner];
    if (owner == NULL || owner->state != SEQUENCE_RUNNING || !sequence_outranks(owner, seq)) return false;
    return owner->in_flight > 0 || owner->restoring || sequence_may_run(owner);
}

static bool may_start(void *ctx, struct sequence *seq) {
    const struct scheduler *s = ctx;
    if (sequence_paused(seq) && !seq->upkeep) return false;
    if (seq->waits_for == BLOCK_NONE) return true;
    if (under_way(s, seq, seq->waits_for)) return false;
    seq->waits_for = BLOCK_NONE;
    return true;
}

// What of it is in blocks already. False: a part is being computed, for which it had better wait.
static bool find_prefix(struct scheduler *s, struct sequence *seq, struct prefix_match *match) {
    prefix_find(&s->blocks, seq, match);
    seq->waits_at = match->n_blocks;
    if (match->claimed != BLOCK_NONE && under_way(s, seq, match->claimed)) {
        MARK(waits_for_a_prefix);
        seq->waits_for = match->claimed;
        return false;
    }
    if (match->n_blocks * s->block_tokens >= seq->n_restored)
        seq->n_restored = 0; // no need for the checkpoint
    else
        *match = (struct prefix_match){.claimed = BLOCK_NONE}; // it is loaded whole, into blocks of its own
    return true;
}

// Sends away who must stand back for it: paused ones, and those of lower priority.
static bool make_way(struct scheduler *s, const struct sequence *seq, const struct prefix_match *match) {
    while (!has_room(s, seq, match)) {
        if (s->n_leaving > 0) return false;
        struct sequence *other = victim(s, true);
        if (other != NULL) {
            RARE_MARK(paused_one_makes_room);
        } else {
            other = victim(s, false);
            if (other == NULL || other->priority >= seq->priority) return false;
            MARK(lower_priority_makes_room);
        }
        preempt(s, other);
    }
    return true;
}

// Before the rows of those that run are planned: who waits and has a higher priority than the last of them gets its place.
static void let_higher_in(struct scheduler *s) {
    const struct sequence *first = s->waiting.first;
    struct sequence *seq;
    struct prefix_match match;
    if (first == NULL || s->n_running == 0 || first->priority <= s->running[s->n_running - 1]->priority) return;
    while ((seq = waiting_next(&s->waiting, &s->fair, may_start, s)) != NULL && !find_prefix(s, seq, &match)) {
    }
    if (seq != NULL) make_way(s, seq, &match);
}

static void admit_waiting(struct scheduler *s, struct making *m) {
    struct sequence *seq;
    struct prefix_match match;
    while (m->budget > 0 && m->plan->n_entries < s->max_seqs &&
           (seq = waiting_next(&s->waiting, &s->fair, may_start, s)) != NULL) {
        if (!find_prefix(s, seq, &match)) continue;
        if (!make_way(s, seq, &match) || known_blocks(s, seq, &match) > m->known_blocks) return;
        admit(s, m, seq, &match);
        add_chunk(s, m, seq);
    }
}

static bool make_plan(struct scheduler *s, ms_t now) {
    struct pending_plan *plan = &s->plans[(s->plans_first + s->n_plans) % s->plans_max];
    *plan = (struct pending_plan){.step = s->next_step, .submitted_at = now, .entries = plan->entries};
    struct making m = {.plan = plan, .budget = s->step_tokens, .known_blocks = s->known_blocks};
    plan_builder_init(&m.builder, s->buffer, &s->caps, plan->step);
    m.builder.head.group_epoch = s->group_epoch;
    m.builder.head.micro_batch = (uint32_t)(plan->step % s->micro_batches);
    let_higher_in(s);
    add_decode_rows(s, &m);
    m.budget = pace_prompt_tokens(s->pace, plan->decode_rows, s->micro_batches, m.budget);
    for (uint32_t i = 0; i < s->n_running && m.budget > 0; i++)
        if (!sequence_decodes(s->running[i])) add_chunk(s, &m, s->running[i]);
    admit_waiting(s, &m);
    if (plan->n_entries == 0) return false;
    size_t len = plan_builder_finish(&m.builder);
    s->next_step++;
    s->n_plans++;
    s->hooks->submit(s->hooks->ctx, plan->step, s->buffer, len);
    if (m.restores) ask_restores(s);
    return true;
}

uint32_t scheduler_plan(struct scheduler *s, ms_t now) {
    uint32_t made = 0;
    while (!s->abandoned && s->n_plans < s->plans_max && s->n_running + s->waiting.n > 0 && make_plan(s, now)) made++;
    return made;
}

// ---- answers ----

const struct pending_plan *scheduler_pop(struct scheduler *s, uint64_t step) {
    CHECK(s->n_plans > 0);
    const struct pending_plan *plan = &s->plans[s->plans_first];
    CHECK(plan->step == step);
    s->plans_first = (s->plans_first + 1) % s->plans_max;
    s->n_plans--;
    s->steps++;
    s->prefilled_tokens += plan->prefill_tokens;
    return plan;
}

void scheduler_answered(struct scheduler *s, const struct plan_entry *entry) {
    struct sequence *seq = entry->seq;
    seq->in_flight--;
    seq->computed += entry->q_len;
    seq->unsampled -= entry->samples;
    prefix_computed(&s->blocks, seq);
}

void scheduler_poisoned(struct scheduler *s, struct sequence *seq) { prefix_forget(&s->blocks, seq); }

void scheduler_abandon(struct scheduler *s) {
    s->abandoned = true;
    while (s->n_plans > 0) {
        const struct pending_plan *plan = &s->plans[s->plans_first];
        s->plans_first = (s->plans_first + 1) % s->plans_max;
        s->n_plans--;
        for (uint32_t i = 0; i < plan->n_entries; i++) {
            scheduler_answered(s, &plan->entries[i]);
            scheduler_settle(s, plan->entries[i].seq);
        }
    }
    blocks_forget_all(&s->blocks);
}

void scheduler_revive(struct scheduler *s) {
    CHECK(s->abandoned && s->n_plans == 0 && s->n_running + s->waiting.n == 0 && s->slots.n_free == s->slots.count);
    s->abandoned = false;
}
