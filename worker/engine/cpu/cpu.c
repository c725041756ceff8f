// The CPU engine behind the seam. Design notes: submit() only queues; a step runs inside result() or hidden_out(), in the
// engine thread, which is worker 0 of the pool. Sampling of a step is part of the same run when sample() came before.
#include "worker/engine/cpu/cpu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "common/base/check.h"
#include "worker/engine/cpu/cost.h"
#include "worker/engine/cpu/forward.h"
#include "worker/engine/cpu/plan_memory.h"
#include "worker/engine/sampler.h"
#include "worker/engine/slots.h"
#include "worker/engine/steps.h"

// What is kept of a step between its forward and its answer.
struct in_flight {
    struct slot_row *resolved; // [rows]
    float *in;                 // [batch_tokens][hidden] of the stage before; NULL on the first
    float *out;                // … for the stage behind; NULL on the last
    uint32_t n_tokens;
};

struct cpu {
    struct engine engine; // first
    struct cpu_plan plan;
    struct model_spec spec; // the model may be closed after load
    char fingerprint[ENGINE_FINGERPRINT_MAX];
    struct pool *pool;
    struct weights weights;
    struct cache cache;
    struct forward forward;
    struct slots slots;
    struct steps steps;
    struct cost cost;
    struct sampler_work **sampler;         // [threads]
    struct in_flight flight[ENGINE_DEPTH]; // by the step's place in the ring
    struct engine_row_result *rows;
    uint64_t busy_until_us, tickets, ticket_hash;
    atomic_bool aborted;
};
static struct cpu *cpu_of(struct engine *engine) { return (struct cpu *)engine; }
static bool has_head(const struct cpu *c) { return c->plan.opts.layer_end == c->spec.layers; }
static bool is_first(const struct cpu *c) { return c->plan.opts.layer_first == 0; }

// ---- life ----

static err_id cpu_probe(struct engine_device *d, struct error *e) {
    *d = (struct engine_device){.cores = pool_default_threads()};
    cpu_memory(&d->memory_bytes, &d->memory_free_bytes);
    snprintf(d->name, sizeof d->name, "cpu (%s)", kernels_pick(ISA_BEST)->name);
    return ERR_NONE;
}

static err_id cpu_mem_plan(const struct engine_opts *opts, struct engine_mem *mem, struct error *e) {
    struct cpu_plan plan;
    err_id id = cpu_plan(opts, &plan, e);
    *mem = plan.mem;
    return id;
}

// Multiply-adds of one token through the shard, and per position that it attends to.
static void count_macs(const struct cpu *c, double *token, double *attended) {
    *token = (double)c->plan.mem.weights_bytes / 2;
    *attended = 0;
    for (uint32_t i = c->plan.opts.layer_first; i < c->plan.opts.layer_end; i++) {
        const struct attention_spec *a = &c->spec.layer[i].attention;
        bool mla = a->kind == ATTENTION_MLA;
        *attended += (double)a->heads * (mla ? 2 * a->kv_lora + a->rope_dim : 2 * a->head_dim);
    }
}

static void create_flight(struct cpu *c) {
    size_t states = (size_t)c->plan.opts.batch_tokens * c->spec.hidden;
    for (int i = 0; i < ENGINE_DEPTH; i++) {
        struct in_flight *f = &c->flight[i];
        f->resolved = xcalloc(c->plan.opts.rows, sizeof *f->resolved);
        if (!is_first(c)) f->in = xcalloc(states, sizeof *f->in);
        if (!has_head(c)) f->out = xcalloc(states, sizeof *f->out);
    }
}

static err_id cpu_create(const struct engine_opts *opts, struct comm *comm, struct engine **engine, struct error *e) {
    struct cpu_plan plan;
    TRY(cpu_plan(opts, &plan, e));
    const struct kernels *kernels = kernels_pick((enum isa)opts->isa);
    if (kernels == NULL) return error_set(e, ERR_UNAVAILABLE, "this processor lacks the instructions that --isa asks for");
    struct cpu *c = xcalloc(1, sizeof *c);
    c->engine.ops = &cpu_backend;
    c->plan = plan;
    c->spec = *plan.spec;
    const struct engine_opts *o = &c->plan.opts;
    if (!cache_init(&c->cache, &c->spec, o->layer_first, o->layer_end, plan.mem.blocks, o->block_tokens)) {
        free(c);
        return error_set(e, ERR_SYSTEM, "%llu bytes for the KV cache were refused", (unsigned long long)plan.mem.kv_bytes);
    }
    c->pool = pool_create(o->threads);
    c->forward = (struct forward){.spec = &c->spec, .first = o->layer_first, .end = o->layer_end, .pool = c->pool};
    c->forward.kernels = kernels;
    c->forward.weights = &c->weights;
    c->forward.cache = &c->cache;
    c->forward.limits = plan.forward;
    c->forward.w8a8 = o->numeric == ENGINE_NUMERIC_W8A8;
    forward_create(&c->forward);
    slots_init(&c->slots, &plan.info.limits);
    steps_init(&c->steps, &plan.info.limits);
    c->sampler = xcalloc(pool_threads(c->pool), sizeof *c->sampler);
    for (uint32_t i = 0; i < pool_threads(c->pool); i++) c->sampler[i] = sampler_work_create(c->spec.vocab);
    c->rows = xcalloc(o->rows, sizeof *c->rows);
    create_flight(c);
    double token, attended;
    count_macs(c, &token, &attended);
    cost_init(&c->cost, token, attended);
    *engine = &c->engine;
    return ERR_NONE;
}

static void cpu_destroy(struct engine **engine) {
    if (*engine == NULL) return;
    struct cpu *c = cpu_of(*engine);
    for (uint32_t i = 0; i < pool_threads(c->pool); i++) sampler_work_destroy(&c->sampler[i]);
    for (int i = 0; i < ENGINE_DEPTH; i++) free(c->flight[i].resolved), free(c->flight[i].in), free(c->flight[i].out);
    free(c->sampler);
    free(c->rows);
    slots_fini(&c->slots);
    steps_fini(&c->steps);
    forward_destroy(&c->forward);
    weights_fini(&c->weights);
    cache_fini(&c->cache);
    pool_destroy(&c->pool);
    free(c);
    *engine = NULL;
}

static err_id cpu_load(struct engine *engine, engine_load_fn *progress, void *context, struct error *e) {
    struct cpu *c = cpu_of(engine);
    const struct model *m = c->plan.opts.model;
    if (model_fingerprint(m)[0] == '\0') return error_set(e, ERR_MODEL_FILES, "the model was opened without its tensors");
    struct weights_load load = {
        .model = m, .spec = &c->spec, .first = c->plan.opts.layer_first, .end = c->plan.opts.layer_end};
    load.pool = c->pool;
    load.quant = (enum quant)c->plan.opts.quant;
    load.progress = progress;
    load.context = context;
    TRY(weights_load(&c->weights, &load, e));
    char text[128];
    bool weights_alone = c->plan.opts.numeric == ENGINE_NUMERIC_WEIGHTS;
    const char *fp8 = c->spec.fp8_block[0] == 0 ? "" : weights_alone ? " fp8-weights-f32" : " fp8-w8a8";
    int n = snprintf(text, sizeof text, "%s%s%s %s", CPU_NUMERIC_CLASS, fp8, quant_name(load.quant), model_fingerprint(m));
    XXH128_hash_t h = XXH3_128bits(text, (size_t)n);
    snprintf(c->fingerprint, sizeof c->fingerprint, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    return ERR_NONE;
}

static void cpu_fingerprint(struct engine *engine, char text[ENGINE_FINGERPRINT_MAX]) {
    memcpy(text, cpu_of(engine)->fingerprint, ENGINE_FINGERPRINT_MAX);
}

static const struct engine_info *cpu_info(struct engine *engine) { return &cpu_of(engine)->plan.info; }

static err_id cpu_slot_open(struct engine *engine, uint32_t slot, const struct engine_slot_params *p, struct error *e) {
    struct cpu *c = cpu_of(engine);
    return slots_open(&c->slots, slot, p, c->spec.vocab, e);
}
static void cpu_slot_close(struct engine *engine, uint32_t slot) { slots_close(&cpu_of(engine)->slots, slot); }

// ---- taking steps in ----

static enum engine_answer failed(struct error *e, err_id id, const char *sentence, uint64_t step) {
    error_set(e, id, "step %llu: %s", (unsigned long long)step, sentence);
    return ENGINE_FAILED;
}

// Modes that this backend has, and no more logits than its buffer holds.
static bool wanted_logits_fit(const struct cpu *c, const struct plan_view *v) {
    uint64_t logits = 0;
    for (uint32_t i = 0; i < v->head->n_rows; i++) {
        if (!(c->plan.info.modes >> v->rows[i].logits & 1)) return false;
        logits += v->rows[i].logits == PLAN_LOGITS_ALL ? v->rows[i].q_len : v->rows[i].logits != PLAN_LOGITS_NONE;
    }
    return logits <= c->forward.limits.logits;
}

// Stages are paced one by one: each takes step_min_ms from when its input is there and it is free.
static void set_pace(struct cpu *c, struct step *step, uint64_t ready_us) {
    uint64_t start = ready_us > c->busy_until_us ? ready_us : c->busy_until_us;
    step->due_us = c->busy_until_us = start + c->plan.opts.step_min_ms * UINT64_C(1000);
}

static enum engine_answer cpu_submit(struct engine *engine, const void *plan, size_t len, struct error *e) {
    struct cpu *c = cpu_of(engine);
    struct step *step;
    enum engine_answer a = steps_push(&c->steps, &c->plan.info.limits, plan, len, &step, e);
    if (a != ENGINE_OK) return a;
    if (!wanted_logits_fit(c, &step->plan)) {
        steps_drop_last(&c->steps);
        return failed(e, ERR_UNSUPPORTED, "it asks for logits of a kind or number that this device does not give",
                      step->plan.head->step);
    }
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) c->slots.slot[step->plan.rows[i].slot].in_flight++;
    if (is_first(c)) set_pace(c, step, step->submitted_us);
    return ENGINE_OK;
}

static enum engine_answer cpu_sample(struct engine *engine, uint64_t step, const uint32_t *const *masks,
                                     const uint32_t *forced, struct error *e) {
    struct cpu *c = cpu_of(engine);
    return steps_sample(&c->steps, step, masks, forced, c->spec.vocab, e);
}

static enum engine_answer cpu_hidden_in(struct engine *engine, uint64_t id, const float *states, uint32_t tokens,
                                        struct error *e) {
    struct cpu *c = cpu_of(engine);
    if (is_first(c)) return failed(e, ERR_INTERNAL, "no hidden states are expected for it", id);
    struct step *step = steps_expect_hidden(&c->steps, id, tokens, e);
    if (step == NULL) return ENGINE_FAILED;
    if (tokens > 0) memcpy(c->flight[step->place].in, states, (size_t)tokens * c->spec.hidden * sizeof *states);
    step->has_hidden = true;
    set_pace(c, step, steps_now_us());
    return ENGINE_OK;
}

// ---- running them ----

static err_id run_forward(struct cpu *c, struct step *step, struct error *e) {
    const struct plan_view *v = &step->plan;
    struct in_flight *flight = &c->flight[step->place];
    slots_apply(&c->slots, v);
    for (uint32_t i = 0; i < v->head->n_copies; i++) cache_copy_block(&c->cache, v->copies[i].src, v->copies[i].dst);
    forward_begin(&c->forward);
    struct engine_load load = {0};
    for (uint32_t i = 0; i < v->head->n_rows; i++) {
        struct slot_row *r = &flight->resolved[i];
        TRY(slots_resolve(&c->slots, v, i, r, e));
        bool all = v->rows[i].logits == PLAN_LOGITS_ALL, last = v->rows[i].logits == PLAN_LOGITS_LAST;
        forward_add(&c->forward, r->tokens, r->q_len, r->pos, r->slot->table, last && has_head(c), all && has_head(c));
        r->slot->length = r->pos + r->q_len;
        load.rows += last;
        load.attended += (uint64_t)r->q_len * r->pos + (uint64_t)r->q_len * (r->q_len + 1) / 2;
    }
    load.tokens = flight->n_tokens = c->forward.n_tokens;
    uint64_t start = steps_now_us();
    if (!forward_run(&c->forward, flight->in, &c->aborted)) return error_set(e, ERR_CANCELLED, "the step was aborted");
    cost_learn(&c->cost, &load, (double)(steps_now_us() - start));
    size_t states = (size_t)flight->n_tokens * c->spec.hidden;
    if (flight->out != NULL) memcpy(flight->out, c->forward.hidden, states * sizeof *flight->out);
    step->forward_done = true;
    return ERR_NONE;
}

struct sample_pass {
    struct cpu *c;
    struct step *step;
};

static bool all_finite(const float *logits, size_t n) {
    bool ok = true;
    for (size_t i = 0; i < n; i++) ok &= logits[i] - logits[i] == 0;
    return ok;
}

// Takes the row's token, or reports its logits.
static void answer_row(struct cpu *c, const struct step *step, uint32_t i, uint32_t thread) {
    struct engine_row_result *out = &c->rows[i];
    const struct slot *slot = c->flight[step->place].resolved[i].slot;
    if (step->plan.rows[i].logits != PLAN_LOGITS_LAST) {
        out->numeric_error = out->logits != NULL && !all_finite(out->logits, (size_t)out->n_logits * c->spec.vocab);
        return;
    }
    out->n_tokens = 1;
    if (!has_head(c)) {
        out->tokens[0] = (struct engine_token){.token = step->forced[i]};
        return;
    }
    struct sampler_input in = {
        .logits = out->logits, .vocab = c->spec.vocab, .params = &slot->sampling, .tokens = slot->tokens};
    in.n_prompt = slot->n_prompt;
    in.n_tokens = slot->n_tokens;
    in.mask = step->masks[i];
    in.forced = step->forced[i];
    out->numeric_error = !sampler_pick(c->sampler[thread], &in, &out->tokens[0]);
    if (out->numeric_error) out->n_tokens = 0;
}

static void answer_rows(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct sample_pass *p = context;
    for (uint32_t i = begin; i < end; i++) answer_row(p->c, p->step, i, thread);
}

static err_id run_sample(struct cpu *c, struct step *step, struct error *e) {
    const struct plan_view *v = &step->plan;
    uint32_t next = 0;
    for (uint32_t i = 0; i < v->head->n_rows; i++) {
        struct engine_row_result *r = &c->rows[i];
        bool samples = v->rows[i].logits == PLAN_LOGITS_LAST;
        if (samples && (!step->sampled || (!has_head(c) && step->forced[i] == ENGINE_NO_TOKEN))) {
            return error_set(e, ERR_INTERNAL, "sample() was not called before result(), or without the last stage's tokens");
        }
        r->slot = v->rows[i].slot;
        r->n_tokens = 0;
        r->numeric_error = false;
        r->n_logits = !has_head(c) ? 0 : samples ? 1 : v->rows[i].logits == PLAN_LOGITS_ALL ? v->rows[i].q_len : 0;
        r->logits = r->n_logits > 0 ? c->forward.logits + (size_t)next * c->spec.vocab : NULL;
        next += r->n_logits;
    }
    struct sample_pass p = {c, step};
    pool_for(c->pool, v->head->n_rows, 1, answer_rows, &p);
    for (uint32_t i = 0; i < v->head->n_rows; i++) {
        if (c->rows[i].n_tokens == 0) continue;
        const struct slot_row *r = &c->flight[step->place].resolved[i];
        slots_accept(r->slot, r->pos + r->q_len, c->rows[i].tokens[0].token);
    }
    return ERR_NONE;
}

static void retire(struct cpu *c, const struct step *step) {
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) c->slots.slot[step->plan.rows[i].slot].in_flight--;
    steps_pop(&c->steps);
}

// Runs the step's forward where that is possible and has not been done. OK, PENDING or FAILED.
static enum engine_answer advance(struct cpu *c, struct step *step, struct error *e) {
    if (step->forward_done) return ENGINE_OK;
    bool has_input = is_first(c) || step->has_hidden || step->plan.head->n_rows == 0;
    if (!has_input || !steps_may_run(&c->steps, step)) return ENGINE_PENDING;
    uint32_t csr = kernels_enter();
    err_id id = run_forward(c, step, e);
    kernels_leave(csr);
    return id == ERR_NONE ? ENGINE_OK : ENGINE_FAILED;
}

static enum engine_answer cpu_result(struct engine *engine, uint64_t id, uint32_t wait_ms, struct engine_result *result,
                                     struct error *e) {
    struct cpu *c = cpu_of(engine);
    struct step *step = steps_first(&c->steps);
    if (step == NULL || step->plan.head->step != id) return failed(e, ERR_INTERNAL, "it is not the oldest in flight", id);
    enum engine_answer a = advance(c, step, e);
    if (a == ENGINE_OK) a = steps_wait(step, wait_ms, &c->aborted, e);
    if (a == ENGINE_PENDING) return a;
    uint32_t csr = kernels_enter();
    if (a == ENGINE_OK && run_sample(c, step, e) != ERR_NONE) a = ENGINE_FAILED;
    kernels_leave(csr);
    *result = (struct engine_result){.step = id, .n_rows = step->plan.head->n_rows, .rows = c->rows};
    result->elapsed_us = steps_elapsed_us(&c->steps, step);
    retire(c, step);
    return a;
}

static enum engine_answer cpu_hidden_out(struct engine *engine, uint64_t id, uint32_t wait_ms, const float **states,
                                         uint32_t *tokens, struct error *e) {
    struct cpu *c = cpu_of(engine);
    struct step *step = steps_find(&c->steps, id);
    if (step == NULL || has_head(c)) return failed(e, ERR_INTERNAL, "it is not in flight, or this is the last stage", id);
    enum engine_answer a = advance(c, step, e);
    if (a == ENGINE_OK) a = steps_wait(step, wait_ms, &c->aborted, e);
    if (a != ENGINE_OK) return a;
    *states = c->flight[step->place].out;
    *tokens = c->flight[step->place].n_tokens;
    return ENGINE_OK;
}

// ---- idling, stopping, measuring ----

static void cpu_quiesce(struct engine *engine) {
    struct cpu *c = cpu_of(engine);
    struct engine_result dropped;
    struct step *step;
    while ((step = steps_first(&c->steps)) != NULL) {
        uint64_t id = step->plan.head->step;
        bool stuck = atomic_load(&c->aborted) || (step_samples(step) && !step->sampled);
        if (stuck || cpu_result(engine, id, 1000, &dropped, NULL) == ENGINE_PENDING) retire(c, step);
    }
    c->busy_until_us = 0;
    atomic_store(&c->aborted, false);
}

static void cpu_abort(struct engine *engine) { atomic_store(&cpu_of(engine)->aborted, true); }

static uint32_t cpu_step_rows(struct engine *engine, uint64_t id) {
    const struct step *step = steps_find(&cpu_of(engine)->steps, id);
    return step == NULL ? 0 : step->plan.head->n_rows;
}

static uint32_t cpu_step_cost_us(struct engine *engine, const struct engine_load *load) {
    return cost_us(&cpu_of(engine)->cost, load);
}

static err_id cpu_regroup(struct engine *engine, struct comm *comm, uint32_t epoch, struct error *e) {
    struct cpu *c = cpu_of(engine);
    if (c->steps.count > 0) return error_set(e, ERR_INTERNAL, "the engine has steps in flight");
    steps_restart(&c->steps);
    c->plan.info.limits.group_epoch = epoch;
    return ERR_NONE;
}

// One token, then as many as a step may hold, three times: enough to touch the work buffers and to know the pace.
static err_id cpu_warmup(struct engine *engine, struct error *e) {
    enum { ROUNDS = 3, LARGE = 64 };
    struct cpu *c = cpu_of(engine);
    uint32_t bt = c->plan.opts.block_tokens, large = c->plan.opts.batch_tokens < LARGE ? c->plan.opts.batch_tokens : LARGE;
    if (large > bt * c->plan.mem.blocks) large = bt * c->plan.mem.blocks;
    if (large > c->plan.opts.context) large = c->plan.opts.context;
    uint32_t table[LARGE], tokens[LARGE] = {0}, csr = kernels_enter();
    for (uint32_t i = 0; i < LARGE; i++) table[i] = i;
    for (uint32_t i = 0; i < 2 * ROUNDS && !atomic_load(&c->aborted); i++) {
        struct engine_load load = {.rows = 1, .tokens = i % 2 == 0 ? 1 : large};
        load.attended = load.tokens * (load.tokens + 1) / 2;
        forward_begin(&c->forward);
        forward_add(&c->forward, tokens, load.tokens, 0, table, has_head(c), false);
        uint64_t start = steps_now_us();
        forward_run(&c->forward, c->flight[0].in, &c->aborted);
        if (i >= 2) cost_learn(&c->cost, &load, (double)(steps_now_us() - start));
    }
    kernels_leave(csr);
    return ERR_NONE;
}

// ---- moving KV entries ----

static err_id span_check(const struct cpu *c, const struct engine_kv_span *span, struct error *e) {
    TRY(slots_check_span(&c->slots, span, e));
    if (c->slots.slot[span->slot].in_flight == 0) return ERR_NONE;
    return error_set(e, ERR_INTERNAL, "slot %u has unanswered rows", span->slot);
}

// Calls move for each (layer, token) with its place in the canonical bytes.
static void span_walk(struct cpu *c, const struct engine_kv_span *span, float *bytes, bool out) {
    const uint32_t *table = c->slots.slot[span->slot].table;
    for (uint32_t l = 0; l < c->cache.n_layers; l++) {
        const struct cache_layer *layer = &c->cache.layers[l];
        for (uint32_t i = 0; i < span->count; i++, bytes += cache_elements(layer)) {
            if (out) {
                cache_get(&c->cache, layer, table, span->first + i, bytes);
            } else {
                cache_put(&c->cache, layer, table, span->first + i, bytes);
            }
        }
    }
}

static err_id cpu_kv_export(struct engine *engine, struct engine_kv_span span, void *bytes, engine_ticket *ticket,
                            struct error *e) {
    struct cpu *c = cpu_of(engine);
    TRY(span_check(c, &span, e));
    span_walk(c, &span, bytes, true);
    c->ticket_hash = XXH3_64bits(bytes, c->plan.info.kv_bytes_per_token * span.count);
    ticket->id = ++c->tickets;
    return ERR_NONE;
}

static err_id cpu_kv_import(struct engine *engine, struct engine_kv_span span, const void *bytes, uint64_t hash,
                            engine_ticket *ticket, struct error *e) {
    struct cpu *c = cpu_of(engine);
    TRY(span_check(c, &span, e));
    c->ticket_hash = XXH3_64bits(bytes, c->plan.info.kv_bytes_per_token * span.count);
    if (c->ticket_hash != hash) return error_set(e, ERR_PROTOCOL, "the KV entries' hash differs from the one announced");
    span_walk(c, &span, (float *)bytes, false);
    ticket->id = ++c->tickets;
    return ERR_NONE;
}

static enum engine_answer cpu_ticket_poll(struct engine *engine, engine_ticket ticket, uint64_t *hash, struct error *e) {
    *hash = cpu_of(engine)->ticket_hash;
    return ENGINE_OK;
}
static void cpu_ticket_cancel(struct engine *engine, engine_ticket ticket) {}

const struct backend cpu_backend = {
    .name = "cpu",
    .probe = cpu_probe,
    .mem_plan = cpu_mem_plan,
    .create = cpu_create,
    .load = cpu_load,
    .warmup = cpu_warmup,
    .fingerprint = cpu_fingerprint,
    .info = cpu_info,
    .slot_open = cpu_slot_open,
    .slot_close = cpu_slot_close,
    .submit = cpu_submit,
    .sample = cpu_sample,
    .result = cpu_result,
    .hidden_in = cpu_hidden_in,
    .hidden_out = cpu_hidden_out,
    .kv_export = cpu_kv_export,
    .kv_import = cpu_kv_import,
    .ticket_poll = cpu_ticket_poll,
    .ticket_cancel = cpu_ticket_cancel,
    .step_rows = cpu_step_rows,
    .step_cost_us = cpu_step_cost_us,
    .quiesce = cpu_quiesce,
    .abort = cpu_abort,
    .regroup = cpu_regroup,
    .destroy = cpu_destroy,
};
