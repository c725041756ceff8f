// shoal generate: one answer to one prompt.
#include "client/cli/answer.h"
#include "common/base/check.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_BYTES_MAX = 8 << 20 };

struct generate_options {
    struct cli_where where;
    const char *model, *replica, *system, *request_id;
    bool chat, json, events, reasoning, ignore_eos;
    uint32_t max_tokens, deadline_ms, top_logprobs;
    uint64_t seed;
    double temperature, top_p;
    struct flag_list stop;
};

static bool read_stdin(struct buf *out) {
    size_t n;
    do {
        n = fread(buf_reserve(out, 65536), 1, 65536, stdin);
        out->len += n;
    } while (n > 0 && out->len <= PROMPT_BYTES_MAX);
    buf_append(out, "", 0);
    if (out->len > PROMPT_BYTES_MAX)
        fprintf(stderr, "shoal: the prompt on stdin is larger than %d MB\n", PROMPT_BYTES_MAX >> 20);
    return out->len <= PROMPT_BYTES_MAX;
}

static void join_operands(int n, char **operands, struct buf *out) {
    for (int i = 0; i < n; i++) {
        if (i > 0) buf_char(out, ' ');
        buf_str(out, operands[i]);
    }
}

// One event as a line: what a program that watches an answer come wants to know of it.
static void print_event(const struct shoal_event *e) {
    static const char *const names[] = {"accepted", "token", "tail", "done", "failed"};
    json_t *o = json_pack("{s:s, s:s, s:s, s:i}", "event", names[e->kind], "replica", e->replica, "router", e->router,
                          "attempts", (int)e->attempts);
    CHECK(o != NULL);
    if (e->kind == SHOAL_TOKEN) {
        json_object_set_new(o, "offset", json_integer(e->offset));
        json_object_set_new(o, "token", json_integer(e->token));
    }
    if (e->kind == SHOAL_TOKEN || e->kind == SHOAL_TAIL)
        json_object_set_new(o, "text", json_stringn(e->text ? e->text : "", e->text_len));
    json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    putchar('\n');
    fflush(stdout);
    json_decref(o);
}

static bool on_event_line(void *ctx, const struct shoal_event *e) {
    print_event(e);
    return answer_on_event(ctx, e);
}

static void print_json(const struct answer *a) {
    json_t *tokens = json_array();
    for (uint32_t i = 0; i < a->n_tokens; i++) {
        uint32_t id;
        memcpy(&id, a->tokens.data + i * sizeof id, sizeof id);
        json_array_append_new(tokens, json_integer(id));
    }
    json_t *o = json_pack("{s:s, s:s, s:s, s:i, s:i, s:s%, s:s%, s:o, s:s, s:{s:i, s:i, s:i}, s:I, s:I, s:I}", "request_id",
                          a->request_id, "replica", a->replica, "router", a->router, "attempt", (int)a->attempt, "attempts",
                          (int)a->attempts, "text", a->text.data ? a->text.data : "", a->text.len, "reasoning",
                          a->thoughts.data ? a->thoughts.data : "", a->thoughts.len, "tokens", tokens, "finish", a->finish,
                          "usage", "prompt_tokens", (int)a->prompt_tokens, "completion_tokens", (int)a->n_tokens,
                          "cached_tokens", (int)a->cached_tokens, "seed", (json_int_t)a->seed, "first_token_ms",
                          (json_int_t)(a->first_ms ? a->first_ms - a->begin_ms : 0), "total_ms",
                          (json_int_t)(a->end_ms - a->begin_ms));
    CHECK(o != NULL);
    if (a->failure.status[0])
        json_object_set_new(o, "error",
                            json_pack("{s:s, s:s, s:i, s:b, s:i}", "status", a->failure.status, "message", a->failure.text,
                                      "http_status", a->failure.http_status, "retryable", (int)a->failure.retryable,
                                      "retry_after_ms", (int)a->failure.retry_after_ms));
    json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(o);
}

static int ask(struct shoal *s, struct cli_interrupt *interrupt, const struct generate_options *o, struct shoal_request *r) {
    struct answer a = {.quiet = o->json || o->events, .reasoning = o->reasoning, .notes = true};
    char id[SHOAL_REQUEST_ID_SIZE];
    shoal_draw_request_id(id);
    r->request_id = o->request_id ? o->request_id : id;
    struct shoal_failure why;
    answer_begin(&a);
    cli_interrupt_begin(interrupt, s, r->request_id);
    int failed = shoal_generate(s, r, o->events ? on_event_line : answer_on_event, &a, &why);
    cli_interrupt_end(interrupt);
    if (failed && a.end_ms == 0) a.failure = why; // refused before anything was sent
    if (o->json || o->events)
        print_json(&a);
    else if (a.text.len > 0 && a.text.data[a.text.len - 1] != '\n')
        putchar('\n');
    fflush(stdout);
    answer_free(&a);
    if (!failed) return 0;
    return cli_fail(a.router[0] ? EXIT_ANSWER : EXIT_USAGE, &why); // without a router: never asked
}

static int with_prompt(struct shoal *s, struct cli_interrupt *interrupt, const struct generate_options *o,
                       const char *prompt, size_t len) {
    char *model = cli_model(s, o->model), *messages = NULL;
    if (model == NULL) return EXIT_USAGE;
    struct shoal_request r = SHOAL_REQUEST_INIT;
    r.model = model;
    r.pin_replica = o->replica;
    r.max_tokens = o->max_tokens;
    r.deadline_ms = o->deadline_ms;
    r.has_seed = o->seed != UINT64_MAX;
    r.seed = o->seed;
    r.temperature = (float)o->temperature;
    r.top_p = (float)o->top_p;
    r.ignore_eos = o->ignore_eos;
    r.stop = o->stop.values;
    r.n_stop = o->stop.n;
    int code = EXIT_USAGE;
    if (o->chat)
        r.messages_json = messages = answer_messages(o->system, prompt, len);
    else
        r.prompt = prompt, r.prompt_len = len;
    if (o->chat && messages == NULL)
        fprintf(stderr, "shoal: the prompt is not valid UTF-8\n");
    else
        code = ask(s, interrupt, o, &r);
    free(messages);
    free(model);
    return code;
}

static int run(const struct generate_options *o, int n, char **argv) {
    struct buf prompt = {0};
    struct cli_interrupt interrupt;
    struct shoal *s = NULL;
    if (n > 0)
        join_operands(n, argv, &prompt);
    else if (!read_stdin(&prompt))
        return EXIT_USAGE;
    cli_interrupt_init(&interrupt);
    int code = cli_open(&o->where, &s);
    if (code == 0) code = with_prompt(s, &interrupt, o, prompt.data, prompt.len);
    shoal_close(s);
    buf_free(&prompt);
    return code;
}

int cmd_generate(int argc, char **argv) {
    struct generate_options o = {.seed = UINT64_MAX, .temperature = NAN, .top_p = NAN};
    const struct flag flags[] = {
        {.name = "chat",
         .kind = FLAG_BOOL,
         .target = &o.chat,
         .help = "the prompt is a user's message; default: a text to go on with"},
        {.name = "system", .kind = FLAG_STRING, .target = &o.system, .value = "TEXT", .help = "system message, with --chat"},
        {.name = "model",
         .kind = FLAG_STRING,
         .target = &o.model,
         .value = "NAME",
         .help = "model or alias; default: the only one"},
        {.name = "max-tokens",
         .kind = FLAG_U32,
         .target = &o.max_tokens,
         .value = "N",
         .help = "tokens at most; default: up to the context"},
        {.name = "temperature",
         .kind = FLAG_DOUBLE,
         .target = &o.temperature,
         .value = "T",
         .help = "0: always the likeliest token; default: the model's"},
        {.name = "top-p",
         .kind = FLAG_DOUBLE,
         .target = &o.top_p,
         .value = "P",
         .help = "smallest set of tokens with this probability; default: the model's"},
        {.name = "seed",
         .kind = FLAG_U64,
         .target = &o.seed,
         .value = "N",
         .help = "the same seed gives the same answer; default: drawn"},
        {.name = "stop", .kind = FLAG_LIST, .target = &o.stop, .value = "TEXT", .help = "end before this text"},
        {.name = "ignore-eos", .kind = FLAG_BOOL, .target = &o.ignore_eos, .help = "go on when the model would end"},
        {.name = "reasoning", .kind = FLAG_BOOL, .target = &o.reasoning, .help = "show the model's reasoning too"},
        {.name = "deadline",
         .kind = FLAG_DURATION,
         .target = &o.deadline_ms,
         .value = "TIME",
         .help = "give up after, as in 30s; default: the router's"},
        {.name = "replica",
         .kind = FLAG_STRING,
         .target = &o.replica,
         .value = "NAME",
         .help = "only this replica may answer"},
        {.name = "request-id",
         .kind = FLAG_STRING,
         .target = &o.request_id,
         .value = "HEX",
         .help = "32 hex digits; default: drawn"},
        {.name = "json",
         .kind = FLAG_BOOL,
         .target = &o.json,
         .help = "print one JSON object at the end instead of the text"},
        {.name = "events",
         .kind = FLAG_BOOL,
         .target = &o.events,
         .help = "print a line of JSON for each event as it comes, and that object at the end"},
        CLI_WHERE_FLAGS(o.where),
    };
    const struct flag_spec spec = {
        .program = "shoal generate",
        .summary = "One answer to one prompt, from the arguments or from stdin.",
        .operands = "[PROMPT]",
        .examples = "  shoal generate --chat '12+30'\n"
                    "  echo 'Once upon a time' | shoal generate --max-tokens 40 --temperature 0\n"
                    "  shoal generate --chat --json --seed 7 'Sort 3 1 2'\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    int n = 0;
    enum flags_next next = flags_parse(&spec, argc, argv, &n);
    return next == FLAGS_RUN ? run(&o, n, argv) : next == FLAGS_EXIT ? 0 : EXIT_USAGE;
}
