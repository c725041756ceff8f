// shoal drain: tells a worker that it will be taken away, and watches it go. The word may be lost on its way, and so may
// what routers say of it: it is repeated until they show that it has come.
#include "client/cli/cli.h"
#include "common/base/check.h"
#include "common/base/error.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 200, HEARD_MS = 5000, SLACK_MS = 15000, NAMES_MAX = 256 };

struct drain_options {
    struct cli_where where;
    uint32_t deadline_ms;
    bool no_wait;
    const char *name;
};

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static enum flags_next parse(int argc, char **argv, struct drain_options *o) {
    const struct flag flags[] = {
        {.name = "deadline",
         .kind = FLAG_DURATION,
         .target = &o->deadline_ms,
         .value = "TIME",
         .help = "when it must be gone: streams that can't end by then are handed over; 0: all end there, default: 30s"},
        {.name = "no-wait", .kind = FLAG_BOOL, .target = &o->no_wait, .help = "only tell it, don't wait until it is gone"},
        CLI_WHERE_FLAGS(o->where),
    };
    const struct flag_spec spec = {
        .program = "shoal drain",
        .summary = "Tells a worker that it will be taken away: it takes nothing new, hands over what lasts, and ends.",
        .operands = "NAME",
        .examples = "  shoal drain north-1\n  shoal drain north-1 --deadline 110s\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    int n = 0;
    enum flags_next next = flags_parse(&spec, argc, argv, &n);
    if (next != FLAGS_RUN) return next;
    if (n != 1) {
        fprintf(stderr, "shoal: which worker? shoal drain NAME (shoal status lists them)\n");
        return FLAGS_USAGE;
    }
    o->name = argv[0];
    return FLAGS_RUN;
}

static const struct shoal_replica_view *find(const struct shoal_cluster *c, const char *name) {
    for (uint32_t i = 0; i < c->n_replicas; i++) {
        const struct shoal_replica_view *r = &c->replicas[i];
        if (strcmp(r->name, name) == 0) return r;
        for (uint32_t k = 0; k < r->n_workers; k++) // a process of a replica in stages
            if (strcmp(r->workers[k].name, name) == 0) return r;
    }
    return NULL;
}

static int not_there(const struct shoal_cluster *c, const char *name) {
    const char *names[NAMES_MAX];
    uint32_t n = 0;
    for (; n < c->n_replicas && n < NAMES_MAX; n++) names[n] = c->replicas[n].name;
    const char *near = error_nearest(name, names, n);
    fprintf(stderr, "shoal: the cluster has no worker '%s'%s%s%s; shoal status lists them\n", name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    return EXIT_USAGE;
}

enum sight { UNSEEN, SERVING, LEAVING, GONE };

// What the routers show of it now. *running: its streams.
static enum sight look(struct shoal *s, const char *name, uint32_t *running) {
    struct shoal_cluster *c;
    if (shoal_cluster(s, LOOK_MS, &c, NULL) != 0) return UNSEEN;
    const struct shoal_replica_view *r = find(c, name);
    enum sight sight = r == NULL ? GONE : strcmp(r->state, "noticed") == 0 ? LEAVING : SERVING;
    if (r) *running = r->running + r->queued;
    shoal_cluster_free(c);
    return sight;
}

static void pause_ms(uint32_t ms) { nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL); }

// Repeats the notice until the worker is seen to have it. 0, or an exit code.
static int tell(struct shoal *s, const struct drain_options *o, int64_t began_ms, enum sight *sight) {
    uint32_t running = 0;
    for (;;) {
        uint32_t passed_ms = (uint32_t)(now_ms() - began_ms);
        uint32_t left_ms = o->deadline_ms > passed_ms ? o->deadline_ms - passed_ms : o->deadline_ms ? 1 : 0;
        shoal_notice(s, o->name, left_ms);
        *sight = look(s, o->name, &running);
        if (*sight == LEAVING || *sight == GONE) break;
        if (passed_ms > HEARD_MS) {
            fprintf(stderr,
                    "shoal: %s has not taken the notice; it takes an operator's certificate, or SIGTERM to its process\n",
                    o->name);
            return EXIT_ANSWER;
        }
        pause_ms(LOOK_MS / 4);
    }
    if (*sight == LEAVING) printf("%s takes nothing new; %u streams end there or are handed over\n", o->name, running);
    return 0;
}

static int watch(struct shoal *s, const struct drain_options *o, int64_t began_ms) {
    uint32_t running = 0, absent = 0;
    int64_t end_ms = o->deadline_ms ? began_ms + o->deadline_ms + SLACK_MS : INT64_MAX;
    while (now_ms() < end_ms) {
        enum sight sight = look(s, o->name, &running);
        absent = sight == GONE ? absent + 1 : 0;
        if (absent == 2) { // no router has it
            printf("%s is gone after %.1f s\n", o->name, (double)(now_ms() - began_ms) / 1000);
            return 0;
        }
        pause_ms(LOOK_MS / 4);
    }
    fprintf(stderr, "shoal: %s is still there %u s after its deadline, with %u streams\n", o->name, SLACK_MS / 1000,
            running);
    return EXIT_ANSWER;
}

static int drain(struct shoal *s, const struct drain_options *o) {
    struct shoal_cluster *c;
    struct shoal_failure why;
    if (shoal_cluster(s, 0, &c, &why) != 0) return cli_fail(EXIT_USAGE, &why);
    int code = find(c, o->name) ? 0 : not_there(c, o->name);
    shoal_cluster_free(c);
    if (code != 0) return code;
    int64_t began_ms = now_ms();
    enum sight sight;
    code = tell(s, o, began_ms, &sight);
    return code != 0 || o->no_wait ? code : watch(s, o, began_ms);
}

int cmd_drain(int argc, char **argv) {
    struct drain_options o = {.deadline_ms = 30000};
    enum flags_next next = parse(argc, argv, &o);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : EXIT_USAGE;
    struct shoal *s;
    int code = cli_open(&o.where, &s);
    if (code != 0) return code;
    code = drain(s, &o);
    shoal_close(s);
    return code;
}
