// shoal demo kill: asks for a count to 60, kills the worker that serves it with -9 somewhere in the middle, shows the count
// going on, and compares it with an undisturbed run of the same seed. 0 only if the count is whole and every token is the
// same.
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

enum { COUNT_TO = 60, KILL_FROM = 10, KILL_SPAN = 80 }; // killed after 10 to 89 of the count's tokens

struct demo {
    struct answer answer; // first: it is the events' ctx too
    const struct shoal_cluster *cluster;
    uint32_t kill_after; // tokens; 0: leave it alone
    bool killed;
    char victim[SHOAL_NAME_SIZE];
    uint32_t victim_pid, kept, pause_ms;
    char problem[256]; // why nothing could be killed
};

// The process is one of ours, on this host; a pid from another host could be anybody's here.
static bool is_worker(uint32_t pid) {
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    FILE *f = fopen(path, "r");
    if (f == NULL) return false;
    bool ok = fgets(name, sizeof name, f) && strncmp(name, "shoal-worker", 12) == 0;
    fclose(f);
    return ok;
}

static const struct shoal_replica_view *find_replica(const struct shoal_cluster *c, const char *name) {
    for (uint32_t i = 0; i < c->n_replicas; i++)
        if (strcmp(c->replicas[i].name, name) == 0) return &c->replicas[i];
    return NULL;
}

static bool kill_serving_worker(struct demo *d, const struct shoal_event *e) {
    const struct shoal_replica_view *r = find_replica(d->cluster, e->replica);
    uint32_t pid = r && r->n_workers > 0 ? r->workers[0].pid : 0;
    if (pid == 0 || !is_worker(pid)) {
        snprintf(d->problem, sizeof d->problem, "the serving replica '%s' has no worker process on this host", e->replica);
        return false;
    }
    if (kill((pid_t)pid, SIGKILL) != 0) {
        snprintf(d->problem, sizeof d->problem, "cannot kill process %u: %s", pid, strerror(errno));
        return false;
    }
    d->killed = true;
    d->victim_pid = pid;
    d->kept = d->answer.n_tokens;
    snprintf(d->victim, sizeof d->victim, "%s", e->replica);
    printf("\n%s-- kill -9 %u: worker of %s, after token %u --%s\n", cli_colour() ? CLI_DIM : "", pid, e->replica,
           d->answer.n_tokens, cli_colour() ? CLI_PLAIN : "");
    return true;
}

static bool on_event(void *ctx, const struct shoal_event *e) {
    struct demo *d = ctx;
    bool took_over = e->kind == SHOAL_TOKEN && d->killed && d->pause_ms == 0 && e->attempts > d->answer.attempts;
    if (took_over) {
        d->kept = d->answer.n_tokens;
        d->pause_ms = (uint32_t)(clock_ms() - d->answer.last_ms);
        if (d->pause_ms == 0) d->pause_ms = 1;
        printf("\n%s-- %s goes on: attempt %u, pause %u ms, %u tokens kept --%s\n", cli_colour() ? CLI_DIM : "", e->replica,
               e->attempts, d->pause_ms, d->kept, cli_colour() ? CLI_PLAIN : "");
    }
    answer_on_event(&d->answer, e);
    if (e->kind == SHOAL_TOKEN && !d->killed && d->kill_after > 0 && d->answer.n_tokens == d->kill_after)
        return kill_serving_worker(d, e);
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
    answer_begin(&d->answer);
    int failed = shoal_generate(s, &r, on_event, d, &why);
    free(messages);
    if (!failed) return 0;
    fprintf(stderr, "\nshoal: %s\n", d->problem[0] ? d->problem : why.text);
    return d->problem[0] ? EXIT_USAGE : EXIT_ANSWER;
}

// The two runs side by side; prints the verdict.
static int judge(const struct demo *disturbed, const struct demo *undisturbed) {
    const struct answer *a = &disturbed->answer, *b = &undisturbed->answer;
    int counted = count_numbers(a->text.data ? a->text.data : "");
    bool same = a->n_tokens == b->n_tokens && memcmp(a->tokens.data, b->tokens.data, a->tokens.len) == 0;
    bool survived = disturbed->killed && disturbed->pause_ms > 0;
    if (counted == COUNT_TO && same && survived) {
        printf("%d of %d, none lost, none doubled, equal to the undisturbed run\n", counted, COUNT_TO);
        printf("attempt %u, pause %u ms, %u of %u tokens kept, then %s went on for %s\n", a->attempts, disturbed->pause_ms,
               disturbed->kept, a->n_tokens, a->replica, disturbed->victim);
        return 0;
    }
    if (!survived)
        fprintf(stderr,
                "shoal: the answer was complete before the killed worker was missed; give the workers --step-min-ms\n");
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

static int perform(struct shoal *s, const char *model, uint64_t seed, double temperature) {
    struct shoal_cluster *c;
    struct shoal_failure why;
    if (shoal_cluster(s, 2000, &c, &why) != 0) return cli_fail(EXIT_USAGE, &why);
    uint32_t random;
    CHECK(getrandom(&random, sizeof random, 0) == sizeof random);
    struct demo disturbed = {.cluster = c, .kill_after = KILL_FROM + random % KILL_SPAN}, undisturbed = {.cluster = c};
    undisturbed.answer.quiet = true;
    int code = EXIT_USAGE;
    if (ready_replicas(c, model) < 2) {
        fprintf(stderr, "shoal: %s has %u ready replicas; the demo needs 2, one to be killed and one to go on\n", model,
                ready_replicas(c, model));
    } else {
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

int cmd_demo_kill(int argc, char **argv) {
    struct cli_where where = {0};
    const char *model_flag = NULL;
    uint64_t seed = UINT64_MAX;
    double temperature = 0;
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
        .program = "shoal demo kill",
        .summary =
            "Asks for a count, kills the worker that serves it with -9 in the middle, and checks that nothing was lost.",
        .examples = "  shoal demo kill\n  shoal demo kill --seed 7 --temperature 1\n",
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
    code = model ? perform(s, model, seed, temperature) : EXIT_USAGE;
    free(model);
    shoal_close(s);
    return code;
}
