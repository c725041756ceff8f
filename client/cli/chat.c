// shoal chat: a conversation, line by line. The history is kept here; each turn sends all of it.
#include "client/cli/answer.h"
#include "common/base/check.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chat {
    struct cli_where where;
    const char *model_flag, *system, *replica;
    uint32_t max_tokens;
    uint64_t seed;
    double temperature;
    bool no_reasoning;

    char *model;
    struct shoal *shoal;
    struct cli_interrupt interrupt;
    json_t *history;
    bool terminal; // stdin is one
};

static void begin_history(struct chat *c) {
    json_decref(c->history);
    c->history = json_array();
    if (c->system) json_array_append_new(c->history, json_pack("{s:s, s:s}", "role", "system", "content", c->system));
}

static void add_message(struct chat *c, const char *role, const char *text, size_t len) {
    json_t *m = json_pack("{s:s, s:s%}", "role", role, "content", text, len);
    if (m) json_array_append_new(c->history, m);
}

static void forget_last(struct chat *c) { json_array_remove(c->history, json_array_size(c->history) - 1); }

static void tell_numbers(const struct chat *c, const struct answer *a) {
    if (!c->terminal) return;
    double seconds = (double)(a->end_ms - a->begin_ms) / 1000;
    printf("%s[%s, %u tokens in %.1f s, first after %" PRId64 " ms%s]%s\n", CLI_DIM, a->replica, a->n_tokens, seconds,
           a->first_ms ? a->first_ms - a->begin_ms : 0, a->attempts > 1 ? ", survived a lost worker" : "", CLI_PLAIN);
}

// True: go on, even if this answer failed.
static void turn(struct chat *c, const char *line, size_t len) {
    size_t before = json_array_size(c->history);
    add_message(c, "user", line, len);
    if (json_array_size(c->history) == before) {
        fprintf(stderr, "shoal: that line is not valid UTF-8\n");
        return;
    }
    char *messages = json_dumps(c->history, JSON_COMPACT);
    char id[SHOAL_REQUEST_ID_SIZE];
    shoal_draw_request_id(id);
    struct answer a = {.reasoning = !c->no_reasoning, .notes = true};
    struct shoal_request r = SHOAL_REQUEST_INIT;
    struct shoal_failure why;
    r.model = c->model, r.messages_json = messages, r.request_id = id, r.pin_replica = c->replica;
    r.max_tokens = c->max_tokens, r.temperature = (float)c->temperature;
    r.has_seed = c->seed != UINT64_MAX, r.seed = c->seed;
    answer_begin(&a);
    cli_interrupt_begin(&c->interrupt, c->shoal, id);
    int failed = shoal_generate(c->shoal, &r, answer_on_event, &a, &why);
    bool interrupted = cli_interrupt_end(&c->interrupt);
    putchar('\n');
    if (failed) {
        forget_last(c);
        if (interrupted)
            printf("[interrupted]\n");
        else
            cli_fail(0, &why);
    } else {
        add_message(c, "assistant", a.text.data ? a.text.data : "", a.text.len);
        tell_numbers(c, &a);
    }
    free(messages);
    answer_free(&a);
}

// True: it was a command.
static bool command(struct chat *c, const char *line) {
    if (strcmp(line, "/reset") == 0) {
        begin_history(c);
        printf("A new conversation.\n");
    } else if (strcmp(line, "/help") == 0) {
        printf("/reset forgets the conversation, /quit (or Ctrl-D) ends, Ctrl-C interrupts an answer.\n");
    } else if (line[0] == '/') {
        printf("There is no command %s; /help lists them.\n", line);
    } else {
        return false;
    }
    return true;
}

static void converse(struct chat *c) {
    char *line = NULL;
    size_t cap = 0;
    if (c->terminal) printf("Talking to %s. /help lists commands.\n", c->model);
    for (;;) {
        if (c->terminal) fputs("> ", stdout);
        fflush(stdout);
        ssize_t n = getline(&line, &cap, stdin);
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = '\0';
        if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) break;
        if (n > 0 && !command(c, line)) turn(c, line, (size_t)n);
    }
    free(line);
}

int cmd_chat(int argc, char **argv) {
    struct chat c = {.seed = UINT64_MAX, .temperature = NAN, .terminal = isatty(STDIN_FILENO) && cli_colour()};
    const struct flag flags[] = {
        {.name = "model",
         .kind = FLAG_STRING,
         .target = &c.model_flag,
         .value = "NAME",
         .help = "model or alias; default: the only one"},
        {.name = "system", .kind = FLAG_STRING, .target = &c.system, .value = "TEXT", .help = "system message"},
        {.name = "max-tokens",
         .kind = FLAG_U32,
         .target = &c.max_tokens,
         .value = "N",
         .help = "tokens of an answer at most; default: up to the context"},
        {.name = "temperature",
         .kind = FLAG_DOUBLE,
         .target = &c.temperature,
         .value = "T",
         .help = "0: always the likeliest token; default: the model's"},
        {.name = "seed", .kind = FLAG_U64, .target = &c.seed, .value = "N", .help = "of each answer; default: drawn"},
        {.name = "replica",
         .kind = FLAG_STRING,
         .target = &c.replica,
         .value = "NAME",
         .help = "only this replica may answer"},
        {.name = "no-reasoning", .kind = FLAG_BOOL, .target = &c.no_reasoning, .help = "don't show the model's reasoning"},
        CLI_WHERE_FLAGS(c.where),
    };
    const struct flag_spec spec = {
        .program = "shoal chat",
        .summary = "A conversation, line by line: /help lists commands, Ctrl-C interrupts an answer.",
        .examples = "  shoal chat\n  shoal chat --model tiny --temperature 0\n  printf '12+30\\n' | shoal chat\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    enum flags_next next = flags_parse(&spec, argc, argv, NULL);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : EXIT_USAGE;
    cli_interrupt_init(&c.interrupt);
    int code = cli_open(&c.where, &c.shoal);
    if (code != 0) return code;
    c.model = cli_model(c.shoal, c.model_flag);
    begin_history(&c);
    if (c.model)
        converse(&c);
    else
        code = EXIT_USAGE;
    json_decref(c.history);
    free(c.model);
    shoal_close(c.shoal);
    return code;
}
