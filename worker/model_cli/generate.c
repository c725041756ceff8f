// shoal-model generate: a greedy answer, token by token, with the tokens' logprobs.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "common/base/check.h"
#include "common/sys/flags.h"
#include "worker/model_cli/commands.h"
#include "worker/model_cli/runner.h"

struct generate_options {
    struct runner_options run;
    const char *tokens;
    uint32_t max_tokens;
    bool ignore_eos, stats;
};

static enum flags_next parse(int argc, char **argv, struct generate_options *o) {
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
        {.name = "max-tokens",
         .kind = FLAG_U32,
         .target = &o->max_tokens,
         .value = "N",
         .help = "longest answer",
         .required = true,
         .min = 1,
         .max = 1 << 20},
        {.name = "ignore-eos", .kind = FLAG_BOOL, .target = &o->ignore_eos, .help = "go on after an end-of-sequence token"},
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
        {.name = "stats", .kind = FLAG_BOOL, .target = &o->stats, .help = "print rates on stderr"},
    };
    const struct flag_spec spec = {
        .program = "shoal-model generate",
        .summary = "Prints {\"tokens\":[...],\"logprobs\":[...]} of the greedy answer, an end-of-sequence token included.",
        .examples = "  shoal-model generate --model deploy/local/model --tokens 0,17,23 --max-tokens 20\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    return flags_parse(&spec, argc, argv, NULL);
}

static bool is_eos(const struct runner *r, uint32_t token) {
    const struct model_spec *s = model_spec(r->model);
    for (uint32_t i = 0; i < s->n_eos; i++) {
        if (s->eos[i] == token) return true;
    }
    return false;
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void print_rates(uint32_t prompt, double prefill_s, uint32_t decoded, double decode_s) {
    fprintf(stderr, "prefill_tokens_per_s=%.1f decode_tokens_per_s=%.1f\n", prompt / prefill_s,
            decode_s > 0 ? decoded / decode_s : 0);
}

// Fills out[] up to the option's number of tokens; *n is how many there are.
static err_id generate(struct runner *r, const struct generate_options *o, const uint32_t *prompt, uint32_t n_prompt,
                       struct engine_token *out, uint32_t *n, struct error *e) {
    struct sampling_params greedy;
    sampling_params_default(&greedy);
    greedy.temperature = 0;
    greedy.want_logprob = 1;
    struct engine_result result;
    double start = now_s();
    TRY(runner_prompt(r, prompt, n_prompt, &greedy, &result, e));
    double first = now_s();
    for (*n = 0;;) {
        out[(*n)++] = result.rows[0].tokens[0];
        if (*n == o->max_tokens || (!o->ignore_eos && is_eos(r, out[*n - 1].token))) break;
        TRY(runner_next(r, &result, e));
    }
    if (o->stats) print_rates(n_prompt, first - start, *n - 1, now_s() - first);
    return ERR_NONE;
}

static void print_answer(const struct engine_token *t, uint32_t n) {
    printf("{\"tokens\":[");
    for (uint32_t i = 0; i < n; i++) printf("%s%u", i > 0 ? "," : "", t[i].token);
    printf("],\"logprobs\":[");
    for (uint32_t i = 0; i < n; i++) printf("%s%.9g", i > 0 ? "," : "", (double)t[i].logprob);
    printf("]}\n");
}

static err_id run(const struct generate_options *o, const uint32_t *tokens, uint32_t n, struct error *e) {
    struct runner r;
    uint32_t n_out = 0;
    TRY(runner_open(&r, &o->run, n + o->max_tokens, e));
    struct engine_token *out = xmalloc(o->max_tokens * sizeof *out);
    err_id id = generate(&r, o, tokens, n, out, &n_out, e);
    if (id == ERR_NONE) print_answer(out, n_out);
    free(out);
    runner_close(&r);
    return id;
}

int shoal_model_generate(int argc, char **argv) {
    struct generate_options o = {.run = {.device = "cpu"}};
    enum flags_next next = parse(argc, argv, &o);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : 2;
    struct error e = {0};
    uint32_t *tokens, n;
    if (runner_parse_tokens(o.tokens, &tokens, &n, &e) != ERR_NONE) return runner_fail("generate", &e);
    err_id id = run(&o, tokens, n, &e);
    free(tokens);
    return id == ERR_NONE ? 0 : runner_fail("generate", &e);
}
