// Design notes. The thread waits for messages; with a step under way it looks at both, in short slices. A new epoch
// (Welcome) is a message like any other, because no wait here is for a particular one. Hidden states that come before their
// plan are kept: they travel another way than plans do.
#include "worker/group/stage.h"

#include "common/base/check.h"
#include "worker/engine/steps.h"
#include "worker/group/mailbox.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INBOX_MAX = 1 << 16, IDLE_MS = 100, SLICE_MS = 2 };

struct work { // a step in flight
    uint64_t step;
    uint32_t n_rows;
    bool has_input, carried; // its states came, and left for the next stage
    uint64_t input_us;
};

struct slot_use {
    bool open;
    uint32_t rows; // of steps in flight
    uint32_t uses; // counts openings and steps: a part that was asked for before is too late
};

struct stage {
    struct stage_options options;
    pthread_t thread;
    struct mailbox inbox;
    atomic_bool stopping;
    _Atomic float progress;
    atomic_ullong busy_us, steps, stale;
    atomic_uint loads, epoch_ready;
    // the thread's own
    struct engine *engine;
    struct group_limits limits; // that the engine was made for
    struct engine_info info;
    uint32_t epoch;
    struct work works[ENGINE_DEPTH];
    uint32_t first, count;
    struct group_msg *early[ENGINE_DEPTH]; // Hidden
    struct slot_use *slots;
    struct group_result_row *rows;
    uint64_t free_us; // when the engine last finished something
};

static struct work *work_at(struct stage *s, uint32_t i) { return &s->works[(s->first + i) % ENGINE_DEPTH]; }

static struct work *work_of(struct stage *s, uint64_t step) {
    for (uint32_t i = 0; i < s->count; i++)
        if (work_at(s, i)->step == step) return work_at(s, i);
    return NULL;
}

static void send(struct stage *s, enum stage_to to, const struct group_msg *m) {
    s->options.send(s->options.ctx, to, s->epoch, m);
}

static err_id broken(struct error *e, const char *what) {
    return error_set(e, ERR_PROTOCOL, "the leader breaks the grammar: %s", what);
}

// ---- a new epoch ----

static bool on_progress(void *ctx, struct engine_load_progress p) {
    struct stage *s = ctx;
    s->progress = p.bytes_total > 0 ? (float)((double)p.bytes_done / (double)p.bytes_total) : 0;
    return !atomic_load(&s->stopping);
}

static void drop_work(struct stage *s) {
    s->first = s->count = 0;
    for (int i = 0; i < ENGINE_DEPTH; i++) {
        group_msg_free(s->early[i]);
        s->early[i] = NULL;
    }
}

static void drop_engine(struct stage *s) {
    if (s->engine != NULL) s->engine->ops->destroy(&s->engine);
    free(s->slots);
    free(s->rows);
    s->slots = NULL;
    s->rows = NULL;
}

// Blocks as many as the leader has: a block id means the same tokens on every stage.
static err_id create_engine(struct stage *s, const struct group_limits *l, struct error *e) {
    const struct backend *b = s->options.backend;
    struct engine_opts o = s->options.engine;
    struct engine_mem mem;
    o.slots = l->slots;
    o.rows = l->rows;
    o.batch_tokens = l->batch_tokens;
    o.context = l->context;
    o.block_tokens = l->block_tokens;
    TRY(b->mem_plan(&o, &mem, e));
    o.kv_bytes = mem.kv_bytes / mem.blocks * l->blocks;
    TRY(b->create(&o, NULL, &s->engine, e));
    TRY(b->load(s->engine, on_progress, s, e));
    atomic_fetch_add(&s->loads, 1);
    TRY(b->warmup(s->engine, e));
    s->info = *b->info(s->engine);
    if (s->info.limits.blocks != l->blocks)
        return error_set(e, ERR_CONFIG, "the leader has %u KV blocks, this stage can hold %u", l->blocks,
                         s->info.limits.blocks);
    s->limits = *l;
    s->slots = xcalloc(l->slots, sizeof *s->slots);
    s->rows = xcalloc(l->rows, sizeof *s->rows);
    return ERR_NONE;
}

static void empty_engine(struct stage *s) {
    s->engine->ops->quiesce(s->engine);
    for (uint32_t i = 0; i < s->limits.slots; i++) {
        if (s->slots[i].open) s->engine->ops->slot_close(s->engine, i);
        s->slots[i] = (struct slot_use){.uses = s->slots[i].uses + 1};
    }
}

static err_id on_welcome(struct stage *s, const struct group_welcome *w, struct error *e) {
    atomic_store(&s->epoch_ready, 0);
    drop_work(s);
    s->epoch = w->epoch;
    bool same = s->engine != NULL && memcmp(&s->limits, &w->limits, sizeof w->limits) == 0;
    if (same)
        empty_engine(s);
    else
        drop_engine(s);
    if (!same) TRY(create_engine(s, &w->limits, e));
    TRY(s->engine->ops->regroup(s->engine, NULL, w->epoch, e));
    s->info = *s->engine->ops->info(s->engine);
    atomic_store(&s->epoch_ready, w->epoch);
    struct group_msg ready = {.kind = GROUP_READY, .ready = {.epoch = w->epoch}};
    s->engine->ops->fingerprint(s->engine, ready.ready.fingerprint);
    ready.ready.kv_bytes_per_token = s->info.kv_bytes_per_token;
    snprintf(ready.ready.store, sizeof ready.ready.store, "%s", s->options.store);
    send(s, STAGE_TO_LEADER, &ready);
    return ERR_NONE;
}

// ---- what the leader's engine calls ----

static err_id on_open(struct stage *s, const struct group_msg *m, struct error *e) {
    uint32_t slot = m->slot_open.slot;
    if (slot >= s->limits.slots || s->slots[slot].open) return broken(e, "it opens a slot that is open, or none");
    TRY(s->engine->ops->slot_open(s->engine, slot, &m->slot_open.params, e));
    s->slots[slot].open = true;
    s->slots[slot].uses++;
    return ERR_NONE;
}

static err_id on_close(struct stage *s, uint32_t slot, struct error *e) {
    if (slot >= s->limits.slots || !s->slots[slot].open) return broken(e, "it closes a slot that is not open");
    if (s->slots[slot].rows > 0) return broken(e, "it closes a slot that a step is using");
    s->engine->ops->slot_close(s->engine, slot);
    s->slots[slot].open = false;
    return ERR_NONE;
}

static err_id give_input(struct stage *s, struct work *w, const struct group_msg *m, struct error *e) {
    if (w->has_input) return ERR_NONE; // doubled
    if (m->hidden.floats % s->info.hidden != 0) return broken(e, "hidden states of another size");
    enum engine_answer a =
        s->engine->ops->hidden_in(s->engine, w->step, m->hidden.states, (uint32_t)(m->hidden.floats / s->info.hidden), e);
    if (a != ENGINE_OK) return e->id;
    w->has_input = true;
    w->input_us = steps_now_us();
    return ERR_NONE;
}

static err_id on_plan(struct stage *s, const void *plan, size_t len, struct error *e) {
    enum engine_answer a = s->engine->ops->submit(s->engine, plan, len, e);
    if (a == ENGINE_FULL) return broken(e, "more plans than can be in flight");
    if (a != ENGINE_OK) return e->id;
    struct plan_view v = plan_view(plan);
    struct work *w = work_at(s, s->count++);
    *w = (struct work){.step = v.head->step, .n_rows = v.head->n_rows};
    for (uint32_t i = 0; i < w->n_rows; i++) s->slots[v.rows[i].slot].rows++, s->slots[v.rows[i].slot].uses++;
    if (s->options.last && s->engine->ops->sample(s->engine, w->step, NULL, NULL, e) != ENGINE_OK) return e->id;
    for (int i = 0; i < ENGINE_DEPTH; i++) {
        struct group_msg *m = s->early[i];
        if (m == NULL || m->hidden.step != w->step) continue;
        err_id id = give_input(s, w, m, e);
        s->early[i] = NULL;
        group_msg_free(m);
        if (id != ERR_NONE) return id;
    }
    return ERR_NONE;
}

// *taken: the message is kept.
static err_id on_hidden(struct stage *s, struct group_msg *m, bool *taken, struct error *e) {
    struct work *w = work_of(s, m->hidden.step);
    if (w != NULL) return give_input(s, w, m, e);
    for (int i = 0; i < ENGINE_DEPTH; i++) {
        if (s->early[i] != NULL) continue;
        s->early[i] = m;
        *taken = true;
        return ERR_NONE;
    }
    return broken(e, "hidden states of more steps than can be in flight");
}

static void retire(struct stage *s, const struct engine_result *r) {
    for (uint32_t i = 0; i < r->n_rows; i++) s->slots[r->rows[i].slot].rows--;
    s->first = (s->first + 1) % ENGINE_DEPTH;
    s->count--;
    atomic_fetch_add(&s->steps, 1);
}

// At once, because the leader may close a slot of the step right after.
static err_id on_tokens(struct stage *s, const struct group_msg *m, struct error *e) {
    struct work *w = s->count > 0 ? work_at(s, 0) : NULL;
    if (w == NULL || w->step != m->tokens.step || !w->carried || s->options.last || m->tokens.n != w->n_rows)
        return broken(e, "tokens that nobody waits for");
    struct engine_result r;
    enum engine_answer a = s->engine->ops->sample(s->engine, w->step, NULL, m->tokens.tokens, e);
    while (a == ENGINE_OK && (a = s->engine->ops->result(s->engine, w->step, SLICE_MS, &r, e)) == ENGINE_PENDING)
        a = ENGINE_OK;
    if (a != ENGINE_OK) return e->id;
    retire(s, &r);
    return ERR_NONE;
}

// ---- parts of checkpoints ----

static void say_part_done(struct stage *s, const struct group_part *p) {
    struct group_msg m = {.kind = GROUP_PART_DONE, .part_done = {.epoch = s->epoch, .ticket = p->ticket}};
    m.part_done.hash = p->shard.hash;
    if (p->error.id != ERR_NONE) snprintf(m.part_done.failure, sizeof m.part_done.failure, "%s", error_text(&p->error));
    send(s, STAGE_TO_LEADER, &m);
}

static err_id wait_ticket(struct stage *s, engine_ticket ticket, uint64_t *hash, struct error *e) {
    enum engine_answer a = ENGINE_PENDING;
    while (a == ENGINE_PENDING && !atomic_load(&s->stopping)) a = s->engine->ops->ticket_poll(s->engine, ticket, hash, e);
    return a == ENGINE_OK ? ERR_NONE : error_set(e, ERR_CANCELLED, "the stage is ending");
}

static err_id copy_out(struct stage *s, struct group_msg *m, struct error *e) {
    struct group_part *p = &m->part;
    struct engine_kv_span span = {.slot = p->slot, .count = p->count};
    size_t bytes = (size_t)p->shard.bytes_per_token * p->count;
    engine_ticket ticket;
    m->owned[0] = malloc(bytes > 0 ? bytes : 1);
    if (m->owned[0] == NULL) return error_set(e, ERR_SYSTEM, "no memory for %zu bytes", bytes);
    p->entries = m->owned[0];
    TRY(s->engine->ops->kv_export(s->engine, span, m->owned[0], &ticket, e));
    return wait_ticket(s, ticket, &p->shard.hash, e);
}

static err_id copy_in(struct stage *s, const struct group_part *p, struct error *e) {
    struct engine_kv_span span = {.slot = p->slot, .count = p->count};
    engine_ticket ticket;
    uint64_t hash;
    TRY(s->engine->ops->kv_import(s->engine, span, p->entries, p->shard.hash, &ticket, e));
    return wait_ticket(s, ticket, &hash, e);
}

// What goes wrong with a part is the checkpoint's end, not the stage's. *taken: the message is kept.
static err_id on_part(struct stage *s, struct group_msg *m, bool *taken, struct error *e) {
    struct group_part *p = &m->part;
    bool comes_back = m->kind == GROUP_LOAD && p->entries != NULL;
    if (p->slot >= s->limits.slots || p->count > s->limits.context) return broken(e, "a part of a slot that can't be");
    struct slot_use *slot = &s->slots[p->slot];
    if (!comes_back) {
        if (!slot->open || slot->rows > 0) return broken(e, "a part of a slot that is closed or being computed");
        p->use = slot->uses;
        p->shard.layer_first = s->info.layer_first;
        p->shard.layer_end = s->info.layer_end;
        p->shard.bytes_per_token = s->info.kv_bytes_per_token;
        if (s->options.store[0] == '\0') error_set(&p->error, ERR_CONFIG, "this stage has no checkpoint store");
    } else if (!slot->open || slot->uses != p->use) {
        error_set(&p->error, ERR_CANCELLED, "the slot has gone on without it");
    }
    if (p->error.id == ERR_NONE && m->kind == GROUP_SAVE) copy_out(s, m, &p->error);
    if (p->error.id == ERR_NONE && comes_back) copy_in(s, p, &p->error);
    *taken = p->error.id == ERR_NONE && !comes_back;
    if (*taken)
        s->options.part(s->options.ctx, m);
    else
        say_part_done(s, p);
    return ERR_NONE;
}

static uint32_t epoch_of(const struct group_msg *m) {
    switch (m->kind) {
    case GROUP_SLOT_OPEN:
        return m->slot_open.epoch;
    case GROUP_SLOT_CLOSE:
        return m->slot_close.epoch;
    case GROUP_PLAN:
        return ((const struct plan_head *)m->plan.bytes)->group_epoch;
    case GROUP_HIDDEN:
        return m->hidden.epoch;
    case GROUP_SAVE:
    case GROUP_LOAD:
        return m->part.epoch;
    default:
        return m->tokens.epoch;
    }
}

// Frees the message, or keeps it.
static err_id handle(struct stage *s, struct group_msg *m, struct error *e) {
    bool taken = false;
    err_id id = ERR_NONE;
    if (m->kind == GROUP_WELCOME) {
        id = on_welcome(s, &m->welcome, e);
    } else if (s->engine == NULL || epoch_of(m) != s->epoch) {
        atomic_fetch_add(&s->stale, 1);
    } else if (m->kind == GROUP_SLOT_OPEN) {
        id = on_open(s, m, e);
    } else if (m->kind == GROUP_SLOT_CLOSE) {
        id = on_close(s, m->slot_close.slot, e);
    } else if (m->kind == GROUP_PLAN) {
        id = on_plan(s, m->plan.bytes, m->plan.len, e);
    } else if (m->kind == GROUP_HIDDEN) {
        id = on_hidden(s, m, &taken, e);
    } else if (m->kind == GROUP_SAVE || m->kind == GROUP_LOAD) {
        id = on_part(s, m, &taken, e);
    } else {
        id = on_tokens(s, m, e);
    }
    if (!taken) group_msg_free(m);
    return id;
}

// ---- computing ----

static void note_busy(struct stage *s, const struct work *w) {
    uint64_t now = steps_now_us(), start = w->input_us > s->free_us ? w->input_us : s->free_us;
    atomic_fetch_add(&s->busy_us, now - start);
    s->free_us = now;
}

static void send_result(struct stage *s, const struct engine_result *r) {
    for (uint32_t i = 0; i < r->n_rows; i++) {
        const struct engine_row_result *row = &r->rows[i];
        s->rows[i] = (struct group_result_row){.n_tokens = row->n_tokens > 0, .numeric_error = row->numeric_error};
        if (row->n_tokens > 0) s->rows[i].token = row->tokens[0];
    }
    struct group_msg m = {.kind = GROUP_RESULT, .result = {.epoch = s->epoch, .step = r->step, .rows = s->rows}};
    m.result.n = r->n_rows;
    send(s, STAGE_TO_LEADER, &m);
}

// Last stage: the oldest step, if its states are there.
static enum engine_answer run_last(struct stage *s, struct error *e) {
    struct work *w = s->count > 0 ? work_at(s, 0) : NULL;
    if (w == NULL || !w->has_input) return ENGINE_FULL; // nothing to do
    struct engine_result r;
    enum engine_answer a = s->engine->ops->result(s->engine, w->step, SLICE_MS, &r, e);
    if (a != ENGINE_OK) return a;
    note_busy(s, w);
    send_result(s, &r);
    retire(s, &r);
    return ENGINE_OK;
}

static enum engine_answer run_between(struct stage *s, struct error *e) {
    struct work *w = NULL;
    for (uint32_t i = 0; i < s->count && w == NULL; i++)
        if (!work_at(s, i)->carried) w = work_at(s, i);
    if (w == NULL || !w->has_input) return ENGINE_FULL;
    const float *states;
    uint32_t n;
    enum engine_answer a = s->engine->ops->hidden_out(s->engine, w->step, SLICE_MS, &states, &n, e);
    if (a != ENGINE_OK) return a;
    note_busy(s, w);
    w->carried = true;
    struct group_msg m = {.kind = GROUP_HIDDEN, .hidden = {.epoch = s->epoch, .step = w->step, .states = states}};
    m.hidden.floats = (size_t)n * s->info.hidden;
    send(s, STAGE_TO_NEXT, &m);
    return ENGINE_OK;
}

static void *stage_main(void *arg) {
    struct stage *s = arg;
    struct error e = {0};
    err_id id = ERR_NONE;
    uint32_t wait_ms = IDLE_MS;
    while (!atomic_load(&s->stopping) && id == ERR_NONE) {
        struct group_msg *m = mailbox_pop(&s->inbox, wait_ms);
        wait_ms = 0;
        if (m != NULL) {
            id = handle(s, m, &e);
            continue;
        }
        uint64_t began = steps_now_us();
        enum engine_answer a = s->options.last ? run_last(s, &e) : run_between(s, &e);
        if (a == ENGINE_FAILED) id = e.id;
        if (a == ENGINE_FULL) wait_ms = IDLE_MS;
        if (a == ENGINE_PENDING && steps_now_us() - began < SLICE_MS * 500)
            wait_ms = SLICE_MS; // it waits for tokens, not time
    }
    if (id != ERR_NONE && !atomic_load(&s->stopping)) s->options.failed(s->options.ctx, &e);
    return NULL;
}

// ---- from outside ----

struct stage *stage_start(const struct stage_options *options) {
    struct stage *s = xcalloc(1, sizeof *s);
    s->options = *options;
    mailbox_init(&s->inbox, INBOX_MAX);
    CHECK(pthread_create(&s->thread, NULL, stage_main, s) == 0);
    return s;
}

static void free_message(void *item) { group_msg_free(item); }

void stage_stop(struct stage **handle) {
    struct stage *s = *handle;
    *handle = NULL;
    if (s == NULL) return;
    atomic_store(&s->stopping, true);
    mailbox_nudge(&s->inbox);
    pthread_join(s->thread, NULL);
    drop_work(s);
    drop_engine(s);
    mailbox_fini(&s->inbox, free_message);
    free(s);
}

bool stage_take(struct stage *s, struct group_msg *m) { return mailbox_push(&s->inbox, m); }

void stage_stats(struct stage *s, struct stage_stats *out) {
    *out =
        (struct stage_stats){.progress = s->progress, .busy_us = atomic_load(&s->busy_us), .steps = atomic_load(&s->steps)};
    out->stale = atomic_load(&s->stale);
    out->loads = atomic_load(&s->loads);
    out->epoch = atomic_load(&s->epoch_ready);
}
