#include "worker/model_cli/runner.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "common/sys/progress_bar.h"
#include "worker/engine/pipeline.h"
#include "worker/engine/table.h"
#include "worker/model/quant.h"
#include "worker/model/split.h"

enum { CHUNK = 128, TOKENS_MAX = 1 << 20 };

static err_id create_engine(struct runner *r, const struct backend *backend, const struct engine_opts *opts,
                            const char *parallel, struct error *e) {
    uint32_t bounds[SPLIT_STAGES_MAX + 1];
    struct pipeline_opts p = {.backend = backend, .engine = *opts, .stages = 1, .bounds = bounds};
    if (parallel != NULL) TRY(split_parse(parallel, &p.stages, e));
    if (p.stages == 1) return backend->create(opts, NULL, &r->engine, e);
    struct layer_costs costs;
    split_costs(model_spec(r->model), &costs);
    TRY(split_layers(&costs, p.stages, bounds, e));
    return pipeline_create(&p, &r->engine, e);
}

static bool on_progress(void *context, struct engine_load_progress p) {
    progress_bar_update(context, p.bytes_done, p.bytes_total);
    return true;
}

static err_id open_engine(struct runner *r, const struct runner_options *o, uint32_t n_tokens, struct error *e) {
    const struct backend *backend;
    TRY(backend_find(o->device, &backend, e));
    uint32_t context = model_spec(r->model)->context;
    if (o->context > 0) context = o->context;
    if (n_tokens > context) {
        return error_set(e, ERR_CONTEXT_LENGTH,
                         "the prompt and what is to be generated have %u tokens, the context holds %u", n_tokens, context);
    }
    r->chunk = o->chunk > 0 ? o->chunk : CHUNK;
    struct engine_opts opts = {.model = r->model, .threads = o->threads, .slots = 1, .rows = 1, .show_logits = true};
    opts.context = n_tokens;
    enum quant quant;
    TRY(quant_parse(o->quant, &quant, e));
    TRY(engine_isa_parse(o->isa, &opts.isa, e));
    TRY(engine_numeric_parse(o->numeric, &opts.numeric, e));
    opts.quant = quant;
    opts.batch_tokens = r->chunk;
    TRY(create_engine(r, backend, &opts, o->parallel, e));
    struct progress_bar bar;
    progress_bar_init(&bar, stderr, "loading");
    err_id id = r->engine->ops->load(r->engine, on_progress, &bar, e);
    progress_bar_end(&bar);
    if (id != ERR_NONE) return id;
    r->info = r->engine->ops->info(r->engine);
    size_t bytes = (plan_bytes_max(&r->info->limits.caps) + 63) / 64 * 64;
    r->buffer = aligned_alloc(64, bytes);
    CHECK(r->buffer != NULL);
    return ERR_NONE;
}

err_id runner_open(struct runner *r, const struct runner_options *o, uint32_t n_tokens, struct error *e) {
    *r = (struct runner){0};
    err_id id = model_open(o->model, &r->model, e);
    if (id == ERR_NONE) id = open_engine(r, o, n_tokens, e);
    if (id != ERR_NONE) runner_close(r);
    return id;
}

void runner_close(struct runner *r) {
    if (r->engine != NULL) r->engine->ops->destroy(&r->engine);
    model_close(&r->model);
    free(r->buffer);
    r->buffer = NULL;
}

// tokens NULL: one row of one token from the device. end: positions after the step.
static err_id run(struct runner *r, const uint32_t *tokens, uint32_t n, uint32_t pos, enum plan_logits logits,
                  struct engine_result *result, struct error *e) {
    struct plan_builder b;
    plan_builder_init(&b, r->buffer, &r->info->limits.caps, ++r->step);
    struct plan_row row = {.q_len = n, .pos = pos, .token_off = PLAN_TOKEN_DEVICE, .adapter = PLAN_NO_ADAPTER};
    row.logits = logits;
    bool fits = tokens == NULL || plan_builder_tokens(&b, tokens, n, &row.token_off);
    uint32_t end = pos == PLAN_POS_DEVICE ? r->info->limits.context : pos + n;
    for (; fits && r->mapped * r->info->limits.block_tokens < end; r->mapped++) {
        fits = plan_builder_delta(&b, 0, r->mapped, r->mapped);
    }
    CHECK(fits && plan_builder_row(&b, &row));
    size_t len = plan_builder_finish(&b);
    const struct backend *ops = r->engine->ops;
    enum engine_answer a = ops->submit(r->engine, r->buffer, len, e);
    if (a == ENGINE_OK) a = ops->sample(r->engine, r->step, NULL, NULL, e);
    if (a == ENGINE_OK) {
        while ((a = ops->result(r->engine, r->step, 1000, result, e)) == ENGINE_PENDING) {
        }
    }
    if (a != ENGINE_OK) return e->id;
    if (result->rows[0].numeric_error) return error_set(e, ERR_NUMERIC, "the model's logits are not numbers");
    return ERR_NONE;
}

err_id runner_prompt(struct runner *r, const uint32_t *tokens, uint32_t n, const struct sampling_params *sampling,
                     struct engine_result *result, struct error *e) {
    struct engine_slot_params p = {.sampling = *sampling, .tokens = tokens, .n_tokens = n, .n_prompt = n};
    TRY(r->engine->ops->slot_open(r->engine, 0, &p, e));
    for (uint32_t at = 0; at < n; at += r->chunk) {
        uint32_t size = n - at < r->chunk ? n - at : r->chunk;
        TRY(run(r, tokens + at, size, at, at + size == n ? PLAN_LOGITS_LAST : PLAN_LOGITS_NONE, result, e));
    }
    return ERR_NONE;
}

err_id runner_prompt_all(struct runner *r, const uint32_t *tokens, uint32_t n, runner_logits_fn *fn, void *context,
                         struct error *e) {
    struct engine_slot_params p = {.tokens = tokens, .n_tokens = n, .n_prompt = n};
    struct engine_result result;
    sampling_params_default(&p.sampling);
    if (!(r->info->modes >> PLAN_LOGITS_ALL & 1))
        return error_set(e, ERR_UNSUPPORTED, "this device gives no logits after every token");
    TRY(r->engine->ops->slot_open(r->engine, 0, &p, e));
    uint32_t chunk = r->chunk < r->info->logits ? r->chunk : r->info->logits;
    for (uint32_t at = 0; at < n; at += chunk) {
        uint32_t size = n - at < chunk ? n - at : chunk;
        TRY(run(r, tokens + at, size, at, PLAN_LOGITS_ALL, &result, e));
        if (result.rows[0].logits == NULL) return error_set(e, ERR_UNSUPPORTED, "this device gives no logits");
        fn(context, at, size, result.rows[0].logits);
    }
    return ERR_NONE;
}

err_id runner_next(struct runner *r, struct engine_result *result, struct error *e) {
    return run(r, NULL, 1, PLAN_POS_DEVICE, PLAN_LOGITS_LAST, result, e);
}

err_id runner_parse_tokens(const char *text, uint32_t **tokens, uint32_t *n, struct error *e) {
    uint32_t count = 1;
    for (const char *p = text; *p != '\0'; p++) count += *p == ',';
    if (count > TOKENS_MAX) return error_set(e, ERR_INVALID_ARGUMENT, "--tokens has more than %d token ids", TOKENS_MAX);
    uint32_t *out = xmalloc(count * sizeof *out);
    const char *p = text;
    for (uint32_t i = 0; i < count; i++) {
        char *end;
        bool digit = *p >= '0' && *p <= '9';
        unsigned long long v = digit ? strtoull(p, &end, 10) : UINT64_MAX;
        if (!digit || v > INT32_MAX || *end != (i + 1 == count ? '\0' : ',')) {
            free(out);
            return error_set(e, ERR_INVALID_ARGUMENT, "--tokens must be token ids with commas between them, like 1,2,3");
        }
        out[i] = (uint32_t)v;
        p = end + 1;
    }
    *tokens = out;
    *n = count;
    return ERR_NONE;
}

int runner_fail(const char *name, const struct error *e) {
    fprintf(stderr, "shoal-model %s: %s\n", name, error_text(e));
    return 2;
}
