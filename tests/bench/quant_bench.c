// What quantising costs in accuracy: exact answers per task and the divergence from the model in full precision, by teacher
// forcing on held-out prompts. quant_bench MODEL_FOLDER EXAMPLES [THREADS]; EXAMPLES as scripts/train_tiny/held_out.py
// prints them. Prints a table of docs/benchmarks.md.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "worker/engine/table.h"
#include "worker/model/quant.h"

enum { TOKENS_MAX = 4096, TASKS_MAX = 32, CHUNK = 64, VARIANTS = 3 };

static const enum quant variants[VARIANTS] = {QUANT_NONE, QUANT_INT8, QUANT_INT4};

struct example {
    uint32_t task, n, n_prompt;
    uint32_t *tokens;
    float *logits; // of the model in full precision, after each token that an answer's token follows
};

struct score {
    uint32_t prompts, exact[VARIANTS];
    double kl[VARIANTS], tokens;
};

struct bench {
    char tasks[TASKS_MAX][32];
    uint32_t n_tasks, n_examples;
    struct example *examples;
    struct score score[TASKS_MAX];
    struct engine *engine;
    const struct engine_info *info;
    void *buffer;
    uint64_t step;
};

static void must(bool ok, const struct error *e) {
    if (ok) return;
    fprintf(stderr, "quant_bench: %s\n", error_text(e));
    exit(2);
}

static uint32_t task_of(struct bench *b, const char *name) {
    for (uint32_t i = 0; i < b->n_tasks; i++) {
        if (strcmp(b->tasks[i], name) == 0) return i;
    }
    CHECK(b->n_tasks < TASKS_MAX);
    snprintf(b->tasks[b->n_tasks], sizeof b->tasks[0], "%s", name);
    return b->n_tasks++;
}

static void read_examples(struct bench *b, const char *path) {
    FILE *f = fopen(path, "re");
    CHECK(f != NULL);
    char name[32];
    uint32_t n_prompt;
    while (fscanf(f, "%31s %u", name, &n_prompt) == 2) {
        struct example x = {.task = task_of(b, name), .n_prompt = n_prompt};
        x.tokens = xmalloc(TOKENS_MAX * sizeof *x.tokens);
        int c;
        while ((c = fgetc(f)) == ' ') CHECK(x.n < TOKENS_MAX && fscanf(f, "%u", &x.tokens[x.n++]) == 1);
        CHECK(n_prompt > 0 && n_prompt < x.n);
        b->examples = xrealloc(b->examples, (b->n_examples + 1) * sizeof x);
        b->examples[b->n_examples++] = x;
    }
    fclose(f);
}

static double log_sum_exp(const float *x, uint32_t n) {
    double most = (double)x[0], sum = 0;
    for (uint32_t i = 1; i < n; i++) most = fmax(most, (double)x[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
    return most + log(sum);
}

// KL(p, q) of two rows of logits, in nats.
static double divergence(const float *p, const float *q, uint32_t n) {
    double zp = log_sum_exp(p, n), zq = log_sum_exp(q, n), sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)p[i] - zp) * (((double)p[i] - zp) - ((double)q[i] - zq));
    return sum;
}

static bool likeliest(const float *x, uint32_t n, uint32_t token) {
    for (uint32_t i = 0; i < n; i++) {
        if (x[i] > x[token]) return false;
    }
    return true;
}

static const float *run_chunk(struct bench *b, const uint32_t *tokens, uint32_t n, uint32_t pos, uint32_t *mapped) {
    struct plan_builder p;
    struct error e = {0};
    struct engine_result r;
    const struct backend *ops = b->engine->ops;
    plan_builder_init(&p, b->buffer, &b->info->limits.caps, ++b->step);
    struct plan_row row = {.q_len = n, .pos = pos, .adapter = PLAN_NO_ADAPTER, .logits = PLAN_LOGITS_ALL};
    CHECK(plan_builder_tokens(&p, tokens, n, &row.token_off));
    for (; *mapped * b->info->limits.block_tokens < pos + n; ++*mapped) CHECK(plan_builder_delta(&p, 0, *mapped, *mapped));
    CHECK(plan_builder_row(&p, &row));
    size_t len = plan_builder_finish(&p);
    must(ops->submit(b->engine, b->buffer, len, &e) == ENGINE_OK, &e);
    must(ops->sample(b->engine, b->step, NULL, NULL, &e) == ENGINE_OK, &e);
    must(ops->result(b->engine, b->step, 0, &r, &e) == ENGINE_OK, &e);
    return r.rows[0].logits;
}

static void run_example(struct bench *b, struct example *x, int variant) {
    uint32_t vocab = b->info->limits.vocab, mapped = 0, first = x->n_prompt - 1, answers = x->n - x->n_prompt;
    struct engine_slot_params params = {.tokens = x->tokens, .n_tokens = x->n, .n_prompt = x->n};
    struct error e = {0};
    struct score *s = &b->score[x->task];
    bool exact = true;
    if (variant == 0) x->logits = xmalloc((size_t)answers * vocab * sizeof *x->logits);
    sampling_params_default(&params.sampling);
    must(b->engine->ops->slot_open(b->engine, 0, &params, &e) == ERR_NONE, &e);
    for (uint32_t at = 0; at + 1 < x->n; at += CHUNK) {
        uint32_t n = x->n - 1 - at < CHUNK ? x->n - 1 - at : CHUNK;
        const float *logits = run_chunk(b, x->tokens + at, n, at, &mapped);
        for (uint32_t i = first > at ? first - at : 0; i < n; i++) {
            float *kept = x->logits + (size_t)(at + i - first) * vocab;
            const float *got = logits + (size_t)i * vocab;
            if (variant == 0) memcpy(kept, got, vocab * sizeof *kept);
            exact &= likeliest(got, vocab, x->tokens[at + i + 1]);
            s->kl[variant] += divergence(kept, got, vocab);
        }
    }
    b->engine->ops->slot_close(b->engine, 0);
    s->exact[variant] += exact;
    s->prompts += variant == 0;
    s->tokens += variant == 0 ? answers : 0;
}

static void run_variant(struct bench *b, const struct model *m, int variant, uint32_t threads) {
    struct error e = {0};
    const struct backend *cpu;
    must(backend_find("cpu", &cpu, &e) == ERR_NONE, &e);
    struct engine_opts o = {.model = m, .slots = 1, .rows = 1, .batch_tokens = CHUNK, .context = TOKENS_MAX};
    o.threads = threads;
    o.quant = variants[variant];
    must(cpu->create(&o, NULL, &b->engine, &e) == ERR_NONE, &e);
    must(cpu->load(b->engine, NULL, NULL, &e) == ERR_NONE, &e);
    b->info = cpu->info(b->engine);
    b->buffer = aligned_alloc(64, (plan_bytes_max(&b->info->limits.caps) + 63) / 64 * 64);
    for (uint32_t i = 0; i < b->n_examples; i++) run_example(b, &b->examples[i], variant);
    cpu->destroy(&b->engine);
    free(b->buffer);
}

static void print_row(const char *name, const struct score *s) {
    printf("| %s | %u |", name, s->prompts);
    for (int v = 0; v < VARIANTS; v++) printf(" %.1f |", 100.0 * s->exact[v] / s->prompts);
    for (int v = 1; v < VARIANTS; v++) printf(" %.2g |", s->kl[v] / s->tokens);
    printf("\n");
}

int main(int argc, char **argv) {
    static struct bench b;
    struct error e = {0};
    struct model *m;
    if (argc < 3) {
        fprintf(stderr, "usage: quant_bench MODEL_FOLDER EXAMPLES [THREADS]\n");
        return 2;
    }
    must(model_open(argv[1], &m, &e) == ERR_NONE, &e);
    read_examples(&b, argv[2]);
    for (int v = 0; v < VARIANTS; v++) run_variant(&b, m, v, argc > 3 ? (uint32_t)atoi(argv[3]) : 0);
    printf("| task | prompts | full, %% exact | int8 | int4 | KL int8, nats a token | KL int4 "
           "|\n|---|---|---|---|---|---|---|\n");
    struct score all = {0};
    for (uint32_t t = 0; t < b.n_tasks; t++) {
        print_row(b.tasks[t], &b.score[t]);
        all.prompts += b.score[t].prompts;
        all.tokens += b.score[t].tokens;
        for (int v = 0; v < VARIANTS; v++) all.exact[v] += b.score[t].exact[v], all.kl[v] += b.score[t].kl[v];
    }
    print_row("all", &all);
    for (uint32_t i = 0; i < b.n_examples; i++) free(b.examples[i].tokens), free(b.examples[i].logits);
    free(b.examples);
    model_close(&m);
    return 0;
}
