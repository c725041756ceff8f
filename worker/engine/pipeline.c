// Design notes. A step runs in result(): hidden states are carried from stage to stage, the last one samples, and then the
// others are answered with its tokens. A row whose logits are no numbers has no token; the others are told token 0, because
// the sequence ends anyway.
#include "worker/engine/pipeline.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "common/base/check.h"

struct pipeline {
    struct engine engine; // first
    uint32_t stages;
    struct engine *stage[PIPELINE_STAGES_MAX];
    struct engine_info info;
    uint32_t *forced; // [rows]
    uint64_t carried; // the newest step whose states have reached the last stage
    uint64_t tickets, ticket_hash;
    engine_load_fn *progress;
    void *progress_context;
    struct engine_load_progress loaded;
};

static struct pipeline *pipeline_of(struct engine *engine) { return (struct pipeline *)engine; }
static struct engine *last_stage(const struct pipeline *p) { return p->stage[p->stages - 1]; }

// ---- life ----

static void destroy(struct engine **engine) {
    if (*engine == NULL) return;
    struct pipeline *p = pipeline_of(*engine);
    for (uint32_t s = 0; s < p->stages; s++)
        if (p->stage[s] != NULL) p->stage[s]->ops->destroy(&p->stage[s]);
    free(p->forced);
    free(p);
    *engine = NULL;
}

static bool on_progress(void *context, struct engine_load_progress progress) {
    struct pipeline *p = context;
    progress.bytes_done += p->loaded.bytes_done;
    progress.bytes_total += p->loaded.bytes_done;
    return p->progress == NULL || p->progress(p->progress_context, progress);
}

static err_id load(struct engine *engine, engine_load_fn *progress, void *context, struct error *e) {
    struct pipeline *p = pipeline_of(engine);
    p->progress = progress;
    p->progress_context = context;
    p->loaded = (struct engine_load_progress){0};
    for (uint32_t s = 0; s < p->stages; s++) {
        TRY(p->stage[s]->ops->load(p->stage[s], on_progress, p, e));
        p->loaded.bytes_done += p->stage[s]->ops->info(p->stage[s])->mem.weights_bytes;
    }
    return ERR_NONE;
}

static err_id warmup(struct engine *engine, struct error *e) {
    struct pipeline *p = pipeline_of(engine);
    for (uint32_t s = 0; s < p->stages; s++) TRY(p->stage[s]->ops->warmup(p->stage[s], e));
    return ERR_NONE;
}

static void fingerprint(struct engine *engine, char text[ENGINE_FINGERPRINT_MAX]) {
    struct engine *first = pipeline_of(engine)->stage[0];
    first->ops->fingerprint(first, text);
}

static const struct engine_info *info(struct engine *engine) { return &pipeline_of(engine)->info; }

static err_id slot_open(struct engine *engine, uint32_t slot, const struct engine_slot_params *params, struct error *e) {
    struct pipeline *p = pipeline_of(engine);
    for (uint32_t s = 0; s < p->stages; s++) TRY(p->stage[s]->ops->slot_open(p->stage[s], slot, params, e));
    return ERR_NONE;
}

static void slot_close(struct engine *engine, uint32_t slot) {
    struct pipeline *p = pipeline_of(engine);
    for (uint32_t s = 0; s < p->stages; s++) p->stage[s]->ops->slot_close(p->stage[s], slot);
}

// ---- steps ----

static enum engine_answer submit(struct engine *engine, const void *plan, size_t len, struct error *e) {
    struct pipeline *p = pipeline_of(engine);
    enum engine_answer a = p->stage[0]->ops->submit(p->stage[0], plan, len, e);
    for (uint32_t s = 1; s < p->stages && a == ENGINE_OK; s++) a = p->stage[s]->ops->submit(p->stage[s], plan, len, e);
    return a;
}

static enum engine_answer sample(struct engine *engine, uint64_t step, const uint32_t *const *masks, const uint32_t *forced,
                                 struct error *e) {
    struct engine *last = last_stage(pipeline_of(engine));
    return last->ops->sample(last, step, masks, forced, e);
}

// Hidden states of the step from the first stage to the last.
static enum engine_answer run_stages(struct pipeline *p, uint64_t step, struct error *e) {
    for (uint32_t s = 0; s + 1 < p->stages; s++) {
        const float *states;
        uint32_t n;
        enum engine_answer a;
        while ((a = p->stage[s]->ops->hidden_out(p->stage[s], step, 1000, &states, &n, e)) == ENGINE_PENDING) {
        }
        if (a == ENGINE_OK) a = p->stage[s + 1]->ops->hidden_in(p->stage[s + 1], step, states, n, e);
        if (a != ENGINE_OK) return a;
    }
    return ENGINE_OK;
}

static enum engine_answer answer_stages(struct pipeline *p, const struct engine_result *result, struct error *e) {
    for (uint32_t i = 0; i < result->n_rows; i++)
        p->forced[i] = result->rows[i].n_tokens > 0 ? result->rows[i].tokens[0].token : 0;
    for (uint32_t s = 0; s + 1 < p->stages; s++) {
        const struct backend *ops = p->stage[s]->ops;
        struct engine_result ignored;
        enum engine_answer a = ops->sample(p->stage[s], result->step, NULL, p->forced, e);
        while (a == ENGINE_OK && (a = ops->result(p->stage[s], result->step, 1000, &ignored, e)) == ENGINE_PENDING)
            a = ENGINE_OK;
        if (a != ENGINE_OK) return a;
    }
    return ENGINE_OK;
}

static enum engine_answer result_of(struct engine *engine, uint64_t step, uint32_t wait_ms, struct engine_result *result,
                                    struct error *e) {
    struct pipeline *p = pipeline_of(engine);
    struct engine *last = last_stage(p);
    if (p->carried != step) {
        enum engine_answer carried = run_stages(p, step, e);
        if (carried != ENGINE_OK) return carried;
        p->carried = step;
    }
    enum engine_answer a = last->ops->result(last, step, wait_ms, result, e);
    if (a == ENGINE_OK) a = answer_stages(p, result, e);
    return a;
}

static enum engine_answer hidden_in(struct engine *engine, uint64_t step, const float *states, uint32_t tokens,
                                    struct error *e) {
    error_set(e, ERR_INTERNAL, "a whole pipeline takes no hidden states");
    return ENGINE_FAILED;
}

static enum engine_answer hidden_out(struct engine *engine, uint64_t step, uint32_t wait_ms, const float **states,
                                     uint32_t *tokens, struct error *e) {
    error_set(e, ERR_INTERNAL, "a whole pipeline gives no hidden states");
    return ENGINE_FAILED;
}

// ---- moving KV entries: the stages' parts lie behind each other, as the layers do ----

static err_id kv_export(struct engine *engine, struct engine_kv_span span, void *bytes, engine_ticket *ticket,
                        struct error *e) {
    struct pipeline *p = pipeline_of(engine);
    uint8_t *to = bytes;
    for (uint32_t s = 0; s < p->stages; s++) {
        engine_ticket part;
        TRY(p->stage[s]->ops->kv_export(p->stage[s], span, to, &part, e));
        to += p->stage[s]->ops->info(p->stage[s])->kv_bytes_per_token * span.count;
    }
    p->ticket_hash = XXH3_64bits(bytes, p->info.kv_bytes_per_token * span.count);
    ticket->id = ++p->tickets;
    return ERR_NONE;
}

static err_id kv_import(struct engine *engine, struct engine_kv_span span, const void *bytes, uint64_t hash,
                        engine_ticket *ticket, struct error *e) {
    struct pipeline *p = pipeline_of(engine);
    const uint8_t *from = bytes;
    p->ticket_hash = XXH3_64bits(bytes, p->info.kv_bytes_per_token * span.count);
    if (p->ticket_hash != hash) return error_set(e, ERR_PROTOCOL, "the KV entries' hash differs from the one announced");
    for (uint32_t s = 0; s < p->stages; s++) {
        size_t size = p->stage[s]->ops->info(p->stage[s])->kv_bytes_per_token * span.count;
        engine_ticket part;
        TRY(p->stage[s]->ops->kv_import(p->stage[s], span, from, XXH3_64bits(from, size), &part, e));
        from += size;
    }
    ticket->id = ++p->tickets;
    return ERR_NONE;
}

static enum engine_answer ticket_poll(struct engine *engine, engine_ticket ticket, uint64_t *hash, struct error *e) {
    *hash = pipeline_of(engine)->ticket_hash;
    return ENGINE_OK;
}
static void ticket_cancel(struct engine *engine, engine_ticket ticket) {}

// ---- the rest ----

static uint32_t step_rows(struct engine *engine, uint64_t step) {
    struct engine *last = last_stage(pipeline_of(engine));
    return last->ops->step_rows(last, step);
}

static uint32_t step_cost_us(struct engine *engine, const struct engine_load *work) {
    struct pipeline *p = pipeline_of(engine);
    uint64_t us = 0;
    for (uint32_t s = 0; s < p->stages; s++) us += p->stage[s]->ops->step_cost_us(p->stage[s], work);
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static void quiesce(struct engine *engine) {
    struct pipeline *p = pipeline_of(engine);
    for (uint32_t s = 0; s < p->stages; s++) p->stage[s]->ops->quiesce(p->stage[s]);
}

static void abort_all(struct engine *engine) {
    struct pipeline *p = pipeline_of(engine);
    for (uint32_t s = 0; s < p->stages; s++) p->stage[s]->ops->abort(p->stage[s]);
}

static err_id regroup(struct engine *engine, struct comm *comm, uint32_t epoch, struct error *e) {
    struct pipeline *p = pipeline_of(engine);
    for (uint32_t s = 0; s < p->stages; s++) TRY(p->stage[s]->ops->regroup(p->stage[s], NULL, epoch, e));
    p->info.limits.group_epoch = epoch;
    return ERR_NONE;
}

static const struct backend pipeline_backend = {
    .name = "pipeline",
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
    .abort = abort_all,
    .regroup = regroup,
    .destroy = destroy,
};

// ---- creation ----

// Every stage has the blocks that the one with the least room has: a block id means the same tokens on all of them.
static err_id share_blocks(const struct pipeline_opts *o, struct engine_opts stage[], struct error *e) {
    uint32_t blocks = UINT32_MAX;
    uint64_t block_bytes[PIPELINE_STAGES_MAX], layers = o->bounds[o->stages];
    for (uint32_t s = 0; s < o->stages; s++) {
        struct engine_mem mem;
        stage[s] = o->engine;
        stage[s].layer_first = o->bounds[s];
        stage[s].layer_end = o->bounds[s + 1];
        stage[s].kv_bytes = o->engine.kv_bytes * (o->bounds[s + 1] - o->bounds[s]) / layers;
        TRY(o->backend->mem_plan(&stage[s], &mem, e));
        if (mem.blocks < blocks) blocks = mem.blocks;
        block_bytes[s] = mem.kv_bytes / mem.blocks;
    }
    for (uint32_t s = 0; s < o->stages; s++) stage[s].kv_bytes = blocks * block_bytes[s];
    return ERR_NONE;
}

static void add_info(struct pipeline *p, const struct engine_info *stage) {
    p->info.layer_end = stage->layer_end;
    p->info.kv_bytes_per_token += stage->kv_bytes_per_token;
    p->info.logits = stage->logits;
    p->info.modes = stage->modes;
    p->info.mem.weights_bytes += stage->mem.weights_bytes;
    p->info.mem.kv_bytes += stage->mem.kv_bytes;
    p->info.mem.workspace_bytes += stage->mem.workspace_bytes;
    p->info.mem.kv_bytes_per_token += stage->mem.kv_bytes_per_token;
}

err_id pipeline_create(const struct pipeline_opts *o, struct engine **engine, struct error *e) {
    struct engine_opts opts[PIPELINE_STAGES_MAX];
    CHECK(o->stages >= 1 && o->stages <= PIPELINE_STAGES_MAX);
    TRY(share_blocks(o, opts, e));
    struct pipeline *p = xcalloc(1, sizeof *p);
    p->engine.ops = &pipeline_backend;
    for (; p->stages < o->stages; p->stages++) {
        struct engine **stage = &p->stage[p->stages];
        if (o->backend->create(&opts[p->stages], NULL, stage, e) != ERR_NONE) {
            *engine = &p->engine;
            destroy(engine);
            return e->id;
        }
        if (p->stages == 0) p->info = *o->backend->info(*stage);
        if (p->stages > 0) add_info(p, o->backend->info(*stage));
    }
    p->forced = xcalloc(p->info.limits.caps.rows, sizeof *p->forced);
    *engine = &p->engine;
    return ERR_NONE;
}
