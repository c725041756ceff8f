// shoal-sim: runs seeds, reports. The only place with a clock, signals and global state.
#include "tests/sim/heap.h"
#include "tests/sim/marks.h"
#include "tests/sim/summary.h"

#include "common/base/check.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { HASH_TWICE_EVERY = 20, WALL_LIMIT_S = 600, RARE_MARKS_HOURS = 400 };

static struct { // for the handler of a crash
    const struct sim_options *options;
    const struct world *world;
} present;

static double wall_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void print_replay(const struct world *w) {
    char command[512];
    options_replay(w->options, w->seed, command, sizeof command);
    fprintf(stderr, "  replay: %s --trace\n", command);
}

static void on_crash(int signal_number) {
    const struct world *w = present.world;
    if (w != NULL) {
        fprintf(stderr, "seed %llu at %.6f s: %s\n", (unsigned long long)w->seed, (double)w->now / 1e6,
                signal_number == SIGALRM ? "the run hangs" : "an invariant inside the program is broken (see above)");
        print_replay(w);
        trace_print(&w->trace, NULL, stderr);
        char line[128]; // not by printf, which may allocate: a handler must not
        int n = snprintf(line, sizeof line, "{\"seed\":%llu,\"events\":%llu,\"ok\":false}\n", (unsigned long long)w->seed,
                         (unsigned long long)w->events);
        if (write(STDOUT_FILENO, line, (size_t)n) < 0) _exit(1);
    }
    _exit(present.options->caught && signal_number == SIGABRT ? 0 : 1);
}

static void report_failure(const struct world *w) {
    const struct stream_key *key = NULL;
    unsigned number;
    if (sscanf(w->failure, "request %u", &number) == 1 && number < w->n_requests) key = &w->requests[number]->key;
    fprintf(stderr, "seed %llu at %.6f s: %s\n", (unsigned long long)w->seed, (double)w->now / 1e6, w->failure);
    print_replay(w);
    trace_print(&w->trace, key, stderr);
}

static void run_seed(const struct sim_options *o, uint64_t seed, struct summary *out) {
    double start = wall_s();
    uint64_t blocks = heap_blocks();
    struct world *w = world_create(o, seed);
    present.world = w;
    alarm(WALL_LIMIT_S);
    world_run(w);
    alarm(0);
    summary_take(out, w, wall_s() - start);
    if (w->failed) report_failure(w);
    world_destroy(w);
    present.world = NULL;
    if (heap_blocks() == blocks) return;
    fprintf(stderr, "seed %llu: %lld blocks of memory were not given back\n", (unsigned long long)seed,
            (long long)(heap_blocks() - blocks));
    out->ok = false;
}

static void run_seed_and_replay(const struct sim_options *o, uint64_t seed, struct summary *out) {
    run_seed(o, seed, out);
    if (o->seed_first == o->seed_last || seed % HASH_TWICE_EVERY != 0 || !out->ok) return;
    struct summary again;
    run_seed(o, seed, &again);
    if (again.hash == out->hash && again.events == out->events) return;
    fprintf(stderr, "seed %llu: two runs differ (%llu and %llu events, hash %016llx and %016llx)\n",
            (unsigned long long)seed, (unsigned long long)out->events, (unsigned long long)again.events,
            (unsigned long long)out->hash, (unsigned long long)again.hash);
    out->ok = false;
}

static void show_progress(const struct sim_options *o, uint64_t done, uint64_t all, const struct summary *total) {
    enum { WIDTH = 40 };
    char bar[WIDTH + 1];
    uint64_t filled = done * WIDTH / all;
    for (uint64_t i = 0; i < WIDTH; i++) bar[i] = i < filled ? '#' : '.';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %llu of %llu seeds, %llu held%s", bar, (unsigned long long)done, (unsigned long long)all,
            (unsigned long long)total->seed, done == all ? "\n" : "");
}

static bool all_marks_hit(double hours) {
    bool rare = hours >= RARE_MARKS_HOURS;
    uint32_t missing = marks_missing(rare, stderr);
    fprintf(stderr, "%u of %u coverage marks were not hit%s%s\n", missing, marks_count(), rare ? "" : " (rare ones aside)",
            missing ? ": run more seeds, or find out which fault or check is missing" : "");
    return missing == 0;
}

int main(int argc, char **argv) {
    struct sim_options o;
    int code;
    if (!options_parse(argc, argv, &o, &code)) return code;
    present.options = &o;
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    signal(SIGBUS, on_crash);
    signal(SIGFPE, on_crash);
    signal(SIGALRM, on_crash);
    uint64_t all = o.seed_last - o.seed_first + 1;
    struct summary total = {.ok = true, .goodput = 1};
    for (uint64_t k = 0; k < all; k++) {
        struct summary s;
        run_seed_and_replay(&o, o.seed_first + k, &s);
        summary_add(&total, &s);
        summary_print(&s, 1, stdout);
        fflush(stdout);
        if (o.caught && !s.ok) {
            fprintf(stderr, "caught by seed %llu, after %llu that did not\n", (unsigned long long)s.seed,
                    (unsigned long long)k);
            return 0;
        }
        if (o.progress && all > 1) show_progress(&o, k + 1, all, &total);
    }
    if (all > 1) summary_print(&total, all, stdout);
    if (o.marks) total.ok &= all_marks_hit(total.hours);
    return total.ok != o.caught ? 0 : 1;
}
