// Steps: built into pinned memory, launched in order, answered when their event has come.
#include <string.h>
#include <time.h>
#include "common/base/check.h"
#include "worker/engine/cuda/cuda.h"

static enum engine_answer failed(struct error *e, err_id id, const char *sentence, uint64_t step) {
    error_set(e, id, "step %llu: %s", (unsigned long long)step, sentence);
    return ENGINE_FAILED;
}

// ---- taking steps in ----

static uint32_t logits_of_row(const struct plan_row *r) {
    return r->logits == PLAN_LOGITS_ALL ? r->q_len : r->logits == PLAN_LOGITS_LAST ? 1 : 0;
}

static bool wanted_logits_fit(const struct cuda *c, const struct plan_view *v) {
    uint64_t logits = 0;
    for (uint32_t i = 0; i < v->head->n_rows; i++) {
        if (!(c->plan.info.modes >> v->rows[i].logits & 1)) return false;
        logits += logits_of_row(&v->rows[i]);
    }
    return logits <= c->plan.logits;
}

// Does someone look at this step's logits?
static bool shows_logits(const struct cuda *c, const struct step *step) {
    for (uint32_t i = 0; cuda_has_head(c) && i < step->plan.head->n_rows; i++) {
        uint32_t kind = step->plan.rows[i].logits;
        if (kind == PLAN_LOGITS_ALL || (kind == PLAN_LOGITS_LAST && c->plan.opts.show_logits)) return true;
    }
    return false;
}

// ---- building ----

static void build_row(struct cuda *c, struct flight *f, struct batch *b, const struct plan_row *r, const struct slot_row *at,
                      struct flight_row *out) {
    struct batch_size *n = &f->n;
    uint32_t id = r->slot, planned = at->slot->n_tokens + c->ahead[id];
    bool device = r->token_off == PLAN_TOKEN_DEVICE && c->ahead[id] > 0;
    *out = (struct flight_row){.slot = at->slot, .id = id, .end = at->pos + at->q_len, .answer = UINT32_MAX};
    out->first_logit = n->n_logits;
    out->n_logits = cuda_has_head(c) ? logits_of_row(r) : 0;
    for (uint32_t i = 0; i < at->q_len; i++) {
        uint32_t t = n->tokens + i;
        b->at[t] = device ? id * c->forward.tokens_ld + planned - 1 : at->tokens[i] | 1u << 31;
        b->pos[t] = at->pos + i;
        b->slot[t] = id;
        if (i + out->n_logits >= at->q_len) b->logits_of[n->n_logits++] = t;
    }
    out->accepts = r->logits == PLAN_LOGITS_LAST && out->end == planned;
    if (out->n_logits > 0) {
        struct sample_row s = {
            .slot = id, .logits_row = out->first_logit, .n_prompt = at->slot->n_prompt, .n_tokens = planned};
        s.accept = out->accepts;
        s.forced = ENGINE_NO_TOKEN;
        s.mask = UINT32_MAX;
        s.check_rows = r->logits == PLAN_LOGITS_ALL ? out->n_logits : 0;
        out->answer = n->n_rows;
        b->rows[n->n_rows++] = s;
    }
    at->slot->length = out->end;
    f->load.rows += r->logits == PLAN_LOGITS_LAST;
    f->load.attended += (uint64_t)at->q_len * at->pos + (uint64_t)at->q_len * (at->q_len + 1) / 2;
    n->tokens += at->q_len;
}

static void build_tiles(struct cuda *c, struct flight *f, struct batch *b, bool split) {
    uint32_t begin = 0;
    f->n.n_split = f->n.n_loop = f->n.segments = 0;
    while (begin < f->n.tokens) {
        uint32_t end = begin + 1;
        while (end < f->n.tokens && b->slot[end] == b->slot[begin]) end++;
        batch_add_tiles(b, &f->n, &c->plan, begin, end - begin, b->pos[begin], split && end - begin == 1);
        begin = end;
    }
}

static err_id build(struct cuda *c, struct step *step, struct batch *b, struct error *e) {
    const struct plan_view *v = &step->plan;
    struct flight *f = &c->flight[step->place];
    *b = batch_at(f->pinned, &c->plan);
    f->n = (struct batch_size){.n_deltas = v->head->n_deltas, .n_copies = v->head->n_copies};
    f->load = (struct engine_load){0};
    slots_apply(&c->slots, v);
    for (uint32_t i = 0; i < v->head->n_deltas; i++) { // an entry named twice has its last value both times
        const struct plan_delta *d = &v->deltas[i];
        b->deltas[3 * i] = d->slot;
        b->deltas[3 * i + 1] = d->index;
        b->deltas[3 * i + 2] = c->slots.slot[d->slot].table[d->index];
    }
    memcpy(b->copies, v->copies, v->head->n_copies * sizeof *v->copies);
    for (uint32_t i = 0; i < v->head->n_rows; i++) {
        struct slot_row at;
        TRY(slots_resolve(&c->slots, v, i, &at, e));
        build_row(c, f, b, &v->rows[i], &at, &f->rows[i]);
    }
    for (uint32_t i = 0; i < v->head->n_rows; i++) c->ahead[f->rows[i].id] += f->rows[i].accepts;
    f->load.tokens = f->n.tokens;
    build_tiles(c, f, b, true);
    if (!forward_can_split(&c->forward, f->n.n_split, f->n.segments)) build_tiles(c, f, b, false);
    return ERR_NONE;
}

// ---- launching ----

static err_id send(struct cuda *c, const struct flight *f, uint64_t from, uint64_t bytes, struct error *e) {
    return device_error(cudaMemcpyAsync(c->forward.batch + from, f->pinned + from, bytes, cudaMemcpyHostToDevice, c->stream),
                        "sending a step", e);
}

static err_id copy_hidden(struct cuda *c, const struct flight *f, float *host, bool out, struct error *e) {
    uint64_t ld = c->forward.ld * sizeof(float), row = c->spec.hidden * sizeof(float);
    if (f->n.tokens == 0) return ERR_NONE;
    cudaError_t id =
        out ? cudaMemcpy2DAsync(host, row, c->forward.hidden, ld, row, f->n.tokens, cudaMemcpyDeviceToHost, c->stream)
            : cudaMemcpy2DAsync(c->forward.hidden, ld, host, row, row, f->n.tokens, cudaMemcpyHostToDevice, c->stream);
    return device_error(id, "copying hidden states", e);
}

static err_id launch_forward(struct cuda *c, struct step *step, struct error *e) {
    struct flight *f = &c->flight[step->place];
    struct batch host, device = batch_at(c->forward.batch, &c->plan);
    TRY(build(c, step, &host, e));
    step->forward_done = true;
    TRY(send(c, f, 0, device.step_bytes, e));
    if (f->in != NULL) TRY(copy_hidden(c, f, f->in, false, e));
    TRY(forward_run(&c->forward, &device, &f->n, f->in != NULL, e));
    return f->out == NULL ? ERR_NONE : copy_hidden(c, f, f->out, true, e);
}

// What sample() said, into the sampler's rows.
static void build_sample(struct cuda *c, const struct step *step, struct batch *b) {
    struct flight *f = &c->flight[step->place];
    size_t words = (c->spec.vocab + 31) / 32;
    f->n.n_masks = 0;
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) {
        if (!plan_row_samples(&step->plan.rows[i])) continue;
        struct sample_row *s = &b->rows[f->rows[i].answer];
        s->forced = step->forced[i];
        if (step->masks[i] == NULL) continue;
        s->mask = f->n.n_masks++;
        memcpy(b->masks + s->mask * words, step->masks[i], words * sizeof *b->masks);
    }
}

static err_id launch_sample(struct cuda *c, struct step *step, struct error *e) {
    struct flight *f = &c->flight[step->place];
    struct batch host = batch_at(f->pinned, &c->plan), device = batch_at(c->forward.batch, &c->plan);
    if (cuda_has_head(c) && f->n.n_rows > 0) {
        build_sample(c, step, &host);
        uint64_t masks = (uint64_t)f->n.n_masks * ((c->spec.vocab + 31) / 32) * sizeof *host.masks;
        uint64_t bytes = f->n.n_masks == 0 ? f->n.n_rows * sizeof *host.rows
                                           : (uint64_t)((uint8_t *)host.masks - (uint8_t *)host.rows) + masks;
        TRY(send(c, f, host.step_bytes, bytes, e));
        TRY(forward_sample(&c->forward, &device, &f->n, e));
        TRY_CUDA(cudaMemcpyAsync(f->answers, c->forward.answers, f->n.n_rows * sizeof *f->answers, cudaMemcpyDeviceToHost,
                                 c->stream),
                 "fetching tokens");
    }
    if (shows_logits(c, step) && f->n.n_logits > 0) {
        size_t row = c->spec.vocab * sizeof(float);
        TRY_CUDA(cudaMemcpy2DAsync(c->host_logits, row, c->forward.logits, c->forward.ld_logits * sizeof(float), row,
                                   f->n.n_logits, cudaMemcpyDeviceToHost, c->stream),
                 "fetching logits");
    }
    f->launched = true;
    return device_error(cudaEventRecord(f->done, c->stream), "marking a step", e);
}

// The steps share buffers of logits: with a head, one is launched behind the sampler of the one before it. Logits that the
// host sees go to one buffer too, so such a step waits until it is asked for.
static bool may_launch(const struct cuda *c, const struct step *step, bool is_oldest, bool before_launched, bool answering) {
    bool has_input = cuda_is_first(c) || step->has_hidden || step->plan.head->n_rows == 0;
    if (!has_input || (shows_logits(c, step) && !(is_oldest && answering))) return false;
    return cuda_has_head(c) ? before_launched : steps_may_run(&c->steps, step);
}

// Launches what can be.
static void pump(struct cuda *c, bool answering) {
    bool before = true;
    for (uint32_t i = 0; i < c->steps.count && !atomic_load(&c->aborted); i++) {
        struct step *step = &c->steps.ring[(c->steps.first + i) % ENGINE_DEPTH];
        struct flight *f = &c->flight[step->place];
        if (f->failed.id != ERR_NONE) return;
        if (!step->forward_done) {
            if (!may_launch(c, step, i == 0, before, answering)) return;
            if (launch_forward(c, step, &f->failed) != ERR_NONE) return;
        }
        bool ready = !cuda_has_head(c) || !step_samples(step) || step->sampled;
        if (!f->launched && ready && launch_sample(c, step, &f->failed) != ERR_NONE) return;
        before = f->launched;
    }
}

// Stages are paced one by one: each takes step_min_ms from when its input is there and it is free.
static void set_pace(struct cuda *c, struct step *step, uint64_t ready_us) {
    uint64_t start = ready_us > c->busy_until_us ? ready_us : c->busy_until_us;
    step->due_us = c->busy_until_us = start + c->plan.opts.step_min_ms * UINT64_C(1000);
}

enum engine_answer cuda_submit(struct engine *engine, const void *plan, size_t len, struct error *e) {
    struct cuda *c = cuda_of(engine);
    struct step *step;
    enum engine_answer a = steps_push(&c->steps, &c->plan.info.limits, plan, len, &step, e);
    if (a != ENGINE_OK) return a;
    if (!wanted_logits_fit(c, &step->plan)) {
        steps_drop_last(&c->steps);
        return failed(e, ERR_UNSUPPORTED, "it asks for logits of a kind or number that this device does not give",
                      step->plan.head->step);
    }
    struct flight *f = &c->flight[step->place];
    f->launched = false;
    f->failed = (struct error){0};
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) c->slots.slot[step->plan.rows[i].slot].in_flight++;
    if (cuda_is_first(c)) set_pace(c, step, step->submitted_us);
    pump(c, false);
    return ENGINE_OK;
}

enum engine_answer cuda_sample(struct engine *engine, uint64_t step, const uint32_t *const *masks, const uint32_t *forced,
                               struct error *e) {
    struct cuda *c = cuda_of(engine);
    enum engine_answer a = steps_sample(&c->steps, step, masks, forced, c->spec.vocab, e);
    if (a == ENGINE_OK) pump(c, false);
    return a;
}

enum engine_answer cuda_hidden_in(struct engine *engine, uint64_t id, const float *states, uint32_t tokens,
                                  struct error *e) {
    struct cuda *c = cuda_of(engine);
    if (cuda_is_first(c)) return failed(e, ERR_INTERNAL, "no hidden states are expected for it", id);
    struct step *step = steps_expect_hidden(&c->steps, id, tokens, e);
    if (step == NULL) return ENGINE_FAILED;
    if (tokens > 0) memcpy(c->flight[step->place].in, states, (size_t)tokens * c->spec.hidden * sizeof *states);
    step->has_hidden = true;
    set_pace(c, step, steps_now_us());
    pump(c, false);
    return ENGINE_OK;
}

// ---- answering ----

static void retire(struct cuda *c, const struct step *step) {
    const struct flight *f = &c->flight[step->place];
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) {
        c->slots.slot[step->plan.rows[i].slot].in_flight--;
        if (step->forward_done) c->ahead[f->rows[i].id] -= f->rows[i].accepts;
    }
    steps_pop(&c->steps);
}

// OK, PENDING or FAILED.
static enum engine_answer wait_done(struct cuda *c, const struct flight *f, uint32_t wait_ms, struct error *e) {
    uint64_t until = steps_now_us() + wait_ms * UINT64_C(1000);
    for (;;) {
        cudaError_t id = cudaEventQuery(f->done);
        if (id == cudaSuccess) return ENGINE_OK;
        if (id != cudaErrorNotReady) {
            device_error(id, "a step", e);
            return ENGINE_FAILED;
        }
        if (atomic_load(&c->aborted)) {
            cudaStreamSynchronize(c->stream);
            error_set(e, ERR_CANCELLED, "the step was aborted");
            return ENGINE_FAILED;
        }
        if (steps_now_us() >= until) return ENGINE_PENDING;
        nanosleep(&(struct timespec){.tv_nsec = 5000}, NULL);
    }
}

// Launches what it takes and waits: until the step is through, or why not.
static enum engine_answer finish(struct cuda *c, struct step *step, bool answering, uint32_t wait_ms, struct error *e) {
    struct flight *f = &c->flight[step->place];
    pump(c, answering);
    if (atomic_load(&c->aborted)) {
        cudaStreamSynchronize(c->stream);
        error_set(e, ERR_CANCELLED, "the step was aborted");
        return ENGINE_FAILED;
    }
    if (f->failed.id != ERR_NONE) {
        if (e != NULL) *e = f->failed;
        return ENGINE_FAILED;
    }
    if (!f->launched) return ENGINE_PENDING;
    enum engine_answer a = wait_done(c, f, wait_ms, e);
    return a == ENGINE_OK ? steps_wait(step, wait_ms, &c->aborted, e) : a;
}

static void answer_row(struct cuda *c, const struct step *step, uint32_t i) {
    const struct flight_row *r = &c->flight[step->place].rows[i];
    struct engine_row_result *out = &c->rows[i];
    bool samples = plan_row_samples(&step->plan.rows[i]), shown = shows_logits(c, step) && r->n_logits > 0;
    out->slot = r->id;
    out->n_tokens = samples;
    out->numeric_error = false;
    out->n_logits = shown ? r->n_logits : 0;
    out->logits = shown ? c->host_logits + (size_t)r->first_logit * c->spec.vocab : NULL;
    if (r->answer != UINT32_MAX) {
        const struct sample_answer *a = &c->flight[step->place].answers[r->answer];
        out->numeric_error = !a->ok;
        out->tokens[0] = a->token;
    } else if (samples) {
        out->tokens[0] = (struct engine_token){.token = step->forced[i]};
    }
    if (out->numeric_error) out->n_tokens = 0;
    if (out->n_tokens > 0) slots_accept(r->slot, r->end, out->tokens[0].token);
}

// A step whose tokens nobody chose, though it was asked for.
static bool lacks_sample(const struct cuda *c, const struct step *step) {
    if (!step_samples(step)) return false;
    for (uint32_t i = 0; step->sampled && !cuda_has_head(c) && i < step->plan.head->n_rows; i++) {
        if (plan_row_samples(&step->plan.rows[i]) && step->forced[i] == ENGINE_NO_TOKEN) return true;
    }
    return !step->sampled;
}

enum engine_answer cuda_result(struct engine *engine, uint64_t id, uint32_t wait_ms, struct engine_result *result,
                               struct error *e) {
    struct cuda *c = cuda_of(engine);
    struct step *step = steps_first(&c->steps);
    if (step == NULL || step->plan.head->step != id) return failed(e, ERR_INTERNAL, "it is not the oldest in flight", id);
    enum engine_answer a = finish(c, step, true, wait_ms, e);
    if (a != ENGINE_FAILED && step->forward_done && lacks_sample(c, step)) {
        cudaStreamSynchronize(c->stream);
        a = failed(e, ERR_INTERNAL, "sample() was not called before result(), or without the last stage's tokens", id);
    }
    if (a == ENGINE_PENDING) return a;
    *result = (struct engine_result){.step = id, .n_rows = step->plan.head->n_rows, .rows = c->rows};
    result->elapsed_us = steps_elapsed_us(&c->steps, step);
    for (uint32_t i = 0; a == ENGINE_OK && i < result->n_rows; i++) answer_row(c, step, i);
    if (a == ENGINE_OK) cost_learn(&c->cost, &c->flight[step->place].load, result->elapsed_us);
    retire(c, step);
    return a;
}

enum engine_answer cuda_hidden_out(struct engine *engine, uint64_t id, uint32_t wait_ms, const float **states,
                                   uint32_t *tokens, struct error *e) {
    struct cuda *c = cuda_of(engine);
    struct step *step = steps_find(&c->steps, id);
    if (step == NULL || cuda_has_head(c))
        return failed(e, ERR_INTERNAL, "it is not in flight, or this is the last stage", id);
    enum engine_answer a = finish(c, step, false, wait_ms, e);
    if (a != ENGINE_OK) return a;
    *states = c->flight[step->place].out;
    *tokens = c->flight[step->place].n.tokens;
    return ENGINE_OK;
}

void cuda_quiesce(struct engine *engine) {
    struct cuda *c = cuda_of(engine);
    struct engine_result dropped;
    struct step *step;
    cudaStreamSynchronize(c->stream);
    while ((step = steps_first(&c->steps)) != NULL) {
        uint64_t id = step->plan.head->step;
        bool stuck = atomic_load(&c->aborted) || lacks_sample(c, step);
        if (stuck || cuda_result(engine, id, 1000, &dropped, NULL) == ENGINE_PENDING) retire(c, step);
    }
    cudaStreamSynchronize(c->stream);
    c->busy_until_us = 0;
    atomic_store(&c->aborted, false);
}

// One step of so many tokens on slot 0, whose table names block 0 throughout.
static err_id warm(struct cuda *c, uint32_t tokens, struct error *e) {
    struct flight *f = &c->flight[0];
    struct batch b = batch_at(f->pinned, &c->plan), device = batch_at(c->forward.batch, &c->plan);
    f->n = (struct batch_size){.tokens = tokens, .n_logits = cuda_has_head(c)};
    for (uint32_t t = 0; t < tokens; t++) b.at[t] = 1u << 31, b.pos[t] = t, b.slot[t] = 0;
    b.logits_of[0] = tokens - 1;
    build_tiles(c, f, &b, forward_can_split(&c->forward, 1, 1));
    TRY(send(c, f, 0, device.step_bytes, e));
    TRY(forward_run(&c->forward, &device, &f->n, !cuda_is_first(c), e));
    return device_error(cudaStreamSynchronize(c->stream), "a step on scratch", e);
}

err_id cuda_warmup(struct engine *engine, struct error *e) {
    enum { ROUNDS = 2 };
    struct cuda *c = cuda_of(engine);
    uint64_t room = (uint64_t)c->plan.opts.block_tokens * c->plan.mem.blocks, most = c->plan.opts.batch_tokens;
    if (most > room) most = room;
    if (most > c->plan.opts.context) most = c->plan.opts.context;
    for (uint32_t tokens = 1; tokens <= most && !atomic_load(&c->aborted); tokens *= 2) {
        struct engine_load load = {.rows = 1, .tokens = tokens, .attended = (uint64_t)tokens * (tokens + 1) / 2};
        for (int i = 0; i < ROUNDS; i++) {
            uint64_t start = steps_now_us();
            TRY(warm(c, tokens, e));
            if (i > 0) cost_learn(&c->cost, &load, (double)(steps_now_us() - start));
        }
    }
    return ERR_NONE;
}
