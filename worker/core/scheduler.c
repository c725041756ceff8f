#include "worker/core/scheduler.h"

#include "common/base/check.h"
#include "common/base/mark.h"

#include <stdlib.h>

void scheduler_init(struct scheduler *s, const struct worker_core_options *o, const struct worker_hooks *hooks) {
    uint32_t slots = o->max_seqs + o->spare_slots;
    CHECK(o->max_seqs > 0 && slots <= PLAN_SLOTS_MAX && o->n_blocks > 0 && o->block_tokens > 0);
    CHECK(o->step_tokens > 0 && o->chunk_tokens > 0 && o->plans_in_flight > 0);
    *s = (struct scheduler){.hooks = hooks, .block_tokens = o->block_tokens, .step_tokens = o->step_tokens};
    s->chunk_tokens = o->chunk_tokens;
    s->max_seqs = o->max_seqs;
    s->plans_max = o->plans_in_flight;
    s->micro_batches = o->micro_batches > 1 ? o->micro_batches : 1;
    s->double_free = o->bug == WORKER_BUG_DOUBLE_FREE;
    s->untold = o->bug == WORKER_BUG_BLOCKS_UNTOLD;
    s->next_step = 1;
    blocks_init(&s->blocks, o->n_blocks);
    slot_map_init(&s->slots, slots);
    s->running = xcalloc(slots, sizeof(struct sequence *));
    s->order = xcalloc(slots, sizeof(struct sequence *));
    s->plans = xcalloc(s->plans_max, sizeof *s->plans);
    for (uint32_t i = 0; i < s->plans_max; i++) s->plans[i].entries = xcalloc(o->max_seqs, sizeof *s->plans[i].entries);
    // A row of q tokens touches at most q + 1 blocks that the engine has not been told of, in fact fewer.
    s->restore_deltas = blocks_for(o->max_context, o->block_tokens);
    s->caps = (struct plan_caps){.rows = o->max_seqs, .tokens = o->step_tokens};
    s->caps.deltas = o->step_tokens + o->max_seqs + s->restore_deltas;
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

// ---- the waiting list ----

static void insert_before(struct scheduler *s, struct sequence *seq, struct sequence *at) { // at NULL: last
    seq->next = at;
    seq->prev = at ? at->prev : s->last;
    *(seq->prev ? &seq->prev->next : &s->first) = seq;
    *(at ? &at->prev : &s->last) = seq;
    seq->state = SEQUENCE_WAITING;
    s->n_waiting++;
}

static void unlink_waiting(struct scheduler *s, struct sequence *seq) {
    *(seq->prev ? &seq->prev->next : &s->first) = seq->next;
    *(seq->next ? &seq->next->prev : &s->last) = seq->prev;
    seq->prev = seq->next = NULL;
    s->n_waiting--;
}

void scheduler_enqueue(struct scheduler *s, struct sequence *seq) {
    CHECK(seq->state == SEQUENCE_NEW);
    struct sequence *at = NULL;
    if (seq->resumed) {
        for (struct sequence *before = s->last; before != NULL; before = before->prev) {
            bool yields = !before->resumed && before->age == SEQUENCE_AGE_NONE && before->overtaken < OVERTAKEN_MAX;
            if (!yields) break;
            MARK(resumed_overtakes);
            before->overtaken++;
            at = before;
        }
    }
    insert_before(s, seq, at);
}

// A preempted sequence goes to the front, behind those that were preempted and are older.
static void enqueue_again(struct scheduler *s, struct sequence *seq) {
    struct sequence *at = s->first;
    while (at != NULL && at->age < seq->age) at = at->next;
    if (at != s->first) RARE_MARK(waits_behind_older_ones);
    insert_before(s, seq, at);
}

// ---- slots and blocks of a sequence ----

static void run(struct scheduler *s, struct sequence *seq) {
    if (seq->age == SEQUENCE_AGE_NONE) seq->age = s->next_age++;
    uint32_t i = s->n_running++;
    for (; i > 0 && s->running[i - 1]->age > seq->age; i--) s->running[i] = s->running[i - 1];
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
    seq->n_blocks = seq->planned = seq->computed = seq->n_restored = 0;
    seq->restoring = seq->exporting = false;
    s->n_leaving--;
}

void scheduler_settle(struct scheduler *s, struct sequence *seq) {
    bool leaves = seq->state == SEQUENCE_LEAVING || seq->state == SEQUENCE_ENDED;
    if (!leaves || seq->in_flight > 0 || seq->slot == SLOT_NONE) return;
    give_back(s, seq);
    if (seq->state == SEQUENCE_LEAVING) enqueue_again(s, seq);
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
    if (seq->state == SEQUENCE_WAITING) unlink_waiting(s, seq);
    if (seq->state == SEQUENCE_RUNNING) stop_running(s, seq, SEQUENCE_ENDED);
    seq->state = SEQUENCE_ENDED;
    scheduler_settle(s, seq);
}

bool scheduler_idle(const struct sequence *seq) {
    return (seq->state == SEQUENCE_NEW || seq->state == SEQUENCE_ENDED) && seq->slot == SLOT_NONE && seq->in_flight == 0;
}

// The youngest paused sequence, else the youngest. One whose state is being copied out stays: it will go soon anyway.
static struct sequence *victim(const struct scheduler *s, bool paused_only) {
    struct sequence *youngest = NULL;
    for (uint32_t i = s->n_running; i > 0; i--) {
        struct sequence *seq = s->running[i - 1];
        if (seq->exporting) continue;
        if (sequence_paused(seq)) {
            RARE_MARK(paused_one_leaves);
            return seq;
        }
        if (youngest == NULL) youngest = seq;
    }
    return paused_only ? NULL : youngest;
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
    uint32_t budget, restore_deltas; // left
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
static bool has_room(const struct scheduler *s, const struct sequence *seq) {
    uint32_t tokens = seq->n_tokens + 1 < seq->tokens_max ? seq->n_tokens + 1 : seq->tokens_max - 1;
    bool slot = s->slots.n_free > 0 && count_active(s) < s->max_seqs;
    return slot && s->blocks.n_free >= (uint64_t)blocks_for(tokens, s->block_tokens) + s->n_running;
}

static void admit(struct scheduler *s, struct making *m, struct sequence *seq) {
    unlink_waiting(s, seq);
    seq->slot = slot_map_take(&s->slots, seq);
    uint32_t need = blocks_for(seq->n_tokens, s->block_tokens);
    while (seq->n_blocks < need) CHECK(blocks_take(&s->blocks, &seq->blocks[seq->n_blocks++]));
    seq->opened_with = seq->n_tokens;
    run(s, seq);
    s->hooks->slot_open(s->hooks->ctx, seq->slot, seq->user, seq->tokens, seq->n_tokens, seq->n_prompt);
    if (seq->n_restored == 0) return;
    m->restore_deltas -= blocks_for(seq->n_restored, s->block_tokens);
    tell_blocks(m, seq, seq->n_restored, s->block_tokens);
    m->plan->entries[m->plan->n_entries++] = (struct plan_entry){seq, 0, false};
    seq->in_flight++;
    seq->restoring = m->restores = true;
    seq->restore_asked = false;
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
}

static struct sequence *next_waiting(const struct scheduler *s) {
    struct sequence *seq = s->first;
    while (seq != NULL && sequence_paused(seq)) seq = seq->next;
    return seq;
}

static void admit_waiting(struct scheduler *s, struct making *m) {
    struct sequence *seq, *paused;
    while (m->budget > 0 && m->plan->n_entries < s->max_seqs && (seq = next_waiting(s)) != NULL) {
        while (!has_room(s, seq) && s->n_leaving == 0 && (paused = victim(s, true)) != NULL) {
            RARE_MARK(paused_one_makes_room);
            preempt(s, paused);
        }
        if (!has_room(s, seq) || blocks_for(seq->n_restored, s->block_tokens) > m->restore_deltas) return;
        admit(s, m, seq);
        add_chunk(s, m, seq);
    }
}

static bool make_plan(struct scheduler *s, ms_t now) {
    struct pending_plan *plan = &s->plans[(s->plans_first + s->n_plans) % s->plans_max];
    *plan = (struct pending_plan){.step = s->next_step, .submitted_at = now, .entries = plan->entries};
    struct making m = {.plan = plan, .budget = s->step_tokens, .restore_deltas = s->restore_deltas};
    plan_builder_init(&m.builder, s->buffer, &s->caps, plan->step);
    m.builder.head.group_epoch = s->group_epoch;
    m.builder.head.micro_batch = (uint32_t)(plan->step % s->micro_batches);
    add_decode_rows(s, &m);
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
    while (!s->abandoned && s->n_plans < s->plans_max && s->n_running + s->n_waiting > 0 && make_plan(s, now)) made++;
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
}

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
}

void scheduler_revive(struct scheduler *s) {
    CHECK(s->abandoned && s->n_plans == 0 && s->n_running + s->n_waiting == 0 && s->slots.n_free == s->slots.count);
    s->abandoned = false;
}

// ---- invariants ----

static void check_lists(const struct scheduler *s) {
    uint32_t waiting = 0;
    const struct sequence *before = NULL;
    for (const struct sequence *seq = s->first; seq != NULL; before = seq, seq = seq->next) {
        CHECK(seq->state == SEQUENCE_WAITING && seq->prev == before && seq->slot == SLOT_NONE && seq->n_blocks == 0);
        CHECK(before == NULL || seq->age == SEQUENCE_AGE_NONE || before->age < seq->age); // the preempted first, by age
        waiting++;
    }
    CHECK(waiting == s->n_waiting && s->last == before);
    for (uint32_t i = 0; i < s->n_running; i++) {
        CHECK(s->running[i]->state == SEQUENCE_RUNNING && s->slots.held[s->running[i]->slot] == s->running[i]);
        CHECK(i == 0 || s->running[i - 1]->age < s->running[i]->age);
        CHECK(!sequence_decodes(s->running[i]) ||
              s->running[i]->planned == s->running[i]->n_tokens + s->running[i]->unsampled - 1);
    }
    CHECK(s->n_running + s->n_leaving + s->slots.n_free == s->slots.count);
}

static void check_holder(const struct scheduler *s, uint32_t slot) {
    const struct sequence *seq = s->slots.held[slot];
    uint32_t rows = 0, unsampled = 0, tokens = 0;
    for (uint32_t i = 0; i < s->n_plans; i++) {
        const struct pending_plan *plan = &s->plans[(s->plans_first + i) % s->plans_max];
        for (uint32_t k = 0; k < plan->n_entries; k++) {
            if (plan->entries[k].seq != seq) continue;
            rows++, unsampled += plan->entries[k].samples, tokens += plan->entries[k].q_len;
        }
    }
    CHECK(seq->slot == slot && seq->in_flight == rows && seq->unsampled == unsampled);
    CHECK(seq->state == SEQUENCE_RUNNING || rows > 0); // who leaves stays no longer than its plans
    CHECK(seq->computed + tokens == seq->planned && seq->planned <= seq->n_blocks * s->block_tokens);
    CHECK(!seq->restoring || (seq->n_restored > 0 && seq->n_restored < seq->n_tokens && tokens == 0));
    CHECK(!seq->exporting || (seq->held && rows == 0));
    CHECK(seq->blocks_told <= seq->n_blocks && blocks_for(seq->planned, s->block_tokens) <= seq->blocks_told);
    CHECK(seq->n_tokens <= seq->tokens_max);
    CHECK(s->micro_batches == 1 || seq->unsampled <= 1);
}

void scheduler_check(const struct scheduler *s, uint32_t *block_refs) {
    check_lists(s);
    slot_map_check(&s->slots);
    for (uint32_t i = 0; i < s->slots.count; i++)
        if (s->slots.held[i] != NULL) check_holder(s, i);
    blocks_check(&s->blocks, block_refs);
}
