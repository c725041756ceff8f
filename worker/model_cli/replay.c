// shoal-model replay: runs a recording of an engine's calls again and compares the tokens with those that were recorded.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/base/check.h"
#include "common/sys/flags.h"
#include "worker/engine/record.h"
#include "worker/engine/table.h"
#include "worker/model/model.h"
#include "worker/model/quant.h"
#include "worker/model_cli/commands.h"
#include "worker/model_cli/runner.h"

struct replay {
    const char *path, *model_path, *device, *quant, *isa, *numeric;
    uint32_t threads;
    struct record_reader *reader;
    const struct record_head *head;
    struct model *model;
    struct engine *engine;
    const uint32_t **masks; // [rows]
    void *kept[ENGINE_DEPTH];
    uint32_t *in_flight; // [slots] rows submitted and not yet answered
    uint64_t steps, tokens, different;
};

static enum flags_next parse(int argc, char **argv, struct replay *r) {
    const struct flag flags[] = {
        {.name = "model",
         .kind = FLAG_STRING,
         .target = &r->model_path,
         .value = "DIR",
         .help = "model folder or GGUF file, if it isn't where it was"},
        {.name = "device",
         .kind = FLAG_STRING,
         .target = &r->device,
         .value = "NAME",
         .help = "what computes, if not the recorded device"},
        {.name = "threads",
         .kind = FLAG_U32,
         .target = &r->threads,
         .value = "N",
         .help = "0: as many as may run",
         .max = 256},
        RUNNER_QUANT_FLAG(&r->quant), // if not as recorded, like the device
        RUNNER_ISA_FLAG(&r->isa),
        RUNNER_NUMERIC_FLAG(&r->numeric),
    };
    const struct flag_spec spec = {
        .program = "shoal-model replay",
        .summary = "Runs the step plans that a worker recorded (--record) and prints "
                   "{\"steps\",\"tokens\",\"different\",\"seconds\"}; "
                   "exit code 1 when a token differs.",
        .operands = "FILE",
        .examples = "  shoal-model replay worker.rec\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    int n = 0;
    enum flags_next next = flags_parse(&spec, argc, argv, &n);
    if (next == FLAGS_RUN && n != 1) {
        fprintf(stderr, "shoal-model replay: name one recording\n");
        return FLAGS_USAGE;
    }
    r->path = argv[0];
    return next;
}

static err_id damaged(const struct replay *r, struct error *e) {
    return error_set(e, ERR_INVALID_ARGUMENT, "%.300s is damaged: a frame does not hold what it should", r->path);
}

static err_id replay_plan(struct replay *r, const void *payload, size_t bytes, struct error *e) {
    if (r->engine->ops->submit(r->engine, payload, bytes, e) != ENGINE_OK) return e->id == ERR_NONE ? damaged(r, e) : e->id;
    struct plan_view v = plan_view(payload);
    for (uint32_t i = 0; i < v.head->n_rows; i++) r->in_flight[v.rows[i].slot]++;
    return ERR_NONE;
}

static err_id replay_open(struct replay *r, const void *payload, size_t bytes, struct error *e) {
    const struct record_open *o = payload;
    if (bytes < sizeof *o || (bytes - sizeof *o) / sizeof(uint32_t) != o->n_tokens) return damaged(r, e);
    struct engine_slot_params p = {o->sampling, (const uint32_t *)(o + 1), o->n_tokens, o->n_prompt};
    return r->engine->ops->slot_open(r->engine, o->slot, &p, e);
}

// Masks are read until result(), so the frame's bytes are kept for as many steps as can be in flight.
static err_id replay_sample(struct replay *r, const void *payload, size_t bytes, struct error *e) {
    const struct engine_info *info = r->engine->ops->info(r->engine);
    if (bytes < sizeof(struct record_sample)) return damaged(r, e);
    void **kept = &r->kept[((const struct record_sample *)payload)->step % ENGINE_DEPTH];
    free(*kept);
    *kept = xmalloc(bytes);
    memcpy(*kept, payload, bytes);
    const struct record_sample *s = *kept;
    bool none = s->rows == 0;
    if (!none &&
        (s->rows != r->engine->ops->step_rows(r->engine, s->step) || s->mask_words != (info->limits.vocab + 31) / 32)) {
        return damaged(r, e);
    }
    size_t words = (bytes - sizeof *s) / sizeof(uint32_t), used = 2 * (size_t)s->rows;
    if (words < used) return damaged(r, e);
    const uint32_t *forced = (const uint32_t *)(s + 1);
    for (uint32_t i = 0; i < s->rows; i++) {
        bool has = forced[s->rows + i] != 0;
        if (has && words - used < s->mask_words) return damaged(r, e);
        r->masks[i] = has ? forced + used : NULL;
        used += has ? s->mask_words : 0;
    }
    enum engine_answer a = r->engine->ops->sample(r->engine, s->step, none ? NULL : r->masks, none ? NULL : forced, e);
    return a == ENGINE_OK ? ERR_NONE : e->id;
}

static err_id replay_result(struct replay *r, const void *payload, size_t bytes, struct error *e) {
    const struct record_result *want = payload;
    const struct record_row *rows = (const struct record_row *)(want + 1);
    if (bytes < sizeof *want || (bytes - sizeof *want) / sizeof *rows != want->rows) return damaged(r, e);
    struct engine_result got;
    enum engine_answer a;
    uint32_t tries = 0;
    enum { TRIES_MAX = 600 }; // of a second
    while ((a = r->engine->ops->result(r->engine, want->step, 1000, &got, e)) == ENGINE_PENDING && tries++ < TRIES_MAX) {
    }
    if (a == ENGINE_PENDING)
        return error_set(e, ERR_UNSUPPORTED, "step %llu waits for something that is not in the recording",
                         (unsigned long long)want->step);
    if (a != ENGINE_OK) return e->id;
    if (got.n_rows != want->rows) return damaged(r, e);
    r->steps++;
    for (uint32_t i = 0; i < want->rows; i++) {
        const struct engine_row_result *x = &got.rows[i];
        r->in_flight[x->slot]--;
        r->tokens += x->n_tokens;
        bool same = x->n_tokens == rows[i].n_tokens && x->numeric_error == (rows[i].numeric_error != 0);
        if (same && x->n_tokens > 0) {
            same =
                x->tokens[0].token == rows[i].token && memcmp(&x->tokens[0].logprob, &rows[i].logprob, sizeof(float)) == 0;
        }
        r->different += !same;
    }
    return ERR_NONE;
}

static err_id replay_import(struct replay *r, const void *payload, size_t bytes, struct error *e) {
    const struct record_import *i = payload;
    const struct engine_info *info = r->engine->ops->info(r->engine);
    if (bytes < sizeof *i || bytes - sizeof *i != info->kv_bytes_per_token * i->span.count) return damaged(r, e);
    engine_ticket ticket;
    return r->engine->ops->kv_import(r->engine, i->span, i + 1, i->hash, &ticket, e);
}

static err_id replay_frame(struct replay *r, const struct record_frame *f, const void *payload, struct error *e) {
    const uint32_t *slot = payload;
    switch (f->kind) {
    case RECORD_OPEN:
        return replay_open(r, payload, f->bytes, e);
    case RECORD_CLOSE:
        if (f->bytes != sizeof *slot || *slot >= r->engine->ops->info(r->engine)->limits.slots || r->in_flight[*slot] > 0) {
            return damaged(r, e);
        }
        r->engine->ops->slot_close(r->engine, *slot);
        return ERR_NONE;
    case RECORD_PLAN:
        return replay_plan(r, payload, f->bytes, e);
    case RECORD_SAMPLE:
        return replay_sample(r, payload, f->bytes, e);
    case RECORD_RESULT:
        return replay_result(r, payload, f->bytes, e);
    case RECORD_IMPORT:
        return replay_import(r, payload, f->bytes, e);
    default:
        return damaged(r, e);
    }
}

// What the command line says otherwise than the recording.
static err_id replay_choices(const struct replay *r, struct engine_opts *o, struct error *e) {
    enum quant quant = (enum quant)o->quant;
    if (r->quant != NULL) TRY(quant_parse(r->quant, &quant, e));
    o->quant = quant;
    if (r->numeric != NULL) TRY(engine_numeric_parse(r->numeric, &o->numeric, e));
    return engine_isa_parse(r->isa, &o->isa, e);
}

static err_id create_engine(struct replay *r, struct error *e) {
    const struct record_head *h = r->head;
    const struct backend *backend;
    const char *device = r->device != NULL ? r->device : h->device;
    const char *folder = r->model_path != NULL ? r->model_path : h->model;
    TRY(backend_find(device, &backend, e));
    if (strcmp(device, "mock") != 0) TRY(model_open(folder, &r->model, e));
    struct engine_opts o = {.model = r->model, .threads = r->threads, .slots = h->slots, .rows = h->rows, .mock = h->mock};
    o.mock.prefill_tokens_s = o.mock.decode_ms = 0; // as fast as it goes
    o.batch_tokens = h->batch_tokens;
    o.context = h->context;
    o.block_tokens = h->block_tokens;
    o.kv_bytes = h->kv_bytes;
    o.layer_first = h->layer_first;
    o.layer_end = strcmp(device, "mock") == 0 ? 0 : h->layer_end;
    o.quant = h->quant;
    o.numeric = h->numeric;
    TRY(replay_choices(r, &o, e));
    TRY(backend->create(&o, NULL, &r->engine, e));
    TRY(backend->load(r->engine, NULL, NULL, e));
    char fingerprint[ENGINE_FINGERPRINT_MAX] = "";
    backend->fingerprint(r->engine, fingerprint);
    if (strcmp(fingerprint, h->fingerprint) != 0) {
        fprintf(stderr, "shoal-model replay: the recording is of fingerprint %s, this is %s: tokens may differ\n",
                h->fingerprint, fingerprint);
    }
    r->masks = xcalloc(backend->info(r->engine)->limits.caps.rows, sizeof *r->masks);
    r->in_flight = xcalloc(backend->info(r->engine)->limits.slots, sizeof *r->in_flight);
    return ERR_NONE;
}

static err_id run(struct replay *r, struct error *e) {
    TRY(record_reader_open(r->path, &r->reader, &r->head, e));
    TRY(create_engine(r, e));
    const struct record_frame *f;
    const void *payload;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        TRY(record_reader_next(r->reader, &f, &payload, e));
        if (f == NULL) break;
        TRY(replay_frame(r, f, payload, e));
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double s = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) * 1e-9;
    printf("{\"steps\":%llu,\"tokens\":%llu,\"different\":%llu,\"seconds\":%.6f}\n", (unsigned long long)r->steps,
           (unsigned long long)r->tokens, (unsigned long long)r->different, s);
    return ERR_NONE;
}

int shoal_model_replay(int argc, char **argv) {
    struct replay r = {0};
    enum flags_next next = parse(argc, argv, &r);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : 2;
    struct error e = {0};
    err_id id = run(&r, &e);
    if (r.engine != NULL) r.engine->ops->destroy(&r.engine);
    for (int i = 0; i < ENGINE_DEPTH; i++) free(r.kept[i]);
    free(r.masks);
    free(r.in_flight);
    model_close(&r.model);
    record_reader_close(&r.reader);
    if (id != ERR_NONE) return runner_fail("replay", &e);
    return r.different == 0 ? 0 : 1;
}
