// The CUDA engine behind the seam: what there is before and after steps.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "common/base/check.h"
#include "worker/engine/cuda/cuda.h"
#include "worker/engine/cuda/library.h"

#define CUDA_NUMERIC_CLASS "cuda-bf16-1"

static const struct backend cuda_backend;

static err_id cuda_mem_plan(const struct engine_opts *opts, struct engine_mem *mem, struct error *e) {
    struct cuda_plan plan;
    err_id id = cuda_plan(opts, &plan, e);
    *mem = plan.mem;
    return id;
}

// ---- life ----

static err_id pinned(void *to, uint64_t bytes, struct error *e) {
    return device_error(cudaHostAlloc((void **)to, bytes > 0 ? bytes : 1, cudaHostAllocDefault), "pinning memory", e);
}

static err_id create_flight(struct cuda *c, struct flight *f, struct error *e) {
    uint64_t states = (uint64_t)c->plan.opts.batch_tokens * c->spec.hidden * sizeof(float);
    f->rows = xcalloc(c->plan.opts.rows, sizeof *f->rows);
    TRY(pinned(&f->pinned, batch_bytes(&c->plan), e));
    TRY(pinned(&f->answers, c->plan.opts.rows * sizeof *f->answers, e));
    if (!cuda_is_first(c)) TRY(pinned(&f->in, states, e));
    if (!cuda_has_head(c)) TRY(pinned(&f->out, states, e));
    TRY_CUDA(cudaEventCreateWithFlags(&f->done, cudaEventDisableTiming), "making an event");
    return ERR_NONE;
}

static err_id create_parts(struct cuda *c, struct error *e) {
    TRY_CUDA(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "making a stream");
    TRY(forward_create(&c->forward, &c->plan, &c->weights, c->plan.opts.deterministic, c->stream, e));
    for (int i = 0; i < ENGINE_DEPTH; i++) TRY(create_flight(c, &c->flight[i], e));
    TRY(pinned(&c->kv_block, c->forward.block_elements * 2, e));
    if (cuda_has_head(c)) TRY(pinned(&c->host_logits, (uint64_t)c->plan.logits * c->spec.vocab * sizeof(float), e));
    return device_error(cudaDeviceSynchronize(), "making buffers", e);
}

static void cuda_destroy(struct engine **engine) {
    if (*engine == NULL) return;
    struct cuda *c = cuda_of(*engine);
    cudaDeviceSynchronize();
    for (int i = 0; i < ENGINE_DEPTH; i++) {
        struct flight *f = &c->flight[i];
        void *const memory[] = {f->pinned, f->answers, f->in, f->out};
        for (size_t k = 0; k < ARRAY_LEN(memory); k++) cudaFreeHost(memory[k]);
        if (f->done != NULL) cudaEventDestroy(f->done);
        free(f->rows);
    }
    cudaFreeHost(c->kv_block);
    cudaFreeHost(c->host_logits);
    forward_destroy(&c->forward);
    cuda_weights_fini(&c->weights);
    if (c->stream != NULL) cudaStreamDestroy(c->stream);
    slots_fini(&c->slots);
    steps_fini(&c->steps);
    free(c->ahead);
    free(c->rows);
    free(c);
    *engine = NULL;
}

// Multiply-adds of one token through the shard, and per position that it attends to.
static void init_cost(struct cuda *c) {
    double attended = 0;
    for (uint32_t i = c->plan.opts.layer_first; i < c->plan.opts.layer_end; i++) {
        const struct attention_spec *a = &c->spec.layer[i].attention;
        bool mla = a->kind == ATTENTION_MLA;
        attended += (double)a->heads * (mla ? 2 * a->kv_lora + a->rope_dim : 2 * a->head_dim);
    }
    cost_init(&c->cost, (double)c->plan.mem.weights_bytes / 2, attended);
}

static err_id cuda_create(const struct engine_opts *opts, struct comm *comm, struct engine **engine, struct error *e) {
    struct engine_device device;
    struct cuda *c = xcalloc(1, sizeof *c);
    err_id id = device_probe(&device, e);
    if (id == ERR_NONE) id = cuda_plan(opts, &c->plan, e);
    if (id != ERR_NONE) {
        free(c);
        return id;
    }
    c->engine.ops = &cuda_backend;
    c->spec = *c->plan.spec;
    c->plan.spec = &c->spec;
    slots_init(&c->slots, &c->plan.info.limits);
    steps_init(&c->steps, &c->plan.info.limits);
    c->ahead = xcalloc(c->plan.opts.slots, sizeof *c->ahead);
    c->rows = xcalloc(c->plan.opts.rows, sizeof *c->rows);
    init_cost(c);
    *engine = &c->engine;
    id = create_parts(c, e);
    if (id != ERR_NONE) cuda_destroy(engine);
    return id;
}

static err_id cuda_load(struct engine *engine, engine_load_fn *progress, void *context, struct error *e) {
    struct cuda *c = cuda_of(engine);
    const struct model *m = c->plan.opts.model;
    if (model_fingerprint(m)[0] == '\0') return error_set(e, ERR_MODEL_FILES, "the model was opened without its tensors");
    struct cuda_load load = {.model = m, .spec = &c->spec, .first = c->plan.opts.layer_first, .end = c->plan.opts.layer_end};
    load.pool = pool_create(c->plan.opts.threads);
    load.stream = c->stream;
    load.progress = progress;
    load.context = context;
    err_id id = cuda_weights_load(&c->weights, &load, e);
    pool_destroy(&load.pool);
    if (id != ERR_NONE) return id;
    char text[128];
    const char *fp8 = c->spec.fp8_block[0] == 0 ? "" : " fp8-w8a8";
    const char *fixed = c->plan.opts.deterministic ? " deterministic" : "";
    int n = snprintf(text, sizeof text, "%s%s%s %s", CUDA_NUMERIC_CLASS, fp8, fixed, model_fingerprint(m));
    XXH128_hash_t h = XXH3_128bits(text, (size_t)n);
    snprintf(c->fingerprint, sizeof c->fingerprint, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    return ERR_NONE;
}

static void cuda_fingerprint(struct engine *engine, char text[ENGINE_FINGERPRINT_MAX]) {
    memcpy(text, cuda_of(engine)->fingerprint, ENGINE_FINGERPRINT_MAX);
}

static const struct engine_info *cuda_info(struct engine *engine) { return &cuda_of(engine)->plan.info; }

// ---- slots ----

static err_id cuda_slot_open(struct engine *engine, uint32_t slot, const struct engine_slot_params *p, struct error *e) {
    struct cuda *c = cuda_of(engine);
    TRY(slots_open(&c->slots, slot, p, c->spec.vocab, e));
    struct slot *s = &c->slots.slot[slot];
    uint32_t *tokens = c->forward.tokens + (uint64_t)slot * c->forward.tokens_ld;
    cudaError_t id = cudaMemcpyAsync(tokens, s->tokens, s->n_tokens * sizeof *tokens, cudaMemcpyHostToDevice, c->stream);
    if (id == cudaSuccess) {
        id = cudaMemcpyAsync(c->forward.params + slot, &s->sampling, sizeof s->sampling, cudaMemcpyHostToDevice, c->stream);
    }
    if (id == cudaSuccess) return ERR_NONE;
    slots_close(&c->slots, slot);
    return device_error(id, "opening a slot", e);
}
static void cuda_slot_close(struct engine *engine, uint32_t slot) { slots_close(&cuda_of(engine)->slots, slot); }

// ---- the rest ----

static void cuda_abort(struct engine *engine) { atomic_store(&cuda_of(engine)->aborted, true); }

static uint32_t cuda_step_rows(struct engine *engine, uint64_t id) {
    const struct step *step = steps_find(&cuda_of(engine)->steps, id);
    return step == NULL ? 0 : step->plan.head->n_rows;
}

static uint32_t cuda_step_cost_us(struct engine *engine, const struct engine_load *load) {
    return cost_us(&cuda_of(engine)->cost, load);
}

static err_id cuda_regroup(struct engine *engine, struct comm *comm, uint32_t epoch, struct error *e) {
    struct cuda *c = cuda_of(engine);
    if (c->steps.count > 0) return error_set(e, ERR_INTERNAL, "the engine has steps in flight");
    steps_restart(&c->steps);
    c->plan.info.limits.group_epoch = epoch;
    return ERR_NONE;
}

static enum engine_answer cuda_ticket_poll(struct engine *engine, engine_ticket ticket, uint64_t *hash, struct error *e) {
    *hash = cuda_of(engine)->ticket_hash;
    return ENGINE_OK;
}
static void cuda_ticket_cancel(struct engine *engine, engine_ticket ticket) {}

static const struct backend cuda_backend = {
    .name = "cuda",
    .probe = device_probe,
    .mem_plan = cuda_mem_plan,
    .create = cuda_create,
    .load = cuda_load,
    .warmup = cuda_warmup,
    .fingerprint = cuda_fingerprint,
    .info = cuda_info,
    .slot_open = cuda_slot_open,
    .slot_close = cuda_slot_close,
    .submit = cuda_submit,
    .sample = cuda_sample,
    .result = cuda_result,
    .hidden_in = cuda_hidden_in,
    .hidden_out = cuda_hidden_out,
    .kv_export = cuda_kv_export,
    .kv_import = cuda_kv_import,
    .ticket_poll = cuda_ticket_poll,
    .ticket_cancel = cuda_ticket_cancel,
    .step_rows = cuda_step_rows,
    .step_cost_us = cuda_step_cost_us,
    .quiesce = cuda_quiesce,
    .abort = cuda_abort,
    .regroup = cuda_regroup,
    .destroy = cuda_destroy,
};

cuda_library_fn shoal_cuda_library;
__attribute__((visibility("default"))) const struct cuda_library *shoal_cuda_library(void) {
    static const struct cuda_library library = {CUDA_LIBRARY_ABI, CUDA_LIBRARY_SIZES_HERE, &cuda_backend};
    return &library;
}
