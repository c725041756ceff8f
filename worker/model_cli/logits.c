// shoal-model logits: the likeliest next tokens after a prompt, with their logits.
#include <stdio.h>
#include <stdlib.h>
#include "common/base/check.h"
#include "common/sys/flags.h"
#include "worker/model_cli/commands.h"
#include "worker/model_cli/runner.h"

struct logits_options {
    struct runner_options run;
    const char *tokens;
    uint32_t top, vocab;
    bool all;
};

static enum flags_next parse(int argc, char **argv, struct logits_options *o) {
    const struct flag flags[] = {
        {.name = "model",
         .kind = FLAG_STRING,
         .target = &o->run.model,
         .value = "DIR",
         .help = "Hugging Face model folder, or a GGUF file",
         .required = true},
        {.name = "tokens",
         .kind = FLAG_STRING,
         .target = &o->tokens,
         .value = "1,2,3",
         .help = "the prompt's token ids",
         .required = true},
        {.name = "top",
         .kind = FLAG_U32,
         .target = &o->top,
         .value = "K",
         .help = "how many to print",
         .min = 1,
         .max = 1 << 22},
        {.name = "all",
         .kind = FLAG_BOOL,
         .target = &o->all,
         .help = "after every token of the prompt: a line for each, with its \"position\""},
        RUNNER_QUANT_FLAG(&o->run.quant),
        RUNNER_ISA_FLAG(&o->run.isa),
        RUNNER_NUMERIC_FLAG(&o->run.numeric),
        {.name = "device", .kind = FLAG_STRING, .target = &o->run.device, .value = "NAME", .help = "what computes"},
        {.name = "parallel",
         .kind = FLAG_STRING,
         .target = &o->run.parallel,
         .value = "pp=N",
         .help = "cut the layers into N pipeline stages, as a group of workers does"},
        {.name = "threads",
         .kind = FLAG_U32,
         .target = &o->run.threads,
         .value = "N",
         .help = "0: as many as may run",
         .max = 256},
        {.name = "chunk",
         .kind = FLAG_U32,
         .target = &o->run.chunk,
         .value = "N",
         .help = "prompt tokens per step",
         .max = 4096},
    };
    const struct flag_spec spec = {
        .program = "shoal-model logits",
        .summary = "Prints {\"next_top\":[[id,logit],...]}, most likely first, for the token after the prompt.",
        .examples = "  shoal-model logits --model deploy/local/model --tokens 0,17,23 --top 5\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    return flags_parse(&spec, argc, argv, NULL);
}

struct ranked {
    float logit;
    uint32_t id;
};

static int by_logit(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

// before: what the line begins with.
static void print_top(const char *before, const float *logits, uint32_t vocab, uint32_t top) {
    struct ranked *r = xmalloc(vocab * sizeof *r);
    for (uint32_t i = 0; i < vocab; i++) r[i] = (struct ranked){logits[i], i};
    qsort(r, vocab, sizeof *r, by_logit);
    printf("{%s\"next_top\":[", before);
    for (uint32_t i = 0; i < top && i < vocab; i++) printf("%s[%u,%.9g]", i > 0 ? "," : "", r[i].id, (double)r[i].logit);
    printf("]}\n");
    free(r);
}

static void print_step(void *context, uint32_t first, uint32_t count, const float *logits) {
    const struct logits_options *o = context;
    for (uint32_t i = 0; i < count; i++) {
        char before[48];
        snprintf(before, sizeof before, "\"position\":%u,", first + i);
        print_top(before, logits + (size_t)i * o->vocab, o->vocab, o->top);
    }
}

static err_id run(struct logits_options *o, const uint32_t *tokens, uint32_t n, struct error *e) {
    struct runner r;
    struct engine_result result;
    struct sampling_params greedy;
    sampling_params_default(&greedy);
    greedy.temperature = 0;
    TRY(runner_open(&r, &o->run, n, e));
    o->vocab = r.info->limits.vocab;
    if (o->all) {
        err_id all = runner_prompt_all(&r, tokens, n, print_step, o, e);
        runner_close(&r);
        return all;
    }
    err_id id = runner_prompt(&r, tokens, n, &greedy, &result, e);
    if (id == ERR_NONE && result.rows[0].logits == NULL) {
        id = error_set(e, ERR_UNSUPPORTED, "the device \"%.40s\" gives no logits", o->run.device);
    }
    if (id == ERR_NONE) print_top("", result.rows[0].logits, o->vocab, o->top);
    runner_close(&r);
    return id;
}

int shoal_model_logits(int argc, char **argv) {
    struct logits_options o = {.run = {.device = "cpu"}, .top = 10};
    enum flags_next next = parse(argc, argv, &o);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : 2;
    struct error e = {0};
    uint32_t *tokens, n;
    if (runner_parse_tokens(o.tokens, &tokens, &n, &e) != ERR_NONE) return runner_fail("logits", &e);
    err_id id = run(&o, tokens, n, &e);
    free(tokens);
    return id == ERR_NONE ? 0 : runner_fail("logits", &e);
}
