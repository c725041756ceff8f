// Design notes: each layer caches, per token, a hash over what the layer below says of this token and what the layer itself
// cached for the token before; the lowest one starts from the token. The last layer's hash chooses the next token. So an
// answer depends on every token, block, layer and state that was handed from stage to stage, as a model's does. A step costs
// what its pace says from the end of the one before it; nothing is computed until it is due, and waiting is done in slices,
// so that abort() is seen at once.
#include "worker/engine/mock/mock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "common/base/check.h"
#include "worker/engine/slots.h"
#include "worker/engine/steps.h"

enum { VOCAB = 512, CONTEXT = 32768, BLOCK_TOKENS = 32, CACHE_TOKENS = 1 << 17, ENTRY_BYTES = 8 };

struct mock {
    struct engine engine; // first
    struct engine_opts opts;
    struct engine_info info;
    struct slots slots;
    struct steps steps;
    uint64_t *cache; // [layers][blocks][block_tokens]
    uint64_t
        *states[ENGINE_DEPTH]; // by place in the ring: [batch_tokens], what goes in, and after the forward what comes out
    uint32_t n_states[ENGINE_DEPTH];
    struct slot_row *resolved[ENGINE_DEPTH]; // [rows]
    struct engine_row_result *rows;
    uint64_t busy_until_us;
    uint64_t tickets, ticket_hash; // the newest ticket's
    atomic_bool aborted;
};

static struct mock *mock_of(struct engine *engine) { return (struct mock *)engine; }
static bool is_first(const struct mock *m) { return m->info.layer_first == 0; }
static bool has_head(const struct mock *m) { return m->info.layer_end == m->info.layers; }
static uint32_t n_layers(const struct engine_opts *o) { return o->layer_end - o->layer_first; }

static err_id mock_probe(struct engine_device *d, struct error *e) {
    *d = (struct engine_device){.name = "mock", .cores = 1};
    return ERR_NONE;
}

static struct engine_opts with_defaults(const struct engine_opts *given) {
    struct engine_opts o = *given;
    if (o.mock.vocab == 0) o.mock.vocab = VOCAB;
    if (o.context == 0) o.context = CONTEXT;
    if (o.block_tokens == 0) o.block_tokens = BLOCK_TOKENS;
    if (o.mock.layers == 0) o.mock.layers = 1;
    if (o.layer_end == 0) o.layer_end = o.mock.layers;
    if (o.kv_bytes == 0) o.kv_bytes = (uint64_t)CACHE_TOKENS * ENTRY_BYTES * n_layers(&o);
    return o;
}

static err_id mock_mem_plan(const struct engine_opts *given, struct engine_mem *mem, struct error *e) {
    struct engine_opts o = with_defaults(given);
    if (o.layer_first >= o.layer_end || o.layer_end > o.mock.layers)
        return error_set(e, ERR_CONFIG, "layers %u to %u are not a range of the mock's %u", o.layer_first, o.layer_end,
                         o.mock.layers);
    uint64_t entry_bytes = (uint64_t)ENTRY_BYTES * n_layers(&o), blocks = o.kv_bytes / entry_bytes / o.block_tokens;
    if (blocks == 0 || blocks > UINT32_MAX) return error_set(e, ERR_CONFIG, "the mock's KV size is out of range");
    *mem = (struct engine_mem){.kv_bytes = o.kv_bytes, .kv_bytes_per_token = entry_bytes, .blocks = (uint32_t)blocks};
    mem->kv_tokens = blocks * o.block_tokens;
    return ERR_NONE;
}

static err_id mock_create(const struct engine_opts *given, struct comm *comm, struct engine **engine, struct error *e) {
    struct engine_opts o = with_defaults(given);
    struct engine_mem mem;
    TRY(mock_mem_plan(&o, &mem, e));
    if (o.slots == 0 || o.slots > PLAN_SLOTS_MAX || o.rows == 0 || o.batch_tokens == 0) {
        return error_set(e, ERR_CONFIG, "slots, rows and batch tokens must be above 0, slots at most %d", PLAN_SLOTS_MAX);
    }
    struct mock *m = xcalloc(1, sizeof *m);
    m->engine.ops = &mock_backend;
    m->opts = o;
    uint32_t indexes = (o.context + o.block_tokens - 1) / o.block_tokens;
    m->info.limits = (struct plan_limits){
        .caps = {o.rows, o.batch_tokens, plan_deltas_max(o.slots, o.batch_tokens, indexes), o.slots},
        .batch_tokens = o.batch_tokens,
        .slots = o.slots,
        .blocks = mem.blocks,
        .block_tokens = o.block_tokens,
        .context = o.context,
        .vocab = o.mock.vocab,
    };
    m->info.layer_first = o.layer_first;
    m->info.layer_end = o.layer_end;
    m->info.layers = o.mock.layers;
    m->info.hidden = ENTRY_BYTES / sizeof(float);
    m->info.kv_bytes_per_token = mem.kv_bytes_per_token;
    m->info.mem = mem;
    m->info.logits = o.rows;
    m->info.modes = 1u << PLAN_LOGITS_NONE | 1u << PLAN_LOGITS_LAST;
    slots_init(&m->slots, &m->info.limits);
    steps_init(&m->steps, &m->info.limits);
    m->cache = xcalloc((size_t)mem.blocks * o.block_tokens * n_layers(&o), sizeof *m->cache);
    m->rows = xcalloc(o.rows, sizeof *m->rows);
    for (int i = 0; i < ENGINE_DEPTH; i++) {
        m->states[i] = xcalloc(o.batch_tokens, sizeof *m->states[i]);
        m->resolved[i] = xcalloc(o.rows, sizeof *m->resolved[i]);
    }
    *engine = &m->engine;
    return ERR_NONE;
}

static void mock_destroy(struct engine **engine) {
    if (*engine == NULL) return;
    struct mock *m = mock_of(*engine);
    slots_fini(&m->slots);
    steps_fini(&m->steps);
    free(m->cache);
    free(m->rows);
    for (int i = 0; i < ENGINE_DEPTH; i++) free(m->states[i]), free(m->resolved[i]);
    free(m);
    *engine = NULL;
}

static err_id mock_load(struct engine *engine, engine_load_fn *progress, void *context, struct error *e) {
    bool go_on = progress == NULL || progress(context, (struct engine_load_progress){1, 1});
    return go_on ? ERR_NONE : error_set(e, ERR_CANCELLED, "loading was given up");
}

static err_id mock_warmup(struct engine *engine, struct error *e) { return ERR_NONE; }

static void mock_fingerprint(struct engine *engine, char text[ENGINE_FINGERPRINT_MAX]) {
    const struct engine_mock_opts *o = &mock_of(engine)->opts.mock;
    uint32_t what[] = {o->vocab, o->eos, o->eos_every, o->layers};
    const char *text_said = mock_of(engine)->opts.mock_say;
    XXH64_hash_t say = text_said ? XXH3_64bits(text_said, strlen(text_said)) : 0;
    unsigned long long hash = XXH3_64bits_withSeed(what, sizeof what, say);
    snprintf(text, ENGINE_FINGERPRINT_MAX, "mock2%016llx", hash);
}

static const struct engine_info *mock_info(struct engine *engine) { return &mock_of(engine)->info; }

static err_id mock_slot_open(struct engine *engine, uint32_t slot, const struct engine_slot_params *p, struct error *e) {
    struct mock *m = mock_of(engine);
    return slots_open(&m->slots, slot, p, m->info.limits.vocab, e);
}

static void mock_slot_close(struct engine *engine, uint32_t slot) { slots_close(&mock_of(engine)->slots, slot); }

// ---- steps ----

static uint64_t step_us(const struct mock *m, uint64_t prefill_tokens, bool decodes) {
    double us = m->opts.mock.prefill_tokens_s > 0 ? (double)prefill_tokens * 1e6 / m->opts.mock.prefill_tokens_s : 0;
    if (decodes) us += m->opts.mock.decode_ms * 1e3;
    double least = m->opts.step_min_ms * 1e3;
    return (uint64_t)(us < least ? least : us);
}

// Stages are paced one by one: each takes its time from when its input is there and it is free.
static void set_pace(struct mock *m, struct step *step, uint64_t ready_us) {
    uint64_t prefill = 0, start = ready_us > m->busy_until_us ? ready_us : m->busy_until_us;
    bool decodes = false;
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) {
        const struct plan_row *r = &step->plan.rows[i];
        bool decode = r->q_len == 1 && plan_row_samples(r);
        decodes |= decode;
        prefill += decode ? 0 : r->q_len;
    }
    step->due_us = m->busy_until_us = start + step_us(m, prefill, decodes);
}

static enum engine_answer mock_submit(struct engine *engine, const void *plan, size_t len, struct error *e) {
    struct mock *m = mock_of(engine);
    struct step *step;
    enum engine_answer a = steps_push(&m->steps, &m->info.limits, plan, len, &step, e);
    if (a != ENGINE_OK) return a;
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) m->slots.slot[step->plan.rows[i].slot].in_flight++;
    if (is_first(m)) set_pace(m, step, step->submitted_us);
    return ENGINE_OK;
}

static enum engine_answer mock_sample(struct engine *engine, uint64_t step, const uint32_t *const *masks,
                                      const uint32_t *forced, struct error *e) {
    struct mock *m = mock_of(engine);
    return steps_sample(&m->steps, step, masks, forced, m->info.limits.vocab, e);
}

// layer: counted from this shard's first.
static uint64_t *entry(struct mock *m, uint32_t layer, const struct slot *slot, uint32_t pos) {
    uint32_t bt = m->info.limits.block_tokens;
    return &m->cache[((size_t)layer * m->info.limits.blocks + slot->table[pos / bt]) * bt + pos % bt];
}

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t both[2] = {a, b};
    return XXH3_64bits(both, sizeof both);
}

static void crash_if_told(const struct mock *m, const struct slot *slot) {
    const struct engine_mock_opts *o = &m->opts.mock;
    for (uint32_t i = 0; o->n_crash > 0 && i + o->n_crash <= slot->n_prompt; i++) {
        if (memcmp(slot->tokens + i, o->crash, o->n_crash * sizeof *o->crash) == 0) abort();
    }
}

static bool allowed(const uint32_t *mask, uint32_t t) { return mask == NULL || (mask[t / 32] >> (t % 32) & 1); }

static uint32_t next_token(const struct mock *m, const struct slot *slot, uint32_t end, uint64_t last,
                           const uint32_t *mask) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz      ";
    const struct sampling_params *p = &slot->sampling;
    uint64_t seed = p->temperature > 0 ? mix(p->seed, p->choice) : 0;
    uint64_t h = mix(mix(last, end), seed);
    uint32_t vocab = m->info.limits.vocab, every = m->opts.mock.eos_every;
    const char *say = m->opts.mock_say;
    bool may_end = slot->n_tokens - slot->n_prompt >= p->min_tokens && allowed(mask, m->opts.mock.eos % vocab);
    if (every > 0 && may_end && h >> 32 < (UINT64_C(1) << 32) / every) return m->opts.mock.eos % vocab;
    uint32_t t = (uint32_t)letters[h % 32] % vocab, index = end - slot->n_prompt;
    if (say) t = (index < strlen(say) ? (unsigned char)say[index] : m->opts.mock.eos) % vocab;
    for (uint32_t tries = 0; tries < vocab && !allowed(mask, t); tries++) t = (t + 1) % vocab;
    return t;
}

// One row through this shard's layers: states, one per token, are what the layer below said, then what the last one says.
static void run_row(struct mock *m, const struct slot_row *r, uint64_t *states) {
    for (uint32_t k = 0; k < r->q_len && is_first(m); k++) states[k] = r->tokens[k];
    for (uint32_t l = 0; l < n_layers(&m->opts); l++) {
        uint64_t h = r->pos == 0 ? 0 : *entry(m, l, r->slot, r->pos - 1);
        for (uint32_t k = 0; k < r->q_len; k++) *entry(m, l, r->slot, r->pos + k) = states[k] = h = mix(h, states[k]);
    }
    r->slot->length = r->pos + r->q_len;
}

static err_id run_forward(struct mock *m, struct step *step, struct error *e) {
    slots_apply(&m->slots, &step->plan);
    uint32_t bt = m->info.limits.block_tokens, at = 0;
    for (uint32_t i = 0; i < step->plan.head->n_copies; i++) {
        const struct plan_copy *c = &step->plan.copies[i];
        for (uint32_t l = 0; l < n_layers(&m->opts); l++) {
            uint64_t *blocks = m->cache + (size_t)l * m->info.limits.blocks * bt;
            memcpy(blocks + (size_t)c->dst * bt, blocks + (size_t)c->src * bt, bt * sizeof *blocks);
        }
    }
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) {
        struct slot_row *r = &m->resolved[step->place][i];
        TRY(slots_resolve(&m->slots, &step->plan, i, r, e));
        run_row(m, r, m->states[step->place] + at);
        at += r->q_len;
    }
    m->n_states[step->place] = at;
    step->forward_done = true;
    return ERR_NONE;
}

// OK: the step's forward is done and its time has come.
static enum engine_answer advance(struct mock *m, struct step *step, uint32_t wait_ms, struct error *e) {
    bool has_input = is_first(m) || step->has_hidden || step->plan.head->n_rows == 0;
    if (!step->forward_done && (!has_input || !steps_may_run(&m->steps, step))) return ENGINE_PENDING;
    enum engine_answer a = steps_wait(step, wait_ms, &m->aborted, e);
    if (a == ENGINE_OK && !step->forward_done && run_forward(m, step, e) != ERR_NONE) a = ENGINE_FAILED;
    return a;
}

// last: what the last layer says of the row's last token.
static void answer_row(struct mock *m, const struct step *step, uint32_t i, uint64_t last) {
    struct engine_row_result *out = &m->rows[i];
    const struct slot_row *r = &m->resolved[step->place][i];
    *out = (struct engine_row_result){.slot = step->plan.rows[i].slot};
    if (!plan_row_samples(&step->plan.rows[i])) return;
    uint32_t end = r->pos + r->q_len;
    struct engine_token *t = &out->tokens[0];
    if (has_head(m)) crash_if_told(m, r->slot);
    bool forced = step->forced[i] != ENGINE_NO_TOKEN;
    t->token = forced ? step->forced[i] : next_token(m, r->slot, end, last, step->masks[i]);
    t->logprob = -0.25f;
    t->n_top = r->slot->sampling.logprobs;
    for (uint32_t k = 0; k < t->n_top; k++) {
        t->top[k] = (struct engine_top){(t->token + k) % m->info.limits.vocab, -0.25f - (float)k};
    }
    out->n_tokens = 1;
    slots_accept(r->slot, end, t->token);
}

static err_id answer_step(struct mock *m, const struct step *step, struct error *e) {
    if (step_samples(step) && !step->sampled) return error_set(e, ERR_INTERNAL, "sample() was not called before result()");
    const uint64_t *states = m->states[step->place];
    for (uint32_t i = 0, at = 0; i < step->plan.head->n_rows; i++) {
        at += step->plan.rows[i].q_len;
        if (!has_head(m) && plan_row_samples(&step->plan.rows[i]) && step->forced[i] == ENGINE_NO_TOKEN)
            return error_set(e, ERR_INTERNAL, "a stage without the head was not told the last stage's tokens");
        answer_row(m, step, i, states[at - 1]);
    }
    return ERR_NONE;
}

static void retire(struct mock *m, const struct step *step) {
    for (uint32_t i = 0; i < step->plan.head->n_rows; i++) m->slots.slot[step->plan.rows[i].slot].in_flight--;
    steps_pop(&m->steps);
}

static enum engine_answer mock_result(struct engine *engine, uint64_t id, uint32_t wait_ms, struct engine_result *result,
                                      struct error *e) {
    struct mock *m = mock_of(engine);
    struct step *step = steps_first(&m->steps);
    if (step == NULL || step->plan.head->step != id) {
        error_set(e, ERR_INTERNAL, "step %llu is not the oldest in flight", (unsigned long long)id);
        return ENGINE_FAILED;
    }
    enum engine_answer a = advance(m, step, wait_ms, e);
    if (a == ENGINE_PENDING) return a;
    if (a == ENGINE_OK && answer_step(m, step, e) != ERR_NONE) a = ENGINE_FAILED;
    *result = (struct engine_result){.step = id, .n_rows = step->plan.head->n_rows, .rows = m->rows};
    result->elapsed_us = steps_elapsed_us(&m->steps, step);
    retire(m, step);
    return a;
}

// A state is a hash, carried as the floats whose bits it has.
static enum engine_answer mock_hidden_in(struct engine *engine, uint64_t id, const float *states, uint32_t tokens,
                                         struct error *e) {
    struct mock *m = mock_of(engine);
    struct step *step = steps_find(&m->steps, id);
    uint32_t expected = 0;
    for (uint32_t i = 0; step != NULL && i < step->plan.head->n_rows; i++) expected += step->plan.rows[i].q_len;
    if (step == NULL || step->has_hidden || is_first(m) || tokens != expected) {
        error_set(e, ERR_INTERNAL, "step %llu expects no hidden states, or another number", (unsigned long long)id);
        return ENGINE_FAILED;
    }
    if (tokens > 0) memcpy(m->states[step->place], states, (size_t)tokens * ENTRY_BYTES);
    step->has_hidden = true;
    set_pace(m, step, steps_now_us());
    return ENGINE_OK;
}

static enum engine_answer mock_hidden_out(struct engine *engine, uint64_t id, uint32_t wait_ms, const float **states,
                                          uint32_t *tokens, struct error *e) {
    struct mock *m = mock_of(engine);
    struct step *step = steps_find(&m->steps, id);
    if (step == NULL || has_head(m)) {
        error_set(e, ERR_INTERNAL, "step %llu is not in flight, or this is the last stage", (unsigned long long)id);
        return ENGINE_FAILED;
    }
    enum engine_answer a = advance(m, step, wait_ms, e);
    *states = (const float *)m->states[step->place];
    *tokens = m->n_states[step->place];
    return a;
}

// ---- moving KV entries ----

static void drain(struct mock *m) {
    struct engine_result dropped;
    struct step *step;
    while ((step = steps_first(&m->steps)) != NULL) {
        bool stuck = atomic_load(&m->aborted) || (step_samples(step) && !step->sampled);
        uint64_t id = step->plan.head->step;
        if (stuck || mock_result(&m->engine, id, 1000, &dropped, NULL) == ENGINE_PENDING) retire(m, step);
    }
}

static err_id check_idle(const struct mock *m, const struct engine_kv_span *span, struct error *e) {
    TRY(slots_check_span(&m->slots, span, e));
    if (m->slots.slot[span->slot].in_flight == 0) return ERR_NONE;
    return error_set(e, ERR_INTERNAL, "slot %u has unanswered rows", span->slot);
}

// [layer][token]: out of the cache into bytes, or the other way.
static void span_walk(struct mock *m, const struct engine_kv_span *span, uint8_t *bytes, bool out) {
    for (uint32_t l = 0; l < n_layers(&m->opts); l++) {
        for (uint32_t i = 0; i < span->count; i++, bytes += ENTRY_BYTES) {
            uint64_t *at = entry(m, l, &m->slots.slot[span->slot], span->first + i);
            memcpy(out ? (void *)bytes : at, out ? (void *)at : bytes, ENTRY_BYTES);
        }
    }
}

static err_id mock_kv_export(struct engine *engine, struct engine_kv_span span, void *bytes, engine_ticket *ticket,
                             struct error *e) {
    struct mock *m = mock_of(engine);
    TRY(check_idle(m, &span, e));
    span_walk(m, &span, bytes, true);
    m->ticket_hash = XXH3_64bits(bytes, m->info.kv_bytes_per_token * span.count);
    ticket->id = ++m->tickets;
    return ERR_NONE;
}

static err_id mock_kv_import(struct engine *engine, struct engine_kv_span span, const void *bytes, uint64_t hash,
                             engine_ticket *ticket, struct error *e) {
    struct mock *m = mock_of(engine);
    TRY(check_idle(m, &span, e));
    m->ticket_hash = XXH3_64bits(bytes, m->info.kv_bytes_per_token * span.count);
    if (m->ticket_hash != hash) return error_set(e, ERR_PROTOCOL, "the KV entries' hash differs from the one announced");
    span_walk(m, &span, (uint8_t *)bytes, false);
    ticket->id = ++m->tickets;
    return ERR_NONE;
}

static enum engine_answer mock_ticket_poll(struct engine *engine, engine_ticket ticket, uint64_t *hash, struct error *e) {
    *hash = mock_of(engine)->ticket_hash;
    return ENGINE_OK;
}
static void mock_ticket_cancel(struct engine *engine, engine_ticket ticket) {}

static uint32_t mock_step_rows(struct engine *engine, uint64_t id) {
    const struct step *step = steps_find(&mock_of(engine)->steps, id);
    return step == NULL ? 0 : step->plan.head->n_rows;
}

static uint32_t mock_step_cost_us(struct engine *engine, const struct engine_load *load) {
    uint32_t decodes = load->rows < load->tokens ? load->rows : load->tokens;
    return (uint32_t)step_us(mock_of(engine), load->tokens - decodes, decodes > 0);
}

static void mock_quiesce(struct engine *engine) {
    struct mock *m = mock_of(engine);
    drain(m);
    m->busy_until_us = 0;
    atomic_store(&m->aborted, false);
}

static void mock_abort(struct engine *engine) { atomic_store(&mock_of(engine)->aborted, true); }

static err_id mock_regroup(struct engine *engine, struct comm *comm, uint32_t epoch, struct error *e) {
    struct mock *m = mock_of(engine);
    if (m->steps.count > 0) return error_set(e, ERR_INTERNAL, "the engine has steps in flight");
    steps_restart(&m->steps);
    m->info.limits.group_epoch = epoch;
    return ERR_NONE;
}

const struct backend mock_backend = {
    .name = "mock",
    .probe = mock_probe,
    .mem_plan = mock_mem_plan,
    .create = mock_create,
    .load = mock_load,
    .warmup = mock_warmup,
    .fingerprint = mock_fingerprint,
    .info = mock_info,
    .slot_open = mock_slot_open,
    .slot_close = mock_slot_close,
    .submit = mock_submit,
    .sample = mock_sample,
    .result = mock_result,
    .hidden_in = mock_hidden_in,
    .hidden_out = mock_hidden_out,
    .kv_export = mock_kv_export,
    .kv_import = mock_kv_import,
    .ticket_poll = mock_ticket_poll,
    .ticket_cancel = mock_ticket_cancel,
    .step_rows = mock_step_rows,
    .step_cost_us = mock_step_cost_us,
    .quiesce = mock_quiesce,
    .abort = mock_abort,
    .regroup = mock_regroup,
    .destroy = mock_destroy,
};
