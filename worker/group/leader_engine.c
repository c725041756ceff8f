// Design notes. Each plan goes to all followers at once, and to the local engine. result() is where work happens: the local
// forward of every step in flight, in order and ahead of the answers, its hidden states to stage 1, and the last stage's
// Result when it comes, with which the local engine and the stages between are answered.
#include "worker/group/leader_engine.h"

#include "common/base/check.h"
#include "worker/engine/steps.h"
#include "worker/group/comm.h"

#include <stdlib.h>
#include <string.h>

enum {
    SLICE_MS = 2,           // how long one thing is waited for while another may happen
    ANSWER_MAX_MS = 120000, // how long the last stage may take for a step once stage 0 is done with it
};

struct flight {
    uint64_t step;
    uint32_t n_rows;
    bool carried; // its hidden states are with stage 1
    uint64_t submitted_us, carried_us;
    struct group_msg *answer; // owned
};

struct leader_engine {
    struct engine engine; // first
    struct comm *comm;
    struct engine *local;
    struct engine_info info;
    struct flight flights[ENGINE_DEPTH];
    uint32_t first, count;
    struct engine_row_result *rows;
    uint32_t *forced;
    uint64_t carried_us, answered_us; // when that last happened
    atomic_bool aborted;
};

static struct leader_engine *leader_of(struct engine *engine) { return (struct leader_engine *)engine; }
static uint32_t epoch_of(const struct leader_engine *g) { return g->info.limits.group_epoch; }
static struct flight *flight_at(struct leader_engine *g, uint32_t i) { return &g->flights[(g->first + i) % ENGINE_DEPTH]; }

static enum engine_answer fail(struct error *e, err_id id, const char *sentence) {
    error_set(e, id, "%s", sentence);
    return ENGINE_FAILED;
}

// ---- life ----

static err_id probe(struct engine_device *device, struct error *e) {
    return error_set(e, ERR_UNSUPPORTED, "a group is no device of its own");
}

static err_id mem_plan(const struct engine_opts *opts, struct engine_mem *mem, struct error *e) {
    return error_set(e, ERR_UNSUPPORTED, "each stage of a group plans its own memory");
}

// As far as the scheduler is concerned, all layers are here.
static void learn_info(struct leader_engine *g) {
    g->info = *g->comm->inner->info(g->local);
    g->info.layer_first = 0;
    g->info.layer_end = g->info.layers;
    g->info.modes = 1u << PLAN_LOGITS_NONE | 1u << PLAN_LOGITS_LAST;
}

static err_id create(const struct engine_opts *opts, struct comm *comm, struct engine **engine, struct error *e) {
    CHECK(comm != NULL);
    struct leader_engine *g = xcalloc(1, sizeof *g);
    g->engine.ops = &group_backend;
    g->comm = comm;
    err_id id = comm->inner->create(opts, NULL, &g->local, e);
    if (id != ERR_NONE) {
        free(g);
        return id;
    }
    learn_info(g);
    g->rows = xcalloc(g->info.limits.caps.rows, sizeof *g->rows);
    g->forced = xcalloc(g->info.limits.caps.rows, sizeof *g->forced);
    *engine = &g->engine;
    return ERR_NONE;
}

static void drop_flights(struct leader_engine *g) {
    for (uint32_t i = 0; i < g->count; i++) group_msg_free(flight_at(g, i)->answer);
    g->first = g->count = 0;
}

static void destroy(struct engine **engine) {
    if (*engine == NULL) return;
    struct leader_engine *g = leader_of(*engine);
    drop_flights(g);
    g->comm->inner->destroy(&g->local);
    free(g->rows);
    free(g->forced);
    free(g);
    *engine = NULL;
}

static err_id load(struct engine *engine, engine_load_fn *progress, void *context, struct error *e) {
    struct leader_engine *g = leader_of(engine);
    return g->comm->inner->load(g->local, progress, context, e);
}

static err_id warmup(struct engine *engine, struct error *e) {
    struct leader_engine *g = leader_of(engine);
    return g->comm->inner->warmup(g->local, e);
}

static void fingerprint(struct engine *engine, char text[ENGINE_FINGERPRINT_MAX]) {
    struct leader_engine *g = leader_of(engine);
    g->comm->inner->fingerprint(g->local, text);
}

static const struct engine_info *info(struct engine *engine) { return &leader_of(engine)->info; }

// ---- slots ----

static err_id send_all(struct leader_engine *g, const struct group_msg *m, struct error *e) {
    if (comm_send(g->comm, 0, epoch_of(g), m)) return ERR_NONE;
    return error_set(e, ERR_INTERNAL, "the queue to the group's other members is full");
}

static err_id slot_open(struct engine *engine, uint32_t slot, const struct engine_slot_params *params, struct error *e) {
    struct leader_engine *g = leader_of(engine);
    TRY(g->comm->inner->slot_open(g->local, slot, params, e));
    struct group_msg m = {.kind = GROUP_SLOT_OPEN, .slot_open = {.epoch = epoch_of(g), .slot = slot, .params = *params}};
    return send_all(g, &m, e);
}

static void slot_close(struct engine *engine, uint32_t slot) {
    struct leader_engine *g = leader_of(engine);
    g->comm->inner->slot_close(g->local, slot);
    struct group_msg m = {.kind = GROUP_SLOT_CLOSE, .slot_close = {.epoch = epoch_of(g), .slot = slot}};
    send_all(g, &m, NULL);
}

// ---- steps ----

static enum engine_answer submit(struct engine *engine, const void *plan, size_t len, struct error *e) {
    struct leader_engine *g = leader_of(engine);
    if (g->count == ENGINE_DEPTH) return ENGINE_FULL;
    enum engine_answer a = g->comm->inner->submit(g->local, plan, len, e);
    if (a != ENGINE_OK) return a;
    const struct plan_head *head = plan_view(plan).head;
    uint64_t now = steps_now_us();
    if (g->count == 0) g->answered_us = now;
    *flight_at(g, g->count++) = (struct flight){.step = head->step, .n_rows = head->n_rows, .submitted_us = now};
    struct group_msg m = {.kind = GROUP_PLAN, .plan = {.bytes = plan, .len = len}};
    return send_all(g, &m, e) == ERR_NONE ? ENGINE_OK : ENGINE_FAILED;
}

static enum engine_answer sample(struct engine *engine, uint64_t step, const uint32_t *const *masks, const uint32_t *forced,
                                 struct error *e) {
    if (masks == NULL && forced == NULL) return ENGINE_OK; // the last stage does it, unasked
    return fail(e, ERR_UNSUPPORTED, "masks and forced tokens don't travel to a group's last stage");
}

// Runs forwards and hands their states on. OK: all are carried. PENDING: one is under way.
static enum engine_answer carry(struct leader_engine *g, struct error *e) {
    for (uint32_t i = 0; i < g->count; i++) {
        struct flight *f = flight_at(g, i);
        if (f->carried) continue;
        const float *states;
        uint32_t n;
        enum engine_answer a = g->comm->inner->hidden_out(g->local, f->step, SLICE_MS, &states, &n, e);
        if (a != ENGINE_OK) return a;
        uint64_t now = steps_now_us(), start = f->submitted_us > g->carried_us ? f->submitted_us : g->carried_us;
        atomic_fetch_add(&g->comm->busy_us, now - start);
        f->carried_us = g->carried_us = now;
        f->carried = true;
        struct group_msg m = {.kind = GROUP_HIDDEN, .hidden = {.epoch = epoch_of(g), .step = f->step, .states = states}};
        m.hidden.floats = (size_t)n * g->info.hidden;
        if (!comm_send(g->comm, 1, epoch_of(g), &m)) return fail(e, ERR_INTERNAL, "the queue to stage 1 is full");
    }
    return ENGINE_OK;
}

// A Result for the step that it names. What fits no step in flight is of an epoch gone by, or doubled.
static void take_answer(struct leader_engine *g, struct group_msg *m) {
    for (uint32_t i = 0; i < g->count && m->result.epoch == epoch_of(g); i++) {
        struct flight *f = flight_at(g, i);
        if (f->step != m->result.step || f->answer != NULL || !f->carried) continue;
        f->answer = m;
        return;
    }
    group_msg_free(m);
}

static bool rows_make_sense(const struct leader_engine *g, const struct flight *f) {
    const struct group_msg *m = f->answer;
    if (m->result.n != f->n_rows) return false;
    for (uint32_t i = 0; i < f->n_rows; i++)
        if (m->result.rows[i].n_tokens > 0 && m->result.rows[i].token.token >= g->info.limits.vocab) return false;
    return true;
}

// The local engine takes the last stage's tokens, and so do the stages between.
static enum engine_answer answer_local(struct leader_engine *g, const struct flight *f, struct engine_result *local,
                                       struct error *e) {
    const struct backend *inner = g->comm->inner;
    for (uint32_t i = 0; i < f->n_rows; i++) {
        const struct group_result_row *r = &f->answer->result.rows[i];
        g->forced[i] = r->n_tokens > 0 ? r->token.token : 0; // 0: nothing was chosen, or a sequence that ends in an error
    }
    enum engine_answer a = inner->sample(g->local, f->step, NULL, g->forced, e);
    while (a == ENGINE_OK && (a = inner->result(g->local, f->step, SLICE_MS, local, e)) == ENGINE_PENDING) a = ENGINE_OK;
    struct group_msg m = {.kind = GROUP_TOKENS, .tokens = {.epoch = epoch_of(g), .step = f->step, .tokens = g->forced}};
    m.tokens.n = f->n_rows;
    for (uint32_t s = 1; s + 1 < g->comm->stages && a == ENGINE_OK; s++)
        if (!comm_send(g->comm, s, epoch_of(g), &m)) return fail(e, ERR_INTERNAL, "the queue to a stage is full");
    return a;
}

static enum engine_answer finish(struct leader_engine *g, struct engine_result *out, struct error *e) {
    struct flight *f = flight_at(g, 0);
    struct engine_result local;
    enum engine_answer a = answer_local(g, f, &local, e);
    if (a != ENGINE_OK) return a;
    for (uint32_t i = 0; i < f->n_rows; i++) {
        const struct group_result_row *r = &f->answer->result.rows[i];
        g->rows[i].slot = local.rows[i].slot;
        g->rows[i].n_tokens = r->n_tokens;
        g->rows[i].numeric_error = r->numeric_error;
        g->rows[i].tokens[0] = r->token;
    }
    uint64_t now = steps_now_us(), start = f->submitted_us > g->answered_us ? f->submitted_us : g->answered_us;
    *out = (struct engine_result){.step = f->step, .n_rows = f->n_rows, .rows = g->rows};
    out->elapsed_us = (uint32_t)(now - start);
    atomic_fetch_add(&g->comm->active_us, now - g->answered_us);
    atomic_fetch_add(&g->comm->steps, 1);
    g->answered_us = now;
    group_msg_free(f->answer);
    f->answer = NULL;
    g->first = (g->first + 1) % ENGINE_DEPTH;
    g->count--;
    return ENGINE_OK;
}

static enum engine_answer result_of(struct engine *engine, uint64_t step, uint32_t wait_ms, struct engine_result *result,
                                    struct error *e) {
    struct leader_engine *g = leader_of(engine);
    if (g->count == 0 || flight_at(g, 0)->step != step) return fail(e, ERR_INTERNAL, "the step is not the oldest in flight");
    uint64_t end_us = steps_now_us() + wait_ms * UINT64_C(1000);
    for (;;) {
        if (atomic_load(&g->aborted)) return fail(e, ERR_CANCELLED, "a member of the group was lost");
        uint64_t began_us = steps_now_us();
        enum engine_answer carried = carry(g, e);
        if (carried == ENGINE_FAILED) return carried;
        uint64_t now_us = steps_now_us();
        uint32_t left_ms = now_us < end_us ? (uint32_t)((end_us - now_us + 999) / 1000) : 0, wait = left_ms;
        if (carried == ENGINE_PENDING) wait = now_us - began_us < SLICE_MS * 500 ? SLICE_MS : 0;
        if (wait > left_ms) wait = left_ms;
        struct group_msg *m = mailbox_pop(&g->comm->inbox, wait);
        if (m != NULL) take_answer(g, m);
        struct flight *f = flight_at(g, 0);
        if (f->answer != NULL && rows_make_sense(g, f)) return finish(g, result, e);
        if (f->answer != NULL) {
            comm_complain(g->comm, g->comm->stages - 1); // the loop thread answers with abort()
            group_msg_free(f->answer);
            f->answer = NULL;
        }
        if (f->carried && steps_now_us() - f->carried_us > ANSWER_MAX_MS * UINT64_C(1000)) {
            f->carried_us = steps_now_us(); // once
            comm_complain(g->comm, g->comm->stages - 1);
        }
        bool nudged = m == NULL && carried == ENGINE_OK; // something else is to be done first
        if (nudged || left_ms == 0)
            return atomic_load(&g->aborted) ? fail(e, ERR_CANCELLED, "a member was lost") : ENGINE_PENDING;
    }
}

static enum engine_answer hidden_in(struct engine *engine, uint64_t step, const float *states, uint32_t tokens,
                                    struct error *e) {
    return fail(e, ERR_UNSUPPORTED, "a whole group takes no hidden states");
}

static enum engine_answer hidden_out(struct engine *engine, uint64_t step, uint32_t wait_ms, const float **states,
                                     uint32_t *tokens, struct error *e) {
    return fail(e, ERR_UNSUPPORTED, "a whole group gives no hidden states");
}

// ---- the rest ----

// Of stage 0's layers: the stages behind have parts of their own, which are asked for by messages (part.h).
static err_id kv_export(struct engine *engine, struct engine_kv_span span, void *bytes, engine_ticket *ticket,
                        struct error *e) {
    struct leader_engine *g = leader_of(engine);
    return g->comm->inner->kv_export(g->local, span, bytes, ticket, e);
}

static err_id kv_import(struct engine *engine, struct engine_kv_span span, const void *bytes, uint64_t hash,
                        engine_ticket *ticket, struct error *e) {
    struct leader_engine *g = leader_of(engine);
    return g->comm->inner->kv_import(g->local, span, bytes, hash, ticket, e);
}

static enum engine_answer ticket_poll(struct engine *engine, engine_ticket ticket, uint64_t *hash, struct error *e) {
    struct leader_engine *g = leader_of(engine);
    return g->comm->inner->ticket_poll(g->local, ticket, hash, e);
}

static void ticket_cancel(struct engine *engine, engine_ticket ticket) {
    struct leader_engine *g = leader_of(engine);
    g->comm->inner->ticket_cancel(g->local, ticket);
}

static uint32_t step_rows(struct engine *engine, uint64_t step) {
    struct leader_engine *g = leader_of(engine);
    for (uint32_t i = 0; i < g->count; i++)
        if (flight_at(g, i)->step == step) return flight_at(g, i)->n_rows;
    return 0;
}

// Through all stages, which were made about equal.
static uint32_t step_cost_us(struct engine *engine, const struct engine_load *work) {
    struct leader_engine *g = leader_of(engine);
    uint64_t us = (uint64_t)g->comm->inner->step_cost_us(g->local, work) * g->comm->stages;
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static void quiesce(struct engine *engine) {
    struct leader_engine *g = leader_of(engine);
    g->comm->inner->quiesce(g->local);
    drop_flights(g);
    struct group_msg *m;
    while ((m = mailbox_pop(&g->comm->inbox, 0)) != NULL) group_msg_free(m);
    atomic_store(&g->aborted, false);
}

static void abort_steps(struct engine *engine) {
    struct leader_engine *g = leader_of(engine);
    atomic_store(&g->aborted, true);
    g->comm->inner->abort(g->local);
    mailbox_nudge(&g->comm->inbox);
}

static err_id regroup(struct engine *engine, struct comm *comm, uint32_t epoch, struct error *e) {
    struct leader_engine *g = leader_of(engine);
    TRY(g->comm->inner->regroup(g->local, NULL, epoch, e));
    g->info.limits.group_epoch = epoch;
    return ERR_NONE;
}

const struct backend group_backend = {
    .name = "group",
    .probe = probe,
    .mem_plan = mem_plan,
    .create = create,
    .load = load,
    .warmup = warmup,
    .fingerprint = fingerprint,
    .info = info,
    .slot_open = slot_open,
    .slot_close = slot_close,
    .submit = submit,
    .sample = sample,
    .result = result_of,
    .hidden_in = hidden_in,
    .hidden_out = hidden_out,
    .kv_export = kv_export,
    .kv_import = kv_import,
    .ticket_poll = ticket_poll,
    .ticket_cancel = ticket_cancel,
    .step_rows = step_rows,
    .step_cost_us = step_cost_us,
    .quiesce = quiesce,
    .abort = abort_steps,
    .regroup = regroup,
    .destroy = destroy,
};
