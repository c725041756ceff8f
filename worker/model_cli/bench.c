// shoal-model bench: how fast an engine prefills and decodes, by batch, and what it moved for that.
//
// Bytes of a decode step: the shard's weights without the embedding table (once a step, whatever the batch; of a mixture of
// experts that is more than is touched), and the KV entries that its rows attend to. One step is planned ahead, as a worker
// does.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "common/sys/flags.h"
#include "worker/engine/steps.h"
#include "worker/engine/table.h"
#include "worker/model_cli/commands.h"
#include "worker/model_cli/runner.h"

enum { BATCH_DEFAULT_CONTEXT = 1024, TOKENS_DEFAULT = 64, CHUNK_DEFAULT = 2048, AHEAD = 1 };

struct bench {
    const char *model_path, *device, *batches;
    uint32_t context, tokens, chunk;
    bool deterministic;
    struct model *model;
    struct engine *engine;
    const struct engine_info *info;
    void *buffer;
    struct plan_builder builder;
    uint64_t step;
    uint32_t indexes, *mapped, *length; // blocks of a sequence; per slot
};

static enum flags_next parse(int argc, char **argv, struct bench *b) {
    const struct flag flags[] = {
        {.name = "model",
         .kind = FLAG_STRING,
         .target = &b->model_path,
         .value = "DIR",
         .help = "Hugging Face model folder, or a GGUF file",
         .required = true},
        {.name = "device", .kind = FLAG_STRING, .target = &b->device, .value = "NAME", .help = "what computes"},
        {.name = "batch",
         .kind = FLAG_STRING,
         .target = &b->batches,
         .value = "1,16,64",
         .help = "sequences that decode together"},
        {.name = "context",
         .kind = FLAG_U32,
         .target = &b->context,
         .value = "N",
         .help = "tokens of each prompt",
         .min = 1,
         .max = 1 << 20},
        {.name = "tokens",
         .kind = FLAG_U32,
         .target = &b->tokens,
         .value = "N",
         .help = "tokens decoded after it",
         .min = 2,
         .max = 1 << 16},
        {.name = "chunk",
         .kind = FLAG_U32,
         .target = &b->chunk,
         .value = "N",
         .help = "prompt tokens per step",
         .min = 1,
         .max = 1 << 15},
        {.name = "deterministic",
         .kind = FLAG_BOOL,
         .target = &b->deterministic,
         .help = "cuda: bits that depend on no batch or chunking"},
    };
    const struct flag_spec spec = {
        .program = "shoal-model bench",
        .summary = "Prints a JSON line for loading, and for prefill and decoding with each batch.",
        .examples = "  shoal-model bench --model DIR --device cuda --batch 1,64 --context 1000 --tokens 128\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    return flags_parse(&spec, argc, argv, NULL);
}

static err_id open_engine(struct bench *b, uint32_t slots, struct error *e) {
    const struct backend *backend;
    struct engine_opts opts = {.slots = slots, .rows = slots, .batch_tokens = b->chunk > slots ? b->chunk : slots};
    opts.context = b->context + b->tokens + 1;
    opts.deterministic = b->deterministic;
    TRY(backend_find(b->device, &backend, e));
    TRY(model_open(b->model_path, &b->model, e));
    opts.model = b->model;
    TRY(backend->create(&opts, NULL, &b->engine, e));
    uint64_t start = steps_now_us();
    TRY(backend->load(b->engine, NULL, NULL, e));
    double load_s = (double)(steps_now_us() - start) / 1e6;
    start = steps_now_us();
    TRY(backend->warmup(b->engine, e));
    b->info = backend->info(b->engine);
    printf("{\"phase\":\"load\",\"weights_bytes\":%llu,\"seconds\":%.3f,\"gb_s\":%.2f,\"warmup_s\":%.3f}\n",
           (unsigned long long)b->info->mem.weights_bytes, load_s, (double)b->info->mem.weights_bytes / load_s / 1e9,
           (double)(steps_now_us() - start) / 1e6);
    b->buffer = aligned_alloc(64, (plan_bytes_max(&b->info->limits.caps) + 63) / 64 * 64);
    CHECK(b->buffer != NULL);
    b->indexes = (opts.context + b->info->limits.block_tokens - 1) / b->info->limits.block_tokens;
    b->mapped = xcalloc(slots, sizeof *b->mapped);
    b->length = xcalloc(slots, sizeof *b->length);
    if ((uint64_t)slots * b->indexes <= b->info->limits.blocks) return ERR_NONE;
    return error_set(e, ERR_CONFIG, "%u sequences of %u tokens don't fit this device's KV memory", slots, opts.context);
}

static void begin(struct bench *b) { plan_builder_init(&b->builder, b->buffer, &b->info->limits.caps, ++b->step); }

// tokens NULL: one from the device.
static void add_row(struct bench *b, uint32_t slot, const uint32_t *tokens, uint32_t n, enum plan_logits logits) {
    struct plan_row row = {.slot = slot, .q_len = n, .pos = b->length[slot], .adapter = PLAN_NO_ADAPTER, .logits = logits};
    row.token_off = PLAN_TOKEN_DEVICE;
    bool fits = tokens == NULL || plan_builder_tokens(&b->builder, tokens, n, &row.token_off);
    if (tokens == NULL) row.pos = PLAN_POS_DEVICE;
    b->length[slot] += n;
    for (; fits && b->mapped[slot] * b->info->limits.block_tokens < b->length[slot]; b->mapped[slot]++) {
        fits = plan_builder_delta(&b->builder, slot, b->mapped[slot], slot * b->indexes + b->mapped[slot]);
    }
    CHECK(fits && plan_builder_row(&b->builder, &row));
}

static err_id submit(struct bench *b, struct error *e) {
    size_t len = plan_builder_finish(&b->builder);
    enum engine_answer a = b->engine->ops->submit(b->engine, b->buffer, len, e);
    if (a == ENGINE_OK) a = b->engine->ops->sample(b->engine, b->step, NULL, NULL, e);
    return a == ENGINE_OK ? ERR_NONE : a == ENGINE_FULL ? error_set(e, ERR_INTERNAL, "the engine is full") : e->id;
}

static err_id take(struct bench *b, uint64_t step, struct error *e) {
    struct engine_result r;
    enum engine_answer a;
    while ((a = b->engine->ops->result(b->engine, step, 1000, &r, e)) == ENGINE_PENDING) {
    }
    if (a != ENGINE_OK) return e->id;
    for (uint32_t i = 0; i < r.n_rows; i++) {
        if (r.rows[i].numeric_error) return error_set(e, ERR_NUMERIC, "the model's logits are not numbers");
    }
    return ERR_NONE;
}

// Microseconds for all prompts.
static err_id prefill(struct bench *b, uint32_t batch, const uint32_t *prompt, double *us, struct error *e) {
    struct engine_slot_params p = {.tokens = prompt, .n_tokens = b->context, .n_prompt = b->context};
    sampling_params_default(&p.sampling);
    p.sampling.temperature = 0;
    for (uint32_t s = 0; s < batch; s++) {
        TRY(b->engine->ops->slot_open(b->engine, s, &p, e));
        b->mapped[s] = b->length[s] = 0;
    }
    uint64_t start = steps_now_us(), first = b->step + 1;
    for (uint32_t s = 0, at = 0; s < batch;) { // steps are filled up with as many sequences as go in
        begin(b);
        for (uint32_t room = b->chunk; room > 0 && s < batch;) {
            uint32_t n = b->context - at < room ? b->context - at : room;
            bool ends = at + n == b->context;
            add_row(b, s, prompt + at, n, ends ? PLAN_LOGITS_LAST : PLAN_LOGITS_NONE);
            room -= n;
            at = ends ? 0 : at + n;
            s += ends;
        }
        TRY(submit(b, e));
        if (b->step >= first + AHEAD) TRY(take(b, b->step - AHEAD, e));
    }
    for (uint64_t step = b->step >= first + AHEAD ? b->step - AHEAD + 1 : first; step <= b->step; step++)
        TRY(take(b, step, e));
    *us = (double)(steps_now_us() - start);
    return ERR_NONE;
}

static err_id decode(struct bench *b, uint32_t batch, double *us, struct error *e) {
    uint64_t start = steps_now_us(), first = b->step + 1;
    for (uint32_t i = 0; i + 1 < b->tokens; i++) {
        begin(b);
        for (uint32_t s = 0; s < batch; s++) add_row(b, s, NULL, 1, PLAN_LOGITS_LAST);
        TRY(submit(b, e));
        if (b->step >= first + AHEAD) TRY(take(b, b->step - AHEAD, e));
    }
    for (uint64_t step = b->step >= first + AHEAD ? b->step - AHEAD + 1 : first; step <= b->step; step++)
        TRY(take(b, step, e));
    *us = (double)(steps_now_us() - start);
    return ERR_NONE;
}

static void report(const struct bench *b, uint32_t batch, double prefill_us, double decode_us) {
    const struct model_spec *s = model_spec(b->model);
    uint32_t steps = b->tokens - 1;
    double prompts = (double)batch * b->context, step_us = decode_us / steps;
    double embed = s->tied ? 0 : (double)s->vocab * s->hidden * 2;
    double kv = (double)batch * (b->context + steps / 2.0) * (double)b->info->kv_bytes_per_token;
    double bytes = (double)b->info->mem.weights_bytes - embed + kv;
    printf("{\"phase\":\"prefill\",\"batch\":%u,\"context\":%u,\"tokens_s\":%.1f,\"weights_tflops\":%.1f}\n", batch,
           b->context, prompts / prefill_us * 1e6,
           prompts * ((double)b->info->mem.weights_bytes - embed) / prefill_us / 1e6);
    printf(
        "{\"phase\":\"decode\",\"batch\":%u,\"context\":%u,\"steps\":%u,\"step_us\":%.1f,\"tokens_s\":%.1f,\"bytes\":%.0f,"
        "\"gb_s\":%.1f}\n",
        batch, b->context, steps, step_us, batch / step_us * 1e6, bytes, bytes / step_us / 1e3);
    fflush(stdout);
}

static err_id run(struct bench *b, const uint32_t *batches, uint32_t n, struct error *e) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < n; i++) most = batches[i] > most ? batches[i] : most;
    if (most == 0) return error_set(e, ERR_INVALID_ARGUMENT, "--batch must name sequences: 1,16,64");
    TRY(open_engine(b, most, e));
    uint32_t *prompt = xmalloc(b->context * sizeof *prompt);
    for (uint32_t i = 0; i < b->context; i++) prompt[i] = (i * 7919u + 13) % b->info->limits.vocab;
    err_id id = ERR_NONE;
    for (uint32_t i = 0; i < n && id == ERR_NONE; i++) {
        double prefill_us, decode_us;
        id = prefill(b, batches[i], prompt, &prefill_us, e);
        if (id == ERR_NONE) id = decode(b, batches[i], &decode_us, e);
        if (id != ERR_NONE) break;
        report(b, batches[i], prefill_us, decode_us);
        for (uint32_t s = 0; s < batches[i]; s++) b->engine->ops->slot_close(b->engine, s);
    }
    free(prompt);
    return id;
}

int shoal_model_bench(int argc, char **argv) {
    struct bench b = {.device = "cuda",
                      .batches = "1",
                      .context = BATCH_DEFAULT_CONTEXT,
                      .tokens = TOKENS_DEFAULT,
                      .chunk = CHUNK_DEFAULT};
    enum flags_next next = parse(argc, argv, &b);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : 2;
    struct error e = {0};
    uint32_t *batches, n;
    if (runner_parse_tokens(b.batches, &batches, &n, &e) != ERR_NONE) return runner_fail("bench", &e);
    err_id id = run(&b, batches, n, &e);
    if (b.engine != NULL) b.engine->ops->destroy(&b.engine);
    model_close(&b.model);
    free(b.buffer), free(b.mapped), free(b.length), free(batches);
    return id == ERR_NONE ? 0 : runner_fail("bench", &e);
}
