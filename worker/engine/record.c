// Design notes: the recorder is an engine whose operations write a frame and call the wrapped engine's. Only calls that
// succeeded are written, so that a replay never meets FULL or a refusal.
#include "worker/engine/record.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "worker/model/model.h"

struct recorder {
    struct engine engine; // first
    struct engine *inner;
    FILE *file;
};

static struct recorder *of(struct engine *engine) { return (struct recorder *)engine; }

// ---- writing ----

struct part {
    const void *bytes;
    size_t size;
};

static void write_frame(struct recorder *r, enum record_kind kind, const struct part *parts, size_t n) {
    static const uint8_t zeros[8];
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += parts[i].size;
    if (r->file == NULL || bytes > RECORD_FRAME_MAX) return;
    struct record_frame f = {kind, (uint32_t)bytes};
    bool ok = fwrite(&f, sizeof f, 1, r->file) == 1;
    for (size_t i = 0; i < n && ok; i++) ok = parts[i].size == 0 || fwrite(parts[i].bytes, parts[i].size, 1, r->file) == 1;
    size_t pad = (8 - bytes % 8) % 8;
    if (ok && pad > 0) ok = fwrite(zeros, pad, 1, r->file) == 1;
    if (ok) return;
    fclose(r->file);
    r->file = NULL;
}

static err_id record_slot_open(struct engine *engine, uint32_t slot, const struct engine_slot_params *p, struct error *e) {
    struct recorder *r = of(engine);
    TRY(r->inner->ops->slot_open(r->inner, slot, p, e));
    struct record_open o = {.slot = slot, .n_tokens = p->n_tokens, .n_prompt = p->n_prompt, .sampling = p->sampling};
    write_frame(r, RECORD_OPEN, (struct part[]){{&o, sizeof o}, {p->tokens, p->n_tokens * sizeof *p->tokens}}, 2);
    return ERR_NONE;
}

static void record_slot_close(struct engine *engine, uint32_t slot) {
    struct recorder *r = of(engine);
    write_frame(r, RECORD_CLOSE, &(struct part){&slot, sizeof slot}, 1);
    r->inner->ops->slot_close(r->inner, slot);
}

static enum engine_answer record_submit(struct engine *engine, const void *plan, size_t len, struct error *e) {
    struct recorder *r = of(engine);
    enum engine_answer a = r->inner->ops->submit(r->inner, plan, len, e);
    if (a == ENGINE_OK) write_frame(r, RECORD_PLAN, &(struct part){plan, len}, 1);
    return a;
}

// The rows of a step aren't known here, but PLAN frames carry them; forced and masks are as long as the plan's rows.
static enum engine_answer record_sample(struct engine *engine, uint64_t step, const uint32_t *const *masks,
                                        const uint32_t *forced, struct error *e) {
    struct recorder *r = of(engine);
    enum engine_answer a = r->inner->ops->sample(r->inner, step, masks, forced, e);
    if (a != ENGINE_OK || r->file == NULL) return a;
    const struct plan_limits *lim = &r->inner->ops->info(r->inner)->limits;
    uint32_t rows = forced == NULL && masks == NULL ? 0 : r->inner->ops->step_rows(r->inner, step), given = 0;
    struct record_sample s = {step, rows, (lim->vocab + 31) / 32};
    struct part *parts = xcalloc(rows + 3, sizeof *parts);
    uint32_t *words = xcalloc(2 * (size_t)rows + 1, sizeof *words);
    for (uint32_t i = 0; i < rows; i++) {
        words[i] = forced == NULL ? ENGINE_NO_TOKEN : forced[i];
        words[rows + i] = masks != NULL && masks[i] != NULL;
        if (words[rows + i]) parts[2 + given++] = (struct part){masks[i], s.mask_words * sizeof(uint32_t)};
    }
    parts[0] = (struct part){&s, sizeof s};
    parts[1] = (struct part){words, 2 * (size_t)rows * sizeof *words};
    write_frame(r, RECORD_SAMPLE, parts, 2 + given);
    free(words);
    free(parts);
    return a;
}

static enum engine_answer record_result_of(struct engine *engine, uint64_t step, uint32_t wait_ms,
                                           struct engine_result *result, struct error *e) {
    struct recorder *r = of(engine);
    enum engine_answer a = r->inner->ops->result(r->inner, step, wait_ms, result, e);
    if (a != ENGINE_OK || r->file == NULL) return a;
    struct record_result head = {step, result->n_rows, result->elapsed_us};
    struct record_row *rows = xcalloc(result->n_rows + 1, sizeof *rows);
    for (uint32_t i = 0; i < result->n_rows; i++) {
        const struct engine_row_result *x = &result->rows[i];
        rows[i] = (struct record_row){.slot = x->slot, .n_tokens = x->n_tokens, .numeric_error = x->numeric_error};
        if (x->n_tokens > 0) {
            rows[i].token = x->tokens[0].token;
            rows[i].logprob = x->tokens[0].logprob;
        }
    }
    write_frame(r, RECORD_RESULT, (struct part[]){{&head, sizeof head}, {rows, result->n_rows * sizeof *rows}}, 2);
    free(rows);
    if (r->file != NULL) fflush(r->file); // a killed process leaves whole steps
    return a;
}

static err_id record_kv_import(struct engine *engine, struct engine_kv_span span, const void *bytes, uint64_t hash,
                               engine_ticket *ticket, struct error *e) {
    struct recorder *r = of(engine);
    TRY(r->inner->ops->kv_import(r->inner, span, bytes, hash, ticket, e));
    struct record_import head = {.span = span, .hash = hash};
    size_t size = r->inner->ops->info(r->inner)->kv_bytes_per_token * span.count;
    write_frame(r, RECORD_IMPORT, (struct part[]){{&head, sizeof head}, {bytes, size}}, 2);
    return ERR_NONE;
}

// ---- passing on ----

static err_id pass_probe(struct engine_device *device, struct error *e) {
    return error_set(e, ERR_UNSUPPORTED, "a recorder is no device");
}
static err_id pass_mem_plan(const struct engine_opts *opts, struct engine_mem *mem, struct error *e) {
    return error_set(e, ERR_UNSUPPORTED, "a recorder is no device");
}
static err_id pass_create(const struct engine_opts *opts, struct comm *comm, struct engine **engine, struct error *e) {
    return error_set(e, ERR_UNSUPPORTED, "a recorder is no device");
}
static err_id pass_load(struct engine *engine, engine_load_fn *progress, void *context, struct error *e) {
    return of(engine)->inner->ops->load(of(engine)->inner, progress, context, e);
}
static err_id pass_warmup(struct engine *engine, struct error *e) {
    return of(engine)->inner->ops->warmup(of(engine)->inner, e);
}
static void pass_fingerprint(struct engine *engine, char text[ENGINE_FINGERPRINT_MAX]) {
    of(engine)->inner->ops->fingerprint(of(engine)->inner, text);
}
static const struct engine_info *pass_info(struct engine *engine) { return of(engine)->inner->ops->info(of(engine)->inner); }
static enum engine_answer pass_hidden_in(struct engine *engine, uint64_t step, const float *states, uint32_t tokens,
                                         struct error *e) {
    return of(engine)->inner->ops->hidden_in(of(engine)->inner, step, states, tokens, e);
}
static enum engine_answer pass_hidden_out(struct engine *engine, uint64_t step, uint32_t wait_ms, const float **states,
                                          uint32_t *tokens, struct error *e) {
    return of(engine)->inner->ops->hidden_out(of(engine)->inner, step, wait_ms, states, tokens, e);
}
static err_id pass_kv_export(struct engine *engine, struct engine_kv_span span, void *bytes, engine_ticket *ticket,
                             struct error *e) {
    return of(engine)->inner->ops->kv_export(of(engine)->inner, span, bytes, ticket, e);
}
static enum engine_answer pass_ticket_poll(struct engine *engine, engine_ticket ticket, uint64_t *hash, struct error *e) {
    return of(engine)->inner->ops->ticket_poll(of(engine)->inner, ticket, hash, e);
}
static void pass_ticket_cancel(struct engine *engine, engine_ticket ticket) {
    of(engine)->inner->ops->ticket_cancel(of(engine)->inner, ticket);
}
static uint32_t pass_step_rows(struct engine *engine, uint64_t step) {
    return of(engine)->inner->ops->step_rows(of(engine)->inner, step);
}
static uint32_t pass_step_cost_us(struct engine *engine, const struct engine_load *load) {
    return of(engine)->inner->ops->step_cost_us(of(engine)->inner, load);
}
static void pass_quiesce(struct engine *engine) { of(engine)->inner->ops->quiesce(of(engine)->inner); }
static void pass_abort(struct engine *engine) { of(engine)->inner->ops->abort(of(engine)->inner); }
static err_id pass_regroup(struct engine *engine, struct comm *comm, uint32_t epoch, struct error *e) {
    return of(engine)->inner->ops->regroup(of(engine)->inner, comm, epoch, e);
}

static void record_destroy(struct engine **engine) {
    if (*engine == NULL) return;
    struct recorder *r = of(*engine);
    if (r->file != NULL) fclose(r->file);
    r->inner->ops->destroy(&r->inner);
    free(r);
    *engine = NULL;
}

static const struct backend record_backend = {
    .name = "record",
    .probe = pass_probe,
    .mem_plan = pass_mem_plan,
    .create = pass_create,
    .load = pass_load,
    .warmup = pass_warmup,
    .fingerprint = pass_fingerprint,
    .info = pass_info,
    .slot_open = record_slot_open,
    .slot_close = record_slot_close,
    .submit = record_submit,
    .sample = record_sample,
    .result = record_result_of,
    .hidden_in = pass_hidden_in,
    .hidden_out = pass_hidden_out,
    .kv_export = pass_kv_export,
    .kv_import = record_kv_import,
    .ticket_poll = pass_ticket_poll,
    .ticket_cancel = pass_ticket_cancel,
    .step_rows = pass_step_rows,
    .step_cost_us = pass_step_cost_us,
    .quiesce = pass_quiesce,
    .abort = pass_abort,
    .regroup = pass_regroup,
    .destroy = record_destroy,
};

err_id record_wrap(struct engine **engine, const struct engine_opts *opts, const char *path, struct error *e) {
    const struct engine_info *info = (*engine)->ops->info(*engine);
    struct record_head h = {.magic = "SHOALRE", .version = RECORD_VERSION, .head_bytes = sizeof h, .mock = opts->mock};
    h.magic[7] = 'C';
    snprintf(h.device, sizeof h.device, "%s", (*engine)->ops->name);
    snprintf(h.model, sizeof h.model, "%s", opts->model == NULL ? "" : model_folder(opts->model));
    (*engine)->ops->fingerprint(*engine, h.fingerprint);
    h.slots = info->limits.slots;
    h.rows = info->limits.caps.rows;
    h.batch_tokens = info->limits.batch_tokens;
    h.context = info->limits.context;
    h.block_tokens = info->limits.block_tokens;
    h.blocks = info->limits.blocks;
    h.layer_first = info->layer_first;
    h.layer_end = info->layer_end;
    h.kv_bytes = info->mem.kv_bytes;
    h.quant = opts->quant;
    h.numeric = opts->numeric;
    FILE *file = fopen(path, "wbxe");
    if (file == NULL)
        return error_set(e, ERR_SYSTEM, "the recording %.300s can't be created (it must not exist yet): %m", path);
    if (fwrite(&h, sizeof h, 1, file) != 1) {
        fclose(file);
        return error_set(e, ERR_SYSTEM, "the recording %.300s can't be written: %m", path);
    }
    struct recorder *r = xcalloc(1, sizeof *r);
    *r = (struct recorder){{&record_backend}, *engine, file};
    *engine = &r->engine;
    return ERR_NONE;
}
