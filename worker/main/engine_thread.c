#include "worker/main/engine_thread.h"

#include "common/base/check.h"
#include "common/base/spsc.h"
#include "worker/engine/record.h"
#include "worker/main/step_masks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COMMANDS_MAX = 65536, EVENTS_MAX = 256, WAIT_MS = 1000 };

enum command_kind {
    COMMAND_OPEN,
    COMMAND_CLOSE,
    COMMAND_PLAN,
    COMMAND_EXPORT,
    COMMAND_IMPORT,
    COMMAND_RESET,
    COMMAND_REGROUP,
    COMMAND_STOP
};

// OPEN owns its copies; a PLAN's bytes lie in a buffer of the ring that cycles with the plans in flight.
struct command {
    enum command_kind kind;
    uint32_t slot;
    struct sampling_params *sampling;
    uint32_t *tokens;
    uint32_t n_tokens, n_prompt;
    uint64_t step;
    uint32_t plan;
    size_t plan_len;
    uint32_t epoch; // REGROUP
    struct engine_move move;
};

struct engine_thread {
    struct engine_thread_options options;
    pthread_t thread;
    sem_t work; // posted once per command
    struct spsc commands, events;
    uint32_t n_plans; // buffers in the rings below: one more than can be in flight
    uint8_t **plans;
    struct step_masks **masks;          // of the plan beside it, or NULL; kept until that plan's place is used again
    struct engine_step_token **results; // as many rows as the engine's limit, set before READY
    atomic_uint life;                   // how often it was suspended; what belongs to an earlier life is dropped
    // loop thread
    uint32_t plan_next;
    bool ready; // the engine exists and may be aborted
    // engine thread
    struct engine *engine;
    uint32_t result_next;
    uint32_t own_life;              // that the commands being run belong to
    bool *open;                     // [slots]
    uint32_t queue_head, queue_len; // steps submitted to the backend and unanswered
    uint64_t *queue_steps;
    uint32_t *queue_plans; // their places
    // written by the engine thread before READY
    struct engine_info info;
    char fingerprint[ENGINE_FINGERPRINT_MAX];
    float prefill_rate, decode_rate;
    uint32_t lone_step_us;
};

static void emit(struct engine_thread *t, const struct engine_event *event) {
    // The loop thread empties the queue soon; news of progress isn't worth waiting for.
    while (!spsc_push(&t->events, event) && event->kind != ENGINE_EVENT_PROGRESS)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    t->options.wake(t->options.wake_ctx);
}

static void fail(struct engine_thread *t, const struct error *e) {
    struct engine_event event = {.kind = ENGINE_EVENT_FAILED, .error = *e};
    emit(t, &event);
}

static bool on_progress(void *ctx, struct engine_load_progress progress) {
    struct engine_event event = {.kind = ENGINE_EVENT_PROGRESS, .progress = progress};
    emit(ctx, &event);
    return true;
}

static void measure_rates(struct engine_thread *t) {
    const struct backend *b = t->options.backend;
    uint32_t rows = t->info.limits.caps.rows, tokens = t->info.limits.batch_tokens;
    struct engine_load decode = {.rows = rows, .tokens = rows, .attended = (uint64_t)rows * 128};
    struct engine_load prefill = {.rows = 1, .tokens = tokens, .attended = (uint64_t)tokens * tokens / 2};
    struct engine_load lone = {.rows = 1, .tokens = 1, .attended = 128};
    t->lone_step_us = b->step_cost_us(t->engine, &lone);
    uint32_t decode_us = b->step_cost_us(t->engine, &decode), prefill_us = b->step_cost_us(t->engine, &prefill);
    t->decode_rate = rows * 1e6f / (float)(decode_us ? decode_us : 1);
    t->prefill_rate = tokens * 1e6f / (float)(prefill_us ? prefill_us : 1);
}

static err_id bring_up(struct engine_thread *t, struct error *e) {
    const struct backend *b = t->options.backend;
    TRY(b->create(&t->options.engine, t->options.comm, &t->engine, e));
    TRY(b->load(t->engine, on_progress, t, e));
    TRY(b->warmup(t->engine, e));
    t->info = *b->info(t->engine);
    b->fingerprint(t->engine, t->fingerprint);
    measure_rates(t);
    if (t->options.record_path != NULL) TRY(record_wrap(&t->engine, &t->options.engine, t->options.record_path, e));
    t->open = xcalloc(t->info.limits.slots, sizeof *t->open);
    for (uint32_t i = 0; i < t->n_plans; i++) t->results[i] = xcalloc(t->info.limits.caps.rows, sizeof *t->results[i]);
    return ERR_NONE;
}

static bool open_slot(struct engine_thread *t, const struct command *c, struct error *e) {
    struct engine_slot_params params = {
        .sampling = *c->sampling, .tokens = c->tokens, .n_tokens = c->n_tokens, .n_prompt = c->n_prompt};
    t->open[c->slot] = true;
    return t->engine->ops->slot_open(t->engine, c->slot, &params, e) == ERR_NONE;
}

static void close_slot(struct engine_thread *t, uint32_t slot) {
    t->engine->ops->slot_close(t->engine, slot);
    t->open[slot] = false;
}

// Empties the engine; its next life begins.
static void reset(struct engine_thread *t) {
    t->engine->ops->quiesce(t->engine);
    t->queue_head = t->queue_len = 0;
    for (uint32_t i = 0; i < t->info.limits.slots; i++)
        if (t->open[i]) close_slot(t, i);
    t->own_life++;
}

static bool regroup(struct engine_thread *t, uint32_t epoch, struct error *e) {
    if (t->engine->ops->regroup(t->engine, t->options.comm, epoch, e) != ERR_NONE) return false;
    struct engine_event event = {.kind = ENGINE_EVENT_REGROUPED, .epoch = epoch};
    emit(t, &event);
    return true;
}

static bool run_plan(struct engine_thread *t, const struct command *c, struct error *e) {
    const struct backend *b = t->engine->ops;
    if (b->submit(t->engine, t->plans[c->plan], c->plan_len, e) != ENGINE_OK) return false;
    const struct step_masks *masks = t->masks[c->plan];
    if (b->sample(t->engine, c->step, masks ? masks->at : NULL, NULL, e) != ENGINE_OK) return false;
    t->queue_plans[(t->queue_head + t->queue_len) % t->n_plans] = c->plan;
    t->queue_steps[(t->queue_head + t->queue_len++) % t->n_plans] = c->step;
    return true;
}

static bool is_stale(struct engine_thread *t) { return t->own_life != atomic_load(&t->life); }

static bool answer_step(struct engine_thread *t, struct error *e);

// A failure is the move's alone, unless it is a step's that had to be answered before.
static bool run_move(struct engine_thread *t, const struct command *c, bool stale, struct error *e) {
    const struct backend *b = t->engine->ops;
    const struct engine_move *m = &c->move;
    struct engine_event event = {.kind = ENGINE_EVENT_MOVED, .ticket = m->ticket};
    struct engine_kv_span span = {.slot = m->slot, .count = m->count};
    engine_ticket ticket;
    while (t->queue_len > 0 && !stale)
        if (!answer_step(t, e)) return false;
    err_id id = stale                       ? error_set(&event.error, ERR_CANCELLED, "the engine's sequences are void")
                : c->kind == COMMAND_EXPORT ? b->kv_export(t->engine, span, m->bytes, &ticket, &event.error)
                                            : b->kv_import(t->engine, span, m->bytes, m->hash, &ticket, &event.error);
    enum engine_answer answer = id == ERR_NONE ? ENGINE_PENDING : ENGINE_FAILED;
    while (answer == ENGINE_PENDING) answer = b->ticket_poll(t->engine, ticket, &event.hash, &event.error);
    emit(t, &event);
    return true;
}

static bool run_command(struct engine_thread *t, struct command *c, struct error *e) {
    bool ok = true, stale = is_stale(t);
    if (c->kind == COMMAND_RESET) reset(t);
    if (c->kind == COMMAND_REGROUP && !stale) ok = regroup(t, c->epoch, e);
    if (c->kind == COMMAND_OPEN && !stale) ok = open_slot(t, c, e);
    if (c->kind == COMMAND_CLOSE && !stale) close_slot(t, c->slot);
    if (c->kind == COMMAND_PLAN && !stale) ok = run_plan(t, c, e);
    if (c->kind == COMMAND_EXPORT || c->kind == COMMAND_IMPORT) ok = run_move(t, c, stale, e);
    free(c->sampling);
    free(c->tokens);
    return ok || is_stale(t); // aborted
}

static void take_row(struct engine_step_token *out, const struct engine_row_result *row, bool none_allowed) {
    *out =
        (struct engine_step_token){.numeric_error = row->numeric_error, .none_allowed = row->numeric_error && none_allowed};
    if (row->numeric_error) return;
    const struct engine_token *token = &row->tokens[0];
    out->token = token->token;
    out->logprob = token->logprob;
    out->n_top = token->n_top;
    for (uint32_t i = 0; i < token->n_top; i++)
        out->top[i] = (struct top_logprob){.token = token->top[i].token, .logprob = token->top[i].logprob};
}

// Waits for the oldest step; its sampling rows are those with a token or a numeric error.
static bool answer_step(struct engine_thread *t, struct error *e) {
    uint64_t step = t->queue_steps[t->queue_head];
    struct engine_result result;
    enum engine_answer answer = t->engine->ops->result(t->engine, step, WAIT_MS, &result, e);
    if (answer == ENGINE_PENDING) return true;
    if (answer != ENGINE_OK && is_stale(t)) { // aborted: the RESET is on its way
        t->queue_len = 0;
        return true;
    }
    if (answer != ENGINE_OK) return false;
    const struct step_masks *masks = t->masks[t->queue_plans[t->queue_head]];
    struct engine_step_token *tokens = t->results[t->result_next];
    t->result_next = (t->result_next + 1) % t->n_plans;
    t->queue_head = (t->queue_head + 1) % t->n_plans;
    t->queue_len--;
    struct engine_event event = {.kind = ENGINE_EVENT_STEP, .step = step, .tokens = tokens, .took_us = result.elapsed_us};
    event.epoch = t->own_life;
    for (uint32_t i = 0; i < result.n_rows; i++)
        if (result.rows[i].n_tokens > 0 || result.rows[i].numeric_error)
            take_row(&tokens[event.n_tokens++], &result.rows[i], step_masks_empty(masks, i));
    emit(t, &event);
    return true;
}

static void serve(struct engine_thread *t, struct error *e) {
    for (;;) {
        // With a step under way commands are taken without waiting, so that the next plan is with the device before it ends.
        int waited = t->queue_len > 0 ? sem_trywait(&t->work) : sem_wait(&t->work);
        if (waited == 0) {
            struct command c;
            if (!spsc_pop(&t->commands, &c)) continue;
            if (c.kind == COMMAND_STOP) return;
            if (!run_command(t, &c, e)) return fail(t, e);
        } else if (t->queue_len > 0 && !answer_step(t, e)) {
            return fail(t, e);
        }
    }
}

static void *engine_main(void *arg) {
    struct engine_thread *t = arg;
    struct error e = {0};
    if (bring_up(t, &e) != ERR_NONE) {
        fail(t, &e);
        return NULL;
    }
    struct engine_event ready = {.kind = ENGINE_EVENT_READY};
    emit(t, &ready);
    serve(t, &e);
    return NULL;
}

struct engine_thread *engine_thread_start(const struct engine_thread_options *options, struct error *e) {
    struct engine_thread *t = xcalloc(1, sizeof *t);
    t->options = *options;
    t->n_plans = options->plans_in_flight + 2;
    t->plans = xcalloc(t->n_plans, sizeof *t->plans);
    t->results = xcalloc(t->n_plans, sizeof *t->results);
    t->queue_steps = xcalloc(t->n_plans, sizeof *t->queue_steps);
    t->queue_plans = xcalloc(t->n_plans, sizeof *t->queue_plans);
    t->masks = xcalloc(t->n_plans, sizeof *t->masks);
    for (uint32_t i = 0; i < t->n_plans; i++) t->plans[i] = xmalloc(options->plan_bytes_max);
    spsc_init(&t->commands, sizeof(struct command), COMMANDS_MAX);
    spsc_init(&t->events, sizeof(struct engine_event), EVENTS_MAX);
    CHECK(sem_init(&t->work, 0, 0) == 0);
    CHECK(pthread_create(&t->thread, NULL, engine_main, t) == 0);
    return t;
}

static void push(struct engine_thread *t, const struct command *c) {
    CHECK(spsc_push(&t->commands, c)); // bounded by the slots and plans that the core has
    CHECK(sem_post(&t->work) == 0);
    if (t->options.comm != NULL) t->options.nudge(t->options.comm);
}

void engine_thread_stop(struct engine_thread **handle) {
    struct engine_thread *t = *handle;
    *handle = NULL;
    if (t == NULL) return;
    struct command stop = {.kind = COMMAND_STOP};
    push(t, &stop);
    if (t->ready) t->engine->ops->abort(t->engine);
    pthread_join(t->thread, NULL);
    struct command c;
    while (spsc_pop(&t->commands, &c)) {
        free(c.sampling);
        free(c.tokens);
    }
    if (t->engine) t->engine->ops->destroy(&t->engine);
    for (uint32_t i = 0; i < t->n_plans; i++) free(t->plans[i]), free(t->results[i]), step_masks_free(t->masks[i]);
    free(t->masks);
    free(t->queue_plans);
    free(t->plans);
    free(t->results);
    free(t->queue_steps);
    free(t->open);
    spsc_fini(&t->commands);
    spsc_fini(&t->events);
    sem_destroy(&t->work);
    free(t);
}

bool engine_thread_next(struct engine_thread *t, struct engine_event *event) {
    while (spsc_pop(&t->events, event)) {
        t->ready |= event->kind == ENGINE_EVENT_READY;
        if (event->kind != ENGINE_EVENT_STEP || event->epoch == atomic_load(&t->life)) return true;
    }
    return false;
}

void engine_thread_suspend(struct engine_thread *t) {
    struct command reset = {.kind = COMMAND_RESET};
    atomic_fetch_add(&t->life, 1);
    if (t->ready) t->engine->ops->abort(t->engine);
    push(t, &reset);
}

void engine_thread_regroup(struct engine_thread *t, uint32_t epoch) {
    struct command regroup = {.kind = COMMAND_REGROUP, .epoch = epoch};
    push(t, &regroup);
}

const struct engine_info *engine_thread_info(const struct engine_thread *t) { return &t->info; }
const char *engine_thread_fingerprint(const struct engine_thread *t) { return t->fingerprint; }
void engine_thread_rates(const struct engine_thread *t, float *prefill_rate, float *decode_rate) {
    *prefill_rate = t->prefill_rate;
    *decode_rate = t->decode_rate;
}

void engine_thread_slot_open(struct engine_thread *t, uint32_t slot, const struct sampling_params *sampling,
                             const uint32_t *tokens, uint32_t n, uint32_t n_prompt) {
    struct command c = {.kind = COMMAND_OPEN, .slot = slot, .n_tokens = n, .n_prompt = n_prompt};
    c.sampling = xmalloc(sizeof *c.sampling);
    *c.sampling = *sampling;
    c.tokens = xmalloc((n ? n : 1) * sizeof *c.tokens);
    memcpy(c.tokens, tokens, n * sizeof *c.tokens);
    push(t, &c);
}

void engine_thread_slot_close(struct engine_thread *t, uint32_t slot) {
    struct command c = {.kind = COMMAND_CLOSE, .slot = slot};
    push(t, &c);
}

void engine_thread_export(struct engine_thread *t, const struct engine_move *move) {
    struct command c = {.kind = COMMAND_EXPORT, .move = *move};
    push(t, &c);
}

void engine_thread_import(struct engine_thread *t, const struct engine_move *move) {
    struct command c = {.kind = COMMAND_IMPORT, .move = *move};
    push(t, &c);
}

void engine_thread_submit(struct engine_thread *t, uint64_t step, const void *plan, size_t len, struct step_masks *masks) {
    CHECK(len <= t->options.plan_bytes_max);
    struct command c = {.kind = COMMAND_PLAN, .step = step, .plan = t->plan_next, .plan_len = len};
    memcpy(t->plans[t->plan_next], plan, len);
    step_masks_free(t->masks[t->plan_next]);
    t->masks[t->plan_next] = masks;
    t->plan_next = (t->plan_next + 1) % t->n_plans;
    push(t, &c);
}

uint32_t engine_thread_lone_step_us(const struct engine_thread *t) { return t->lone_step_us; }
