#include "tests/sim/options.h"

#include "common/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const help =
    "shoal-sim: a whole cluster on a virtual clock, from one seed, with everything that can go wrong.\n"
    "\n"
    "  --seed N[..M]      the seed, or a range of them (default 1)\n"
    "  --hours H          virtual hours of each run (default 1)\n"
    "  --routers R  --workers W  --regions K  --clients C     (defaults 2, 6, 2, 3)\n"
    "  --faults all|none|LIST   which a seed may draw: kill,lose,late,double,partition,odd,store,group\n"
    "  --rate R           requests per second (default 2)\n"
    "  --bug NAME         switch a deliberate bug on: offset, stale, reservation, resend, double-free, splice, untold,\n"
    "                     restore, epoch, parked or attempt\n"
    "  --caught           with --bug: exit code 0 as soon as a seed catches it, 1 if none does\n"
    "  --unsalted         tokens don't depend on who computes them: answers must equal an undisturbed run\n"
    "  --check            the cores' invariants after every turn instead of every 64th\n"
    "  --marks            print the coverage marks that were hit rarely; success needs all of them\n"
    "  --trace            after a failure, print what happened before it\n"
    "  --help\n"
    "\n"
    "Each seed ends with a line of JSON, the last line is the summary. Exit code 0: every rule held; 1: one was broken\n"
    "(seed, time, rule and the command that replays it are printed); 2: bad usage.\n";

static const char *const fault_names[] = {"kill", "lose", "late", "double", "partition", "odd", "store", "group"};
static const char *const bug_names[] = {"none",   "offset", "stale",   "reservation", "resend", "double-free",
                                        "splice", "untold", "restore", "epoch",       "parked", "attempt"};

const char *bug_name(enum sim_bug bug) { return bug_names[bug]; }

static bool parse_number(const char *text, uint64_t lo, uint64_t hi, uint64_t *out) {
    char *end;
    if (*text < '0' || *text > '9') return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0' && *out >= lo && *out <= hi;
}

static bool parse_seeds(const char *text, struct sim_options *o) {
    char first[32];
    const char *dots = strstr(text, "..");
    size_t len = dots ? (size_t)(dots - text) : strlen(text);
    if (len >= sizeof first) return false;
    memcpy(first, text, len);
    first[len] = '\0';
    if (!parse_number(first, 0, UINT64_MAX - 1, &o->seed_first)) return false;
    o->seed_last = o->seed_first;
    return !dots || parse_number(dots + 2, o->seed_first, UINT64_MAX - 1, &o->seed_last);
}

static bool parse_faults(const char *text, struct sim_options *o) {
    o->faults = 0;
    if (strcmp(text, "none") == 0) return true;
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, ",");
        uint32_t found = len == 3 && memcmp(at, "all", 3) == 0 ? FAULT_ALL : 0;
        for (uint32_t i = 0; i < ARRAY_LEN(fault_names); i++) {
            if (strlen(fault_names[i]) == len && memcmp(at, fault_names[i], len) == 0) found = 1u << i;
        }
        if (found == 0) return false;
        o->faults |= found;
        at += len + (at[len] == ',');
    }
    return o->faults != 0;
}

static bool parse_bug(const char *text, struct sim_options *o) {
    for (uint32_t i = 0; i < ARRAY_LEN(bug_names); i++) {
        if (strcmp(text, bug_names[i]) != 0) continue;
        o->bug = (enum sim_bug)i;
        return true;
    }
    return false;
}

static bool parse_real(const char *text, double lo, double hi, double *out) {
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= lo && *out <= hi;
}

static bool parse_count(const char *text, uint32_t lo, uint32_t hi, uint32_t *out) {
    uint64_t n;
    if (!parse_number(text, lo, hi, &n)) return false;
    *out = (uint32_t)n;
    return true;
}

// 1: taken; 0: wrong value; -1: no such option.
static int take(const char *name, const char *value, struct sim_options *o) {
    if (strcmp(name, "--seed") == 0) return parse_seeds(value, o);
    if (strcmp(name, "--hours") == 0) return parse_real(value, 0.02, 10000, &o->hours);
    if (strcmp(name, "--routers") == 0) return parse_count(value, 1, SIM_ROUTERS_MAX, &o->routers);
    if (strcmp(name, "--workers") == 0) return parse_count(value, 1, SIM_WORKERS_MAX, &o->workers);
    if (strcmp(name, "--regions") == 0) return parse_count(value, 1, SIM_REGIONS_MAX, &o->regions);
    if (strcmp(name, "--clients") == 0) return parse_count(value, 0, SIM_CLIENTS_MAX, &o->clients);
    if (strcmp(name, "--rate") == 0) return parse_real(value, 0.001, 10000, &o->rate);
    if (strcmp(name, "--faults") == 0) return parse_faults(value, o);
    if (strcmp(name, "--bug") == 0) return parse_bug(value, o);
    return -1;
}

static bool take_switch(const char *name, struct sim_options *o) {
    bool *where = strcmp(name, "--unsalted") == 0 ? &o->unsalted
                  : strcmp(name, "--caught") == 0 ? &o->caught
                  : strcmp(name, "--trace") == 0  ? &o->trace
                  : strcmp(name, "--check") == 0  ? &o->check_all
                  : strcmp(name, "--marks") == 0  ? &o->marks
                                                  : NULL;
    if (where) *where = true;
    return where != NULL;
}

bool options_parse(int argc, char **argv, struct sim_options *o, int *exit_code) {
    *o = (struct sim_options){.seed_first = 1,
                              .seed_last = 1,
                              .hours = 1,
                              .routers = 2,
                              .workers = 6,
                              .regions = 2,
                              .clients = 3,
                              .faults = FAULT_ALL,
                              .rate = 2,
                              .progress = isatty(STDERR_FILENO) == 1};
    *exit_code = 2;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            *exit_code = 0;
            return false;
        }
        if (take_switch(argv[i], o)) continue;
        int taken = take(argv[i], i + 1 < argc ? argv[i + 1] : "", o);
        if (taken <= 0) {
            if (taken < 0)
                fprintf(stderr, "shoal-sim: there is no option %s; see --help\n", argv[i]);
            else
                fprintf(stderr, "shoal-sim: %s does not take '%s'; see --help\n", argv[i], i + 1 < argc ? argv[i + 1] : "");
            return false;
        }
        i++;
    }
    return true;
}

void options_replay(const struct sim_options *o, uint64_t seed, char *out, size_t size) {
    char faults[64] = "";
    for (uint32_t i = 0; i < ARRAY_LEN(fault_names); i++) {
        if (!(o->faults & 1u << i)) continue;
        size_t len = strlen(faults);
        snprintf(faults + len, sizeof faults - len, "%s%s", len ? "," : "", fault_names[i]);
    }
    const char *which = o->faults == FAULT_ALL ? "all" : o->faults ? faults : "none";
    snprintf(
        out, size,
        "shoal-sim --seed %llu --hours %g --routers %u --workers %u --regions %u --clients %u --faults %s --rate %g%s%s%s",
        (unsigned long long)seed, o->hours, o->routers, o->workers, o->regions, o->clients, which, o->rate,
        o->unsalted ? " --unsalted" : "", o->bug ? " --bug " : "", o->bug ? bug_names[o->bug] : "");
}
