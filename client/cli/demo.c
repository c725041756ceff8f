// shoal demo: asks for a count to 60, does something to the cluster somewhere in the middle, shows the count going on, and
// compares it with an undisturbed run of the same seed. 0 only if the count is whole and every token is the same. The acts
// differ in who is hit and how; what is hit must be a process of this host.
#include "client/cli/answer.h"
#include "common/base/check.h"
#include "common/sys/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    COUNT_TO = 60,
    HIT_FROM = 10, // hit after 10 to 89 of the count's tokens
    HIT_SPAN = 80,
    ASKED_MAX = 10, // times, until a replica of one process serves (see `alone`)
};

struct act {
    const char *name, *deed;
    int signal;
    bool router; // the router that the client talks to is hit, not the worker
    bool alone;  // only a replica of one process will do: others have no checkpoint of their own
    const char *summary, *examples;
};

static const struct act acts[] = {
    {"kill", "kill -9", SIGKILL, false, false,
     "Asks for a count, kills the worker that serves it with -9 in the middle, and checks that nothing was lost.",
     "  shoal demo kill\n  shoal demo kill --seed 7 --temperature 1\n"},
    {"notice", "SIGTERM to", SIGTERM, false, true,
     "Asks for a count, has the worker that serves it leave (SIGTERM) in the middle, and checks that nothing was lost.",
     "  shoal demo notice\n"},
    {"router", "kill -9", SIGKILL, true, false,
     "Asks for a count, kills the router that it comes through with -9 in the middle, and checks that nothing was lost.",
     "  shoal demo router\n"},
};

struct demo {
    struct answer answer; // first: it is the events' ctx too
    const struct act *act;
    const struct shoal_cluster *cluster;
    uint32_t hit_after;                                    // tokens; 0: leave it alone
    bool hit, unfit;                                       // unfit: given up, another replica was wanted
    char victim[SHOAL_NAME_SIZE], server[SHOAL_NAME_SIZE]; // who was hit; the replica that served then
    uint32_t kept, pause_ms;
    char problem[256]; // why nothing could be hit
};

// The process is one of ours, on this host; a pid from another host could be anybody's here.
static bool is_ours(uint32_t pid, const char *program) {
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    FILE *f = fopen(path, "r");
    if (f == NULL) return false;
    bool ok = fgets(name, sizeof name, f) && strncmp(name, program, strlen(program)) == 0;
    fclose(f);
    return ok;
}

static const struct shoal_replica_view *find_replica(const struct shoal_cluster *c, const char *name) {
    for (uint32_t i = 0; i < c->n_replicas; i++)
        if (strcmp(c->replicas[i].name, name) == 0) return &c->replicas[i];
    return NULL;
}

static uint32_t victims_pid(const struct demo *d, const struct shoal_event *e) {
    if (d->act->router) {
        for (uint32_t i = 0; i < d->cluster->n_routers; i++)
            if (strcmp(d->cluster->routers[i].name, e->router) == 0) return d->cluster->routers[i].pid;
        return 0;
    }
    const struct shoal_replica_view *r = find_replica(d->cluster, e->replica);
    return r && r->n_workers > 0 ? r->workers[0].pid : 0;
}

static bool hit(struct demo *d, const struct shoal_event *e) {
    const char *what = d->act->router ? "router" : "worker", *program = d->act->router ? "shoal-router" : "shoal-worker";
    const char *who = d->act->router ? e->router : e->replica;
    uint32_t pid = victims_pid(d, e);
    if (pid == 0 || !is_ours(pid, program)) {
        if (d->act->router)
            snprintf(d->problem, sizeof d->problem, "the router '%s' is no process on this host", who);
        else
            snprintf(d->problem, sizeof d->problem, "the serving replica '%s' has no worker process on this host", who);
        return false;
    }
    if (kill((pid_t)pid, d->act->signal) != 0) {
        snprintf(d->problem, sizeof d->problem, "cannot send a signal to process %u: %s", pid, strerror(errno));
        return false;
    }
    d->hit = true;
    d->kept = d->answer.n_tokens;
    snprintf(d->victim, sizeof d->victim, "%s", who);
    snprintf(d->server, sizeof d->server, "%s", e->replica);
    printf("\n%s-- %s %u: %s %s, after token %u --%s\n", cli_colour() ? CLI_DIM : "", d->act->deed, pid, what, who,
           d->answer.n_tokens, cli_colour() ? CLI_PLAIN : "");
    return true;
}

// The first token that comes by way of somebody else.
static void note_takeover(struct demo *d, const struct shoal_event *e) {
    bool other = d->act->router ? strcmp(e->router, d->victim) != 0 : e->attempts > d->answer.attempts;
    if (e->kind != SHOAL_TOKEN || !d->hit || d->pause_ms > 0 || !other) return;
    d->kept = d->answer.n_tokens;
    d->pause_ms = (uint32_t)(clock_ms() - d->answer.last_ms);
    if (d->pause_ms == 0) d->pause_ms = 1;
    printf("\n%s-- %s goes on: attempt %u, pause %u ms, %u tokens kept --%s\n", cli_colour() ? CLI_DIM : "",
           d->act->router ? e->router : e->replica, e->attempts, d->pause_ms, d->kept, cli_colour() ? CLI_PLAIN : "");
}

static bool on_event(void *ctx, const struct shoal_event *e) {
    struct demo *d = ctx;
    if (e->kind == SHOAL_TOKEN && d->answer.n_tokens == 0 && d->hit_after > 0 && d->act->alone) {
        const struct shoal_replica_view *r = find_replica(d->cluster, e->replica);
        d->unfit = r && r->n_workers > 1;
        if (d->unfit) return false;
    }
    note_takeover(d, e);
    answer_on_event(&d->answer, e);
    if (e->kind == SHOAL_TOKEN && !d->hit && d->hit_after > 0 && d->answer.n_tokens == d->hit_after) return hit(d, e);
    return true;
}

// How many of 1, 2, … come in the text, in order, each once; -1: something else is in between.
static int count_numbers(const char *text) {
    int expected = 1;
    for (const char *at = text; *at;) {
        if (*at < '0' || *at > '9') {
            at++;
            continue;
        }
        char *end;
        if (strtol(at, &end, 10) != expected) return -1;
        expected++;
        at = end;
    }
    return expected - 1;
}

static int run(struct shoal *s, const char *model, uint64_t seed, double temperature, struct demo *d) {
    struct shoal_request r = SHOAL_REQUEST_INIT;
    char question[64];
    snprintf(question, sizeof question, "Count from 1 to %d.", COUNT_TO);
    char *messages = answer_messages(NULL, question, strlen(question));
    r.model = model, r.messages_json = messages, r.has_seed = true, r.seed = seed, r.temperature = (float)temperature;
    r.deadline_ms = 120000, r.max_tokens = 1000;
    struct shoal_failure why;
    int failed = -1;
    for (int asked = 0; asked == 0 || (d->unfit && asked < ASKED_MAX); asked++) {
        d->unfit = false;
        answer_begin(&d->answer);
        failed = shoal_generate(s, &r, on_event, d, &why);
    }
    free(messages);
    if (!failed) return 0;
    if (d->unfit)
        snprintf(d->problem, sizeof d->problem, "no replica of one process served the count in %d attempts", ASKED_MAX);
    fprintf(stderr, "\nshoal: %s\n", d->problem[0] ? d->problem : why.text);
    return d->problem[0] ? EXIT_USAGE : EXIT_ANSWER;
}

// Tokens of prompt and answer that whoever went on had to compute although they had been computed before.
static uint32_t computed_again(const struct demo *d) {
    const struct answer *a = &d->answer;
    uint32_t all = a->prompt_tokens + d->kept - 1, spared = a->restored_tokens + a->cached_tokens;
    return all > spared ? all - spared : 0;
}

static void print_origin(const struct demo *d) {
    const struct answer *a = &d->answer;
    if (d->act->router && strcmp(a->replica, d->server) == 0)
        printf("  resumed from: attach (%s had gone on with it; 0 tokens recomputed)\n", a->replica);
    else if (a->restored_tokens > 0)
        printf("  resumed from: checkpoint (%s loaded %u tokens; %u tokens recomputed)\n", a->replica, a->restored_tokens,
               computed_again(d));
    else
        printf("  resumed from: %u tokens kept (%s took over from %s; %u tokens recomputed, prompt included)\n", d->kept,
               a->replica, d->server, computed_again(d));
}

// The two runs side by side; prints the verdict.
static int judge(const struct demo *disturbed, const struct demo *undisturbed) {
    const struct answer *a = &disturbed->answer, *b = &undisturbed->answer;
    int counted = count_numbers(a->text.data ? a->text.data : "");
    bool same = a->n_tokens == b->n_tokens && memcmp(a->tokens.data, b->tokens.data, a->tokens.len) == 0;
    bool survived = disturbed->hit && disturbed->pause_ms > 0;
    if (survived) {
        printf("  %d of %d, none lost, none doubled; %u tokens in %u attempts\n  pause: %u ms\n", counted, COUNT_TO,
               a->n_tokens, a->attempts, disturbed->pause_ms);
        print_origin(disturbed);
        printf("  identical to the undisturbed run: %s\n", same ? "yes" : "NO");
    }
    if (counted == COUNT_TO && same && survived) return 0;
    if (!survived)
        fprintf(stderr, "shoal: the answer was complete before the %s was missed; give the workers --step-min-ms\n",
                disturbed->act->router ? "router" : "worker");
    if (counted != COUNT_TO) fprintf(stderr, "shoal: the count is not 1 to %d, each once\n", COUNT_TO);
    if (!same)
        fprintf(stderr, "shoal: the tokens differ from the undisturbed run's (%u and %u tokens)\n", a->n_tokens,
                b->n_tokens);
    return EXIT_ANSWER;
}

static uint32_t ready_replicas(const struct shoal_cluster *c, const char *model) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_replicas; i++)
        n += strcmp(c->replicas[i].state, "ready") == 0 && strcmp(c->replicas[i].model, model) == 0;
    return n;
}

static uint32_t reached_routers(const struct shoal_cluster *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_routers; i++) n += c->routers[i].reached;
    return n;
}

static bool enough(const struct act *act, const struct shoal_cluster *c, const char *model) {
    uint32_t replicas = ready_replicas(c, model), routers = reached_routers(c), needed = act->router ? 1 : 2;
    if (replicas < needed)
        fprintf(stderr, "shoal: %s has %u ready replicas; the demo needs %u, one to be hit and one to go on\n", model,
                replicas, needed);
    else if (act->router && routers < 2)
        fprintf(stderr, "shoal: %u routers answer; the demo needs 2, one to be hit and one to go on\n", routers);
    return replicas >= needed && (!act->router || routers >= 2);
}

static int perform(struct shoal *s, const struct act *act, const char *model, uint64_t seed, double temperature) {
    struct shoal_cluster *c;
    struct shoal_failure why;
    if (shoal_cluster(s, 2000, &c, &why) != 0) return cli_fail(EXIT_USAGE, &why);
    uint32_t random;
    CHECK(getrandom(&random, sizeof random, 0) == sizeof random);
    struct demo disturbed = {.act = act, .cluster = c, .hit_after = HIT_FROM + random % HIT_SPAN};
    struct demo undisturbed = {.act = act, .cluster = c};
    undisturbed.answer.quiet = true;
    int code = EXIT_USAGE;
    if (enough(act, c, model)) {
        printf("Count from 1 to %d. (seed %" PRIu64 ")\n", COUNT_TO, seed);
        code = run(s, model, seed, temperature, &disturbed);
        if (code == 0) printf("\n");
        if (code == 0) code = run(s, model, seed, temperature, &undisturbed);
        if (code == 0) code = judge(&disturbed, &undisturbed);
    }
    answer_free(&disturbed.answer), answer_free(&undisturbed.answer);
    shoal_cluster_free(c);
    return code;
}

static int play(const struct act *act, int argc, char **argv) {
    struct cli_where where = {0};
    const char *model_flag = NULL;
    uint64_t seed = UINT64_MAX;
    double temperature = 0;
    char program[32];
    snprintf(program, sizeof program, "shoal demo %s", act->name);
    const struct flag flags[] = {
        {.name = "model",
         .kind = FLAG_STRING,
         .target = &model_flag,
         .value = "NAME",
         .help = "model or alias; default: the only one"},
        {.name = "seed", .kind = FLAG_U64, .target = &seed, .value = "N", .help = "of the answer; default: drawn"},
        {.name = "temperature",
         .kind = FLAG_DOUBLE,
         .target = &temperature,
         .value = "T",
         .help = "0: always the likeliest token"},
        CLI_WHERE_FLAGS(where),
    };
    const struct flag_spec spec = {
        .program = program,
        .summary = act->summary,
        .examples = act->examples,
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    enum flags_next next = flags_parse(&spec, argc, argv, NULL);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : EXIT_USAGE;
    struct shoal *s;
    int code = cli_open(&where, &s);
    if (code != 0) return code;
    char *model = cli_model(s, model_flag);
    while (seed == UINT64_MAX || seed > INT64_MAX) { // a number that people can type again
        CHECK(getrandom(&seed, sizeof seed, 0) == sizeof seed);
        seed >>= 40;
    }
    code = model ? perform(s, act, model, seed, temperature) : EXIT_USAGE;
    free(model);
    shoal_close(s);
    return code;
}

int cmd_demo(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(acts); i++)
        if (strcmp(argv[1], acts[i].name) == 0) return play(&acts[i], argc - 1, argv + 1);
    bool help = argc > 1 && strcmp(argv[1], "--help") == 0;
    FILE *to = help ? stdout : stderr;
    fprintf(to, "usage: shoal demo ACT [FLAGS]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) fprintf(to, "  %-7s %s\n", acts[i].name, acts[i].summary);
    return help ? 0 : EXIT_USAGE;
}
