// How fast the CPU engine is beside what the machine could do: read bandwidth, decoding at batch 1 and 16 (tokens/s, and
// GB/s of weights as a share of the read bandwidth), prefill of 512 tokens (tokens/s). engine_bench MODEL [THREADS]; of one
// thread it is the processor's time that counts.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/base/check.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/table.h"
#include "worker/model/model.h"

enum { BATCH = 16, PREFILL = 512, CHUNK = 256, READ_BYTES = 1 << 29, READ_PIECE = 1 << 20, DECODE_STEPS = 40 };

static clockid_t clock_id = CLOCK_MONOTONIC;

static double now_s(void) {
    struct timespec t;
    clock_gettime(clock_id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static volatile uint64_t sink;

static void read_piece(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    typedef uint64_t words __attribute__((vector_size(64)));
    for (uint32_t p = begin; p < end; p++) {
        const words *w = (const words *)((const char *)context + (size_t)p * READ_PIECE);
        words sum = {0};
        for (size_t i = 0; i < READ_PIECE / sizeof *w; i++) sum += w[i];
        sink = sum[0];
    }
}

// Best of five.
static double read_gb_s(uint32_t threads) {
    struct pool *pool = pool_create(threads);
    char *memory = aligned_alloc(READ_PIECE, READ_BYTES);
    CHECK(memory != NULL);
    memset(memory, 1, READ_BYTES);
    double best = 0;
    for (int i = 0; i < 5; i++) {
        double start = now_s();
        pool_for(pool, READ_BYTES / READ_PIECE, 1, read_piece, memory);
        double rate = READ_BYTES / (now_s() - start) / 1e9;
        best = rate > best ? rate : best;
    }
    free(memory);
    pool_destroy(&pool);
    return best;
}

struct bench {
    struct engine *engine;
    const struct engine_info *info;
    void *buffer;
    uint64_t step;
    uint32_t blocks;
    uint64_t embed_bytes; // of which a step reads only a row for each token
};

static void must(bool ok, const struct error *e) {
    if (ok) return;
    fprintf(stderr, "engine_bench: %s\n", error_text(e));
    exit(2);
}

// One step of `rows` slots with n tokens each from pos on (tokens NULL: one from the device); seconds.
static double step(struct bench *b, uint32_t rows, const uint32_t *tokens, uint32_t n, uint32_t pos) {
    struct plan_builder p;
    struct error e = {0};
    plan_builder_init(&p, b->buffer, &b->info->limits.caps, ++b->step);
    uint32_t bt = b->info->limits.block_tokens, end = pos + n;
    for (uint32_t s = 0; s < rows; s++) {
        struct plan_row row = {
            .slot = s, .q_len = n, .pos = pos, .token_off = PLAN_TOKEN_DEVICE, .adapter = PLAN_NO_ADAPTER};
        row.logits = PLAN_LOGITS_LAST;
        if (tokens != NULL) CHECK(plan_builder_tokens(&p, tokens, n, &row.token_off));
        for (uint32_t i = (pos + bt - 1) / bt; i * bt < end; i++) CHECK(plan_builder_delta(&p, s, i, b->blocks++));
        CHECK(plan_builder_row(&p, &row));
    }
    size_t len = plan_builder_finish(&p);
    const struct backend *ops = b->engine->ops;
    struct engine_result r;
    double start = now_s();
    must(ops->submit(b->engine, b->buffer, len, &e) == ENGINE_OK, &e);
    must(ops->sample(b->engine, b->step, NULL, NULL, &e) == ENGINE_OK, &e);
    must(ops->result(b->engine, b->step, 0, &r, &e) == ENGINE_OK, &e);
    return now_s() - start;
}

static void open_slots(struct bench *b, const uint32_t *tokens, uint32_t n) {
    struct engine_slot_params p = {.tokens = tokens, .n_tokens = n, .n_prompt = n};
    struct error e = {0};
    sampling_params_default(&p.sampling);
    p.sampling.temperature = 0;
    b->blocks = 0;
    for (uint32_t s = 0; s < BATCH; s++) must(b->engine->ops->slot_open(b->engine, s, &p, &e) == ERR_NONE, &e);
}

static void close_slots(struct bench *b) {
    for (uint32_t s = 0; s < BATCH; s++) b->engine->ops->slot_close(b->engine, s);
}

static void decode(struct bench *b, uint32_t rows, const uint32_t *tokens, double read) {
    enum { PROMPT = 8 };
    open_slots(b, tokens, PROMPT);
    step(b, rows, tokens, PROMPT, 0);
    double best = 1e9;
    for (uint32_t i = 0; i < DECODE_STEPS; i++) {
        double s = step(b, rows, NULL, 1, PROMPT + i);
        best = s < best ? s : best;
    }
    close_slots(b);
    double gb = (double)(b->info->mem.weights_bytes - b->embed_bytes) / 1e9 / best;
    printf("decode batch %-3u %8.1f tokens/s, %.2f ms a step, weights at %.1f GB/s = %.0f %% of reading\n", rows,
           rows / best, best * 1e3, gb, 100 * gb / read);
}

static void prefill(struct bench *b, const uint32_t *tokens) {
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        open_slots(b, tokens, PREFILL);
        double s = 0;
        for (uint32_t at = 0; at < PREFILL; at += CHUNK) s += step(b, 1, tokens + at, CHUNK, at);
        close_slots(b);
        best = s < best ? s : best;
    }
    printf("prefill %u       %8.1f tokens/s\n", PREFILL, PREFILL / best);
}

int main(int argc, char **argv) {
    struct error e = {0};
    struct model *m;
    const struct backend *cpu;
    must(argc > 1 && model_open(argv[1], &m, &e) == ERR_NONE, &e);
    must(backend_find("cpu", &cpu, &e) == ERR_NONE, &e);
    struct engine_opts o = {.model = m, .slots = BATCH, .rows = BATCH, .batch_tokens = CHUNK, .context = PREFILL + 64};
    if (argc > 2 && atoi(argv[2]) == 1) clock_id = CLOCK_PROCESS_CPUTIME_ID; // others' load doesn't count
    o.threads = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
    struct bench b = {.embed_bytes = model_tensor(m, TENSOR_EMBED, 0, 0)->bytes};
    must(cpu->create(&o, NULL, &b.engine, &e) == ERR_NONE, &e);
    double start = now_s();
    must(cpu->load(b.engine, NULL, NULL, &e) == ERR_NONE, &e);
    b.info = cpu->info(b.engine);
    printf("load             %8.2f GB/s\n", (double)b.info->mem.weights_bytes / 1e9 / (now_s() - start));
    b.buffer = aligned_alloc(64, (plan_bytes_max(&b.info->limits.caps) + 63) / 64 * 64);
    uint32_t tokens[PREFILL];
    for (uint32_t i = 0; i < PREFILL; i++) tokens[i] = (i * 7 + 2) % b.info->limits.vocab;
    double read = read_gb_s(o.threads);
    printf("read             %8.1f GB/s\n", read);
    decode(&b, 1, tokens, read);
    decode(&b, BATCH, tokens, read);
    prefill(&b, tokens);
    cpu->destroy(&b.engine);
    model_close(&m);
    free(b.buffer);
    return 0;
}
